//! [`Target`]: the variable `target`.
//!
//! As for UDP targets one spelling of an address is accepted, the usual one, because the others are
//! good for nothing but to get around a policy.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnetwork::IpNetwork;
use pasque::resolve::looks_numeric;

/// The longest DNS name, in bytes without the final dot (RFC 1035 §2.3.4).
const MAX_NAME_LEN: usize = 253;
/// The longest label of a DNS name, in bytes (RFC 1035 §2.3.4).
const MAX_LABEL_LEN: usize = 63;

/// Where a tunnel's packets may go (RFC 9484 §4.6).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Target {
    /// `*`: everywhere.
    #[default]
    Any,
    /// A prefix without host bits; a single address is one of full length.
    Prefix(IpNetwork),
    /// The addresses of a DNS name, which is in lower case and without the final dot.
    Name(String),
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let Some((address, prefix_len)) = text.split_once('/') else {
            return Ok(match parse_address(text)? {
                Some(address) => Self::Prefix(address.into()),
                None => Self::Name(parse_name(text)?),
            });
        };
        let address =
            parse_address(address)?.ok_or_else(|| TargetError::PrefixOfName(text.into()))?;
        parse_prefix(address, prefix_len).map(Self::Prefix)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Prefix(prefix) if prefix.prefix() == max_prefix_len(prefix.ip()) => {
                prefix.ip().fmt(f)
            }
            Self::Prefix(prefix) => prefix.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

/// Why a text is no [`Target`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// A zone is meaningful on one machine only, so it cannot be sent to another.
    #[error("found the zone in {0:?}, which has a meaning on one machine only: leave it out")]
    Zone(String),
    /// Not an IPv6 address.
    #[error("found {0:?}, expected an IPv6 address without brackets")]
    Ipv6(String),
    /// A spelling of an IPv4 address that resolvers take differently.
    #[error("found {0:?}, expected an IPv4 address as four decimal numbers")]
    OddAddress(String),
    /// The prefix length is no number, or too large for the address.
    #[error("found the prefix length {found:?}, expected 0 to {max} in plain digits")]
    PrefixLen {
        /// What follows the slash.
        found: String,
        /// Bits in an address of this IP version.
        max: u8,
    },
    /// Bits behind the prefix are set.
    #[error("found host bits in {found}, expected the network {network}")]
    HostBits {
        /// The prefix as written.
        found: IpNetwork,
        /// The network it is in.
        network: IpNetwork,
    },
    /// A prefix length behind something else than an address.
    #[error("found {0:?}, expected an address before the \"/\"")]
    PrefixOfName(String),
    /// Neither an address nor a DNS name.
    #[error(
        "found {0:?}, expected \"*\", an address, a prefix, or a name of letters, digits, \"-\", \
         \"_\" and \".\""
    )]
    Name(String),
}

/// The most bits that a prefix has in the IP version of `address`.
fn max_prefix_len(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => Ipv4Addr::BITS as u8,
        IpAddr::V6(_) => Ipv6Addr::BITS as u8,
    }
}

/// `None`: no spelling of an address, so perhaps a name.
fn parse_address(text: &str) -> Result<Option<IpAddr>, TargetError> {
    if text.contains(':') {
        if text.contains('%') {
            return Err(TargetError::Zone(text.into()));
        }
        let address: Ipv6Addr = text.parse().map_err(|_| TargetError::Ipv6(text.into()))?;
        return Ok(Some(address.into()));
    }
    if looks_numeric(text) {
        let address: Ipv4Addr = text
            .parse()
            .map_err(|_| TargetError::OddAddress(text.into()))?;
        return Ok(Some(address.into()));
    }
    Ok(None)
}

fn parse_prefix(address: IpAddr, len: &str) -> Result<IpNetwork, TargetError> {
    let max = max_prefix_len(address);
    let malformed = || TargetError::PrefixLen {
        found: len.into(),
        max,
    };
    // One or two digits for IPv4, one to three for IPv6 (RFC 9484 §4.6), while the standard parser
    // would take a plus sign and any number of zeros, too.
    let max_digits = if address.is_ipv4() { 2 } else { 3 };
    if len.len() > max_digits || !len.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(malformed());
    }
    let number = len.parse().map_err(|_| malformed())?;
    let found = IpNetwork::new(address, number).map_err(|_| malformed())?;
    if found.network() != address {
        let network = IpNetwork::new(found.network(), number).map_err(|_| malformed())?;
        return Err(TargetError::HostBits { found, network });
    }
    Ok(found)
}

fn parse_name(text: &str) -> Result<String, TargetError> {
    let name = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| {
        (1..=MAX_LABEL_LEN).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    if name.len() > MAX_NAME_LEN || !name.split('.').all(is_label) {
        return Err(TargetError::Name(text.into()));
    }
    Ok(name.to_ascii_lowercase())
}
