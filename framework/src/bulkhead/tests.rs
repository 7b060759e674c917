use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Waker;

use futures_util::stream;
use serde::Deserialize;

use super::*;
use crate::flow::{Flow, FlowCx, Outbox};
use crate::packet::{Batch, Packet};
use crate::prelude::{async_trait, typetag};
use crate::router::{Mount, Router};
use crate::site::Site;
use crate::template::PathTemplate;
use crate::wire::capsule::Admit;

/// Panics where the path says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Panicky {
    #[serde(default)]
    at: String,
}

static PANICKY: EndpointType = EndpointType::new("Panicky", "panics", "", |_| Ok(()));

#[async_trait]
#[typetag::deserialize]
impl Endpoint for Panicky {
    async fn start(&mut self, _cx: &StartContext) -> Result<()> {
        assert_ne!(self.at, "start");
        Ok(())
    }

    async fn handle(&self, request: Request) -> Result<Response> {
        let at: String = request.var("at")?;
        assert_ne!(at, "handle");
        if at == "await" {
            tokio::task::yield_now().await;
            panic!("on purpose");
        }
        if at == "cancelled" {
            let _bomb = Bomb;
            std::future::pending::<()>().await;
        }
        if at == "content" {
            let mut response = Response::ok("");
            response.body = Body::stream(stream::poll_fn(|_| panic!("on purpose")));
            return Ok(response);
        }
        if at == "content-drop" {
            let bomb = Bomb;
            let mut response = Response::ok("");
            response.body = Body::stream(stream::poll_fn(move |_| {
                let _held = &bomb;
                Poll::Ready(None)
            }));
            return Ok(response);
        }
        Ok(Response::flow(PanickyFlow {
            _bomb: (at == "drop").then(|| Bomb),
            at,
        }))
    }

    async fn stop(&self) {
        assert_ne!(self.at, "stop");
    }
}

/// Panics when it is dropped, and what it panics with does so again.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        struct Payload;
        impl Drop for Payload {
            fn drop(&mut self) {
                panic!("on purpose, again");
            }
        }
        std::panic::panic_any(Payload);
    }
}

struct PanickyFlow {
    at: String,
    _bomb: Option<Bomb>,
}

impl Flow for PanickyFlow {
    fn on_datagrams(&mut self, _inbound: &mut Batch, _cx: &mut FlowCx<'_>) -> Result<()> {
        assert_ne!(self.at, "datagram");
        Ok(())
    }

    fn poll_outbound(&mut self, _cx: &mut FlowCx<'_>) -> Poll<Result<()>> {
        assert_ne!(self.at, "poll");
        Poll::Pending
    }

    fn admit_capsule(&self, _kind: u64, _len: u64, _start: &[u8]) -> Admit {
        assert_ne!(self.at, "admit");
        Admit::Skip
    }
}

fn mount(at: &str) -> Mount {
    let template = PathTemplate::parse("/panicky/{at}").unwrap();
    Mount::new(
        &PANICKY,
        vec![template],
        Box::new(Panicky { at: at.into() }),
    )
}

/// A router over a [`Panicky`], started on threads of its own.
async fn router(limits: &Limits) -> Router {
    let router = Router::new(vec![mount("")], "test").unwrap();
    let mut router = router.with_limits(limits).with_isolation();
    router.start(&StartContext::new(".")).await.unwrap();
    router
}

fn get(at: &str) -> Request {
    Request::get(format!("/panicky/{at}"))
}

async fn status(router: &Router, at: &str) -> u16 {
    let request = match at {
        "handle" | "await" | "cancelled" | "content" => get(at),
        _ => Request::tunnel("panicky", format!("/panicky/{at}")),
    };
    router.dispatch(request).await.status.as_u16()
}

async fn open(router: &Router, at: &str) -> Box<dyn Flow> {
    let request = Request::tunnel("panicky", format!("/panicky/{at}"));
    match router.dispatch(request).await.body {
        Body::Flow(flow) => flow,
        body => panic!("no flow but {body:?}"),
    }
}

#[tokio::test]
async fn a_panic_ends_its_request_and_many_close_the_endpoint() {
    let limits = Limits {
        panics_per_minute: 20,
        ..Limits::default()
    };
    let router = router(&limits).await;
    for _ in 0..10 {
        assert_eq!(status(&router, "handle").await, 500);
        assert_eq!(status(&router, "await").await, 500);
    }
    let answer = router.dispatch(get("fine")).await;
    assert_eq!(answer.status.as_u16(), 503);
    assert!(answer.headers.contains_key("retry-after"));
}

#[tokio::test]
async fn other_limits_count_for_an_endpoint_that_runs() {
    let start = StartContext::new(".");
    let limited = |limits: &Limits| {
        let keys = serde_json::json!({});
        let router = Router::new(vec![mount("").with_keys(keys)], "test").unwrap();
        router.with_limits(limits)
    };
    let mut router = limited(&Limits {
        panics_per_minute: 2,
        ..Limits::default()
    });
    router.start(&start).await.unwrap();
    let (site, _retired) = Site::new(router);
    let status = async |at: &str| site.dispatch(get(at)).await.status.as_u16();
    let reload = async |limits: Limits| {
        let mut next = limited(&limits);
        let changes = next.start_after(&site.router(), &start).await.unwrap();
        assert_eq!((changes.kept, changes.changed), (1, 0));
        // It is in force with the rest, and not before.
        site.replace(next);
    };
    for expected in [500, 500, 503] {
        assert_eq!(status("handle").await, expected);
    }
    let limits = Limits {
        handle_timeout: Duration::from_millis(20),
        requests_per_endpoint: 1,
        ..Limits::default()
    };
    reload(limits.clone()).await;
    let [late, beyond] = ["cancelled", "handle"].map(status);
    assert_eq!(tokio::join!(late, beyond), (503, 503));
    assert_eq!(status("handle").await, 500);
    reload(Limits {
        requests_per_endpoint: 2,
        ..limits
    })
    .await;
    let [late, beside] = ["cancelled", "handle"].map(status);
    assert_eq!(tokio::join!(late, beside), (503, 500));
}

#[test]
fn an_endpoint_that_was_closed_opens_again_after_a_minute() {
    let limits = Limits {
        panics_per_minute: 3,
        ..Limits::default()
    };
    let bulkhead = Bulkhead::new(&PANICKY, &limits);
    let start = Instant::now();
    for n in 0..3 {
        assert!(!bulkhead.is_closed(start));
        bulkhead.note_panic("test", start + Duration::from_secs(n));
    }
    bulkhead.note_panic("beyond", start + Duration::from_secs(30));
    assert!(bulkhead.is_closed(start + PANIC_WINDOW - Duration::from_millis(1)));
    assert!(!bulkhead.is_closed(start + PANIC_WINDOW));
}

#[tokio::test]
async fn a_panic_in_any_hook_of_a_flow_or_of_content_stays_in_it() {
    let router = router(&Limits::default()).await;
    let mut outbox = Outbox::default();
    let mut flow = open(&router, "datagram").await;
    let mut batch = Batch::new();
    batch.push(Packet::copy_from(b"x")).unwrap();
    let mut cx = FlowCx::new(&mut outbox, Waker::noop(), 1, 1200);
    flow.on_datagrams(&mut batch, &mut cx).unwrap_err();

    let mut flow = open(&router, "poll").await;
    let polled = flow.poll_outbound(&mut FlowCx::new(&mut outbox, Waker::noop(), 1, 1200));
    assert!(matches!(polled, Poll::Ready(Err(_))));

    drop(open(&router, "drop").await);
    // The answer came too late for its request.
    drop(router.dispatch(get("content-drop")).await);

    let mut response = router.dispatch(get("content")).await;
    response.body.next().await.unwrap().unwrap_err();
}

#[tokio::test]
async fn a_panic_while_a_request_is_cancelled_goes_unnoticed() {
    for isolated in [true, false] {
        let router = Router::new(vec![mount("")], "test").unwrap();
        let limits = Limits {
            handle_timeout: Duration::from_millis(20),
            requests_per_endpoint: 1,
            ..Limits::default()
        };
        let mut router = router.with_limits(&limits);
        if isolated {
            router = router.with_isolation();
        }
        router.start(&StartContext::new(".")).await.unwrap();
        let late = router.dispatch(get("cancelled")).await;
        assert_eq!(late.status.as_u16(), 503);
        // Its place is free again.
        let deadline = Instant::now() + Duration::from_secs(5);
        while status(&router, "handle").await != 500 {
            assert!(Instant::now() < deadline);
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_panic_at_the_start_is_an_error_and_at_the_stop_is_none() {
    let cx = StartContext::new(".");
    for at in ["start", "stop"] {
        let mut router = Router::new(vec![mount(at)], "test").unwrap();
        assert_eq!(router.start(&cx).await.is_err(), at == "start");
        router.stop().await;
    }
}

#[tokio::test]
async fn a_panicking_task_of_a_tunnel_ends_the_tunnel() {
    let response = Response::tunnel(|_tunnel| async { panic!("on purpose") });
    let bulkhead = Arc::new(Bulkhead::new(&PANICKY, &Limits::default()));
    let Body::Flow(mut flow) = bulkhead.contain(response).body else {
        panic!("no flow");
    };
    let result = std::future::poll_fn(|cx| {
        flow.poll_outbound(&mut FlowCx::new(
            &mut Outbox::default(),
            cx.waker(),
            1,
            1200,
        ))
    });
    result.await.unwrap_err();
    assert_eq!(bulkhead.lock().len(), 1);
}

/// Blocks its thread until the gate is open.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Blocking {}

static BLOCKING: EndpointType = EndpointType::new("Blocking", "blocks", "", |_| Ok(()));

static INSIDE: AtomicUsize = AtomicUsize::new(0);
static IS_OPEN: AtomicBool = AtomicBool::new(false);

#[async_trait]
#[typetag::deserialize]
impl Endpoint for Blocking {
    async fn handle(&self, _request: Request) -> Result<Response> {
        INSIDE.fetch_add(1, Ordering::SeqCst);
        while !IS_OPEN.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(Response::ok("at last"))
    }
}

#[tokio::test]
async fn an_endpoint_that_blocks_is_given_up_and_blocks_nobody_else() {
    let template = PathTemplate::parse("/blocking").unwrap();
    let blocking = Mount::new(&BLOCKING, vec![template], Box::new(Blocking {}));
    let limits = Limits {
        handle_timeout: Duration::from_millis(50),
        requests_per_endpoint: 4,
        ..Limits::default()
    };
    let router = Router::new(vec![blocking, mount("")], "test").unwrap();
    let mut router = router.with_limits(&limits).with_isolation();
    router.start(&StartContext::new(".")).await.unwrap();

    let ask = || router.dispatch(Request::get("/blocking"));
    let asked = Instant::now();
    let answers = futures_util::future::join_all((0..4).map(|_| ask())).await;
    assert!(asked.elapsed() < Duration::from_secs(5));
    assert!(answers.iter().all(|answer| answer.status.as_u16() == 503));
    assert_eq!(INSIDE.load(Ordering::SeqCst), THREADS);
    // The other endpoint's threads are its own.
    assert_eq!(status(&router, "handle").await, 500);

    IS_OPEN.store(true, Ordering::SeqCst);
    let deadline = Instant::now() + Duration::from_secs(5);
    while ask().await.status.as_u16() != 200 {
        assert!(Instant::now() < deadline, "it answers again");
        tokio::task::yield_now().await;
    }
}
