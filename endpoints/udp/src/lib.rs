//! UDP tunnels over HTTP/3: CONNECT-UDP (RFC 9298), both ends.
//!
//! ```text
//!  local users          client                             server               target
//!  ───────────   ─────────────────────              ───────────────────        ────────
//!   datagram  →  Forward: one tunnel  →  context 0  → UdpEndpoint: one   →   datagram
//!   datagram  ←  per source address   ←  datagrams  ← connected socket   ←   datagram
//! ```
//!
//! [`UdpEndpoint`] is the server's side. It judges every address of a target by the egress policy,
//! connects a socket to one of them and moves datagrams in batches, with segmentation offload at
//! the socket too. [`Forward`] is the client's side: a local socket whose users each get a tunnel of
//! their own, as a NAT would do it.
//!
//! Nothing here retransmits, reorders or waits to make a bigger batch: what is lost, early or late
//! on the network is so in the tunnel as well.

mod candidates;
mod client;
mod context;
mod counters;
mod endpoint;
mod failure;
mod flow;
mod icmp;
mod idle;
mod inbox;
mod queue;
mod raw;
mod report;
mod socket;
mod target;
#[cfg(test)]
mod testing;
mod transmit;

pub use candidates::Candidates;
pub use client::{Forward, ForwardEvent, ForwardLimits, tunnel_request};
pub use counters::Counters;
pub use endpoint::UdpEndpoint;
pub use flow::UdpFlow;
pub use inbox::Inbox;
pub use socket::{Dial, Sink, SocketOptions, TargetSocket};
pub use target::{Host, Port, Target, TargetError};

/// The `:protocol` of a UDP tunnel's request (RFC 9298 §3.4).
pub const PROTOCOL: &str = "connect-udp";

/// The longest payload of a UDP datagram, in bytes: what the length field of IPv6 leaves for it
/// (RFC 9298 §5).
pub const MAX_PAYLOAD_LEN: usize = 65_527;
