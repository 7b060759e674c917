//! [`Numbers`]: which numbers of interfaces are in use.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Numbers from 0 on, of which the lowest free one is taken.
#[derive(Clone, Debug, Default)]
pub(super) struct Numbers(Arc<Mutex<BTreeSet<u32>>>);

impl Numbers {
    pub(super) fn take(&self) -> Number {
        let mut taken = self.lock();
        let lowest_free = (0..).zip(taken.iter()).find(|(n, taken)| n != *taken);
        let number = lowest_free.map_or(taken.len() as u32, |(n, _)| n);
        taken.insert(number);
        Number {
            number,
            numbers: self.clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A number in use, free again when this is dropped.
#[derive(Debug)]
pub(super) struct Number {
    number: u32,
    numbers: Numbers,
}

impl Number {
    pub(super) fn get(&self) -> u32 {
        self.number
    }
}

impl Drop for Number {
    fn drop(&mut self) {
        self.numbers.lock().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_number_is_taken_and_used_again() {
        let numbers = Numbers::default();
        let taken: Vec<_> = (0..4).map(|_| numbers.take()).collect();
        assert_eq!(Vec::from_iter(taken.iter().map(Number::get)), [0, 1, 2, 3]);
        let [zero, one, two, three] = <[_; 4]>::try_from(taken).unwrap();
        drop(two);
        drop(zero);
        let reused = [numbers.take(), numbers.take(), numbers.take()];
        assert_eq!(reused.each_ref().map(Number::get), [0, 2, 4]);
        drop((one, three));
    }
}
