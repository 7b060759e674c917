//! [`Ranges`]: a set of numbers with long runs.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::block::{Block, host_mask};

/// A set of numbers, kept as ranges that neither overlap nor touch each other: from the first
/// number of each to its last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ranges(BTreeMap<u128, u128>);

impl Ranges {
    /// Adds the numbers from `first` to `last`.
    pub(crate) fn insert(&mut self, first: u128, last: u128) {
        let (mut first, mut last) = (first, last);
        // Whatever begins at or before the number after `last`, and ends at or after the one before
        // `first`, becomes part of the new range.
        while let Some((&start, &end)) = self.0.range(..=last.saturating_add(1)).next_back() {
            if end < first.saturating_sub(1) {
                break;
            }
            self.0.remove(&start);
            first = first.min(start);
            last = last.max(end);
        }
        self.0.insert(first, last);
    }

    /// Takes the numbers from `first` to `last` out, as far as they are in.
    pub(crate) fn remove(&mut self, first: u128, last: u128) {
        while let Some((&start, &end)) = self.0.range(..=last).next_back() {
            if end < first {
                break;
            }
            self.0.remove(&start);
            if start < first {
                self.0.insert(start, first - 1);
            }
            if end > last {
                self.0.insert(last + 1, end);
            }
        }
    }

    /// Whether all of them are in.
    pub(crate) fn contains(&self, first: u128, last: u128) -> bool {
        let range = self.0.range(..=first).next_back();
        range.is_some_and(|(_, &end)| last <= end)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many ranges there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// How many numbers there are.
    pub(crate) fn count(&self) -> u128 {
        self.0.iter().fold(0, |sum: u128, (first, last)| {
            sum.saturating_add(last - first).saturating_add(1)
        })
    }

    /// Takes the lowest range out.
    pub(crate) fn pop_first(&mut self) {
        self.0.pop_first();
    }

    /// A block that is wholly in: the first at or after `from`, or else the first of all. Looks at
    /// no more than `steps` ranges.
    pub(crate) fn find(&self, from: u128, host_bits: u8, steps: usize) -> Option<Block> {
        let around = self.0.range(..=from).next_back();
        let around = around.filter(|&(_, &last)| from <= last);
        let around = around.map(|(_, &last)| (from, last));
        let after = self.0.range((Bound::Excluded(from), Bound::Unbounded));
        let before = self.0.range(..=from);
        let others = after.chain(before).map(|(&first, &last)| (first, last));
        let ranges = around.into_iter().chain(others);
        ranges.take(steps).find_map(|(first, last)| {
            let mask = host_mask(host_bits);
            let block = Block::around(first.checked_add(mask)?, host_bits);
            (block.last() <= last).then_some(block)
        })
    }
}
