//! An endpoint that somebody else wrote, in a crate outside this workspace, served by a copy of
//! `psq-server`'s main with one more line.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::fs;
use std::path::Path;
use std::process::Command;

use pasque::Request;
use pasque::testing::TestTunnel;
use pasque_tests::{Server, program, repository};
use serde_json::json;

/// The line of `psq-server`'s main after which a user puts endpoints of their own.
const LAST_USE: &str = "use pasque_udp as _;\n";

/// Where the example sends what it got, and what a bad copy of it does before.
const SEND: &str = "cx.send(packet);";
const PANIC: &str =
    r#"assert!(!packet.starts_with(b"panic"), "{}", String::from_utf8_lossy(&packet));"#;

#[tokio::test]
async fn the_echo_of_a_third_party_is_served_over_http_3() {
    // Builds what both have in common, if it is not there yet.
    let programs = program("psq-server");
    let programs = programs.parent().unwrap();
    let folder = tempfile::tempdir().unwrap();
    write_workspace(folder.path());
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo
        .args(["build", "--quiet", "--offline", "--target-dir"])
        // BoringSSL is built already.
        .arg(programs.parent().unwrap())
        .current_dir(folder.path());
    if programs.ends_with("release") {
        cargo.arg("--release");
    }
    let output = cargo.output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );

    let endpoints = json!([{ "path": "echo", "type": "Echo", "max_len": 1200 }]);
    let mut server = Server::start(&programs.join("third-party-server"), endpoints)
        .await
        .unwrap();
    let connection = server.connect().await.unwrap();
    let mut tunnel = TestTunnel::open(&connection, Request::tunnel("echo", "/echo"))
        .await
        .unwrap();
    tunnel.send(b"hello");
    assert_eq!(tunnel.recv().await[..], *b"hello");
    a_panic_with_text_of_a_peer_is_one_short_line(&mut server, tunnel).await;
}

/// Its author did not think of whose text it is.
async fn a_panic_with_text_of_a_peer_is_one_short_line(
    server: &mut Server,
    mut tunnel: TestTunnel,
) {
    let before = server.process().output().lines().count();
    let text = format!("panic \nERROR forged \u{1b}[2J\u{202e}{}", "x".repeat(1000));
    tunnel.send(text.as_bytes());
    server.process().line("panic in thread").await.unwrap();
    tunnel.ended().await;
    server.process().terminate().await.unwrap();
    let output = server.process().output();
    let lines: Vec<&str> = output.lines().skip(before).collect();
    assert!(lines.iter().all(|line| line.starts_with("20")), "{output}");
    let told = lines.iter().filter(|line| line.contains("forged"));
    assert_eq!(told.clone().count(), 1, "{output}");
    for line in told {
        assert!(
            line.contains(r"panic \nERROR forged \u{1b}[2J\u{202e}xxx"),
            "{line}"
        );
        assert!(
            line.contains("worker-") && line.contains("echo/src/lib.rs:"),
            "{line}"
        );
        assert!(line.len() < 256 + 200, "{} bytes: {line}", line.len());
    }
}

fn write_workspace(folder: &Path) {
    let read = |path: &str| fs::read_to_string(repository().join(path)).unwrap();
    let write = |path: &str, contents: &str| {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
    };
    // The same versions, built in the same way, so that nothing is fetched or built twice.
    write("Cargo.lock", &read("Cargo.lock"));
    write(
        "Cargo.toml",
        &format!(
            "[workspace]\nresolver = \"3\"\nmembers = [\"echo\", \"server\"]\n\n{}",
            profiles(&read("Cargo.toml"))
        ),
    );

    let echo = read("tests/echo/src/lib.rs");
    assert_eq!(echo.matches(SEND).count(), 1);
    write(
        "echo/src/lib.rs",
        &echo.replace(SEND, &format!("{PANIC}{SEND}")),
    );
    write(
        "echo/Cargo.toml",
        &package(
            "third-party-echo",
            &[("pasque", "framework")],
            "serde = { version = \"1\", features = [\"derive\"] }\n",
        ),
    );

    let main = read("apps/psq-server/src/main.rs");
    assert_eq!(main.matches(LAST_USE).count(), 1);
    let with_echo = format!("{LAST_USE}use third_party_echo as _;\n");
    write("server/src/main.rs", &main.replace(LAST_USE, &with_echo));
    write(
        "server/Cargo.toml",
        &package(
            "third-party-server",
            &[
                ("pasque-files", "endpoints/files"),
                ("pasque-ip", "endpoints/ip"),
                ("pasque-udp", "endpoints/udp"),
                ("psq-server", "apps/psq-server"),
            ],
            "third-party-echo = { path = \"../echo\" }\n",
        ),
    );
}

/// The sections of a `Cargo.toml` that say how to build.
fn profiles(manifest: &str) -> String {
    let mut inside = false;
    let mut kept = String::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line.starts_with("[profile");
        }
        if inside {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

fn package(name: &str, crates: &[(&str, &str)], others: &str) -> String {
    let mut manifest = format!(
        "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[dependencies]\n{others}"
    );
    for (name, path) in crates {
        let path = repository().join(path);
        manifest.push_str(&format!("{name} = {{ path = {path:?} }}\n"));
    }
    manifest
}
