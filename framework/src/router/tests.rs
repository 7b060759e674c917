//! Who gets to which mount, and what the others see.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use http::HeaderMap;
use serde::Deserialize;
use tempfile::TempDir;

use super::*;
use crate::auth::{Grant, IdentityLimits};
use crate::config::ServerConfig;

/// A tunnel endpoint that counts who is let in, and tells them what it saw.
#[derive(Debug, Default, Deserialize)]
struct TestDoor {
    #[serde(skip)]
    opened: Arc<AtomicUsize>,
}

#[async_trait]
#[typetag::deserialize]
impl Endpoint for TestDoor {
    async fn handle(&self, request: Request) -> Result<Response> {
        self.opened.fetch_add(1, Ordering::Relaxed);
        let _port: u16 = request.var("port")?;
        let seen = format!("{:?} {:?}", request.identity.name(), request.headers);
        Ok(Response::ok(seen))
    }
}

static DOOR: EndpointType = EndpointType {
    well_known: Some("/.well-known/door/{port}/"),
    ..EndpointType::new("TestDoor", "", "", |_| Ok(()))
};

/// Answers every path below its mount.
static PAGE: EndpointType = EndpointType::new("TestPage", "", "", |_| Ok(()));

#[derive(Debug, Deserialize)]
struct TestPage;

#[async_trait]
#[typetag::deserialize]
impl Endpoint for TestPage {
    async fn handle(&self, request: Request) -> Result<Response> {
        request.require_method(&[Method::GET], "GET")?;
        match request.path.as_str() {
            "/page" => Ok(Response::ok("a page")),
            _ => Err(Error::new(StatusCode::NOT_FOUND, "no such page")),
        }
    }
}

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// An authenticator that takes tokens, and the folder that holds its secret.
fn tokens() -> (TempDir, ServerConfig) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jwt.key");
    fs::write(&path, SECRET).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    // Only the key `auth` is of interest: the types here are not registered.
    let text = r#"{ "cert_file": "c", "key_file": "k", "auth": { "jwt_secret_file": "jwt.key" },
        "endpoints": [{ "path": "p", "type": "TestUnit" }] }"#;
    let config = ServerConfig::parse(text, &folder.path().join("server.json"));
    (folder, config.unwrap())
}

fn token(config: &ServerConfig, permissions: &[&str]) -> HeaderValue {
    let grant = Grant {
        name: "alice".into(),
        permissions: permissions.iter().map(|&name| name.into()).collect(),
        lifetime: Duration::from_secs(60),
        limits: IdentityLimits::default(),
        id: "1".into(),
    };
    let token = config.sign_token(&grant).unwrap();
    HeaderValue::try_from(format!("Bearer {token}")).unwrap()
}

struct Doors {
    router: Router,
    opened: Arc<AtomicUsize>,
}

impl Doors {
    /// Doors at `/open`, `/known`, `/vpn` and `/both` for those with that access, and with `hidden`
    /// also at `/hidden`, hidden.
    fn new(config: &ServerConfig, hidden: bool) -> Self {
        let opened = Arc::<AtomicUsize>::default();
        let permitted =
            |names: &[&str]| Access::Permitted(names.iter().map(|&name| name.into()).collect());
        let door = |path: &str, access: Access| {
            let template = PathTemplate::parse(&format!("/{path}/{{port}}/")).unwrap();
            let endpoint = Box::new(TestDoor {
                opened: opened.clone(),
            });
            Mount::new(&DOOR, vec![template], endpoint).with_access(access)
        };
        let mut mounts = vec![];
        if hidden {
            mounts.push(door("hidden", permitted(&["vpn"])).with_hidden(true));
        }
        mounts.extend([
            door("open", Access::Everyone),
            door("known", Access::Authenticated),
            door("vpn", permitted(&["vpn"])),
            door("both", permitted(&["vpn", "udp"])),
        ]);
        let page = vec![PathTemplate::prefix("page").unwrap()];
        mounts.push(Mount::new(&PAGE, page, Box::new(TestPage)));
        let authenticator = config.authenticator().unwrap().unwrap();
        let router = Router::new(mounts, "pasque").unwrap();
        Self {
            router: router.with_authenticator(Arc::new(authenticator)),
            opened,
        }
    }

    async fn ask(&self, path: &str, credentials: Option<&HeaderValue>) -> Response {
        let mut request = Request::get(path);
        if let Some(credentials) = credentials {
            request
                .headers
                .insert(header::AUTHORIZATION, credentials.clone());
        }
        self.router.dispatch(request).await
    }

    fn opened(&self) -> usize {
        self.opened.swap(0, Ordering::Relaxed)
    }
}

/// All of an answer that a client could compare.
fn shown(response: &Response) -> (u16, HeaderMap, bool) {
    let is_empty = matches!(response.body, Body::Empty);
    (response.status.as_u16(), response.headers.clone(), is_empty)
}

#[tokio::test]
async fn only_those_who_may_get_to_an_endpoint() {
    let (_folder, config) = tokens();
    let doors = Doors::new(&config, true);
    let none = token(&config, &[]);
    let vpn = token(&config, &["vpn"]);
    let both = token(&config, &["udp", "other", "vpn"]);
    let wrong = HeaderValue::from_static("Bearer wrong");
    let malformed = HeaderValue::from_static("Bearer ");
    // Status with: nothing, something wrong, something malformed, no permission, one, both.
    let table = [
        ("/open/1/", [200, 200, 200, 200, 200, 200]),
        ("/known/1/", [401, 401, 400, 200, 200, 200]),
        ("/vpn/1/", [401, 401, 400, 403, 200, 200]),
        ("/both/1/", [401, 401, 400, 403, 403, 200]),
        ("/hidden/1/", [404, 404, 404, 404, 200, 200]),
        ("/.well-known/door/1/", [200, 200, 200, 200, 200, 200]),
        ("/other", [404, 404, 404, 404, 404, 404]),
    ];
    for (path, statuses) in table {
        let visitors = [
            None,
            Some(&wrong),
            Some(&malformed),
            Some(&none),
            Some(&vpn),
            Some(&both),
        ];
        for (status, credentials) in statuses.into_iter().zip(visitors) {
            let response = doors.ask(path, credentials).await;
            assert_eq!(response.status.as_u16(), status, "{path} {credentials:?}");
            assert_eq!(doors.opened(), usize::from(status == 200), "{path}");
            let challenges = response.headers.get_all(header::WWW_AUTHENTICATE).iter();
            assert_eq!(
                challenges.count(),
                usize::from(status == 401 || status == 403)
            );
        }
    }
}

#[tokio::test]
async fn a_thousand_strangers_open_nothing() {
    let (_folder, config) = tokens();
    let doors = Doors::new(&config, true);
    let wrong = HeaderValue::from_static("Basic YTpi");
    for index in 0..250 {
        for path in ["known", "vpn", "both", "hidden"] {
            let credentials = (index % 2 == 0).then_some(&wrong);
            let response = doors.ask(&format!("/{path}/{index}/"), credentials).await;
            assert!(response.status.is_client_error());
        }
    }
    assert_eq!(doors.opened(), 0);
}

#[tokio::test]
async fn a_hidden_mount_is_an_unknown_path_byte_for_byte() {
    let (_folder, config) = tokens();
    let (with, without) = (Doors::new(&config, true), Doors::new(&config, false));
    let strangers = [
        None,
        Some(HeaderValue::from_static("Bearer wrong")),
        Some(HeaderValue::from_static("Bearer ")),
        Some(HeaderValue::from_static("Basic YTpi")),
        Some(token(&config, &[])),
        Some(token(&config, &["udp"])),
    ];
    let paths = [
        "/hidden/1/",
        "/hidden/1/?query",
        "/hidden/port/",
        "/hidden/%zz/",
        "/hidden/",
        "/hidden",
        "/hidden//",
        "/.well-known/door/%zz/",
    ];
    let methods = [
        "GET", "HEAD", "POST", "OPTIONS", "CONNECT", "DELETE", "BREW",
    ];
    let protocols = [None, Some("door"), Some("connect-udp"), Some("")];
    let mut compared = 0;
    for path in paths {
        for method in methods {
            for protocol in protocols {
                for credentials in &strangers {
                    for field in [header::AUTHORIZATION, header::PROXY_AUTHORIZATION] {
                        let method = Method::from_bytes(method.as_bytes()).unwrap();
                        let ask = || {
                            let mut request = Request::new(method.clone(), path);
                            request.protocol = protocol.map(Into::into);
                            if let Some(credentials) = credentials {
                                request.headers.insert(&field, credentials.clone());
                            }
                            request
                        };
                        let hidden = with.router.dispatch(ask()).await;
                        let unknown = without.router.dispatch(ask()).await;
                        assert_eq!(shown(&hidden), shown(&unknown), "{:?}", ask());
                        compared += 1;
                    }
                }
            }
        }
    }
    assert_eq!(compared, 8 * 7 * 4 * 6 * 2);
    assert_eq!(with.opened(), without.opened());
    // It is there all the same.
    let vpn = token(&config, &["vpn"]);
    assert_eq!(with.ask("/hidden/1/", Some(&vpn)).await.status, 200);
    assert_eq!(with.ask("/hidden/port/", Some(&vpn)).await.status, 400);
    assert_eq!(with.ask("/hidden/%zz/", Some(&vpn)).await.status, 405);
}

#[tokio::test]
async fn what_is_hidden_leaves_its_path_to_others() {
    let (_folder, config) = tokens();
    let template = || vec![PathTemplate::parse("/{port}/").unwrap()];
    let door = || Box::new(TestDoor::default());
    let vpn = Access::Permitted(vec!["vpn".into()]);
    let hidden = Mount::new(&DOOR, template(), door())
        .with_access(vpn)
        .with_hidden(true);
    let page = Mount::new(&PAGE, template(), Box::new(TestPage));
    let router = Router::new(vec![hidden, page], "pasque").unwrap();
    let authenticator = config.authenticator().unwrap().unwrap();
    let router = router.with_authenticator(Arc::new(authenticator));
    let mut request = Request::get("/1/");
    assert_eq!(router.dispatch(request).await.status, 404);
    request = Request::get("/1/");
    let credentials = token(&config, &["vpn"]);
    request.headers.insert(header::AUTHORIZATION, credentials);
    assert_eq!(router.dispatch(request).await.status, 200);
}

#[tokio::test]
async fn an_endpoint_sees_who_asks_and_not_how_they_showed_it() {
    let (_folder, config) = tokens();
    let doors = Doors::new(&config, false);
    let credentials = token(&config, &["vpn"]);
    for path in ["/vpn/1/", "/open/1/"] {
        let response = doors.ask(path, Some(&credentials)).await;
        let Body::Full(seen) = response.body else {
            panic!("{response:?}")
        };
        let seen = String::from_utf8(seen.to_vec()).unwrap();
        // Who asks for what is everyone's is nobody in particular.
        let name = if path == "/open/1/" {
            "None"
        } else {
            "Some(\"alice\")"
        };
        assert_eq!(seen, format!("{name} {{}}"));
    }
}

#[tokio::test]
async fn an_endpoint_that_is_given_credentials_cannot_print_them_by_accident() {
    let template = vec![PathTemplate::parse("/{port}/").unwrap()];
    let mount = Mount::new(&DOOR, template, Box::new(TestDoor::default()));
    let router = Router::new(vec![mount], "pasque").unwrap();
    let mut request = Request::get("/1/");
    for field in [header::AUTHORIZATION, header::PROXY_AUTHORIZATION] {
        let credentials = HeaderValue::from_static("Bearer planted");
        request.headers.insert(field, credentials);
    }
    let response = router.dispatch(request).await;
    let Body::Full(seen) = response.body else {
        panic!("{response:?}")
    };
    let seen = String::from_utf8(seen.to_vec()).unwrap();
    assert!(
        seen.contains("authorization") && !seen.contains("planted"),
        "{seen}"
    );
}

#[tokio::test]
async fn nobody_is_permitted_where_nobody_can_authenticate() {
    let template = vec![PathTemplate::parse("/{port}/").unwrap()];
    let door = TestDoor::default();
    let opened = door.opened.clone();
    let mount = Mount::new(&DOOR, template, Box::new(door)).with_access(Access::Authenticated);
    let router = Router::new(vec![mount], "pasque").unwrap();
    let response = router.dispatch(Request::get("/1/")).await;
    assert_eq!(response.status, StatusCode::FORBIDDEN);
    assert_eq!(opened.load(Ordering::Relaxed), 0);
}
