//! The server's side of a connection: from a request's fields to an endpoint, and back.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::{HeaderMap, Method, StatusCode};
use pasque::auth::ClientCertificate;
use pasque::proxy_status::ProxyError;
use pasque::wire::message::{
    ContentLength, Malformed, RequestHead, parse_request, response_fields,
};
use pasque::{Body, Error, Request, Response, Site, StreamError};
use quiche::h3;
use tracing::debug;

use super::content::{Content, Next, Outgoing, Recv};
use super::http::{Fields, Gone, add_date, pairs};
use super::{Connection, EXCESSIVE_LOAD, NO_ERROR, Role, Stream, TurnCx, inflow};
use crate::client_certificate;
use crate::listener::Place;
use crate::mailbox::{Message, StreamWaker};
use crate::server_task::AbortOnDrop;

/// Requests that one connection may make in its life; quiche keeps a little of each that was reset.
const REQUESTS_PER_LIFE: u64 = 100_000;

/// The time in which resets are counted.
const RESET_WINDOW: Duration = Duration::from_secs(10);

/// What all connections of a server share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) site: Arc<Site>,
    pub(crate) counters: Counters,
}

/// What has happened since the server started.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) tunnels_open: AtomicUsize,
    pub(crate) tunnels_closed: AtomicU64,
    /// Datagrams dropped on their way to a client.
    pub(crate) datagrams_dropped: AtomicU64,
}

/// The server's state of one connection.
pub(crate) struct ServerSide {
    shared: Arc<Shared>,
    /// The connection's place among those that are allowed.
    place: Place,
    /// When the peer reset streams, within [`RESET_WINDOW`].
    resets: VecDeque<Instant>,
    /// The stream after the last one that was opened.
    next_stream: u64,
    /// Streams before that whose requests have not come yet, because others overtook them: no more
    /// than the peer may have open.
    overtaken: BTreeSet<u64>,
    is_draining: bool,
    /// The certificate that the client showed, once it was looked at.
    certificate: Option<Option<Box<ClientCertificate>>>,
}

impl ServerSide {
    pub(crate) fn new(shared: Arc<Shared>, place: Place) -> Self {
        Self {
            shared,
            place,
            resets: VecDeque::new(),
            next_stream: 0,
            overtaken: BTreeSet::new(),
            is_draining: false,
            certificate: None,
        }
    }

    /// Notes datagrams dropped on their way to the client.
    pub(super) fn count_dropped(&self, count: u64) {
        let dropped = &self.shared.counters.datagrams_dropped;
        dropped.fetch_add(count, Ordering::Relaxed);
    }
}

impl Connection {
    /// Announces that no further request will be answered (RFC 9114 §5.2). Returns whether nothing
    /// is under way.
    pub(crate) fn drain(&mut self) -> bool {
        if let Role::Server(server) = &mut self.role
            && !server.is_draining
            && let Some(h3) = &mut self.http.h3
            && h3
                .send_goaway(&mut self.http.quic, server.next_stream)
                .is_ok()
        {
            server.is_draining = true;
        }
        self.streams.is_empty()
    }

    /// Whether nothing has been under way for `time` that the peer has asked for.
    pub(crate) fn is_idle(&self, time: Duration, now: Instant) -> bool {
        let is_open = self.http.quic.is_established() && !self.http.quic.is_draining();
        is_open && self.streams.is_empty() && now.saturating_duration_since(self.idle_since) >= time
    }

    /// Whether there is no memory for a new tunnel.
    fn lacks_memory(&self) -> bool {
        match &self.role {
            Role::Server(server) => server.place.refuses_tunnel(),
            Role::Client(_) => false,
        }
    }

    /// Closes the connection in order.
    pub(crate) fn close(&mut self) {
        if self.http.quic.is_established() {
            return self.http.close(NO_ERROR, "");
        }
        // Before the handshake is done, an HTTP/3 code would reach the client as the transport's
        // APPLICATION_ERROR (RFC 9000 §10.2.3), which tells of a failure that there was not.
        let _ = self.http.quic.close(false, 0, b"");
    }

    /// Whether a request on this stream has not been seen yet.
    pub(super) fn is_new(&self, id: u64) -> bool {
        match &self.role {
            Role::Server(server) => id >= server.next_stream || server.overtaken.contains(&id),
            Role::Client(_) => false,
        }
    }

    /// Notes that the peer has used a stream.
    pub(super) fn note_opened(&mut self, id: u64) {
        let Role::Server(server) = &mut self.role else {
            return;
        };
        if id >= server.next_stream {
            server.overtaken.extend((server.next_stream..id).step_by(4));
            server.next_stream = id + 4;
        } else {
            server.overtaken.remove(&id);
        }
    }

    /// Whether a request for which a datagram came may still be on its way.
    pub(super) fn may_still_open(&self, id: u64) -> bool {
        // A stream far beyond what the peer may open is no request that was overtaken.
        const REACH: u64 = 4 * 1024;
        match &self.role {
            Role::Server(server) => self.is_new(id) && id < server.next_stream + REACH,
            Role::Client(_) => false,
        }
    }

    pub(super) fn on_request(
        &mut self,
        id: u64,
        list: &[h3::Header],
        more_frames: bool,
        cx: &mut TurnCx<'_>,
    ) {
        let Role::Server(server) = &mut self.role else {
            return;
        };
        let is_late = server.is_draining || id / 4 >= REQUESTS_PER_LIFE;
        self.note_opened(id);
        if is_late {
            self.http.abort(id, StreamError::RequestRejected);
            return;
        }
        let waker = StreamWaker::new(cx.mailbox.clone(), self.key, id);
        let head = match parse_request(pairs(list)) {
            Ok(head) => head,
            Err(error @ Malformed::Scheme(_)) => {
                let cause = Error::bad_request(error.to_string());
                return self.answer(id, waker, more_frames, false, &cause);
            }
            Err(error) => {
                debug!(stream = id, %error, "malformed request");
                self.http.abort(id, StreamError::Message);
                return;
            }
        };
        if head.is_plain_connect() {
            let cause = Error::new(StatusCode::NOT_IMPLEMENTED, "TCP proxying is not offered");
            return self.answer(id, waker, more_frames, false, &cause);
        }
        let is_tunnel = head.is_tunnel();
        if is_tunnel && self.tunnels() >= cx.limits.tunnels_per_connection {
            let cause = Error::proxy(ProxyError::ConnectionLimitReached, "too many tunnels");
            return self.answer(id, waker, more_frames, is_tunnel, &cause);
        }
        if is_tunnel && self.lacks_memory() {
            let cause = Error::proxy(ProxyError::ConnectionLimitReached, "no memory is left");
            return self.answer(id, waker, more_frames, is_tunnel, &cause);
        }
        let length = ContentLength::new(head.content_length);
        let (recv, body) = match (is_tunnel, more_frames) {
            (true, true) => (Recv::Held, Body::Empty),
            (false, true) => {
                let (inflow, body) = inflow::channel(waker.waker());
                (Recv::Content(inflow), body)
            }
            (_, false) => (Recv::Over, Body::Empty),
        };
        if !more_frames && let Err(error) = length.finish() {
            debug!(stream = id, %error, "malformed request");
            self.http.abort(id, StreamError::Message);
            return;
        }
        let task = self.dispatch(id, head, body, cx);
        let mut stream = Stream::new(waker, recv, Outgoing::Waiting { _task: task });
        stream.is_tunnel = is_tunnel;
        stream.length = length;
        self.streams.insert(id, stream);
    }

    /// Runs the endpoint on a task of its own, so that a slow look-up never stops packets.
    fn dispatch(&mut self, id: u64, head: RequestHead, body: Body, cx: &TurnCx<'_>) -> AbortOnDrop {
        let is_head = head.method == Method::HEAD;
        let request = self.request(head, body);
        let (key, mailbox) = (self.key, cx.mailbox.clone());
        let shared = match &self.role {
            Role::Server(server) => Some(server.shared.clone()),
            Role::Client(_) => None,
        };
        AbortOnDrop(tokio::spawn(async move {
            let Some(shared) = shared else { return };
            let mut response = shared.site.dispatch(request).await;
            if is_head {
                // The fields of a GET, without its content (RFC 9110 §9.3.2).
                response.body = Body::Empty;
            }
            mailbox.push(Message::Respond(key, id, Box::new(response)));
        }))
    }

    fn request(&mut self, head: RequestHead, body: Body) -> Request {
        let mut request = Request::new(head.method, head.path);
        request.protocol = head.protocol;
        request.authority = head.authority;
        request.headers = head.headers;
        request.body = body;
        if let Role::Server(server) = &mut self.role {
            let shown = || client_certificate::shown(self.http.quic.as_mut()).map(Box::new);
            let certificate = server.certificate.get_or_insert_with(shown);
            request.client_certificate = certificate.as_deref().cloned();
        }
        if let Some(peer) = self.peer() {
            request.peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        }
        request
    }

    /// Answers without asking an endpoint.
    fn answer(
        &mut self,
        id: u64,
        waker: Arc<StreamWaker>,
        more_frames: bool,
        is_tunnel: bool,
        cause: &Error,
    ) {
        let Role::Server(server) = &self.role else {
            return;
        };
        let response = server.shared.site.router().refuse(cause, is_tunnel);
        let recv = if more_frames {
            Recv::Unwanted
        } else {
            Recv::Over
        };
        let mut stream = Stream::new(waker, recv, Outgoing::Over);
        stream.is_tunnel = is_tunnel;
        self.streams.insert(id, stream);
        self.send_head(id, response.status, response.headers, Next::End);
    }

    /// An endpoint has answered.
    pub(crate) fn respond(&mut self, id: u64, response: Response) {
        // The client may have reset the stream meanwhile.
        if !self.streams.contains_key(&id) || self.is_closing() {
            return;
        }
        let next = match response.body {
            Body::Empty => Next::End,
            Body::Flow(flow) => Next::Flow(flow),
            content => Next::Content(content),
        };
        if let (Some(stream), false) = (self.streams.get_mut(&id), matches!(next, Next::Flow(_)))
            && matches!(stream.recv, Recv::Held)
        {
            stream.recv = Recv::Unwanted;
        }
        self.send_head(id, response.status, response.headers, next);
    }

    fn send_head(&mut self, id: u64, status: StatusCode, mut headers: HeaderMap, then: Next) {
        add_date(&mut headers);
        let fields: Fields = match response_fields(status, &headers, matches!(then, Next::Flow(_)))
        {
            Ok(fields) => fields.iter().map(|(n, v)| h3::Header::new(n, v)).collect(),
            Err(error) => {
                debug!(stream = id, %error, "an endpoint's response cannot be sent");
                self.http.abort(id, StreamError::Internal);
                return self.remove(id);
            }
        };
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.send = Outgoing::Head { fields, then };
        }
        self.stalled.insert(id);
    }

    /// Sends fields that wait, and starts what follows them.
    pub(super) fn advance_head(&mut self, id: u64, cx: &mut TurnCx<'_>) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let Outgoing::Head { fields, then } = &mut stream.send else {
            return;
        };
        let fin = matches!(then, Next::End);
        match self.http.respond(id, fields, fin) {
            Ok(false) => return,
            Ok(true) => {}
            Err(Gone) => {
                self.http.abort(id, StreamError::RequestCancelled);
                return self.remove(id);
            }
        }
        let announced = fields
            .iter()
            .find(|field| h3::NameValue::name(*field) == b"content-length")
            .and_then(|field| {
                std::str::from_utf8(h3::NameValue::value(field))
                    .ok()?
                    .parse()
                    .ok()
            });
        self.stalled.remove(&id);
        match std::mem::replace(then, Next::End) {
            Next::End => stream.send = Outgoing::Over,
            Next::Content(body) => stream.send = Outgoing::Content(Content::new(body, announced)),
            Next::Flow(flow) => {
                if let Role::Server(server) = &self.role {
                    server
                        .shared
                        .counters
                        .tunnels_open
                        .fetch_add(1, Ordering::Relaxed);
                }
                return self.install(id, flow, cx);
            }
        }
        self.send_content(id);
        self.refuse_unwanted(id);
        self.remove_if_over(id);
    }

    /// Streams on which a tunnel is open or asked for.
    fn tunnels(&self) -> usize {
        let is_tunnel =
            |stream: &&Stream| matches!(stream.recv, Recv::Held) || stream.tunnel.is_some();
        self.streams.values().filter(is_tunnel).count()
    }

    /// Notes the end of a tunnel that dropped `count` datagrams.
    pub(super) fn tunnel_closed(&self, count: u64) {
        let Role::Server(server) = &self.role else {
            return;
        };
        let counters = &server.shared.counters;
        counters.tunnels_open.fetch_sub(1, Ordering::Relaxed);
        counters.tunnels_closed.fetch_add(1, Ordering::Relaxed);
        server.count_dropped(count);
    }

    /// A peer that opens streams only to reset them costs work and pays nothing.
    pub(super) fn count_reset(&mut self, cx: &TurnCx<'_>) {
        let Role::Server(server) = &mut self.role else {
            return;
        };
        while server
            .resets
            .front()
            .is_some_and(|&at| cx.now.duration_since(at) > RESET_WINDOW)
        {
            server.resets.pop_front();
        }
        server.resets.push_back(cx.now);
        if server.resets.len() > cx.limits.resets_per_10s {
            self.http.close(EXCESSIVE_LOAD, "too many resets");
        }
    }
}
