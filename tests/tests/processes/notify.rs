//! What a service manager hears of a server (`sd_notify(3)`).

use std::os::unix::net::UnixDatagram;
use std::path::Path;

use pasque_tests::PATIENCE;
use rustix::process::Signal;
use serde_json::json;

use crate::common::{files, server_after, server_by};

/// The socket of a service manager.
struct Manager(UnixDatagram);

impl Manager {
    fn bind(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(socket)
    }

    /// The next message, one assignment a line.
    fn next(&self) -> Vec<String> {
        let mut buffer = [0; 4096];
        let len = self.0.recv(&mut buffer).unwrap();
        let text = std::str::from_utf8(&buffer[..len]).unwrap();
        text.lines().map(str::to_owned).collect()
    }
}

fn says(message: &[String], wanted: &str) -> bool {
    message.iter().any(|line| line == wanted)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_manager_hears_of_start_reload_and_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let manager = Manager::bind(&path);
    let setup = format!("export NOTIFY_SOCKET='{}'", path.display());
    let program = server_after(&setup, folder.path());
    let mut server = server_by(&program, json!({ "endpoints": [files(folder.path())] })).await;
    let ready = manager.next();
    assert!(says(&ready, "READY=1"), "{ready:?}");
    let status = format!("STATUS=listening on {}", server.address());
    assert!(says(&ready, &status), "{ready:?}");

    // A reload that fails is over as well: the server serves.
    for endpoint in [files(folder.path()), json!({ "type": "Nothing" })] {
        server
            .rewrite(|config| config["endpoints"][0] = endpoint)
            .unwrap();
        server.process().signal(Signal::HUP).unwrap();
        let reloading = manager.next();
        assert!(says(&reloading, "RELOADING=1"), "{reloading:?}");
        let clock = reloading
            .iter()
            .find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
        assert!(clock.unwrap().parse::<u64>().unwrap() > 0);
        assert!(says(&manager.next(), "READY=1"));
    }
    server.process().signal(Signal::TERM).unwrap();
    assert!(says(&manager.next(), "STOPPING=1"));
    assert_eq!(server.process().exit().await.unwrap().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watchdog_hears_of_life_twice_in_its_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let manager = Manager::bind(&path);
    let setup = format!(
        "export NOTIFY_SOCKET='{}' WATCHDOG_USEC=400000",
        path.display()
    );
    let program = server_after(&setup, folder.path());
    let _server = server_by(&program, json!({ "endpoints": [files(folder.path())] })).await;
    let start = std::time::Instant::now();
    let mut beats = 0;
    while beats < 4 {
        beats += usize::from(says(&manager.next(), "WATCHDOG=1"));
    }
    // Four beats take three pauses.
    assert!(start.elapsed() >= std::time::Duration::from_millis(500));
}
