//! Lists against the plainest possible idea of them, over few addresses that lie close together.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

/// Protocols of ranges and packets: any, both kinds of ICMP, TCP, UDP.
const PROTOCOLS: [u8; 5] = [0, 1, 6, 17, 58];

/// Neighbours at both ends of each IP version's addresses, and somewhere between.
fn addresses(v6: bool) -> Vec<IpAddr> {
    const NEAR: u8 = 8;
    match v6 {
        false => [0, 0xc000_02fa, u32::MAX - 5]
            .into_iter()
            .flat_map(|first: u32| first..=first.saturating_add(NEAR.into()))
            .map(|bits| IpAddr::from(bits.to_be_bytes()))
            .collect(),
        true => [0, 0x2001_0db8 << 96 | 0xfffa, u128::MAX - 5]
            .into_iter()
            .flat_map(|first: u128| first..=first.saturating_add(NEAR.into()))
            .map(|bits| IpAddr::from(bits.to_be_bytes()))
            .collect(),
    }
}

fn all_packets() -> impl Iterator<Item = (IpAddr, u8)> {
    let addresses = [false, true].into_iter().flat_map(addresses);
    addresses.flat_map(|address| PROTOCOLS.map(|protocol| (address, protocol)))
}

fn ranges() -> impl Strategy<Value = IpRange> {
    let ends = any::<bool>().prop_flat_map(|v6| {
        let end = || select(addresses(v6));
        (end(), end())
    });
    (ends, select(&PROTOCOLS[..])).prop_map(|((one, two), protocol)| {
        IpRange::new(one.min(two), one.max(two), protocol).unwrap()
    })
}

fn scopes() -> impl Strategy<Value = Scope> {
    let prefix = any::<bool>().prop_flat_map(|v6| {
        let bits: u8 = if v6 { 128 } else { 32 };
        (
            select(addresses(v6)),
            prop_oneof![0..=bits, bits - 4..=bits],
        )
            .prop_map(|(address, len)| IpNetwork::new(address, len).unwrap())
    });
    let protocol = prop::option::of(select(&PROTOCOLS[1..]));
    (prop::option::of(vec(prefix, 0..4)), protocol)
        .prop_map(|(prefixes, protocol)| Scope::new(prefixes, protocol))
}

fn admits(ranges: &[IpRange], address: IpAddr, protocol: u8) -> bool {
    ranges.iter().any(|range| {
        let passes = [0, protocol].contains(&range.protocol()) || is_icmp(address, protocol);
        passes && range.contains(address)
    })
}

/// RFC 9484 §4.7.3 over all pairs, in the words of its text.
fn is_legal(ranges: &[IpRange]) -> bool {
    let pairs = ranges
        .iter()
        .enumerate()
        .flat_map(|(at, one)| ranges[at + 1..].iter().map(move |other| (one, other)));
    pairs.into_iter().all(|(one, other)| {
        if one.is_v6() != other.is_v6() {
            return !one.is_v6();
        }
        let overlap = one.start() <= other.end() && other.start() <= one.end();
        if one.protocol() != other.protocol() {
            return one.protocol() < other.protocol() && !(one.protocol() == 0 && overlap);
        }
        one.end() < other.start()
    })
}

proptest! {
    #[test]
    fn ip_33_35_own_lists_are_legal_and_admit_what_went_into_them(ranges in vec(ranges(), 0..10)) {
        let routes = Routes::new(ranges.iter().copied());
        prop_assert!(is_legal(&list(&routes)), "{routes:?}");
        prop_assert_eq!(Routes::try_from_wire(list(&routes)), Ok(routes.clone()));
        for (address, protocol) in all_packets() {
            prop_assert_eq!(
                routes.admits(address, protocol),
                admits(&ranges, address, protocol),
                "{}, {}", address, protocol
            );
        }
        // As few ranges as possible: neighbours of one protocol do not touch.
        for pair in list(&routes).windows(2) {
            prop_assert_eq!(pair[0].joined(pair[1]), None);
        }
    }

    #[test]
    fn ip_32_33_exactly_the_legal_lists_are_taken(mut ranges in vec(ranges(), 0..5), sort: bool) {
        if sort {
            ranges.sort_by_key(IpRange::order);
        }
        let found = Routes::try_from_wire(ranges.clone());
        prop_assert_eq!(found.is_ok(), is_legal(&ranges), "{:?}", found);
        if let Ok(routes) = found {
            prop_assert_eq!(&list(&routes), &ranges);
            for (address, protocol) in all_packets() {
                prop_assert_eq!(
                    routes.admits(address, protocol),
                    admits(&ranges, address, protocol)
                );
            }
        }
    }

    #[test]
    fn ip_32_legal_lists_pass_however_finely_they_are_split(
        ranges in vec(ranges(), 0..10),
        cuts in vec(select(addresses(false)), 0..10),
    ) {
        let whole = Routes::new(ranges);
        let split = |range: IpRange| {
            let mut pieces = vec![range];
            for cut in &cuts {
                pieces = pieces
                    .into_iter()
                    .flat_map(|piece| match piece.contains(*cut) {
                        true => [piece.before(*cut), piece.common(
                            IpRange::new(*cut, piece.end(), 0).unwrap(),
                        )],
                        false => [Some(piece), None],
                    })
                    .flatten()
                    .collect();
            }
            pieces
        };
        let pieces: Vec<_> = whole.iter().copied().flat_map(split).collect();
        let routes = Routes::try_from_wire(pieces.clone());
        prop_assert_eq!(routes.as_ref().map(list), Ok(pieces));
        prop_assert_eq!(Routes::new(list(&routes.unwrap())), whole);
    }

    #[test]
    fn ip_35_ranges_and_prefixes_say_the_same(
        v6: bool,
        one: prop::sample::Index,
        two: prop::sample::Index,
        wide: [u128; 2],
        choose: [bool; 2],
    ) {
        let near = addresses(v6);
        let end = |index: prop::sample::Index, bits: u128, wide: bool| match (wide, v6) {
            (false, _) => *index.get(&near),
            (true, false) => IpAddr::from((bits as u32).to_be_bytes()),
            (true, true) => IpAddr::from(bits.to_be_bytes()),
        };
        let (one, two) = (end(one, wide[0], choose[0]), end(two, wide[1], choose[1]));
        let range = IpRange::new(one.min(two), one.max(two), 17).unwrap();
        let prefixes: Vec<_> = range.prefixes().collect();

        let back = Routes::new(prefixes.iter().map(|prefix| IpRange::from_prefix(*prefix, 17)));
        prop_assert_eq!(list(&back), [range]);
        prop_assert_eq!(Routes::new([range]).prefixes().collect::<Vec<_>>(), prefixes.clone());
        for prefix in prefixes {
            prop_assert_eq!(prefix.network(), prefix.ip());
            // As few as possible: the prefix around each has an address that is not in the range.
            if let Some(len) = prefix.prefix().checked_sub(1) {
                let around = IpNetwork::new(prefix.ip(), len).unwrap();
                let is_inside =
                    range.contains(around.network()) && range.contains(around.broadcast());
                prop_assert!(!is_inside, "{} in {}", around, range);
            }
        }
    }

    #[test]
    fn ip_08_10_within_is_the_intersection(ranges in vec(ranges(), 0..8), scope in scopes()) {
        let routes = Routes::new(ranges.iter().copied());
        let within = routes.within(&scope);
        prop_assert_eq!(Routes::try_from_wire(list(&within)), Ok(within.clone()));
        for (address, protocol) in all_packets() {
            let in_both = routes.admits(address, protocol) && scope.admits(address, protocol);
            let admitted = within.admits(address, protocol);
            prop_assert!(!admitted || in_both, "{} {}", address, protocol);
            if is_icmp(address, protocol) {
                // Where the protocols differ, ICMP alone is in both, which is no route.
                let own = scope.protocol();
                let meet = |range: &IpRange| {
                    let numbers = [range.protocol(), own.unwrap_or(0)];
                    range.contains(address)
                        && (numbers[0] == numbers[1]
                            || numbers.contains(&0)
                            || numbers.contains(&protocol))
                };
                let any_meets = ranges.iter().any(meet);
                prop_assert_eq!(admitted, in_both && any_meets, "{} {}", address, protocol);
            } else {
                prop_assert_eq!(admitted, in_both, "{} {}", address, protocol);
            }
        }
    }

    #[test]
    fn ip_30_no_packet_is_in_two_disjoint_scopes(one in scopes(), two in scopes()) {
        prop_assert_eq!(one.is_disjoint(&two), two.is_disjoint(&one));
        let mut shared = all_packets()
            .filter(|(address, protocol)| {
                one.admits(*address, *protocol) && two.admits(*address, *protocol)
            });
        if one.is_disjoint(&two) {
            prop_assert_eq!(shared.next(), None);
        } else {
            // Each prefix has an address among these, so what they share has one, too.
            prop_assert!(shared.next().is_some(), "{:?} {:?}", one, two);
        }
    }
}
