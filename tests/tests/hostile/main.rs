//! Clients that mean harm, or that are broken: none of them ends more than its own connection, and
//! others are served meanwhile.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by a panic"
)]

#[path = "../common/mod.rs"]
mod common;
mod floods;
mod garbage;
mod handshakes;
mod malformed;
mod peer;
mod streams;

use http::StatusCode;
use pasque_tests::{EchoTarget, Server};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::RwLock;

use crate::common::{files, get, server, udp};

/// Held for writing by tests that measure, for reading by the others.
static QUIET: RwLock<()> = RwLock::const_new(());

/// A server, what it serves, and what its tunnels reach.
struct Victim {
    server: Server,
    target: EchoTarget,
    folder: TempDir,
}

impl Victim {
    async fn start() -> Self {
        Self::with_limits(json!({})).await
    }

    async fn with_limits(limits: Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.txt"), "a").unwrap();
        let endpoints = json!([udp(&["127.0.0.1"]), files(folder.path())]);
        let server = server(json!({ "limits": limits, "endpoints": endpoints })).await;
        Self {
            server,
            target: EchoTarget::on_loopback().await.unwrap(),
            folder,
        }
    }

    /// That a client who means no harm is served, on a connection of its own.
    async fn assert_serves(&self, after: &str) {
        let connection = self.server.connect().await;
        let connection = connection.unwrap_or_else(|error| panic!("after {after}: {error}"));
        let answer = get(&connection, "/files/a.txt").await;
        assert_eq!(answer, (StatusCode::OK, b"a".to_vec()), "after {after}");
    }

    /// The path of a tunnel that is granted.
    fn tunnel_path(&self) -> String {
        crate::common::path("127.0.0.1", self.target.address().port())
    }
}
