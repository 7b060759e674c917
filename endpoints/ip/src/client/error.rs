//! [`IpTunnelError`]: why there is no tunnel, or no longer.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use pasque::connection::ClientError;

use super::choice::TooManyRoutes;
use crate::device::DeviceError;
use crate::flow::TunnelFailure;
use crate::mtu::MIN_MTU_V6;

/// Why there is no tunnel, or no longer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IpTunnelError {
    /// The interface cannot be made.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// Somebody has removed the interface.
    #[error("interface {0} is gone")]
    Gone(String),
    /// The interface cannot be changed.
    #[error("interface {interface}: {source}")]
    Host {
        /// Its name.
        interface: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The server's own address cannot be kept out of the tunnel.
    #[error("the route to the server outside the tunnel: {0}")]
    Bypass(#[source] io::Error),
    /// Only IPv6 was asked for, and the host has none.
    #[error("this host has no IPv6, and the tunnel is for nothing else")]
    NoIpv6,
    /// The server does not open the tunnel.
    #[error(transparent)]
    NotOpened(#[from] ClientError),
    /// The server has accepted the tunnel and then assigned no address for so long.
    #[error("the server assigned no address within {} seconds", .0.as_secs())]
    NoAddress(Duration),
    /// The server has assigned an address that is no tunnel's.
    #[error("the server assigned {0}, which is no address for a tunnel")]
    WrongAddress(IpAddr),
    /// The server advertises more than this host takes.
    #[error(transparent)]
    Routes(#[from] TooManyRoutes),
    /// This end had to end the tunnel.
    #[error(transparent)]
    Failed(#[from] TunnelFailure),
    /// The server has aborted a tunnel with IPv6 without a word, and this end knows of no reason. Who
    /// sends nothing long does not notice that the path has become narrow.
    #[error(
        "the server aborted the tunnel, as servers do whose path to the client carries less than the \
         {MIN_MTU_V6} bytes that IPv6 needs"
    )]
    Aborted,
    /// The server ended the tunnel in order.
    #[error("the server ended the tunnel")]
    Ended,
    /// The tunnel was there and has ended otherwise.
    #[error(transparent)]
    Lost(ClientError),
}
