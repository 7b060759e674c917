mod invalid;
mod properties;

use pasque::wire::capsule::{self, CapsuleDecoder};

use super::*;
use crate::routes::IpRange;

/// A capsule with what is in it.
#[derive(Debug, PartialEq)]
enum Content {
    Assign(Vec<AssignedAddress>),
    Request(Vec<RequestedAddress>),
    Routes(Routes),
}

impl Content {
    fn write(&self) -> Vec<u8> {
        let (kind, value) = match self {
            Self::Assign(entries) => (ADDRESS_ASSIGN, encode_assign(entries)),
            Self::Request(entries) => (ADDRESS_REQUEST, encode_request(entries)),
            Self::Routes(routes) => (ROUTE_ADVERTISEMENT, encode_routes(routes)),
        };
        let mut stream = Vec::new();
        capsule::write(kind, &value, &mut stream);
        stream
    }
}

fn read(mut stream: &[u8]) -> Result<Content, CapsuleError> {
    let known = [ADDRESS_ASSIGN, ADDRESS_REQUEST, ROUTE_ADVERTISEMENT];
    let mut decoder = CapsuleDecoder::default();
    let found = decoder
        .next(&mut stream, |kind, len, _| {
            capsule::admit_known(kind, len, &known)
        })
        .unwrap()
        .expect("one whole capsule");
    assert!(stream.is_empty(), "bytes behind the capsule");
    match found.kind {
        ADDRESS_ASSIGN => decode_assign(found.value).map(Content::Assign),
        ADDRESS_REQUEST => decode_request(found.value).map(Content::Request),
        _ => decode_routes(found.value).map(Content::Routes),
    }
}

/// Bytes as the conformance list writes them: `16x00` for sixteen zeros.
fn hex(text: &str) -> Vec<u8> {
    let bytes = |word: &str| {
        let (count, byte) = word.split_once('x').unwrap_or(("1", word));
        vec![u8::from_str_radix(byte, 16).unwrap(); count.parse().unwrap()]
    };
    text.split_whitespace().flat_map(bytes).collect()
}

fn assigned(entries: &[(u64, &str)]) -> Content {
    let entry = |(request_id, prefix): &(u64, &str)| AssignedAddress {
        request_id: *request_id,
        prefix: prefix.parse().unwrap(),
    };
    Content::Assign(entries.iter().map(entry).collect())
}

fn requested(entries: &[(u64, &str)]) -> Content {
    let entry = |(request_id, prefix): &(u64, &str)| RequestedAddress {
        request_id: *request_id,
        prefix: prefix.parse().unwrap(),
    };
    Content::Request(entries.iter().map(entry).collect())
}

fn routes(ranges: &[(&str, &str, u8)]) -> Content {
    let range = |(start, end, protocol): &(&str, &str, u8)| {
        IpRange::new(start.parse().unwrap(), end.parse().unwrap(), *protocol).unwrap()
    };
    Content::Routes(Routes::try_from_wire(ranges.iter().map(range).collect()).unwrap())
}

#[test]
fn capsules_are_read_and_written_byte_by_byte() {
    let all_v6 = ("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 0);
    for (bytes, content) in [
        (
            "01 07 01 04 c0 00 02 0b 20",
            assigned(&[(1, "192.0.2.11/32")]),
        ),
        (
            "01 08 41 2c 04 c0 00 02 00 18",
            assigned(&[(300, "192.0.2.0/24")]),
        ),
        (
            "01 13 00 06 20 01 0d b8 12 34 00 00 00 00 00 00 00 00 00 0a 80",
            assigned(&[(0, "2001:db8:1234::a/128")]),
        ),
        (
            "01 1a 00 04 c0 00 02 03 20 00 06 20 01 0d b8 00 00 00 00 00 00 00 00 12 34 12 34 80",
            assigned(&[(0, "192.0.2.3/32"), (0, "2001:db8::1234:1234/128")]),
        ),
        ("01 00", assigned(&[])),
        ("01 07 07 04 00 00 00 00 20", assigned(&[(7, "0.0.0.0/32")])),
        ("01 13 08 06 16x00 80", assigned(&[(8, "::/128")])),
        (
            "02 07 01 04 00 00 00 00 20",
            requested(&[(1, "0.0.0.0/32")]),
        ),
        (
            "02 1a 01 04 00 00 00 00 20 02 06 16x00 80",
            requested(&[(1, "0.0.0.0/32"), (2, "::/128")]),
        ),
        ("02 13 02 06 16x00 40", requested(&[(2, "::/64")])),
        (
            "03 0a 04 00 00 00 00 ff ff ff ff 00",
            routes(&[("0.0.0.0", "255.255.255.255", 0)]),
        ),
        (
            "03 2c 04 00 00 00 00 ff ff ff ff 00 06 16x00 16xff 00",
            routes(&[("0.0.0.0", "255.255.255.255", 0), all_v6]),
        ),
        (
            "03 14 04 c0 00 02 00 c0 00 02 29 00 04 c0 00 02 2b c0 00 02 ff 00",
            routes(&[
                ("192.0.2.0", "192.0.2.41", 0),
                ("192.0.2.43", "192.0.2.255", 0),
            ]),
        ),
        (
            "03 22 06 20 01 0d b8 34 56 00 00 00 00 00 00 00 00 00 0b \
             20 01 0d b8 34 56 00 00 00 00 00 00 00 00 00 0b 84",
            routes(&[("2001:db8:3456::b", "2001:db8:3456::b", 132)]),
        ),
        (
            "03 14 04 c0 00 02 00 c0 00 02 09 06 04 c0 00 02 00 c0 00 02 09 11",
            routes(&[
                ("192.0.2.0", "192.0.2.9", 6),
                ("192.0.2.0", "192.0.2.9", 17),
            ]),
        ),
        (
            "03 14 04 c0 00 02 00 c0 00 02 09 00 04 c0 00 02 0a c0 00 02 14 00",
            routes(&[
                ("192.0.2.0", "192.0.2.9", 0),
                ("192.0.2.10", "192.0.2.20", 0),
            ]),
        ),
        ("03 00", routes(&[])),
    ] {
        let bytes = hex(bytes);
        assert_eq!(read(&bytes).as_ref(), Ok(&content));
        assert_eq!(content.write(), bytes, "{content:?}");
    }
}

#[test]
fn longer_request_ids_are_read() {
    let entry = assigned(&[(1, "192.0.2.11/32")]);
    for bytes in [
        "01 08 40 01 04 c0 00 02 0b 20",
        "01 0e c0 00 00 00 00 00 00 01 04 c0 00 02 0b 20",
    ] {
        assert_eq!(read(&hex(bytes)).as_ref(), Ok(&entry));
    }
    let largest = hex("01 0e 8xff 04 c0 00 02 0b 20");
    let entry = assigned(&[((1 << 62) - 1, "192.0.2.11/32")]);
    assert_eq!(read(&largest).as_ref(), Ok(&entry));
    assert_eq!(entry.write(), largest);
}

#[test]
fn host_bits_are_not_sent() {
    let entry = AssignedAddress {
        request_id: 0,
        prefix: "192.0.2.11/24".parse().unwrap(),
    };
    assert_eq!(encode_assign(&[entry]), hex("00 04 c0 00 02 00 18"));
}

#[test]
fn ip_26_29_a_refusal_is_all_zeros_with_the_full_prefix_length() {
    for (asked, refusal) in [
        ("10.0.0.9/32", "0.0.0.0/32"),
        ("0.0.0.0/24", "0.0.0.0/32"),
        ("fd00::9/128", "::/128"),
        ("::/64", "::/128"),
    ] {
        let entry = AssignedAddress::refusal(7, asked.parse().unwrap());
        assert_eq!(Content::Assign(vec![entry]), assigned(&[(7, refusal)]));
        assert!(entry.is_refusal());
        // Whether it answers a request makes no difference.
        let unasked = AssignedAddress {
            request_id: 0,
            ..entry
        };
        assert!(unasked.is_refusal());
    }
    for address in ["0.0.0.0/31", "0.0.0.0/0", "0.0.0.1/32", "::/127", "::1/128"] {
        let prefix = address.parse().unwrap();
        let entry = AssignedAddress {
            request_id: 7,
            prefix,
        };
        assert!(!entry.is_refusal(), "{address}");
    }
}

#[test]
fn ip_27_an_unspecified_address_is_no_preference() {
    let any = [RequestedAddress::any_v4(1), RequestedAddress::any_v6(2)];
    let expected = requested(&[(1, "0.0.0.0/32"), (2, "::/128")]);
    assert_eq!(Content::Request(any.to_vec()), expected);
    for (prefix, has_preference) in [
        ("0.0.0.0/32", false),
        ("0.0.0.0/24", false),
        ("::/128", false),
        ("::/64", false),
        ("10.0.0.9/32", true),
        ("0.0.0.1/32", true),
        ("fd00::/64", true),
    ] {
        let entry = RequestedAddress {
            request_id: 1,
            prefix: prefix.parse().unwrap(),
        };
        assert_eq!(entry.has_preference(), has_preference, "{prefix}");
    }
}
