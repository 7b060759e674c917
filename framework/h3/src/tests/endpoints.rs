//! What the tests' server serves.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, Method, StatusCode, header};
use pasque::Outbox;
use pasque::prelude::*;
use pasque::proxy_status::ProxyError;
use pasque::wire::capsule;
use tokio::sync::Notify;

/// A capsule type that [`Echo`] knows, beside DATAGRAM.
pub(super) const ECHO_CAPSULE: u64 = 0x1234;

/// The size of one chunk of [`Content`], in bytes.
pub(super) const CHUNK: usize = 16 << 10;

/// What a test and an endpoint tell each other. A request names it in the field `mark`, or in a
/// variable.
#[derive(Debug, Default)]
pub(super) struct Mark {
    gate: Notify,
    inside: AtomicUsize,
    produced: AtomicUsize,
}

impl Mark {
    /// The mark of this name.
    pub(super) fn named(name: &str) -> Arc<Self> {
        static MARKS: LazyLock<Mutex<HashMap<String, Arc<Mark>>>> = LazyLock::new(Mutex::default);
        MARKS
            .lock()
            .unwrap()
            .entry(name.to_owned())
            .or_default()
            .clone()
    }

    /// Lets one waiting request go on.
    pub(super) fn open(&self) {
        self.gate.notify_one();
    }

    /// Requests that wait now.
    pub(super) fn inside(&self) -> usize {
        self.inside.load(Ordering::Relaxed)
    }

    /// Bytes of content made so far.
    pub(super) fn produced(&self) -> usize {
        self.produced.load(Ordering::Relaxed)
    }

    async fn wait(&self) {
        struct Inside<'a>(&'a AtomicUsize);
        impl Drop for Inside<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        self.inside.fetch_add(1, Ordering::Relaxed);
        let _inside = Inside(&self.inside);
        self.gate.notified().await;
    }

    fn of(request: &Request) -> Arc<Self> {
        let field = request
            .headers
            .get("mark")
            .and_then(|value| value.to_str().ok());
        Self::named(field.unwrap_or_default())
    }
}

/// Returns every datagram, and every capsule of its own type; some do something else.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Echo {}

pasque::register!(Echo, "returns every datagram",
    example: r#"{ "path": "echo", "type": "Echo" }"#);

#[async_trait]
#[typetag::deserialize]
impl Endpoint for Echo {
    async fn handle(&self, request: Request) -> Result<Response> {
        request.require_protocol("echo")?;
        Ok(Response::flow(EchoFlow::default()))
    }
}

#[derive(Debug, Default)]
struct EchoFlow {
    is_over: bool,
}

impl Flow for EchoFlow {
    fn on_datagrams(&mut self, inbound: &mut Batch, cx: &mut FlowCx<'_>) -> Result<()> {
        for packet in inbound.drain() {
            match &packet[..] {
                b"!panic" => panic!("on purpose"),
                b"!fail" => return Err(Error::internal("on purpose")),
                b"!end" => {
                    self.is_over = true;
                    cx.task().waker().wake_by_ref();
                }
                b"!too long" => cx.send(Packet::with_len(cx.max_len() + 1)),
                b"!longest" => cx.send(Packet::with_len(cx.max_len())),
                _ => cx.send(packet),
            }
        }
        Ok(())
    }

    fn on_capsule(&mut self, capsule: Capsule<'_>, cx: &mut FlowCx<'_>) -> Result<()> {
        if capsule.value == b"!malformed" {
            return Err(Error::malformed("on purpose"));
        }
        cx.send_capsule(capsule.kind, capsule.value);
        Ok(())
    }

    fn poll_outbound(&mut self, _cx: &mut FlowCx<'_>) -> Poll<Result<()>> {
        if self.is_over {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    }

    fn admit_capsule(&self, kind: u64, len: u64, _start: &[u8]) -> Admit {
        capsule::admit_known(kind, len, &[capsule::DATAGRAM, ECHO_CAPSULE])
    }
}

/// Answers a tunnel request when the test says so, as one does that resolves names first.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Hold {}

pasque::register!(Hold, "answers when it is told to",
    example: r#"{ "path": "/hold/{mark}", "type": "Hold" }"#);

#[async_trait]
#[typetag::deserialize]
impl Endpoint for Hold {
    async fn handle(&self, request: Request) -> Result<Response> {
        request.require_protocol("connect-udp")?;
        let name: String = request.var("mark")?;
        Mark::named(&name).wait().await;
        if name.ends_with("-refused") {
            return Err(Error::proxy(
                ProxyError::DestinationIpProhibited,
                "on purpose",
            ));
        }
        Ok(Response::flow(EchoFlow::default()))
    }
}

/// Content of any length, and what becomes of content that is sent to it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Content {}

pasque::register!(Content, "makes content",
    example: r#"{ "path": "/content/{what}", "type": "Content" }"#);

#[async_trait]
#[typetag::deserialize]
impl Endpoint for Content {
    async fn handle(&self, request: Request) -> Result<Response> {
        request.require_method(
            &[Method::GET, Method::HEAD, Method::POST],
            "GET, HEAD, POST",
        )?;
        let what: String = request.var("what")?;
        let mark = Mark::of(&request);
        match what.as_str() {
            "echo" => {
                let mut response = Response::new(StatusCode::OK);
                response.body = request.body;
                Ok(response)
            }
            "too-large" => Err(Error::new(StatusCode::PAYLOAD_TOO_LARGE, "on purpose")),
            "peer" => Ok(Response::ok(request.peer.to_string())),
            "unread" => {
                // Holds the content without looking at it.
                mark.wait().await;
                drop(request.body);
                Ok(Response::ok("late"))
            }
            len => {
                let len: usize = len.parse().map_err(|_| Error::bad_request("no length"))?;
                let length = HeaderValue::from(len);
                let mut response =
                    Response::new(StatusCode::OK).with_header(header::CONTENT_LENGTH, length);
                response.body = Body::stream(stream::unfold(0, move |at| {
                    let chunk = pattern(at, CHUNK.min(len - at));
                    mark.produced.fetch_add(chunk.len(), Ordering::Relaxed);
                    async move { (!chunk.is_empty()).then(|| (Ok(chunk.clone()), at + chunk.len())) }
                }));
                Ok(response)
            }
        }
    }
}

/// Bytes `at` to `at + len` of all content here: no two nearby places look alike.
pub(super) fn pattern(at: usize, len: usize) -> Bytes {
    (at..at + len)
        .map(|n| (n ^ (n >> 8) ^ (n >> 16)) as u8)
        .collect()
}

/// A tunnel that sends `count` capsules of `len` bytes as soon as it is open, and takes none.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Speaker {}

pasque::register!(Speaker, "sends capsules",
    example: r#"{ "path": "/speaker/{count}/{len}", "type": "Speaker" }"#);

#[async_trait]
#[typetag::deserialize]
impl Endpoint for Speaker {
    async fn handle(&self, request: Request) -> Result<Response> {
        request.require_protocol("speaker")?;
        Ok(Response::flow(SpeakerFlow {
            count: request.var("count")?,
            len: request.var("len")?,
        }))
    }
}

struct SpeakerFlow {
    count: usize,
    len: usize,
}

impl Flow for SpeakerFlow {
    fn on_datagrams(&mut self, _inbound: &mut Batch, _cx: &mut FlowCx<'_>) -> Result<()> {
        Ok(())
    }

    fn poll_outbound(&mut self, cx: &mut FlowCx<'_>) -> Poll<Result<()>> {
        for n in 0..std::mem::take(&mut self.count) {
            cx.send_capsule(ECHO_CAPSULE, &pattern(n, self.len));
        }
        Poll::Pending
    }
}

/// A tunnel that counts how many datagrams it is given while nobody else has a turn: `ticks` goes on with
/// each turn that a task of the same thread has.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Metronome {}

pasque::register!(Metronome, "counts what comes in one turn",
    example: r#"{ "path": "/metronome", "type": "Metronome" }"#);

/// What the [`Metronome`]s of this thread have seen.
#[derive(Debug, Default)]
pub(super) struct Beat {
    pub(super) ticks: AtomicUsize,
    /// Datagrams, and the most between two ticks.
    pub(super) taken: AtomicUsize,
    pub(super) most: AtomicUsize,
    at: AtomicUsize,
    here: AtomicUsize,
}

thread_local! {
    pub(super) static BEAT: Arc<Beat> = Arc::default();
}

#[async_trait]
#[typetag::deserialize]
impl Endpoint for Metronome {
    async fn handle(&self, request: Request) -> Result<Response> {
        request.require_protocol("metronome")?;
        Ok(Response::flow(MetronomeFlow))
    }
}

struct MetronomeFlow;

impl Flow for MetronomeFlow {
    fn on_datagrams(&mut self, inbound: &mut Batch, _cx: &mut FlowCx<'_>) -> Result<()> {
        let beat = BEAT.with(Arc::clone);
        let now = beat.ticks.load(Ordering::Relaxed);
        if beat.at.swap(now, Ordering::Relaxed) != now {
            beat.here.store(0, Ordering::Relaxed);
        }
        let here = beat.here.fetch_add(inbound.len(), Ordering::Relaxed) + inbound.len();
        beat.most.fetch_max(here, Ordering::Relaxed);
        beat.taken.fetch_add(inbound.len(), Ordering::Relaxed);
        Ok(())
    }

    fn poll_outbound(&mut self, _cx: &mut FlowCx<'_>) -> Poll<Result<()>> {
        Poll::Pending
    }
}

/// Datagrams that a [`Gauge`] sends when it is told to.
pub(super) const FLOOD: usize = 4000;

/// A tunnel that says how long a datagram may be, in eight bytes: whenever that has changed, and when
/// it is asked. On demand it sends [`FLOOD`] datagrams. Those that begin with `#` it answers with their
/// bytes together, in text, as far as they are delivered at once. What else it is sent it returns.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Gauge {}

pasque::register!(Gauge, "tells the length of its datagrams",
    example: r#"{ "path": "/gauge", "type": "Gauge" }"#);

#[async_trait]
#[typetag::deserialize]
impl Endpoint for Gauge {
    async fn handle(&self, request: Request) -> Result<Response> {
        request.require_protocol("gauge")?;
        Ok(Response::flow(GaugeFlow { told: 0, flood: 0 }))
    }
}

struct GaugeFlow {
    told: usize,
    /// Datagrams that it was told to send.
    flood: usize,
}

impl GaugeFlow {
    fn tell(&mut self, cx: &mut FlowCx<'_>) {
        self.told = cx.max_len();
        cx.send(Packet::copy_from(&(self.told as u64).to_be_bytes()));
    }
}

impl Flow for GaugeFlow {
    fn on_datagrams(&mut self, inbound: &mut Batch, cx: &mut FlowCx<'_>) -> Result<()> {
        let weighed = inbound.iter().filter(|packet| packet.starts_with(b"#"));
        let weight: usize = weighed.map(|packet| packet.len()).sum();
        if weight > 0 {
            cx.send(Packet::copy_from(format!("#{weight}").as_bytes()));
        }
        for packet in inbound.drain() {
            match &packet[..] {
                b"!longest" => cx.send(Packet::with_len(cx.max_len())),
                b"?" => self.tell(cx),
                [b'#', ..] => {}
                b"!flood" => {
                    self.flood = FLOOD;
                    cx.task().waker().wake_by_ref();
                }
                _ => cx.send(packet),
            }
        }
        Ok(())
    }

    fn poll_outbound(&mut self, cx: &mut FlowCx<'_>) -> Poll<Result<()>> {
        if self.told != cx.max_len() {
            self.tell(cx);
        }
        while self.flood > 0 && cx.room() > 0 {
            self.flood -= 1;
            cx.send(Packet::with_len(1000));
        }
        Poll::Pending
    }
}

/// An endpoint with every fault that one can have.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Faulty {}

pasque::register!(Faulty, "does everything wrong",
    example: r#"{ "path": "/faulty/{how}", "type": "Faulty" }"#);

#[async_trait]
#[typetag::deserialize]
impl Endpoint for Faulty {
    async fn handle(&self, request: Request) -> Result<Response> {
        let how: String = request.var("how")?;
        match how.as_str() {
            "panic" => panic!("on purpose"),
            "flow" => Ok(Response::flow(EchoFlow::default())),
            "content" => Ok(Response::ok("content").with_header(
                header::HeaderName::from_static("capsule-protocol"),
                HeaderValue::from_static("?1"),
            )),
            "no-content" => {
                let mut response = Response::flow(EchoFlow::default());
                response.status = StatusCode::NO_CONTENT;
                Ok(response)
            }
            "described" => Ok(Response::flow(EchoFlow::default())
                .with_header(header::CONTENT_LENGTH, HeaderValue::from_static("0"))
                .with_header(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"))),
            "slow" => {
                tokio::time::sleep(Duration::from_secs(2)).await;
                Ok(Response::ok("at last"))
            }
            "breaks-off" => {
                let chunks = [
                    Ok(pattern(0, 100)),
                    Err(std::io::Error::other("on purpose")),
                ];
                let mut response = Response::new(StatusCode::OK);
                response.body = Body::stream(stream::iter(chunks));
                Ok(response)
            }
            "short" => {
                let mut response = Response::ok("ten bytes!");
                response.body = Body::Full(Bytes::from_static(b"eight..."));
                Ok(response)
            }
            _ => Err(Error::new(StatusCode::NOT_FOUND, "no such fault")),
        }
    }
}

#[test]
fn the_flow_of_the_tests_does_as_it_is_told() {
    let mut flow = EchoFlow::default();
    let mut outbox = Outbox::default();
    let mut batch = Batch::new();
    batch.push(Packet::copy_from(b"!too long")).unwrap();
    batch.push(Packet::copy_from(b"!longest")).unwrap();
    let mut cx = FlowCx::new(&mut outbox, std::task::Waker::noop(), 9, 100);
    flow.on_datagrams(&mut batch, &mut cx).unwrap();
    assert_eq!((outbox.packets.len(), outbox.dropped_too_long), (1, 1));
}
