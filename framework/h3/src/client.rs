//! [`connect`]: a client's connection.

use std::io;
use std::iter;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pasque::config::{CongestionControl, Limits};
use pasque::connection::{ClientError, CloseReason, Connection, OpenTunnel, Transport};
use pasque::{Credentials, Flow, Request, Response};
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::{Instant, timeout};

use crate::connection::{Asks, ClientSide, Command, Role};
use crate::diagnostics;
use crate::mailbox::{Mailbox, Message};
use crate::server::spawn;
use crate::settings::Settings;
use crate::socket::Socket;
use crate::socket::udp::Udp;
use crate::tls::{ClientKeyPair, Trust};
use crate::token::TokenKey;
use crate::worker::{Parts, Worker};

/// How long one address of the server has to answer, at most, while others are left to try.
const NEXT_ADDRESS_AFTER: Duration = Duration::from_secs(3);

/// How many addresses of a server are remembered. Each costs a client with an IP tunnel a route, and a
/// name may stand for any number.
const MAX_KNOWN: usize = 16;

/// How a client connects.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClientConfig {
    /// Whom to trust. Default: the system's certificate authorities.
    pub trust: Trust,
    /// Sent with each request that has no `authorization` of its own, to this server only. Default:
    /// none.
    pub credentials: Option<Credentials>,
    /// Shown to a server that asks for one in the handshake. Default: none.
    pub certificate: Option<ClientKeyPair>,
    /// How the sending rate is found. Default: CUBIC.
    pub congestion_control: CongestionControl,
    /// Where the server was before: tried first, in this order, and the name is looked up only when no
    /// connection comes of that. What looks names up may need the very tunnel that is to be opened.
    /// Default: none.
    pub known_addresses: Vec<IpAddr>,
    /// How long the handshake may take, over all addresses. Default: 10 s.
    pub connect_timeout: Duration,
    /// How long a request waits for its response's fields. Default: 10 s.
    pub response_timeout: Duration,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            trust: Trust::default(),
            credentials: None,
            certificate: None,
            congestion_control: CongestionControl::default(),
            known_addresses: Vec::new(),
            connect_timeout: Duration::from_secs(10),
            response_timeout: Duration::from_secs(10),
        }
    }
}

/// Connects to `host`, a name or an address without brackets, trying its addresses in turn.
///
/// The connection runs on a thread of its own and is kept alive while a handle exists; a server
/// that stops answering is noticed within ten seconds.
///
/// # Errors
/// [`ClientError::Unreachable`] or [`ClientError::Tls`], of the last address that was tried.
pub async fn connect(
    host: &str,
    port: u16,
    config: &ClientConfig,
) -> Result<Connection, ClientError> {
    diagnostics::announce();
    let start = Instant::now();
    let attempts = async {
        if config.known_addresses.is_empty() {
            let found = look_up(host, port).await?;
            return connect_to_any(&found, &found, false, host, port, config).await;
        }
        let known = config.known_addresses.iter();
        let known: Vec<_> = known.map(|known| SocketAddr::new(*known, port)).collect();
        let is_over = Notify::new();
        let others = async {
            // Without an answer by then, and to whatever the name stands for now.
            let _ = timeout(patience(known.len(), config), is_over.notified()).await;
            let found = look_up(host, port).await.unwrap_or_default();
            let is_new = |found: &&SocketAddr| !known.contains(found);
            let others: Vec<_> = found.iter().filter(is_new).copied().collect();
            match others.is_empty() {
                true => None,
                false => Some(connect_to_any(&others, &found, false, host, port, config).await),
            }
        };
        let known = async { Some(connect_to_any(&known, &known, true, host, port, config).await) };
        let (mut known, mut others) = (pin!(known), pin!(others));
        let left = || config.connect_timeout.saturating_sub(start.elapsed());
        tokio::select! {
            result = &mut known => match result {
                Some(Err(failure)) => {
                    // There may be no way to those any more, or somebody else is there.
                    is_over.notify_one();
                    or(failure, others, left()).await
                }
                result => result.unwrap_or_else(|| Err(unreachable(host, port))),
            },
            result = &mut others => match result {
                Some(Err(failure)) => or(failure, known, left()).await,
                Some(connected) => connected,
                None => known.await.unwrap_or_else(|| Err(unreachable(host, port))),
            },
        }
    };
    timeout(config.connect_timeout, attempts)
        .await
        .unwrap_or_else(|_late| Err(unreachable(host, port)))
}

/// What is left to try after `failure`, for so long.
async fn or(
    failure: ClientError,
    rest: impl Future<Output = Option<Result<Connection, ClientError>>>,
    left: Duration,
) -> Result<Connection, ClientError> {
    match (timeout(left, rest).await, failure) {
        (Ok(Some(Ok(connection))), _) => Ok(connection),
        // A refused certificate says more than silence.
        (_, failure @ ClientError::Tls(_)) => Err(failure),
        (Ok(Some(result)), _) => result,
        (_, failure) => Err(failure),
    }
}

/// How long one of so many addresses of the server has to answer while others are left to try: each of
/// them gets its turn, and what the name stands for now.
fn patience(addresses: usize, config: &ClientConfig) -> Duration {
    let turns = u32::try_from(addresses).unwrap_or(u32::MAX).max(2);
    NEXT_ADDRESS_AFTER.min(config.connect_timeout / turns.saturating_add(1))
}

fn unreachable(host: &str, port: u16) -> ClientError {
    ClientError::Unreachable {
        host: format!("{host}:{port}"),
    }
}

async fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    Ok(tokio::net::lookup_host((host, port)).await?.collect())
}

/// Tries `addresses` in turn, which are some or all of those at which the server was `found`. If that
/// `is_long_ago`, another server may be at one of them.
async fn connect_to_any(
    addresses: &[SocketAddr],
    found: &[SocketAddr],
    is_long_ago: bool,
    host: &str,
    port: u16,
    config: &ClientConfig,
) -> Result<Connection, ClientError> {
    let mut last = unreachable(host, port);
    for (index, &address) in addresses.iter().enumerate() {
        let attempt = connect_to(address, found, host, port, config);
        let is_last = index + 1 == addresses.len();
        let patience = if is_last {
            Duration::MAX
        } else {
            patience(addresses.len(), config)
        };
        match timeout(patience, attempt).await {
            Ok(Ok(connection)) => return Ok(connection),
            // A refused certificate is an answer, and no other address will have a better one.
            Ok(Err(ClientError::Tls(reason))) if !is_long_ago => {
                return Err(ClientError::Tls(reason));
            }
            Ok(Err(error)) if !matches!(last, ClientError::Tls(_)) => last = error,
            Ok(Err(_)) => {}
            Err(_late) => {}
        }
    }
    Err(last)
}

async fn connect_to(
    address: SocketAddr,
    found: &[SocketAddr],
    host: &str,
    port: u16,
    config: &ClientConfig,
) -> Result<Connection, ClientError> {
    let any: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = Udp::bind(
        SocketAddr::new(source_for(address).unwrap_or(any), 0),
        false,
    )?;
    let (dialer, connected) = Dialer::new(host, port, config)?;
    let mailbox = dialer.mailbox.clone();
    let closed = dialer.closed.clone();
    spawn("connection", move || {
        dialer.start(Socket::Udp(Udp::new(socket)?), address)
    })
    .map_err(|error| io::Error::other(error.to_string()))?;
    let handle = Handle {
        mailbox,
        peer: address,
        found: found.iter().map(SocketAddr::ip).collect(),
        closed,
        response_timeout: config.response_timeout,
    };
    finish(handle, connected).await
}

/// The local address from which packets to `address` leave: QUIC wants to know both ends of a path.
fn source_for(address: SocketAddr) -> Option<IpAddr> {
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    // Connecting a UDP socket sends nothing; it only asks the routing table.
    let probe = std::net::UdpSocket::bind(any).ok()?;
    probe.connect(address).ok()?;
    Some(probe.local_addr().ok()?.ip())
}

/// Waits for the handshake. The connection ends when this future is dropped.
pub(crate) async fn finish(
    handle: Handle,
    connected: oneshot::Receiver<Result<(), ClientError>>,
) -> Result<Connection, ClientError> {
    match connected.await {
        Ok(Ok(())) => Ok(Connection::new(handle)),
        Ok(Err(error)) => Err(error),
        Err(_gone) => Err(ClientError::Io(io::Error::other(
            "the connection's thread ended",
        ))),
    }
}

/// Everything that a client's worker needs but its socket.
pub(crate) struct Dialer {
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) closed: watch::Receiver<Option<CloseReason>>,
    settings: Settings,
    quic: quiche::Config,
    h3: quiche::h3::Config,
    server_name: Option<String>,
    side: ClientSide,
}

impl Dialer {
    pub(crate) fn new(
        host: &str,
        port: u16,
        config: &ClientConfig,
    ) -> Result<(Self, oneshot::Receiver<Result<(), ClientError>>), ClientError> {
        let settings = Settings {
            limits: Limits {
                handshake_timeout: config.connect_timeout,
                ..Limits::default()
            },
            congestion_control: config.congestion_control,
        };
        let tls = config
            .trust
            .context()
            .and_then(|context| match &config.certificate {
                Some(pair) => pair.show_in(context),
                None => Ok(context),
            });
        let tls = tls.map_err(|error| ClientError::Tls(error.to_string()))?;
        let verify = config.trust.verifies_chain();
        let refused = |error: String| ClientError::Io(io::Error::other(error));
        let quic = settings
            .client(tls, verify)
            .map_err(|error| refused(error.to_string()))?;
        let h3 = settings
            .h3(false)
            .map_err(|error| refused(error.to_string()))?;
        let is_address = host.parse::<IpAddr>().is_ok();
        // Server Name Indication carries names only (RFC 6066 §3).
        let server_name = (!is_address).then(|| host.to_owned());
        let (connected, receiver) = oneshot::channel();
        let (closed, closed_receiver) = watch::channel(None);
        let asks = Asks {
            host: host.to_owned(),
            authority: authority(host, port),
            trust: config.trust.clone(),
            authorization: config.credentials.as_ref().map(Credentials::field),
        };
        let side = ClientSide::new(asks, connected, closed);
        let mailbox = Arc::<Mailbox>::default();
        let dialer = Self {
            mailbox,
            closed: closed_receiver,
            settings,
            quic,
            h3,
            server_name,
            side,
        };
        Ok((dialer, receiver))
    }

    /// A worker that connects to `address` as soon as it runs.
    pub(crate) fn start(self, socket: Socket, address: SocketAddr) -> io::Result<Worker> {
        let mut worker = Worker::new(Parts {
            index: 0,
            socket,
            quic: self.quic,
            h3: self.h3,
            limits: self.settings.limits,
            workers: Arc::new([self.mailbox]),
            tokens: TokenKey::random(),
            listener: None,
            pulse: None,
        });
        worker
            .connect(
                self.server_name.as_deref(),
                address,
                Role::Client(Box::new(self.side)),
            )
            .map_err(|error| io::Error::other(error.to_string()))?;
        Ok(worker)
    }
}

/// Host and port as `:authority` has them: brackets around IPv6, no default port.
fn authority(host: &str, port: u16) -> String {
    let host = match host.parse::<Ipv6Addr>() {
        Ok(v6) => format!("[{v6}]"),
        Err(_) => host.to_owned(),
    };
    if port == 443 {
        host
    } else {
        format!("{host}:{port}")
    }
}

/// A client's handle: asks the worker and waits for its answer.
pub(crate) struct Handle {
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) peer: SocketAddr,
    /// Where the server was found.
    pub(crate) found: Vec<IpAddr>,
    pub(crate) closed: watch::Receiver<Option<CloseReason>>,
    pub(crate) response_timeout: Duration,
}

/// Tells the worker that nobody waits any more.
struct Reconsider<'a>(&'a Mailbox);

impl Drop for Reconsider<'_> {
    fn drop(&mut self) {
        self.0.push(Message::Command(Box::new(Command::Reconsider)));
    }
}

impl Handle {
    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, ClientError>>) -> Command,
    ) -> Result<T, ClientError> {
        let (reply, answer) = oneshot::channel();
        let _reconsider = Reconsider(&self.mailbox);
        self.mailbox
            .push(Message::Command(Box::new(command(reply))));
        tokio::select! {
            // An answer that came before the end is an answer.
            biased;
            answer = answer => answer.unwrap_or(Err(ClientError::Closed(CloseReason::Local))),
            reason = self.closed() => Err(ClientError::Closed(reason)),
            () = tokio::time::sleep(self.response_timeout) => Err(ClientError::Timeout),
        }
    }
}

#[async_trait]
impl Transport for Handle {
    async fn request(&self, request: Request) -> Result<Response, ClientError> {
        self.ask(|reply| Command::Request(request, reply)).await
    }

    async fn open(&self, request: Request, flow: Box<dyn Flow>) -> Result<OpenTunnel, ClientError> {
        self.ask(|reply| Command::Open(request, flow, reply)).await
    }

    fn close(&self) {
        self.mailbox
            .push(Message::Command(Box::new(Command::Close)));
    }

    async fn closed(&self) -> CloseReason {
        let mut closed = self.closed.clone();
        match closed.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or(CloseReason::Local),
            Err(_gone) => CloseReason::Local,
        }
    }

    fn peer_addr(&self) -> Option<SocketAddr> {
        Some(self.peer)
    }

    fn server_addresses(&self) -> Vec<IpAddr> {
        let peer = self.peer.ip();
        let others = self.found.iter().copied().filter(|found| *found != peer);
        iter::once(peer).chain(others).take(MAX_KNOWN).collect()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn udp_03_the_authority_has_the_port_unless_it_is_the_default() {
        assert_eq!(
            authority("proxy.example.org", 4443),
            "proxy.example.org:4443"
        );
        assert_eq!(authority("proxy.example.org", 443), "proxy.example.org");
        assert_eq!(authority("::1", 443), "[::1]");
        assert_eq!(authority("::1", 4443), "[::1]:4443");
    }
}
