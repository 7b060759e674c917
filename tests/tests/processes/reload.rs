//! A server that is given another configuration while it serves.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use http::StatusCode;
use pasque::Request;
use pasque::testing::TestTunnel;
use pasque_h3::{ClientConfig, Trust};
use pasque_tests::{EchoTarget, Process, Server, program};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::common::{ANY_PORT, Pinger, echo, files, get, server, udp, until};

/// The name of the control socket in the server's folder.
const CONTROL: &str = "control";

/// How long a tunnel may outlive its permission.
const GRACE: Duration = Duration::from_secs(10);

/// An endpoint for UDP tunnels below `path`.
fn udp_at(path: &str, allow: &[&str]) -> Value {
    let mut endpoint = udp(allow);
    endpoint["path"] = json!(path);
    endpoint
}

async fn serve(endpoints: &[Value]) -> Server {
    server(json!({ "control": CONTROL, "endpoints": endpoints })).await
}

/// Reloads, which has to succeed.
async fn reload(server: &Server) -> String {
    let (code, said) = server.reload().await.unwrap();
    assert_eq!(code, Some(0), "{said}");
    said
}

/// What the server itself answers.
fn order(server: &Server) -> String {
    let mut stream = UnixStream::connect(server.folder().join(CONTROL)).unwrap();
    stream.write_all(b"reload\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

async fn tunnel(connection: &pasque::Connection, path: &str, target: &EchoTarget) -> TestTunnel {
    let port = target.address().port();
    let path = format!("/{path}/127.0.0.1/{port}/");
    TestTunnel::open(connection, Request::tunnel("connect-udp", path))
        .await
        .unwrap()
}

/// How long datagrams go through the tunnels while the server is reloaded.
const TRAFFIC: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_reloads_cost_running_tunnels_no_datagram() {
    let target = EchoTarget::on_loopback().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let allow = ["127.0.0.1"];
    let endpoints = [
        udp_at("same", &allow),
        udp_at("changing", &allow),
        files(folder.path()),
    ];
    let mut server = serve(&endpoints).await;
    let connection = server.connect().await.unwrap();
    let mut pingers = Vec::new();
    for path in ["same", "changing"] {
        pingers.push(Pinger::start(tunnel(&connection, path, &target).await));
    }
    let start = Instant::now();
    let mut rounds = 0;
    // A hundred at least, and as many as there is traffic to be hurt by them.
    while rounds < 100 || start.elapsed() < TRAFFIC {
        let round = rounds;
        rounds += 1;
        server
            .rewrite(|config| {
                config["endpoints"][1]["deny"] = json!([format!("192.0.2.{}", round % 256)]);
                config["limits"] = json!({ "connections": 100 + round });
                config["retry"] = json!(["always", "never"][round % 2]);
            })
            .unwrap();
        let said = reload(&server).await;
        assert!(
            said.contains("2 unchanged, 1 changed, 0 added, 0 removed"),
            "{said}"
        );
    }
    for pinger in pingers {
        let pings = pinger.finish().await;
        assert!(pings.sent > 100, "{}", pings.sent);
        assert_eq!(pings.round_trips.len(), pings.sent, "datagrams were lost");
    }
    // What serves now is the last one of them.
    let connection = server.connect().await.unwrap();
    echo(&mut tunnel(&connection, "changing", &target).await, b"new").await;
}

/// Twenty ways for a file to be wrong, each from one that is right.
fn broken(good: &Value, folder: &Path) -> Vec<String> {
    let text = good.to_string();
    let with = |change: &dyn Fn(&mut Value)| {
        let mut config = good.clone();
        change(&mut config);
        config.to_string()
    };
    let open_key = folder.join("open-key.pem");
    fs::copy(folder.join("pasque-key.pem"), &open_key).unwrap();
    fs::set_permissions(&open_key, fs::Permissions::from_mode(0o644)).unwrap();
    vec![
        String::new(),
        text[..text.len() / 2].to_owned(),
        format!("{text}}}"),
        text.replacen('{', "{ // a comment\n", 1),
        text.replacen('{', "{ \"retry\": \"always\", \"retry\": \"never\",", 1),
        with(&|config| config["colour"] = json!("blue")),
        with(&|config| config["listen"] = json!("somewhere")),
        with(&|config| config["threads"] = json!(0)),
        with(&|config| config["retry"] = Value::Null),
        with(&|config| config["limits"]["connections"] = json!(-1)),
        with(&|config| config["endpoints"] = json!([])),
        with(&|config| config["endpoints"][0]["type"] = json!("UpdEndpoint")),
        with(&|config| config["endpoints"][0]["allow"] = json!(["10.0.0.0/33"])),
        with(&|config| config["endpoints"][0]["path"] = json!("/{unknown}/")),
        with(&|config| config["endpoints"][1]["path"] = config["endpoints"][0]["path"].clone()),
        // What only the server finds, or finds last.
        with(&|config| config["endpoints"][2]["root"] = json!("no such folder")),
        with(&|config| {
            config["cert_file"] = json!("nowhere.pem");
            config["self_signed"] = json!(false);
        }),
        with(&|config| config["key_file"] = json!("open-key.pem")),
        with(&|config| config["key_file"] = json!("pasque-cert.pem")),
        with(&|config| config["cert_file"] = json!("server.json")),
    ]
}

#[tokio::test]
async fn twenty_broken_files_change_nothing() {
    let target = EchoTarget::on_loopback().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a"), "content").unwrap();
    let endpoints = [
        udp_at("one", &["127.0.0.1"]),
        udp_at("two", &["127.0.0.1"]),
        files(folder.path()),
    ];
    let mut server = serve(&endpoints).await;
    let connection = server.connect().await.unwrap();
    let mut running = tunnel(&connection, "one", &target).await;
    let mut good = Value::Null;
    server.rewrite(|config| good = config.clone()).unwrap();
    let files = broken(&good, server.folder());
    assert_eq!(files.len(), 20);
    for text in files {
        fs::write(server.config_file(), &text).unwrap();
        let answer = order(&server);
        assert!(answer.starts_with("refused: "), "{text}: {answer}");
        assert_eq!(answer.lines().count(), 1, "{answer}");
        let (code, said) = server.reload().await.unwrap();
        assert_eq!(code, Some(2), "{text}: {said}");
        echo(&mut running, b"still there").await;
    }
    // A file that cannot be read at all.
    fs::remove_file(server.config_file()).unwrap();
    assert!(order(&server).starts_with("refused: "));
    let fresh = server.connect().await.unwrap();
    echo(&mut tunnel(&fresh, "two", &target).await, b"as before").await;
    assert_eq!(
        get(&fresh, "/files/a").await,
        (StatusCode::OK, b"content".to_vec())
    );
    server.rewrite(|_| {}).unwrap();
    reload(&server).await;
    echo(&mut running, b"still there").await;
}

#[tokio::test]
async fn tunnels_end_that_are_no_longer_allowed_and_no_others() {
    let target = EchoTarget::on_loopback().await.unwrap();
    let endpoints = ["stays", "gone", "closed", "moved"].map(|path| udp_at(path, &["127.0.0.1"]));
    let mut server = serve(&endpoints).await;
    let connection = server.connect().await.unwrap();
    let mut tunnels = Vec::new();
    for path in ["stays", "gone", "closed", "moved"] {
        let mut tunnel = tunnel(&connection, path, &target).await;
        echo(&mut tunnel, b"open").await;
        tunnels.push(tunnel);
    }
    server
        .rewrite(|config| {
            let endpoints = config["endpoints"].as_array_mut().unwrap();
            endpoints[2]["deny"] = json!(["127.0.0.0/8"]);
            endpoints[3]["path"] = json!("elsewhere");
            endpoints.remove(1);
        })
        .unwrap();
    let start = Instant::now();
    let said = reload(&server).await;
    assert!(
        said.contains("2 unchanged, 1 changed, 0 added, 1 removed"),
        "{said}"
    );
    for tunnel in &mut tunnels[1..] {
        timeout(GRACE, tunnel.ended()).await.unwrap();
    }
    assert!(start.elapsed() < GRACE);
    echo(&mut tunnels[0], b"goes on").await;
}

#[tokio::test]
async fn a_new_certificate_is_for_new_connections() {
    let target = EchoTarget::on_loopback().await.unwrap();
    let server = serve(&[udp_at("udp", &["127.0.0.1"])]).await;
    let connection = server.connect().await.unwrap();
    let mut running = tunnel(&connection, "udp", &target).await;
    let former = server.folder().join("former.pem");
    fs::rename(server.certificate(), &former).unwrap();
    let another = serve(&[udp_at("udp", &["127.0.0.1"])]).await;
    for file in ["pasque-cert.pem", "pasque-key.pem"] {
        fs::copy(another.folder().join(file), server.folder().join(file)).unwrap();
    }
    reload(&server).await;

    echo(&mut running, b"on the old one").await;
    let fresh = server.connect().await.unwrap();
    echo(&mut tunnel(&fresh, "udp", &target).await, b"on the new one").await;
    let mut config = ClientConfig::default();
    config.trust = Trust::CaFile(former);
    let (host, port) = (server.address().ip().to_string(), server.address().port());
    assert!(pasque_h3::connect(&host, port, &config).await.is_err());
}

#[tokio::test]
async fn sighup_reloads_and_what_takes_a_restart_is_said() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a"), "content").unwrap();
    let mut server = serve(&[files(folder.path())]).await;
    let connection = server.connect().await.unwrap();
    let more = files(folder.path());
    server
        .rewrite(|config| {
            config["endpoints"][0]["path"] = json!("new");
            config["threads"] = json!(7);
            let endpoints = config["endpoints"].as_array_mut().unwrap();
            endpoints.push(more);
        })
        .unwrap();
    server.process().signal(Signal::HUP).unwrap();
    // On the connection that was there before.
    let start = Instant::now();
    while get(&connection, "/new/a").await.0 != StatusCode::OK {
        assert!(start.elapsed() < GRACE, "SIGHUP does nothing");
    }
    let said = reload(&server).await;
    assert!(said.contains("2 unchanged"), "{said}");
    assert!(
        said.ends_with("needs a restart to take effect: threads"),
        "{said}"
    );
}

#[tokio::test]
async fn a_control_socket_is_one_servers_until_that_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let control = folder.path().join(CONTROL);
    let config = json!({ "control": control, "endpoints": [files(folder.path())] });
    let mut first = server(config.clone()).await;
    let second = Server::start_with(&program("psq-server"), config.clone(), ANY_PORT).await;
    let error = second.unwrap_err().to_string();
    assert!(error.contains("another server answers there"), "{error}");
    reload(&first).await;
    first.process().signal(Signal::KILL).unwrap();
    first.process().exit().await.unwrap();
    assert!(control.exists());
    let (code, said) = first.reload().await.unwrap();
    assert_eq!(code, Some(1), "{said}");

    let mut third = server(config).await;
    reload(&third).await;
    assert_eq!(third.process().terminate().await.unwrap().code(), Some(0));
    until("the socket to go", || !control.exists()).await;
}

#[tokio::test]
async fn without_a_control_socket_the_command_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let config = json!({ "endpoints": [files(folder.path())] });
    let server = server(config).await;
    let (code, said) = server.reload().await.unwrap();
    assert_eq!(code, Some(2), "{said}");
    let connection = server.connect().await.unwrap();
    assert_eq!(
        get(&connection, "/files/none").await.0,
        StatusCode::NOT_FOUND
    );
    // A configuration that is nobody's.
    let arguments = ["reload", "-c", "/nonexistent/server.json"];
    let mut command = Process::start(&program("psq-server"), arguments).unwrap();
    assert_eq!(command.exit().await.unwrap().code(), Some(2));
}

#[tokio::test]
async fn a_tunnel_ends_when_its_identity_has_no_permission_any_more() {
    let target = EchoTarget::on_loopback().await.unwrap();
    let endpoints = ["taken", "kept"].map(|path| {
        let mut endpoint = udp_at(path, &["127.0.0.1"]);
        endpoint["permission"] = json!("udp");
        endpoint
    });
    let secret = tempfile::tempdir().unwrap();
    let file = secret.path().join("jwt.key");
    fs::write(&file, "0123456789abcdef0123456789abcdef").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let mut server = server(json!({
        "control": CONTROL, "auth": { "jwt_secret_file": file }, "endpoints": endpoints,
    }))
    .await;
    let config = server.config_file();
    let arguments = [
        "token",
        "-c",
        config.to_str().unwrap(),
        "--sub",
        "ada",
        "--permissions",
        "udp",
        "--lifetime",
        "1h",
    ];
    let mut command = Process::start(&program("psq-server"), arguments).unwrap();
    assert_eq!(command.exit().await.unwrap().code(), Some(0));
    let bearer = format!("Bearer {}", command.output().trim());

    let connection = server.connect().await.unwrap();
    let port = target.address().port();
    let mut tunnels = Vec::new();
    for path in ["taken", "kept"] {
        let mut request = Request::tunnel("connect-udp", format!("/{path}/127.0.0.1/{port}/"));
        request
            .headers
            .insert("authorization", bearer.parse().unwrap());
        let mut tunnel = TestTunnel::open(&connection, request).await.unwrap();
        echo(&mut tunnel, b"open").await;
        tunnels.push(tunnel);
    }
    server
        .rewrite(|config| config["endpoints"][0]["permission"] = json!("more"))
        .unwrap();
    let said = reload(&server).await;
    // Who may use it is no key of the endpoint's own.
    assert!(said.contains("2 unchanged"), "{said}");
    timeout(GRACE, tunnels[0].ended()).await.unwrap();
    echo(&mut tunnels[1], b"goes on").await;
}

#[tokio::test]
async fn a_reload_that_names_what_is_outside_of_the_sandbox_is_refused() {
    let (root, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for folder in [&root, &other] {
        fs::create_dir(folder.path().join("below")).unwrap();
        fs::write(folder.path().join("below/a.txt"), "a").unwrap();
    }
    let config = |sandbox: Value| {
        let endpoints = json!([files(root.path())]);
        json!({ "control": CONTROL, "sandbox": sandbox, "endpoints": endpoints })
    };
    let mut confined = server(config(json!({}))).await;
    let is_in_force = confined.process().line("files: ").await.unwrap();
    assert!(is_in_force.contains("confined to"), "{is_in_force}");
    let beneath = |server: &mut Server, folder: &Path| {
        let root = json!(folder.join("below"));
        server
            .rewrite(|config| config["endpoints"][0]["root"] = root)
            .unwrap();
    };

    beneath(&mut confined, other.path());
    let (code, said) = confined.reload().await.unwrap();
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("endpoints[0]") && said.contains("restart it"),
        "{said}"
    );
    // What it serves is what it served.
    let connection = confined.connect().await.unwrap();
    assert_eq!(
        get(&connection, "/files/below/a.txt").await.0,
        StatusCode::OK
    );

    beneath(&mut confined, root.path());
    reload(&confined).await;
    let connection = confined.connect().await.unwrap();
    assert_eq!(get(&connection, "/files/a.txt").await.0, StatusCode::OK);

    for sandbox in [json!(false), json!({ "read": [other.path()] })] {
        let mut wider = server(config(sandbox)).await;
        beneath(&mut wider, other.path());
        reload(&wider).await;
        let connection = wider.connect().await.unwrap();
        assert_eq!(get(&connection, "/files/a.txt").await.0, StatusCode::OK);
    }
}
