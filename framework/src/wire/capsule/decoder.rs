//! The incremental decoder.

use super::{Admit, Capsule, CapsuleError, MAX_START_LEN};
use crate::wire::varint;

/// Type, length and the start of the value, each in its longest form.
const MAX_HEAD_LEN: usize = 2 * varint::MAX_LEN + MAX_START_LEN;

/// Finds the capsules in a stream that arrives in arbitrary pieces (RFC 9297 §3.2).
///
/// Input is always taken whole, so flow control credit never waits for the end of a capsule. How
/// the stream is cut into pieces makes no difference to what comes out.
///
/// Feed a piece by calling [`next`](Self::next) until it returns `None`, and call
/// [`finish`](Self::finish) at the end of the stream.
#[derive(Debug, Default)]
pub struct CapsuleDecoder {
    state: State,
    /// A value that arrives in pieces, up to where it has come.
    value: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Between capsules, or before the decision about one.
    Head(Head),
    /// Inside a value that will be handed out.
    Value { kind: u64, len: u64 },
    /// Inside a value that is passed over.
    Skip { remaining: u64 },
    /// Nothing that follows can be told apart from the capsule that was rejected.
    Failed(CapsuleError),
}

impl Default for State {
    fn default() -> Self {
        Self::Head(Head::default())
    }
}

impl CapsuleDecoder {
    /// The next capsule that ends within `input`, which is moved on past what was used.
    ///
    /// `None` means that all of `input` was used. `admit` decides about each capsule from its type,
    /// its length in bytes, and the start of its value: nothing on the first question, one byte
    /// more after each [`Admit::Peek`].
    ///
    /// A capsule that lies whole in `input` is lent from there without a copy. One that spans
    /// several inputs is lent from a buffer, which the next call frees.
    ///
    /// # Errors
    ///
    /// [`CapsuleError::Rejected`] as soon as `admit` says so, and again on each later call.
    pub fn next<'a, 'input: 'a>(
        &'a mut self,
        input: &mut &'input [u8],
        mut admit: impl FnMut(u64, u64, &[u8]) -> Admit,
    ) -> Result<Option<Capsule<'a>>, CapsuleError> {
        if let State::Head(_) = self.state {
            self.value = Vec::new();
        }
        let (kind, len) = loop {
            match self.state {
                State::Head(head) => {
                    self.state = self.read_head(head, input, &mut admit);
                    if let State::Head(_) = self.state {
                        return Ok(None);
                    }
                }
                State::Skip { remaining } => {
                    let remaining = remaining - take_up_to(input, remaining).len() as u64;
                    if remaining > 0 {
                        self.state = State::Skip { remaining };
                        return Ok(None);
                    }
                    self.state = State::default();
                }
                State::Value { kind, len } => break (kind, len),
                State::Failed(error) => return Err(error),
            }
        };

        let missing = len - self.value.len() as u64;
        let piece = take_up_to(input, missing);
        if (piece.len() as u64) < missing {
            self.value.extend_from_slice(piece);
            return Ok(None);
        }
        self.state = State::default();
        if self.value.is_empty() {
            return Ok(Some(Capsule { kind, value: piece }));
        }
        self.value.extend_from_slice(piece);
        Ok(Some(Capsule {
            kind,
            value: &self.value,
        }))
    }

    /// Checks that the stream may end here: between two capsules (RFC 9297 §3.3).
    ///
    /// # Errors
    ///
    /// [`CapsuleError::Truncated`] inside a capsule, also inside its type or length; the error that
    /// [`next`](Self::next) returned, if it did.
    pub fn finish(&self) -> Result<(), CapsuleError> {
        match self.state {
            State::Head(head) if head.len == 0 => Ok(()),
            State::Failed(error) => Err(error),
            _ => Err(CapsuleError::Truncated),
        }
    }

    /// The memory held for a capsule that is not whole yet, in bytes.
    pub fn buffered(&self) -> usize {
        self.value.capacity()
    }

    /// Takes single bytes until `admit` decides: it hears the same questions however the stream
    /// was cut.
    fn read_head(
        &mut self,
        mut head: Head,
        input: &mut &[u8],
        admit: &mut impl FnMut(u64, u64, &[u8]) -> Admit,
    ) -> State {
        let chunk = *input;
        while let Some((byte, rest)) = input.split_first() {
            *input = rest;
            head.push(*byte);
            let Some((kind, len, start)) = head.parse() else {
                continue;
            };
            let shown = start.len() as u64;
            match admit(kind, len, start) {
                Admit::Peek if shown < len.min(MAX_START_LEN as u64) => {}
                Admit::Peek | Admit::Skip => {
                    return State::Skip {
                        remaining: len - shown,
                    };
                }
                Admit::Reject => return State::Failed(CapsuleError::Rejected { kind, len }),
                Admit::Buffer => {
                    // Where this chunk has the whole start, hand it back: the value may be lent.
                    let value_at = (chunk.len() - rest.len()).checked_sub(start.len());
                    match value_at.and_then(|at| chunk.get(at..)) {
                        Some(value) => *input = value,
                        None => self.value.extend_from_slice(start),
                    }
                    return State::Value { kind, len };
                }
            }
        }
        State::Head(head)
    }
}

/// The bytes of a capsule up to the decision about it.
#[derive(Clone, Copy, Debug, Default)]
struct Head {
    bytes: [u8; MAX_HEAD_LEN],
    len: usize,
}

impl Head {
    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.len) {
            *place = byte;
            self.len += 1;
        }
    }

    /// Type, length, and what is there of the value.
    fn parse(&self) -> Option<(u64, u64, &[u8])> {
        let bytes = self.bytes.get(..self.len)?;
        let (kind, kind_len) = varint::decode(bytes)?;
        let after_kind = bytes.get(kind_len..)?;
        let (len, len_len) = varint::decode(after_kind)?;
        Some((kind, len, after_kind.get(len_len..)?))
    }
}

/// Splits off the front of `input`, at most `len` bytes.
fn take_up_to<'input>(input: &mut &'input [u8], len: u64) -> &'input [u8] {
    let len = usize::try_from(len).map_or(input.len(), |len| len.min(input.len()));
    let (taken, rest) = input.split_at(len);
    *input = rest;
    taken
}
