//! [`LocalServer`]: a server inside the test's own process, for tests that look into it or write its
//! endpoint themselves.

use std::path::Path;
use std::thread::JoinHandle;

use pasque::config::ServerConfig;
use pasque_h3::Server;
use pasque_tests::netns::Namespace;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::oneshot;

/// Serves until it is dropped.
pub(crate) struct LocalServer {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    _folder: TempDir,
}

impl LocalServer {
    /// Serves `config` on port 443 of every address in `namespace`.
    pub(crate) fn start(namespace: &Namespace, mut config: Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        config["cert_file"] = json!("cert.pem");
        config["key_file"] = json!("key.pem");
        config["self_signed"] = json!(true);
        let file = folder.path().join("server.json");
        let config = ServerConfig::parse(&config.to_string(), Path::new(&file)).unwrap();
        let (stop, stopped) = oneshot::channel();
        let (started, ready) = std::sync::mpsc::channel();
        let serve = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let runtime = runtime.unwrap();
            runtime.block_on(async {
                let server = Server::bind(config, Some("[::]:443".parse().unwrap())).await;
                let server = server.unwrap_or_else(|error| panic!("{error}"));
                started.send(()).unwrap();
                let shutdown = async { drop(stopped.await) };
                server.run(shutdown).await.unwrap();
            });
        };
        // What a thread inside starts is inside.
        let thread = namespace.enter(|| Ok(std::thread::spawn(serve))).unwrap();
        ready.recv().expect("the server starts");
        Self {
            stop: Some(stop),
            thread: Some(thread),
            _folder: folder,
        }
    }
}

impl Drop for LocalServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // Its panic was printed; this may be another one's.
            let _ = thread.join();
        }
    }
}
