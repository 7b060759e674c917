//! Content on its way from the connection to whoever reads it: a bounded queue, so that flow control
//! reaches back to the sender.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_util::Stream;
use pasque::Body;

/// Content that waits for its reader, in bytes.
const CAPACITY: usize = 256 << 10;

/// The writing side, held by the connection.
#[derive(Debug)]
pub(super) struct Inflow(Arc<Shared>);

/// The reading side.
struct Reader(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Wakes the connection's stream when there is room again, or no reader any more.
    stream: Waker,
}

#[derive(Debug, Default)]
struct State {
    chunks: VecDeque<Bytes>,
    bytes: usize,
    end: Option<Result<(), io::ErrorKind>>,
    reader: Option<Waker>,
    abandoned: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes both sides. `stream` wakes the connection's stream.
pub(super) fn channel(stream: Waker) -> (Inflow, Body) {
    let shared = Arc::new(Shared {
        state: Mutex::default(),
        stream,
    });
    (Inflow(shared.clone()), Body::stream(Reader(shared)))
}

impl Inflow {
    /// Bytes that fit now.
    pub(super) fn room(&self) -> usize {
        CAPACITY.saturating_sub(self.0.lock().bytes)
    }

    /// Whether nobody will read what comes.
    pub(super) fn is_abandoned(&self) -> bool {
        self.0.lock().abandoned
    }

    pub(super) fn push(&self, chunk: Bytes) {
        self.update(|state| {
            state.bytes += chunk.len();
            state.chunks.push_back(chunk);
        });
    }

    /// Ends the content: in order, or with an error that its reader sees after the last chunk.
    pub(super) fn end(&self, result: Result<(), io::ErrorKind>) {
        self.update(|state| state.end = state.end.take().or(Some(result)));
    }

    fn update(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.0.lock();
        change(&mut state);
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

impl Drop for Inflow {
    fn drop(&mut self) {
        // Whatever was not ended in order is not whole.
        self.end(Err(io::ErrorKind::ConnectionReset));
    }
}

impl Stream for Reader {
    type Item = io::Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut state = self.0.lock();
        if let Some(chunk) = state.chunks.pop_front() {
            let was_full = state.bytes >= CAPACITY / 2;
            state.bytes -= chunk.len();
            let has_room = state.bytes < CAPACITY / 2;
            drop(state);
            // Once per half a queue, not once per chunk.
            if was_full && has_room {
                self.0.stream.wake_by_ref();
            }
            return Poll::Ready(Some(Ok(chunk)));
        }
        match state.end {
            Some(Ok(())) => Poll::Ready(None),
            Some(Err(kind)) => {
                state.end = Some(Ok(()));
                Poll::Ready(Some(Err(kind.into())))
            }
            None => {
                state.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.lock().abandoned = true;
        self.0.stream.wake_by_ref();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn content_arrives_whole_or_with_an_error() {
        let (inflow, mut body) = channel(Waker::noop().clone());
        inflow.push(Bytes::from_static(b"first"));
        inflow.end(Ok(()));
        assert_eq!(body.next().await.unwrap().unwrap(), "first");
        assert!(body.next().await.is_none());

        let (inflow, mut body) = channel(Waker::noop().clone());
        inflow.push(Bytes::from_static(b"first"));
        drop(inflow);
        assert_eq!(body.next().await.unwrap().unwrap(), "first");
        assert!(body.next().await.unwrap().is_err());
        assert!(body.next().await.is_none());
    }

    #[test]
    fn a_full_queue_has_no_room_and_a_gone_reader_is_noticed() {
        let (inflow, body) = channel(Waker::noop().clone());
        inflow.push(Bytes::from(vec![0; CAPACITY]));
        assert_eq!(inflow.room(), 0);
        assert!(!inflow.is_abandoned());
        drop(body);
        assert!(inflow.is_abandoned());
    }
}
