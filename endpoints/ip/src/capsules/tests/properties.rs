//! What holds for every value.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// The shortest entries, in bytes: Request ID and IPv4 prefix, IPv4 range.
const MIN_ADDRESS_LEN: usize = 7;
const MIN_RANGE_LEN: usize = 10;

fn prefixes() -> impl Strategy<Value = IpNetwork> {
    let v4 = (any::<Ipv4Addr>(), 0..=32_u8).prop_map(|(address, len)| (address.into(), len));
    let v6 = (any::<Ipv6Addr>(), 0..=128_u8).prop_map(|(address, len)| (address.into(), len));
    prop_oneof![v4, v6].prop_map(|(address, len): (IpAddr, u8)| {
        let network = IpNetwork::new(address, len).unwrap().network();
        IpNetwork::new(network, len).unwrap()
    })
}

fn request_ids() -> impl Strategy<Value = u64> {
    prop_oneof![0..4_u64, 0..=pasque::wire::varint::MAX]
}

fn ranges() -> impl Strategy<Value = IpRange> {
    let v4 = any::<[Ipv4Addr; 2]>().prop_map(|ends| ends.map(IpAddr::from));
    let v6 = any::<[Ipv6Addr; 2]>().prop_map(|ends| ends.map(IpAddr::from));
    let protocol = prop_oneof![Just(0), Just(6), Just(17), any::<u8>()];
    (prop_oneof![v4, v6], protocol).prop_map(|([one, two], protocol)| {
        IpRange::new(one.min(two), one.max(two), protocol).unwrap()
    })
}

/// Bytes that are now and then nearly a value: noise alone hardly gets past the first entry.
fn values() -> impl Strategy<Value = Vec<u8>> {
    let entries = vec((request_ids(), prefixes()), 0..6).prop_map(|entries| {
        let entry = |(request_id, prefix)| AssignedAddress { request_id, prefix };
        encode_assign(&entries.into_iter().map(entry).collect::<Vec<_>>())
    });
    let routes = vec(ranges(), 0..6).prop_map(|ranges| encode_routes(&Routes::new(ranges)));
    let damaged = (
        prop_oneof![entries, routes],
        vec((any::<usize>(), any::<u8>()), 0..3),
    )
        .prop_map(|(mut value, damage)| {
            for (at, byte) in damage {
                let len = value.len();
                match value.get_mut(at % (len + 1)) {
                    Some(place) => *place = byte,
                    None => value.truncate(at % (len + 1) / 2),
                }
            }
            value
        });
    prop_oneof![any::<Vec<u8>>(), damaged]
}

proptest! {
    #[test]
    fn assignments_survive_the_wire(entries in vec((request_ids(), prefixes()), 0..20)) {
        let entry = |(request_id, prefix)| AssignedAddress { request_id, prefix };
        let entries: Vec<_> = entries.into_iter().map(entry).collect();
        prop_assert_eq!(decode_assign(&encode_assign(&entries)), Ok(entries));
    }

    #[test]
    fn requests_survive_the_wire(prefixes in vec(prefixes(), 1..20), first in 1..1_u64 << 40) {
        let entry = |(request_id, prefix)| RequestedAddress { request_id, prefix };
        let entries: Vec<_> = (first..).zip(prefixes).map(entry).collect();
        prop_assert_eq!(decode_request(&encode_request(&entries)), Ok(entries));
    }

    #[test]
    fn ip_32_routes_survive_the_wire(ranges in vec(ranges(), 0..20)) {
        let routes = Routes::new(ranges);
        prop_assert_eq!(decode_routes(&encode_routes(&routes)), Ok(routes));
    }

    /// The peer decides what it sends, so what is kept of it must not be out of proportion.
    #[test]
    fn no_value_panics_or_takes_much_memory(value in values()) {
        let at_most = |min_len: usize| 2 * (value.len() / min_len) + 4;
        if let Ok(entries) = decode_assign(&value) {
            prop_assert!(entries.capacity() <= at_most(MIN_ADDRESS_LEN));
            let written = encode_assign(&entries);
            prop_assert!(written.len() <= value.len());
            prop_assert_eq!(decode_assign(&written), Ok(entries));
        }
        if let Ok(entries) = decode_request(&value) {
            prop_assert!(entries.capacity() <= at_most(MIN_ADDRESS_LEN));
            let written = encode_request(&entries);
            prop_assert!(written.len() <= value.len());
            prop_assert_eq!(decode_request(&written), Ok(entries));
        }
        if let Ok(routes) = decode_routes(&value) {
            prop_assert!(routes.iter().len() <= value.len() / MIN_RANGE_LEN);
            prop_assert!(routes.addresses().len() <= routes.iter().len());
            // Nothing in this capsule has two spellings.
            prop_assert_eq!(encode_routes(&routes), value);
        }
    }

    #[test]
    fn ip_18_32_a_list_cut_anywhere_but_between_entries_is_malformed(
        prefixes in vec(prefixes(), 1..5),
        ranges in vec(ranges(), 1..5),
        cut: prop::sample::Index,
    ) {
        let entry = |prefix| AssignedAddress { request_id: 0, prefix };
        let entries: Vec<_> = prefixes.into_iter().map(entry).collect();
        let value = encode_assign(&entries);
        let start = &value[..cut.index(value.len())];
        let whole = (0..=entries.len()).find(|count| encode_assign(&entries[..*count]) == start);
        match (decode_assign(start), whole) {
            (Ok(found), Some(count)) => prop_assert_eq!(&found, &entries[..count]),
            (Err(error), None) => {
                let is_truncated = matches!(error.defect, Defect::Truncated { .. });
                prop_assert!(is_truncated, "{}", error);
            }
            (found, whole) => prop_assert!(false, "{found:?} of {whole:?} entries"),
        }

        let routes = Routes::new(ranges);
        let value = encode_routes(&routes);
        let start = &value[..cut.index(value.len())];
        let entry_lens = routes.iter().map(|range| if range.is_v6() { 34 } else { 10 });
        let mut ends = entry_lens.scan(0, |end, len| { *end += len; Some(*end) });
        let is_between = start.is_empty() || ends.any(|end| end == start.len());
        prop_assert_eq!(decode_routes(start).is_ok(), is_between);
    }
}
