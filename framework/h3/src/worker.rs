//! A worker: one thread, one socket, and the connections on it. [`Worker::run`] is the loop; it
//! sleeps only when a turn did nothing.

mod accept;
mod elsewhere;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pasque::config::Limits;
use pasque::health::Pulse;
use pasque::log::Quota;
use quiche::{RecvInfo, h3};
use slab::Slab;
use tracing::{debug, error, trace, warn};

use self::elsewhere::Elsewhere;
use crate::alarm::Alarm;
use crate::cid::{Cid, Form, form};
use crate::connection::{Buffers, Command, Connection, EXCESSIVE_LOAD, Role, TurnCx};
use crate::listener::Listener;
use crate::mailbox::{ConnectionKey, Mailbox, Message};
use crate::output::Output;
use crate::reload::Reconfiguration;
use crate::routes::Routes;
use crate::socket::{Received, Socket};
use crate::token::TokenKey;

/// Packets after which a turn reads no more: with what the last read brings, a thousand. More would keep
/// what has come waiting. Fewer would cost acknowledgements, and leave small batches small: the next turn
/// sends together what this one has read.
const PACKETS_PER_TURN: usize = 512;

/// Messages from other workers that wait; packets beyond it are dropped, as by a full socket.
const FOREIGN_PACKETS: usize = 64;

/// Lines, in a minute, that say that a connection was closed for what is held for it.
static HEAVY_LINES: Quota = Quota::new(10);

/// How long the closing of a connection is allowed to take once nothing else is to be done.
const CLOSE_GRACE: Duration = Duration::from_millis(500);

/// What the first half of a turn has found.
struct TurnStart {
    /// Whether there may be more to receive at once.
    is_busy: bool,
    /// Whether flows were given something, which may be answered already.
    has_delivered: bool,
}

/// One thread's share of the server, or a client.
pub(crate) struct Worker {
    index: u8,
    socket: Socket,
    received: Received,
    quic: quiche::Config,
    h3: h3::Config,
    limits: Limits,
    /// Boxed: a slab does not shrink, and would keep the memory of the most that ever were.
    connections: Slab<Box<Connection>>,
    routes: Routes,
    elsewhere: Elsewhere,
    mailbox: Arc<Mailbox>,
    /// The mailboxes of all workers, by index.
    workers: Arc<[Arc<Mailbox>]>,
    messages: Vec<Message>,
    /// Connections that want their turn.
    queue: Vec<usize>,
    /// Those of the present turn. Kept for its memory.
    present: Vec<usize>,
    timers: BinaryHeap<Reverse<(Instant, usize)>>,
    output: Output,
    scratch: Vec<u8>,
    listener: Option<Listener>,
    tokens: TokenKey,
    next_serial: u64,
    drain_until: Option<Instant>,
    is_closing: bool,
    pulse: Option<Arc<Pulse>>,
}

/// What a worker is made of.
pub(crate) struct Parts {
    pub(crate) index: u8,
    pub(crate) socket: Socket,
    pub(crate) quic: quiche::Config,
    pub(crate) h3: h3::Config,
    pub(crate) limits: Limits,
    pub(crate) workers: Arc<[Arc<Mailbox>]>,
    pub(crate) tokens: TokenKey,
    pub(crate) listener: Option<Listener>,
    /// A server's worker shows that it is alive.
    pub(crate) pulse: Option<Arc<Pulse>>,
}

impl Worker {
    #[expect(
        clippy::indexing_slicing,
        reason = "each worker has a mailbox at its index"
    )]
    pub(crate) fn new(parts: Parts) -> Self {
        let mailbox = parts.workers[usize::from(parts.index)].clone();
        Self {
            index: parts.index,
            socket: parts.socket,
            received: Received::new(),
            quic: parts.quic,
            h3: parts.h3,
            limits: parts.limits,
            connections: Slab::new(),
            routes: Routes::default(),
            elsewhere: Elsewhere::default(),
            mailbox,
            workers: parts.workers,
            messages: Vec::new(),
            queue: Vec::new(),
            present: Vec::new(),
            timers: BinaryHeap::new(),
            output: Output::new(),
            scratch: vec![0; 64 << 10],
            listener: parts.listener,
            tokens: parts.tokens,
            next_serial: 0,
            drain_until: None,
            is_closing: false,
            pulse: parts.pulse,
        }
    }

    /// Runs until it was told to drain and every connection is gone; a client, until its connection
    /// is.
    pub(crate) async fn run(mut self) {
        if let Some(pulse) = &self.pulse {
            pulse.install();
        }
        let mut alarm = Alarm::default();
        loop {
            let now = Instant::now();
            let received = self.receive_all(now);
            let mut has_looked = false;
            if received.has_delivered {
                // What answers at once is sent together with the acknowledgement of the question: one
                // packet instead of two, and one wake-up of the peer.
                tokio::task::yield_now().await;
                has_looked = true;
                self.read_messages(now);
            }
            let is_busy = (self.send_all(now) || received.is_busy) && !self.output.is_blocked();
            if self.is_done() {
                return;
            }
            if !is_busy {
                self.sleep(&mut alarm, now).await;
            } else if !has_looked {
                // Lets the runtime look at other sockets and run the endpoints' tasks.
                tokio::task::yield_now().await;
            }
        }
    }

    /// Starts a connection to `peer`.
    pub(crate) fn connect(
        &mut self,
        server_name: Option<&str>,
        peer: std::net::SocketAddr,
        role: Role,
    ) -> quiche::Result<()> {
        let cid = Cid::random(self.index);
        let local = self.socket.local_addr();
        let quic = quiche::connect_with_buffer_factory::<Buffers>(
            server_name,
            &cid.to_quiche(),
            local,
            peer,
            &mut self.quic,
        )?;
        self.insert(cid, quic, role, Instant::now());
        Ok(())
    }

    fn insert(
        &mut self,
        cid: Cid,
        quic: quiche::Connection<Buffers>,
        role: Role,
        now: Instant,
    ) -> usize {
        let entry = self.connections.vacant_entry();
        let slot = entry.key();
        self.next_serial += 1;
        let key = ConnectionKey {
            slot,
            serial: self.next_serial,
        };
        let mut connection = Connection::new(key, quic, role, &self.limits, now);
        crate::diagnostics::attach(&mut connection.http.quic);
        entry.insert(Box::new(connection));
        self.mailbox.count_connection();
        self.routes.insert(cid, slot);
        self.enqueue(slot);
        slot
    }

    fn enqueue(&mut self, slot: usize) {
        if let Some(connection) = self.connections.get_mut(slot)
            && !std::mem::replace(&mut connection.is_queued, true)
        {
            self.queue.push(slot);
        }
    }

    fn is_done(&self) -> bool {
        self.connections.is_empty() && (self.listener.is_none() || self.drain_until.is_some())
    }

    /// The first half of a turn: everything that has come.
    fn receive_all(&mut self, now: Instant) -> TurnStart {
        if let Some(pulse) = &self.pulse {
            pulse.beat(now);
        }
        self.output.retry(&mut self.socket);
        let mut is_busy = self.read_messages(now);
        is_busy |= self.read_socket(now);
        self.expire(now);
        self.drain(now);
        let mut has_delivered = false;
        for at in 0..self.queue.len() {
            if let Some(&slot) = self.queue.get(at) {
                has_delivered |= self.receive_for(slot, now);
            }
        }
        TurnStart {
            is_busy,
            has_delivered,
        }
    }

    /// The second half: everything that wants to go. Returns whether there may be more at once.
    fn send_all(&mut self, now: Instant) -> bool {
        let mut is_busy = false;
        // Connections that want another turn queue up behind the others.
        let mut present = std::mem::take(&mut self.present);
        std::mem::swap(&mut present, &mut self.queue);
        for slot in present.drain(..) {
            is_busy |= self.send_for(slot, now);
        }
        self.present = present;
        is_busy
    }

    /// Waits for something to do. `now` is when the turn began that has left nothing.
    async fn sleep(&mut self, alarm: &mut Alarm, now: Instant) {
        let due = self.timers.peek().map(|Reverse((due, _))| *due);
        let due = [due, self.drain_until].into_iter().flatten().min();
        if due.is_some_and(|due| due <= now) {
            // What was due is due still. The alarm would ring at once, and the runtime would not get to
            // look at the socket for as long as that lasts.
            return tokio::task::yield_now().await;
        }
        let (socket, mailbox) = (&self.socket, &self.mailbox);
        let is_blocked = self.output.is_blocked();
        let writable = async {
            match is_blocked {
                true => socket.writable().await,
                false => std::future::pending().await,
            }
        };
        tokio::select! {
            () = socket.readable() => {}
            () = mailbox.arrived() => {}
            () = writable => {}
            () = alarm.ring(due) => {}
        }
    }

    fn read_messages(&mut self, now: Instant) -> bool {
        let mut messages = std::mem::take(&mut self.messages);
        self.mailbox.take(&mut messages);
        let any = !messages.is_empty();
        for message in messages.drain(..) {
            match message {
                Message::Wake(key, stream) => {
                    if let Some(connection) = self.find(key) {
                        connection.wake(stream);
                        self.enqueue(key.slot);
                    }
                }
                Message::Respond(key, stream, response) => {
                    if let Some(connection) = self.find(key) {
                        connection.respond(stream, *response);
                        self.enqueue(key.slot);
                    }
                }
                Message::Command(command) => self.command(*command, now),
                Message::Packets(info, mut bytes, stride) => {
                    self.on_run(info, &mut bytes, stride, now, true);
                }
                Message::Adopt(adoption) => self.adopt(*adoption, now),
                Message::Reconfigure(news) => self.reconfigure(*news),
                Message::Shed(idle) => self.shed(idle, now),
                Message::ShedHeavy(bytes) => self.shed_heavy(bytes, now),
                Message::Drain(time) => self.drain_until = Some(now + time),
            }
        }
        self.messages = messages;
        any
    }

    /// What is of a connection's start counts for new connections, the rest for all.
    fn reconfigure(&mut self, news: Reconfiguration) {
        self.quic = news.quic;
        self.h3 = news.h3;
        self.limits = news.limits;
        if let Some(listener) = &mut self.listener {
            listener.retry = news.retry;
        }
    }

    /// Closes connections on which nothing has been under way for `time`.
    fn shed(&mut self, time: Duration, now: Instant) {
        let idle = self.connections.iter();
        let idle = idle.filter(|(_, connection)| connection.is_idle(time, now));
        let slots: Vec<usize> = idle.map(|(slot, _)| slot).collect();
        // Those that close at once do so for memory, and are counted with what else its lack costs.
        if let Some(listener) = &self.listener
            && time.is_zero()
        {
            listener.places.memory.count_closed(slots.len() as u64);
        }
        for slot in slots {
            if let Some(connection) = self.connections.get_mut(slot) {
                connection.close();
                self.enqueue(slot);
            }
        }
    }

    /// Closes connections for which quiche holds so many bytes.
    fn shed_heavy(&mut self, bytes: usize, now: Instant) {
        let heavy = self.connections.iter();
        let heavy = heavy.filter(|(_, connection)| connection.http.holding() >= bytes);
        let slots: Vec<usize> = heavy.map(|(slot, _)| slot).collect();
        for slot in slots {
            self.end_heavy(slot, now);
        }
    }

    /// Closes a connection and forgets it: until its peer had closed it, too, or enough time had passed,
    /// quiche would hold all that it does.
    fn end_heavy(&mut self, slot: usize, now: Instant) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        if let Some(listener) = &self.listener {
            listener.places.memory.count_closed(1);
        }
        if let Some(left_out) = HEAVY_LINES.take(now) {
            let (peer, kib) = (connection.peer(), connection.http.holding() >> 10);
            warn!(
                ?peer,
                kib, left_out, "much memory is held for a connection, which is closed"
            );
        }
        connection.end(EXCESSIVE_LOAD);
        self.output.send(connection, &mut self.socket, now);
        connection.announce_end();
        self.forget(slot);
    }

    /// A client's worker has one connection.
    fn command(&mut self, command: Command, now: Instant) {
        let Some((slot, connection)) = self.connections.iter_mut().next() else {
            return;
        };
        connection.command(command, now);
        self.enqueue(slot);
    }

    fn find(&mut self, key: ConnectionKey) -> Option<&mut Connection> {
        self.connections
            .get_mut(key.slot)
            .map(|connection| &mut **connection)
            .filter(|connection| connection.key == key)
    }

    fn read_socket(&mut self, now: Instant) -> bool {
        let mut packets = 0;
        while packets < PACKETS_PER_TURN {
            match self.socket.try_recv(&mut self.received) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(error) => {
                    // An error of an earlier send, reported late: nothing was received.
                    trace!(%error, "receive");
                    return true;
                }
            }
            let mut received = std::mem::replace(&mut self.received, Received::empty());
            let is_last = received.is_all();
            // Also a read that brought nothing counts.
            packets += 1;
            received.for_each_run(|info, bytes, stride| {
                packets += bytes.len().div_ceil(stride);
                self.on_run(info, bytes, stride, now, false);
            });
            self.received = received;
            if is_last {
                return false;
            }
        }
        true
    }

    /// Packets of one sender, each `stride` bytes long but the last, which may be shorter.
    #[expect(
        clippy::indexing_slicing,
        reason = "`at <= end <= bytes.len()` as both are computed"
    )]
    fn on_run(
        &mut self,
        info: RecvInfo,
        bytes: &mut [u8],
        stride: usize,
        now: Instant,
        is_foreign: bool,
    ) {
        let mut last: Option<(Cid, usize)> = None;
        let mut at = 0;
        while at < bytes.len() {
            let end = (at + stride).min(bytes.len());
            let slot = match form(&bytes[at..end]) {
                None => None,
                Some(Form::Short(cid)) => match last {
                    Some((known, slot)) if known == cid => Some(slot),
                    _ => match self.routes.get(&cid) {
                        Some(slot) => {
                            last = Some((cid, slot));
                            Some(slot)
                        }
                        None if !is_foreign && self.hand_over(cid, info, &bytes[at..], stride) => {
                            // The rest of the run comes from the same sender.
                            return;
                        }
                        None => None,
                    },
                },
                Some(Form::Long) => self.on_long(info, &mut bytes[at..end], now, is_foreign),
            };
            if let Some(slot) = slot {
                self.receive(slot, info, &mut bytes[at..end], now);
            }
            at = end;
        }
    }

    fn receive(&mut self, slot: usize, info: RecvInfo, packet: &mut [u8], now: Instant) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        connection.fall_back();
        match catch_unwind(AssertUnwindSafe(|| connection.http.receive(packet, info))) {
            Ok(Ok(_)) => {
                connection.last_received = now;
                if connection.is_without_path(now) {
                    // Validating the path anew gives it back: before the next packet, which would
                    // close the connection.
                    self.output.send(connection, &mut self.socket, now);
                }
            }
            // The connection closes itself where the error is the peer's; others are not touched.
            Ok(Err(error)) => debug!(%error, "packet refused"),
            Err(_panic) => {
                error!("a packet made its connection panic, which is dropped");
                return self.forget(slot);
            }
        }
        self.enqueue(slot);
    }

    /// Sends packets of a connection on another worker there. Returns whether there is one.
    fn hand_over(&self, cid: Cid, info: RecvInfo, bytes: &[u8], stride: usize) -> bool {
        match cid.worker() {
            Some(worker) if worker != self.index => self.pass_on(worker, info, bytes, stride),
            _ => false,
        }
    }

    /// Sends packets to another worker. Returns whether there is such a one.
    fn pass_on(&self, worker: u8, info: RecvInfo, bytes: &[u8], stride: usize) -> bool {
        let Some(mailbox) = self.workers.get(usize::from(worker)) else {
            return false;
        };
        mailbox.push_below(
            FOREIGN_PACKETS,
            Message::Packets(info, bytes.to_vec(), stride),
        );
        true
    }

    fn expire(&mut self, now: Instant) {
        while let Some(&Reverse((due, slot))) = self.timers.peek() {
            if due > now {
                return;
            }
            self.timers.pop();
            if let Some(connection) = self.connections.get_mut(slot)
                && connection.scheduled == Some(due)
            {
                connection.scheduled = None;
                self.enqueue(slot);
            }
        }
    }

    fn drain(&mut self, now: Instant) {
        let Some(until) = self.drain_until else {
            return;
        };
        let is_over = now >= until;
        let slots: Vec<usize> = self.connections.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            let Some(connection) = self.connections.get_mut(slot) else {
                continue;
            };
            if connection.drain() || is_over {
                connection.close();
            }
            self.enqueue(slot);
        }
        if is_over && !std::mem::replace(&mut self.is_closing, true) {
            // The frames that close the connections are on their way; their echo need not be.
            self.drain_until = Some(now + CLOSE_GRACE);
        } else if is_over {
            self.connections.clear();
        }
    }

    /// One connection's part of the first half of a turn. Returns whether flows were given something.
    fn receive_for(&mut self, slot: usize, now: Instant) -> bool {
        self.in_connection(slot, now, Connection::receive)
    }

    /// One connection's part of the second half. Returns whether it wants another turn at once.
    fn send_for(&mut self, slot: usize, now: Instant) -> bool {
        let Some(connection) = self.connections.get_mut(slot) else {
            return false;
        };
        connection.is_queued = false;
        let mut wants_more = self.in_connection(slot, now, Connection::send);
        self.update_routes(slot);
        let Some(connection) = self.connections.get_mut(slot) else {
            return false;
        };
        let (output, socket) = (&mut self.output, &mut self.socket);
        let Some(has_more) = contain(|| output.send(connection, socket, now)) else {
            self.forget(slot);
            return false;
        };
        wants_more |= has_more;
        wants_more |= connection.has_hungry();
        connection.announce_end();
        if connection.http.is_too_heavy() {
            self.end_heavy(slot, now);
            return false;
        }
        if connection.http.quic.is_closed() || self.is_abandoned(slot) {
            self.forget(slot);
            return false;
        }
        self.schedule(slot);
        if wants_more {
            self.enqueue(slot);
        }
        wants_more
    }

    /// Lets a connection `act`. What goes wrong inside it stays there: a panic is the end of this
    /// connection only.
    fn in_connection(
        &mut self,
        slot: usize,
        now: Instant,
        act: fn(&mut Connection, &mut TurnCx<'_>) -> bool,
    ) -> bool {
        let Some(connection) = self.connections.get_mut(slot) else {
            return false;
        };
        let mut cx = TurnCx {
            now,
            mailbox: &self.mailbox,
            limits: &self.limits,
            h3: &self.h3,
            scratch: &mut self.scratch,
        };
        contain(|| act(connection, &mut cx)).unwrap_or_else(|| {
            self.forget(slot);
            false
        })
    }

    /// Whether a connection is closed on both sides while everything else is over, too.
    fn is_abandoned(&self, slot: usize) -> bool {
        let is_stopping = self.drain_until.is_some() || self.listener.is_none();
        let closing = self.connections.get(slot).is_some_and(|connection| {
            let quic = &connection.http.quic;
            quic.is_draining() || (quic.local_error().is_some() && !quic.is_established())
        });
        is_stopping && closing
    }

    fn schedule(&mut self, slot: usize) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        let Some(due) = connection.deadline(&self.limits) else {
            return;
        };
        // An earlier entry comes first anyway, and makes a later one when it is looked at.
        if connection.scheduled.is_none_or(|scheduled| due < scheduled) {
            connection.scheduled = Some(due);
            self.timers.push(Reverse((due, slot)));
        }
    }

    fn forget(&mut self, slot: usize) {
        if self.connections.try_remove(slot).is_some() {
            self.mailbox.uncount_connection();
        }
        self.routes.forget(slot);
    }

    /// Gives the peer fresh connection IDs, and forgets those that it has retired.
    fn update_routes(&mut self, slot: usize) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        let (quic, holding) = connection.http.quic_and_holding();
        while let Some(retired) = quic.retired_scid_next() {
            self.routes.remove(&Cid::copy_from(&retired));
            holding.count(|| drop(retired));
        }
        if !quic.is_established() || quic.is_draining() {
            return;
        }
        while quic.scids_left() > 0 {
            let cid = Cid::random(self.index);
            let token = self.tokens.reset_token(cid.as_bytes());
            let call = || quic.new_scid(&cid.to_quiche(), token, false);
            if holding.count(call).is_err() {
                return;
            }
            self.routes.insert(cid, slot);
        }
    }
}

/// What `act` returns; `None` when it panicked. The connection that it is about is to be dropped then.
fn contain<R>(act: impl FnOnce() -> R) -> Option<R> {
    let acted = catch_unwind(AssertUnwindSafe(act));
    acted
        .inspect_err(|_panic| error!("a connection panicked and is dropped"))
        .ok()
}
