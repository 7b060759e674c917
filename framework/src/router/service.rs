//! [`Service`]: an endpoint that runs, shared by the routers that mount it and its tunnels.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use futures_util::StreamExt;
use serde_json::Value;
use tokio::sync::mpsc::UnboundedSender;

use crate::bulkhead::Enclosed;
use crate::config::Limits;
use crate::endpoint::{Endpoint, EndpointType, StartContext};
use crate::error::Result;
use crate::request::Request;
use crate::response::{BodyStream, Response};

/// Where the endpoint of a service goes when nobody needs it any more.
pub(crate) type Retire = UnboundedSender<Enclosed>;

/// An endpoint and its lineage. It lives as long as a router mounts it or a tunnel of it runs.
pub(crate) struct Service {
    endpoint: Enclosed,
    /// What the endpoint was made from; without, it is like no other.
    keys: Option<Value>,
    /// Those in whose place it stands, as far as they are still there.
    formers: Vec<Weak<Self>>,
    is_started: bool,
    is_stopped: AtomicBool,
    retire: OnceLock<Retire>,
}

impl Service {
    pub(super) fn new(kind: &EndpointType, endpoint: Box<dyn Endpoint>) -> Self {
        Self {
            endpoint: Enclosed::new(kind, endpoint),
            keys: None,
            formers: Vec::new(),
            is_started: false,
            is_stopped: AtomicBool::new(false),
            retire: OnceLock::new(),
        }
    }

    pub(super) fn set_keys(&mut self, keys: Value) {
        self.keys = Some(keys);
    }

    pub(super) fn is_alike(&self, other: &Self) -> bool {
        self.keys.is_some() && self.keys == other.keys
    }

    pub(super) fn is_started(&self) -> bool {
        self.is_started
    }

    /// Holds the endpoint to `limits` from now on.
    pub(super) fn limit(&self, limits: &Limits) {
        self.endpoint.limit(limits);
    }

    /// The endpoint; `None` once it has failed to start.
    pub(crate) fn endpoint(&self) -> Option<&(dyn Endpoint + 'static)> {
        self.endpoint.get()
    }

    /// Has the endpoint answer a request.
    pub(super) async fn handle(&self, request: Request) -> Result<Response> {
        self.endpoint.handle(request).await
    }

    /// The same content of this endpoint, which is not stopped before that has ended.
    pub(super) fn hold(self: &Arc<Self>, content: BodyStream) -> BodyStream {
        let service = self.clone();
        Box::pin(content.inspect(move |_| {
            let _held = &service;
        }))
    }

    /// Starts the endpoint, in the place of `former` if there is one, and with `is_isolated` on
    /// threads of its own.
    pub(super) async fn start(
        &mut self,
        former: Option<&Arc<Self>>,
        cx: &StartContext,
        is_isolated: bool,
    ) -> Result<()> {
        let place = former.map(|former| &former.endpoint);
        self.endpoint.start(place, cx, is_isolated).await?;
        if let Some(former) = former {
            let living = former.formers.iter().filter(|old| old.strong_count() > 0);
            self.formers = living.cloned().chain([Arc::downgrade(former)]).collect();
        }
        self.is_started = true;
        Ok(())
    }

    /// Whether this stands in the place of `other`.
    pub(crate) fn has_replaced(&self, other: &Arc<Self>) -> bool {
        let other = Arc::as_ptr(other);
        self.formers.iter().any(|former| former.as_ptr() == other)
    }

    /// Lets the endpoint go to `retire` in the end, to be stopped.
    pub(crate) fn retire_to(&self, retire: &Retire) {
        // One that is kept by a reload goes where it went before.
        let _ = self.retire.set(retire.clone());
    }

    /// Stops the endpoint, once.
    pub(crate) async fn stop(&self) {
        if self.is_started && !self.is_stopped.swap(true, Ordering::AcqRel) {
            self.endpoint.stop().await;
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(retire) = self.retire.get()
            && !*self.is_stopped.get_mut()
        {
            // Where nobody listens any more, everything has been stopped.
            let _ = retire.send(self.endpoint.clone());
        }
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.endpoint.fmt(f)
    }
}
