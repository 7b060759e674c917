//! Every kind of identity, each way to be refused, and what changes under a running server.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use argon2::password_hash::{PasswordHasher, SaltString};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::FutureExt;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue, PROXY_AUTHORIZATION};
use serde_json::json;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::*;
use crate::auth::{Grant, IdentityLimits};

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const KEY: [u8; 32] = [7; 32];
/// What stands for the certificate of an authority: only TLS looks into it.
const AUTHORITY: &str = "an authority";

/// A folder with the files of every kind, and an authenticator over them.
struct Bench {
    folder: TempDir,
    authenticator: Authenticator,
}

impl Bench {
    fn new() -> Self {
        Self::with(&[
            "jwt_secret_file",
            "users_file",
            "client_keys_file",
            "client_ca_file",
        ])
    }

    fn with(keys: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        write(&folder, "jwt_secret_file", SECRET);
        write(&folder, "users_file", &users(&[("alice", "right")]));
        write(&folder, "client_keys_file", &roster("laptop"));
        write(&folder, "client_ca_file", &authorities(&[AUTHORITY]));
        write(&folder, "revoked_file", "# nobody\n");
        let path = |key: &str| keys.contains(&key).then(|| folder.path().join(key));
        let config = AuthConfig {
            jwt_secret_file: path("jwt_secret_file"),
            users_file: path("users_file"),
            client_ca_file: path("client_ca_file"),
            client_ca_permissions: vec!["files".into()],
            client_keys_file: path("client_keys_file"),
            revoked_file: Some(folder.path().join("revoked_file")),
        };
        let open = Authenticator::open(&config, |key, message| panic!("{key}: {message}"));
        let authenticator = open.unwrap();
        Self {
            folder,
            authenticator,
        }
    }

    /// Writes a file, and has it looked at as if two seconds had passed.
    fn change(&self, name: &str, text: &str) {
        write(&self.folder, name, text);
        self.authenticator.refresh();
    }

    async fn ask(&self, request: &Request) -> Result<Identity> {
        self.authenticator.authenticate(request).await
    }

    /// The status and the challenges that answer `request`.
    async fn refused(&self, request: &Request) -> (u16, Vec<String>) {
        let error = self.ask(request).await.unwrap_err();
        let challenges = error.headers().iter();
        let text = |(name, value): (&HeaderName, &HeaderValue)| {
            format!("{name}: {}", value.to_str().unwrap())
        };
        (error.status().as_u16(), challenges.map(text).collect())
    }
}

fn write(folder: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// A hash that costs next to nothing.
fn cheap_hash(password: &str) -> String {
    let params = argon2::Params::new(8, 1, 1, None).unwrap();
    let argon2 = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
    let salt = SaltString::from_b64("c29tZXNhbHQ").unwrap();
    let hash = argon2.hash_password(password.as_bytes(), &salt);
    hash.unwrap().to_string()
}

fn users(users: &[(&str, &str)]) -> String {
    let entry = |(name, password): &(&str, &str)| {
        let entry = json!({ "hash": cheap_hash(password), "permissions": ["vpn"], "tunnels": 2 });
        ((*name).to_owned(), entry)
    };
    serde_json::Value::Object(users.iter().map(entry).collect()).to_string()
}

fn roster(name: &str) -> String {
    json!({ hex(&KEY): { "name": name, "permissions": ["udp"] } }).to_string()
}

fn authorities(ders: &[&str]) -> String {
    let pem = |der: &&str| {
        let base64 = STANDARD.encode(der);
        format!("-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n")
    };
    ders.iter().map(pem).collect()
}

fn request(name: HeaderName, value: &str) -> Request {
    let mut request = Request::get("/");
    let value = HeaderValue::from_str(value).unwrap();
    request.headers.insert(name, value);
    request
}

fn basic(name: &str, password: &str) -> Request {
    let text = STANDARD.encode(format!("{name}:{password}"));
    request(AUTHORIZATION, &format!("Basic {text}"))
}

fn grant(name: &str, lifetime: u64) -> Grant {
    Grant {
        name: name.into(),
        permissions: vec!["vpn".into()],
        lifetime: Duration::from_secs(lifetime),
        limits: IdentityLimits::default(),
        id: "id-1".into(),
    }
}

fn token(lifetime: u64) -> String {
    let secret = TokenSecret::parse(SECRET, Path::new("")).unwrap();
    secret.sign(&grant("bob", lifetime)).unwrap()
}

fn bearer(token: &str) -> Request {
    request(AUTHORIZATION, &format!("Bearer {token}"))
}

fn certificate(spki_sha256: [u8; 32], is_chain_verified: bool) -> Request {
    let mut request = Request::get("/");
    request.client_certificate = Some(ClientCertificate {
        spki_sha256,
        name: Some("carol".into()),
        not_after: Some(SystemTime::now() + Duration::from_secs(3600)),
        authority: is_chain_verified.then(|| Sha256::digest(AUTHORITY).into()),
    });
    request
}

const BEARER: &str = r#"www-authenticate: Bearer realm="pasque""#;
const BASIC: &str = r#"www-authenticate: Basic realm="pasque", charset="UTF-8""#;

#[tokio::test]
async fn every_kind_is_let_in() {
    let bench = Bench::new();
    let table = [
        (bearer(&token(60)), "bob", IdentityKind::Bearer, "vpn"),
        (basic("alice", "right"), "alice", IdentityKind::Basic, "vpn"),
        (
            certificate(KEY, false),
            "laptop",
            IdentityKind::Certificate,
            "udp",
        ),
        (
            certificate([8; 32], true),
            "carol",
            IdentityKind::Certificate,
            "files",
        ),
        // The roster goes first.
        (
            certificate(KEY, true),
            "laptop",
            IdentityKind::Certificate,
            "udp",
        ),
    ];
    for (request, name, kind, permission) in table {
        let identity = bench.ask(&request).await.unwrap();
        assert_eq!(identity.name(), Some(name));
        assert_eq!(identity.kind(), Some(kind));
        assert!(
            identity.holds(permission) && !identity.holds("admin"),
            "{identity:?}"
        );
        assert!(bench.authenticator.is_still_valid(&identity));
        // So does what a client says itself: its token, not its certificate.
        let mut both = bearer(&token(60));
        both.client_certificate = request.client_certificate;
        assert_eq!(bench.ask(&both).await.unwrap().name(), Some("bob"));
    }
    assert_eq!(
        bench
            .ask(&basic("alice", "right"))
            .await
            .unwrap()
            .limits()
            .tunnels,
        Some(2)
    );
}

#[tokio::test]
async fn everybody_else_gets_challenges() {
    let bench = Bench::new();
    let invalid = format!(r#"{BEARER}, error="invalid_token""#);
    let expired = format!(r#"{invalid}, error_description="expired""#);
    let table = [
        (Request::get("/"), BEARER),
        (request(AUTHORIZATION, "Digest a=b"), BEARER),
        (certificate([8; 32], false), BEARER),
        (bearer("a.b.c"), &invalid),
        (bearer(&token(60).replace('.', ".A")), &invalid),
        (bearer(&expired_token()), &expired),
        (basic("alice", "wrong"), BEARER),
        (basic("nobody", "right"), BEARER),
    ];
    for (request, challenge) in table {
        let answer = bench.refused(&request).await;
        assert_eq!(answer, (401, vec![challenge.into(), BASIC.into()]));
        // The same in the other field.
        let mut proxy = request;
        if let Some(value) = proxy.headers.remove(AUTHORIZATION) {
            proxy.headers.insert(PROXY_AUTHORIZATION, value);
            let (status, challenges) = bench.refused(&proxy).await;
            assert_eq!(status, 407);
            let expected = challenge.replace("www-", "proxy-");
            assert_eq!(challenges, [expected, BASIC.replace("www-", "proxy-")]);
        }
    }
    for malformed in ["Basic", "Bearer", "Basic !", "Bearer a b"] {
        let answer = bench.refused(&request(AUTHORIZATION, malformed)).await;
        assert_eq!(answer, (400, vec![]), "{malformed}");
    }
}

fn expired_token() -> String {
    let claims = json!({ "sub": "bob", "exp": 1_000_000_000 });
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap()
}

#[tokio::test]
async fn only_what_is_taken_is_asked_for() {
    let tokens = Bench::with(&["jwt_secret_file"]);
    assert_eq!(
        tokens.refused(&basic("alice", "right")).await,
        (401, vec![BEARER.into()])
    );
    assert_eq!(tokens.refused(&certificate(KEY, true)).await.0, 401);
    let users = Bench::with(&["users_file"]);
    assert_eq!(
        users.refused(&bearer(&token(60))).await,
        (401, vec![BASIC.into()])
    );
    // There is no scheme to ask for a certificate with.
    let keys = Bench::with(&["client_keys_file"]);
    assert_eq!(keys.refused(&bearer(&token(60))).await, (403, vec![]));
    assert_eq!(
        keys.refused(&certificate([8; 32], true)).await,
        (403, vec![])
    );
    keys.ask(&certificate(KEY, false)).await.unwrap();
}

#[tokio::test]
async fn what_is_withdrawn_ends() {
    let bench = Bench::new();
    let requests = [
        bearer(&token(60)),
        basic("alice", "right"),
        certificate(KEY, false),
        certificate([8; 32], true),
    ];
    let key = hex(&KEY);
    // As `openssl x509 -fingerprint` writes digests, and as the roster takes them.
    let bytes: Vec<_> = KEY.iter().map(|byte| format!("{byte:02X}")).collect();
    let (upper, colons) = (hex(&[0x7f; 32]).to_uppercase(), bytes.join(":"));
    let revocations = [
        "bob\n", "id-1\n", "alice\n", "laptop", &key, &colons, "carol",
    ];
    assert!(
        Revoked::parse(&upper, Path::new(""))
            .unwrap()
            .contains(&hex(&[0x7f; 32]))
    );
    for revoked in revocations {
        bench.change("revoked_file", "# nobody\n");
        let mut ended = 0;
        for request in &requests {
            let identity = bench.ask(request).await.unwrap();
            bench.change("revoked_file", revoked);
            let is_valid = bench.authenticator.is_still_valid(&identity);
            assert_eq!(
                is_valid,
                bench.ask(request).await.is_ok(),
                "{revoked} {identity:?}"
            );
            ended += usize::from(!is_valid);
            bench.change("revoked_file", "# nobody\n");
            assert!(bench.authenticator.is_still_valid(&identity));
        }
        assert_eq!(ended, 1, "{revoked}");
    }
}

#[tokio::test]
async fn what_changes_in_the_files_counts_at_once() {
    let bench = Bench::new();
    let valid = |identity: &Identity| bench.authenticator.is_still_valid(identity);
    let alice = bench.ask(&basic("alice", "right")).await.unwrap();

    // Written again: nothing has changed for anybody.
    bench.change("users_file", &users(&[("alice", "right"), ("dave", "x")]));
    assert!(valid(&alice));
    // A permission more, and limits, end nothing; one less does.
    let entry = |keys: &str| {
        format!(
            r#"{{ "alice": {{ "hash": "{}", {keys} }} }}"#,
            cheap_hash("right")
        )
    };
    bench.change(
        "users_file",
        &entry(r#""permissions": ["udp", "vpn"], "tunnels": 1"#),
    );
    assert!(valid(&alice));
    bench.change("users_file", &entry(r#""permissions": ["udp"]"#));
    assert!(!valid(&alice));
    bench.change(
        "users_file",
        &entry(r#""permissions": ["vpn"], "expires": "2001-01-01T00:00:00Z""#),
    );
    assert!(!valid(&alice));
    assert_eq!(bench.refused(&basic("alice", "right")).await.0, 401);
    // A broken file leaves the last good one in force.
    bench.change("users_file", &users(&[("alice", "right")]));
    bench.change("users_file", "{");
    assert!(valid(&alice));
    // Another password: the old one is neither remembered nor good for a running tunnel.
    bench.change("users_file", &users(&[("alice", "another")]));
    assert!(!valid(&alice));
    assert_eq!(bench.refused(&basic("alice", "right")).await.0, 401);
    bench.ask(&basic("alice", "another")).await.unwrap();
    bench.change("users_file", "{}");
    assert_eq!(bench.refused(&basic("alice", "another")).await.0, 401);

    let bob = bench.ask(&bearer(&token(60))).await.unwrap();
    bench.change("jwt_secret_file", &format!("{SECRET}x"));
    assert!(!valid(&bob));
    assert_eq!(bench.refused(&bearer(&token(60))).await.0, 401);

    let laptop = bench.ask(&certificate(KEY, true)).await.unwrap();
    bench.change("client_keys_file", &roster("another"));
    assert!(!valid(&laptop));
    bench.change("client_keys_file", "{}");
    // What remains of it is what the authority says.
    let carol = bench.ask(&certificate(KEY, true)).await.unwrap();
    assert_eq!(carol.name(), Some("carol"));
    // As long as the authority is one.
    bench.change("client_ca_file", &authorities(&["another", AUTHORITY]));
    assert!(valid(&carol));
    bench.change("client_ca_file", "");
    assert!(valid(&carol));
    bench.change("client_ca_file", &authorities(&["another"]));
    assert!(!valid(&carol));
    assert_eq!(bench.refused(&certificate(KEY, true)).await.0, 401);
}

#[tokio::test]
async fn an_authority_that_a_reload_leaves_out_vouches_for_nobody() {
    let before = Bench::new();
    let carol = before.ask(&certificate([8; 32], true)).await.unwrap();
    let after = Bench::new();
    assert!(after.authenticator.is_still_valid(&carol));
    after.change("client_ca_file", &authorities(&["another"]));
    assert!(!after.authenticator.is_still_valid(&carol));
    let without = Bench::with(&["client_keys_file"]);
    assert!(!without.authenticator.is_still_valid(&carol));
    assert_eq!(without.refused(&certificate([8; 32], true)).await.0, 403);
}

#[tokio::test]
async fn a_reload_forgets_neither_those_who_guess_nor_those_who_are_known() {
    let before = Bench::with(&["users_file"]);
    before.ask(&basic("alice", "right")).await.unwrap();
    for guess in 0..10 {
        before.refused(&basic("alice", &guess.to_string())).await;
    }
    let after = Bench::with(&["users_file"]);
    after.authenticator.take_over(&before.authenticator);
    assert_eq!(after.refused(&basic("alice", "more")).await.0, 429);
    after.ask(&basic("alice", "right")).await.unwrap();
    // Known is who has this password now.
    after.change("users_file", &users(&[("alice", "another")]));
    assert_eq!(after.refused(&basic("alice", "right")).await.0, 429);
}

#[tokio::test]
async fn an_identity_expires() {
    let bench = Bench::new();
    let at = |time| {
        let identity = Identity::new("eve", IdentityKind::Bearer).with_expiry(Some(time));
        bench.authenticator.is_still_valid(&identity)
    };
    assert!(at(SystemTime::now() + Duration::from_secs(60)));
    assert!(!at(SystemTime::now()));
    assert!(bench.authenticator.is_still_valid(&Identity::anonymous()));
    // So does the certificate that an authority has signed.
    let mut old = certificate([8; 32], true);
    old.client_certificate.as_mut().unwrap().not_after = Some(SystemTime::UNIX_EPOCH);
    assert_eq!(bench.refused(&old).await.0, 401);
    let mut nameless = certificate([8; 32], true);
    nameless.client_certificate.as_mut().unwrap().name = None;
    assert_eq!(bench.refused(&nameless).await.0, 401);
}

#[tokio::test]
async fn guessing_is_slowed_down_and_hurts_nobody_who_is_known() {
    let bench = Bench::new();
    let from = |mut request: Request, peer: [u8; 4]| {
        request.peer = (peer, 1).into();
        request
    };
    let (here, there) = ([192, 0, 2, 1], [192, 0, 2, 2]);
    bench
        .ask(&from(basic("alice", "right"), here))
        .await
        .unwrap();
    let guesses = (0..50).map(|guess| from(basic("alice", &guess.to_string()), here));
    let guesses: Vec<_> = guesses.collect();
    // Many at once are no more than many in turn.
    let answers = guesses.iter().map(|guess| bench.refused(guess));
    let answers = futures_util::future::join_all(answers).await;
    let count = |status| answers.iter().filter(|answer| answer.0 == status).count();
    assert_eq!((count(401), count(429)), (10, 40));
    let (_, limited) = answers.iter().find(|answer| answer.0 == 429).unwrap();
    let seconds = limited[0].strip_prefix("retry-after: ").unwrap();
    assert!((1..=60).contains(&seconds.parse::<u64>().unwrap()));

    bench
        .ask(&from(basic("alice", "right"), here))
        .await
        .unwrap();
    bench
        .ask(&from(basic("alice", "right"), there))
        .await
        .unwrap();
    bench.ask(&from(bearer(&token(60)), here)).await.unwrap();
    assert_eq!(
        bench.refused(&from(basic("alice", "0"), there)).await.0,
        401
    );
}

#[tokio::test]
async fn an_unknown_name_takes_as_long_as_a_wrong_password() {
    let bench = Bench::with(&["users_file"]);
    let hash = crate::auth::hash_password("right").unwrap();
    let alice = json!({ "alice": { "hash": hash } });
    bench.change("users_file", &alice.to_string());
    let shortest = async |name: &str| {
        let mut shortest = Duration::MAX;
        for guess in 0..4 {
            let request = basic(name, &guess.to_string());
            let start = Instant::now();
            assert_eq!(bench.refused(&request).await.0, 401);
            shortest = shortest.min(start.elapsed());
        }
        shortest
    };
    let (wrong, unknown) = (shortest("alice").await, shortest("nobody").await);
    // The machine has other things to do as well. Without a hash it is a hundredth.
    assert!(unknown * 4 > wrong, "{unknown:?} and {wrong:?}");
}

#[tokio::test]
async fn a_hundred_requests_at_once_cost_one_look() {
    let bench = Bench::new();
    let good = basic("alice", "right");
    let asked = futures_util::future::join_all((0..100).map(|_| bench.ask(&good))).await;
    assert!(asked.iter().all(Result::is_ok));
    // Those who guess one word again and again have guessed once.
    let bad = basic("alice", "wrong");
    let asked = futures_util::future::join_all((0..100).map(|_| bench.refused(&bad))).await;
    assert!(asked.iter().all(|(status, _)| *status == 401));
    assert_eq!(bench.refused(&basic("alice", "other")).await.0, 401);
}

#[tokio::test]
async fn only_so_many_passwords_wait_wherever_they_come_from() {
    let bench = Bench::new();
    let mut requests = Vec::new();
    for index in 0..40 {
        let mut request = basic("alice", &index.to_string());
        request.peer = ([192, 0, 2, index], 1).into();
        requests.push(request);
    }
    let asked = requests.iter().map(|request| bench.refused(request));
    let answers = futures_util::future::join_all(asked).await;
    let count = |status| answers.iter().filter(|answer| answer.0 == status).count();
    assert_eq!((count(401), count(503)), (32, 8));
    // Then there is room again.
    bench.ask(&basic("alice", "right")).await.unwrap();
}

#[tokio::test]
async fn who_goes_away_is_counted_too() {
    let bench = Bench::new();
    for guess in 0..10 {
        let request = basic("alice", &guess.to_string());
        assert!(bench.ask(&request).now_or_never().is_none());
    }
    assert_eq!(bench.refused(&basic("alice", "more")).await.0, 429);
}

#[tokio::test]
async fn nothing_shows_a_secret() {
    let bench = Bench::new();
    let planted = token(60);
    let identities = [
        bench.ask(&basic("alice", "right")).await.unwrap(),
        bench.ask(&bearer(&planted)).await.unwrap(),
        bench.ask(&certificate(KEY, false)).await.unwrap(),
    ];
    let hash = cheap_hash("right");
    let mut shown = format!("{identities:?} {:?}", bench.authenticator);
    for request in [basic("alice", "planted"), bearer("planted.planted.planted")] {
        let error = bench.ask(&request).await.unwrap_err();
        shown += &format!("{error} {error:?}");
    }
    let secrets = [SECRET, &planted, "planted", &hash, &hash[hash.len() - 20..]];
    for secret in secrets {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
}
