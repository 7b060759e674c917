//! [`Peer`]: a QUIC client that does what it is told, and knows HTTP/3 only as bytes.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use h3i::quiche::h3::Header;
use h3i::quiche::h3::qpack::Encoder;
use h3i::quiche::{self, ConnectionError, ConnectionId, RecvInfo};
use rand::RngCore;

use crate::PATIENCE;

/// The client's control stream.
const CONTROL: u64 = 2;

/// A connection whose owner drives it. Blocks; run it on a thread for that.
pub struct Peer {
    /// The connection itself, for whatever has no method here.
    pub quic: quiche::Connection,
    socket: UdpSocket,
    local: SocketAddr,
    server: SocketAddr,
    out: Vec<u8>,
}

/// The transport of a client that allows the server much.
pub fn config() -> quiche::Config {
    let mut config = quiche::Config::new(quiche::PROTOCOL_VERSION).unwrap();
    config.verify_peer(false);
    config.set_application_protos(&[b"h3"]).unwrap();
    config.set_max_idle_timeout(30_000);
    config.set_initial_max_data(10 << 20);
    config.set_initial_max_stream_data_bidi_local(1 << 20);
    config.set_initial_max_stream_data_uni(1 << 20);
    config.set_initial_max_streams_uni(8);
    config.enable_dgram(true, 1024, 1024);
    config
}

impl Peer {
    /// Begins a handshake from the address `from`, and sends nothing yet.
    pub fn new(server: SocketAddr, from: IpAddr, config: &mut quiche::Config) -> Self {
        let socket = UdpSocket::bind((from, 0)).unwrap();
        let local = socket.local_addr().unwrap();
        let mut id = [0; 16];
        rand::rng().fill_bytes(&mut id);
        let id = ConnectionId::from_ref(&id);
        let quic = quiche::connect(Some("localhost"), &id, local, server, config).unwrap();
        Self {
            quic,
            socket,
            local,
            server,
            out: vec![0; 1500],
        }
    }

    /// A connection that has told its settings.
    pub fn connect(server: SocketAddr, from: IpAddr, config: &mut quiche::Config) -> Self {
        let mut peer = Self::new(server, from, config);
        peer.until("the handshake", |quic| quic.is_established());
        // SETTINGS_H3_DATAGRAM = 1.
        peer.send(CONTROL, &[0x00, 0x04, 0x02, 0x33, 0x01], false);
        peer
    }

    /// The next packet that is due, which has not been sent.
    pub fn packet(&mut self) -> Option<Vec<u8>> {
        let (len, _) = self.quic.send(&mut self.out).ok()?;
        Some(self.out[..len].to_vec())
    }

    /// Sends a packet.
    pub fn transmit(&self, packet: &[u8]) {
        // A full buffer is a loss like any other.
        let _ = self.socket.send_to(packet, self.server);
    }

    /// Sends the packets that are due.
    pub fn flush(&mut self) {
        while let Some(packet) = self.packet() {
            self.transmit(&packet);
        }
    }

    /// Waits for packets, at most for `time`, and takes those that are there.
    pub fn receive(&mut self, time: Duration) {
        self.receive_after(0, time);
    }

    /// [`receive`](Self::receive), and loses the first packet.
    pub fn receive_but_first(&mut self, time: Duration) {
        self.receive_after(1, time);
    }

    fn receive_after(&mut self, mut lost: usize, time: Duration) {
        let mut buffer = [0; 65_536];
        let time = self.quic.timeout().map_or(time, |due| due.min(time));
        self.socket
            .set_read_timeout(Some(time.max(Duration::from_millis(1))))
            .unwrap();
        self.socket.set_nonblocking(false).unwrap();
        loop {
            match self.socket.recv_from(&mut buffer) {
                Ok(_) if lost > 0 => {
                    lost -= 1;
                    // What was sent together comes together.
                    std::thread::sleep(Duration::from_micros(100));
                }
                Ok((len, from)) => {
                    let info = RecvInfo {
                        from,
                        to: self.local,
                    };
                    // What the server sends after its close is of no interest.
                    let _ = self.quic.recv(&mut buffer[..len], info);
                }
                Err(error) => {
                    let quiet = [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut];
                    assert!(quiet.contains(&error.kind()), "{error}");
                    break;
                }
            }
            self.socket.set_nonblocking(true).unwrap();
        }
        self.quic.on_timeout();
    }

    /// Sends and receives for `time`.
    pub fn idle(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            self.flush();
            self.receive(left);
        }
        self.flush();
    }

    /// Sends and receives until `condition` holds.
    pub fn until(&mut self, what: &str, condition: impl Fn(&quiche::Connection) -> bool) {
        let start = Instant::now();
        loop {
            self.flush();
            if condition(&self.quic) {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
            assert!(
                !self.is_over(),
                "{what}: the connection ended: {:?}",
                self.quic.peer_error()
            );
            self.receive(Duration::from_millis(20));
        }
    }

    /// Sends bytes on a stream, however long the server takes to want them.
    pub fn send(&mut self, stream: u64, mut bytes: &[u8], fin: bool) {
        let start = Instant::now();
        loop {
            match self.quic.stream_send(stream, bytes, fin) {
                Ok(len) => bytes = &bytes[len..],
                Err(quiche::Error::Done) => {}
                Err(error) => panic!("stream {stream}: {error}"),
            }
            self.flush();
            if bytes.is_empty() {
                return;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "the server wants no more of stream {stream}"
            );
            self.receive(Duration::from_millis(5));
        }
    }

    /// Everything that has come on a stream, HEADERS included.
    pub fn read(&mut self, stream: u64) -> Vec<u8> {
        let mut bytes = vec![0; 1 << 20];
        let mut len = 0;
        while let Ok((more, _)) = self.quic.stream_recv(stream, &mut bytes[len..]) {
            len += more;
        }
        bytes.truncate(len);
        bytes
    }

    /// The code of the reset of a stream, once there is one.
    pub fn reset_code(&mut self, stream: u64) -> Option<u64> {
        match self.quic.stream_recv(stream, &mut [0; 4096]) {
            Err(quiche::Error::StreamReset(code)) => Some(code),
            _ => None,
        }
    }

    /// Whether either side has ended the connection.
    pub fn is_over(&self) -> bool {
        self.quic.is_closed() || self.quic.is_draining()
    }

    /// The application error with which the server has closed the connection.
    pub fn closed_with(&self) -> Option<u64> {
        let error = self.quic.peer_error();
        error
            .filter(|error| error.is_app)
            .map(|error: &ConnectionError| error.error_code)
    }
}

/// A HEADERS frame.
pub fn headers(fields: &[(&str, &str)]) -> Vec<u8> {
    let list: Vec<_> = fields
        .iter()
        .map(|(name, value)| Header::new(name.as_bytes(), value.as_bytes()))
        .collect();
    let mut block = vec![0; 64 << 10];
    let len = Encoder::new().encode(&list, &mut block).unwrap();
    [
        &[0x01],
        &(len as u32 | 2 << 30).to_be_bytes()[..],
        &block[..len],
    ]
    .concat()
}

/// A request for a file, or another one without content.
pub fn request(method: &str, path: &str) -> Vec<u8> {
    headers(&[
        (":method", method),
        (":scheme", "https"),
        (":authority", "localhost"),
        (":path", path),
    ])
}

/// A request for a UDP tunnel.
pub fn tunnel(path: &str) -> Vec<u8> {
    headers(&[
        (":method", "CONNECT"),
        (":protocol", "connect-udp"),
        (":scheme", "https"),
        (":authority", "localhost"),
        (":path", path),
        ("capsule-protocol", "?1"),
    ])
}

/// A DATA frame.
pub fn data(content: &[u8]) -> Vec<u8> {
    [
        &[0x00],
        &(content.len() as u32 | 2 << 30).to_be_bytes()[..],
        content,
    ]
    .concat()
}

/// A variable-length integer of eight bytes (RFC 9000 §16).
pub fn varint(value: u64) -> [u8; 8] {
    (value | 3 << 62).to_be_bytes()
}
