use proptest::prelude::*;

use super::*;

fn too_long<'a>(from: &str, to: &str, payload: &'a [u8], max_payload_len: usize) -> TooLong<'a> {
    TooLong {
        from: from.parse().unwrap(),
        to: to.parse().unwrap(),
        payload,
        max_payload_len,
    }
}

#[test]
fn udp_47_the_message_of_ipv4() {
    let too_long = too_long("192.0.2.1:53", "198.51.100.7:40000", b"abc", 1319);
    #[rustfmt::skip]
    let expected = [
        3, 4, 0x96, 0xd5, 0, 0, 0x05, 0x43,
        0x45, 0, 0, 31, 0, 0, 0x40, 0, 64, 17, 0x4e, 0x92, 192, 0, 2, 1, 198, 51, 100, 7,
        0, 53, 0x9c, 0x40, 0, 11, 0, 0, b'a', b'b', b'c',
    ];
    assert_eq!(too_long.message().unwrap(), expected);
}

#[test]
fn udp_47_the_message_of_ipv6() {
    let too_long = too_long("[2001:db8::1]:53", "[2001:db8::2]:40000", b"abc", 1319);
    #[rustfmt::skip]
    let expected = [
        2, 0, 0, 0, 0, 0, 0x05, 0x57,
        0x60, 0, 0, 0, 0, 11, 17, 64,
        0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
        0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2,
        0, 53, 0x9c, 0x40, 0, 11, 0, 0, b'a', b'b', b'c',
    ];
    assert_eq!(too_long.message().unwrap(), expected);
}

#[test]
fn udp_47_addresses_of_two_families_make_no_message() {
    let (v4, v6) = ("192.0.2.1:53", "[2001:db8::1]:53");
    assert!(too_long(v4, v6, b"", 0).message().is_none());
    assert!(too_long(v6, v4, b"", 0).message().is_none());
}

#[test]
fn the_checksum_is_that_of_rfc_1071() {
    // The example of RFC 1071 §3.
    let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
    assert_eq!(sum(&bytes), 0xddf2);
    // An odd byte is the high half of a word.
    assert_eq!(sum(&[0x12, 0x34, 0x56]), 0x1234 + 0x5600);
}

proptest! {
    #[test]
    fn udp_47_any_length_makes_a_message_that_fits(
        len in 0..=65_527_usize,
        max_payload_len in 0..=65_527_usize,
        fill: u8,
    ) {
        let payload = vec![fill; len];
        let too_long_v4 = too_long("192.0.2.1:53", "198.51.100.7:40000", &payload, max_payload_len);
        let message = too_long_v4.message().unwrap();
        prop_assert_eq!(message.len(), (8 + 28 + len).min(576 - 20));
        prop_assert_eq!(sum(&message), 0xffff);
        prop_assert_eq!(sum(&message[8..28]), 0xffff);
        let mtu = (max_payload_len + 28).min(65_535) as u16;
        prop_assert_eq!(&message[6..8], &mtu.to_be_bytes());
        let total_len = (len + 28).min(65_535) as u16;
        prop_assert_eq!(&message[10..12], &total_len.to_be_bytes());
        prop_assert_eq!(&message[36..], &payload[..len.min(576 - 56)]);

        let too_long_v6 = too_long("[::1]:53", "[::2]:40000", &payload, max_payload_len);
        let message = too_long_v6.message().unwrap();
        prop_assert_eq!(message.len(), (8 + 48 + len).min(1280 - 40));
        let mtu = (max_payload_len + 48).min(65_535) as u32;
        prop_assert_eq!(&message[4..8], &mtu.to_be_bytes());
        prop_assert_eq!(&message[12..14], &(len as u16 + 8).to_be_bytes());
        prop_assert_eq!(&message[56..], &payload[..len.min(1280 - 96)]);
    }
}
