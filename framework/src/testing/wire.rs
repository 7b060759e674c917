//! Two flows joined by a wire in memory.

use std::future::poll_fn;
use std::task::{Context, Poll};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::oneshot;

use crate::connection::ClientError;
use crate::error::{Error, Result};
use crate::flow::{Flow, FlowCx, Outbox};
use crate::packet::{BATCH_LEN, Batch, Packet};
use crate::wire::capsule::{self, CapsuleDecoder};

/// What the wire carries in one datagram: a QUIC packet of 1350 bytes less its overhead.
const MAX_LEN: usize = 1320;

/// What a wire does to datagrams. Capsules travel on a stream: nothing happens to them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Share of datagrams that vanish, 0 to 1.
    pub loss: f64,
    /// Share of datagrams that change places with the next one, 0 to 1.
    pub reorder: f64,
    /// Seed of the random choices.
    pub seed: u64,
}

/// One flow and what it has put out.
struct End {
    flow: Box<dyn Flow>,
    outbox: Outbox,
    capsules: CapsuleDecoder,
    random: StdRng,
}

impl End {
    fn new(flow: Box<dyn Flow>, seed: u64) -> Self {
        let random = StdRng::seed_from_u64(seed);
        Self {
            flow,
            outbox: Outbox::default(),
            capsules: CapsuleDecoder::default(),
            random,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.flow.poll_outbound(&mut FlowCx::new(
            &mut self.outbox,
            cx.waker(),
            BATCH_LEN,
            MAX_LEN,
        ))
    }

    /// Takes what `from` has put out. Returns whether there was anything.
    fn take_from(&mut self, from: &mut Self, faults: Faults, cx: &mut Context<'_>) -> Result<bool> {
        let packets = from.travel(faults);
        let bytes = from.outbox.capsules.split();
        let moved = !packets.is_empty() || !bytes.is_empty();
        let mut batch = Batch::new();
        for packet in packets {
            if let Err(packet) = batch.push(packet) {
                self.deliver(&mut batch, cx)?;
                let _ = batch.push(packet);
            }
        }
        if !batch.is_empty() {
            self.deliver(&mut batch, cx)?;
        }
        let (flow, outbox) = (&mut self.flow, &mut self.outbox);
        let mut input = &bytes[..];
        loop {
            let admit = |kind, len, start: &[u8]| flow.admit_capsule(kind, len, start);
            let Some(capsule) = self
                .capsules
                .next(&mut input, admit)
                .map_err(|error| Error::malformed(error.to_string()))?
            else {
                return Ok(moved);
            };
            let mut cx = FlowCx::new(outbox, cx.waker(), BATCH_LEN, MAX_LEN);
            if capsule.kind == capsule::DATAGRAM {
                // A DATAGRAM capsule means the same as a datagram (RFC 9297 §3.5).
                let mut one = Batch::new();
                let _ = one.push(Packet::copy_from(capsule.value));
                flow.on_datagrams(&mut one, &mut cx)?;
            } else {
                flow.on_capsule(capsule, &mut cx)?;
            }
        }
    }

    fn deliver(&mut self, batch: &mut Batch, cx: &mut Context<'_>) -> Result<()> {
        let mut cx = FlowCx::new(&mut self.outbox, cx.waker(), BATCH_LEN, MAX_LEN);
        self.flow.on_datagrams(batch, &mut cx)?;
        batch.clear();
        Ok(())
    }

    fn travel(&mut self, faults: Faults) -> Vec<Packet> {
        let random = &mut self.random;
        let mut packets: Vec<_> = self
            .outbox
            .packets
            .drain(..)
            .filter(|_| faults.loss == 0.0 || !random.random_bool(faults.loss))
            .collect();
        for at in 1..packets.len() {
            if faults.reorder > 0.0 && random.random_bool(faults.reorder) {
                packets.swap(at - 1, at);
            }
        }
        packets
    }
}

/// Moves datagrams and capsules between the two until one of them ends.
pub(super) async fn run(
    server: Box<dyn Flow>,
    client: Box<dyn Flow>,
    faults: Faults,
    ended: oneshot::Sender<Result<(), ClientError>>,
) {
    let mut server = End::new(server, faults.seed);
    let mut client = End::new(client, !faults.seed);
    let result = poll_fn(|cx| {
        loop {
            let over = [server.poll(cx), client.poll(cx)];
            let moved = client.take_from(&mut server, faults, cx)?
                | server.take_from(&mut client, faults, cx)?;
            if let Some(result) = over.into_iter().find_map(|end| match end {
                Poll::Ready(result) => Some(result),
                Poll::Pending => None,
            }) {
                // What was put out together with the end still arrives, as before a FIN.
                return Poll::Ready(result);
            }
            if !moved {
                return Poll::Pending;
            }
        }
    })
    .await;
    drop((server, client));
    let _ = ended.send(result.map_err(|error| ClientError::Reset(error.stream_error().code())));
}
