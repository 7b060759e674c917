//! The bytes of HTTP/3, made and read without any of the engine's code for them.

use pasque::wire::varint;
use quiche::h3::{NameValue, qpack};

pub(super) const DATA: u64 = 0x00;
pub(super) const HEADERS: u64 = 0x01;
pub(super) const SETTINGS: u64 = 0x04;
pub(super) const GOAWAY: u64 = 0x07;

/// Field lines, in order.
pub(super) type Fields = Vec<(String, String)>;

/// The bytes that `text` shows as hexadecimal digits; spaces are for the reader.
pub(super) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .bytes()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

/// A frame of HTTP/3 (RFC 9114 §7.1). A capsule has the same shape (RFC 9297 §3.2).
pub(super) fn frame(kind: u64, payload: &[u8]) -> Vec<u8> {
    let len = payload.len() as u64;
    [
        &varint::to_prefix(kind)[..],
        &varint::to_prefix(len),
        payload,
    ]
    .concat()
}

pub(super) fn data(payload: &[u8]) -> Vec<u8> {
    frame(DATA, payload)
}

/// One capsule in a DATA frame of its own.
pub(super) fn capsule(kind: u64, value: &[u8]) -> Vec<u8> {
    data(&frame(kind, value))
}

/// A HEADERS frame whose lines are all literal: no table, no Huffman code (RFC 9204 §4.5.6).
pub(super) fn headers(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = vec![0, 0];
    for (name, value) in fields {
        integer(0b0010_0000, 3, name.len(), &mut block);
        block.extend_from_slice(name.as_bytes());
        integer(0, 7, value.len(), &mut block);
        block.extend_from_slice(value.as_bytes());
    }
    frame(HEADERS, &block)
}

/// An integer behind `flags`, in a first byte that has `bits` bits for it (RFC 7541 §5.1).
fn integer(flags: u8, bits: u32, value: usize, out: &mut Vec<u8>) {
    let most = (1 << bits) - 1;
    if value < most {
        return out.push(flags | value as u8);
    }
    out.push(flags | most as u8);
    let mut rest = value - most;
    while rest >= 128 {
        out.push(rest as u8 | 128);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// The field lines of a HEADERS frame's payload.
pub(super) fn fields(block: &[u8]) -> Fields {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let decoded = qpack::Decoder::new().decode(block, u64::MAX).unwrap();
    decoded
        .iter()
        .map(|line| (text(line.name()), text(line.value())))
        .collect()
}

/// The frames on a stream, of the last one what has come. Reserved types, which quiche sends to
/// keep its peers honest, are left out.
pub(super) fn frames(mut bytes: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    while let Some((kind, kind_len)) = varint::decode(bytes)
        && let Some((len, len_len)) = varint::decode(&bytes[kind_len..])
    {
        let rest = &bytes[kind_len + len_len..];
        let (payload, after) = rest.split_at(rest.len().min(len as usize));
        if !is_reserved(kind) {
            let is_whole = payload.len() as u64 == len;
            frames.push(Frame {
                kind,
                payload: payload.to_vec(),
                is_whole,
            });
        }
        bytes = after;
    }
    frames
}

/// One frame or capsule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: u64,
    pub(super) payload: Vec<u8>,
    pub(super) is_whole: bool,
}

/// Values that exist to be ignored (RFC 9114 §7.2.8).
pub(super) fn is_reserved(value: u64) -> bool {
    value >= 0x21 && (value - 0x21).is_multiple_of(0x1f)
}

/// The pairs in the payload of a SETTINGS frame.
pub(super) fn pairs(mut payload: &[u8]) -> Vec<(u64, u64)> {
    let mut pairs = Vec::new();
    while let Some((id, id_len)) = varint::decode(payload)
        && let Some((value, value_len)) = varint::decode(&payload[id_len..])
    {
        pairs.push((id, value));
        payload = &payload[id_len + value_len..];
    }
    pairs
}

#[test]
fn field_lines_written_by_hand_are_read_by_others() {
    let long = "x".repeat(300);
    let lines = [
        (":method", "CONNECT"),
        ("a-name-of-some-length", ""),
        ("x", long.as_str()),
    ];
    let frame = &frames(&headers(&lines))[0];
    assert!(frame.kind == HEADERS && frame.is_whole);
    let expected: Fields = lines.map(|(n, v)| (n.to_owned(), v.to_owned())).into();
    assert_eq!(fields(&frame.payload), expected);
}
