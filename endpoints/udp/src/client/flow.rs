//! The data path of one user's tunnel, inside the connection's worker.

use std::sync::Arc;
use std::task::Poll;
use std::{fmt, io};

use pasque::{Admit, Batch, Error, Flow, FlowCx, Result};
use tokio::time::Instant;
use tracing::debug;

use super::event::{ForwardEvent, QUIC_MIN_PAYLOAD_LEN};
use super::session::Tunnels;
use super::user::User;
use crate::MAX_PAYLOAD_LEN;
use crate::context;
use crate::counters::Counters;
use crate::idle::IdleTimer;
use crate::socket::Sink;
use crate::transmit::{Route, send_batch};

/// One user's tunnel at the client.
pub(super) struct ClientFlow {
    user: Arc<User>,
    tunnels: Arc<Tunnels>,
    idle: IdleTimer,
    counters: Counters,
    has_warned: bool,
}

impl ClientFlow {
    pub(super) fn new(user: Arc<User>, tunnels: Arc<Tunnels>) -> Self {
        let idle = IdleTimer::new(tunnels.limits.idle_timeout);
        Self {
            user,
            tunnels,
            idle,
            counters: Counters::default(),
            has_warned: false,
        }
    }

    /// Says once that QUIC will not get through, when it tries to.
    fn warn(&mut self, max_len: usize) {
        if !self.has_warned {
            self.has_warned = true;
            let user = self.user.address();
            (self.tunnels.on_event)(ForwardEvent::PathTooSmall { user, max_len });
        }
    }
}

impl Flow for ClientFlow {
    fn on_datagrams(&mut self, inbound: &mut Batch, _cx: &mut FlowCx<'_>) -> Result<()> {
        context::strip(inbound, &mut self.counters)?;
        if inbound.is_empty() {
            return Ok(());
        }
        self.idle.touch(Instant::now());
        let mut route = UserRoute {
            user: &self.user,
            tunnels: &self.tunnels,
        };
        send_batch(inbound.as_slice(), &mut route, &mut self.counters).map_err(Error::from)
    }

    fn poll_outbound(&mut self, cx: &mut FlowCx<'_>) -> Poll<Result<()>> {
        if self.idle.poll(&mut cx.task()).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let before = self.counters.received;
        let mut is_path_too_small = false;
        let is_closed = {
            let mut ring = self.user.lock();
            while cx.room() > 0
                && let Some(mut packet) = ring.pop()
            {
                self.counters.received += 1;
                let payload_len = packet.len();
                context::add(&mut packet);
                if packet.len() <= cx.max_len() {
                    cx.send(packet);
                } else {
                    self.counters.too_long_inward += 1;
                    is_path_too_small |= payload_len <= QUIC_MIN_PAYLOAD_LEN;
                }
            }
            ring.register(cx.task().waker());
            ring.is_closed()
        };
        if self.counters.received > before {
            self.idle.touch(Instant::now());
        }
        if is_path_too_small {
            self.warn(cx.max_len());
        }
        match is_closed {
            true => Poll::Ready(Ok(())),
            false => Poll::Pending,
        }
    }

    fn admit_capsule(&self, kind: u64, len: u64, start: &[u8]) -> Admit {
        context::admit(kind, len, start, || MAX_PAYLOAD_LEN)
    }
}

impl Drop for ClientFlow {
    fn drop(&mut self) {
        let user = self.user.address();
        let dropped = self.user.lock().dropped();
        debug!(%user, dropped, counters = ?self.counters, "UDP tunnel ended");
    }
}

/// The way to a user: the forward's socket, which all its users share.
struct UserRoute<'a> {
    user: &'a User,
    tunnels: &'a Tunnels,
}

impl Sink for UserRoute<'_> {
    fn send(&self, contents: &[u8], segment_len: Option<usize>) -> io::Result<()> {
        let (to, from) = (self.user.address(), self.user.local());
        self.tunnels.socket.send(to, from, contents, segment_len)
    }

    fn max_segments(&self) -> usize {
        self.tunnels.socket.max_segments()
    }
}

impl Route for UserRoute<'_> {
    fn sink(&self) -> &dyn Sink {
        self
    }
}

impl fmt::Debug for ClientFlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientFlow(for {})", self.user.address())
    }
}
