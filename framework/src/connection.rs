//! [`Connection`]: the client's handle on an HTTP/3 connection, whatever engine carries it.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use async_trait::async_trait;
use http::{HeaderMap, StatusCode};
use tokio::sync::oneshot;

use crate::error;
use crate::flow::Flow;
use crate::proxy_status::{self, Summary};
use crate::request::Request;
use crate::response::Response;
use crate::router::PROXY_STATUS;
use crate::tunnel::{self, Tunnel};

/// Why a client's request, tunnel or connection failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// No address answered in time.
    #[error("{host} does not answer")]
    Unreachable {
        /// Host and port that were tried.
        host: String,
    },
    /// The certificate is not the expected one, or the handshake failed otherwise.
    #[error("TLS handshake failed: {0}")]
    Tls(String),
    /// The server speaks HTTP/3 but no extended CONNECT (RFC 9220 §3).
    #[error("the server offers no tunnels (no SETTINGS_ENABLE_CONNECT_PROTOCOL)")]
    NoExtendedConnect,
    /// The server answered with a status outside 2xx.
    #[error("the server answered {status}{}", describe(proxy_status.as_deref()))]
    Refused {
        /// The status.
        status: StatusCode,
        /// The last member of `proxy-status`, if there was one.
        proxy_status: Option<Box<Summary>>,
        /// All fields.
        headers: Box<HeaderMap>,
    },
    /// The server's response breaks HTTP/3 and was not used (RFC 9114 §4.1.2).
    #[error("the server's response is malformed: {0}")]
    Malformed(String),
    /// The server reset the stream with this code (RFC 9114 §8.1).
    #[error("the server reset the stream (code {0:#x})")]
    Reset(u64),
    /// No response came in time.
    #[error("the server did not answer the request in time")]
    Timeout,
    /// The connection ended.
    #[error("the connection ended: {0}")]
    Closed(CloseReason),
    /// The operating system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl ClientError {
    /// The server answered with this status outside 2xx.
    pub fn refused(status: StatusCode, headers: HeaderMap) -> Self {
        let lines = headers.get_all(PROXY_STATUS).iter();
        let lines: Vec<_> = lines.filter_map(|line| line.to_str().ok()).collect();
        Self::Refused {
            status,
            proxy_status: proxy_status::parse(&lines.join(", ")).map(Box::new),
            headers: Box::new(headers),
        }
    }
}

fn describe(status: Option<&Summary>) -> String {
    match status {
        Some(summary) => format!(" ({summary})"),
        None => String::new(),
    }
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// This end closed it.
    Local,
    /// The server closed it in order: `H3_NO_ERROR`, or it is going away.
    Peer,
    /// The server closed it with an error code and a reason.
    PeerError(u64, String),
    /// Nothing came from the server for too long.
    TimedOut,
    /// This end closed it because the server broke the protocol.
    LocalError(u64, String),
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("closed here"),
            Self::Peer => f.write_str("the server closed it"),
            Self::PeerError(code, reason) if reason.is_empty() => {
                write!(f, "the server closed it with code {code:#x}")
            }
            Self::PeerError(code, reason) => {
                write!(f, "the server closed it with code {code:#x}: {reason:?}")
            }
            Self::TimedOut => f.write_str("the server stopped answering"),
            Self::LocalError(code, reason) => {
                write!(
                    f,
                    "the server broke the protocol (code {code:#x}): {reason}"
                )
            }
        }
    }
}

/// What an engine does for a [`Connection`].
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// Sends an ordinary request; the response's body streams.
    async fn request(&self, request: Request) -> Result<Response, ClientError>;

    /// Sends a tunnel request and moves `flow` into the connection once a 2xx has come.
    async fn open(&self, request: Request, flow: Box<dyn Flow>) -> Result<OpenTunnel, ClientError>;

    /// Starts an orderly close; returns at once.
    fn close(&self);

    /// Waits for the end of the connection.
    async fn closed(&self) -> CloseReason;

    /// Where packets to the server go; `None` when no network carries them.
    fn peer_addr(&self) -> Option<SocketAddr> {
        None
    }

    /// All addresses at which the server was found, that of [`peer_addr`](Self::peer_addr) first.
    fn server_addresses(&self) -> Vec<IpAddr> {
        self.peer_addr().map(|peer| peer.ip()).into_iter().collect()
    }
}

/// A connection to a server. Cloning gives another handle on the same connection; it closes when
/// [`close`](Self::close) is called or its last handle is dropped.
#[derive(Clone)]
pub struct Connection {
    transport: Arc<dyn Transport>,
}

impl Connection {
    /// Wraps an engine's connection.
    pub fn new(transport: impl Transport) -> Self {
        Self {
            transport: Arc::new(transport),
        }
    }

    /// Sends an ordinary request and waits for the response's fields; any status is `Ok`.
    pub async fn request(&self, request: Request) -> Result<Response, ClientError> {
        self.transport.request(request).await
    }

    /// Opens a tunnel whose data path is `flow`, running inside the connection's worker.
    ///
    /// # Errors
    /// Every status outside 2xx is [`ClientError::Refused`]; redirects are not followed.
    pub async fn open(&self, request: Request, flow: impl Flow) -> Result<OpenTunnel, ClientError> {
        self.transport.open(request, Box::new(flow)).await
    }

    /// Opens a tunnel with `:protocol` set to `protocol`, for use in a task.
    pub async fn connect(&self, protocol: &str, path: &str) -> Result<Tunnel, ClientError> {
        let (tunnel, flow) = tunnel::pair();
        self.open(Request::tunnel(protocol, path), flow).await?;
        Ok(tunnel)
    }

    /// Starts an orderly close.
    pub fn close(&self) {
        self.transport.close();
    }

    /// Waits for the end of the connection.
    pub async fn closed(&self) -> CloseReason {
        self.transport.closed().await
    }

    /// The address of the server that answered: where the packets of this connection go. `None`
    /// when no network carries them.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.transport.peer_addr()
    }

    /// All addresses at which the server was found, that of [`peer_addr`](Self::peer_addr) first. In
    /// another network, another one of them may be the one that can be reached.
    pub fn server_addresses(&self) -> Vec<IpAddr> {
        self.transport.server_addresses()
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connection")
    }
}

/// An accepted tunnel, seen from the client. Dropping it changes nothing: the flow carries on.
#[derive(Debug)]
pub struct OpenTunnel {
    /// The 2xx that accepted the tunnel.
    pub status: StatusCode,
    /// The fields of that response.
    pub headers: HeaderMap,
    ended: oneshot::Receiver<Result<(), ClientError>>,
}

impl OpenTunnel {
    /// For engines: `ended` fires when the tunnel is over.
    pub fn new(
        status: StatusCode,
        headers: HeaderMap,
        ended: oneshot::Receiver<Result<(), ClientError>>,
    ) -> Self {
        Self {
            status,
            headers,
            ended,
        }
    }

    /// Waits for the end of the tunnel: `Ok` when either side ended it in order.
    pub async fn ended(self) -> Result<(), ClientError> {
        self.ended
            .await
            .unwrap_or(Err(ClientError::Closed(CloseReason::Local)))
    }
}

impl From<ClientError> for error::Error {
    /// For endpoints that are clients of another server.
    fn from(source: ClientError) -> Self {
        Self::proxy(
            crate::proxy_status::ProxyError::ProxyInternalError,
            "upstream",
        )
        .with_source(source)
    }
}
