//! Starts that are refused, and what is said then; what is written on request only.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use pasque_tests::{Server, program};
use serde_json::{Value, json};

use crate::common::{files, server, server_after, server_by, udp};

/// A good configuration in `folder`, with these endpoints.
pub(crate) fn write_config(folder: &Path, endpoints: &Value) -> String {
    let config = json!({
        "cert_file": "cert.pem", "key_file": "key.pem", "self_signed": true,
        "endpoints": endpoints,
    });
    let file = folder.join("server.json");
    fs::write(&file, format!("{config:#}\n")).unwrap();
    file.to_str().unwrap().to_owned()
}

/// Runs the server to its end. A start that should be refused and is not is ended after a while.
pub(crate) fn run<const N: usize>(arguments: [&str; N]) -> Output {
    let limit = ["10", program("psq-server").to_str().unwrap()].map(str::to_owned);
    let arguments = arguments.map(str::to_owned);
    Command::new("timeout")
        .args(limit)
        .args(arguments)
        .output()
        .unwrap()
}

/// The one line, other than of the log, on standard error.
pub(crate) fn complaint(output: &Output) -> String {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    let mut lines = text.lines().filter(|line| line.starts_with("psq-server: "));
    let line = lines
        .next()
        .unwrap_or_else(|| panic!("no complaint: {text}"))
        .to_owned();
    assert_eq!(lines.next(), None, "{text}");
    line
}

#[test]
fn udp_32_a_server_that_would_be_an_open_relay_does_not_start() {
    let folder = tempfile::tempdir().unwrap();
    let config = write_config(folder.path(), &json!([udp(&[])]));
    for address in ["0.0.0.0:0", "[::]:0", "[::ffff:0.0.0.0]:0"] {
        let output = run(["-c", &config, "-a", address]);
        assert_eq!(output.status.code(), Some(2), "{address}: {output:?}");
        let line = complaint(&output);
        assert!(
            line.contains("open relay") && line.contains("\"anonymous\": true"),
            "{line}"
        );
        assert!(
            line.contains("server.json:") && line.contains("endpoints[0]"),
            "{line}"
        );
    }
    // Nor does the configuration's own address, or its default, which is every one.
    let output = run(["-c", &config]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    // Nothing was made by a start that was refused.
    assert!(!folder.path().join("key.pem").exists());
}

#[tokio::test]
async fn udp_32_who_says_anonymous_may_serve_everyone_and_files_need_not_say_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut anonymous = udp(&[]);
    anonymous["anonymous"] = json!(true);
    for endpoint in [anonymous, files(folder.path())] {
        let config = json!({ "endpoints": [endpoint] });
        let everywhere = ["-a", "0.0.0.0:0"];
        Server::start_with(&program("psq-server"), config, everywhere)
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn udp_32_on_loopback_an_open_tunnel_is_a_warning() {
    let mut server = server(json!({ "endpoints": [udp(&[])] })).await;
    let line = server
        .process()
        .line("serves everyone on this host")
        .await
        .unwrap();
    assert!(
        line.contains("WARN") && line.contains("endpoints[0]"),
        "{line}"
    );
}

#[tokio::test]
async fn a_second_server_on_the_same_address_does_not_start() {
    let folder = tempfile::tempdir().unwrap();
    let endpoints = json!([files(folder.path())]);
    let first = server(json!({ "endpoints": endpoints })).await;
    let config = write_config(folder.path(), &endpoints);
    let address = first.address().to_string();
    let output = tokio::task::spawn_blocking(move || run(["-c", &config, "-a", &address]));
    let output = output.await.unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let line = complaint(&output);
    assert!(
        line.contains(&first.address().to_string()) && line.contains("in use"),
        "{line}"
    );
    // The first one has not lost a packet to it.
    first.connect().await.unwrap();
}

#[test]
fn a_mistake_in_the_configuration_is_named_by_file_line_and_key() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.json");
    let start = "{\n  \"cert_file\": \"c\", \"key_file\": \"k\", \"self_signed\": true,\n";
    for (rest, line, key) in [
        ("  \"endpoints\": []\n}", 3, "endpoints"),
        ("  \"endpoint\": []\n}", 3, "endpoint"),
        ("  \"threads\": 0,\n  \"endpoints\": []\n}", 3, "threads"),
        (
            "  \"endpoints\": [\n    { \"path\": \"u\", \"type\": \"Udp\" }\n  ]\n}",
            4,
            "endpoints[0]",
        ),
        (
            "  \"endpoints\": [{\n    \"path\": \"u\", \"type\": \"UdpEndpoint\",\n    \"alow\": []\n  }]\n}",
            5,
            "endpoints[0]",
        ),
        (
            "  \"endpoints\": [{\n    \"path\": \"u\", \"type\": \"UdpEndpoint\",\n    \"deny\": [\"10.0.0.0/33\"]\n  }]\n}",
            5,
            "endpoints[0].deny[0]",
        ),
        ("  \"auth\": {},\n  \"endpoints\": []\n}", 3, "auth"),
        ("  \"endpoints\": [}\n", 3, ""),
    ] {
        let text = format!("{start}{rest}");
        fs::write(&file, &text).unwrap();
        let file = file.to_str().unwrap();
        for arguments in [
            ["-c", file, "-a", "127.0.0.1:0"],
            ["check", "-c", file, "--"],
        ] {
            let arguments = arguments.into_iter().filter(|argument| *argument != "--");
            let output = Command::new("timeout")
                .arg("10")
                .arg(program("psq-server"))
                .args(arguments)
                .output()
                .unwrap();
            assert_eq!(output.status.code(), Some(2), "{text}: {output:?}");
            let complaint = complaint(&output);
            assert!(
                complaint.contains(&format!("bad.json:{line}:")),
                "{text}: {complaint}"
            );
            assert!(complaint.contains(key), "{text}: {complaint}");
        }
    }
    let left = fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, 1, "nothing but the configuration");
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let endpoints = json!([files(folder.path())]);
    let config = write_config(folder.path(), &endpoints);
    for name in ["cert.pem", "key.pem"] {
        fs::write(folder.path().join(name), "-").unwrap();
    }
    for mode in [0o644, 0o640, 0o604] {
        let key = folder.path().join("key.pem");
        fs::set_permissions(key, fs::Permissions::from_mode(mode)).unwrap();
        let output = run(["-c", &config, "-a", "127.0.0.1:0"]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let line = complaint(&output);
        assert!(
            line.contains("key.pem") && line.contains("chmod 600"),
            "{line}"
        );
    }
}

#[test]
fn check_and_endpoints_say_what_there_is_and_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut endpoint = udp(&[]);
    endpoint["anonymous"] = json!(true);
    let config = write_config(folder.path(), &json!([endpoint, files(folder.path())]));
    let output = run(["check", "-c", &config]);
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.ends_with("server.json: ok, 2 endpoints\n"), "{said}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);

    let output = run(["endpoints"]);
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    for known in ["UdpEndpoint", "Files", "RFC 9298"] {
        assert!(said.contains(known), "{said}");
    }
}

#[tokio::test]
async fn secrets_are_written_only_when_asked_for_and_for_the_owner_only() {
    let folder = tempfile::tempdir().unwrap();
    let traces = folder.path().join("traces");
    fs::create_dir(&traces).unwrap();
    let secrets = folder.path().join("secrets");
    let config = json!({ "endpoints": [files(folder.path())] });

    let plain = server_after("unset QLOGDIR SSLKEYLOGFILE", folder.path());
    let mut silent = server_by(&plain, config.clone()).await;
    silent.connect().await.unwrap();
    for word in ["QLOGDIR", "SSLKEYLOGFILE"] {
        assert!(!silent.process().output().contains(word));
    }

    let (traces_path, secrets_path) = (traces.display(), secrets.display());
    // Whatever the mask of the process would let others do.
    let setup = format!("umask 0\nexport QLOGDIR='{traces_path}' SSLKEYLOGFILE='{secrets_path}'");
    let mut talkative = server_by(&server_after(&setup, folder.path()), config).await;
    // The program has no feature `qlog` here, as by default, and says so.
    for words in ["build this with `--features qlog`", "SSLKEYLOGFILE"] {
        let line = talkative.process().line(words).await.unwrap();
        assert!(line.contains("WARN"), "{line}");
    }
    talkative.connect().await.unwrap().close();
    talkative.process().terminate().await.unwrap();

    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&secrets), 0o600);
    let keys = fs::read_to_string(&secrets).unwrap();
    assert!(keys.contains("SERVER_TRAFFIC_SECRET_0 "), "{keys}");
    assert_eq!(fs::read_dir(&traces).unwrap().count(), 0);
}

#[tokio::test]
async fn descriptors_that_were_left_open_are_closed() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("secret"), "secret").unwrap();
    // A shell leaves what it has opened by itself to whoever it executes.
    let setup = format!("exec 7<'{}/secret' 8<&7 9<&7", folder.path().display());
    let program = server_after(&setup, folder.path());
    let config = json!({ "endpoints": [files(folder.path())] });
    let mut server = server_by(&program, config).await;
    let id = server.process().id().unwrap();
    let open: Vec<String> = fs::read_dir(format!("/proc/{id}/fd"))
        .unwrap()
        // One that was closed meanwhile leads nowhere.
        .filter_map(|entry| fs::read_link(entry.unwrap().path()).ok())
        .map(|target| target.display().to_string())
        .collect();
    assert!(open.len() > 3, "{open:?}");
    assert!(
        !open.iter().any(|target| target.ends_with("/secret")),
        "{open:?}"
    );
}
