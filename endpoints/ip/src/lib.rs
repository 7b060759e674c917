//! IP tunnels over HTTP/3: CONNECT-IP (RFC 9484), both ends.
//!
//! ```text
//!  host behind client                client                              server               network
//!  ──────────────────   ────────────────────────────        ────────────────────────────     ────────
//!                       kernel                  capsules                          kernel
//!   IP packet  →  route → TUN → IpClientFlow →  ════════  →  IpFlow → filter → TUN → route  →  packet
//!   IP packet  ←        ← TUN ← filter ←        context 0  ←  IpFlow ← filter ← TUN ←       ←  packet
//!                                               datagrams
//! ```
//!
//! [`IpEndpoint`] is the server's side. It gives each client addresses of its pools, says which
//! routes it offers, and holds every packet against the client's addresses, the scope that was asked
//! for, those routes and the egress policy. [`client::IpTunnel`] is the client's side: an interface
//! of its host whose packets go to the server. In both, the kernel is the router, and lowers hop
//! limits; this crate forwards only between clients that share an interface.
//!
//! What is about bytes and rules knows no socket, no clock and no runtime, and is tested without
//! any: [`capsules`], [`routes`], [`scope`], [`packet`], [`icmp`], [`session`], [`filter`], [`mtu`]. The
//! edges are [`device`], where packets enter and leave the host, and [`link`], which sets addresses
//! and routes. [`flow`] joins the two.
//!
//! Nothing is fragmented or retransmitted here. A packet that no datagram carries is dropped, and its
//! sender told (RFC 9484 §10.1). What a host sends faster than the tunnel carries it waits for a while,
//! each flow for itself.

mod backlog;
pub mod capsules;
pub mod checksum;
pub mod client;
pub mod device;
mod doctor;
mod endpoint;
pub mod filter;
pub mod flow;
mod held;
pub mod icmp;
pub mod leases;
pub mod link;
pub mod mtu;
pub mod packet;
pub mod pool;
pub mod routes;
pub mod scope;
pub mod session;
mod shared;

pub use endpoint::IpEndpoint;
pub use scope::PROTOCOL;
