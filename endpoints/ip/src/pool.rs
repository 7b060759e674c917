//! [`AddressPools`]: which client has which address (RFC 9484 §4.7.1).
//!
//! An endpoint has one pool per configured prefix. A tunnel takes one address of each that its
//! scope allows, before the request is answered, and may ask for more later. What it has is a
//! [`Lease`], which gives everything back when it is dropped: however the tunnel ends, its
//! addresses are free again, and no two live tunnels ever share one.
//!
//! A client that comes back gets the address that it had last, as long as that is remembered and
//! free (the endpoint's `lease_s`), so that the connections inside the tunnel live on. Other
//! clients get addresses that nobody had for the longest time. Given a [`LeaseFile`], the memory
//! outlives the server.
//!
//! ```
//! use std::time::Duration;
//!
//! use pasque_ip::pool::{AddressPools, ClientKey};
//! use pasque_ip::scope::Scope;
//!
//! let prefixes = ["10.76.0.1/24".parse()?, "fd76::1/64".parse()?];
//! let pools = AddressPools::new(&prefixes, Duration::from_secs(86_400), None)?;
//! let alice = ClientKey::of_identity("alice");
//! let lease = pools.lease(&alice, &Scope::everything())?;
//! let addresses = lease.addresses().to_vec();
//! assert_eq!(addresses, ["10.76.0.2/32".parse()?, "fd76::2/128".parse()?]);
//!
//! drop(lease);
//! let again = pools.lease(&alice, &Scope::everything())?;
//! assert_eq!(again.addresses(), addresses);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod addresses;
pub(crate) mod block;
mod client_key;
mod former;
mod lease;
mod prefix;
pub(crate) mod ranges;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;
use pasque::proxy_status::ProxyError;
use tokio::sync::watch;

use self::addresses::AddressPool;
use self::block::Family;
pub use self::client_key::ClientKey;
pub use self::lease::Lease;
use crate::leases::LeaseFile;
use crate::scope::Scope;

/// The longest time that addresses are kept in mind: no more than "for ever" for a server, and safe
/// to add to any clock.
const MAX_REUSE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// The address pools of one endpoint. Clones are the same pools.
#[derive(Clone)]
pub struct AddressPools(Arc<Shared>);

struct Shared {
    /// Locked when tunnels begin, ask and end, never for a packet.
    pools: Mutex<Vec<AddressPool>>,
    prefixes: Vec<IpNetwork>,
    /// Leases that are about to end, and how that is noticed.
    ending: Mutex<Vec<(ClientKey, watch::Receiver<()>)>>,
}

impl AddressPools {
    /// Pools of these prefixes. The host bits of each are the server's own address in it, such as
    /// `10.76.0.1/24`.
    ///
    /// For `reuse` after a client left, it gets its former addresses when it comes back and they
    /// are free; zero is for never. `file` keeps them across restarts.
    pub fn new(
        prefixes: &[IpNetwork],
        reuse: Duration,
        file: Option<LeaseFile>,
    ) -> Result<Self, PoolError> {
        prefix::check(prefixes)?;
        let reuse = reuse.min(MAX_REUSE);
        let file = file.map(Arc::new);
        let pool = |prefix: &IpNetwork| AddressPool::new(*prefix, reuse, file.clone());
        let mut pools: Vec<_> = prefixes.iter().map(pool).collect();
        let now = now();
        for entry in file.iter().flat_map(|file| file.take_entries(reuse)) {
            let until = now + reuse.saturating_sub(entry.age);
            for pool in &mut pools {
                pool.recall(&entry.network, &entry.client, until);
            }
        }
        Ok(Self(Arc::new(Shared {
            pools: Mutex::new(pools),
            prefixes: prefixes.to_vec(),
            ending: Mutex::default(),
        })))
    }

    /// The server's own address in each pool, with the pool's prefix length.
    pub fn own_addresses(&self) -> Vec<IpNetwork> {
        self.0.prefixes.clone()
    }

    /// One address of every pool whose IP version `scope` allows; of all of them or of none.
    ///
    /// The lease is empty if the scope allows no pool's IP version.
    pub fn lease(&self, client: &ClientKey, scope: &Scope) -> Result<Lease, Exhausted> {
        let is_allowed = |family| scope.allows_family(family == Family::V6);
        let mut pools = self.lock();
        let mut pools: Vec<_> = pools
            .iter_mut()
            .filter(|pool| is_allowed(pool.family()))
            .collect();
        if let Some(pool) = pools.iter().find(|pool| !pool.has_room()) {
            return Err(Exhausted {
                pool: pool.prefix(),
            });
        }
        let now = now();
        let addresses = pools
            .iter_mut()
            .filter_map(|pool| pool.take(client, 0, now));
        Ok(Lease::new(
            self.clone(),
            client.clone(),
            scope.clone(),
            addresses.collect(),
        ))
    }

    /// Waits for the leases of `client` that are [about to end](Lease::begin_end): who comes back at
    /// once wants the addresses that are in them.
    pub(crate) async fn settle(&self, client: &ClientKey) {
        let of_client = |(key, ended): &(ClientKey, watch::Receiver<()>)| {
            (key == client).then(|| ended.clone())
        };
        let ending: Vec<_> = self.ending().iter().filter_map(of_client).collect();
        for mut ended in ending {
            // An error: that is the end.
            while ended.changed().await.is_ok() {}
        }
    }

    /// How many addresses of each pool nobody has, for the log.
    pub fn free(&self) -> Vec<(IpNetwork, u128)> {
        let pools = self.lock();
        pools
            .iter()
            .map(|pool| (pool.prefix(), pool.room()))
            .collect()
    }

    /// A pool is whole after each of its methods, and none of them panics halfway: there is nothing
    /// to fear from a thread that panicked with the lock.
    fn lock(&self) -> MutexGuard<'_, Vec<AddressPool>> {
        self.0.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ending(&self) -> MutexGuard<'_, Vec<(ClientKey, watch::Receiver<()>)>> {
        self.0.ending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for AddressPools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AddressPools")
            .field(&self.0.prefixes)
            .finish()
    }
}

/// The time as tests may move it.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Every address of a pool is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the address pool {pool} is exhausted: every address is in use")]
pub struct Exhausted {
    /// The pool's prefix, as configured.
    pub pool: IpNetwork,
}

impl From<Exhausted> for pasque::Error {
    /// 503: addresses come back when others leave.
    fn from(exhausted: Exhausted) -> Self {
        Self::proxy(ProxyError::ConnectionLimitReached, exhausted.to_string())
    }
}

/// Why prefixes cannot be the pools of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError {
    /// There is none.
    #[error("found no address pool, expected at least one such as \"10.76.0.1/24\"")]
    NoPool,
    /// Two of them have addresses in common.
    #[error("the address pools {0} and {1} overlap")]
    Overlap(IpNetwork, IpNetwork),
    /// Larger than any network somebody could own.
    #[error("the address pool {0} is too large, expected a prefix length of 8 or more")]
    TooLarge(IpNetwork),
    /// Nothing is left for clients.
    #[error(
        "the address pool {prefix} has no room for clients, expected a prefix length of {longest} \
         or less"
    )]
    NoRoom {
        /// The pool.
        prefix: IpNetwork,
        /// The longest prefix length that has room, in bits.
        longest: u8,
    },
    /// No client could use the addresses.
    #[error(
        "the address pool {prefix} has {purpose} addresses, expected unicast addresses that can be \
         routed"
    )]
    Unusable {
        /// The pool.
        prefix: IpNetwork,
        /// What such addresses are for.
        purpose: &'static str,
    },
    /// The address written in the prefix is the network's, which no host can have.
    #[error(
        "the address in the pool {prefix} is its network address, expected the server's own \
         address such as {example}/{}", prefix.prefix()
    )]
    OwnAddress {
        /// The pool.
        prefix: IpNetwork,
        /// An address that would do.
        example: IpAddr,
    },
}
