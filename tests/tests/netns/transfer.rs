//! TCP and UDP services behind the tunnel, and their users.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use pasque_tests::netns::Namespace;
use pasque_tests::{EchoTarget, PATIENCE};
use sha2::{Digest, Sha256};
use tokio::net::UdpSocket;
use tokio::time::timeout;

/// A block that repeats, long enough that no packet is like the next one.
const BLOCK_LEN: usize = 64 << 10;

/// How long TCP may make no progress before a transfer has failed.
const STALL: Duration = Duration::from_secs(30);

/// Sends `len` bytes over TCP from `from` to `address` in `to`, where they arrive unchanged.
pub(crate) fn tcp(from: &Namespace, to: &Namespace, address: IpAddr, len: usize) {
    Transfer::start(from, to, address, Some(len)).finish();
}

/// A TCP transfer that is under way.
pub(crate) struct Transfer {
    sender: JoinHandle<io::Result<[u8; 32]>>,
    receiver: JoinHandle<io::Result<[u8; 32]>>,
    received: Arc<AtomicU64>,
    enough: Arc<AtomicBool>,
}

impl Transfer {
    /// Connects from `from` to `address` in `to`, and sends `len` bytes, or else until it is
    /// [finished](Self::finish).
    pub(crate) fn start(
        from: &Namespace,
        to: &Namespace,
        address: IpAddr,
        len: Option<usize>,
    ) -> Self {
        let listener = to.enter(|| TcpListener::bind((address, 0))).unwrap();
        let at = listener.local_addr().unwrap();
        let connected = from.enter(|| TcpStream::connect_timeout(&at, PATIENCE));
        let outgoing = connected.unwrap_or_else(|error| panic!("{at}: {error}"));
        let (incoming, _) = listener.accept().unwrap();
        outgoing.set_write_timeout(Some(STALL)).unwrap();
        incoming.set_read_timeout(Some(STALL)).unwrap();
        let received = Arc::<AtomicU64>::default();
        let enough = Arc::new(AtomicBool::new(len.is_some()));
        let (counter, stop) = (received.clone(), enough.clone());
        Self {
            sender: thread::spawn(move || send(outgoing, len.unwrap_or_default(), &stop)),
            receiver: thread::spawn(move || receive(incoming, &counter)),
            received,
            enough,
        }
    }

    /// Bytes that have arrived.
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Waits until `more` bytes have arrived than have now. Returns how long that took.
    pub(crate) fn wait_for(&self, more: u64) -> Duration {
        let (start, until) = (Instant::now(), self.received() + more);
        while self.received() < until {
            assert!(start.elapsed() < STALL, "the transfer makes no progress");
            thread::sleep(Duration::from_millis(5));
        }
        start.elapsed()
    }

    /// Waits for the end; what has arrived is what was sent.
    pub(crate) fn finish(self) {
        self.enough.store(true, Ordering::Relaxed);
        let sent = self.sender.join().unwrap().expect("all is sent");
        let received = self.receiver.join().unwrap().expect("all is received");
        assert_eq!(sent, received, "the digests of what was sent and received");
    }
}

/// Sends `len` bytes, and more until it is `enough`.
fn send(mut stream: TcpStream, len: usize, enough: &AtomicBool) -> io::Result<[u8; 32]> {
    let mut digest = Sha256::new();
    let mut block: Vec<u8> = (0..BLOCK_LEN).map(|n| (n * 7 + n / 251) as u8).collect();
    let mut sent = 0;
    while sent < len || !enough.load(Ordering::Relaxed) {
        block[..8].copy_from_slice(&(sent as u64).to_be_bytes());
        let part = match len.checked_sub(sent) {
            Some(left @ 1..) => &block[..left.min(BLOCK_LEN)],
            _ => &block[..],
        };
        stream.write_all(part)?;
        digest.update(part);
        sent += part.len();
    }
    Ok(digest.finalize().into())
}

fn receive(mut stream: TcpStream, received: &AtomicU64) -> io::Result<[u8; 32]> {
    let mut digest = Sha256::new();
    let mut buffer = vec![0; BLOCK_LEN];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(digest.finalize().into()),
            len => {
                received.fetch_add(len as u64, Ordering::Relaxed);
                digest.update(&buffer[..len]);
            }
        }
    }
}

/// A UDP service in `namespace` that returns what it gets.
pub(crate) fn echo_service(namespace: &Namespace, address: IpAddr) -> EchoTarget {
    let socket = namespace.udp((address, 0)).unwrap();
    EchoTarget::serve(UdpSocket::from_std(socket).unwrap()).unwrap()
}

/// Sends `payload` from `namespace` to `to`, which returns it. Tells from where the answer came.
pub(crate) async fn echo(namespace: &Namespace, to: SocketAddr, payload: &[u8]) {
    let any: IpAddr = if to.is_ipv4() {
        [0; 4].into()
    } else {
        [0; 16].into()
    };
    let socket = UdpSocket::from_std(namespace.udp((any, 0)).unwrap()).unwrap();
    let mut buffer = vec![0; 65_536];
    let attempts = async {
        loop {
            socket.send_to(payload, to).await.unwrap();
            let answer = timeout(Duration::from_secs(1), socket.recv_from(&mut buffer)).await;
            if let Ok(Ok((len, from))) = answer {
                return (len, from);
            }
        }
    };
    let answer = timeout(PATIENCE, attempts).await;
    let (len, from) = answer.unwrap_or_else(|_late| panic!("no answer from {to}"));
    assert_eq!((&buffer[..len], from), (payload, to));
}
