//! The client's side of a connection: requests out, responses in, and noticing a dead server.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::time::{Duration, Instant};

use http::{HeaderValue, Method, StatusCode, header};
use pasque::connection::{ClientError, CloseReason, OpenTunnel};
use pasque::wire::message::{ContentLength, ResponseHead, parse_response, request_fields};
use pasque::{Body, Flow, Request, Response, StreamError};
use quiche::h3;
use tokio::sync::{oneshot, watch};

use super::content::{Content, Outgoing, Recv};
use super::http::pairs;
use super::{Connection, NO_ERROR, Role, Stream, TurnCx, inflow};
use crate::mailbox::StreamWaker;
use crate::settings::{DEAD_AFTER, KEEPALIVE, KEEPALIVE_RECEIVING};
use crate::tls::Trust;

/// How long a tunnel request waits for the server's SETTINGS.
const SETTINGS_TIMEOUT: Duration = Duration::from_secs(5);

/// Content that makes a client take the server for one that is sending, in bytes.
const BULK: u64 = 16 << 10;

/// What a client's handle asks of the worker.
pub(crate) enum Command {
    Request(Request, oneshot::Sender<Result<Response, ClientError>>),
    Open(
        Request,
        Box<dyn Flow>,
        oneshot::Sender<Result<OpenTunnel, ClientError>>,
    ),
    /// A handle has stopped waiting for something.
    Reconsider,
    Close,
}

/// A request without an answer.
enum Waiting {
    Response(oneshot::Sender<Result<Response, ClientError>>, Method),
    /// The flow waits here until the answer, unless it has started already.
    Tunnel(
        oneshot::Sender<Result<OpenTunnel, ClientError>>,
        Option<Box<dyn Flow>>,
    ),
}

impl Waiting {
    fn is_abandoned(&self) -> bool {
        match self {
            Self::Response(reply, _) => reply.is_closed(),
            Self::Tunnel(reply, _) => reply.is_closed(),
        }
    }

    fn fail(self, error: ClientError) {
        // Nobody may be waiting any more.
        match self {
            Self::Response(reply, _) => drop(reply.send(Err(error))),
            Self::Tunnel(reply, _) => drop(reply.send(Err(error))),
        }
    }
}

/// What a client asks of a server, and shows it.
pub(crate) struct Asks {
    /// What the certificate must be for.
    pub(crate) host: String,
    /// Goes into requests.
    pub(crate) authority: String,
    pub(crate) trust: Trust,
    /// Goes into each request that has none of its own.
    pub(crate) authorization: Option<HeaderValue>,
}

/// The client's state of one connection.
pub(crate) struct ClientSide {
    asks: Asks,
    connected: Option<oneshot::Sender<Result<(), ClientError>>>,
    closed: watch::Sender<Option<CloseReason>>,
    /// Why the connection is over, until that is told.
    end: Option<CloseReason>,
    /// Requests that wait for the handshake, for SETTINGS, or for a stream.
    queue: VecDeque<(Instant, Request, Waiting)>,
    waiting: HashMap<u64, Waiting>,
    last_probe: Option<Instant>,
    refused: Option<String>,
    is_going_away: bool,
    is_dead: bool,
    was_closed_here: bool,
}

impl ClientSide {
    pub(crate) fn new(
        asks: Asks,
        connected: oneshot::Sender<Result<(), ClientError>>,
        closed: watch::Sender<Option<CloseReason>>,
    ) -> Self {
        Self {
            asks,
            connected: Some(connected),
            closed,
            end: None,
            queue: VecDeque::new(),
            waiting: HashMap::new(),
            last_probe: None,
            refused: None,
            is_going_away: false,
            is_dead: false,
            was_closed_here: false,
        }
    }

    /// When the server has to be asked for a sign of life, or given up.
    pub(super) fn deadline(&self, last_received: Instant, keepalive: Duration) -> Option<Instant> {
        let quiet_since = self
            .last_probe
            .map_or(last_received, |probe| probe.max(last_received));
        let settings = self
            .queue
            .front()
            .map(|(since, ..)| *since + SETTINGS_TIMEOUT);
        let due = (quiet_since + keepalive).min(last_received + DEAD_AFTER);
        Some(settings.map_or(due, |settings| settings.min(due)))
    }
}

impl Connection {
    fn client(&mut self) -> Option<&mut ClientSide> {
        match &mut self.role {
            Role::Client(client) => Some(client),
            Role::Server(_) => None,
        }
    }

    /// Takes what a handle asks for.
    pub(crate) fn command(&mut self, command: Command, now: Instant) {
        let is_over = self.is_closing() || self.http.quic.is_closed();
        let reason = is_over.then(|| self.close_reason());
        let Some(client) = self.client() else { return };
        let (request, waiting) = match command {
            Command::Reconsider => return,
            Command::Close => {
                client.was_closed_here = true;
                return self.http.close(NO_ERROR, "");
            }
            Command::Request(request, reply) => {
                let method = request.method.clone();
                (request, Waiting::Response(reply, method))
            }
            Command::Open(request, flow, reply) => (request, Waiting::Tunnel(reply, Some(flow))),
        };
        match reason {
            Some(reason) => waiting.fail(ClientError::Closed(reason)),
            None if client.is_going_away => waiting.fail(ClientError::Closed(CloseReason::Peer)),
            None => client.queue.push_back((now, request, waiting)),
        }
    }

    /// Decides whether the server is the one that was meant, once its certificate is known.
    pub(super) fn admit_server(&mut self) -> bool {
        let Role::Client(client) = &mut self.role else {
            return true;
        };
        match client
            .asks
            .trust
            .check(&client.asks.host, self.http.quic.peer_cert())
        {
            Ok(()) => {
                if let Some(connected) = client.connected.take() {
                    let _ = connected.send(Ok(()));
                }
                true
            }
            Err(reason) => {
                client.refused = Some(reason);
                // bad_certificate (RFC 8446 §6.2) as a QUIC crypto error (RFC 9001 §4.8).
                let _ = self
                    .http
                    .quic
                    .close(false, 0x100 + 42, b"certificate refused");
                false
            }
        }
    }

    /// How long the connection may be silent before the server is asked for a sign of life: two
    /// of which fit into the time that the server allows (RFC 9000 §10.1.2).
    pub(super) fn keepalive(&self) -> Duration {
        let wanted = match self.content_since_probe >= BULK {
            true => KEEPALIVE_RECEIVING,
            false => KEEPALIVE,
        };
        let allowed = self.http.quic.peer_transport_params();
        match allowed.map_or(0, |parameters| parameters.max_idle_timeout) {
            0 => wanted,
            allowed => wanted.min(Duration::from_millis(allowed / 3)),
        }
    }

    /// What a client does in every turn beside moving data.
    pub(super) fn client_upkeep(&mut self, cx: &mut TurnCx<'_>) {
        self.submit_queue(cx);
        self.cancel_abandoned();
        let (last_received, keepalive) = (self.last_received, self.keepalive());
        let silent = cx.now.saturating_duration_since(last_received);
        let Some(client) = self.client() else { return };
        if silent >= DEAD_AFTER {
            client.is_dead = true;
            let _ = self.http.quic.close(false, 0, b"no sign of life");
            return;
        }
        let quiet_since = client
            .last_probe
            .map_or(last_received, |probe| probe.max(last_received));
        if cx.now.saturating_duration_since(quiet_since) >= keepalive {
            client.last_probe = Some(cx.now);
            self.content_since_probe = 0;
            // quiche never asks for a sign of life by itself.
            let _ = self.http.quic.send_ack_eliciting();
        }
    }

    fn submit_queue(&mut self, cx: &mut TurnCx<'_>) {
        if self.http.h3.is_none() {
            return;
        }
        for _ in 0..self.client().map_or(0, |client| client.queue.len()) {
            let Some((since, request, waiting)) =
                self.client().and_then(|client| client.queue.pop_front())
            else {
                return;
            };
            if waiting.is_abandoned() {
                continue;
            }
            if let Some((request, waiting)) = self.submit(since, request, waiting, cx)
                && let Some(client) = self.client()
            {
                client.queue.push_back((since, request, waiting));
            }
        }
    }

    /// Sends one request, or hands it back when it has to wait.
    fn submit(
        &mut self,
        since: Instant,
        mut request: Request,
        waiting: Waiting,
        cx: &mut TurnCx<'_>,
    ) -> Option<(Request, Waiting)> {
        let h3 = self.http.h3.as_mut()?;
        if request.protocol.is_some() {
            // No extended CONNECT before the server has announced it (RFC 8441 §3).
            if h3.peer_settings_raw().is_none() {
                if cx.now.duration_since(since) < SETTINGS_TIMEOUT {
                    return Some((request, waiting));
                }
                waiting.fail(ClientError::Timeout);
                return None;
            }
            if !h3.extended_connect_enabled_by_peer() {
                waiting.fail(ClientError::NoExtendedConnect);
                return None;
            }
        }
        let Role::Client(client) = &self.role else {
            return None;
        };
        let authority = client.asks.authority.as_str();
        if let Some(authorization) = &client.asks.authorization {
            let own = request.headers.entry(header::AUTHORIZATION);
            own.or_insert_with(|| authorization.clone());
        }
        let protocol = request.protocol.as_deref();
        let fields = match request_fields(
            &request.method,
            "https",
            authority,
            &request.path,
            protocol,
            &request.headers,
        ) {
            Ok(fields) => fields,
            Err(error) => {
                waiting.fail(ClientError::Io(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    error.to_string(),
                )));
                return None;
            }
        };
        let fields: Vec<_> = fields.iter().map(|(n, v)| h3::Header::new(n, v)).collect();
        let is_tunnel = request.protocol.is_some();
        let fin = !is_tunnel && matches!(request.body, Body::Empty);
        let call = || h3.send_request(&mut self.http.quic, &fields, fin);
        let id = match self.http.holding.count(call) {
            Ok(id) => id,
            Err(
                h3::Error::StreamBlocked | h3::Error::TransportError(quiche::Error::StreamLimit),
            ) => return Some((request, waiting)),
            Err(h3::Error::FrameUnexpected) => {
                // The server has said that it is going away.
                waiting.fail(ClientError::Closed(CloseReason::Peer));
                return None;
            }
            Err(error) => {
                waiting.fail(ClientError::Io(io::Error::other(error.to_string())));
                return None;
            }
        };
        let send = match (is_tunnel, fin) {
            (true, _) => Outgoing::Tunnel,
            (false, true) => Outgoing::Over,
            (false, false) => {
                Outgoing::Content(Content::new(std::mem::take(&mut request.body), None))
            }
        };
        let waker = StreamWaker::new(cx.mailbox.clone(), self.key, id);
        self.streams
            .insert(id, Stream::new(waker, Recv::Head, send));
        self.send_content(id);
        let mut waiting = waiting;
        let early = match &mut waiting {
            Waiting::Tunnel(_, flow) if request.starts_early => flow.take(),
            _ => None,
        };
        if let Some(client) = self.client() {
            client.waiting.insert(id, waiting);
        }
        if let Some(flow) = early {
            self.install(id, flow, cx);
        }
        None
    }

    fn cancel_abandoned(&mut self) {
        let Some(client) = self.client() else { return };
        let abandoned: Vec<u64> = client
            .waiting
            .extract_if(|_, w| w.is_abandoned())
            .map(|(id, _)| id)
            .collect();
        for id in abandoned {
            self.http.abort(id, StreamError::RequestCancelled);
            self.remove(id);
        }
    }

    pub(super) fn on_response(
        &mut self,
        id: u64,
        list: &[h3::Header],
        more_frames: bool,
        cx: &mut TurnCx<'_>,
    ) {
        let Some(client) = self.client() else { return };
        let Some(waiting) = client.waiting.remove(&id) else {
            return;
        };
        let is_tunnel = matches!(waiting, Waiting::Tunnel(..));
        let head = match parse_response(pairs(list), is_tunnel) {
            Ok(head) if head.is_informational() && more_frames => {
                client.waiting.insert(id, waiting);
                return;
            }
            Ok(head) if head.is_informational() => {
                waiting.fail(ClientError::Malformed("no final response".into()));
                self.http.abort(id, StreamError::Message);
                return self.remove(id);
            }
            Ok(head) => head,
            Err(error) => {
                waiting.fail(ClientError::Malformed(error.to_string()));
                self.http.abort(id, StreamError::Message);
                return self.remove(id);
            }
        };
        match waiting {
            Waiting::Response(reply, method) => {
                self.on_content_head(id, head, &method, more_frames, reply, cx);
            }
            Waiting::Tunnel(reply, flow) if head.status.is_success() => {
                let (ended, receiver) = oneshot::channel();
                if let Some(stream) = self.streams.get_mut(&id) {
                    stream.ended = Some(ended);
                    stream.recv = if more_frames {
                        Recv::Tunnel
                    } else {
                        Recv::Over
                    };
                }
                let opened = OpenTunnel::new(head.status, head.headers, receiver);
                if reply.send(Ok(opened)).is_err() {
                    self.http.abort(id, StreamError::RequestCancelled);
                    return self.remove(id);
                }
                match flow {
                    Some(flow) => self.install(id, flow, cx),
                    None if more_frames => self.read_content(id, cx),
                    None => self.finish_tunnel(id),
                }
            }
            Waiting::Tunnel(reply, _) => {
                let _ = reply.send(Err(ClientError::refused(head.status, head.headers)));
                // The tunnel is not to be: neither side has anything more to say.
                self.http.abort(id, StreamError::RequestCancelled);
                self.remove(id);
            }
        }
    }

    fn on_content_head(
        &mut self,
        id: u64,
        head: ResponseHead,
        method: &Method,
        more_frames: bool,
        reply: oneshot::Sender<Result<Response, ClientError>>,
        cx: &mut TurnCx<'_>,
    ) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let has_none = *method == Method::HEAD || head.status == StatusCode::NOT_MODIFIED;
        stream.length = match has_none {
            true => ContentLength::none_expected(),
            false => ContentLength::new(head.content_length),
        };
        let mut response = Response::new(head.status);
        response.headers = head.headers;
        let (inflow, body) = inflow::channel(stream.waker.waker());
        response.body = body;
        if more_frames {
            stream.recv = Recv::Content(inflow);
        } else {
            stream.recv = Recv::Over;
            let whole = stream
                .length
                .finish()
                .map_err(|_short| io::ErrorKind::UnexpectedEof);
            inflow.end(whole);
        }
        let _ = reply.send(Ok(response));
        self.read_content(id, cx);
        self.remove_if_over(id);
    }

    /// A request ended without an answer; `code` is the peer's, or ours.
    pub(super) fn fail_request(&mut self, id: u64, code: u64) {
        let Some(client) = self.client() else { return };
        if let Some(waiting) = client.waiting.remove(&id) {
            waiting.fail(ClientError::Reset(code));
        }
    }

    /// The server will answer no request from `id` on (RFC 9114 §5.2).
    pub(super) fn on_goaway(&mut self, id: u64) {
        let Some(client) = self.client() else { return };
        client.is_going_away = true;
        for (_, _, waiting) in client.queue.drain(..) {
            waiting.fail(ClientError::Closed(CloseReason::Peer));
        }
        let unanswered: Vec<_> = client
            .waiting
            .extract_if(|stream, _| *stream >= id)
            .collect();
        for (stream, waiting) in unanswered {
            waiting.fail(ClientError::Closed(CloseReason::Peer));
            self.http.abort(stream, StreamError::RequestCancelled);
            self.remove(stream);
        }
    }

    /// Fails whatever waits, because the connection is over. Whoever waits for just that is told by
    /// [`announce_end`](Self::announce_end).
    pub(super) fn end_client(&mut self) {
        let reason = self.close_reason();
        let failure = self.handshake_failure(&reason);
        for stream in self.streams.values_mut() {
            if let Some(ended) = stream.ended.take() {
                let _ = ended.send(Err(ClientError::Closed(reason.clone())));
            }
        }
        let Some(client) = self.client() else { return };
        if let Some(connected) = client.connected.take() {
            let _ = connected.send(Err(failure));
        }
        for (_, _, waiting) in client.queue.drain(..) {
            waiting.fail(ClientError::Closed(reason.clone()));
        }
        for (_, waiting) in client.waiting.drain() {
            waiting.fail(ClientError::Closed(reason.clone()));
        }
        client.end = Some(reason);
    }

    /// Tells those who wait for the end of the connection. A program may end with it, so this comes
    /// after the last packet was sent.
    pub(crate) fn announce_end(&mut self) {
        let Some(client) = self.client() else { return };
        if let Some(reason) = client.end.take() {
            let _ = client.closed.send(Some(reason));
        }
    }

    fn close_reason(&self) -> CloseReason {
        let Role::Client(client) = &self.role else {
            return CloseReason::Local;
        };
        if client.is_dead || self.http.quic.is_timed_out() {
            return CloseReason::TimedOut;
        }
        if client.was_closed_here {
            return CloseReason::Local;
        }
        if let Some(error) = self.http.quic.peer_error() {
            let is_orderly = match error.is_app {
                true => error.error_code == NO_ERROR || !is_known(error.error_code),
                false => error.error_code == 0,
            };
            return match is_orderly {
                true => CloseReason::Peer,
                false => CloseReason::PeerError(
                    error.error_code,
                    String::from_utf8_lossy(&error.reason).into_owned(),
                ),
            };
        }
        match self.http.quic.local_error() {
            Some(error) => CloseReason::LocalError(
                error.error_code,
                String::from_utf8_lossy(&error.reason).into_owned(),
            ),
            // A stateless reset: the server does not know the connection any more.
            None => CloseReason::Peer,
        }
    }

    fn handshake_failure(&self, reason: &CloseReason) -> ClientError {
        let Role::Client(client) = &self.role else {
            return ClientError::Timeout;
        };
        if let Some(refused) = &client.refused {
            return ClientError::Tls(refused.clone());
        }
        let crypto = |code: &u64| {
            (0x100..0x200)
                .contains(code)
                .then(|| describe_alert(code - 0x100))
        };
        match reason {
            CloseReason::PeerError(code, _) => match crypto(code) {
                Some(alert) => ClientError::Tls(format!("the server refused: {alert}")),
                None => ClientError::Closed(reason.clone()),
            },
            CloseReason::LocalError(code, _) => match crypto(code) {
                Some(alert) => ClientError::Tls(alert),
                None => ClientError::Unreachable {
                    host: client.asks.authority.clone(),
                },
            },
            CloseReason::TimedOut => ClientError::Unreachable {
                host: client.asks.authority.clone(),
            },
            other => ClientError::Closed(other.clone()),
        }
    }
}

/// Whether the code is one of HTTP/3 (RFC 9114 §8.1), QPACK (RFC 9204 §8.3) or HTTP Datagrams
/// (RFC 9297 §5.2). Any other counts as `H3_NO_ERROR` (RFC 9114 §8).
fn is_known(code: u64) -> bool {
    matches!(code, 0x0100..=0x0110 | 0x0200..=0x0202 | 0x33)
}

/// The TLS alerts that a user can do something about (RFC 8446 §6.2).
fn describe_alert(alert: u64) -> String {
    match alert {
        42 | 46 => "the certificate is not valid for this host".into(),
        45 => "the certificate has expired".into(),
        48 => "the certificate is not signed by a trusted authority".into(),
        120 => "the server does not speak HTTP/3".into(),
        other => format!("TLS alert {other}"),
    }
}
