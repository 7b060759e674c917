//! What the fuzz targets do with one input.
//!
//! libFuzzer drives them from `fuzz/fuzz_targets`, with `make fuzz`; the tests of this crate replay
//! the inputs in `fuzz/corpus`, without libFuzzer. A target fails by a panic.

use std::future::Future;

use pasque::config::ConfigError;
use tokio::runtime::{Builder, Runtime};

pub mod auth;
pub mod capsule_stream;
pub mod config;
pub mod datagram_prefix;
pub mod files;
pub mod ip_capsules;
pub mod ip_icmp;
pub mod ip_offload;
pub mod ip_packet;
pub mod ip_scope;
pub mod ip_session;
pub mod message;
pub mod policy;
pub mod revoked;
pub mod roster;
pub mod router;
pub mod structured;
pub mod template_expand;
pub mod template_match;
pub mod udp_target;
pub mod udp_tunnel;
pub mod users;
pub mod varint;

/// What a target does with one input.
pub type Run = fn(&[u8]);

/// Every target, by name.
pub const TARGETS: &[(&str, Run)] = &[
    ("auth", auth::run),
    ("capsule_stream", capsule_stream::run),
    ("config", config::run),
    ("datagram_prefix", datagram_prefix::run),
    ("files", files::run),
    ("ip_capsules", ip_capsules::run),
    ("ip_icmp", ip_icmp::run),
    ("ip_offload", ip_offload::run),
    ("ip_packet", ip_packet::run),
    ("ip_scope", ip_scope::run),
    ("ip_session", ip_session::run),
    ("message", message::run),
    ("policy", policy::run),
    ("revoked", revoked::run),
    ("roster", roster::run),
    ("router", router::run),
    ("structured", structured::run),
    ("template_expand", template_expand::run),
    ("template_match", template_match::run),
    ("udp_target", udp_target::run),
    ("udp_tunnel", udp_tunnel::run),
    ("users", users::run),
    ("varint", varint::run),
];

thread_local! {
    static RUNTIME: Runtime = Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
}

/// Waits for what a worker's runtime would run.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    RUNTIME.with(|runtime| runtime.block_on(future))
}

/// An error about a file is one line, and where it points is in the text.
fn assert_points_into(error: &ConfigError, text: &str) {
    let told = error.to_string();
    assert!(!told.contains(char::is_control), "{told:?}");
    let lines = text.split('\n').count();
    let (line, column) = (error.line(), error.column());
    assert!(line.is_none_or(|line| (1..=lines).contains(&line)));
    let len = line.and_then(|line| text.split('\n').nth(line - 1));
    let len = len.map_or(0, |line| line.chars().count());
    assert!(column.is_none_or(|column| (1..=len + 1).contains(&column)));
}
