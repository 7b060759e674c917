use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::wire::datagram::split_context;

type Owned = (u64, Vec<u8>);

/// A UDP tunnel's rule (RFC 9298 §5): context 0 carries at most 65527 bytes.
fn admit_udp(kind: u64, len: u64, start: &[u8]) -> Admit {
    const MAX_PAYLOAD_LEN: u64 = 65_527;
    if kind != DATAGRAM {
        return Admit::Skip;
    }
    if len <= MAX_PAYLOAD_LEN + 1 {
        return Admit::Buffer;
    }
    match split_context(start) {
        None => Admit::Peek,
        Some((0, context_len)) if len - context_len as u64 > MAX_PAYLOAD_LEN => Admit::Reject,
        Some((0, _)) => Admit::Buffer,
        Some(_) => Admit::Skip,
    }
}

fn admit_ip(kind: u64, len: u64, _start: &[u8]) -> Admit {
    let known = [
        DATAGRAM,
        ADDRESS_ASSIGN,
        ADDRESS_REQUEST,
        ROUTE_ADVERTISEMENT,
    ];
    admit_known(kind, len, &known)
}

/// Decodes `chunks`, adding what comes out to `found`.
fn feed<'a>(
    decoder: &mut CapsuleDecoder,
    chunks: impl IntoIterator<Item = &'a [u8]>,
    admit: impl Fn(u64, u64, &[u8]) -> Admit,
    found: &mut Vec<Owned>,
) -> Result<(), CapsuleError> {
    for mut chunk in chunks {
        while let Some(capsule) = decoder.next(&mut chunk, &admit)? {
            found.push((capsule.kind, capsule.value.to_vec()));
        }
        assert!(chunk.is_empty(), "input was left over");
    }
    Ok(())
}

/// All that a stream in these chunks says: its capsules, and how it ends.
fn events<'a>(
    chunks: impl IntoIterator<Item = &'a [u8]>,
    admit: impl Fn(u64, u64, &[u8]) -> Admit,
) -> (Vec<Owned>, Result<(), CapsuleError>) {
    let mut decoder = CapsuleDecoder::default();
    let mut found = Vec::new();
    let end = feed(&mut decoder, chunks, admit, &mut found).and_then(|()| decoder.finish());
    (found, end)
}

fn datagram_header(len: usize) -> Vec<u8> {
    encode_header(DATAGRAM, len).to_vec()
}

#[test]
fn capsules_are_written_as_the_rfc_shows() {
    let mut stream = Vec::new();
    write(DATAGRAM, b"\0hi", &mut stream);
    write(0x40, b"", &mut stream);
    assert_eq!(stream, b"\x00\x03\x00hi\x40\x40\x00");
}

#[test]
fn longer_integers_are_read() {
    let stream = &b"\x40\x00\x40\x03\x00hi"[..];
    assert_eq!(
        events([stream], admit_udp),
        (vec![(DATAGRAM, b"\0hi".to_vec())], Ok(()))
    );
}

#[test]
fn hdg_17_capsules_split_anywhere_give_the_same_events() {
    let stream = b"\x00\x03\x00hi\x17\x03abc\x01\x00";
    let expected = vec![(DATAGRAM, b"\0hi".to_vec()), (ADDRESS_ASSIGN, vec![])];
    for first in 0..=stream.len() {
        for second in first..=stream.len() {
            let chunks = [&stream[..first], &stream[first..second], &stream[second..]];
            assert_eq!(events(chunks, admit_ip), (expected.clone(), Ok(())));
        }
    }
}

#[test]
fn hdg_17_a_capsule_within_one_chunk_is_not_copied() {
    // The last one is decided after a look at its value.
    let mut stream = b"\x00\x03\x00hi\x00\x80\x00\xff\xf9\x40".to_vec();
    stream.resize(5 + 5 + 65_529, 0);
    let mut decoder = CapsuleDecoder::default();
    let mut chunk = &stream[..];
    for range in [2..5, 10..stream.len()] {
        let capsule = decoder.next(&mut chunk, admit_udp).unwrap().unwrap();
        assert_eq!(capsule.value.as_ptr_range(), stream[range].as_ptr_range());
    }
}

#[test]
fn hdg_17_the_buffer_is_freed_after_use() {
    let mut decoder = CapsuleDecoder::default();
    let mut found = Vec::new();
    let chunks = [&b"\x00\x03\x00"[..], b"h"];
    feed(&mut decoder, chunks, admit_udp, &mut found).unwrap();
    assert_ne!(decoder.buffered(), 0);
    feed(&mut decoder, [&b"i"[..]], admit_udp, &mut found).unwrap();
    assert_eq!(found, [(DATAGRAM, b"\0hi".to_vec())]);
    assert_eq!(decoder.buffered(), 0);
}

#[test]
fn hdg_18_unknown_types_are_skipped() {
    let stream = &b"\x17\x03abc\x40\x40\x00\x40\x69\x01\xff\x00\x03\x00hi"[..];
    assert_eq!(
        events([stream], admit_udp),
        (vec![(DATAGRAM, b"\0hi".to_vec())], Ok(()))
    );
}

/// Streams 8 MiB of a value and then asks for the memory that this takes.
fn assert_streams_without_buffer(header: &[u8]) {
    let mut decoder = CapsuleDecoder::default();
    let mut found = Vec::new();
    feed(&mut decoder, [header], admit_ip, &mut found).unwrap();
    let chunk = [0xaa; 4096];
    for _ in 0..(8 << 20) / chunk.len() {
        feed(&mut decoder, [&chunk[..]], admit_ip, &mut found).unwrap();
        assert!(size_of_val(&decoder) + decoder.buffered() < 1024);
    }
    assert!(found.is_empty());
    assert_eq!(decoder.finish(), Err(CapsuleError::Truncated));
}

#[test]
fn hdg_19_unknown_types_are_counted_not_buffered() {
    assert_streams_without_buffer(&encode_header(0x17, 1 << 30));
}

#[test]
fn hdg_19_the_capsule_after_a_long_skip_is_found() {
    let mut stream = encode_header(0x17, 1 << 20).to_vec();
    stream.resize(stream.len() + (1 << 20), 0);
    write(DATAGRAM, b"\0hi", &mut stream);
    assert_eq!(
        events(stream.chunks(1000), admit_udp),
        (vec![(DATAGRAM, b"\0hi".to_vec())], Ok(()))
    );
}

#[test]
fn hdg_21_the_stream_ends_between_capsules_only() {
    let truncated = [
        &b"\x00\x05\x00h"[..],
        b"\x40",
        b"\x00",
        b"\x00\x40",
        b"\x17\x02x",
        b"\x00\x80\x00\xff\xf9",
    ];
    for stream in truncated {
        assert_eq!(
            events([stream], admit_udp),
            (vec![], Err(CapsuleError::Truncated)),
            "{stream:x?}"
        );
    }
    for stream in [&b""[..], b"\x00\x03\x00hi", b"\x17\x00", b"\x17\x01x"] {
        assert_eq!(events([stream], admit_udp).1, Ok(()), "{stream:x?}");
    }
}

#[test]
fn hdg_31_datagrams_of_no_use_are_discarded_as_they_stream() {
    assert_streams_without_buffer(b"\x00\xff\xff\xff\xff\xff\xff\xff\xff");
    assert_streams_without_buffer(&datagram_header(65_535 + 8 + 1));
}

#[test]
fn hdg_31_default_limits() {
    assert_eq!(admit_datagrams_only(DATAGRAM, 65_535 + 8), Admit::Buffer);
    assert_eq!(admit_datagrams_only(DATAGRAM, 65_535 + 9), Admit::Skip);
    assert_eq!(admit_datagrams_only(ADDRESS_ASSIGN, 1), Admit::Skip);
    assert_eq!(admit_ip(ADDRESS_ASSIGN, 64 * 1024, &[]), Admit::Buffer);
    assert_eq!(admit_ip(ADDRESS_ASSIGN, 64 * 1024 + 1, &[]), Admit::Reject);
    assert_eq!(admit_ip(0x17, 1, &[]), Admit::Skip);
}

#[test]
fn hdg_32_input_is_taken_before_the_capsule_is_whole() {
    let mut stream = datagram_header(60 * 1024);
    stream.resize(stream.len() + 60 * 1024, 0xaa);
    // `feed` checks that each piece of one stream window is used up.
    let (found, end) = events(stream.chunks(4096), admit_udp);
    assert_eq!(end, Ok(()));
    assert_eq!(found, [(DATAGRAM, vec![0xaa; 60 * 1024])]);
}

#[test]
fn udp_42_a_payload_above_65527_bytes_is_rejected_after_six_bytes() {
    let head = [0x00, 0x80, 0x00, 0xff, 0xf9, 0x00];
    let mut decoder = CapsuleDecoder::default();
    let mut found = Vec::new();
    feed(&mut decoder, head[..5].chunks(1), admit_udp, &mut found).unwrap();
    let rejected = Err(CapsuleError::Rejected {
        kind: DATAGRAM,
        len: 65_529,
    });
    let after_six = feed(&mut decoder, [&head[5..]], admit_udp, &mut found);
    assert_eq!(after_six, rejected);
    assert_eq!(decoder.buffered(), 0);

    let later = feed(
        &mut decoder,
        [&b"\x00\x03\x00hi"[..]],
        admit_udp,
        &mut found,
    );
    assert_eq!(later, rejected, "a rejected stream stays rejected");
    assert_eq!(decoder.finish(), rejected);
    assert!(found.is_empty());
}

#[test]
fn udp_42_the_longest_payload_is_accepted_behind_any_context_form() {
    for context in [&[0x00][..], &[0x40, 0], &[0xc0, 0, 0, 0, 0, 0, 0, 0]] {
        let value = [context, &[0xaa; 65_527]].concat();
        let stream = [datagram_header(value.len()), value.clone()].concat();
        for chunk_len in [1, 9, 1200, stream.len()] {
            let decoded = events(stream.chunks(chunk_len), admit_udp);
            assert_eq!(decoded, (vec![(DATAGRAM, value.clone())], Ok(())));
        }
    }
}

#[test]
fn udp_42_an_unknown_context_of_any_length_is_skipped() {
    let mut stream = datagram_header(1 << 17);
    stream.push(0x02);
    stream.resize(stream.len() + (1 << 17) - 1, 0);
    assert_eq!(events(stream.chunks(777), admit_udp), (vec![], Ok(())));
}

#[test]
fn peeking_past_what_can_be_shown_skips() {
    let stream = [&b"\x17\x00\x17\x02ab\x17\x09"[..], &[0; 9], b"\x00\x00"].concat();
    let admit = |kind, _, start: &[u8]| {
        assert!(start.len() <= MAX_START_LEN);
        if kind == DATAGRAM {
            Admit::Buffer
        } else {
            Admit::Peek
        }
    };
    assert_eq!(
        events(stream.chunks(4), admit),
        (vec![(DATAGRAM, vec![])], Ok(()))
    );
}

/// A policy with every answer in it, so that chance finds the ways between them.
fn admit_any(kind: u64, len: u64, start: &[u8]) -> Admit {
    match (kind % 5, start) {
        (0, _) | (1, [_, 0x80..=0xff, ..]) => Admit::Buffer,
        (1, _) => Admit::Peek,
        (2, [0x10..=0xff, ..]) => Admit::Reject,
        (2, []) if len > 0 => Admit::Peek,
        _ => Admit::Skip,
    }
}

/// Cuts `stream` at positions that `cuts` gives as shares of its length.
fn cut<'a>(stream: &'a [u8], cuts: &[u16]) -> Vec<&'a [u8]> {
    let mut at: Vec<usize> = cuts
        .iter()
        .map(|cut| usize::from(*cut) * stream.len() / usize::from(u16::MAX))
        .collect();
    at.extend([0, stream.len()]);
    at.sort_unstable();
    at.windows(2)
        .map(|ends| &stream[ends[0]..ends[1]])
        .collect()
}

/// A stream of capsules with short types and lengths, mostly well-formed, cut off at any place.
fn capsule_stream() -> impl Strategy<Value = Vec<u8>> {
    (
        vec((0..6_u64, vec(any::<u8>(), 0..40)), 0..8),
        vec(any::<u8>(), 0..6),
    )
        .prop_map(|(capsules, tail)| {
            let mut stream = Vec::new();
            for (kind, value) in capsules {
                write(kind, &value, &mut stream);
            }
            stream.extend(tail);
            stream
        })
}

proptest! {
    #[test]
    fn hdg_17_any_split_gives_the_same_events(
        stream in prop_oneof![capsule_stream(), any::<Vec<u8>>()],
        cuts in vec(any::<u16>(), 0..12),
    ) {
        let chunks = cut(&stream, &cuts);
        let bytes = stream.chunks(1);
        let whole = events([&stream[..]], admit_any);
        prop_assert_eq!(&events(chunks, admit_any), &whole);
        prop_assert_eq!(&events(bytes, admit_any), &whole);
    }

    #[test]
    fn hdg_17_what_is_written_is_decoded(
        capsules in vec((0..=varint::MAX, vec(any::<u8>(), 0..300)), 0..8),
        cuts in vec(any::<u16>(), 0..12),
    ) {
        let mut stream = Vec::new();
        for (kind, value) in &capsules {
            write(*kind, value, &mut stream);
        }
        let decoded = events(cut(&stream, &cuts), |_, _, _| Admit::Buffer);
        prop_assert_eq!(decoded, (capsules, Ok(())));
    }
}
