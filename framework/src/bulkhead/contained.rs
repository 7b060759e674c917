//! What an endpoint leaves with the engine, wrapped so that a panic in it, or in its `Drop`, ends
//! only the request or tunnel that it belongs to.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;

use super::{Bulkhead, contain};
use crate::endpoint::Endpoint;
use crate::error::{Error, Result};
use crate::flow::{Flow, FlowCx};
use crate::health::Running;
use crate::packet::Batch;
use crate::response::BodyStream;
use crate::wire::capsule::{Admit, Capsule};

/// A value whose `Drop` may panic without consequence.
pub(super) struct Contained<T> {
    /// Empty only while it is being dropped.
    value: Option<T>,
}

impl<T> Contained<T> {
    pub(super) fn new(value: T) -> Self {
        Self { value: Some(value) }
    }

    #[expect(
        clippy::expect_used,
        reason = "it is empty only while it is being dropped"
    )]
    pub(super) fn get(&self) -> &T {
        self.value.as_ref().expect("a value")
    }

    #[expect(
        clippy::expect_used,
        reason = "it is empty only while it is being dropped"
    )]
    pub(super) fn get_mut(&mut self) -> &mut T {
        self.value.as_mut().expect("a value")
    }

    /// Drops the value. Returns whether it panicked.
    fn discard(&mut self) -> bool {
        let value = self.value.take();
        contain(|| drop(value)).is_none()
    }
}

impl<T> Drop for Contained<T> {
    fn drop(&mut self) {
        if self.discard() {
            tracing::error!("an endpoint panicked while it was being dropped");
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Contained<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => value.fmt(f),
            None => f.write_str("Contained"),
        }
    }
}

/// An endpoint's flow.
pub(super) struct ContainedFlow {
    flow: Contained<Box<dyn Flow>>,
    bulkhead: Arc<Bulkhead>,
}

impl ContainedFlow {
    pub(super) fn new(flow: Box<dyn Flow>, bulkhead: Arc<Bulkhead>) -> Self {
        Self {
            flow: Contained::new(flow),
            bulkhead,
        }
    }
}

fn panicked() -> Error {
    Error::internal("the flow panicked")
}

impl Flow for ContainedFlow {
    fn on_datagrams(&mut self, inbound: &mut Batch, cx: &mut FlowCx<'_>) -> Result<()> {
        let flow = self.flow.get_mut();
        let result = self
            .bulkhead
            .guard("on_datagrams", || flow.on_datagrams(inbound, cx));
        result.unwrap_or_else(|| Err(panicked()))
    }

    fn on_capsule(&mut self, capsule: Capsule<'_>, cx: &mut FlowCx<'_>) -> Result<()> {
        let flow = self.flow.get_mut();
        let result = self
            .bulkhead
            .guard("on_capsule", || flow.on_capsule(capsule, cx));
        result.unwrap_or_else(|| Err(panicked()))
    }

    fn poll_outbound(&mut self, cx: &mut FlowCx<'_>) -> Poll<Result<()>> {
        let flow = self.flow.get_mut();
        let result = self
            .bulkhead
            .guard("poll_outbound", || flow.poll_outbound(cx));
        result.unwrap_or_else(|| Poll::Ready(Err(panicked())))
    }

    fn on_reload(
        &mut self,
        endpoint: &(dyn Endpoint + 'static),
        cx: &mut FlowCx<'_>,
    ) -> Result<()> {
        let flow = self.flow.get_mut();
        let result = self
            .bulkhead
            .guard("on_reload", || flow.on_reload(endpoint, cx));
        result.unwrap_or_else(|| Err(panicked()))
    }

    fn admit_capsule(&self, kind: u64, len: u64, start: &[u8]) -> Admit {
        let _running = Running::enter(self.bulkhead.code);
        let flow = self.flow.get();
        // There is no way to say so in an answer: the engine ends the tunnel.
        catch_unwind(AssertUnwindSafe(|| flow.admit_capsule(kind, len, start))).unwrap_or_else(
            |payload| {
                self.bulkhead
                    .note_panic("admit_capsule", std::time::Instant::now());
                resume_unwind(payload)
            },
        )
    }
}

impl Drop for ContainedFlow {
    fn drop(&mut self) {
        let flow = self.flow.value.take();
        self.bulkhead.guard("drop", || drop(flow));
    }
}

/// An endpoint's content.
struct ContainedStream {
    stream: Contained<BodyStream>,
    bulkhead: Arc<Bulkhead>,
}

pub(super) fn contain_stream(stream: BodyStream, bulkhead: Arc<Bulkhead>) -> BodyStream {
    Box::pin(ContainedStream {
        stream: Contained::new(stream),
        bulkhead,
    })
}

impl Stream for ContainedStream {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let stream = this.stream.get_mut();
        let result = this
            .bulkhead
            .guard("content", || stream.as_mut().poll_next(cx));
        result.unwrap_or_else(|| Poll::Ready(Some(Err(io::Error::other("the content panicked")))))
    }
}

impl Drop for ContainedStream {
    fn drop(&mut self) {
        let stream = self.stream.value.take();
        self.bulkhead.guard("drop", || drop(stream));
    }
}
