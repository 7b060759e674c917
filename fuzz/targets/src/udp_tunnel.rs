//! Any stream to the server's end of a UDP tunnel, cut anywhere: the target gets the payloads of
//! context 0 and nothing else, in order, and no more of a capsule is kept than one datagram.
//!
//! The first byte gives the length of the pieces; the rest is the stream.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use pasque::wire::capsule::{self, CapsuleDecoder};
use pasque::wire::varint;
use pasque::{Batch, Flow, FlowCx, Outbox, Packet};
use pasque_udp::{Candidates, Dial, Inbox, MAX_PAYLOAD_LEN, Sink, TargetSocket, UdpFlow};

/// What the link to the target carries, in bytes.
const LINK_LEN: usize = 1472;

/// A target that remembers what it got.
#[derive(Clone, Debug, Default)]
struct Target(Arc<Mutex<Vec<Vec<u8>>>>);

impl Sink for Target {
    fn send(&self, contents: &[u8], segment_len: Option<usize>) -> io::Result<()> {
        let mut got = self.0.lock().expect("one thread");
        match segment_len {
            Some(len) => got.extend(contents.chunks(len).map(<[u8]>::to_vec)),
            None => got.push(contents.to_vec()),
        }
        Ok(())
    }

    fn max_segments(&self) -> usize {
        64
    }
}

impl TargetSocket for Target {
    fn poll_recv(&self, _: &mut Context<'_>, _: &mut Inbox, _: usize) -> Poll<io::Result<()>> {
        Poll::Pending
    }

    fn link_len(&self) -> usize {
        LINK_LEN
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(([198, 51, 100, 7], 40_000).into())
    }
}

impl Dial for Target {
    fn dial(&self, _: SocketAddr) -> io::Result<Box<dyn TargetSocket>> {
        Ok(Box::new(self.clone()))
    }
}

/// What the target got, and whether the stream was accepted to its end.
fn events<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> (Vec<Vec<u8>>, bool) {
    let target = Target::default();
    let address = SocketAddr::from(([192, 0, 2, 1], 9));
    let candidates = Candidates::open([address], Arc::new(target.clone())).expect("a socket");
    let mut flow = UdpFlow::new(candidates, Duration::from_secs(120));
    let is_whole = feed(&mut flow, chunks);
    drop(flow);
    let got = std::mem::take(&mut *target.0.lock().expect("one thread"));
    (got, is_whole)
}

/// The stream of one tunnel, as an engine hands it to a flow.
fn feed<'a>(flow: &mut UdpFlow, chunks: impl Iterator<Item = &'a [u8]>) -> bool {
    let mut decoder = CapsuleDecoder::default();
    let mut outbox = Outbox::default();
    for mut chunk in chunks {
        loop {
            let admit = |kind, len, start: &[u8]| flow.admit_capsule(kind, len, start);
            let found = match decoder.next(&mut chunk, admit) {
                Ok(Some(found)) => found,
                Ok(None) => break,
                Err(_) => return false,
            };
            assert_eq!(found.kind, capsule::DATAGRAM);
            let mut batch = Batch::new();
            let _ = batch.push(Packet::copy_from(found.value));
            let mut cx = FlowCx::new(&mut outbox, Waker::noop(), 64, 1200);
            if flow.on_datagrams(&mut batch, &mut cx).is_err() {
                return false;
            }
        }
        assert!(decoder.buffered() <= 2 * (LINK_LEN + varint::MAX_LEN));
    }
    assert!(outbox.packets.is_empty() && outbox.capsules.is_empty());
    decoder.finish().is_ok()
}

/// The payloads that RFC 9298 §5 and RFC 9297 §3.5 have a target get, from a stream that is there as
/// a whole; `None` once the stream is malformed.
fn expected(mut stream: &[u8]) -> (Vec<Vec<u8>>, bool) {
    let mut payloads = Vec::new();
    let number = |bytes: &mut &[u8]| {
        let (value, len) = varint::decode(bytes)?;
        *bytes = &bytes[len..];
        Some(value)
    };
    while !stream.is_empty() {
        let (Some(kind), Some(len)) = (number(&mut stream), number(&mut stream)) else {
            return (payloads, false);
        };
        let is_whole = stream.len() as u64 >= len;
        let (mut value, rest) = stream.split_at(stream.len().min(len as usize));
        stream = rest;
        if kind == capsule::DATAGRAM {
            let before = value.len() as u64;
            let Some(context) = number(&mut value) else {
                return (payloads, false);
            };
            let payload_len = len - (before - value.len() as u64);
            if context == 0 && payload_len > MAX_PAYLOAD_LEN as u64 {
                return (payloads, false);
            }
            if is_whole && context == 0 && value.len() <= LINK_LEN {
                payloads.push(value.to_vec());
            }
        }
        if !is_whole {
            return (payloads, false);
        }
    }
    (payloads, true)
}

thread_local! {
    /// For the timer of a flow, which never runs out here.
    static RUNTIME: tokio::runtime::Runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
}

/// Runs the target on one input.
pub fn run(input: &[u8]) {
    let Some((chunk_len, stream)) = input.split_first() else {
        return;
    };
    RUNTIME.with(|runtime| {
        let _entered = runtime.enter();
        let whole = events(std::iter::once(stream));
        assert_eq!(whole, expected(stream));
        assert_eq!(events(stream.chunks(1)), whole);
        let chunk_len = usize::from(*chunk_len).max(1);
        assert_eq!(events(stream.chunks(chunk_len)), whole);
    });
}
