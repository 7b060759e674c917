//! [`Peer`]: the other end of a connection, which speaks QUIC and leaves HTTP/3 to the test.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use pasque::wire::varint;
use quiche::{Shutdown, h3};
use tokio::task::JoinHandle;

use super::PATIENCE;
use super::wire::{self, DATA, Fields, Frame, HEADERS, SETTINGS};
use crate::cid::Cid;
use crate::socket::memory::Network;
use crate::socket::{Received, Socket};
use crate::testing::TestServer;

/// A raw QUIC connection over a network in memory.
pub(super) struct Peer {
    pub(super) quic: quiche::Connection,
    socket: Socket,
    received: Received,
    /// How many packets come before one that is lost.
    pub(super) before_lost: Option<usize>,
    /// What has come, by stream.
    pub(super) streams: BTreeMap<u64, Incoming>,
    /// The datagrams that have come, whole.
    pub(super) datagrams: VecDeque<Vec<u8>>,
    /// Streams that this end has written to.
    written: BTreeSet<u64>,
    next_request: u64,
}

/// What has come on one stream.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    pub(super) bytes: Vec<u8>,
    pub(super) fin: bool,
    /// The code of a RESET_STREAM.
    pub(super) reset: Option<u64>,
    /// The code of a STOP_SENDING.
    pub(super) stopped: Option<u64>,
}

/// A whole header section that came on a request's stream.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) fields: Fields,
}

impl Head {
    /// The `:status`.
    pub(super) fn status(&self) -> u16 {
        self.field(":status")
            .expect("a status")
            .parse()
            .expect("three digits")
    }

    /// The value of the first field called `name`.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.fields
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }
}

/// How a QUIC connection was closed: by the application or the transport, and with which code.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Closed {
    Application(u64),
    Transport(u64),
}

/// Settings that leave nothing to be desired: a test spoils what it wants spoiled.
pub(super) fn generous() -> quiche::Config {
    let mut config = quiche::Config::new(quiche::PROTOCOL_VERSION).unwrap();
    make_generous(&mut config);
    config
}

/// [`generous`], for a configuration that has a certificate.
pub(super) fn make_generous(config: &mut quiche::Config) {
    config
        .set_application_protos(h3::APPLICATION_PROTOCOL)
        .unwrap();
    config.verify_peer(false);
    config.set_max_idle_timeout(30_000);
    config.set_max_recv_udp_payload_size(65_527);
    config.set_max_send_udp_payload_size(1452);
    config.set_initial_max_data(64 << 20);
    config.set_initial_max_stream_data_bidi_local(16 << 20);
    config.set_initial_max_stream_data_bidi_remote(16 << 20);
    config.set_initial_max_stream_data_uni(1 << 20);
    config.set_initial_max_streams_bidi(100);
    config.set_initial_max_streams_uni(100);
    config.enable_dgram(true, 4096, 4096);
}

impl Peer {
    /// A client of `server` whose control stream holds SETTINGS{H3_DATAGRAM = 1}.
    pub(super) async fn client(server: &TestServer) -> Self {
        Self::client_with(server, generous(), "04 02 33 01").await
    }

    /// A client with this configuration, whose control stream starts with the frames `control`.
    pub(super) async fn client_with(
        server: &TestServer,
        config: quiche::Config,
        control: &str,
    ) -> Self {
        let mut peer = Self::dial(server.network(), server.address(), config);
        peer.until("a handshake", |peer| {
            peer.quic.is_established().then_some(())
        })
        .await;
        peer.control(control).await;
        peer
    }

    /// A client that has sent nothing yet.
    pub(super) fn dial(network: &Network, to: SocketAddr, mut config: quiche::Config) -> Self {
        let socket = Socket::Memory(network.socket());
        let cid = Cid::random(0).to_quiche();
        let local = socket.local_addr();
        let quic = quiche::connect(Some("localhost"), &cid, local, to, &mut config).unwrap();
        Self::new(quic, socket)
    }

    pub(super) fn new(quic: quiche::Connection, socket: Socket) -> Self {
        Self {
            quic,
            socket,
            received: Received::new(),
            before_lost: None,
            streams: BTreeMap::new(),
            datagrams: VecDeque::new(),
            written: BTreeSet::new(),
            next_request: 0,
        }
    }

    /// Its address, as long as the network does not change it.
    pub(super) fn address(&self) -> SocketAddr {
        self.socket.local_addr()
    }

    // Sending.

    /// Opens the control stream with the frames `control`, in hexadecimal.
    pub(super) async fn control(&mut self, control: &str) {
        let bytes = [&[0x00][..], &wire::hex(control)].concat();
        self.send(self.control_stream(), &bytes, false).await;
    }

    /// The first unidirectional stream of this end.
    pub(super) fn control_stream(&self) -> u64 {
        if self.quic.is_server() { 3 } else { 2 }
    }

    /// Sends a request's fields on the next stream and returns it.
    pub(super) async fn request(&mut self, fields: &[(&str, &str)], fin: bool) -> u64 {
        let id = self.next_stream();
        self.send(id, &wire::headers(fields), fin).await;
        id
    }

    /// The next request stream, as yet unused.
    pub(super) fn next_stream(&mut self) -> u64 {
        let id = self.next_request;
        self.next_request += 4;
        id
    }

    /// Asks for a tunnel.
    pub(super) async fn connect(&mut self, protocol: &str, path: &str) -> u64 {
        self.request(&tunnel(protocol, path), false).await
    }

    /// Opens a tunnel to the endpoint that echoes.
    pub(super) async fn echo(&mut self) -> u64 {
        let id = self.connect("echo", "/echo").await;
        assert_eq!(self.head(id).await.status(), 200);
        id
    }

    /// Asks for `path`, and for nothing more.
    pub(super) async fn get(&mut self, path: &str) -> u64 {
        self.request(&plain("GET", path), true).await
    }

    /// Asks for `path` and waits for the whole answer: its status and its content.
    pub(super) async fn fetch(&mut self, path: &str) -> (u16, Vec<u8>) {
        let id = self.get(path).await;
        let status = self.head(id).await.status();
        self.finished(id).await;
        (status, self.content(id))
    }

    /// Sends everything, as the other end grants credit.
    pub(super) async fn send(&mut self, id: u64, mut bytes: &[u8], fin: bool) {
        self.written.insert(id);
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.quic.stream_send(id, bytes, fin) {
                Ok(len) => bytes = &bytes[len..],
                Err(quiche::Error::Done) => {}
                Err(error) => panic!("stream {id} cannot be written to: {error}"),
            }
            self.flush();
            if bytes.is_empty() {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{} bytes find no credit: {self:?}",
                bytes.len()
            );
            self.wait(deadline).await;
            self.pump();
        }
    }

    /// Sends as much of `bytes` as there is credit for until no more comes for a while; returns how
    /// much that was.
    pub(super) async fn send_some(&mut self, id: u64, bytes: &[u8]) -> usize {
        const WHILE: Duration = Duration::from_millis(400);
        self.written.insert(id);
        let (mut sent, mut last) = (0, Instant::now());
        while last.elapsed() < WHILE && sent < bytes.len() {
            if let Ok(len @ 1..) = self.quic.stream_send(id, &bytes[sent..], false) {
                (sent, last) = (sent + len, Instant::now());
            }
            self.flush();
            self.wait(last + WHILE).await;
            self.pump();
        }
        sent
    }

    /// Sends one QUIC DATAGRAM.
    pub(super) fn datagram(&mut self, bytes: &[u8]) {
        self.queue_datagram(bytes);
        self.flush();
    }

    /// Leaves one QUIC DATAGRAM to be sent with what is sent next.
    fn queue_datagram(&mut self, bytes: &[u8]) {
        self.quic.dgram_send(bytes).expect("room for a datagram");
    }

    /// Sends one HTTP Datagram for the request on stream `id`.
    pub(super) fn datagram_for(&mut self, id: u64, payload: &[u8]) {
        self.queue_datagram_for(id, payload);
        self.flush();
    }

    /// Leaves one HTTP Datagram to be sent with what is sent next.
    pub(super) fn queue_datagram_for(&mut self, id: u64, payload: &[u8]) {
        self.queue_datagram(&[&varint::to_prefix(id / 4)[..], payload].concat());
    }

    /// Gives up this end's direction of a stream.
    pub(super) fn reset(&mut self, id: u64, code: u64) {
        self.quic
            .stream_shutdown(id, Shutdown::Write, code)
            .unwrap();
        self.flush();
    }

    /// Asks the other end to stop sending on a stream.
    pub(super) fn stop(&mut self, id: u64, code: u64) {
        self.quic.stream_shutdown(id, Shutdown::Read, code).unwrap();
        self.flush();
    }

    // Receiving.

    /// The fields of the first HEADERS frame on a stream.
    pub(super) async fn head(&mut self, id: u64) -> Head {
        let block = self
            .until("a header section", |peer| {
                let frame = peer
                    .frames(id)
                    .into_iter()
                    .find(|f| f.kind == HEADERS && f.is_whole)?;
                Some(frame.payload)
            })
            .await;
        Head {
            fields: wire::fields(&block),
        }
    }

    /// Waits for the next datagram for the request on stream `id` and returns its payload.
    pub(super) async fn next_datagram(&mut self, id: u64) -> Vec<u8> {
        let datagram = self
            .until("a datagram", |peer| peer.datagrams.pop_front())
            .await;
        let (quarter, len) = varint::decode(&datagram).expect("a quarter stream ID");
        assert_eq!(quarter * 4, id, "the stream that the datagram is for");
        datagram[len..].to_vec()
    }

    /// Waits for the end of a stream, in order.
    pub(super) async fn finished(&mut self, id: u64) {
        self.until("the end of the stream", |peer| {
            peer.stream(id).fin.then_some(())
        })
        .await;
    }

    /// Waits until the other end has given up its direction of a stream; returns the code.
    pub(super) async fn was_reset(&mut self, id: u64) -> u64 {
        self.until("a reset", |peer| peer.stream(id).reset).await
    }

    /// Waits until the other end wants no more on a stream; returns the code.
    pub(super) async fn was_stopped(&mut self, id: u64) -> u64 {
        self.until("a stop", |peer| peer.stream(id).stopped).await
    }

    /// Waits until the other end has given up both directions of a stream; returns the code.
    pub(super) async fn was_aborted(&mut self, id: u64) -> u64 {
        let code = self.was_reset(id).await;
        assert_eq!(self.was_stopped(id).await, code, "the code in both frames");
        code
    }

    /// Waits until the other end has closed the connection.
    pub(super) async fn was_closed(&mut self) -> Closed {
        self.until("the end of the connection", |peer| {
            let error = peer.quic.peer_error()?;
            Some(match error.is_app {
                true => Closed::Application(error.error_code),
                false => Closed::Transport(error.error_code),
            })
        })
        .await
    }

    /// The SETTINGS of the other end.
    pub(super) async fn settings(&mut self) -> Vec<(u64, u64)> {
        self.until("SETTINGS", |peer| {
            let first = peer.control_frames().into_iter().next()?;
            assert_eq!(
                first.kind, SETTINGS,
                "the first frame on the control stream"
            );
            first.is_whole.then(|| wire::pairs(&first.payload))
        })
        .await
    }

    /// The frames on the other end's control stream.
    pub(super) fn control_frames(&self) -> Vec<Frame> {
        let unidirectional = if self.quic.is_server() { 2 } else { 3 };
        let control = self.streams.iter().find(|(id, incoming)| {
            *id % 4 == unidirectional && incoming.bytes.first() == Some(&0x00)
        });
        control.map_or(Vec::new(), |(_, incoming)| {
            wire::frames(&incoming.bytes[1..])
        })
    }

    /// The frames on a stream so far.
    pub(super) fn frames(&self, id: u64) -> Vec<Frame> {
        self.streams
            .get(&id)
            .map_or(Vec::new(), |incoming| wire::frames(&incoming.bytes))
    }

    /// The content on a stream so far.
    pub(super) fn content(&self, id: u64) -> Vec<u8> {
        self.frames(id)
            .into_iter()
            .filter(|f| f.kind == DATA)
            .flat_map(|f| f.payload)
            .collect()
    }

    /// The capsules on a stream so far, whole ones only.
    pub(super) fn capsules(&self, id: u64) -> Vec<(u64, Vec<u8>)> {
        let capsules = wire::frames(&self.content(id))
            .into_iter()
            .filter(|c| c.is_whole);
        capsules.map(|c| (c.kind, c.payload)).collect()
    }

    /// What has come on a stream.
    pub(super) fn stream(&mut self, id: u64) -> &Incoming {
        self.streams.entry(id).or_default()
    }

    // Driving.

    /// Carries on until `find` finds what it looks for.
    ///
    /// # Panics
    /// When it does not come in time.
    pub(super) async fn until<T>(
        &mut self,
        what: &str,
        mut find: impl FnMut(&mut Self) -> Option<T>,
    ) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.pump();
            if let Some(found) = find(self) {
                return found;
            }
            assert!(Instant::now() < deadline, "{what} does not come: {self:?}");
            self.wait(deadline).await;
        }
    }

    /// Carries on for some time.
    pub(super) async fn run_for(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.pump();
            self.wait(end).await;
        }
    }

    /// Carries on until `task` has ended.
    pub(super) async fn run_until<T>(&mut self, mut task: JoinHandle<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.pump();
            assert!(Instant::now() < deadline, "the task does not end: {self:?}");
            tokio::select! {
                outcome = &mut task => return outcome.expect("no panic"),
                () = self.wait(deadline) => {}
            }
        }
    }

    /// Takes in what has come and sends what waits.
    pub(super) fn pump(&mut self) {
        self.receive();
        self.read();
        self.flush();
    }

    /// [`pump`](Self::pump) without reading: what has come is acknowledged, and gives no credit.
    pub(super) fn acknowledge(&mut self) {
        self.receive();
        self.flush();
    }

    fn receive(&mut self) {
        let Self {
            quic,
            socket,
            received,
            before_lost,
            ..
        } = self;
        while socket.try_recv(received).is_ok() {
            received.for_each_run(|info, packet, _stride| {
                let left = before_lost.and_then(|count| count.checked_sub(1));
                if std::mem::replace(before_lost, left) == Some(0) {
                    return;
                }
                // An error is one of the other end's, and shows in how the connection ends.
                let _ = quic.recv(packet, info);
            });
        }
        if quic
            .timeout_instant()
            .is_some_and(|due| due <= Instant::now())
        {
            quic.on_timeout();
        }
    }

    fn read(&mut self) {
        let mut buffer = vec![0; 65_536];
        let seen = self.streams.keys().filter(|id| **id % 4 == 0);
        for id in seen.chain(&self.written).copied().collect::<BTreeSet<_>>() {
            if let Err(quiche::Error::StreamStopped(code)) = self.quic.stream_capacity(id) {
                self.streams
                    .entry(id)
                    .or_default()
                    .stopped
                    .get_or_insert(code);
            }
        }
        for id in self.quic.readable().collect::<Vec<_>>() {
            let incoming = self.streams.entry(id).or_default();
            loop {
                match self.quic.stream_recv(id, &mut buffer) {
                    Ok((len, fin)) => {
                        incoming.bytes.extend_from_slice(&buffer[..len]);
                        incoming.fin |= fin;
                        if fin {
                            break;
                        }
                    }
                    Err(quiche::Error::StreamReset(code)) => {
                        incoming.reset.get_or_insert(code);
                        break;
                    }
                    Err(_) => break,
                }
            }
        }
        while let Ok(len) = self.quic.dgram_recv(&mut buffer) {
            self.datagrams.push_back(buffer[..len].to_vec());
        }
    }

    pub(super) fn flush(&mut self) {
        let mut packet = vec![0; 1500];
        while let Ok((len, info)) = self.quic.send(&mut packet) {
            self.socket.try_send(&packet[..len], len, &info);
        }
    }

    async fn wait(&self, deadline: Instant) {
        let due = self
            .quic
            .timeout_instant()
            .map_or(deadline, |due| due.min(deadline));
        tokio::select! {
            () = self.socket.readable() => {}
            () = tokio::time::sleep_until(due.into()) => {}
        }
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let streams: Vec<_> = self
            .streams
            .iter()
            .map(|(id, s)| (id, s.bytes.len(), s.fin, s.reset, s.stopped))
            .collect();
        f.debug_struct("Peer")
            .field("established", &self.quic.is_established())
            .field("local_error", &self.quic.local_error())
            .field("peer_error", &self.quic.peer_error())
            .field("streams: id, bytes, fin, reset, stopped", &streams)
            .field("datagrams", &self.datagrams.len())
            .finish()
    }
}

/// The fields of a request that asks for a tunnel.
pub(super) fn tunnel<'a>(protocol: &'a str, path: &'a str) -> [(&'a str, &'a str); 5] {
    [
        (":method", "CONNECT"),
        (":protocol", protocol),
        (":scheme", "https"),
        (":authority", "localhost"),
        (":path", path),
    ]
}

/// The fields of an ordinary request.
pub(super) fn plain<'a>(method: &'a str, path: &'a str) -> [(&'a str, &'a str); 4] {
    [
        (":method", method),
        (":scheme", "https"),
        (":authority", "localhost"),
        (":path", path),
    ]
}
