//! Who may use any type of endpoint, by every kind of identity, and what it opens for the others.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use http::header::{AUTHORIZATION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, WWW_AUTHENTICATE};
use pasque::Response;
use pasque::auth::{ClientCertificate, Grant, IdentityLimits, hash_password};
use pasque::config::ServerConfig;
use serde_json::Map;
use sha2::{Digest, Sha256};

use super::*;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// Signed with [`SECRET`], with the permission and an `exp` of 2001.
const EXPIRED: &str = "eyJhbGciOiJIUzI1NiJ9.\
    eyJzdWIiOiJib2IiLCJleHAiOjEwMDAwMDAwMDAsInBlcm1pc3Npb25zIjpbIm1heSJdfQ.\
    Pn7AIiBRzf9b8o1dbJ27erVv3qhaQaA-1AXYfkWVto0";

/// What stands for the certificate of an authority: only TLS looks into it.
const AUTHORITY: &[u8] = b"an authority";

/// What one client presents.
#[derive(Clone, Debug)]
enum Presents {
    Nothing,
    Token(String),
    Password(&'static str, &'static str),
    Certificate {
        key: u8,
        is_chain_verified: bool,
        years_left: i8,
    },
}
use Presents::{Certificate, Nothing, Password, Token};

impl Presents {
    fn with(&self, mut request: Request, in_proxy_field: bool) -> Request {
        let value = match self {
            Nothing => return request,
            Token(token) => format!("Bearer {token}"),
            Password(name, password) => {
                format!("Basic {}", STANDARD.encode(format!("{name}:{password}")))
            }
            Certificate {
                key,
                is_chain_verified,
                years_left,
            } => {
                let year = Duration::from_secs(365 * 24 * 3600);
                let not_after = match years_left {
                    ..0 => SystemTime::now() - year,
                    _ => SystemTime::now() + year,
                };
                request.client_certificate = Some(ClientCertificate {
                    spki_sha256: [*key; 32],
                    name: Some("carol".into()),
                    not_after: Some(not_after),
                    authority: is_chain_verified.then(|| Sha256::digest(AUTHORITY).into()),
                });
                return request;
            }
        };
        let field = if in_proxy_field {
            PROXY_AUTHORIZATION
        } else {
            AUTHORIZATION
        };
        let value = HeaderValue::from_str(&value).unwrap();
        request.headers.insert(field, value);
        request
    }
}

/// A configuration with every kind of identity and one endpoint that asks for the permission `may`,
/// and what each visitor presents with the status that answers it; 200 stands for being let in.
fn config(endpoint: &str, folder: &Path) -> (String, Vec<(&'static str, Presents, u16)>) {
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    };
    write("jwt.key", SECRET);
    let hash = hash_password("right").unwrap();
    let user = |permission: &str, expires: &str| json!({ "hash": hash, "permissions": [permission], "expires": expires });
    let (past, future) = ("2001-01-01T00:00:00Z", "2999-01-01T00:00:00Z");
    let users = json!({
        "may": user("may", future), "other": user("other", future), "past": user("may", past),
    });
    write("users.json", &users.to_string());
    let member = |permission: &str, expires: &str| json!({ "name": "laptop", "permissions": [permission], "expires": expires });
    let mut keys = Map::new();
    for (key, entry) in [
        (1_u8, member("may", future)),
        (2, member("other", future)),
        (3, member("may", past)),
    ] {
        keys.insert(format!("{key:02x}").repeat(32), entry);
    }
    write("keys.json", &Value::Object(keys).to_string());
    let authority = STANDARD.encode(AUTHORITY);
    write(
        "ca.pem",
        &format!("-----BEGIN CERTIFICATE-----\n{authority}\n-----END CERTIFICATE-----\n"),
    );
    write("revoked", "revoked-token\n");

    let mut endpoint: Value = serde_json::from_str(endpoint).unwrap();
    endpoint["permission"] = json!("may");
    if let Some(pools) = endpoint.get_mut("addresspools") {
        // One address after the other, without waiting for the last one to come back.
        *pools = json!(["10.76.0.1/27"]);
    }
    let config = json!({
        "cert_file": "c", "key_file": "k",
        "auth": {
            "jwt_secret_file": "jwt.key", "users_file": "users.json", "revoked_file": "revoked",
            "client_ca_file": "ca.pem", "client_ca_permissions": ["may"],
            "client_keys_file": "keys.json",
        },
        "endpoints": [endpoint],
    });
    let config = config.to_string();
    let signer = ServerConfig::parse(&config, &folder.join("server.json")).unwrap();
    let token = |permission: &str, id: &str| {
        let grant = Grant {
            name: "bob".into(),
            permissions: vec![permission.into()],
            lifetime: Duration::from_secs(600),
            limits: IdentityLimits::default(),
            id: id.into(),
        };
        Token(signer.sign_token(&grant).unwrap())
    };
    let certificate = |key, is_chain_verified, years_left| Certificate {
        key,
        is_chain_verified,
        years_left,
    };
    let visitors = vec![
        ("nothing", Nothing, 401),
        ("a wrong token", Token(EXPIRED.replace("Pn7", "Qn7")), 401),
        ("an expired token", Token(EXPIRED.into()), 401),
        ("a revoked token", token("may", "revoked-token"), 401),
        ("a token without the permission", token("other", "1"), 403),
        ("a token", token("may", "2"), 200),
        ("a wrong password", Password("may", "wrong"), 401),
        ("an unknown name", Password("nobody", "right"), 401),
        ("an expired user", Password("past", "right"), 401),
        (
            "a user without the permission",
            Password("other", "right"),
            403,
        ),
        ("a user", Password("may", "right"), 200),
        ("an unknown certificate", certificate(4, false, 1), 401),
        ("an expired entry", certificate(3, false, 1), 401),
        (
            "an entry without the permission",
            certificate(2, false, 1),
            403,
        ),
        ("a certificate by its key", certificate(1, false, -1), 200),
        (
            "an expired certificate by its authority",
            certificate(4, true, -1),
            401,
        ),
        (
            "a certificate by its authority",
            certificate(4, true, 1),
            200,
        ),
    ];
    (config, visitors)
}

/// What a plugin could have opened in this network: interfaces and UDP sockets.
fn opened() -> (usize, usize) {
    let lines = |file: &str| {
        let text = fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap();
        text.lines().count()
    };
    (lines("dev"), lines("udp") + lines("udp6"))
}

fn challenges(response: &Response) -> usize {
    let field = |name| response.headers.get_all(name).iter().count();
    field(WWW_AUTHENTICATE) + field(PROXY_AUTHENTICATE)
}

#[test]
fn only_those_who_may_get_to_any_type() {
    in_a_namespace(check_permissions);
}

async fn check_permissions() {
    for kind in types() {
        let fixture = fixture(kind.tag).await;
        let folder = tempfile::tempdir().unwrap();
        let (config, visitors) = config(&fixture.json, folder.path());
        let server = TestServer::from_config(&config, folder.path()).await;
        let request = || match &fixture.service {
            Service::Tunnel { protocol, path, .. } => Request::tunnel(*protocol, path),
            Service::Content { path, .. } => Request::get(*path),
        };
        let before = opened();
        for (what, presents, status) in &visitors {
            let what = format!("{} with {what}", kind.tag);
            let response = server.request(presents.with(request(), false)).await;
            assert_eq!(response.status.as_u16(), *status, "{what}");
            match status {
                401 => assert_eq!(challenges(&response), 2, "{what}"),
                403 => assert!(challenges(&response) <= 1, "{what}"),
                _ => assert_eq!(challenges(&response), 0, "{what}"),
            }
            if *status != 200 {
                assert_eq!(opened(), before, "{what}");
            }
            // A tunnel ends with its flow, and gives back what it has opened.
            drop(response);
            let deadline = tokio::time::Instant::now() + PATIENCE;
            while opened() != before {
                assert!(tokio::time::Instant::now() < deadline, "{what} stays open");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            if let (401, Token(_) | Password(..)) = (status, presents) {
                let response = server.request(presents.with(request(), true)).await;
                assert_eq!(response.status.as_u16(), 407, "{what}");
                assert_eq!(challenges(&response), 2, "{what}");
            }
        }
        server.stop().await;
    }
}
