//! [`Forward`]: a local UDP socket whose users each get a tunnel to one target.

mod event;
mod flow;
mod session;
#[cfg(test)]
mod tests;
mod user;
mod users;

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use pasque::connection::CloseReason;
use pasque::template::UriTemplate;
use pasque::{Connection, Request};

pub use self::event::ForwardEvent;
use self::session::Tunnels;
use self::users::Users;
use crate::PROTOCOL;
use crate::socket::{BatchSocket, SocketOptions};
use crate::target::Target;

/// The request for a tunnel to `target`, as `template` says where the proxy takes them (RFC 9298 §3).
pub fn tunnel_request(template: &UriTemplate, target: &Target) -> Request {
    let host = target.host.to_string();
    let port = target.port.to_string();
    let values = [("target_host", Some(&*host)), ("target_port", Some(&*port))];
    let expanded = template.expand(&values);
    let mut request = Request::tunnel(PROTOCOL, expanded.path_and_query);
    request.authority = expanded.authority;
    request
}

/// Bounds of a [`Forward`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ForwardLimits {
    /// Local addresses that have a tunnel at the same time. Datagrams of others are dropped.
    pub users: usize,
    /// Time without a datagram in either direction after which a tunnel is given up. A later
    /// datagram opens another. RFC 4787 §4.3 wants at least two minutes.
    pub idle_timeout: Duration,
}

impl Default for ForwardLimits {
    fn default() -> Self {
        Self {
            users: 1024,
            idle_timeout: Duration::from_secs(300),
        }
    }
}

/// A local UDP socket whose users each get a tunnel of their own to one target.
///
/// A user is a source address: what the target sends into the user's tunnel goes back there, as a
/// NAT would do it. Nothing flows before [`run`](Self::run).
pub struct Forward {
    tunnels: Tunnels,
}

impl Forward {
    /// Binds a socket to `local`. Each user's tunnel is opened on `connection` with what `request`
    /// makes: see [`tunnel_request`].
    ///
    /// # Errors
    /// What the operating system says.
    pub fn bind(
        local: SocketAddr,
        connection: Connection,
        request: impl Fn() -> Request + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let tunnels = Tunnels {
            socket: Arc::new(BatchSocket::bind(local, SocketOptions::default())?),
            connection,
            request: Arc::new(request),
            on_event: Arc::new(|event| event.log()),
            limits: ForwardLimits::default(),
        };
        Ok(Self { tunnels })
    }

    /// The same within other limits.
    #[must_use]
    pub fn with_limits(mut self, limits: ForwardLimits) -> Self {
        self.tunnels.limits = limits;
        self
    }

    /// Reports what happens to `on_event` instead of the log. It must not block: some events come
    /// from inside the connection's worker.
    #[must_use]
    pub fn with_events(
        mut self,
        on_event: impl Fn(ForwardEvent<'_>) + Send + Sync + 'static,
    ) -> Self {
        self.tunnels.on_event = Arc::new(on_event);
        self
    }

    /// Where users send to.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tunnels.socket.local_addr()
    }

    /// Serves users until the connection ends, and says how it did. Dropping the future ends all
    /// tunnels. The socket stays open in either case: see [`reconnect`](Self::reconnect).
    ///
    /// # Errors
    /// When the local socket has become unusable.
    pub async fn run(&mut self) -> io::Result<CloseReason> {
        let connection = self.tunnels.connection.clone();
        let mut closed = pin!(connection.closed());
        let mut users = Users::new(Arc::new(self.tunnels.clone()));
        poll_fn(|cx| match closed.as_mut().poll(cx) {
            Poll::Ready(reason) => Poll::Ready(Ok(reason)),
            Poll::Pending => users.poll(cx).map(Err),
        })
        .await
    }

    /// Opens tunnels on `connection` from the next [`run`](Self::run) on. What users have sent since the
    /// last one ended is dropped, as by a network that was down: nobody waits for an answer to it.
    pub fn reconnect(&mut self, connection: Connection) {
        self.tunnels.connection = connection;
        self.tunnels.socket.discard();
    }
}

impl fmt::Debug for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Forward")
            .field(&self.tunnels.socket)
            .finish()
    }
}
