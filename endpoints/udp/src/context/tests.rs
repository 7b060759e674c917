use pasque::wire::capsule::{Capsule, CapsuleDecoder, CapsuleError, DATAGRAM};

use super::*;

const LINK_LEN: usize = MAX_PAYLOAD_LEN;

fn batch(datagrams: &[&[u8]]) -> Batch {
    let mut batch = Batch::new();
    for datagram in datagrams {
        batch.push(Packet::copy_from(datagram)).unwrap();
    }
    batch
}

/// Feeds one byte after the other. Returns what came out, and after how many bytes.
fn decode(bytes: &[u8], link_len: usize) -> (Result<Vec<Vec<u8>>, CapsuleError>, usize, usize) {
    let mut decoder = CapsuleDecoder::default();
    let mut values = Vec::new();
    let mut most_buffered = 0;
    for (at, byte) in bytes.iter().enumerate() {
        let mut input = std::slice::from_ref(byte);
        loop {
            match decoder.next(&mut input, |kind, len, start| {
                admit(kind, len, start, || link_len)
            }) {
                Ok(Some(Capsule { kind, value })) => {
                    assert_eq!(kind, DATAGRAM);
                    values.push(value.to_vec());
                }
                Ok(None) => break,
                Err(error) => return (Err(error), at + 1, most_buffered),
            }
        }
        most_buffered = most_buffered.max(decoder.buffered());
    }
    (Ok(values), bytes.len(), most_buffered)
}

#[test]
fn udp_41_without_room_for_a_context_a_datagram_is_dropped() {
    let mut counters = Counters::default();
    let mut inbound = batch(&[b"", b"\x40", b"\x80\0\0", b"\0", b"\0hi"]);
    strip(&mut inbound, &mut counters).unwrap();
    let left: Vec<_> = inbound.iter().map(|packet| packet.to_vec()).collect();
    assert_eq!(left, [b"".to_vec(), b"hi".to_vec()]);
    assert_eq!(counters.no_context, 3);
}

#[test]
fn udp_41_without_room_for_a_context_a_capsule_is_malformed() {
    for bytes in [&b"\0\0"[..], b"\0\x01\x40", b"\0\x03\x80\0\0"] {
        let (result, used, _) = decode(bytes, LINK_LEN);
        assert!(
            matches!(result, Err(CapsuleError::Rejected { .. })),
            "{bytes:x?}"
        );
        assert_eq!(used, bytes.len());
    }
    assert_eq!(decode(b"\0\x01\0", LINK_LEN).0, Ok(vec![b"\0".to_vec()]));
}

#[test]
fn udp_42_more_than_udp_carries_is_rejected_at_the_header() {
    let (result, used, _) = decode(b"\0\x80\0\xff\xf9\0rest", LINK_LEN);
    let len = 65529;
    assert_eq!(result, Err(CapsuleError::Rejected { kind: 0, len }));
    assert_eq!(used, 6);

    for context in [&b"\0"[..], b"\x40\0", b"\x80\0\0\0", b"\xc0\0\0\0\0\0\0\0"] {
        for (payload_len, is_accepted) in [(MAX_PAYLOAD_LEN, true), (MAX_PAYLOAD_LEN + 1, false)] {
            let value = [context, &vec![7; payload_len]].concat();
            let mut bytes = Vec::new();
            capsule::write(DATAGRAM, &value, &mut bytes);
            let (result, ..) = decode(&bytes, LINK_LEN);
            assert_eq!(
                result.is_ok(),
                is_accepted,
                "{context:x?} and {payload_len}"
            );
        }
    }
}

#[test]
fn udp_42_more_than_udp_carries_in_a_datagram_ends_the_tunnel() {
    for (len, is_accepted) in [(MAX_PAYLOAD_LEN, true), (MAX_PAYLOAD_LEN + 1, false)] {
        let datagram = [b"\0", &vec![7; len][..]].concat();
        let result = strip(&mut batch(&[&datagram]), &mut Counters::default());
        assert_eq!(result.is_ok(), is_accepted);
        if let Err(error) = result {
            assert_eq!(error.stream_error(), pasque::StreamError::Message);
        }
    }
}

#[test]
fn udp_43_unknown_contexts_are_dropped_and_counted() {
    let mut counters = Counters::default();
    let mut inbound = batch(&[
        b"\x02hi",
        b"\x05hi",
        b"\0ok",
        b"\x40\0ok",
        b"\xff\xff\xff\xff\xff\xff\xff\xff",
    ]);
    strip(&mut inbound, &mut counters).unwrap();
    assert_eq!(
        inbound.iter().map(|packet| &packet[..]).collect::<Vec<_>>(),
        [b"ok", b"ok"]
    );
    assert_eq!(counters.unknown_context, 3);

    // A million of them leave nothing behind but the count.
    for id in 0..1_000_000_u64 {
        let datagram = pasque::wire::varint::to_prefix(id + 1);
        strip(&mut batch(&[&datagram]), &mut counters).unwrap();
    }
    assert_eq!(counters.unknown_context, 1_000_003);

    let (result, _, buffered) = decode(b"\0\x03\x02hi\0\x03\0ok", LINK_LEN);
    assert_eq!(result, Ok(vec![b"\0ok".to_vec()]));
    assert!(buffered <= 16);
}

#[test]
fn udp_44_no_context_is_allocated() {
    // The only context in use is the one that RFC 9298 §4 gives a meaning.
    assert_eq!(UDP_PAYLOAD, 0);
    let mut packet = Packet::copy_from(b"hi");
    add(&mut packet);
    assert_eq!(split_context(&packet), Some((UDP_PAYLOAD, 1)));
    assert_eq!(&packet[..], b"\0hi");
}

#[test]
fn udp_45_more_than_the_link_carries_is_skipped_unbuffered() {
    let mut bytes = Vec::new();
    capsule::write(DATAGRAM, &[0; 60_001], &mut bytes);
    capsule::write(DATAGRAM, b"\0hi", &mut bytes);
    let (result, _, buffered) = decode(&bytes, 1472);
    assert_eq!(result, Ok(vec![b"\0hi".to_vec()]));
    assert!(buffered <= 16, "{buffered} bytes");
}

#[test]
fn other_capsules_are_skipped_unbuffered() {
    let mut bytes = Vec::new();
    for kind in [0x01, 0x17, 0x29 * 7 + 0x17] {
        capsule::write(kind, &[0; 70_000], &mut bytes);
    }
    capsule::write(DATAGRAM, b"\0hi", &mut bytes);
    let (result, _, buffered) = decode(&bytes, LINK_LEN);
    assert_eq!(result, Ok(vec![b"\0hi".to_vec()]));
    assert!(buffered <= 16, "{buffered} bytes");
}
