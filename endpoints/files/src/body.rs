//! The content of a response, read from the file while it is sent.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use pasque::Body;

use crate::disk::Disk;

/// What one read takes into memory.
const MAX_CHUNK_LEN: u64 = 64 << 10;

/// A part of the content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Bytes that do not come from the file.
    Text(Bytes),
    /// Bytes of the file; never empty.
    Span(Range<u64>),
}

impl Piece {
    /// How many bytes it adds to the content.
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Text(text) => text.len() as u64,
            Self::Span(span) => span.end - span.start,
        }
    }
}

/// The content made of `pieces`, in order. Nothing is read before it is asked for, and one chunk at
/// a time, so a client that does not read costs the open file and no memory.
pub(crate) fn stream(file: File, pieces: impl IntoIterator<Item = Piece>, disk: Disk) -> Body {
    let pieces: VecDeque<_> = pieces.into_iter().collect();
    if pieces.is_empty() {
        return Body::Empty;
    }
    let transfer = Transfer {
        file: Arc::new(file),
        pieces,
        disk,
    };
    Body::stream(stream::try_unfold(transfer, |mut transfer| async move {
        Ok(transfer.next().await?.map(|chunk| (chunk, transfer)))
    }))
}

struct Transfer {
    file: Arc<File>,
    pieces: VecDeque<Piece>,
    disk: Disk,
}

impl Transfer {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        match self.pieces.pop_front() {
            None => Ok(None),
            Some(Piece::Text(text)) => Ok(Some(text)),
            Some(Piece::Span(span)) => {
                let end = span.end.min(span.start + MAX_CHUNK_LEN);
                if end < span.end {
                    self.pieces.push_front(Piece::Span(end..span.end));
                }
                self.read(span.start..end).await.map(Some)
            }
        }
    }

    async fn read(&self, span: Range<u64>) -> io::Result<Bytes> {
        let file = self.file.clone();
        self.disk
            .run(move || {
                let mut chunk = vec![0; (span.end - span.start) as usize];
                // A file that shrank fails here, and the stream is reset: nothing is made up for
                // bytes that were announced and are gone (RFC 9110 §8.6).
                file.read_exact_at(&mut chunk, span.start)?;
                Ok(chunk.into())
            })
            .await
    }
}

#[cfg(test)]
mod tests;
