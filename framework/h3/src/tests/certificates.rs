//! What a server learns of its clients' certificates.

use std::fs;
use std::path::PathBuf;

use boring::ssl::{SslContextBuilder, SslMethod};
use pasque::prelude::*;

use super::peer::{Peer, generous, make_generous};
use crate::client_certificate::ClientCertificates;
use crate::testing::{Pair, TestServer};
use crate::tls::hex;

/// Says what it knows of the client's certificate.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Whose {}

pasque::register!(Whose, "tells a client its certificate",
    example: r#"{ "path": "/whose", "type": "Whose" }"#);

#[async_trait]
#[typetag::deserialize]
impl Endpoint for Whose {
    async fn handle(&self, request: Request) -> Result<Response> {
        let shown = request.client_certificate.map(|shown| {
            let lives = shown
                .not_after
                .is_some_and(|end| end > std::time::SystemTime::now());
            format!(
                "{} {} {lives} {}",
                hex(&shown.spki_sha256),
                shown.name.as_deref().unwrap_or("-"),
                shown.authority.is_some()
            )
        });
        Ok(Response::ok(shown.unwrap_or_else(|| "none".into())))
    }
}

/// The settings of a client that has this certificate.
fn client(pair: &Pair) -> quiche::Config {
    let mut builder = SslContextBuilder::new(SslMethod::tls()).unwrap();
    builder.set_certificate(&pair.certificate).unwrap();
    builder.set_private_key(&pair.key).unwrap();
    let version = quiche::PROTOCOL_VERSION;
    let mut config = quiche::Config::with_boring_ssl_ctx_builder(version, builder).unwrap();
    make_generous(&mut config);
    config
}

async fn ask(server: &TestServer, config: quiche::Config) -> String {
    let mut client = Peer::client_with(server, config, "04 02 33 01").await;
    let (status, content) = client.fetch("/whose").await;
    assert_eq!(status, 200);
    // Looked at once, and known from then on.
    assert_eq!(client.fetch("/whose").await.1, content);
    String::from_utf8(content).unwrap()
}

async fn server(authorities: Option<PathBuf>) -> TestServer {
    let asked = ClientCertificates::Asked { authorities };
    TestServer::asking(r#"{ "path": "/whose", "type": "Whose" }"#, asked).await
}

#[tokio::test]
async fn a_server_knows_what_a_client_has_shown_and_whether_its_chain_is_good() {
    let authority = Pair::new("authority", None);
    let stranger = Pair::new("authority", None);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("clients.pem");
    fs::write(&file, authority.pem()).unwrap();
    let server = server(Some(file)).await;

    assert_eq!(ask(&server, generous()).await, "none");
    let cases = [
        (Pair::new("alice", Some(&authority)), "alice true true"),
        (
            Pair::with("bob", Some("bob.example"), Some(&authority), [-10, 10]),
            "bob.example true true",
        ),
        (
            Pair::with("late", None, Some(&authority), [-15, -4]),
            "late false false",
        ),
        (Pair::new("mallory", Some(&stranger)), "mallory true false"),
        (Pair::new("carol", None), "carol true false"),
        (Pair::new("two\nlines", Some(&authority)), "- true true"),
    ];
    for (pair, expected) in cases {
        let expected = format!("{} {expected}", pair.digest());
        assert_eq!(ask(&server, client(&pair)).await, expected);
    }
}

#[tokio::test]
async fn without_authorities_no_chain_is_good_and_without_being_asked_none_is_shown() {
    let pair = Pair::new("alice", None);
    let roster = server(None).await;
    let expected = format!("{} alice true false", pair.digest());
    assert_eq!(ask(&roster, client(&pair)).await, expected);
    let silent = TestServer::from_json(r#"{ "path": "/whose", "type": "Whose" }"#).await;
    assert_eq!(ask(&silent, client(&pair)).await, "none");
}

#[test]
fn a_file_without_authorities_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("clients.pem");
    let apply = || {
        let mut builder = SslContextBuilder::new(SslMethod::tls()).unwrap();
        let authorities = Some(file.clone());
        ClientCertificates::Asked { authorities }.apply(&mut builder)
    };
    for content in [None, Some(""), Some("no certificate")] {
        if let Some(content) = content {
            fs::write(&file, content).unwrap();
        }
        let error = apply().unwrap_err().to_string();
        assert!(error.contains("clients.pem"), "{error}");
    }
}
