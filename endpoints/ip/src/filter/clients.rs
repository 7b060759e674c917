//! [`Clients`]: which addresses are clients', and which of them are there now.

use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;

use super::{Place, Register};

/// The addresses that an endpoint has for its clients.
#[derive(Debug, Default)]
pub struct Clients {
    /// Where clients may be at all: the pools, and what clients may advertise.
    space: Vec<IpNetwork>,
    live: Arc<Register<()>>,
}

impl Clients {
    /// Nobody yet, somewhere in `space`.
    pub fn new(space: Vec<IpNetwork>) -> Self {
        Self {
            space,
            live: Arc::default(),
        }
    }

    /// Whether `address` is one that a client has or could have.
    #[inline]
    pub fn may_have(&self, address: IpAddr) -> bool {
        self.space.iter().any(|prefix| prefix.contains(address))
    }

    /// Whether a client has `address` now. Takes a lock.
    pub fn have(&self, address: IpAddr) -> bool {
        self.live.read().get(address).is_some()
    }

    /// A place for one more client.
    pub(crate) fn join(&self) -> Place<()> {
        self.live.join(())
    }
}
