//! [`AddressPool`]: the addresses of one prefix.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;

use super::block::{Block, Family, number};
use super::client_key::ClientKey;
use super::former::{FormerBlocks, Owner};
use super::ranges::Ranges;
use crate::leases::LeaseFile;

/// The most blocks that are kept in mind after they were given back. A large IPv6 pool would never
/// forget otherwise.
pub(super) const MAX_FORMER: usize = 65_536;

/// How much larger than a prefix the pool must be to give it out, in bits: 256 times.
const PREFIX_RESERVE_BITS: u8 = 8;

/// The most free ranges that are looked at for a prefix, so that a client's wish takes a bounded
/// time in a pool that is torn into pieces. A refusal is a legal answer.
const MAX_SEARCH_STEPS: usize = 1024;

/// The addresses of one prefix. Every one of them is always in exactly one of four places: never
/// given out at all (the prefix's own, which is subnet-router anycast in IPv6, and the server's),
/// `free`, `former` or `held`.
#[derive(Debug)]
pub(crate) struct AddressPool {
    /// As configured: the host bits are the server's own address.
    prefix: IpNetwork,
    /// Nobody had these, as far as is remembered.
    free: Ranges,
    /// Given back; taken again, the first given back first, once `free` is used up. So an address
    /// changes hands as late as possible: packets of its last holder's peers are still about.
    former: FormerBlocks,
    held: BTreeSet<Block>,
    /// Where the search in `free` begins: behind the single address that was given out last.
    cursor: u128,
    /// How long a client's addresses are kept in mind for it.
    reuse: Duration,
    file: Option<Arc<LeaseFile>>,
}

impl AddressPool {
    /// A pool that `prefix::check` agreed to.
    pub(super) fn new(prefix: IpNetwork, reuse: Duration, file: Option<Arc<LeaseFile>>) -> Self {
        let block = Block::of(&prefix);
        let own = number(prefix.ip());
        let mut free = Ranges::default();
        // The last one, too: a client has its address alone, on a link to nobody but the server, and
        // without a subnet there is no broadcast.
        free.insert(block.first() + 1, block.last());
        free.remove(own, own);
        Self {
            prefix,
            free,
            former: FormerBlocks::default(),
            held: BTreeSet::new(),
            cursor: block.first(),
            reuse,
            file,
        }
    }

    pub(super) fn prefix(&self) -> IpNetwork {
        self.prefix
    }

    pub(super) fn family(&self) -> Family {
        Family::of(&self.prefix)
    }

    /// Whether there is an address for one more client.
    pub(super) fn has_room(&self) -> bool {
        !self.free.is_empty() || self.former.len() > 0
    }

    /// How many addresses are not held.
    pub(super) fn room(&self) -> u128 {
        self.free.count().saturating_add(self.former.count())
    }

    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.former.len()
    }

    pub(super) fn contains(&self, network: &IpNetwork) -> bool {
        Family::of(network) == self.family() && Block::of(&self.prefix).contains(Block::of(network))
    }

    /// Whether prefixes of this size are given out: single addresses always, others if the pool is
    /// much larger.
    pub(super) fn may_give(&self, host_bits: u8) -> bool {
        let own_bits = Block::of(&self.prefix).host_bits();
        host_bits == 0 || host_bits.saturating_add(PREFIX_RESERVE_BITS) <= own_bits
    }

    /// Takes a block of a size that the pool gives: the one that the client had last, or else one
    /// that nobody had for the longest time.
    pub(super) fn take(
        &mut self,
        key: &ClientKey,
        host_bits: u8,
        now: Instant,
    ) -> Option<IpNetwork> {
        let block = self.choose(key, host_bits, now)?;
        Some(self.hold(block, key))
    }

    /// Takes just `wanted`, unless it is in use, reserved or kept in mind for another client.
    pub(super) fn take_exactly(
        &mut self,
        key: &ClientKey,
        wanted: &IpNetwork,
        now: Instant,
    ) -> Option<IpNetwork> {
        let block = Block::of(wanted);
        let is_given = self.contains(wanted) && self.may_give(block.host_bits());
        let is_open = self.free.contains(block.first(), block.last())
            || self.former.is_open_to(key, block, now);
        (is_given && is_open).then(|| self.hold(block, key))
    }

    /// Takes back what one of the two above gave; false if it did not or has it back already.
    pub(super) fn give_back(&mut self, network: &IpNetwork, key: &ClientKey, now: Instant) -> bool {
        let block = Block::of(network);
        if !self.contains(network) || !self.held.remove(&block) {
            return false;
        }
        self.remember(block, key, now + self.reuse);
        if let Some(file) = self.file() {
            file.record_end(*network, key);
        }
        true
    }

    /// Keeps in mind until `until` that `key` had `network`, before the pool gives out anything.
    /// What the pool would not give out, or another client had later, is ignored.
    pub(super) fn recall(&mut self, network: &IpNetwork, key: &ClientKey, until: Instant) {
        let block = Block::of(network);
        if self.contains(network)
            && self.may_give(block.host_bits())
            && self.free.contains(block.first(), block.last())
        {
            self.free.remove(block.first(), block.last());
            self.remember(block, key, until);
        }
    }

    fn choose(&mut self, key: &ClientKey, host_bits: u8, now: Instant) -> Option<Block> {
        if let Some(block) = self.former.of(key, host_bits, now) {
            return Some(block);
        }
        if let Some(block) = self.free.find(self.cursor, host_bits, MAX_SEARCH_STEPS) {
            if host_bits == 0 {
                // Prefixes do not move it, so that single addresses stay close together.
                self.cursor = block.last().saturating_add(1);
            }
            return Some(block);
        }
        if host_bits > 0 {
            // Not worth forgetting whole rows of clients for.
            return self.former.oldest_of(host_bits);
        }
        let oldest = self.former.oldest()?;
        self.forget(oldest);
        self.free.find(oldest.first(), 0, MAX_SEARCH_STEPS)
    }

    fn hold(&mut self, block: Block, key: &ClientKey) -> IpNetwork {
        if !self.former.remove(block) {
            self.free.remove(block.first(), block.last());
        }
        self.held.insert(block);
        let network = block.to_network(self.family());
        if let Some(file) = self.file() {
            file.record_start(network, key);
        }
        network
    }

    fn remember(&mut self, block: Block, key: &ClientKey, until: Instant) {
        let key = key.clone();
        let owner = (!self.reuse.is_zero()).then_some(Owner { key, until });
        self.former.push(block, owner);
        if self.former.len() > MAX_FORMER
            && let Some(oldest) = self.former.oldest()
        {
            self.forget(oldest);
        }
    }

    /// From now on `block` is like one that nobody ever had.
    fn forget(&mut self, block: Block) {
        self.former.remove(block);
        self.free.insert(block.first(), block.last());
        if let Some(file) = self.file() {
            file.remove(block.to_network(self.family()));
        }
    }

    /// Where to write down who has what, if it is to be remembered at all.
    fn file(&self) -> Option<&LeaseFile> {
        self.file.as_deref().filter(|_| !self.reuse.is_zero())
    }
}
