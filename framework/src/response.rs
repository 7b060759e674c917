//! [`Response`]: what an endpoint answers, and [`Body`], the content of either message.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};

use crate::error::Result;
use crate::flow::Flow;
use crate::tunnel::{self, Tunnel};

/// The answer to one [`Request`](crate::Request).
#[derive(Debug)]
#[non_exhaustive]
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// The fields. The engine adds `date`, and `capsule-protocol` on an accepted tunnel.
    pub headers: HeaderMap,
    /// The content, or the tunnel's data path.
    pub body: Body,
}

impl Response {
    /// A response with a status and no content.
    pub fn new(status: StatusCode) -> Self {
        Self {
            status,
            headers: HeaderMap::new(),
            body: Body::Empty,
        }
    }

    /// 200 with content held in memory.
    pub fn ok(body: impl Into<Bytes>) -> Self {
        let body = body.into();
        let length = HeaderValue::from(body.len());
        Self {
            body: Body::Full(body),
            ..Self::new(StatusCode::OK)
        }
        .with_header(http::header::CONTENT_LENGTH, length)
    }

    /// Accepts a tunnel whose data path runs inside the worker's turn: the fast tier.
    pub fn flow(flow: impl Flow) -> Self {
        Self {
            body: Body::Flow(Box::new(flow)),
            ..Self::new(StatusCode::OK)
        }
    }

    /// Accepts a tunnel whose data path is an `async` block on a task of its own. Each batch passes
    /// one channel; the tunnel ends when the block returns.
    pub fn tunnel<F, Fut>(run: F) -> Self
    where
        F: FnOnce(Tunnel) -> Fut + Send + 'static,
        Fut: Future<Output = Result<()>> + Send + 'static,
    {
        let (tunnel, flow) = tunnel::pair();
        Self::flow(flow.with_task(run(tunnel)))
    }

    /// Adds a field, replacing an earlier one of the same name.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }
}

/// Content of a message, or the flow of an accepted tunnel.
#[derive(Default)]
pub enum Body {
    /// No content.
    #[default]
    Empty,
    /// Content held in memory.
    Full(Bytes),
    /// Content that is produced while it is sent. An error resets the stream: the peer never takes
    /// what it got for the whole.
    Stream(BodyStream),
    /// The data path of an accepted tunnel. Only in a response.
    Flow(Box<dyn Flow>),
}

/// Chunks of content, in order. A chunk is at most 64 KiB: it stays in memory until it is sent.
pub type BodyStream = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

impl Body {
    /// Content from a stream of chunks.
    pub fn stream(chunks: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Self {
        Self::Stream(Box::pin(chunks))
    }

    /// The next chunk, or `None` at the end.
    pub async fn next(&mut self) -> Option<io::Result<Bytes>> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// [`next`](Self::next) for use inside another poll function.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        match self {
            Self::Empty | Self::Flow(_) => Poll::Ready(None),
            Self::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                *self = Self::Empty;
                Poll::Ready((!bytes.is_empty()).then_some(Ok(bytes)))
            }
            Self::Stream(stream) => stream.as_mut().poll_next(cx),
        }
    }

    /// Reads everything into memory.
    ///
    /// # Errors
    /// What the stream reports, and `FileTooLarge` beyond `limit` bytes.
    pub async fn collect(mut self, limit: usize) -> io::Result<Bytes> {
        let mut all = BytesMut::new();
        while let Some(chunk) = self.next().await {
            let chunk = chunk?;
            if all.len() + chunk.len() > limit {
                return Err(io::Error::from(io::ErrorKind::FileTooLarge));
            }
            all.extend_from_slice(&chunk);
        }
        Ok(all.freeze())
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("Empty"),
            Self::Full(bytes) => write!(f, "Full({} bytes)", bytes.len()),
            Self::Stream(_) => f.write_str("Stream"),
            Self::Flow(_) => f.write_str("Flow"),
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::Full(bytes)
    }
}
