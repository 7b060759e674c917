#![allow(clippy::disallowed_methods, reason = "targets of tests")]

use std::sync::Mutex;
use std::task::Waker;

use pasque::{BATCH_LEN, Batch, Flow, FlowCx, Outbox, Packet};
use tokio::time::{advance, pause};

use super::flow::ClientFlow;
use super::user::User;
use super::*;

/// What must not happen in these tests.
struct NoTransport;

#[async_trait::async_trait]
impl pasque::connection::Transport for NoTransport {
    async fn request(
        &self,
        _request: Request,
    ) -> Result<pasque::Response, pasque::connection::ClientError> {
        unreachable!("a request")
    }

    async fn open(
        &self,
        _request: Request,
        _flow: Box<dyn Flow>,
    ) -> Result<pasque::connection::OpenTunnel, pasque::connection::ClientError> {
        unreachable!("a tunnel")
    }

    fn close(&self) {}

    async fn closed(&self) -> CloseReason {
        std::future::pending().await
    }
}

struct Driver {
    user: Arc<User>,
    flow: ClientFlow,
    outbox: Outbox,
    events: Arc<Mutex<Vec<String>>>,
    /// Where the user is.
    socket: std::net::UdpSocket,
}

impl Driver {
    fn new() -> Self {
        let events = Arc::<Mutex<Vec<String>>>::default();
        let log = events.clone();
        let local = SocketAddr::from(([127, 0, 0, 1], 0));
        let request = || Request::tunnel(PROTOCOL, "/");
        let forward = Forward::bind(local, Connection::new(NoTransport), request)
            .unwrap()
            .with_events(move |event| log.lock().unwrap().push(event.to_string()));
        let socket = std::net::UdpSocket::bind(local).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        let user = Arc::new(User::new(socket.local_addr().unwrap(), None));
        Self {
            flow: ClientFlow::new(user.clone(), Arc::new(forward.tunnels)),
            user,
            outbox: Outbox::default(),
            events,
            socket,
        }
    }

    fn poll(&mut self, max_len: usize) -> Poll<pasque::Result<()>> {
        let mut cx = FlowCx::new(&mut self.outbox, Waker::noop(), BATCH_LEN, max_len);
        self.flow.poll_outbound(&mut cx)
    }

    fn push(&self, datagrams: &[&[u8]]) -> bool {
        self.user.push(datagrams.iter().copied())
    }
}

#[tokio::test]
async fn udp_50_only_context_zero_leaves_the_local_socket() {
    let mut driver = Driver::new();
    let mut batch = Batch::new();
    for datagram in [
        &b"\x02no"[..],
        b"",
        b"\x40",
        b"\0",
        b"\0hi",
        b"\0hi",
        b"\x40\0hi",
        b"\0end",
    ] {
        batch.push(Packet::copy_from(datagram)).unwrap();
    }
    let mut cx = FlowCx::new(&mut driver.outbox, Waker::noop(), BATCH_LEN, 1320);
    driver.flow.on_datagrams(&mut batch, &mut cx).unwrap();
    let mut buffer = [0; 9];
    for expected in [&b""[..], b"hi", b"hi", b"hi", b"end"] {
        let len = driver.socket.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..len], expected);
    }
    driver.socket.set_nonblocking(true).unwrap();
    assert!(driver.socket.recv(&mut buffer).is_err());
}

#[tokio::test]
async fn udp_50_a_user_that_is_gone_harms_nothing() {
    let mut driver = Driver::new();
    let address = driver.socket.local_addr().unwrap();
    driver.socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..10 {
        let mut batch = Batch::new();
        batch.push(Packet::copy_from(b"\0hi")).unwrap();
        let mut cx = FlowCx::new(&mut driver.outbox, Waker::noop(), BATCH_LEN, 1320);
        driver.flow.on_datagrams(&mut batch, &mut cx).unwrap();
    }
    assert_ne!(driver.socket.local_addr().unwrap(), address);
}

#[tokio::test]
async fn udp_51_a_warning_names_the_shortfall_once_and_only_if_quic_suffers() {
    let mut driver = Driver::new();
    driver.push(&[&[7; 1181], &[7; 1180], &[7; 1500]]);
    assert!(driver.poll(1181).is_pending());
    driver.push(&[&[7; 1200]]);
    assert!(driver.poll(1181).is_pending());
    assert_eq!(driver.outbox.packets.len(), 1);
    let events = driver.events.lock().unwrap().clone();
    assert_eq!(events.len(), 1, "{events:?}");
    assert!(events[0].contains("1180 bytes, 20 less than the 1200 that QUIC needs"));

    let mut driver = Driver::new();
    driver.push(&[&[7; 1201], &[7; 1200], &[7; 1500]]);
    assert!(driver.poll(1201).is_pending());
    assert_eq!(driver.outbox.packets.len(), 1);
    assert!(driver.events.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_full_ring_drops_the_oldest() {
    let mut driver = Driver::new();
    for n in 0..=255_u8 {
        driver.push(&[&[n]]);
    }
    assert_eq!(driver.user.lock().dropped(), 256 - 64);
    assert!(driver.poll(1320).is_pending());
    assert_eq!(driver.outbox.packets[0][..], [0, 192]);
    driver.outbox.packets.clear();

    driver.user.open();
    for n in 0..=255_u8 {
        driver.push(&[&[n]]);
    }
    assert!(driver.poll(1320).is_pending());
    assert_eq!(driver.outbox.packets[0][..], [0, 0]);

    // Few but long ones are bounded by their bytes.
    let long = vec![7; 60_000];
    for _ in 0..100 {
        driver.push(&[&long]);
    }
    assert!(driver.user.lock().dropped() > 256);
}

#[tokio::test]
async fn a_closed_user_takes_nothing_and_ends_its_flow() {
    let mut driver = Driver::new();
    assert!(driver.push(&[b"hi"]));
    assert!(!driver.user.close_if_empty());
    assert!(driver.poll(1320).is_pending());
    assert!(driver.user.close_if_empty());
    assert!(!driver.push(&[b"hi"]));
    assert!(matches!(driver.poll(1320), Poll::Ready(Ok(()))));
}

#[tokio::test]
async fn silence_ends_a_users_tunnel() {
    pause();
    let mut driver = Driver::new();
    let idle_timeout = ForwardLimits::default().idle_timeout;
    advance(idle_timeout - Duration::from_secs(1)).await;
    driver.push(&[b"hi"]);
    assert!(driver.poll(1320).is_pending());
    advance(idle_timeout - Duration::from_secs(1)).await;
    assert!(driver.poll(1320).is_pending());
    advance(Duration::from_secs(2)).await;
    assert!(matches!(driver.poll(1320), Poll::Ready(Ok(()))));
}
