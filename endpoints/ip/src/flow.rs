//! [`IpFlow`] and [`IpClientFlow`]: the data path of one tunnel, at either end.
//!
//! Both are one `Core`, which moves packets between the tunnel and an interface, and a `Role`, which
//! knows whose packets may pass and what the capsules mean.

mod client;
mod context;
mod core;
mod inward;
mod outward;
mod path;
mod server;
mod state;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Instant;

use pasque::{Capsule, Result};

pub use self::client::{ClientWants, IpClientFlow};
use self::core::Core;
pub use self::server::IpFlow;
pub(crate) use self::server::{ClientState, Seat, ServerTunnel};
pub use self::state::{TunnelFailure, TunnelState};
use crate::filter::{Counters, Rejection, Way};
use crate::mtu::{PathFailure, PathGuard};
use crate::packet::Header;
use crate::session::OutCapsule;

/// One end's part in a tunnel.
trait Role: Send + 'static {
    /// Judges a packet from the peer to the interface.
    fn outward(&mut self, packet: &[u8], header: &Header, now: Instant) -> Result<Way, Rejection>;

    /// Judges a packet from the interface to the peer.
    fn inward(&mut self, packet: &[u8], header: &Header) -> Result<(), Rejection>;

    /// Whether what goes [across](Way::Across) is forwarded by this program, which then lowers its hop
    /// limit, and not by the kernel, which does that itself (RFC 9484 §7.2).
    fn forwards_across(&self) -> bool;

    /// This end's own address in the tunnel.
    fn own_address(&self, v6: bool) -> Option<IpAddr>;

    /// The peer's own address, if this end knows it.
    fn peer_address_v6(&self) -> Option<Ipv6Addr>;

    /// Whether the tunnel has addresses of IPv6.
    fn has_ipv6(&self) -> bool;

    /// What is said before anything else.
    fn greeting(&mut self) -> Vec<OutCapsule>;

    /// Takes a capsule and appends what is to be answered. True if addresses or routes have changed.
    fn on_capsule(&mut self, capsule: Capsule<'_>, answers: &mut Vec<OutCapsule>) -> Result<bool>;

    /// Tells whoever keeps the interface what addresses, routes and MTU are now.
    fn report(&mut self, path: &PathGuard);

    /// The path carries no IPv6: the tunnel ends.
    fn on_path_failure(&mut self, failure: PathFailure);

    /// The interface is gone: the tunnel ends.
    fn on_device_failure(&mut self, error: &io::Error);

    /// The tunnel is over; this is what it has counted.
    fn on_end(&mut self, total: &Counters);

    /// Takes what was counted since it was told last.
    fn count(&mut self, recent: &Counters);
}
