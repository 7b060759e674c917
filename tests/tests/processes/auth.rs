//! Credentials that the program makes, what they open on a running server, and that nothing prints them.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue, PROXY_AUTHORIZATION};
use http::{HeaderMap, StatusCode};
use pasque::connection::ClientError;
use pasque::testing::TestTunnel;
use pasque::{Connection, Request};
use pasque_tests::{EchoTarget, Server, program};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout_at};

use crate::common::{ANY_PORT, echo, files, path, server, udp};

const SECRET: &str = "planted-jwt-secret-0123456789abcdef";
const PASSWORD: &str = "planted-password";

fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// What `psq-server` prints with these arguments when `input` is piped in.
fn run(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(program("psq-server"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Some commands do not read it.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// A folder with a secret, the user `alice` and nobody revoked, and a configuration over them. `alice`
/// may use the UDP endpoint, and whoever holds `files` the files.
fn site() -> (TempDir, Value) {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write(at, "jwt.key", &format!("{SECRET}\n"));
    write(at, "revoked", "");
    write(at, "page", "a page");
    let arguments = ["hash-password", "--user", "alice", "--permissions", "udp"];
    write(
        at,
        "users.json",
        &stdout(&run(&arguments, &format!("{PASSWORD}\n"))),
    );
    let mut guarded = udp(&["127.0.0.1"]);
    guarded["permission"] = json!("udp");
    let mut hidden = udp(&["127.0.0.1"]);
    hidden["path"] = json!("hidden");
    hidden["permission"] = json!(["udp", "secret"]);
    hidden["hidden"] = json!(true);
    let mut pages = files(at);
    pages["permission"] = json!("files");
    let config = json!({
        "auth": {
            "jwt_secret_file": at.join("jwt.key"), "users_file": at.join("users.json"),
            "revoked_file": at.join("revoked"),
        },
        "endpoints": [hidden, guarded, pages],
    });
    let mut whole = config.clone();
    whole["cert_file"] = json!("c");
    whole["key_file"] = json!("k");
    write(at, "server.json", &whole.to_string());
    (folder, config)
}

/// The token that `psq-server token` prints.
fn token(folder: &Path, arguments: &[&str]) -> String {
    let config = folder.join("server.json");
    let command = ["token", "-c", config.to_str().unwrap(), "--lifetime", "1h"];
    let printed = stdout(&run(&[&command, arguments].concat(), ""));
    let token = printed.strip_suffix('\n').unwrap();
    assert_eq!(token.split('.').count(), 3, "{printed}");
    assert!(!token.contains(char::is_whitespace), "{printed}");
    token.to_owned()
}

fn bearer(token: &str) -> HeaderValue {
    HeaderValue::try_from(format!("Bearer {token}")).unwrap()
}

fn basic(name: &str, password: &str) -> HeaderValue {
    let text = STANDARD.encode(format!("{name}:{password}"));
    HeaderValue::try_from(format!("Basic {text}")).unwrap()
}

fn with(mut request: Request, field: HeaderName, value: Option<&HeaderValue>) -> Request {
    if let Some(value) = value {
        request.headers.insert(field, value.clone());
    }
    request
}

async fn open(
    connection: &Connection,
    port: u16,
    credentials: Option<&HeaderValue>,
) -> Result<TestTunnel, (StatusCode, HeaderMap)> {
    let request = Request::tunnel("connect-udp", path("127.0.0.1", port));
    let request = with(request, AUTHORIZATION, credentials);
    match TestTunnel::open(connection, request).await {
        Ok(tunnel) => Ok(tunnel),
        Err(ClientError::Refused {
            status, headers, ..
        }) => Err((status, *headers)),
        Err(other) => panic!("not a refusal: {other}"),
    }
}

async fn get(connection: &Connection, path: &str, credentials: Option<&HeaderValue>) -> StatusCode {
    let request = with(Request::get(path), AUTHORIZATION, credentials);
    connection.request(request).await.unwrap().status
}

#[tokio::test]
async fn credentials_that_the_program_makes_let_in() {
    let (folder, config) = site();
    let target = EchoTarget::on_loopback().await.unwrap();
    let port = target.address().port();
    let server = server(config).await;
    let connection = server.connect().await.unwrap();

    let (status, headers) = open(&connection, port, None).await.err().unwrap();
    assert_eq!(status, 401);
    let challenges: Vec<_> = headers.get_all("www-authenticate").iter().collect();
    assert_eq!(
        challenges,
        [
            r#"Bearer realm="pasque""#,
            r#"Basic realm="pasque", charset="UTF-8""#
        ]
    );
    let wrong = basic("alice", "planted-wrong");
    assert_eq!(
        open(&connection, port, Some(&wrong)).await.err().unwrap().0,
        401
    );
    let alice = basic("alice", PASSWORD);
    let bob = bearer(&token(
        folder.path(),
        &["--sub", "bob", "--permissions", "udp,files", "--id", "7"],
    ));
    for credentials in [&alice, &bob] {
        let mut tunnel = open(&connection, port, Some(credentials)).await.unwrap();
        echo(&mut tunnel, b"let in").await;
    }
    assert_eq!(get(&connection, "/files/page", None).await, 401);
    assert_eq!(get(&connection, "/files/page", Some(&alice)).await, 403);
    assert_eq!(get(&connection, "/files/page", Some(&bob)).await, 200);

    // A stranger finds nothing where something is hidden.
    for credentials in [None, Some(&wrong), Some(&alice), Some(&bob)] {
        let mut answers = Vec::new();
        for path in ["/hidden/127.0.0.1/9/", "/nothing/127.0.0.1/9/"] {
            let request = Request::tunnel("connect-udp", path);
            let request = with(request, AUTHORIZATION, credentials);
            let Err(ClientError::Refused {
                status,
                mut headers,
                ..
            }) = TestTunnel::open(&connection, request).await
            else {
                panic!("{path} with {credentials:?} is open")
            };
            headers.remove("date");
            answers.push((status, headers));
        }
        assert_eq!(answers[0].0, 404);
        assert_eq!(answers[0], answers[1]);
    }

    // A token that is revoked while the server runs, and a tunnel that was opened with it.
    let mut ending = open(&connection, port, Some(&bob)).await.unwrap();
    let mut staying = open(&connection, port, Some(&alice)).await.unwrap();
    write(folder.path(), "revoked", "7\n");
    let deadline = Instant::now() + Duration::from_secs(10);
    let ended = async { while ending.0.recv().await.is_some() {} };
    let ended = timeout_at(deadline, ended).await;
    ended.expect("the tunnel of a revoked token ends");
    echo(&mut staying, b"still here").await;
    while get(&connection, "/files/page", Some(&bob)).await != 401 {
        assert!(Instant::now() < deadline, "a revoked token still lets in");
        sleep(Duration::from_millis(50)).await;
    }
    let carol = bearer(&token(
        folder.path(),
        &["--sub", "carol", "--permissions", "files"],
    ));
    assert_eq!(get(&connection, "/files/page", Some(&carol)).await, 200);
}

#[tokio::test]
async fn what_an_identity_may_use_and_how_long_binds_its_running_tunnels() {
    let (folder, config) = site();
    let target = EchoTarget::on_loopback().await.unwrap();
    let port = target.address().port();
    let server = server(config).await;
    let arguments = ["--sub", "bob", "--permissions", "udp", "--id", "7"];
    let limits = ["--tunnels", "1", "--volume", "10000"];
    let limited = bearer(&token(folder.path(), &[&arguments[..], &limits].concat()));
    let first = server.connect().await.unwrap();
    let mut tunnel = open(&first, port, Some(&limited)).await.unwrap();
    // Over all its connections.
    let second = server.connect().await.unwrap();
    let refused = |answer: Result<TestTunnel, (StatusCode, HeaderMap)>| {
        let (status, headers) = answer.err().unwrap();
        (
            status.as_u16(),
            headers["proxy-status"].to_str().unwrap().to_owned(),
        )
    };
    let (status, reason) = refused(open(&second, port, Some(&limited)).await);
    assert_eq!(status, 503);
    assert!(reason.contains("connection_limit_reached"), "{reason}");
    echo(&mut tunnel, b"within the volume").await;
    for _ in 0..10 {
        tunnel.send(&[0; 1100]);
    }
    tunnel.ended().await;
    let (status, reason) = refused(open(&second, port, Some(&limited)).await);
    assert_eq!(status, 403);
    assert!(reason.contains("http_request_denied"), "{reason}");

    let carol = ["--sub", "carol", "--permissions", "udp", "--id", "8"];
    let carol = bearer(&token(folder.path(), &carol));
    let mut revoked = open(&first, port, Some(&carol)).await.unwrap();
    let mut other = open(&second, port, Some(&basic("alice", PASSWORD)))
        .await
        .unwrap();
    echo(&mut revoked, b"let in").await;
    write(folder.path(), "revoked", "8\n");
    let ended = async { while revoked.0.recv().await.is_some() {} };
    let ended = tokio::time::timeout(Duration::from_secs(10), ended).await;
    ended.expect("a revoked token's tunnel ends within ten seconds");
    assert_eq!(open(&first, port, Some(&carol)).await.err().unwrap().0, 401);
    echo(&mut other, b"not revoked").await;
}

#[tokio::test]
async fn no_secret_is_printed_at_any_level() {
    let (folder, mut config) = site();
    config["name"] = json!("tests.example");
    let mut server = Server::start_logging(&program("psq-server"), "trace", config, ANY_PORT)
        .await
        .unwrap();
    let connection = server.connect().await.unwrap();
    let tokens: Vec<_> = (0..4)
        .map(|index| {
            let permissions = ["udp", "files", "udp,files", "other"][index];
            token(
                folder.path(),
                &["--sub", "bob", "--permissions", permissions],
            )
        })
        .collect();
    let mut values: Vec<HeaderValue> = tokens.iter().map(|token| bearer(token)).collect();
    values.extend(tokens.iter().map(|token| bearer(&format!("{token}x"))));
    values.push(basic("alice", PASSWORD));
    values.extend((0..6).map(|index| basic("alice", &format!("planted-wrong-{index}"))));
    for text in [
        "Bearer planted token",
        "Basic planted",
        "Planted scheme",
        "planted",
    ] {
        values.push(HeaderValue::from_static(text));
    }
    for (index, value) in values.iter().enumerate() {
        let field = match index % 2 {
            0 => AUTHORIZATION,
            _ => PROXY_AUTHORIZATION,
        };
        for path in ["/files/page", "/hidden/127.0.0.1/9/", "/udp/127.0.0.1/9/"] {
            let request = with(Request::get(path), field.clone(), Some(value));
            connection.request(request).await.unwrap();
        }
    }
    // What it logs about a file is told without what is in it.
    let users = fs::read_to_string(folder.path().join("users.json")).unwrap();
    let hash = users
        .split('"')
        .find(|text| text.starts_with("$argon2id"))
        .unwrap();
    write(
        folder.path(),
        "users.json",
        r#"{ "alice": { "hash": "planted-plain" } }"#,
    );
    // Files are looked at when somebody asks.
    let deadline = Instant::now() + Duration::from_secs(10);
    while !server.process().output().contains("stays in force") {
        assert!(Instant::now() < deadline, "a broken file is not logged");
        get(&connection, "/files/page", None).await;
        sleep(Duration::from_millis(50)).await;
    }
    let id = server.process().id().unwrap();
    let seen = ["cmdline", "environ"].map(|file| fs::read(format!("/proc/{id}/{file}")).unwrap());
    server.process().terminate().await.unwrap();
    let mut output: String = server.process().output();
    assert!(output.contains("TRACE"), "nothing was traced");
    // What others on the host may see of the process counts as well.
    for seen in seen {
        assert!(!seen.is_empty());
        output.push('\n');
        output.push_str(&String::from_utf8_lossy(&seen));
    }

    let key = fs::read_to_string(server.folder().join("pasque-key.pem")).unwrap();
    let key = key.lines().nth(1).unwrap().to_owned();
    let mut secrets: Vec<String> = vec!["planted".into(), SECRET.into(), hash.into(), key];
    for value in &values {
        let value = value.to_str().unwrap();
        let (_, rest) = value.split_once(' ').unwrap_or(("", value));
        secrets.push(rest.into());
    }
    assert!(secrets.len() >= 20);
    for secret in secrets {
        let line = output.lines().find(|line| line.contains(&secret));
        assert_eq!(line, None, "{secret}");
    }
}

#[test]
fn mistakes_have_a_message_and_a_code() {
    let (folder, _) = site();
    let config = folder.path().join("server.json");
    let config = config.to_str().unwrap();
    let command = ["token", "-c", config, "--sub", "a", "--lifetime", "1h"];
    let fails = |arguments: &[&str], input: &str, code: i32, says: &str| {
        let output = run(arguments, input);
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(message.contains(says), "{message}");
        assert!(!message.contains("planted"), "{message}");
    };
    fails(&["hash-password"], "\n", 1, "the password is empty");
    fails(
        &["hash-password"],
        "planted\u{1b}[2J\n",
        1,
        "control characters",
    );
    fails(&["token", "-c", config, "--sub", "a"], "", 2, "--lifetime");
    // A permission that nothing asks for is made, with a warning.
    let output = run(&[&command[..], &["--permissions", "upd"]].concat(), "");
    assert!(output.status.success());
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("\"upd\"")
    );

    let secret = folder.path().join("jwt.key");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
    fails(&command, "", 2, "chmod 600");
    write(folder.path(), "jwt.key", "planted");
    fails(&command, "", 2, "the secret has 7 bytes");
    fs::remove_file(&secret).unwrap();
    fails(&command, "", 2, "auth.jwt_secret_file: cannot read");
    write(
        folder.path(),
        "server.json",
        r#"{ "cert_file": "c", "key_file": "k",
        "endpoints": [{ "path": "f", "type": "Files", "root": "." }] }"#,
    );
    fails(&command, "", 2, "needs \"jwt_secret_file\"");
}
