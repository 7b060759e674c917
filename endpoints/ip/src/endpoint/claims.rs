//! [`Claim`]: no two endpoints of a program may have the same addresses.

use std::sync::{Mutex, MutexGuard, PoisonError};

use ipnetwork::IpNetwork;
use pasque::{Error, Result};

/// The pools of all endpoints that run on interfaces of this host.
static CLAIMED: Mutex<Vec<IpNetwork>> = Mutex::new(Vec::new());

/// The right of one endpoint to its pools, until it is dropped.
#[derive(Debug)]
pub(super) struct Claim(Vec<IpNetwork>);

impl Claim {
    /// # Errors
    /// Another endpoint has some of these addresses.
    pub(super) fn new(pools: &[IpNetwork]) -> Result<Self> {
        let mut claimed = lock();
        for pool in pools {
            if let Some(other) = claimed.iter().find(|other| overlap(pool, other)) {
                return Err(Error::internal(format!(
                    "the address pool {pool} overlaps {other}, which another endpoint has"
                )));
            }
        }
        claimed.extend(pools);
        Ok(Self(pools.to_vec()))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        lock().retain(|claimed| !self.0.contains(claimed));
    }
}

fn lock() -> MutexGuard<'static, Vec<IpNetwork>> {
    CLAIMED.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn overlap(one: &IpNetwork, other: &IpNetwork) -> bool {
    one.contains(other.network()) || other.contains(one.network())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(pools: &[&str]) -> Result<Claim> {
        let pools: Vec<_> = pools.iter().map(|pool| pool.parse().unwrap()).collect();
        Claim::new(&pools)
    }

    #[test]
    fn a_pool_is_one_endpoints_as_long_as_that_lives() {
        let first = claim(&["10.9.0.1/24", "fd09::1/64"]).unwrap();
        let error = claim(&["10.10.0.1/24", "10.9.0.129/25"]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the address pool 10.9.0.129/25 overlaps 10.9.0.1/24, which another endpoint has"
        );
        // What was refused claims nothing.
        claim(&["10.10.0.1/24"]).unwrap();
        drop(first);
        claim(&["10.9.0.129/25", "fd09::1/64"]).unwrap();
    }
}
