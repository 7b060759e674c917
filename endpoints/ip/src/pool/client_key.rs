//! [`ClientKey`]: whom an address is kept in mind for.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use pasque::auth::Identity;

/// Whom an address is kept in mind for: an identity or, for an anonymous client, its IP address.
///
/// One key may stand for several clients: devices of one user, or a household behind a NAT.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientKey(Arc<str>);

impl ClientKey {
    /// The key of the client that sent a request.
    pub fn new(identity: &Identity, peer: IpAddr) -> Self {
        match identity.name() {
            Some(name) => Self::of_identity(name),
            None => Self::of_address(peer),
        }
    }

    /// The key of an authenticated client.
    pub fn of_identity(name: &str) -> Self {
        Self(format!("id:{name}").into())
    }

    /// The key of an anonymous client.
    pub fn of_address(address: IpAddr) -> Self {
        // A listener for both families sees IPv4 clients as mapped addresses.
        Self(format!("ip:{}", address.to_canonical()).into())
    }

    /// The key as it was written to a file.
    pub(crate) fn from_text(text: &str) -> Self {
        Self(text.into())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
