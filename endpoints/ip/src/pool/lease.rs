//! [`Lease`]: what one tunnel holds.

use ipnetwork::IpNetwork;
use tokio::sync::watch;

use super::block::{Block, Family};
use super::{AddressPools, ClientKey, now};
use crate::scope::Scope;

/// The addresses and prefixes that one tunnel has, given back when this is dropped.
#[derive(Debug)]
#[must_use = "the addresses are given back when the lease is dropped"]
pub struct Lease {
    pools: AddressPools,
    client: ClientKey,
    scope: Scope,
    addresses: Vec<IpNetwork>,
    /// Dropped after the addresses were given back.
    ending: Option<watch::Sender<()>>,
}

impl Lease {
    pub(super) fn new(
        pools: AddressPools,
        client: ClientKey,
        scope: Scope,
        addresses: Vec<IpNetwork>,
    ) -> Self {
        Self {
            pools,
            client,
            scope,
            addresses,
            ending: None,
        }
    }

    /// Says that the lease will be dropped soon, by another thread: the client, if it comes back in the
    /// meantime, had better [wait](AddressPools::settle).
    pub(crate) fn begin_end(&mut self) {
        let (sender, ended) = watch::channel(());
        let mut ending = self.pools.ending();
        ending.retain(|(_, earlier)| earlier.has_changed().is_ok());
        ending.push((self.client.clone(), ended));
        drop(ending);
        self.ending = Some(sender);
    }

    /// What the tunnel has now, in the order in which it was given.
    pub fn addresses(&self) -> &[IpNetwork] {
        &self.addresses
    }

    /// Takes one more address or prefix, of the length of `wanted` (RFC 9484 §4.7.2).
    ///
    /// An all-zero address has no preference. Otherwise it is `wanted` itself if that is free and
    /// not kept in mind for another client, or else another one. `None` if there is none, if the
    /// scope does not allow the IP version, or if no pool gives prefixes of this length: only pools
    /// at least 256 times larger do, except for single addresses.
    pub fn request(&mut self, wanted: IpNetwork) -> Option<IpNetwork> {
        let preferred = match wanted.ip().is_unspecified() {
            true => None,
            false => self.take_exactly(&wanted),
        };
        let given = preferred.or_else(|| self.take_any(&wanted))?;
        self.addresses.push(given);
        Some(given)
    }

    /// Takes just `wanted` in place of `old`; false, and nothing changes, if it cannot be had.
    pub fn replace(&mut self, old: IpNetwork, wanted: IpNetwork) -> bool {
        let Some(index) = self.addresses.iter().position(|held| *held == old) else {
            return false;
        };
        let Some(given) = self.take_exactly(&wanted) else {
            return false;
        };
        if let Some(held) = self.addresses.get_mut(index) {
            *held = given;
        }
        self.give_back(&old);
        true
    }

    /// Gives one of [`addresses`](Self::addresses) back; false if it is none of them.
    pub fn release(&mut self, network: IpNetwork) -> bool {
        let Some(index) = self.addresses.iter().position(|held| *held == network) else {
            return false;
        };
        self.addresses.remove(index);
        self.give_back(&network);
        true
    }

    fn take_exactly(&self, wanted: &IpNetwork) -> Option<IpNetwork> {
        self.allows(wanted).then_some(())?;
        let now = now();
        let mut pools = self.pools.lock();
        pools
            .iter_mut()
            .find_map(|pool| pool.take_exactly(&self.client, wanted, now))
    }

    fn take_any(&self, wanted: &IpNetwork) -> Option<IpNetwork> {
        self.allows(wanted).then_some(())?;
        let host_bits = Block::of(wanted).host_bits();
        let now = now();
        let mut pools = self.pools.lock();
        pools
            .iter_mut()
            .filter(|pool| pool.family() == Family::of(wanted) && pool.may_give(host_bits))
            .find_map(|pool| pool.take(&self.client, host_bits, now))
    }

    fn allows(&self, wanted: &IpNetwork) -> bool {
        self.scope.allows_family(wanted.is_ipv6())
    }

    fn give_back(&self, network: &IpNetwork) {
        let now = now();
        let mut pools = self.pools.lock();
        for pool in pools.iter_mut() {
            if pool.give_back(network, &self.client, now) {
                return;
            }
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        for network in std::mem::take(&mut self.addresses) {
            self.give_back(&network);
        }
    }
}
