//! Who may use which addresses and routes: the capsules of IP tunnels, both ends (RFC 9484 §4.7).
//!
//! ```text
//!  AddressClient                             AddressServer
//!  ─────────────                             ─────────────
//!  ADDRESS_REQUEST  1: any IPv4,         →
//!                   2: any IPv6
//!                                        ←   ADDRESS_ASSIGN  0: 10.76.0.2, 0: fd76::2
//!                                        ←   ROUTE_ADVERTISEMENT
//!                                        ←   ADDRESS_ASSIGN  1: 10.76.0.2, 2: fd76::2
//! ```
//!
//! Neither half reads or writes anything: capsules go in, and those to send come out. Both
//! ADDRESS_ASSIGN and ROUTE_ADVERTISEMENT are whole lists, which replace what was said before. A
//! capsule that is refused with a [`SessionError`] has changed nothing; its stream is aborted.
//!
//! ```
//! # use std::time::Duration;
//! # use pasque_ip::{pool::{AddressPools, ClientKey}, routes::Routes, scope::Scope};
//! use pasque_ip::session::{AddressClient, AddressServer, ClientEvent};
//!
//! # let pools = AddressPools::new(&["10.76.0.1/24".parse()?], Duration::ZERO, None)?;
//! # let lease = pools.lease(&ClientKey::of_identity("alice"), &Scope::everything())?;
//! let server = AddressServer::new(lease, Routes::from_config(&["192.0.2.0/24".parse()?]));
//! let mut client = AddressClient::new();
//! let mut answers = Vec::new();
//! for capsule in server.greeting() {
//!     let event = client.on_capsule(capsule.kind, &capsule.value, &mut answers)?;
//!     assert_ne!(event, ClientEvent::None);
//! }
//! assert_eq!(client.addresses(), server.assigned());
//! assert_eq!(client.routes(), server.routes());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod client;
mod ids;
mod server;
#[cfg(test)]
mod tests;

use http::StatusCode;
use pasque::StreamError;
use pasque::wire::capsule::{ADDRESS_ASSIGN, ADDRESS_REQUEST, ROUTE_ADVERTISEMENT};

pub use self::client::{AddressClient, ClientEvent};
pub use self::server::{AddressServer, ServerEvent};
use crate::capsules::{
    AssignedAddress, CapsuleError, RequestedAddress, encode_assign, encode_request, encode_routes,
};
use crate::routes::Routes;

/// The most addresses and prefixes that one tunnel is given. Requests beyond it are refused.
pub const MAX_ASSIGNED: usize = 16;

/// The most entries of an ADDRESS_REQUEST that are answered. Each of them is looked for in the
/// pools; nobody needs so many.
pub const MAX_REQUESTED: usize = 64;

/// The most addresses that a client takes from a server: each is configured on an interface.
pub const MAX_ACCEPTED: usize = 64;

/// The most ranges that are taken from a peer: the networks of a large organisation, in a memory of
/// some 300 KiB.
pub const MAX_RANGES: usize = 4096;

/// A capsule to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutCapsule {
    /// The capsule type.
    pub kind: u64,
    /// The capsule value, without type and length.
    pub value: Vec<u8>,
}

impl OutCapsule {
    /// ADDRESS_ASSIGN: everything that the receiver may use as source (RFC 9484 §4.7.1).
    pub fn assign(entries: &[AssignedAddress]) -> Self {
        let (kind, value) = (ADDRESS_ASSIGN, encode_assign(entries));
        Self { kind, value }
    }

    /// ADDRESS_REQUEST: what the sender would like to be assigned (RFC 9484 §4.7.2).
    pub fn request(entries: &[RequestedAddress]) -> Self {
        let (kind, value) = (ADDRESS_REQUEST, encode_request(entries));
        Self { kind, value }
    }

    /// ROUTE_ADVERTISEMENT: everything that the sender forwards packets to (RFC 9484 §4.7.3).
    pub fn routes(routes: &Routes) -> Self {
        let (kind, value) = (ROUTE_ADVERTISEMENT, encode_routes(routes));
        Self { kind, value }
    }
}

/// Why a capsule ends the tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// It cannot be read.
    #[error(transparent)]
    Malformed(#[from] CapsuleError),
    /// A Request ID that another capsule on this stream had (RFC 9484 §4.7.2).
    #[error("malformed ADDRESS_REQUEST: Request ID {0} was used before")]
    RepeatedRequestId(u64),
    /// It is legal, and more than this end is willing to hold.
    #[error("an {capsule} capsule has {found} entries, expected at most {limit}")]
    TooManyEntries {
        /// The name of the capsule type.
        capsule: &'static str,
        /// How many there are.
        found: usize,
        /// How many there may be.
        limit: usize,
    },
}

impl SessionError {
    /// Compares a number of entries with the most there may be.
    fn check_len(capsule: &'static str, found: usize, limit: usize) -> Result<(), Self> {
        match found > limit {
            true => Err(Self::TooManyEntries {
                capsule,
                found,
                limit,
            }),
            false => Ok(()),
        }
    }
}

impl From<SessionError> for pasque::Error {
    fn from(error: SessionError) -> Self {
        let text = error.to_string();
        match error {
            SessionError::Malformed(error) => error.into(),
            SessionError::RepeatedRequestId(_) => Self::malformed(text),
            SessionError::TooManyEntries { .. } => Self::new(StatusCode::BAD_REQUEST, text)
                .with_stream_error(StreamError::ExcessiveLoad),
        }
    }
}
