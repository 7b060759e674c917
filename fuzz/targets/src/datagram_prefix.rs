//! Any QUIC datagram: its prefixes lie within it, and are no shorter than those we would send.

use pasque::wire::{datagram, varint};

/// Runs the target on one input.
pub fn run(input: &[u8]) {
    let Ok((stream_id, prefix_len)) = datagram::decode_stream_id(input) else {
        return;
    };
    let shortest = datagram::stream_prefix(stream_id);
    assert!(shortest.len() <= prefix_len);
    assert_eq!(
        datagram::decode_stream_id(&shortest),
        Ok((stream_id, shortest.len()))
    );

    let payload = &input[prefix_len..];
    if let Some((context, context_len)) = datagram::split_context(payload) {
        assert!(context_len <= payload.len());
        assert!(varint::encoded_len(context) <= context_len);
    }
}
