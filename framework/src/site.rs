//! [`Site`]: the router that serves now, which a reload replaces under running tunnels.

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::task::{Poll, Waker};

use slab::Slab;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tracing::info;

use crate::bulkhead::Enclosed;
use crate::error::{Error, Result, StreamError};
use crate::flow::{Admit, Flow, FlowCx};
use crate::packet::Batch;
use crate::request::Request;
use crate::response::{Body, Response};
use crate::router::{Entrance, Router, Service};
use crate::wire::capsule::Capsule;

/// What a server serves: a [`Router`], and the tunnels that came in through it and those before it.
///
/// A running tunnel outlives its router as long as the request that opened it would still be admitted,
/// and would reach the same endpoint or one in its place. Otherwise it ends.
#[derive(Debug)]
pub struct Site {
    current: RwLock<Arc<Router>>,
    /// How many routers there have been: a tunnel compares it with one load, and looks again only
    /// after a reload.
    generation: AtomicU64,
    /// The running tunnels, to be woken by a reload.
    tunnels: Mutex<Slab<Waker>>,
    retire: UnboundedSender<Enclosed>,
}

/// The endpoints that a reload has put out of use, each as soon as its last tunnel has ended. Whoever
/// has this stops them.
#[derive(Debug)]
pub struct Retired(UnboundedReceiver<Enclosed>);

/// An endpoint that has no tunnels any more and gets no requests.
#[derive(Debug)]
pub struct FormerEndpoint(Enclosed);

impl FormerEndpoint {
    /// Stops it, and waits for it a little.
    pub async fn stop(self) {
        self.0.stop().await;
    }
}

impl Retired {
    /// The next one; `None` once the [`Site`] is gone. Nothing is lost if this is dropped.
    pub async fn next(&mut self) -> Option<FormerEndpoint> {
        self.0.recv().await.map(FormerEndpoint)
    }

    /// The next one, if there is one already.
    pub fn next_now(&mut self) -> Option<FormerEndpoint> {
        self.0.try_recv().ok().map(FormerEndpoint)
    }
}

impl Site {
    /// Serves `router`, whose endpoints are started.
    pub fn new(router: Router) -> (Arc<Self>, Retired) {
        let (retire, retired) = unbounded_channel();
        for service in router.services() {
            service.retire_to(&retire);
        }
        let site = Self {
            current: RwLock::new(Arc::new(router)),
            generation: AtomicU64::new(0),
            tunnels: Mutex::default(),
            retire,
        };
        (Arc::new(site), Retired(retired))
    }

    /// The router that serves now.
    pub fn router(&self) -> Arc<Router> {
        self.now().0
    }

    /// Serves `router` from here on, and asks every running tunnel whether it goes on. The endpoints
    /// of `router` have been [started after](Router::start_after) those of the present one.
    pub fn replace(&self, mut router: Router) {
        for service in router.services() {
            service.retire_to(&self.retire);
        }
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        router.take_over(&current);
        let former = std::mem::replace(&mut *current, Arc::new(router));
        // Under the lock: nobody sees the one without the other.
        self.generation.fetch_add(1, Ordering::Release);
        drop(current);
        drop(former);
        for (_, waker) in &*self.tunnels() {
            waker.wake_by_ref();
        }
    }

    /// Answers one request. Never fails: an endpoint's error, or its panic, becomes the response
    /// that says so.
    pub async fn dispatch(self: &Arc<Self>, request: Request) -> Response {
        let (router, generation) = self.now();
        let (mut response, admission) = router.serve(request).await;
        response.body = match (response.body, admission) {
            (Body::Flow(flow), Some((service, entrance))) => Body::Flow(Box::new(Admitted {
                flow,
                service,
                entrance,
                generation,
                key: None,
                site: self.clone(),
            })),
            (body, _) => body,
        };
        response
    }

    fn now(&self) -> (Arc<Router>, u64) {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        (current.clone(), self.generation.load(Ordering::Acquire))
    }

    fn tunnels(&self) -> MutexGuard<'_, Slab<Waker>> {
        self.tunnels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The flow of a tunnel, for as long as its request would be admitted.
struct Admitted {
    flow: Box<dyn Flow>,
    /// Stopped only after the flow has gone: fields are dropped in this order.
    service: Arc<Service>,
    entrance: Entrance,
    /// That of the router that has admitted it last.
    generation: u64,
    /// Its waker's place at the site, from the first poll on.
    key: Option<usize>,
    site: Arc<Site>,
}

impl Admitted {
    /// Asks the present router, if it is not the one that was asked last.
    ///
    /// # Errors
    /// The tunnel is no longer admitted.
    #[inline]
    fn check(&mut self, cx: &mut FlowCx<'_>) -> Result<()> {
        match self.site.generation.load(Ordering::Acquire) == self.generation {
            true => Ok(()),
            false => self.ask(cx),
        }
    }

    #[cold]
    fn ask(&mut self, cx: &mut FlowCx<'_>) -> Result<()> {
        let (router, generation) = self.site.now();
        let outcome = router.readmit(&self.entrance).map(Arc::clone);
        let outcome = outcome.and_then(|service| self.go_on(service, cx));
        match &outcome {
            Ok(()) => self.generation = generation,
            Err(cause) => info!(%cause, "a tunnel ends with the reload"),
        }
        outcome.map_err(|cause| cause.with_stream_error(StreamError::RequestCancelled))
    }

    fn go_on(&mut self, service: Arc<Service>, cx: &mut FlowCx<'_>) -> Result<()> {
        if Arc::ptr_eq(&service, &self.service) {
            return Ok(());
        }
        if !service.has_replaced(&self.service) {
            return Err(Error::internal("another endpoint is mounted there now"));
        }
        match service.endpoint() {
            Some(endpoint) => self.flow.on_reload(endpoint, cx)?,
            None => return Err(Error::internal("the endpoint is not started")),
        }
        self.service = service;
        Ok(())
    }
}

impl Flow for Admitted {
    fn on_datagrams(&mut self, inbound: &mut Batch, cx: &mut FlowCx<'_>) -> Result<()> {
        self.check(cx)?;
        self.flow.on_datagrams(inbound, cx)
    }

    fn on_capsule(&mut self, capsule: Capsule<'_>, cx: &mut FlowCx<'_>) -> Result<()> {
        self.check(cx)?;
        self.flow.on_capsule(capsule, cx)
    }

    fn poll_outbound(&mut self, cx: &mut FlowCx<'_>) -> Poll<Result<()>> {
        // The waker first: a reload after the check then finds it.
        if self.key.is_none() {
            let waker = cx.task().waker().clone();
            self.key = Some(self.site.tunnels().insert(waker));
        }
        if let Err(error) = self.check(cx) {
            return Poll::Ready(Err(error));
        }
        self.flow.poll_outbound(cx)
    }

    fn admit_capsule(&self, kind: u64, len: u64, start: &[u8]) -> Admit {
        self.flow.admit_capsule(kind, len, start)
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.site.tunnels().try_remove(key);
        }
    }
}
