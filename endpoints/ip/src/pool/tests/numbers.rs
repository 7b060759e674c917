use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::pool::block::Block;
use crate::pool::ranges::Ranges;

/// Numbers at both ends, where arithmetic overflows first.
fn number() -> impl Strategy<Value = u128> {
    prop_oneof![0..64u128, (u128::MAX - 63)..=u128::MAX]
}

fn ends((a, b): (u128, u128)) -> (u128, u128) {
    (a.min(b), a.max(b))
}

/// The same set, one by one. One number stands for all those between the ends, where no range ends.
fn members((first, last): (u128, u128)) -> impl Iterator<Item = u128> {
    const BETWEEN: u128 = 1 << 64;
    let all = (0..64).chain([BETWEEN]).chain((u128::MAX - 63)..=u128::MAX);
    all.filter(move |number| (first..=last).contains(number))
}

proptest! {
    #[test]
    fn ranges_are_a_set(
        operations in vec((any::<bool>(), (number(), number()).prop_map(ends)), 0..40),
    ) {
        let mut ranges = Ranges::default();
        let mut model = BTreeSet::new();
        for (is_insert, (first, last)) in operations {
            if is_insert {
                ranges.insert(first, last);
                model.extend(members((first, last)));
            } else {
                ranges.remove(first, last);
                model.retain(|number| !(first..=last).contains(number));
            }
            for member in members((0, u128::MAX)) {
                prop_assert_eq!(ranges.contains(member, member), model.contains(&member));
            }
            prop_assert_eq!(ranges.is_empty(), model.is_empty());
        }
    }

    #[test]
    fn the_first_block_behind_a_place_is_found(
        operations in vec((any::<bool>(), (0..64u128, 0..64u128).prop_map(ends)), 0..20),
        from in 0..64u128,
        host_bits in 0..4u8,
    ) {
        let mut ranges = Ranges::default();
        for (is_insert, (first, last)) in operations {
            match is_insert {
                true => ranges.insert(first, last),
                false => ranges.remove(first, last),
            }
        }
        let fits = |number: &u128| {
            let block = Block::around(*number, host_bits);
            block.first() == *number && ranges.contains(block.first(), block.last())
        };
        let expected = (from..64).chain(0..64).find(fits);
        let found = ranges.find(from, host_bits, usize::MAX);
        prop_assert_eq!(found, expected.map(|first| Block::around(first, host_bits)));
    }

    #[test]
    fn blocks_are_prefixes(address: IpAddr, length in 0..=128u8) {
        let length = if address.is_ipv4() { length % 33 } else { length };
        let network = IpNetwork::new(address, length).unwrap();
        let block = Block::of(&network);
        let expected = IpNetwork::new(network.network(), length).unwrap();
        prop_assert_eq!(block.to_network(Family::of(&network)), expected);
        let last = Block::around(block.last(), 0).to_network(Family::of(&network));
        prop_assert_eq!(last.ip(), network.broadcast());
    }
}

#[test]
fn ranges_that_touch_become_one() {
    let mut ranges = Ranges::default();
    ranges.insert(0, 1);
    ranges.insert(4, 5);
    assert_eq!((ranges.len(), ranges.count()), (2, 4));
    ranges.insert(2, 3);
    assert_eq!((ranges.len(), ranges.count()), (1, 6));
    ranges.insert(0, u128::MAX);
    assert_eq!(
        (ranges.len(), ranges.count()),
        (1, u128::MAX),
        "as far as the type goes"
    );
}
