//! [`Victim`]: what is attacked.

use http::StatusCode;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::kit::{files, get, path, server, server_after, server_by, udp};
use crate::{EchoTarget, Server};

/// A server, what it serves, and what its tunnels reach.
#[derive(Debug)]
pub struct Victim {
    /// The server, on a free port of 127.0.0.1.
    pub server: Server,
    /// On 127.0.0.1, which its tunnels may reach.
    pub target: EchoTarget,
    /// What it serves as `/files`; `a.txt` is there.
    pub folder: TempDir,
}

impl Victim {
    /// One with the default limits.
    pub async fn start() -> Self {
        Self::with(json!({})).await
    }

    /// One with these limits.
    pub async fn with_limits(limits: Value) -> Self {
        Self::with(json!({ "limits": limits })).await
    }

    /// One with these keys in its configuration.
    pub async fn with(config: Value) -> Self {
        Self::after("", config).await
    }

    /// One that a shell starts after `setup`, such as a `ulimit`.
    pub async fn after(setup: &str, mut config: Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.txt"), "a").unwrap();
        let mut tunnels = udp(&["127.0.0.1"]);
        tunnels["anonymous"] = json!(true);
        let mut endpoints = vec![tunnels, files(folder.path())];
        endpoints.extend(
            config["endpoints"]
                .as_array()
                .into_iter()
                .flatten()
                .cloned(),
        );
        config["endpoints"] = endpoints.into();
        let server = match setup {
            "" => server(config).await,
            setup => server_by(&server_after(setup, folder.path()), config).await,
        };
        Self {
            server,
            target: EchoTarget::on_loopback().await.unwrap(),
            folder,
        }
    }

    /// That a client who means no harm is served, on a connection of its own.
    pub async fn assert_serves(&self, after: &str) {
        let connection = self.server.connect().await;
        let connection = connection.unwrap_or_else(|error| panic!("after {after}: {error}"));
        let answer = get(&connection, "/files/a.txt").await;
        assert_eq!(answer, (StatusCode::OK, b"a".to_vec()), "after {after}");
    }

    /// The path of a tunnel that is granted.
    pub fn tunnel_path(&self) -> String {
        path("127.0.0.1", self.target.address().port())
    }

    /// A sparse file of a gibibyte, as `/files/large`.
    pub fn add_large_file(&self) {
        let large = std::fs::File::create(self.folder.path().join("large")).unwrap();
        large.set_len(1 << 30).unwrap();
    }

    /// What its log holds so far, in lines.
    pub fn log_len(&mut self) -> usize {
        self.server.process().output().lines().count()
    }
}
