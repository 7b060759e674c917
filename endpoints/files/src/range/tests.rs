use proptest::prelude::*;

use super::*;

/// The selection of one range.
fn one(part: Range<u64>) -> Selection {
    Selection::Parts(Vec::from([part]))
}

#[test]
fn fs_23_numbers_beyond_64_bits_are_beyond_every_end() {
    let huge = "9".repeat(1000);
    assert_eq!(select(&format!("bytes=0-{huge}"), 10), one(0..10));
    assert_eq!(select(&format!("bytes=-{huge}"), 10), one(0..10));
    assert_eq!(
        select(&format!("bytes={huge}-"), u64::MAX),
        Selection::Unsatisfiable
    );
    let zeros = "0".repeat(1000);
    assert_eq!(select(&format!("bytes={zeros}3-{zeros}4"), 10), one(3..5));
}

#[test]
fn fs_24_touching_is_not_overlapping() {
    let touching = vec![0..2, 2..4, 4..6];
    assert_eq!(select("bytes=0-1,2-3,4-5", 10), Selection::Parts(touching));
    assert_eq!(select("bytes=0-2,2-4,4-5", 10), Selection::Whole);
}

#[test]
fn fs_24_what_is_beyond_the_end_counts_as_a_range_and_not_as_a_part() {
    assert_eq!(select("bytes=90-,0-1,91-", 10), one(0..2));
    let many = format!("bytes=0-1{}", ",90-".repeat(16));
    assert_eq!(select(&many, 10), Selection::Whole);
}

proptest! {
    #[test]
    fn fs_20_any_text_gives_ranges_within_the_file(
        field in "(bytes=)?[-0-9, a=\t]{0,60}",
        len in prop_oneof![0..20u64, any::<u64>()],
    ) {
        if let Selection::Parts(parts) = select(&field, len) {
            prop_assert!((1..=MAX_RANGES).contains(&parts.len()));
            for part in parts {
                prop_assert!(part.start < part.end && part.end <= len);
            }
        }
    }

    #[test]
    fn fs_21_one_valid_range_selects_what_it_says(
        first in 0..40u64,
        span in 0..40u64,
        len in 1..40u64,
    ) {
        let last = first + span;
        let expected: Vec<u64> = (0..len).filter(|at| (first..=last).contains(at)).collect();
        match select(&format!("bytes={first}-{last}"), len) {
            Selection::Parts(parts) => {
                prop_assert_eq!(parts.len(), 1);
                prop_assert_eq!(parts[0].clone().collect::<Vec<_>>(), expected);
            }
            other => {
                prop_assert_eq!(other, Selection::Unsatisfiable);
                prop_assert!(expected.is_empty());
            }
        }
    }

    #[test]
    fn fs_21_a_suffix_is_the_end_of_the_file(count in 1..40u64, len in 1..40u64) {
        let expected = len.saturating_sub(count)..len;
        prop_assert_eq!(select(&format!("bytes=-{count}"), len), one(expected));
    }
}
