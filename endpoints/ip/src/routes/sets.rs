//! Ranges as sets of addresses: union, difference, intersection.
//!
//! A _set_ here is what [`merge`] makes of ranges for any protocol: sorted, IPv4 before IPv6, and
//! disjoint.

use super::IpRange;

/// The ranges in the order of the wire, those of one protocol merged where they overlap or touch.
pub(super) fn merge(mut ranges: Vec<IpRange>) -> Vec<IpRange> {
    ranges.sort_unstable_by_key(IpRange::order);
    let mut merged: Vec<IpRange> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if let Some(joined) = last.joined(range) => *last = joined,
            _ => merged.push(range),
        }
    }
    merged
}

/// The ranges of `set` that have an address in common with `range`.
pub(super) fn overlapping(set: &[IpRange], range: IpRange) -> impl Iterator<Item = &IpRange> {
    let first = set.partition_point(|other| other.end() < range.start());
    set.iter()
        .skip(first)
        .take_while(move |other| other.start() <= range.end())
}

/// The parts of `range` that are outside of `set`.
pub(super) fn cut(range: IpRange, set: &[IpRange]) -> Vec<IpRange> {
    let mut pieces = Vec::new();
    let mut rest = Some(range);
    for hole in overlapping(set, range) {
        pieces.extend(rest.and_then(|rest| rest.before(hole.start())));
        rest = rest.and_then(|rest| rest.after(hole.end()));
    }
    pieces.extend(rest);
    pieces
}

/// The parts of `range` that are in `set`.
pub(super) fn clip(range: IpRange, set: &[IpRange]) -> impl Iterator<Item = IpRange> {
    overlapping(set, range).filter_map(move |other| range.common(*other))
}
