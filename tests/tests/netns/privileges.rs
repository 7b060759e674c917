//! A server that has become an ordinary user.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use pasque_tests::netns::Network;
use pasque_tests::{Process, Server, program};
use serde_json::json;

use crate::lab::{Client, Mode, Setup};

/// The user and group `nobody` of Linux.
const NOBODY: u32 = 65_534;

/// `CAP_NET_BIND_SERVICE` and `CAP_NET_ADMIN`, as bits.
const KEPT: u64 = 1 << 10 | 1 << 12;

/// Every value of `field` that a thread of `process` has in its status.
fn of_all_threads(process: u32, field: &str) -> BTreeSet<String> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    tasks
        .map(|task| {
            let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
            let mut lines = status.lines();
            let line = lines.find_map(|line| line.strip_prefix(&format!("{field}:")));
            line.unwrap()
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect()
}

fn only(value: String) -> BTreeSet<String> {
    BTreeSet::from([value])
}

fn assert_is_ordinary(server: &mut Server) {
    let process = server.process().id().unwrap();
    let user = only([NOBODY; 4].map(|id| id.to_string()).join(" "));
    assert_eq!(of_all_threads(process, "Uid"), user);
    assert_eq!(of_all_threads(process, "Gid"), user);
    for set in ["CapEff", "CapPrm", "CapBnd"] {
        assert_eq!(
            of_all_threads(process, set),
            only(format!("{KEPT:016x}")),
            "{set}"
        );
    }
    for set in ["CapInh", "CapAmb"] {
        assert_eq!(
            of_all_threads(process, set),
            only(format!("{:016x}", 0)),
            "{set}"
        );
    }
    assert_eq!(of_all_threads(process, "NoNewPrivs"), only("1".into()));
    let limits = fs::read_to_string(format!("/proc/{process}/limits")).unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core"))
        .unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_start_there_are_an_ordinary_user_and_two_capabilities() {
    let setup = Setup::new(Mode::AUTO_CLIENT)
        .config("control", json!("control"))
        .endpoint("lease_file", json!("leases"));
    let (network, _place) = setup.network().await;
    let mut server = Server::start_owned(
        &network.server,
        &program("psq-server"),
        NOBODY,
        setup.document(),
        ["-a", "[::]:443", "--user", "nobody"],
    )
    .await
    .unwrap();
    assert_is_ordinary(&mut server);
    let url = format!("https://{}:443", Network::SERVER);
    let launch = |n: usize, server: &Server| {
        let arguments = ["-d", &url, "--pin", server.pin(), "-i"];
        let process = network.clients[n].start(&program("psq-client"), arguments);
        Client::new(process.unwrap())
    };
    // A port below 1024 is bound, and interfaces are made.
    let first = launch(0, &server).await;
    server
        .rewrite(|config| config["endpoints"][0]["deny"] = json!(["198.51.100.9"]))
        .unwrap();
    let (code, said) = server.reload().await.unwrap();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("1 changed"), "{said}");
    let second = launch(1, &server).await;
    assert_ne!(first.v4, second.v4);
    assert_is_ordinary(&mut server);
    assert!(server.folder().join("leases").exists());
    first.leave().await;
    second.leave().await;
    assert_eq!(server.process().terminate().await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn a_configuration_that_the_user_cannot_read_is_refused_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::chown(folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    let file = folder.path().join("server.json");
    let config = json!({
        "cert_file": "cert.pem", "key_file": "key.pem", "self_signed": true,
        "endpoints": [{ "path": "/", "type": "Files", "root": folder.path() }],
    });
    fs::write(&file, config.to_string()).unwrap();
    let path = file.to_str().unwrap();
    let arguments = ["-c", path, "-a", "127.0.0.1:0", "--user", "nobody"];
    for (mode, starts) in [(0o600, false), (0o644, true)] {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        let mut server = Process::start(&program("psq-server"), arguments).unwrap();
        if starts {
            server.line("listening on").await.unwrap();
            server.terminate().await.unwrap();
        } else {
            let code = server.exit().await.unwrap().code();
            let said = server.output();
            assert_eq!(code, Some(2), "{said}");
            assert!(
                said.contains(path) && said.contains("Permission denied"),
                "{said}"
            );
            assert!(!folder.path().join("key.pem").exists());
        }
    }
}
