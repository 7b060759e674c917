//! The engine against peers that do what no proper implementation would: every byte that they send
//! is written by hand, and everything that comes back is looked at as bytes.

mod capsules;
mod certificates;
mod client;
mod client_messages;
mod datagrams;
mod early;
mod endpoints;
mod isolation;
mod lifecycle;
mod limits;
mod listening;
mod malformed;
mod moving;
mod path_mtu;
mod peer;
mod requests;
mod settings;
mod transport;
mod tunnels;
mod wire;
mod workers;

use std::time::{Duration, Instant};

use pasque::config::Limits;

use crate::testing::{Conditions, TestServer};

/// How long a test waits before it fails.
#[global_allocator]
static ALLOCATOR: crate::CountingAllocator = crate::CountingAllocator;

const PATIENCE: Duration = Duration::from_secs(10);

/// How long a test listens before it says that nothing comes.
const SILENCE: Duration = Duration::from_millis(150);

/// Where everything is mounted that the tests ask for.
const SITE: [&str; 7] = [
    r#"{ "path": "/echo", "type": "Echo" }"#,
    r#"{ "path": "/gauge", "type": "Gauge" }"#,
    r#"{ "path": "/hold/{mark}", "type": "Hold" }"#,
    r#"{ "path": "/content/{what}", "type": "Content" }"#,
    r#"{ "path": "/speaker/{count}/{len}", "type": "Speaker" }"#,
    r#"{ "path": "/faulty/{how}", "type": "Faulty" }"#,
    r#"{ "path": "/metronome", "type": "Metronome" }"#,
];

/// A server with all of [`SITE`] on a network without faults.
async fn server() -> TestServer {
    server_with(Limits::default()).await
}

/// [`server`] under `limits`.
async fn server_with(limits: Limits) -> TestServer {
    TestServer::start(&SITE, Conditions::default(), limits).await
}

/// Waits until `condition` holds.
///
/// # Panics
/// When it does not in time.
async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
