use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;

/// RFC 1071 §1, word by word.
fn naive(bytes: &[u8]) -> u16 {
    let sum = bytes.chunks(2).fold(0_u16, |sum, pair| {
        let word = u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]);
        let (sum, carry) = sum.overflowing_add(word);
        sum + u16::from(carry)
    });
    !sum
}

#[test]
fn the_example_of_rfc_1071() {
    // §3: the sum is ddf2.
    assert_eq!(
        checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]),
        !0xddf2
    );
    assert_eq!(checksum(&[]), 0xffff);
    assert_eq!(checksum(&[0x12]), !0x1200);
}

#[test]
fn the_example_of_rfc_1624() {
    // §4: the case that the older equation of RFC 1141 turned into ffff.
    assert_eq!(update(0xdd2f, 0x5555, 0x3285), 0x0000);
}

#[test]
fn a_carry_of_a_carry_is_added_in_again() {
    assert_eq!(update(0x0000, 0x0000, 0x0001), 0xfffe);
    assert_eq!(Sum(0xffff_ffff_0001_0000).fold(), 0x0001);
    assert_eq!(Sum(u64::MAX).fold(), 0xffff);
    assert_eq!(Sum(0).fold(), 0);
}

#[test]
fn carries_of_the_longest_packet_are_kept() {
    for len in [65_535, 65_534, 65_528, 65_504] {
        let bytes = vec![0xff; len];
        assert_eq!(checksum(&bytes), naive(&bytes), "{len} bytes");
    }
}

#[test]
fn a_pseudo_header_is_that_of_its_version() {
    let (a, b) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(198, 51, 100, 2));
    let written = [192, 0, 2, 1, 198, 51, 100, 2, 0, 17, 0x12, 0x34];
    let sum = Sum::pseudo_header(a.into(), b.into(), 17, 0x1234);
    assert_eq!(sum.checksum(), naive(&written));

    let (a, b) = ([0x20; 16], [0xfd; 16]);
    let mut written = [a, b].concat();
    written.extend([0, 1, 0x23, 0x45, 0, 0, 0, 58]);
    let sum = Sum::pseudo_header(
        Ipv6Addr::from(a).into(),
        Ipv6Addr::from(b).into(),
        58,
        0x12345,
    );
    assert_eq!(sum.checksum(), naive(&written));
}

proptest! {
    #[test]
    fn it_is_the_checksum_of_the_words_one_by_one(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        cut in 0..150_usize,
    ) {
        prop_assert_eq!(checksum(&bytes), naive(&bytes));
        let (head, tail) = bytes.split_at((cut * 2).min(bytes.len() / 2 * 2));
        prop_assert_eq!(Sum::default().with(head).with(tail).checksum(), naive(&bytes));
    }

    #[test]
    fn a_sum_of_any_size_is_folded_without_loss(sum: u64) {
        let folded = u64::from(Sum(sum).fold());
        prop_assert_eq!(folded % 0xffff, sum % 0xffff);
        prop_assert_eq!(folded == 0, sum == 0);
    }

    #[test]
    fn an_update_is_what_a_new_sum_gives(
        mut bytes in proptest::collection::vec(any::<u8>(), 2..60),
        at in 0..29_usize,
        new: u16,
    ) {
        let at = at * 2 % (bytes.len() / 2 * 2);
        let before = checksum(&bytes);
        let old = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        bytes[at..at + 2].copy_from_slice(&new.to_be_bytes());
        // All zeros sum to zero; ones' complement arithmetic gets to the other zero, which no header
        // with a version in it can.
        prop_assume!(bytes.iter().any(|byte| *byte != 0));
        prop_assert_eq!(update(before, old, new), checksum(&bytes));
    }
}
