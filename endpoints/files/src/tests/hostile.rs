//! Requests for what must not be served.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use pasque::testing::TestServer;
use rustix::fs::{CWD, Mode, mkfifoat};

use super::{Fixture, content};

const FOLLOW: &str = r#", "follow_symlinks": true"#;

/// Spellings of "the folder above" that some server has fallen for.
const CLIMBS: [&str; 22] = [
    "..",
    "%2e%2e",
    ".%2e",
    "%2E.",
    "%252e%252e",
    "%25%32%65%25%32%65",
    "..%2f",
    "..%2F..",
    "%2e%2e%2f",
    "..%5c",
    "..\\",
    "%2e%2e%5c",
    "%c0%ae%c0%ae",
    "%e0%80%ae%e0%80%ae",
    "%uff0e%uff0e",
    "..;",
    "..;x=y",
    "..%00",
    "..%20",
    "....",
    ".../...",
    "x/../..",
];

#[tokio::test]
async fn fs_04_the_missing_the_hidden_and_the_outside_are_404() {
    let fixture = Fixture::new().await;
    fixture.write(".env", "secret");
    fixture.write(".git/config", "secret");
    fixture.write("a/.htpasswd", "secret");
    for path in [
        "/files/missing",
        "/files/a/missing",
        "/files/.env",
        "/files/%2eenv",
        "/files/.git/config",
        "/files/.git/",
        "/files/a/.htpasswd",
        "/files/a/%2Ehtpasswd",
        "/files/../canary.txt",
        "/files/...",
    ] {
        assert_eq!(fixture.status(path).await, 404, "{path}");
    }
}

/// Root may read everything but a file of sysfs that nobody may.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn fs_04_a_file_without_permission_to_read_is_403() {
    let json = r#"{ "path": "files", "type": "Files", "root": "/sys/bus/platform" }"#;
    let server = TestServer::from_json(json).await;
    let response = server
        .request(pasque::Request::get("/files/drivers_probe"))
        .await;
    assert_eq!(response.status, 403);
}

/// Threat row 46.
#[tokio::test]
async fn fs_06_no_spelling_reaches_a_file_beside_the_root() {
    let fixture = Fixture::new().await;
    fixture.write("sub/file", "inside");
    let outside = fixture.outside().to_str().unwrap().to_owned();
    let mut corpus = Vec::new();
    for start in [
        "/files/",
        "/files/sub/",
        "/files//",
        "/files/./",
        "/files/sub%2f",
    ] {
        for climb in CLIMBS {
            for target in ["canary.txt", "%63anary.txt", "public/../canary.txt"] {
                corpus.push(format!("{start}{climb}/{target}"));
                corpus.push(format!("{start}{climb}/{climb}/{target}"));
                corpus.push(format!("{start}{climb}{target}"));
            }
        }
    }
    for prefix in [
        "/files/",
        "/files//",
        "/files/%2f",
        "/files/%2F%2f",
        "/files/file:",
        "/files/\\",
    ] {
        corpus.push(format!("{prefix}{outside}/canary.txt"));
        corpus.push(format!(
            "{prefix}{}%2fcanary.txt",
            outside.replace('/', "%2f")
        ));
    }
    corpus.push(format!("http://localhost/files/{outside}/canary.txt"));
    for byte in (0..0x20).chain([0x7f]) {
        corpus.push(format!("/files/sub%{byte:02x}/../../canary.txt"));
        corpus.push(format!("/files/sub/file%{byte:02x}"));
    }
    assert!(corpus.len() >= 300, "{}", corpus.len());
    for path in corpus {
        let response = fixture.get(&path).await;
        let status = response.status.as_u16();
        assert!(matches!(status, 400 | 404), "{path}: {status}");
        assert_eq!(content(response).await, b"", "{path}");
    }
    // The same fixture does serve what it may.
    assert_eq!(fixture.status("/files/sub/file").await, 200);
}

#[tokio::test]
async fn fs_07_empty_segments_are_refused() {
    let fixture = Fixture::new().await;
    fixture.write("etc/passwd", "inside");
    fixture.write("index.html", "inside");
    for path in [
        "/files//etc/passwd",
        "/files/etc//passwd",
        "/files//",
        "/files///",
        "/files/etc//",
    ] {
        assert_eq!(fixture.status(path).await, 404, "{path}");
    }
}

#[tokio::test]
async fn fs_08_links_are_followed_only_inside_the_root_and_only_if_configured() {
    for (keys, inside) in [("", 404), (FOLLOW, 200)] {
        let fixture = Fixture::with(keys).await;
        fixture.write("sub/file", "inside");
        let link = |target: &str, name: &str| symlink(target, fixture.path(name)).unwrap();
        let canary = fixture.outside().join("canary.txt");
        link(canary.to_str().unwrap(), "absolute");
        link("../canary.txt", "relative");
        link("sub/../../canary.txt", "winding");
        link("/", "slash");
        link("..", "up");
        link("/proc/self/root", "magic");
        link("/proc/self/cwd", "cwd");
        link("relative", "chain-1");
        for number in 2..10 {
            link(&format!("chain-{}", number - 1), &format!("chain-{number}"));
        }
        link("loop", "loop");
        link("missing", "dangling");
        for path in [
            "absolute",
            "relative",
            "winding",
            "slash/etc/passwd",
            "up/canary.txt",
            "magic/etc/passwd",
            "cwd/Cargo.toml",
            "chain-1",
            "chain-9",
            "loop",
            "dangling",
        ] {
            let response = fixture.get(&format!("/files/{path}")).await;
            assert_eq!(response.status, 404, "{path} with {keys:?}");
        }
        link("sub/file", "file");
        link("sub", "folder");
        for path in ["/files/file", "/files/folder/file"] {
            let response = fixture.get(path).await;
            assert_eq!(response.status, inside, "{path} with {keys:?}");
        }
    }
}

/// Threat row 48.
#[tokio::test]
async fn fs_09_what_is_no_file_is_404_at_once() {
    let fixture = Fixture::new().await;
    mkfifoat(CWD, fixture.path("fifo"), Mode::RWXU).unwrap();
    let _listener = UnixListener::bind(fixture.path("socket")).unwrap();
    fs::create_dir(fixture.path("folder")).unwrap();
    for path in [
        "/files/fifo",
        "/files/socket",
        "/files/folder",
        "/files/folder/",
        "/files/fifo/",
    ] {
        let start = Instant::now();
        assert_eq!(fixture.status(path).await, 404, "{path}");
        assert!(start.elapsed() < Duration::from_secs(1), "{path}");
    }
    let json = r#"{ "path": "dev", "type": "Files", "root": "/dev" }"#;
    let devices = TestServer::from_json(json).await;
    for path in ["/dev/null", "/dev/zero", "/dev/tty"] {
        let response = devices.request(pasque::Request::get(path)).await;
        assert_eq!(response.status, 404, "{path}");
    }
}
