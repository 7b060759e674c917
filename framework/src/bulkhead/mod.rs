//! [`Bulkhead`]: what keeps the faults of one endpoint from reaching the others.
//!
//! An endpoint's code is trusted, and still it panics, blocks, and takes for ever. A panic ends the
//! request or tunnel that it happened in, and many of them in a minute close the endpoint for that
//! minute. [`Endpoint::handle`] runs on threads that belong to the endpoint alone, unless its type is
//! [`inline`](EndpointType::inline), so that blocking them stops nothing else. It has to answer in
//! time, and runs so many times at once.

mod contained;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::StatusCode;
use tokio::runtime::{self, Runtime};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::{debug, error, warn};

use self::contained::{Contained, ContainedFlow, contain_stream};
use crate::config::Limits;
use crate::endpoint::{Endpoint, EndpointType, StartContext};
use crate::error::{Error, Result};
use crate::health::{Code, Running, STALL};
use crate::request::Request;
use crate::response::{Body, Response};

/// Threads of an endpoint that is not inline: one may block, and the other goes on.
const THREADS: usize = 2;

/// Threads on which such an endpoint may block on purpose, with `spawn_blocking`.
const BLOCKING_THREADS: usize = 64;

/// The time in which panics are counted.
const PANIC_WINDOW: Duration = Duration::from_secs(60);

/// How long an endpoint may take to release what it holds.
const STOP_TIME: Duration = Duration::from_secs(2);

/// A mounted endpoint and what surrounds it. A clone is the same endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Enclosed {
    /// `None` once it has failed to start.
    endpoint: Option<SharedEndpoint>,
    bulkhead: Arc<Bulkhead>,
}

type SharedEndpoint = Arc<Contained<Box<dyn Endpoint>>>;

impl Enclosed {
    pub(crate) fn new(kind: &EndpointType, endpoint: Box<dyn Endpoint>) -> Self {
        Self {
            endpoint: Some(Arc::new(Contained::new(endpoint))),
            bulkhead: Arc::new(Bulkhead::new(kind, &Limits::default())),
        }
    }

    /// Holds the endpoint to `limits` from now on. Calls that run already have the time that they had.
    pub(crate) fn limit(&self, limits: &Limits) {
        self.bulkhead.limit(limits);
    }

    /// The endpoint; `None` once it has failed to start.
    pub(crate) fn get(&self) -> Option<&(dyn Endpoint + 'static)> {
        self.endpoint.as_ref().map(|endpoint| &**endpoint.get())
    }

    /// Starts the endpoint, in the place of `former` if there is one, and with `is_isolated` on
    /// threads of its own unless its type is inline: what it opens and spawns lives where its
    /// requests are answered.
    ///
    /// # Errors
    /// Its own, that it panicked, or that the operating system gives no threads.
    pub(crate) async fn start(
        &mut self,
        former: Option<&Self>,
        cx: &StartContext,
        is_isolated: bool,
    ) -> Result<()> {
        if is_isolated && let Some(bulkhead) = Arc::get_mut(&mut self.bulkhead) {
            bulkhead.isolate()?;
        }
        let endpoint = self.endpoint.take().and_then(Arc::into_inner);
        let Some(mut endpoint) = endpoint else {
            return Err(Error::internal("the endpoint is started already"));
        };
        let cx = cx.clone();
        let former = former.and_then(|former| former.endpoint.clone());
        let started = self.bulkhead.contained("start", async move {
            match &former {
                Some(former) => endpoint.get_mut().start_after(&**former.get(), &cx).await?,
                None => endpoint.get_mut().start(&cx).await?,
            }
            Ok(endpoint)
        });
        let endpoint = self.bulkhead.run(started).await?;
        self.endpoint = Some(Arc::new(endpoint));
        Ok(())
    }

    /// Stops the endpoint, and waits for it a little.
    pub(crate) async fn stop(&self) {
        let Some(endpoint) = self.endpoint.clone() else {
            return;
        };
        let stopped = self.bulkhead.contained("stop", async move {
            endpoint.get().stop().await;
            Ok(())
        });
        if timeout(STOP_TIME, self.bulkhead.run(stopped))
            .await
            .is_err()
        {
            let endpoint = self.bulkhead.tag;
            warn!(endpoint, "an endpoint does not stop, and is left behind");
        }
    }

    /// Has the endpoint answer a request.
    ///
    /// # Errors
    /// What the endpoint answers, 500 when it panics, and 503 when it does not answer in time, has
    /// too many requests already, or has panicked too often.
    pub(crate) async fn handle(&self, request: Request) -> Result<Response> {
        match &self.endpoint {
            Some(endpoint) => self.bulkhead.handle(endpoint.clone(), request).await,
            None => Err(Error::internal("the endpoint is not started")),
        }
    }
}

/// What surrounds one endpoint.
#[derive(Debug)]
struct Bulkhead {
    tag: &'static str,
    code: Code,
    is_inline: bool,
    limits: RwLock<HandleLimits>,
    runtime: Option<OwnRuntime>,
    /// Calls of `handle` under way, those included that were given up and still block.
    running: AtomicUsize,
    /// When the endpoint panicked, within [`PANIC_WINDOW`]; no more than are allowed.
    panics: Mutex<VecDeque<Instant>>,
}

#[derive(Clone, Copy, Debug)]
struct HandleLimits {
    calls: usize,
    time: Duration,
    panics: usize,
}

impl From<&Limits> for HandleLimits {
    fn from(limits: &Limits) -> Self {
        Self {
            calls: limits.requests_per_endpoint,
            time: limits.handle_timeout,
            panics: limits.panics_per_minute,
        }
    }
}

/// A call of `handle` under way; over when this is dropped.
struct Place(Arc<Bulkhead>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Bulkhead {
    fn new(kind: &EndpointType, limits: &Limits) -> Self {
        Self {
            tag: kind.tag,
            code: Code::of(kind.tag),
            is_inline: kind.inline,
            limits: RwLock::new(limits.into()),
            runtime: None,
            running: AtomicUsize::new(0),
            panics: Mutex::default(),
        }
    }

    fn isolate(&mut self) -> io::Result<()> {
        if !self.is_inline {
            self.runtime = Some(OwnRuntime::new(self.tag)?);
        }
        Ok(())
    }

    fn limit(&self, limits: &Limits) {
        let mut current = self.limits.write().unwrap_or_else(PoisonError::into_inner);
        *current = limits.into();
    }

    fn limits(&self) -> HandleLimits {
        *self.limits.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for one more call, unless there are `limit` already.
    fn place(self: &Arc<Self>, limit: usize) -> Option<Place> {
        let add = |running: usize| (running < limit).then_some(running + 1);
        let taken = self
            .running
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        taken.is_ok().then(|| Place(self.clone()))
    }

    async fn handle(
        self: &Arc<Self>,
        endpoint: SharedEndpoint,
        request: Request,
    ) -> Result<Response> {
        if self.is_closed(Instant::now()) {
            return Err(unavailable("the endpoint has panicked too often"));
        }
        let limits = self.limits();
        let Some(place) = self.place(limits.calls) else {
            return Err(unavailable("the endpoint has too many requests"));
        };
        let bulkhead = self.clone();
        // The place is kept as long as the endpoint is at work, whether or not somebody waits for it.
        let answer = self.contained("handle", async move {
            let _place = place;
            let response = endpoint.get().handle(request).await?;
            Ok(bulkhead.contain(response))
        });
        match timeout(limits.time, self.run(answer)).await {
            Ok(answer) => answer,
            Err(_late) => {
                let (endpoint, limit) = (self.tag, limits.time);
                let running = self.running.load(Ordering::Relaxed);
                warn!(
                    endpoint,
                    ?limit,
                    running,
                    "a request was not answered in time"
                );
                Err(unavailable("the endpoint did not answer in time"))
            }
        }
    }

    /// Runs `work` on the endpoint's own threads, or here.
    async fn run<T: Send + 'static>(&self, work: ContainedFuture<T>) -> Result<T> {
        let Some(runtime) = &self.runtime else {
            return work.await;
        };
        // Aborted when nobody waits for it any more.
        let mut task = AbortOnDrop(runtime.spawn(work));
        match (&mut task.0).await {
            Ok(result) => result,
            Err(_) => Err(Error::internal("the endpoint's threads have ended")),
        }
    }

    fn contained<T>(
        self: &Arc<Self>,
        hook: &'static str,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> ContainedFuture<T> {
        ContainedFuture {
            work: Contained::new(Box::pin(work)),
            hook,
            bulkhead: self.clone(),
        }
    }

    /// The same response, whose body can do no harm.
    fn contain(self: &Arc<Self>, mut response: Response) -> Response {
        response.body = match response.body {
            Body::Flow(flow) => Body::Flow(Box::new(ContainedFlow::new(flow, self.clone()))),
            Body::Stream(stream) => Body::Stream(contain_stream(stream, self.clone())),
            body => body,
        };
        response
    }

    /// Runs the endpoint's code. `None` when it panicked.
    fn guard<T>(&self, hook: &str, code: impl FnOnce() -> T) -> Option<T> {
        let _running = Running::enter(self.code);
        let result = contain(code);
        if result.is_none() {
            self.note_panic(hook, Instant::now());
        }
        result
    }

    fn note_panic(&self, hook: &str, now: Instant) {
        let mut panics = self.lock();
        forget_old(&mut panics, now);
        let allowed = self.limits().panics;
        if panics.len() >= allowed {
            // It is closed; only tunnels that were open before still panic, and the log knows.
            return;
        }
        panics.push_back(now);
        let is_last = panics.len() >= allowed;
        drop(panics);
        error!(endpoint = self.tag, hook, "an endpoint panicked");
        if is_last {
            error!(
                endpoint = self.tag,
                "too many panics: it is closed for a minute"
            );
        }
    }

    /// Whether the endpoint has panicked so often that it gets no requests.
    fn is_closed(&self, now: Instant) -> bool {
        let mut panics = self.lock();
        forget_old(&mut panics, now);
        panics.len() >= self.limits().panics
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Instant>> {
        self.panics.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn forget_old(panics: &mut VecDeque<Instant>, now: Instant) {
    let is_old = |at: &Instant| now.saturating_duration_since(*at) >= PANIC_WINDOW;
    while panics.front().is_some_and(is_old) {
        panics.pop_front();
    }
}

/// Runs `code`. `None` when it panicked.
fn contain<T>(code: impl FnOnce() -> T) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(code)) {
        Ok(result) => Some(result),
        Err(payload) => {
            // What it panicked with is the endpoint's as well.
            if let Err(another) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
                std::mem::forget(another);
            }
            None
        }
    }
}

fn unavailable(message: &str) -> Error {
    Error::new(StatusCode::SERVICE_UNAVAILABLE, message)
}

/// Work of an endpoint, of which a panic, and a panic when it is dropped, is an error.
struct ContainedFuture<T> {
    work: Contained<Pin<Box<dyn Future<Output = Result<T>> + Send>>>,
    hook: &'static str,
    bulkhead: Arc<Bulkhead>,
}

impl<T> Future for ContainedFuture<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T>> {
        let this = &mut *self;
        let work = this.work.get_mut();
        let begun = this.bulkhead.runtime.is_some().then(Instant::now);
        let polled = this.bulkhead.guard(this.hook, || work.as_mut().poll(cx));
        if let Some(begun) = begun
            && begun.elapsed() > STALL
        {
            // On its own threads it delays nobody else.
            let (endpoint, time) = (this.bulkhead.tag, begun.elapsed());
            debug!(endpoint, ?time, "an endpoint blocked its thread");
        }
        polled.unwrap_or_else(|| Poll::Ready(Err(Error::internal("the endpoint panicked"))))
    }
}

/// Aborts the task when dropped.
struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The threads of one endpoint.
struct OwnRuntime(Option<Runtime>);

impl OwnRuntime {
    fn new(tag: &str) -> io::Result<Self> {
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .max_blocking_threads(BLOCKING_THREADS)
            .thread_name(tag)
            .enable_all()
            .build()?;
        Ok(Self(Some(runtime)))
    }

    fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> JoinHandle<Result<T>> {
        match &self.0 {
            Some(runtime) => runtime.spawn(work),
            // Only while it is being dropped.
            None => tokio::spawn(work),
        }
    }
}

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        // Nobody waits for threads that block.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for OwnRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OwnRuntime")
    }
}
