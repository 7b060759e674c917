//! Any bytes, cut anywhere: the same capsules, the same end, and no more memory than agreed to.
//!
//! The first byte gives the length of the pieces; the rest is the stream.

use pasque::wire::capsule::{self, Admit, Capsule, CapsuleDecoder, CapsuleError};
use pasque::wire::datagram;

const LIMIT: u64 = 256;

/// A rule with every answer in it.
fn admit(kind: u64, len: u64, start: &[u8]) -> Admit {
    match kind {
        capsule::DATAGRAM if len <= LIMIT => match datagram::split_context(start) {
            None => Admit::Peek,
            Some((0, _)) => Admit::Buffer,
            Some(_) => Admit::Skip,
        },
        capsule::ADDRESS_ASSIGN if len <= LIMIT => Admit::Buffer,
        capsule::ADDRESS_REQUEST if len > LIMIT => Admit::Reject,
        _ => Admit::Skip,
    }
}

/// Type and value of a capsule.
type Found = (u64, Vec<u8>);

fn events<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> (Vec<Found>, Result<(), CapsuleError>) {
    let mut decoder = CapsuleDecoder::default();
    let mut found = Vec::new();
    for mut chunk in chunks {
        loop {
            match decoder.next(&mut chunk, admit) {
                Ok(Some(Capsule { kind, value })) => found.push((kind, value.to_vec())),
                Ok(None) => break,
                Err(error) => return (found, Err(error)),
            }
        }
        assert!(chunk.is_empty());
        assert!(decoder.buffered() as u64 <= 2 * LIMIT);
    }
    (found, decoder.finish())
}

/// Runs the target on one input.
pub fn run(input: &[u8]) {
    let Some((chunk_len, stream)) = input.split_first() else {
        return;
    };
    let whole = events(std::iter::once(stream));
    assert_eq!(events(stream.chunks(1)), whole);
    assert_eq!(events(stream.chunks(usize::from(*chunk_len).max(1))), whole);

    let mut written = Vec::new();
    for (kind, value) in &whole.0 {
        capsule::write(*kind, value, &mut written);
    }
    assert_eq!(events(std::iter::once(&written[..])), (whole.0, Ok(())));
}
