//! [`Limits`]: how much of everything one server, address, connection or stream may have.

use std::time::Duration;

use serde::Deserialize;

use super::keys::{milliseconds, within};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// The key `limits`: bounds on what peers may make this server hold or do.
///
/// The documented defaults are those of [`Limits::default`]. What a peer sees at each limit is in
/// the [configuration reference](super).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Connections at a time. Default 1000. Where a client was turned away for want of a place, connections
    /// that have asked for nothing for ten seconds are closed.
    #[serde(deserialize_with = "within::<1, 1_000_000, _, _>")]
    pub connections: usize,
    /// Memory that the server may hold, in MiB, before it sheds load. Default 512.
    #[serde(deserialize_with = "within::<32, { MIB }, _, _>")]
    pub memory_budget_mib: u64,
    /// Connections at a time from one address. Default 32.
    #[serde(deserialize_with = "within::<1, 1_000_000, _, _>")]
    pub connections_per_address: usize,
    /// Requests at a time on one connection, tunnels included. Default 100.
    #[serde(deserialize_with = "within::<1, 10_000, _, _>")]
    pub requests_per_connection: usize,
    /// Tunnels at a time on one connection. Default 100: a client opens one for every local program
    /// that uses a forward.
    #[serde(deserialize_with = "within::<1, 10_000, _, _>")]
    pub tunnels_per_connection: usize,
    /// Streams that a peer may reset on one connection within ten seconds. Default 100.
    #[serde(deserialize_with = "within::<1, 100_000, _, _>")]
    pub resets_per_10s: usize,
    /// Requests that one endpoint may be answering at a time, from all clients. Default 4096.
    #[serde(deserialize_with = "within::<1, 1_000_000, _, _>")]
    pub requests_per_endpoint: usize,
    /// How long an endpoint may take for its answer, which a client's content counts into; the key is
    /// in milliseconds. Default 60 s.
    #[serde(
        rename = "handle_timeout_ms",
        deserialize_with = "milliseconds::<100, 3_600_000, _>"
    )]
    pub handle_timeout: Duration,
    /// Panics within a minute after which an endpoint gets no requests until the minute is over.
    /// Default 100.
    #[serde(deserialize_with = "within::<1, 1_000_000, _, _>")]
    pub panics_per_minute: usize,
    /// Length of a request's header section, in bytes (RFC 9114 §4.2.2). Default 16 KiB.
    #[serde(deserialize_with = "within::<KIB, MIB, _, _>")]
    pub header_section_bytes: usize,
    /// Datagrams that are held on one connection for requests not seen yet. Default 16.
    #[serde(deserialize_with = "within::<0, 1024, _, _>")]
    pub early_datagrams: usize,
    /// Bytes of those datagrams. Default 32 KiB.
    #[serde(deserialize_with = "within::<0, { MIB }, _, _>")]
    pub early_datagram_bytes: usize,
    /// How long such a datagram is held; the key is in milliseconds. Default 500 ms.
    #[serde(
        rename = "early_datagram_ms",
        deserialize_with = "milliseconds::<0, 5_000, _>"
    )]
    pub early_datagram: Duration,
    /// How long a handshake may take; the key is in milliseconds. Default 10 s.
    #[serde(
        rename = "handshake_timeout_ms",
        deserialize_with = "milliseconds::<100, 60_000, _>"
    )]
    pub handshake_timeout: Duration,
    /// How long a connection may be silent; the key is in milliseconds. Default 30 s.
    #[serde(
        rename = "idle_timeout_ms",
        deserialize_with = "milliseconds::<1_000, 600_000, _>"
    )]
    pub idle_timeout: Duration,
    /// How long requests and tunnels may go on after the server was told to stop; the key is in
    /// milliseconds. Default 1 s. At most 4 s: supervisors kill what has not stopped after five.
    #[serde(rename = "drain_ms", deserialize_with = "milliseconds::<0, 4_000, _>")]
    pub drain: Duration,
}

impl Limits {
    /// A limit that was raised beyond what another one lets through: its key, and why.
    pub(super) fn contradiction(&self) -> Option<(&'static str, String)> {
        let (tunnels, requests) = (self.tunnels_per_connection, self.requests_per_connection);
        let is_raised = tunnels > Self::default().tunnels_per_connection;
        (is_raised && tunnels > requests).then(|| {
            let expected = format!("at most {requests}: every tunnel is a request");
            let advice = "raise \"requests_per_connection\" too";
            (
                "tunnels_per_connection",
                format!("found {tunnels}, expected {expected}; {advice}"),
            )
        })
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1000,
            memory_budget_mib: 512,
            connections_per_address: 32,
            requests_per_connection: 100,
            tunnels_per_connection: 100,
            resets_per_10s: 100,
            requests_per_endpoint: 4096,
            handle_timeout: Duration::from_secs(60),
            panics_per_minute: 100,
            header_section_bytes: 16 << 10,
            early_datagrams: 16,
            early_datagram_bytes: 32 << 10,
            early_datagram: Duration::from_millis(500),
            handshake_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(30),
            drain: Duration::from_secs(1),
        }
    }
}
