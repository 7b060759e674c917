//! The capsules V1 to V13 of the conformance list, none of which may be taken.

use super::*;
use crate::routes::{RangeError, RouteError};

/// The capsule in this text must have this defect, and abort its stream with H3_MESSAGE_ERROR.
fn refuse(bytes: &str, expected: Defect) {
    refuse_bytes(&hex(bytes), expected);
}

fn refuse_bytes(bytes: &[u8], expected: Defect) {
    let error = read(bytes).unwrap_err();
    assert_eq!(error.defect, expected, "{bytes:02x?}");
    let error = pasque::Error::from(error);
    assert_eq!(error.stream_error(), pasque::StreamError::Message);
}

/// The same as [`refuse`], for ADDRESS_ASSIGN and for ADDRESS_REQUEST.
fn refuse_both(bytes: &str, expected: Defect) {
    let mut bytes = hex(bytes);
    for kind in [1, 2] {
        bytes[0] = kind;
        refuse_bytes(&bytes, expected);
    }
}

fn range(start: &str, end: &str, protocol: u8) -> IpRange {
    IpRange::new(start.parse().unwrap(), end.parse().unwrap(), protocol).unwrap()
}

#[test]
fn ip_18_v1_other_ip_versions_are_malformed() {
    refuse_both(
        "01 07 00 05 c0 00 02 0b 20",
        Defect::Version { entry: 0, found: 5 },
    );
    refuse_both(
        "01 0e 01 04 c0 00 02 0b 20 02 00 c0 00 02 0b 20",
        Defect::Version { entry: 1, found: 0 },
    );
}

#[test]
fn ip_18_v2_prefixes_longer_than_the_address_are_malformed() {
    refuse_both(
        "01 07 00 04 c0 00 02 0b 21",
        Defect::PrefixLen {
            entry: 0,
            address: "192.0.2.11".parse().unwrap(),
            prefix_len: 33,
        },
    );
    refuse_both(
        "01 13 00 06 15x00 01 81",
        Defect::PrefixLen {
            entry: 0,
            address: "::1".parse().unwrap(),
            prefix_len: 129,
        },
    );
}

#[test]
fn ip_18_v3_host_bits_are_malformed() {
    let host_bits = |prefix: &str| Defect::HostBits {
        entry: 0,
        prefix: prefix.parse().unwrap(),
    };
    refuse_both("01 07 00 04 c0 00 02 0b 18", host_bits("192.0.2.11/24"));
    refuse_both(
        "01 13 00 06 20 01 0d b8 11x00 01 40",
        host_bits("2001:db8::1/64"),
    );
    refuse_both("01 07 01 04 00 00 00 01 00", host_bits("0.0.0.1/0"));
}

#[test]
fn ip_18_v4_entries_cut_short_are_malformed() {
    let truncated = |entry, field| Defect::Truncated { entry, field };
    for (bytes, defect) in [
        (
            "01 08 01 04 c0 00 02 0b 20 00",
            truncated(1, Field::Version),
        ),
        (
            "01 08 01 04 c0 00 02 0b 20 05",
            truncated(1, Field::Version),
        ),
        ("01 06 01 04 c0 00 02 0b", truncated(0, Field::PrefixLen)),
        ("01 05 01 04 c0 00 02", truncated(0, Field::Address)),
        ("01 12 01 06 16x00", truncated(0, Field::PrefixLen)),
        ("01 11 01 06 15x00", truncated(0, Field::Address)),
        ("01 01 40", truncated(0, Field::RequestId)),
        (
            "01 08 01 04 c0 00 02 0b 20 c0",
            truncated(1, Field::RequestId),
        ),
    ] {
        refuse_both(bytes, defect);
    }
}

#[test]
fn ip_24_v5_requests_without_entries_are_malformed() {
    refuse("02 00", Defect::NoEntries);
}

#[test]
fn ip_24_v6_request_ids_are_not_zero_and_not_repeated() {
    refuse(
        "02 07 00 04 00 00 00 00 20",
        Defect::ZeroRequestId { entry: 0 },
    );
    // In any spelling.
    refuse(
        "02 08 40 00 04 00 00 00 00 20",
        Defect::ZeroRequestId { entry: 0 },
    );
    let repeated = Defect::RepeatedRequestId {
        entry: 1,
        request_id: 1,
    };
    refuse("02 1a 01 04 00 00 00 00 20 01 06 16x00 80", repeated);
    refuse(
        "02 0f 01 04 00 00 00 00 20 40 01 04 00 00 00 00 20",
        repeated,
    );
    // ADDRESS_ASSIGN may have both.
    let bytes = hex("01 0e 00 04 c0 00 02 0b 20 00 04 c0 00 02 0c 20");
    assert!(read(&bytes).is_ok());
}

#[test]
fn ip_32_v7_ranges_that_end_before_they_start_are_malformed() {
    refuse(
        "03 0a 04 c0 00 02 09 c0 00 02 08 00",
        Defect::Range {
            entry: 0,
            error: RangeError::Backwards {
                start: "192.0.2.9".parse().unwrap(),
                end: "192.0.2.8".parse().unwrap(),
            },
        },
    );
}

#[test]
fn ip_32_v8_ipv6_before_ipv4_is_malformed() {
    refuse(
        "03 2c 06 16x00 15x00 01 00 04 c0 00 02 00 c0 00 02 01 00",
        Defect::Routes(RouteError::Version {
            entry: 1,
            range: range("192.0.2.0", "192.0.2.1", 0),
        }),
    );
}

#[test]
fn ip_32_v9_descending_protocols_are_malformed() {
    refuse(
        "03 14 04 c0 00 02 00 c0 00 02 01 11 04 c0 00 02 02 c0 00 02 03 06",
        Defect::Routes(RouteError::Protocol {
            entry: 1,
            range: range("192.0.2.2", "192.0.2.3", 6),
            before: 17,
        }),
    );
}

#[test]
fn ip_32_v10_overlapping_ranges_are_malformed() {
    refuse(
        "03 14 04 c0 00 02 00 c0 00 02 09 00 04 c0 00 02 09 c0 00 02 14 00",
        Defect::Routes(RouteError::Address {
            entry: 1,
            range: range("192.0.2.9", "192.0.2.20", 0),
            before: "192.0.2.9".parse().unwrap(),
        }),
    );
}

#[test]
fn ip_32_v11_descending_addresses_are_malformed() {
    refuse(
        "03 14 04 c0 00 02 0a c0 00 02 14 00 04 c0 00 02 00 c0 00 02 09 00",
        Defect::Routes(RouteError::Address {
            entry: 1,
            range: range("192.0.2.0", "192.0.2.9", 0),
            before: "192.0.2.20".parse().unwrap(),
        }),
    );
}

#[test]
fn ip_32_v12_ranges_cut_short_are_malformed() {
    let truncated = |entry, field| Defect::Truncated { entry, field };
    for (bytes, defect) in [
        (
            "03 09 04 c0 00 02 00 c0 00 02 09",
            truncated(0, Field::Protocol),
        ),
        ("03 08 04 c0 00 02 00 c0 00 02", truncated(0, Field::End)),
        ("03 02 04 c0", truncated(0, Field::Start)),
        ("03 21 06 16x00 16xff", truncated(0, Field::Protocol)),
        (
            "03 0b 04 c0 00 02 00 c0 00 02 09 00 04",
            truncated(1, Field::Start),
        ),
    ] {
        refuse(bytes, defect);
    }
    refuse(
        "03 0a 05 c0 00 02 00 c0 00 02 09 00",
        Defect::Version { entry: 0, found: 5 },
    );
}

#[test]
fn ip_33_v13_a_protocol_that_overlaps_any_protocol_is_malformed() {
    refuse(
        "03 14 04 c0 00 02 00 c0 00 02 09 00 04 c0 00 02 05 c0 00 02 05 11",
        Defect::Routes(RouteError::AnyProtocol {
            entry: 1,
            range: range("192.0.2.5", "192.0.2.5", 17),
            covered_by: range("192.0.2.0", "192.0.2.9", 0),
        }),
    );
}

#[test]
fn ip_18_32_errors_say_which_capsule_which_entry_and_what() {
    for (bytes, text) in [
        (
            "01 07 00 05 c0 00 02 0b 20",
            "malformed ADDRESS_ASSIGN: entry 0 has IP version 5, expected 4 or 6",
        ),
        (
            "01 07 00 04 c0 00 02 0b 21",
            "malformed ADDRESS_ASSIGN: entry 0 is 192.0.2.11/33, a prefix longer than the address",
        ),
        (
            "01 07 00 04 c0 00 02 0b 18",
            "malformed ADDRESS_ASSIGN: entry 0 is 192.0.2.11/24, expected 192.0.2.0 with this \
             prefix length",
        ),
        (
            "02 08 01 04 c0 00 02 0b 20 02",
            "malformed ADDRESS_REQUEST: the value ends in entry 1, before its IP Version is whole",
        ),
        (
            "02 00",
            "malformed ADDRESS_REQUEST: no entry found, expected at least one",
        ),
        (
            "02 0e 01 04 00 00 00 00 20 01 04 00 00 00 00 20",
            "malformed ADDRESS_REQUEST: entry 1 has Request ID 1, which an entry before it has",
        ),
        (
            "03 0a 04 c0 00 02 09 c0 00 02 08 00",
            "malformed ROUTE_ADVERTISEMENT: in entry 0 the range starts at 192.0.2.9, above \
             192.0.2.8 where it ends",
        ),
        (
            "03 14 04 c0 00 02 00 c0 00 02 09 00 04 c0 00 02 09 c0 00 02 14 00",
            "malformed ROUTE_ADVERTISEMENT: entry 1 (192.0.2.9-192.0.2.20) does not start after \
             192.0.2.9, where the entry before ends",
        ),
        (
            "03 14 04 c0 00 02 00 c0 00 02 09 00 04 c0 00 02 05 c0 00 02 05 11",
            "malformed ROUTE_ADVERTISEMENT: entry 1 (192.0.2.5/32 protocol 17) overlaps \
             192.0.2.0-192.0.2.9, which is for any protocol",
        ),
    ] {
        let error = pasque::Error::from(read(&hex(bytes)).unwrap_err());
        assert_eq!(error.to_string(), text);
    }
}
