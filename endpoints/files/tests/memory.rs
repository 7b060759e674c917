//! What downloads cost in memory. A process of its own, because it looks at the process's memory.

#![cfg(target_os = "linux")]
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::fs::{self, File};
use std::future::poll_fn;
use std::task::Poll;

use pasque::testing::TestServer;
use pasque::{Body, Request};
use pasque_files as _;

const MIB: u64 = 1 << 20;

/// Bytes of this process that are in memory.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

async fn server(file_len: u64) -> (TestServer, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    File::create(folder.path().join("sparse"))
        .unwrap()
        .set_len(file_len)
        .unwrap();
    let json = r#"{ "path": "files", "type": "Files", "root": "." }"#;
    (TestServer::from_json_in(json, folder.path()).await, folder)
}

async fn download(server: &TestServer) -> Body {
    let response = server.request(Request::get("/files/sparse")).await;
    assert_eq!(response.status, 200);
    response.body
}

#[tokio::test]
async fn fs_29_stalled_and_long_downloads_are_bounded_in_memory() {
    stalled().await;
    long().await;
}

/// A hundred clients that took 256 KiB, which the engine holds for them, and read no further.
async fn stalled() {
    let (server, _folder) = server(1024 * MIB).await;
    let before = resident();
    let mut held = Vec::new();
    let mut bodies = Vec::new();
    for _ in 0..100 {
        let mut body = download(&server).await;
        for _ in 0..4 {
            held.push(body.next().await.unwrap().unwrap());
        }
        bodies.push(body);
    }
    // Each is asked once more, so that a read is under way, and then left alone.
    for body in &mut bodies {
        poll_fn(|cx| {
            let _may_be_ready = body.poll_next(cx);
            Poll::Ready(())
        })
        .await;
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < 64 * MIB, "{} MiB", grown / MIB);
    assert_eq!(
        held.iter().map(|chunk| chunk.len()).sum::<usize>(),
        25 << 20
    );
}

/// Half a GiB out of a file of 4 GiB, and its last byte.
async fn long() {
    let (server, _folder) = server(4096 * MIB).await;
    let mut body = download(&server).await;
    let before = resident();
    let mut most = 0;
    for chunk in 0..8192 {
        assert_eq!(body.next().await.unwrap().unwrap().len(), 64 << 10);
        if chunk % 512 == 0 {
            most = most.max(resident().saturating_sub(before));
        }
    }
    assert!(most < 8 * MIB, "{} KiB", most >> 10);

    let mut request = Request::get("/files/sparse");
    request
        .headers
        .insert("range", "bytes=4294967295-".parse().unwrap());
    let response = server.request(request).await;
    assert_eq!(response.status, 206);
    assert_eq!(
        response.headers["content-range"],
        "bytes 4294967295-4294967295/4294967296"
    );
    assert_eq!(response.body.collect(10).await.unwrap(), [0][..]);
}
