//! Content of requests and responses, in both directions.

use std::io;
use std::task::{Context, Poll};

use bytes::Bytes;
use pasque::wire::message::parse_trailers;
use pasque::{Body, Error, StreamError};
use quiche::h3;

use super::http::{Fields, Gone, pairs};
use super::inflow::Inflow;
use super::{Connection, FRAME_UNEXPECTED, TurnCx};
use crate::server_task::AbortOnDrop;

/// Chunks of one body that a turn sends at most.
const CHUNKS_PER_TURN: usize = 16;

/// Bytes of a tunnel's stream that are read at once: some hundreds of the smallest capsules.
const CAPSULE_READ: usize = 1 << 10;

/// The peer's direction of a stream.
#[derive(Debug)]
pub(super) enum Recv {
    /// A client waits for the response's fields.
    Head,
    /// A tunnel request that is not answered yet: what follows stays in QUIC's buffer.
    Held,
    /// Content goes to whoever reads it.
    Content(Inflow),
    /// Content that nobody wants: unread until the answer is complete, then refused.
    Unwanted,
    /// Capsules of a tunnel.
    Tunnel,
    /// Nothing more comes.
    Over,
}

/// Our direction of a stream.
pub(super) enum Outgoing {
    /// An endpoint is at work; dropping this cancels it.
    Waiting { _task: AbortOnDrop },
    /// Fields that wait for credit, and what follows them.
    Head { fields: Fields, then: Next },
    /// Content.
    Content(Content),
    /// Capsules of a tunnel.
    Tunnel,
    /// Nothing more goes.
    Over,
}

/// What follows the fields.
pub(super) enum Next {
    /// The end of the stream.
    End,
    Content(Body),
    Flow(Box<dyn pasque::Flow>),
}

/// Content on its way out.
pub(super) struct Content {
    body: Body,
    chunk: Bytes,
    /// Bytes that were announced and not produced yet.
    left: Option<u64>,
    is_complete: bool,
}

impl Content {
    pub(super) fn new(body: Body, announced: Option<u64>) -> Self {
        Self {
            body,
            chunk: Bytes::new(),
            left: announced,
            is_complete: false,
        }
    }

    /// Makes the next chunk current.
    fn advance(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.body.poll_next(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(None) if self.left.is_some_and(|left| left > 0) => {
                Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()))
            }
            Poll::Ready(None) => {
                self.is_complete = true;
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Err(error)),
            Poll::Ready(Some(Ok(chunk))) => {
                if let Some(left) = &mut self.left {
                    let Some(less) = left.checked_sub(chunk.len() as u64) else {
                        return Poll::Ready(Err(io::Error::other("more content than announced")));
                    };
                    *left = less;
                }
                self.chunk = chunk;
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl Outgoing {
    /// Last bytes, then the end of the stream.
    pub(super) fn last(rest: Bytes) -> Self {
        let body = if rest.is_empty() {
            Body::Empty
        } else {
            Body::Full(rest)
        };
        Self::Content(Content::new(body, None))
    }
}

impl Connection {
    pub(super) fn on_data(&mut self, id: u64, cx: &mut TurnCx<'_>) {
        let Some(stream) = self.streams.get(&id) else {
            return;
        };
        if matches!(stream.recv, Recv::Head) {
            // Content before the fields of a response (RFC 9114 §4.1).
            return self.http.close(FRAME_UNEXPECTED, "DATA before HEADERS");
        }
        if stream.has_trailers {
            return self.http.close(FRAME_UNEXPECTED, "DATA after trailers");
        }
        self.read_content(id, cx);
    }

    /// Moves what has come to its reader, as far as there is room for it.
    pub(super) fn read_content(&mut self, id: u64, cx: &mut TurnCx<'_>) {
        loop {
            let Some(stream) = self.streams.get_mut(&id) else {
                return;
            };
            let room = match &stream.recv {
                Recv::Tunnel if self.capsules_left == 0 => {
                    if !self.unread.contains(&id) {
                        self.unread.push(id);
                    }
                    return;
                }
                Recv::Tunnel => CAPSULE_READ,
                Recv::Content(inflow) if inflow.is_abandoned() => {
                    stream.recv = Recv::Unwanted;
                    return self.refuse_unwanted(id);
                }
                Recv::Content(inflow) => inflow.room().min(cx.scratch.len()),
                _ => return,
            };
            if room == 0 {
                return;
            }
            let len = match self
                .http
                .read(id, cx.scratch.get_mut(..room).unwrap_or_default())
            {
                Ok(0) => return,
                Ok(len) => len,
                Err(code) => return self.on_reset(id, code, cx),
            };
            self.content_since_probe += len as u64;
            // The end of the stream shows as an event, once everything before it is read.
            self.has_events = true;
            let bytes = cx.scratch.get(..len).unwrap_or_default();
            match &mut stream.recv {
                Recv::Content(inflow) => {
                    let counted = stream.length.add(len);
                    inflow.push(Bytes::copy_from_slice(bytes));
                    if let Err(error) = counted {
                        inflow.end(Err(io::ErrorKind::InvalidData));
                        return self.fail(id, &Error::malformed(error.to_string()));
                    }
                }
                _ => {
                    let Some(tunnel) = &mut stream.tunnel else {
                        return;
                    };
                    let fed = tunnel.feed(bytes, &self.http);
                    if let Ok(capsules) = fed {
                        self.capsules_left = self.capsules_left.saturating_sub(capsules);
                    }
                    self.after_flow(id, fed.map(|_capsules| ()));
                }
            }
        }
    }

    /// Nobody reads what the peer still sends: a client says so at once, a server when its answer
    /// is complete (RFC 9114 §4.1).
    pub(super) fn refuse_unwanted(&mut self, id: u64) {
        let is_server = self.is_server();
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        if !matches!(stream.recv, Recv::Unwanted) {
            return;
        }
        if is_server && !matches!(stream.send, Outgoing::Over) {
            return;
        }
        stream.recv = Recv::Over;
        let code = if is_server {
            StreamError::NoError
        } else {
            StreamError::RequestCancelled
        };
        self.http.stop(id, code.code());
        self.remove_if_over(id);
    }

    /// The peer's direction has ended in order.
    pub(super) fn on_finished(&mut self, id: u64, cx: &mut TurnCx<'_>) {
        self.read_content(id, cx);
        let is_server = self.is_server();
        let Some(stream) = self.streams.get_mut(&id) else {
            if is_server && self.is_new(id) {
                self.note_opened(id);
                // The stream ended before a whole header section (RFC 9114 §4.1).
                self.http.abort(id, StreamError::RequestIncomplete);
            }
            return;
        };
        match std::mem::replace(&mut stream.recv, Recv::Over) {
            Recv::Head => {
                self.fail_request(id, StreamError::RequestIncomplete.code());
                self.http.abort(id, StreamError::Message);
                self.remove(id);
            }
            Recv::Content(inflow) => {
                if let Err(error) = stream.length.finish() {
                    inflow.end(Err(io::ErrorKind::UnexpectedEof));
                    return self.fail(id, &Error::malformed(error.to_string()));
                }
                inflow.end(Ok(()));
                self.remove_if_over(id);
            }
            Recv::Tunnel => {
                let finished = stream
                    .tunnel
                    .as_ref()
                    .map_or(Ok(()), |tunnel| tunnel.finish());
                match finished {
                    Ok(()) => self.finish_tunnel(id),
                    Err(error) => self.fail(id, &error),
                }
            }
            Recv::Held | Recv::Unwanted | Recv::Over => self.remove_if_over(id),
        }
    }

    /// Fields after the content. They carry nothing that is used here, but may break the message.
    pub(super) fn on_trailers(&mut self, id: u64, list: &[h3::Header]) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let repeated = std::mem::replace(&mut stream.has_trailers, true);
        if matches!(stream.recv, Recv::Held | Recv::Tunnel) {
            // Only DATA may follow on a tunnel's stream (RFC 9114 §4.4).
            return self
                .http
                .close(FRAME_UNEXPECTED, "HEADERS on a tunnel's stream");
        }
        if repeated {
            return self.http.close(FRAME_UNEXPECTED, "HEADERS after trailers");
        }
        if let Err(error) = parse_trailers(pairs(list)) {
            self.fail(id, &Error::malformed(error.to_string()));
        }
    }

    /// Sends what a stream has to send, as far as there is credit.
    pub(super) fn send_content(&mut self, id: u64) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let Outgoing::Content(content) = &mut stream.send else {
            return;
        };
        let waker = stream.waker.waker();
        for _ in 0..CHUNKS_PER_TURN {
            if !self.http.kept.has_room() {
                self.stalled.insert(id);
                return;
            }
            if content.chunk.is_empty() && !content.is_complete {
                match content.advance(&mut Context::from_waker(&waker)) {
                    Poll::Pending => {
                        self.stalled.remove(&id);
                        return;
                    }
                    Poll::Ready(Ok(())) if content.chunk.is_empty() && !content.is_complete => {
                        continue;
                    }
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(cause)) => {
                        // The peer must not take what it has for the whole.
                        return self
                            .fail(id, &Error::internal("content broke off").with_source(cause));
                    }
                }
            }
            match self.http.write(id, &mut content.chunk, content.is_complete) {
                Ok(true) if content.is_complete => {
                    stream.send = Outgoing::Over;
                    self.stalled.remove(&id);
                    self.refuse_unwanted(id);
                    return self.remove_if_over(id);
                }
                Ok(true) => {}
                Ok(false) => {
                    self.stalled.insert(id);
                    return;
                }
                Err(Gone) => {
                    self.http.abort(id, StreamError::RequestCancelled);
                    return self.remove(id);
                }
            }
        }
        // A turn's share is used up; the rest goes in the next one.
        self.stalled.insert(id);
        self.woken.push(id);
    }
}
