//! One connection's part of a turn. The connection is state in its worker's slab; everything that
//! happens to it happens in [`Connection::turn`], in a fixed order.

mod client;
mod content;
mod early;
mod farewell;
mod flows;
mod http;
mod inflow;
mod kept;
mod mtu_probe;
mod path;
mod path_mtu;
mod server;
mod tunnel;
mod waiting;

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use pasque::config::Limits;
use pasque::connection::ClientError;
use pasque::log::Quota;
use pasque::wire::datagram;
use pasque::wire::message::ContentLength;
use pasque::{Error, Packet, Result, StreamError};
use quiche::h3;
use rustc_hash::FxHashMap;
use tokio::sync::oneshot;
use tracing::{debug, warn};

pub(crate) use self::client::{Asks, ClientSide, Command};
use self::content::{Outgoing, Recv};
use self::early::Early;
#[cfg(test)]
pub(crate) use self::http::MAX_HOLDING;
pub(crate) use self::http::{Buffers, Http};
use self::kept::Kept;
#[cfg(test)]
pub(crate) use self::kept::{LIMIT as KEPT_LIMIT, MOST as KEPT_MOST};
use self::path::Path;
pub(crate) use self::server::{ServerSide, Shared};
use self::tunnel::Tunnel;
use self::waiting::Waiting;
use crate::ledger::Holding;
use crate::mailbox::{ConnectionKey, Mailbox, StreamWaker};
use crate::settings::MIN_DATAGRAM_WATERMARK;

/// HTTP/3 events that one turn takes at most: a peer that opens streams without end waits its turn.
const EVENTS_PER_TURN: usize = 512;

/// Tunnels that fail for a reason of their endpoint's are told in the log by default. A client can have that
/// again and again.
static FAILURES: Quota = Quota::new(10);

/// Capsules that the tunnels of a connection take in one turn, give or take a read. An empty datagram comes
/// in three bytes and costs as much as any: megabytes of them are worked off in many turns, between which
/// others have theirs.
const CAPSULES_PER_TURN: usize = 256;

/// `H3_FRAME_UNEXPECTED`, `H3_EXCESSIVE_LOAD`, `H3_DATAGRAM_ERROR` and `H3_NO_ERROR` as
/// connection errors (RFC 9114 §8.1, RFC 9297 §5.2).
const FRAME_UNEXPECTED: u64 = 0x0105;
pub(crate) const EXCESSIVE_LOAD: u64 = 0x0107;
const DATAGRAM_ERROR: u64 = 0x33;
const NO_ERROR: u64 = 0x0100;

/// The bit that tells a unidirectional stream (RFC 9000 §2.1).
const UNIDIRECTIONAL: u64 = 0x02;

/// What a worker lends to a connection for one turn.
pub(crate) struct TurnCx<'a> {
    pub(crate) now: Instant,
    pub(crate) mailbox: &'a Arc<Mailbox>,
    pub(crate) limits: &'a Limits,
    pub(crate) h3: &'a h3::Config,
    /// For reading content: one buffer for all connections.
    pub(crate) scratch: &'a mut [u8],
}

/// Which end we are.
pub(crate) enum Role {
    Server(ServerSide),
    Client(Box<ClientSide>),
}

/// One connection.
pub(crate) struct Connection {
    pub(crate) key: ConnectionKey,
    pub(crate) http: Http,
    path: Path,
    role: Role,
    /// By ID. Looked at for each datagram, so without a keyed hash: a peer has few of them, and numbers them
    /// in order.
    streams: FxHashMap<u64, Stream>,
    early: Early,
    /// Streams that were woken since the last turn.
    woken: Vec<u64>,
    /// Tunnels whose flow has more to send than there was room for.
    hungry: VecDeque<u64>,
    /// Streams with content or capsules that wait for flow control credit.
    stalled: BTreeSet<u64>,
    /// Tunnels that this turn has datagrams for.
    touched: Vec<u64>,
    pub(crate) last_received: Instant,
    born: Instant,
    /// When its last stream ended, if it has none.
    idle_since: Instant,
    /// Where the worker's timer for this connection stands.
    pub(crate) scheduled: Option<Instant>,
    /// Whether the worker will look after the connection in this turn.
    pub(crate) is_queued: bool,
    was_closing: bool,
    /// Whether this turn's first half is over.
    has_received: bool,
    /// Whether HTTP/3 may have events that this turn has not asked for.
    has_events: bool,
    /// Streams that the peer has asked us to stop sending on, in all.
    stopped: u64,
    /// Bytes that have come in datagrams and content since a client last asked for a sign of life.
    content_since_probe: u64,
    /// Capsules that this turn still takes.
    capsules_left: usize,
    /// Tunnels with capsules that the last turn did not take.
    unread: Vec<u64>,
}

/// One request stream.
struct Stream {
    waker: Arc<StreamWaker>,
    recv: Recv,
    send: Outgoing,
    tunnel: Option<Tunnel>,
    /// Whether the stream stands in the connection's queue of hungry tunnels.
    is_hungry: bool,
    /// Whether the request asked for a tunnel.
    is_tunnel: bool,
    length: ContentLength,
    /// Whether fields have come after the content.
    has_trailers: bool,
    /// Tells a client's handle that its tunnel is over.
    ended: Option<oneshot::Sender<Result<(), ClientError>>>,
}

impl Stream {
    fn new(waker: Arc<StreamWaker>, recv: Recv, send: Outgoing) -> Self {
        Self {
            waker,
            recv,
            send,
            tunnel: None,
            is_hungry: false,
            is_tunnel: false,
            length: ContentLength::new(None),
            has_trailers: false,
            ended: None,
        }
    }

    fn is_over(&self) -> bool {
        matches!(self.recv, Recv::Over) && matches!(self.send, Outgoing::Over)
    }
}

impl Connection {
    pub(crate) fn new(
        key: ConnectionKey,
        quic: quiche::Connection<Buffers>,
        role: Role,
        limits: &Limits,
        now: Instant,
    ) -> Self {
        let http = Http {
            quic,
            h3: None,
            packet_len: path_mtu::BASE,
            watermark: MIN_DATAGRAM_WATERMARK,
            waiting: Waiting::default(),
            kept: Kept::default(),
            holding: Holding::default(),
        };
        Self {
            key,
            path: Path::new(&http, now),
            http,
            role,
            streams: FxHashMap::default(),
            early: Early::new(limits),
            woken: Vec::new(),
            hungry: VecDeque::new(),
            stalled: BTreeSet::new(),
            touched: Vec::new(),
            last_received: now,
            born: now,
            idle_since: now,
            scheduled: None,
            is_queued: false,
            was_closing: false,
            has_received: false,
            has_events: false,
            stopped: 0,
            content_since_probe: 0,
            capsules_left: 0,
            unread: Vec::new(),
        }
    }

    pub(crate) fn is_server(&self) -> bool {
        matches!(self.role, Role::Server(_))
    }

    /// The peer's address, which it has shown to be its own: anybody can send a packet from another one.
    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        self.path.peer()
    }

    /// Notes that a stream was woken.
    pub(crate) fn wake(&mut self, stream: u64) {
        self.woken.push(stream);
    }

    /// The first half of a turn: timers, and what has come. Returns whether flows were given something.
    pub(crate) fn receive(&mut self, cx: &mut TurnCx<'_>) -> bool {
        self.has_received = true;
        self.timers(cx);
        if self.http.quic.is_closed() || self.http.quic.is_draining() || self.is_closing() {
            self.end_everything();
            return false;
        }
        if self.http.h3.is_none() {
            self.start_http(cx);
        }
        self.look_after_path(cx);
        self.capsules_left = CAPSULES_PER_TURN;
        for id in std::mem::take(&mut self.unread) {
            self.read_content(id, cx);
        }
        self.events(cx);
        self.datagrams(cx)
    }

    /// The second half: what wants to go. Returns whether there is more to do at once.
    pub(crate) fn send(&mut self, cx: &mut TurnCx<'_>) -> bool {
        // What has woken the connection since the first half may be all that there is.
        if !std::mem::take(&mut self.has_received) {
            self.receive(cx);
            self.has_received = false;
        }
        if self.was_closing {
            return false;
        }
        self.look_after_woken(cx);
        self.serve_stalled(cx);
        let more = self.serve_hungry();
        self.drop_doubted();
        if let Role::Client(_) = self.role {
            self.client_upkeep(cx);
        }
        if self.is_closing() {
            self.end_everything();
            return false;
        }
        more
    }

    /// When the connection wants its next turn, whatever happens.
    pub(crate) fn deadline(&self, limits: &Limits) -> Option<Instant> {
        let quic = self.http.quic.timeout_instant();
        // Once it is closing, the time that it had is over: to be woken for that again and again would
        // keep its worker from everything else.
        let is_waited_for = !self.http.quic.is_established() && !self.is_closing();
        let handshake = is_waited_for.then(|| self.born + limits.handshake_timeout);
        let client = match &self.role {
            Role::Client(client) => client.deadline(self.last_received, self.keepalive()),
            Role::Server(_) => None,
        };
        // A connection that is closing is not looked after any more.
        let path = match self.was_closing {
            true => None,
            false => self.path.deadline(&self.http, self.last_received),
        };
        [quic, handshake, client, path, self.early.deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    fn is_closing(&self) -> bool {
        self.http.quic.local_error().is_some() || self.http.quic.peer_error().is_some()
    }

    fn timers(&mut self, cx: &TurnCx<'_>) {
        if self
            .http
            .quic
            .timeout_instant()
            .is_some_and(|due| due <= cx.now)
        {
            self.path.on_timeout(&mut self.http);
        }
        self.early.expire(cx.now);
        let unfinished = !self.http.quic.is_established();
        if unfinished && cx.now.duration_since(self.born) >= cx.limits.handshake_timeout {
            let _ = self.http.quic.close(false, 0, b"handshake timeout");
        }
    }

    fn start_http(&mut self, cx: &mut TurnCx<'_>) {
        // The client's first flight may carry requests, but an answer waits for the handshake: a
        // replayed flight must have no effect (RFC 9114 §10.9).
        if !self.http.quic.is_established() || !self.admit_server() {
            return;
        }
        let http = &mut self.http;
        let call = || h3::Connection::with_transport(&mut http.quic, cx.h3);
        match http.holding.count(call) {
            Ok(h3) => self.http.h3 = Some(h3),
            Err(error) => debug!(%error, "HTTP/3 cannot start"),
        }
    }

    fn events(&mut self, cx: &mut TurnCx<'_>) {
        for _ in 0..EVENTS_PER_TURN {
            let Some(h3) = &mut self.http.h3 else { return };
            let call = || h3.poll(&mut self.http.quic);
            let (id, event) = match self.http.holding.count(call) {
                Ok(event) => event,
                Err(h3::Error::Done) => {
                    self.has_events = false;
                    return;
                }
                Err(error) => {
                    // quiche has closed the connection with the code that belongs to the error.
                    debug!(%error, "the peer broke HTTP/3");
                    return;
                }
            };
            match event {
                h3::Event::Headers { list, more_frames } => {
                    self.on_headers(id, &list, more_frames, cx);
                    self.http.holding.count(|| drop(list));
                }
                h3::Event::Data => self.on_data(id, cx),
                h3::Event::Finished => self.on_finished(id, cx),
                h3::Event::Reset(code) => self.on_reset(id, code, cx),
                h3::Event::PriorityUpdate => {
                    // Taking it is what lets the next one be reported.
                    let call = || drop(h3.take_last_priority_update(id));
                    self.http.holding.count(call);
                }
                h3::Event::GoAway => self.on_goaway(id),
            }
        }
        // More events than a turn takes: come back.
        self.has_events = true;
    }

    fn on_headers(&mut self, id: u64, list: &[h3::Header], more_frames: bool, cx: &mut TurnCx<'_>) {
        let is_server = self.is_server();
        match self.streams.get(&id).map(|stream| &stream.recv) {
            None if is_server => self.on_request(id, list, more_frames, cx),
            None => {}
            Some(Recv::Head) => self.on_response(id, list, more_frames, cx),
            Some(_) => self.on_trailers(id, list),
        }
    }

    /// The peer has given up its direction of a stream.
    fn on_reset(&mut self, id: u64, code: u64, cx: &mut TurnCx<'_>) {
        self.count_reset(cx);
        if id & UNIDIRECTIONAL != 0 {
            // One of a type that nobody knows: it was no request.
            return;
        }
        self.note_opened(id);
        let Some(stream) = self.streams.get_mut(&id) else {
            // Nothing was begun. Our direction ends, too, or the stream would count as open for ever.
            return self.http.reset(id, StreamError::RequestRejected.code());
        };
        stream.recv = Recv::Over;
        if let Some(ended) = stream.ended.take() {
            let _ = ended.send(Err(ClientError::Reset(code)));
        }
        self.fail_request(id, code);
        if self.is_server() {
            self.http.reset(id, StreamError::RequestCancelled.code());
        } else {
            self.http.abort(id, StreamError::RequestCancelled);
        }
        self.remove(id);
    }

    /// Ends a tunnel or request from this side, for a reason that is not the peer's wish.
    fn fail(&mut self, id: u64, error: &Error) {
        let code = error.stream_error();
        if code == StreamError::Internal
            && self.is_server()
            && let Some(left_out) = FAILURES.take(Instant::now())
        {
            warn!(stream = id, %error, left_out, "a tunnel has failed");
        } else {
            debug!(stream = id, %error, "stream reset");
        }
        if let Some(stream) = self.streams.get_mut(&id)
            && let Some(ended) = stream.ended.take()
        {
            let _ = ended.send(Err(ClientError::Malformed(error.to_string())));
        }
        self.http.abort(id, code);
        self.remove(id);
    }

    fn remove(&mut self, id: u64) {
        let Some(stream) = self.streams.remove(&id) else {
            return;
        };
        if self.streams.is_empty() {
            self.idle_since = Instant::now();
        }
        self.stalled.remove(&id);
        self.fail_request(id, StreamError::RequestCancelled.code());
        if let Some(tunnel) = &stream.tunnel {
            self.tunnel_closed(tunnel.dropped());
        }
    }

    fn remove_if_over(&mut self, id: u64) {
        if self.streams.get(&id).is_some_and(Stream::is_over) {
            self.remove(id);
        }
    }

    /// Takes all datagrams that have come and gives each flow its share. Returns whether there were any.
    fn datagrams(&mut self, cx: &mut TurnCx<'_>) -> bool {
        while let Ok(datagram) = self.http.quic.dgram_recv_buf() {
            if let Some(packet) = datagram.into_packet() {
                self.on_datagram(packet, cx);
            }
            if self.is_closing() {
                return false;
            }
        }
        let mut touched = std::mem::take(&mut self.touched);
        let any = !touched.is_empty();
        for id in touched.drain(..) {
            let Some(stream) = self.streams.get_mut(&id) else {
                continue;
            };
            let Some(tunnel) = &mut stream.tunnel else {
                continue;
            };
            let delivered = tunnel.deliver(&self.http);
            self.after_flow(id, delivered);
        }
        self.touched = touched;
        any
    }

    fn on_datagram(&mut self, mut packet: Packet, cx: &mut TurnCx<'_>) {
        let (id, prefix_len) = match datagram::decode_stream_id(&packet) {
            Ok(decoded) => decoded,
            Err(error) => return self.http.close(DATAGRAM_ERROR, &error.to_string()),
        };
        packet.advance(prefix_len);
        self.content_since_probe += packet.len() as u64;
        let Some(stream) = self.streams.get_mut(&id) else {
            // Its request may still be on the way; one that is over is not.
            if self.may_still_open(id) {
                self.early.hold(id, packet, cx.now);
            }
            return;
        };
        match (&mut stream.tunnel, &stream.recv) {
            (_, Recv::Over) => {}
            (Some(tunnel), _) => match tunnel.take(packet, &self.http) {
                Ok(true) => self.touched.push(id),
                Ok(false) => {}
                Err(error) => self.fail(id, &error),
            },
            (None, Recv::Held | Recv::Head) => {
                self.early.hold(id, packet, cx.now);
            }
            // The client could not know that its tunnel is refused.
            (None, _) if stream.is_tunnel => {}
            // Datagrams mean nothing to any other request (RFC 9297 §2).
            (None, _) => {
                let error = Error::bad_request("datagram for a request that is not a tunnel");
                self.fail(id, &error.with_stream_error(StreamError::Datagram));
            }
        }
    }

    fn look_after_woken(&mut self, cx: &mut TurnCx<'_>) {
        let mut woken = std::mem::take(&mut self.woken);
        for id in woken.drain(..) {
            let Some(stream) = self.streams.get(&id) else {
                continue;
            };
            stream.waker.rearm();
            if stream.tunnel.is_some() {
                self.poll_flow(id);
            } else {
                self.read_content(id, cx);
                self.send_content(id);
            }
        }
        if self.woken.is_empty() {
            self.woken = woken;
        }
    }

    /// Looks for streams that the peer wants no more of: quiche reports a stopped stream as writable
    /// only where it was not writable before.
    fn find_stopped(&mut self, cx: &mut TurnCx<'_>) {
        for id in self.streams.keys().copied().collect::<Vec<_>>() {
            if let Err(quiche::Error::StreamStopped(code)) = self.http.quic.stream_capacity(id) {
                self.on_stopped(id, code, cx);
            }
        }
    }

    /// Tries again what waited for credit.
    fn serve_stalled(&mut self, cx: &mut TurnCx<'_>) {
        for id in self.stalled.iter().copied().collect::<Vec<_>>() {
            match self.streams.get(&id) {
                Some(stream) if stream.tunnel.is_some() => {
                    self.after_flow(id, Ok(()));
                    if !self.stalled.contains(&id) {
                        // It may have had more than there was room for.
                        self.poll_flow(id);
                    }
                }
                Some(_) => {
                    self.advance_head(id, cx);
                    self.send_content(id);
                }
                None => {
                    self.stalled.remove(&id);
                }
            }
        }
    }

    /// The peer wants nothing more on this stream (STOP_SENDING).
    fn on_stopped(&mut self, id: u64, code: u64, cx: &mut TurnCx<'_>) {
        self.count_reset(cx);
        let is_server = self.is_server();
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        if let Some(ended) = stream.ended.take() {
            let _ = ended.send(Err(ClientError::Reset(code)));
        }
        if is_server || stream.tunnel.is_some() {
            self.http.abort(id, StreamError::RequestCancelled);
            self.remove(id);
        } else {
            // A server may answer before it has read the whole request (RFC 9114 §4.1).
            stream.send = Outgoing::Over;
            self.remove_if_over(id);
        }
    }

    /// Closes the connection with an HTTP/3 code, and ends all that is on it at once.
    pub(crate) fn end(&mut self, code: u64) {
        self.http.close(code, "");
        self.end_everything();
    }

    /// Drops every stream, and with it every flow, task and reader. Runs once.
    fn end_everything(&mut self) {
        if std::mem::replace(&mut self.was_closing, true) {
            return;
        }
        let dropped: Vec<u64> = self
            .streams
            .values()
            .filter_map(|s| s.tunnel.as_ref())
            .map(Tunnel::dropped)
            .collect();
        for count in dropped {
            self.tunnel_closed(count);
        }
        self.end_client();
        self.streams.clear();
        self.hungry.clear();
        self.stalled.clear();
        self.unread.clear();
    }
}
