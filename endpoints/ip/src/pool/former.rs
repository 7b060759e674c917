//! [`FormerBlocks`]: who had what.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Instant;

use super::block::Block;
use super::client_key::ClientKey;

/// The most records that a search looks at, so that it takes a bounded time whatever the clients
/// did before.
const MAX_STEPS: usize = 1024;

/// Who a block is kept in mind for.
#[derive(Clone, Debug)]
pub(crate) struct Owner {
    pub(crate) key: ClientKey,
    /// From then on it is nobody's any more.
    pub(crate) until: Instant,
}

impl Owner {
    fn is_stranger_to(&self, key: &ClientKey, now: Instant) -> bool {
        self.key != *key && now < self.until
    }
}

/// Free blocks that somebody had, in the order in which they were given back.
#[derive(Debug, Default)]
pub(crate) struct FormerBlocks {
    /// By a number that grows: the lowest was given back first.
    records: BTreeMap<u64, Record>,
    numbers: BTreeMap<Block, u64>,
    /// The numbers of each key's records.
    owned: HashMap<ClientKey, BTreeSet<u64>>,
    next: u64,
}

#[derive(Debug)]
struct Record {
    block: Block,
    owner: Option<Owner>,
}

impl FormerBlocks {
    /// Adds what was given back just now.
    pub(crate) fn push(&mut self, block: Block, owner: Option<Owner>) {
        self.remove(block);
        let number = self.next;
        self.next += 1;
        if let Some(owner) = &owner {
            let numbers = self.owned.entry(owner.key.clone()).or_default();
            numbers.insert(number);
        }
        self.numbers.insert(block, number);
        self.records.insert(number, Record { block, owner });
    }

    /// Takes a block out; false if it is not in.
    pub(crate) fn remove(&mut self, block: Block) -> bool {
        let Some(number) = self.numbers.remove(&block) else {
            return false;
        };
        let owner = self.records.remove(&number).and_then(|record| record.owner);
        if let Some(Owner { key, .. }) = owner
            && let Some(numbers) = self.owned.get_mut(&key)
        {
            numbers.remove(&number);
            if numbers.is_empty() {
                self.owned.remove(&key);
            }
        }
        true
    }

    /// The block of this size that `key` had last.
    pub(crate) fn of(&self, key: &ClientKey, host_bits: u8, now: Instant) -> Option<Block> {
        let numbers = self.owned.get(key)?.iter().rev().take(MAX_STEPS);
        let mut records = numbers.filter_map(|number| self.records.get(number));
        let record = records.find(|record| {
            let is_current = |owner: &Owner| now < owner.until;
            record.block.host_bits() == host_bits && record.owner.as_ref().is_some_and(is_current)
        });
        record.map(|record| record.block)
    }

    /// Whether `block` is in and not kept in mind for anybody but `key`.
    pub(crate) fn is_open_to(&self, key: &ClientKey, block: Block, now: Instant) -> bool {
        let number = self.numbers.get(&block);
        let record = number.and_then(|number| self.records.get(number));
        record.is_some_and(|record| {
            let owner = record.owner.as_ref();
            !owner.is_some_and(|owner| owner.is_stranger_to(key, now))
        })
    }

    /// The block that was given back first.
    pub(crate) fn oldest(&self) -> Option<Block> {
        self.records.values().next().map(|record| record.block)
    }

    /// The block of this size that was given back first.
    pub(crate) fn oldest_of(&self, host_bits: u8) -> Option<Block> {
        let mut blocks = self.records.values().map(|record| record.block);
        let mut blocks = blocks.by_ref().take(MAX_STEPS);
        blocks.find(|block| block.host_bits() == host_bits)
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// How many addresses the blocks cover.
    pub(crate) fn count(&self) -> u128 {
        self.records.values().fold(0, |sum: u128, record| {
            let block = record.block;
            sum.saturating_add(block.last() - block.first())
                .saturating_add(1)
        })
    }
}
