//! What may pass: one verdict per packet, each way (RFC 9484 §4.6, §4.7.3, §7.2, §11).
//!
//! *Outward* is away from the tunnel, from the peer to this end's interface; *inward* is into it.
//!
//! ```text
//!            outward                                     inward
//!  peer → source is the peer's → destination    interface → destination is the peer's → source in
//!         in scope, routes and policy → interface           scope and routes → peer
//! ```
//!
//! Nothing here holds a packet, allocates for one, or knows what time it is.

mod client;
mod clients;
mod counters;
mod policy;
mod prefix_map;
mod register;
mod server;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv6Addr};

pub use self::client::ClientFilter;
pub use self::clients::Clients;
pub use self::counters::{Counters, DropReason, SharedCounters, Tally};
pub(crate) use self::prefix_map::PrefixMap;
pub(crate) use self::register::{Place, Register};
pub use self::server::{ServerFilter, ServerRules};
use crate::icmp::{self, Problem};
use crate::packet::{self, Header};

/// Every node of a link, which here are the two ends of a tunnel (RFC 4291 §2.7.1).
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// Where a packet that may pass goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To the interface.
    On,
    /// To another client, by way of the interface or of whoever forwards between clients.
    Across,
    /// To this end itself, which answers an echo and nothing else (RFC 9484 §7.2).
    Here,
}

/// Why a packet is dropped, and what its sender is told, if anything (RFC 9484 §7.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// For the counters.
    pub reason: DropReason,
    /// For the sender.
    pub problem: Option<Problem>,
}

impl DropReason {
    /// Dropped without a word.
    pub const fn silently(self) -> Rejection {
        Rejection {
            reason: self,
            problem: None,
        }
    }

    /// Dropped, and its sender told why.
    pub const fn telling(self, problem: Problem) -> Rejection {
        Rejection {
            reason: self,
            problem: Some(problem),
        }
    }
}

/// Refuses what never leaves its link, and so never enters or leaves a tunnel (RFC 9484 §7.1, §7.2),
/// but for what is sent to [`ALL_NODES`] if that is meant to come here.
#[inline]
fn check_link(packet: &[u8], header: &Header, all_nodes_are_here: bool) -> Result<(), Rejection> {
    if icmp::is_neighbour_discovery(packet, header) {
        return Err(DropReason::NeighbourDiscovery.silently());
    }
    let to_here = all_nodes_are_here && header.destination == IpAddr::V6(ALL_NODES);
    let leaves_link = !packet::is_link_local(header.source)
        && (to_here || !packet::is_link_local(header.destination));
    match leaves_link {
        true => Ok(()),
        false => Err(DropReason::LinkLocal.silently()),
    }
}
