//! Any credentials: nobody gets through a door but with a token that is signed, in force, and holds
//! the permission; and whoever does not sees nothing of a hidden door.
//!
//! With a first byte that is even, the first line is the field `authorization` and the second
//! `proxy-authorization`. With one that is odd, the first line is the header of a token and the second
//! its claims, which are signed here: what lies behind the signature is tried, too.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use http::header::{AUTHORIZATION, HeaderName, HeaderValue, PROXY_AUTHORIZATION};
use http::{HeaderMap, StatusCode};
use pasque::config::ServerConfig;
use pasque::prelude::*;
use pasque::{Response, Router};
use sha2::Sha256;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

const CONFIG: &str = r#"{ "cert_file": "c", "key_file": "k", "auth": { "jwt_secret_file": "jwt.key" },
    "endpoints": [
        { "path": "hidden", "type": "Place", "index": 0, "permission": "vpn", "hidden": true },
        { "path": "vpn", "type": "Place", "index": 1, "permission": "vpn" },
        { "path": "known", "type": "Place", "index": 2 } ] }"#;

static DOORS: LazyLock<Router> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    let secret = folder.path().join("jwt.key");
    fs::write(&secret, SECRET).expect("a file");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).expect("our file");
    // The folder goes, the secret stays: a file that is gone changes nothing.
    let config = ServerConfig::parse(CONFIG, &folder.path().join("fuzz.json"));
    config
        .expect("a configuration")
        .into_router()
        .expect("doors")
});

/// Runs the target on one input.
pub fn run(input: &[u8]) {
    let Some((mode, text)) = input.split_first() else {
        return;
    };
    let mut lines = text.splitn(2, |byte| *byte == b'\n');
    let mut line = || lines.next().unwrap_or_default();
    let (first, second) = (line(), line());
    let (fields, may_enter) = match mode % 2 {
        0 => (
            vec![
                (AUTHORIZATION, first.to_vec()),
                (PROXY_AUTHORIZATION, second.to_vec()),
            ],
            false,
        ),
        _ => (
            vec![(AUTHORIZATION, signed(first, second))],
            permits(first, second),
        ),
    };
    let mut headers = HeaderMap::new();
    for (name, value) in fields.into_iter().filter(|(_, value)| !value.is_empty()) {
        if let Ok(value) = HeaderValue::from_bytes(&value) {
            headers.insert(name, value);
        }
    }

    let [hidden, vpn, known, nothing] =
        ["/hidden", "/vpn", "/known", "/nothing"].map(|path| ask(path, &headers));
    assert_eq!(nothing.status, StatusCode::NOT_FOUND);
    for door in [&hidden, &vpn, &known] {
        assert!(matches!(
            door.status.as_u16(),
            200 | 400 | 401 | 403 | 404 | 407
        ));
    }
    if !may_enter {
        assert_eq!(
            (hidden.status, &hidden.headers),
            (nothing.status, &nothing.headers)
        );
        assert_ne!(vpn.status, StatusCode::OK);
    }
    assert_eq!(
        hidden.status == StatusCode::OK,
        vpn.status == StatusCode::OK
    );
    if vpn.status == StatusCode::OK {
        assert_eq!(known.status, StatusCode::OK);
    }
    if mode % 2 == 0 {
        assert_ne!(known.status, StatusCode::OK);
    }
    // A challenge stands in every answer that wants credentials (RFC 9110 §15.5.2, §15.5.8).
    for (status, name) in [(401, "www-authenticate"), (407, "proxy-authenticate")] {
        let name = HeaderName::from_static(name);
        assert!(known.status != status || known.headers.contains_key(name));
    }
}

fn ask(path: &str, headers: &HeaderMap) -> Response {
    let mut request = Request::get(path);
    request.headers = headers.clone();
    crate::block_on(DOORS.dispatch(request))
}

fn signed(header: &[u8], claims: &[u8]) -> Vec<u8> {
    let [header, claims] = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part));
    let mut token = format!("{header}.{claims}");
    let hmac = Hmac::<Sha256>::new_from_slice(SECRET).expect("a key of any length");
    let tag = hmac.chain_update(&token).finalize().into_bytes();
    token = format!("Bearer {token}.{}", URL_SAFE_NO_PAD.encode(tag));
    token.into_bytes()
}

/// Whether a token with these two parts may hold the permission. What is not asked about is not looked
/// at, as in any reader of tokens.
fn permits(header: &[u8], claims: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Header {
        alg: String,
        crit: Option<Vec<String>>,
    }
    #[derive(Deserialize)]
    struct Claims {
        exp: f64,
        permissions: Vec<String>,
    }
    let (Ok(header), Ok(claims)) = (
        serde_json::from_slice::<Header>(header),
        serde_json::from_slice::<Claims>(claims),
    ) else {
        return false;
    };
    // Later than this was written: whether a token is in force is the server's clock's business.
    let may_be_in_force = claims.exp > 1.7e9;
    header.alg == "HS256"
        && header.crit.is_none()
        && may_be_in_force
        && claims.permissions.iter().any(|name| name == "vpn")
}
