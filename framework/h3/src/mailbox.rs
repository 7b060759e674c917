//! How tasks and handles reach the worker that owns a connection.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};
use std::time::Duration;

use pasque::Response;
use quiche::RecvInfo;
use tokio::sync::Notify;

use crate::cid::Cid;
use crate::connection::{Buffers, Command, ServerSide};
use crate::reload::Reconfiguration;

/// One connection of a worker. The serial number tells a slot's successive tenants apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConnectionKey {
    pub(crate) slot: usize,
    pub(crate) serial: u64,
}

/// What a worker is told. As many as there are streams, requests and commands under way: each
/// stream has at most one wake-up and one response waiting.
pub(crate) enum Message {
    /// Something that a stream waits for is ready.
    Wake(ConnectionKey, u64),
    /// An endpoint has answered.
    Respond(ConnectionKey, u64, Box<Response>),
    /// A client's handle wants something.
    Command(Box<Command>),
    /// Packets that arrived at another worker, because their sender's address changed, or before it knew
    /// an ID that names its worker.
    Packets(RecvInfo, Vec<u8>, usize),
    /// A connection that began at another worker, which has more of them.
    Adopt(Box<Adoption>),
    /// The configuration is another one.
    Reconfigure(Box<Reconfiguration>),
    /// Close what has been idle for so long: there is no memory for it, or others want its place.
    Shed(Duration),
    /// Close those for which quiche holds so many bytes: memory is short.
    ShedHeavy(usize),
    /// Finish: what is still open after this time is closed.
    Drain(Duration),
}

/// A connection on its way to another worker: nothing has happened on it yet.
pub(crate) struct Adoption {
    /// Our ID, which names the worker.
    pub(crate) cid: Cid,
    /// The ID that the client has chosen.
    pub(crate) first: Cid,
    pub(crate) quic: quiche::Connection<Buffers>,
    pub(crate) side: ServerSide,
    /// The packet that it begins with, and how that came.
    pub(crate) packet: Vec<u8>,
    pub(crate) info: RecvInfo,
}

/// The messages of one worker.
#[derive(Default)]
pub(crate) struct Mailbox {
    messages: Mutex<Vec<Message>>,
    arrived: Notify,
    /// Connections that the worker has or is about to be given.
    connections: AtomicUsize,
}

impl Mailbox {
    pub(crate) fn push(&self, message: Message) {
        self.lock().push(message);
        self.arrived.notify_one();
    }

    /// [`push`](Self::push), unless `limit` messages wait already.
    pub(crate) fn push_below(&self, limit: usize, message: Message) -> bool {
        let mut messages = self.lock();
        if messages.len() >= limit {
            return false;
        }
        messages.push(message);
        drop(messages);
        self.arrived.notify_one();
        true
    }

    /// Wakes the worker for nothing, so that it shows that it is alive.
    pub(crate) fn nudge(&self) {
        self.arrived.notify_one();
    }

    /// How many connections the worker has or is about to be given.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Counts a connection that the worker is given.
    pub(crate) fn count_connection(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts it no longer.
    pub(crate) fn uncount_connection(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// Moves all messages to `into`, which is empty.
    pub(crate) fn take(&self, into: &mut Vec<Message>) {
        std::mem::swap(&mut *self.lock(), into);
    }

    pub(crate) async fn arrived(&self) {
        self.arrived.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Message>> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mailbox({} messages)", self.lock().len())
    }
}

/// Wakes one stream of one connection.
pub(crate) struct StreamWaker {
    mailbox: Arc<Mailbox>,
    connection: ConnectionKey,
    stream: u64,
    /// Whether a wake-up already waits: a busy source wakes once per turn, not once per packet.
    waiting: AtomicBool,
}

impl StreamWaker {
    pub(crate) fn new(mailbox: Arc<Mailbox>, connection: ConnectionKey, stream: u64) -> Arc<Self> {
        Arc::new(Self {
            mailbox,
            connection,
            stream,
            waiting: AtomicBool::new(false),
        })
    }

    /// Lets the next wake-up through; called before the stream is looked after.
    pub(crate) fn rearm(&self) {
        self.waiting.store(false, Ordering::Release);
    }

    pub(crate) fn waker(self: &Arc<Self>) -> Waker {
        self.clone().into()
    }
}

impl Wake for StreamWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.waiting.swap(true, Ordering::AcqRel) {
            self.mailbox
                .push(Message::Wake(self.connection, self.stream));
        }
    }
}
