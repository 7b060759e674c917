//! [`Tunnel`]: a tunnel's data path for code that prefers `await`, built on [`Flow`].
//!
//! Each batch passes a bounded ring between the worker and the task that holds the tunnel. A full
//! ring drops its oldest datagram and counts it, as a socket buffer would.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::panic::resume_unwind;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::error::{Error, Result};
use crate::flow::{Flow, FlowCx};
use crate::packet::{Batch, Packet};

/// Datagrams that wait in one direction: a few bursts of a busy tunnel, below 1 MiB of packets.
const RING_LEN: usize = 512;
/// Bytes that wait in one direction.
const RING_BYTES: usize = 1 << 20;

/// One end of a tunnel, for use in a task.
///
/// Dropping it ends the tunnel in order (FIN).
#[derive(Debug)]
pub struct Tunnel {
    shared: Arc<Shared>,
}

impl Tunnel {
    /// Sends one HTTP Datagram, without its quarter stream ID. Never waits: when the ring is full,
    /// its oldest datagram is dropped and counted. What is longer than
    /// [`max_len`](Self::max_len) is dropped and counted too.
    pub fn send(&self, packet: impl Into<Packet>) {
        let waker = {
            let mut state = self.shared.lock();
            state.outbound.push(packet.into());
            state.flow_waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The next HTTP Datagram from the peer, or `None` once the tunnel has ended.
    ///
    /// Cancel safe: nothing is lost when the future is dropped.
    pub async fn recv(&mut self) -> Option<Packet> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// [`recv`](Self::recv) for use inside another poll function.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Packet>> {
        let mut state = self.shared.lock();
        if let Some(packet) = state.inbound.pop() {
            return Poll::Ready(Some(packet));
        }
        if state.ended {
            return Poll::Ready(None);
        }
        state.task_waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// The longest payload that a datagram carries now, in bytes; 0 before the tunnel is open.
    pub fn max_len(&self) -> usize {
        self.shared.lock().max_len
    }

    /// Datagrams dropped so far because a ring was full, in both directions.
    pub fn dropped(&self) -> u64 {
        let state = self.shared.lock();
        state.inbound.dropped + state.outbound.dropped
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.ended = true;
        if let Some(waker) = state.flow_waker.take() {
            drop(state);
            waker.wake();
        }
    }
}

/// Makes a tunnel and the flow that moves its datagrams.
pub fn pair() -> (Tunnel, TunnelFlow) {
    let shared = Arc::<Shared>::default();
    (
        Tunnel {
            shared: shared.clone(),
        },
        TunnelFlow {
            shared,
            task: Task::None,
            runtime: None,
        },
    )
}

/// The [`Flow`] under a [`Tunnel`].
#[derive(Debug)]
pub struct TunnelFlow {
    shared: Arc<Shared>,
    task: Task,
    /// Where the task is to run: where the endpoint made it.
    runtime: Option<Handle>,
}

impl TunnelFlow {
    /// Runs `task` while the tunnel is open; its end is the tunnel's end.
    pub(crate) fn with_task(
        mut self,
        task: impl Future<Output = Result<()>> + Send + 'static,
    ) -> Self {
        self.task = Task::Waiting(Box::pin(task));
        self.runtime = Handle::try_current().ok();
        self
    }
}

enum Task {
    None,
    /// Not spawned yet: a flow is made before it is known whether its response can be sent.
    Waiting(Pin<Box<dyn Future<Output = Result<()>> + Send>>),
    Running(JoinHandle<Result<()>>),
}

impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Waiting(_) => "Waiting",
            Self::Running(_) => "Running",
        })
    }
}

impl Flow for TunnelFlow {
    fn on_datagrams(&mut self, inbound: &mut Batch, _cx: &mut FlowCx<'_>) -> Result<()> {
        let waker = {
            let mut state = self.shared.lock();
            for packet in inbound.drain() {
                state.inbound.push(packet);
            }
            state.task_waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    fn poll_outbound(&mut self, cx: &mut FlowCx<'_>) -> Poll<Result<()>> {
        if let Task::Waiting(_) = self.task
            && let Task::Waiting(future) = std::mem::replace(&mut self.task, Task::None)
        {
            self.task = Task::Running(match &self.runtime {
                Some(runtime) => runtime.spawn(future),
                None => tokio::spawn(future),
            });
        }
        {
            let mut state = self.shared.lock();
            state.max_len = cx.max_len();
            while cx.room() > 0
                && let Some(packet) = state.outbound.pop()
            {
                cx.send(packet);
            }
            // Registered before the task is asked whether it ended, so that neither is missed.
            state.flow_waker = Some(cx.task().waker().clone());
            if state.ended && state.outbound.is_empty() && !matches!(self.task, Task::Running(_)) {
                return Poll::Ready(Ok(()));
            }
        }
        let Task::Running(task) = &mut self.task else {
            return Poll::Pending;
        };
        let Poll::Ready(joined) = Pin::new(task).poll(&mut cx.task()) else {
            return Poll::Pending;
        };
        self.task = Task::None;
        match joined {
            // The task is over and its tunnel dropped; what it sent last goes first.
            Ok(Ok(())) if !self.shared.lock().outbound.is_empty() => Poll::Pending,
            Ok(result) => Poll::Ready(result),
            // The task's panic is the flow's.
            Err(join) => match join.try_into_panic() {
                Ok(panic) => resume_unwind(panic),
                Err(join) => Poll::Ready(Err(
                    Error::internal("the tunnel's task was ended").with_source(join)
                )),
            },
        }
    }
}

impl Drop for TunnelFlow {
    fn drop(&mut self) {
        if let Task::Running(task) = &self.task {
            task.abort();
        }
        let mut state = self.shared.lock();
        state.ended = true;
        if let Some(waker) = state.task_waker.take() {
            drop(state);
            waker.wake();
        }
    }
}

#[derive(Debug, Default)]
struct Shared(Mutex<State>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A ring of packets has no invariant that a panic elsewhere could have broken.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
struct State {
    inbound: Ring,
    outbound: Ring,
    task_waker: Option<Waker>,
    flow_waker: Option<Waker>,
    max_len: usize,
    ended: bool,
}

#[derive(Debug, Default)]
struct Ring {
    packets: VecDeque<Packet>,
    bytes: usize,
    dropped: u64,
}

impl Ring {
    fn push(&mut self, packet: Packet) {
        self.bytes += packet.len();
        self.packets.push_back(packet);
        while self.packets.len() > RING_LEN || self.bytes > RING_BYTES {
            self.pop();
            self.dropped += 1;
        }
    }

    fn pop(&mut self) -> Option<Packet> {
        let packet = self.packets.pop_front()?;
        self.bytes -= packet.len();
        Some(packet)
    }

    fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }
}

impl From<&[u8]> for Packet {
    fn from(payload: &[u8]) -> Self {
        Self::copy_from(payload)
    }
}

impl<const N: usize> From<&[u8; N]> for Packet {
    fn from(payload: &[u8; N]) -> Self {
        Self::copy_from(payload)
    }
}

#[cfg(test)]
mod tests {
    use std::panic::AssertUnwindSafe;

    use futures_util::FutureExt;

    use super::*;
    use crate::flow::Outbox;

    #[test]
    fn a_full_ring_drops_its_oldest_datagram_and_counts_it() {
        let (tunnel, mut flow) = pair();
        for n in 0..RING_LEN + 3 {
            tunnel.send(&(n as u32).to_be_bytes());
        }
        assert_eq!(tunnel.dropped(), 3);
        let mut outbox = Outbox::default();
        let mut cx = FlowCx::new(&mut outbox, Waker::noop(), 1, 1200);
        assert!(flow.poll_outbound(&mut cx).is_pending());
        assert_eq!(&outbox.packets[0][..], 3u32.to_be_bytes());
    }

    #[test]
    fn the_ring_is_bounded_in_bytes_too() {
        let (tunnel, _flow) = pair();
        for _ in 0..20 {
            tunnel.send(vec![0; 65_000]);
        }
        assert_eq!(tunnel.dropped(), 20 - (RING_BYTES / 65_000) as u64);
    }

    #[test]
    fn dropping_the_tunnel_ends_the_flow_after_what_was_sent() {
        let (tunnel, mut flow) = pair();
        tunnel.send(b"last");
        drop(tunnel);
        let mut outbox = Outbox::default();
        let ended = flow.poll_outbound(&mut FlowCx::new(&mut outbox, Waker::noop(), 0, 1200));
        assert!(ended.is_pending(), "no room yet");
        let ended = flow.poll_outbound(&mut FlowCx::new(&mut outbox, Waker::noop(), 9, 1200));
        assert!(matches!(ended, Poll::Ready(Ok(()))));
        assert_eq!(&outbox.packets[0][..], b"last");
    }

    #[tokio::test]
    async fn a_task_that_returns_ends_its_tunnel_and_its_panic_is_the_flows() {
        for panics in [false, true] {
            let (tunnel, flow) = pair();
            let mut flow = flow.with_task(async move {
                let _held = tunnel;
                assert!(!panics, "on purpose");
                Ok(())
            });
            let polled = AssertUnwindSafe(poll_fn(|cx| {
                flow.poll_outbound(&mut FlowCx::new(
                    &mut Outbox::default(),
                    cx.waker(),
                    1,
                    1200,
                ))
            }));
            assert_eq!(polled.catch_unwind().await.is_err(), panics);
        }
    }
}
