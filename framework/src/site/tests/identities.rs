//! What a reload leaves of identities, and what it takes from them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use http::header::AUTHORIZATION;
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::auth::{Grant, IdentityLimits};
use crate::config::ServerConfig;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// Guarded parrots in a folder with a secret and the user `alice`, whose password is `right`.
struct Bench {
    folder: TempDir,
    server: TestServer,
    cx: StartContext,
}

impl Bench {
    async fn new(endpoint: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let alice = json!({ "alice": { "hash": crate::auth::hash_password("right").unwrap() } });
        write(&folder, "jwt.key", SECRET);
        write(&folder, "other.key", &SECRET.to_uppercase());
        write(&folder, "users.json", &alice.to_string());
        write(&folder, "revoked", "");
        let text = text(endpoint);
        let server = TestServer::from_config(&text, folder.path()).await;
        let cx = config(&folder, &text).start_context(Vec::new());
        Self { folder, server, cx }
    }

    async fn reload(&self, text: &str) {
        let router = config(&self.folder, text).into_router();
        let mut router = router.unwrap();
        let site = self.server.site();
        router.start_after(&site.router(), &self.cx).await.unwrap();
        site.replace(router);
    }

    /// A token for `bob` with these limits.
    fn token(&self, limits: IdentityLimits) -> HeaderValue {
        let grant = Grant {
            name: "bob".into(),
            permissions: vec!["talk".into()],
            lifetime: Duration::from_secs(60),
            limits,
            id: "1".into(),
        };
        let config = config(&self.folder, &text(&parrot("p", r#""word": "a""#)));
        let token = config.sign_token(&grant).unwrap();
        HeaderValue::try_from(format!("Bearer {token}")).unwrap()
    }

    async fn open(&self, credentials: &HeaderValue) -> Result<TestTunnel, u16> {
        let request = with(Request::tunnel("parrot", "/p"), credentials);
        match TestTunnel::open(&self.server.connection(), request).await {
            Ok(tunnel) => Ok(tunnel),
            Err(crate::connection::ClientError::Refused { status, .. }) => Err(status.as_u16()),
            Err(other) => panic!("{other}"),
        }
    }

    async fn status(&self, credentials: &HeaderValue) -> u16 {
        let request = with(Request::get("/p"), credentials);
        self.server.site().dispatch(request).await.status.as_u16()
    }
}

fn write(folder: &TempDir, name: &str, text: &str) {
    let path = folder.path().join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn text(endpoint: &str) -> String {
    format!(
        r#"{{ "cert_file": "c", "key_file": "k", "auth": {{ "jwt_secret_file": "jwt.key",
            "users_file": "users.json", "revoked_file": "revoked" }}, "endpoints": [{endpoint}] }}"#
    )
}

fn config(folder: &TempDir, text: &str) -> ServerConfig {
    ServerConfig::parse(text, &folder.path().join("server.json")).unwrap()
}

fn with(mut request: Request, credentials: &HeaderValue) -> Request {
    let credentials = credentials.clone();
    request.headers.insert(AUTHORIZATION, credentials);
    request
}

fn basic(password: &str) -> HeaderValue {
    let text = STANDARD.encode(format!("alice:{password}"));
    HeaderValue::try_from(format!("Basic {text}")).unwrap()
}

fn guarded(keys: &str) -> String {
    parrot("p", &format!(r#""word": "a", "permission": "talk"{keys}"#))
}

#[tokio::test]
async fn a_tunnel_ends_with_the_reload_after_which_its_client_would_not_get_in() {
    let first = guarded("");
    let takes_permission = guarded("").replace("talk", "shout");
    let takes_secret = text(&first).replace("jwt.key", "other.key");
    let revokes = text(&first).replace("\"revoked\"", "\"revoked-too\"");
    let cases = [
        text(&takes_permission),
        text(&guarded(r#", "hidden": true"#)).replace("talk", "shout"),
        takes_secret,
        revokes,
    ];
    for changed in cases {
        let bench = Bench::new(&first).await;
        write(&bench.folder, "revoked-too", "bob\n");
        let token = bench.token(IdentityLimits::default());
        let mut tunnel = bench.open(&token).await.unwrap();
        // As often as nothing changes for it.
        bench.reload(&text(&first)).await;
        bench.reload(&text(&guarded(r#", "hidden": true"#))).await;
        assert_eq!(ask(&mut tunnel).await, "a");
        let reloaded = std::time::Instant::now();
        bench.reload(&changed).await;
        tunnel.ended().await;
        // At once, and not when it is looked at next.
        assert!(reloaded.elapsed() < Duration::from_secs(1), "{changed}");
        assert!(bench.open(&token).await.is_err());
    }
    // A stranger's tunnel, where strangers are not served any more.
    let bench = Bench::new(&parrot("p", r#""word": "a", "anonymous": true"#)).await;
    let mut stranger = open(&bench.server, "/p").await;
    bench.reload(&text(&parrot("p", r#""word": "a""#))).await;
    stranger.ended().await;
}

#[tokio::test]
async fn what_was_used_before_a_reload_stays_used() {
    let bench = Bench::new(&guarded("")).await;
    let limited = bench.token(IdentityLimits {
        tunnels: Some(1),
        volume: Some(5),
        ..IdentityLimits::default()
    });
    let mut tunnel = bench.open(&limited).await.unwrap();
    assert_eq!(ask(&mut tunnel).await, "a");
    bench.reload(&text(&guarded(r#", "lasting": true"#))).await;
    // Its place, too.
    assert_eq!(bench.open(&limited).await.err(), Some(503));
    drop(tunnel);
    let mut second = loop {
        match bench.open(&limited).await {
            Ok(tunnel) => break tunnel,
            Err(status) => assert_eq!(status, 503),
        }
        tokio::task::yield_now().await;
    };
    second.send(b"1234");
    second.ended().await;
    bench.reload(&text(&guarded(""))).await;
    assert_eq!(bench.open(&limited).await.err(), Some(403));
}

#[tokio::test]
async fn a_reload_gives_nobody_more_guesses() {
    let endpoint = parrot("p", r#""word": "a""#);
    let bench = Bench::new(&endpoint).await;
    for guess in 0..10 {
        assert_eq!(bench.status(&basic(&guess.to_string())).await, 401);
    }
    bench.reload(&text(&endpoint)).await;
    assert_eq!(bench.status(&basic("10")).await, 429);
}

#[tokio::test]
async fn content_breaks_off_when_whoever_asked_for_it_is_not_let_in_any_more() {
    let bench = Bench::new(&parrot("p", r#""word": "a""#)).await;
    let expires = SystemTime::now() + Duration::from_secs(2);
    let expires = humantime::format_rfc3339_millis(expires).to_string();
    let hash = crate::auth::hash_password("right").unwrap();
    let alice = json!({ "alice": { "hash": hash, "expires": expires } });
    write(&bench.folder, "users.json", &alice.to_string());
    bench.reload(&text(&parrot("p", r#""word": "a""#))).await;
    let request = with(Request::get("/p"), &basic("right"));
    let mut response = bench.server.site().dispatch(request).await;
    assert_eq!(response.status, 200);
    let broken = tokio::time::timeout(crate::testing::PATIENCE, response.body.next()).await;
    broken.expect("it breaks off").unwrap().unwrap_err();
    assert_eq!(bench.status(&basic("right")).await, 401);
}
