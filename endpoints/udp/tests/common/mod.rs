//! What the tests of both ends share.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test binary uses a part of it"
)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::HeaderMap;
use pasque::config::EndpointConfig;
use pasque::connection::ClientError;
use pasque::template::UriTemplate;
use pasque::testing::dns::{Answer, DnsServer, Question};
use pasque::testing::{TestServer, TestTunnel};
use pasque::{Request, StartContext, tunnel};
use pasque_udp as _;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How long a test waits before it fails.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// An endpoint with these keys beside `path` and `type`.
pub fn config(keys: &str) -> EndpointConfig {
    let json = format!(r#"{{ "path": "udp", "type": "UdpEndpoint"{keys} }}"#);
    EndpointConfig::parse(&json).unwrap()
}

/// Keys that let tunnels lead to this machine.
pub const LOOPBACK: &str = r#", "allow": ["127.0.0.1", "::1"]"#;

/// A server that asks `nameserver`, or nobody.
pub async fn server(keys: &str, nameserver: Option<&DnsServer>) -> TestServer {
    let mut cx = StartContext::new(".");
    cx.proxy_name = "psq.example.net".into();
    // A port that nobody answers on; a test that asks it without meaning to takes long.
    let nobody = SocketAddr::from(([127, 0, 0, 1], 9));
    cx.nameserver = Some(nameserver.map_or(nobody, DnsServer::address));
    TestServer::with_mounts(vec![config(keys).into_mount()], cx).await
}

/// A server for tunnels to this machine, and its name server.
pub async fn server_with_names(
    keys: &str,
    answer: impl FnMut(&Question) -> Answer + Send + 'static,
) -> (TestServer, DnsServer) {
    let names = DnsServer::start(answer).await.unwrap();
    (server(keys, Some(&names)).await, names)
}

/// The path of a tunnel, with the host encoded as RFC 9298 §3 wants it.
pub fn path(host: &str, port: u16) -> String {
    let template = "https://proxy.example/udp/{target_host}/{target_port}/";
    let template = UriTemplate::parse(template, &["target_host", "target_port"]).unwrap();
    let port = port.to_string();
    let values = [("target_host", Some(host)), ("target_port", Some(&*port))];
    template.expand(&values).path_and_query
}

pub fn path_to(target: SocketAddr) -> String {
    path(&target.ip().to_string(), target.port())
}

pub async fn open(server: &TestServer, path: &str) -> TestTunnel {
    server.connect("connect-udp", path).await.unwrap()
}

/// Opens a tunnel and keeps the response's fields.
pub async fn open_with_headers(server: &TestServer, path: &str) -> (TestTunnel, HeaderMap) {
    let (tunnel, flow) = tunnel::pair();
    let request = Request::tunnel("connect-udp", path);
    let opened = server.connection().open(request, flow).await.unwrap();
    (TestTunnel(tunnel), opened.headers)
}

/// A refusal as status, error type and response code.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused(pub u16, pub Option<String>, pub Option<String>);

pub fn refused_with(status: u16, error: &str) -> Refused {
    Refused(status, Some(error.into()), None)
}

/// Why the tunnel is refused. Fails, with what the tunnel reaches, if it is not.
pub async fn refusal(server: &TestServer, path: &str) -> Refused {
    match server.connect("connect-udp", path).await {
        Err(ClientError::Refused {
            status,
            proxy_status,
            ..
        }) => {
            let (error, rcode) = proxy_status.map_or((None, None), |s| (s.error, s.rcode));
            Refused(status.as_u16(), error, rcode)
        }
        other => panic!("{path} is not refused: {other:?}"),
    }
}

/// A target that returns what it gets and counts it.
pub struct Echo {
    pub address: SocketAddr,
    count: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Echo {
    pub async fn start(ip: &str) -> Self {
        Self::on(UdpSocket::bind((ip, 0)).await.unwrap())
    }

    pub fn on(socket: UdpSocket) -> Self {
        let address = socket.local_addr().unwrap();
        let count = Arc::new(AtomicU64::new(0));
        let counter = count.clone();
        let task = tokio::spawn(async move {
            let mut buffer = vec![0; 65_536];
            // An error is about an answer that could not be delivered.
            loop {
                if let Ok((len, from)) = socket.recv_from(&mut buffer).await {
                    counter.fetch_add(1, Ordering::Relaxed);
                    let _ = socket.send_to(&buffer[..len], from).await;
                }
            }
        });
        Self {
            address,
            count,
            task,
        }
    }

    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One datagram at a socket, in time.
pub async fn recv(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 65_536];
    let received = timeout(PATIENCE, socket.recv_from(&mut buffer)).await;
    let (len, from) = received.expect("a datagram in time").unwrap();
    buffer.truncate(len);
    (buffer, from)
}
