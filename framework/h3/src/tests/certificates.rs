//! What a server learns of its clients' certificates.

use std::fs;
use std::path::PathBuf;

use boring::asn1::Asn1Time;
use boring::bn::{BigNum, MsbOption};
use boring::ec::{EcGroup, EcKey};
use boring::hash::{MessageDigest, hash};
use boring::nid::Nid;
use boring::pkey::{PKey, Private};
use boring::ssl::{SslContextBuilder, SslMethod};
use boring::x509::extension::{BasicConstraints, SubjectAlternativeName};
use boring::x509::{X509, X509NameBuilder};
use pasque::prelude::*;

use super::peer::{Peer, generous, make_generous};
use crate::client_certificate::ClientCertificates;
use crate::testing::TestServer;
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

/// A certificate and its key.
struct Pair {
    certificate: X509,
    key: PKey<Private>,
}

/// Makes a certificate, signed by `issuer` or by its own key.
fn issue(name: &str, alternative: Option<&str>, issuer: Option<&Pair>, days: (i64, u32)) -> Pair {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
    let mut subject = X509NameBuilder::new().unwrap();
    subject.append_entry_by_nid(Nid::COMMONNAME, name).unwrap();
    let subject = subject.build();
    let mut serial = BigNum::new().unwrap();
    serial.rand(127, MsbOption::MAYBE_ZERO, false).unwrap();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder
        .set_serial_number(&serial.to_asn1_integer().unwrap())
        .unwrap();
    builder.set_subject_name(&subject).unwrap();
    let issuer_name = issuer.map_or(&*subject, |issuer| issuer.certificate.subject_name());
    builder.set_issuer_name(issuer_name).unwrap();
    builder.set_pubkey(&key).unwrap();
    let now = std::time::SystemTime::now();
    let now = now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64;
    let at = |days: i64| Asn1Time::from_unix(now + days * 86_400).unwrap();
    builder.set_not_before(&at(days.0 - 10)).unwrap();
    builder
        .set_not_after(&at(days.0 + i64::from(days.1)))
        .unwrap();
    if issuer.is_none() {
        let is_authority = BasicConstraints::new().critical().ca().build().unwrap();
        builder.append_extension(&is_authority).unwrap();
    }
    if let Some(alternative) = alternative {
        let names = SubjectAlternativeName::new()
            .dns(alternative)
            .build(&builder.x509v3_context(None, None))
            .unwrap();
        builder.append_extension(&names).unwrap();
    }
    let signer = issuer.map_or(&key, |issuer| &issuer.key);
    builder.sign(signer, MessageDigest::sha256()).unwrap();
    Pair {
        certificate: builder.build(),
        key,
    }
}

impl Pair {
    fn spki(&self) -> String {
        let der = self.key.public_key_to_der().unwrap();
        hex(&hash(MessageDigest::sha256(), &der).unwrap())
    }

    /// The settings of a client that has this certificate.
    fn client(&self) -> quiche::Config {
        let mut builder = SslContextBuilder::new(SslMethod::tls()).unwrap();
        builder.set_certificate(&self.certificate).unwrap();
        builder.set_private_key(&self.key).unwrap();
        let version = quiche::PROTOCOL_VERSION;
        let mut config = quiche::Config::with_boring_ssl_ctx_builder(version, builder).unwrap();
        make_generous(&mut config);
        config
    }
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
    let authority = issue("authority", None, None, (0, 10));
    let stranger = issue("authority", None, None, (0, 10));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("clients.pem");
    fs::write(&file, authority.certificate.to_pem().unwrap()).unwrap();
    let server = server(Some(file)).await;

    assert_eq!(ask(&server, generous()).await, "none");
    let cases = [
        (
            issue("alice", None, Some(&authority), (0, 10)),
            "alice true true",
        ),
        (
            issue("bob", Some("bob.example"), Some(&authority), (0, 10)),
            "bob.example true true",
        ),
        (
            issue("late", None, Some(&authority), (-5, 1)),
            "late false false",
        ),
        (
            issue("mallory", None, Some(&stranger), (0, 10)),
            "mallory true false",
        ),
        (issue("carol", None, None, (0, 10)), "carol true false"),
        (
            issue("two\nlines", None, Some(&authority), (0, 10)),
            "- true true",
        ),
    ];
    for (pair, expected) in cases {
        let expected = format!("{} {expected}", pair.spki());
        assert_eq!(ask(&server, pair.client()).await, expected);
    }
}

#[tokio::test]
async fn without_authorities_no_chain_is_good_and_without_being_asked_none_is_shown() {
    let pair = issue("alice", None, None, (0, 10));
    let roster = server(None).await;
    let expected = format!("{} alice true false", pair.spki());
    assert_eq!(ask(&roster, pair.client()).await, expected);
    let silent = TestServer::from_json(r#"{ "path": "/whose", "type": "Whose" }"#).await;
    assert_eq!(ask(&silent, pair.client()).await, "none");
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
