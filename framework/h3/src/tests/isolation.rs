//! Endpoints that panic and block in everything they do, beside a tunnel of another one.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Poll;
use std::thread::sleep;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use pasque::config::Limits;
use pasque::connection::{ClientError, Connection};
use pasque::prelude::*;
use pasque::testing::TestTunnel;
use tokio::runtime::Handle;

use super::endpoints::ECHO_CAPSULE;
use super::eventually;
use crate::testing::{Conditions, TestServer};

/// How often each hook goes wrong.
const TIMES: usize = 1000;

/// How long a hook blocks that runs inside a turn.
const SHORT: Duration = Duration::from_micros(200);

/// Panics or blocks where the path says.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Troubled {}

pasque::register!(Troubled, "panics and blocks",
    example: r#"{ "path": "/troubled/{how}/{hook}", "type": "Troubled" }"#);

/// Calls that block until they are let go.
static BLOCKED: AtomicUsize = AtomicUsize::new(0);
static LET_GO: AtomicBool = AtomicBool::new(false);

#[derive(Clone, Debug)]
struct Trouble {
    how: String,
    hook: String,
}

impl Trouble {
    fn make(&self, hook: &str) {
        if self.hook != hook {
            return;
        }
        match self.how.as_str() {
            // As a panic, without the words.
            "panic" => resume_unwind(Box::new("on purpose")),
            _ => sleep(SHORT),
        }
    }
}

#[async_trait]
#[typetag::deserialize]
impl Endpoint for Troubled {
    async fn handle(&self, request: Request) -> Result<Response> {
        let trouble = Trouble {
            how: request.var("how")?,
            hook: request.var("hook")?,
        };
        trouble.make("handle");
        if trouble.how == "stuck" {
            BLOCKED.fetch_add(1, Ordering::SeqCst);
            while !LET_GO.load(Ordering::SeqCst) {
                sleep(Duration::from_millis(1));
            }
        }
        if request.protocol.is_some() {
            return Ok(Response::flow(TroubledFlow(trouble)));
        }
        let held = TroubledFlow(trouble);
        let mut response = Response::ok("");
        response.headers.clear();
        let mut chunks = 1;
        response.body = Body::stream(stream::poll_fn(move |_| {
            held.0.make("content");
            chunks -= 1;
            Poll::Ready((chunks >= 0).then(|| Ok(Bytes::from_static(b"content"))))
        }));
        Ok(response)
    }
}

struct TroubledFlow(Trouble);

impl Flow for TroubledFlow {
    fn on_datagrams(&mut self, _inbound: &mut Batch, _cx: &mut FlowCx<'_>) -> Result<()> {
        self.0.make("datagram");
        Ok(())
    }

    fn on_capsule(&mut self, _capsule: Capsule<'_>, _cx: &mut FlowCx<'_>) -> Result<()> {
        self.0.make("capsule");
        Ok(())
    }

    fn poll_outbound(&mut self, _cx: &mut FlowCx<'_>) -> Poll<Result<()>> {
        self.0.make("poll");
        Poll::Pending
    }

    fn admit_capsule(&self, _kind: u64, _len: u64, _start: &[u8]) -> Admit {
        self.0.make("admit");
        Admit::Buffer
    }
}

impl Drop for TroubledFlow {
    fn drop(&mut self) {
        self.0.make("drop");
    }
}

/// A client that says one thing in each way there is.
struct Speaker {
    has_spoken: bool,
    /// Whether it then ends the tunnel, or waits for the other end to do so.
    ends: bool,
}

impl Flow for Speaker {
    fn on_datagrams(&mut self, _inbound: &mut Batch, _cx: &mut FlowCx<'_>) -> Result<()> {
        Ok(())
    }

    fn poll_outbound(&mut self, cx: &mut FlowCx<'_>) -> Poll<Result<()>> {
        if cx.room() == 0 {
            return Poll::Pending;
        }
        if !std::mem::replace(&mut self.has_spoken, true) {
            cx.send(Packet::copy_from(b"datagram"));
            cx.send_capsule(ECHO_CAPSULE, b"capsule");
            cx.task().waker().wake_by_ref();
            return Poll::Pending;
        }
        match self.ends {
            true => Poll::Ready(Ok(())),
            false => Poll::Pending,
        }
    }
}

/// Opens a tunnel and waits for its end. Returns whether everything went well.
async fn tunnel(client: &Connection, how: &str, hook: &str) -> bool {
    let request = Request::tunnel("troubled", format!("/troubled/{how}/{hook}"));
    let speaker = Speaker {
        has_spoken: false,
        ends: how != "panic" || ["none", "drop"].contains(&hook),
    };
    match client.open(request, speaker).await {
        Ok(open) => open.ended().await.is_ok(),
        Err(ClientError::Refused { .. } | ClientError::Reset(_)) => false,
        Err(error) => panic!("{error}"),
    }
}

async fn content(client: &Connection, how: &str, hook: &str) -> bool {
    let request = Request::get(format!("/troubled/{how}/{hook}"));
    match client.request(request).await {
        Ok(response) => response.status.is_success() && response.body.collect(100).await.is_ok(),
        Err(ClientError::Reset(_)) => false,
        Err(error) => panic!("{error}"),
    }
}

/// A tunnel of another endpoint on another connection.
struct Bystander {
    tunnel: TestTunnel,
    _connection: Connection,
    exchanged: u32,
}

impl Bystander {
    async fn open(server: &TestServer) -> Self {
        let connection = server.connection().await.unwrap();
        let request = Request::tunnel("echo", "/echo");
        Self {
            tunnel: TestTunnel::open(&connection, request).await.unwrap(),
            _connection: connection,
            exchanged: 0,
        }
    }

    /// Sends a datagram and gets it back: none is lost, and none is out of order.
    async fn exchange(&mut self) {
        self.exchanged += 1;
        self.tunnel.send(&self.exchanged.to_be_bytes());
        assert_eq!(&*self.tunnel.recv().await, self.exchanged.to_be_bytes());
    }
}

async fn server() -> TestServer {
    let limits = Limits {
        resets_per_10s: 100_000,
        panics_per_minute: 1_000_000,
        ..Limits::default()
    };
    let endpoints = [
        r#"{ "path": "/echo", "type": "Echo" }"#,
        r#"{ "path": "/troubled/{how}/{hook}", "type": "Troubled" }"#,
    ];
    TestServer::start(&endpoints, Conditions::default(), limits).await
}

const HOOKS: [&str; 6] = ["handle", "datagram", "capsule", "admit", "poll", "drop"];

async fn trouble(how: &str, goes_well: impl Fn(&str) -> Option<bool>) {
    let server = server().await;
    let mut bystander = Bystander::open(&server).await;
    let client = server.connection().await.unwrap();
    tunnel(&client, how, "none").await;
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    for hook in HOOKS {
        for _ in 0..TIMES {
            let well = tunnel(&client, how, hook).await;
            assert!(
                goes_well(hook).is_none_or(|expected| expected == well),
                "{hook}"
            );
            bystander.exchange().await;
        }
    }
    for hook in ["content", "drop"] {
        for _ in 0..TIMES {
            let well = content(&client, how, hook).await;
            assert!(
                goes_well(hook).is_none_or(|expected| expected == well),
                "{hook}"
            );
            bystander.exchange().await;
        }
    }
    assert_eq!(bystander.exchanged as usize, TIMES * (HOOKS.len() + 2));
    eventually("the tunnels are gone", || server.tunnels() == 1).await;
    eventually("the tasks are gone", || tasks() <= before).await;
    assert_eq!(server.connections(), 2);
    assert!(tunnel(&client, how, "none").await, "it still answers");
}

#[tokio::test]
async fn a_thousand_panics_in_each_hook_cost_nobody_else_a_datagram() {
    trouble("panic", |hook| match hook {
        // What it did is done by then.
        "drop" => None,
        _ => Some(false),
    })
    .await;
}

#[tokio::test]
async fn a_thousand_short_blocks_in_each_hook_cost_nobody_else_a_datagram() {
    trouble("block", |_| Some(true)).await;
}

#[tokio::test]
async fn an_endpoint_that_blocks_for_long_stops_no_packets_of_others() {
    let server = server().await;
    let mut bystander = Bystander::open(&server).await;
    let client = server.connection().await.unwrap();
    let stuck: Vec<_> = (0..50)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { tunnel(&client, "stuck", "none").await })
        })
        .collect();
    eventually("its threads are blocked", || {
        BLOCKED.load(Ordering::SeqCst) == 2
    })
    .await;
    for _ in 0..TIMES {
        bystander.exchange().await;
    }
    assert_eq!(BLOCKED.load(Ordering::SeqCst), 2);
    LET_GO.store(true, Ordering::SeqCst);
    for stuck in stuck {
        assert!(stuck.await.unwrap(), "it is served in the end");
    }
}
