//! What a forward has to tell.

use std::fmt;
use std::net::SocketAddr;

use pasque::connection::ClientError;
use tracing::{debug, warn};

use crate::context::UDP_PAYLOAD_PREFIX;

/// The UDP payload that a path must carry for QUIC to work over it (RFC 9000 §14).
pub(super) const QUIC_MIN_PAYLOAD_LEN: usize = 1200;

/// Something that happened to a [`Forward`](super::Forward). Its `Display` is one line for the user.
#[derive(Debug)]
#[non_exhaustive]
pub enum ForwardEvent<'a> {
    /// A user has a tunnel.
    Opened {
        /// The user's address.
        user: SocketAddr,
    },
    /// The tunnel for a user could not be opened. Told once per user, not for each further attempt.
    Refused {
        /// The user's address.
        user: SocketAddr,
        /// Why.
        error: &'a ClientError,
    },
    /// A user's tunnel is over; the user's next datagram opens another.
    Ended {
        /// The user's address.
        user: SocketAddr,
        /// What broke it, if it did not end in order.
        error: Option<&'a ClientError>,
    },
    /// A user gets no tunnel. Told once until there is a place again.
    TooManyUsers {
        /// The first user without one.
        user: SocketAddr,
        /// How many have one.
        limit: usize,
    },
    /// A datagram was dropped that QUIC relies on: the tunnel carries less than 1200 bytes. Told once
    /// per tunnel.
    PathTooSmall {
        /// The user's address.
        user: SocketAddr,
        /// The longest HTTP Datagram payload, in bytes, the context ID included.
        max_len: usize,
    },
}

impl ForwardEvent<'_> {
    pub(super) fn log(&self) {
        match self {
            Self::Opened { .. } | Self::Ended { .. } => debug!("{self}"),
            Self::Refused { .. } | Self::TooManyUsers { .. } | Self::PathTooSmall { .. } => {
                warn!("{self}");
            }
        }
    }
}

impl fmt::Display for ForwardEvent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Opened { user } => write!(f, "tunnel for {user} is open"),
            Self::Refused { user, error } => {
                write!(
                    f,
                    "no tunnel for {user}, whose datagrams are dropped: {error}"
                )
            }
            Self::Ended { user, error: None } => write!(f, "tunnel for {user} ended"),
            Self::Ended {
                user,
                error: Some(error),
            } => write!(f, "tunnel for {user} broke: {error}"),
            Self::TooManyUsers { user, limit } => write!(
                f,
                "no tunnel for {user}: {limit} local users have one, which is the limit"
            ),
            Self::PathTooSmall { user, max_len } => {
                let payload_len = max_len.saturating_sub(UDP_PAYLOAD_PREFIX.len());
                write!(
                    f,
                    "the tunnel for {user} carries datagrams of {payload_len} bytes, {} less than \
                     the {QUIC_MIN_PAYLOAD_LEN} that QUIC needs: the path to the proxy has a small MTU",
                    QUIC_MIN_PAYLOAD_LEN.saturating_sub(payload_len)
                )
            }
        }
    }
}
