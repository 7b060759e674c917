//! Targets: how a host and a port may be spelled, in a request and on a command line.
//!
//! One spelling of an address is accepted, the usual one. Resolvers of different systems disagree
//! about the others (`0x7f.1`, `2130706433`, `127.1`), which makes them good for nothing but to get
//! around a policy.

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU16;
use std::str::FromStr;

use pasque::resolve::looks_numeric;

/// The longest DNS name, in bytes without the final dot (RFC 1035 §2.3.4).
const MAX_NAME_LEN: usize = 253;
/// The longest label of a DNS name, in bytes (RFC 1035 §2.3.4).
const MAX_LABEL_LEN: usize = 63;

/// Where a UDP tunnel leads: a host and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// The host.
    pub host: Host,
    /// The port.
    pub port: Port,
}

impl Target {
    /// Parses what a user writes: `HOST:PORT`, with an IPv6 address in brackets.
    ///
    /// An international name becomes its A-labels, since that is what DNS knows.
    ///
    /// # Errors
    /// What is wrong with the text, and what to write instead.
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, rest) = rest.split_once(']').ok_or(TargetError::Brackets)?;
                let port = rest.strip_prefix(':').ok_or(TargetError::NoPort)?;
                (Host::from(IpAddr::V6(parse_ipv6(address)?)), port)
            }
            None => {
                let (host, port) = text.rsplit_once(':').ok_or(TargetError::NoPort)?;
                if host.contains(':') {
                    return Err(TargetError::Brackets);
                }
                (parse_international(host)?, port)
            }
        };
        let port = port.parse()?;
        Ok(Self { host, port })
    }
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        Self::parse(text)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]:{}", self.port),
            host => write!(f, "{host}:{}", self.port),
        }
    }
}

/// A host as the variable `target_host` carries it (RFC 9298 §3).
///
/// Parsing takes an IPv6 address without brackets and zone, an IPv4 address of four decimal numbers,
/// or a DNS name of letters, digits, hyphens and underscores, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// An address.
    Address(IpAddr),
    /// A DNS name in lower case, without the final dot.
    Name(String),
}

impl FromStr for Host {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        if text.contains(':') {
            return Ok(Self::Address(parse_ipv6(text)?.into()));
        }
        if looks_numeric(text) {
            let address = text
                .parse()
                .map_err(|_| TargetError::OddAddress(text.into()))?;
            return Ok(Self::Address(IpAddr::V4(address)));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        let is_label = |label: &str| {
            (1..=MAX_LABEL_LEN).contains(&label.len())
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        };
        if name.len() > MAX_NAME_LEN || !name.split('.').all(is_label) {
            return Err(TargetError::Host(text.into()));
        }
        Ok(Self::Name(name.to_ascii_lowercase()))
    }
}

impl From<IpAddr> for Host {
    fn from(address: IpAddr) -> Self {
        Self::Address(address)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

/// A port from 1 to 65535, in decimal digits only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Port(NonZeroU16);

impl Port {
    /// The port as a number.
    pub const fn number(self) -> u16 {
        self.0.get()
    }
}

impl FromStr for Port {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let malformed = || TargetError::Port(text.into());
        // The standard parser would take a plus sign, too.
        if !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(malformed());
        }
        text.parse().map(Self).map_err(|_| malformed())
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a text names no target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// There is no port behind the host.
    #[error("no port found, expected HOST:PORT such as \"192.0.2.1:53\" or \"[2001:db8::1]:53\"")]
    NoPort,
    /// An IPv6 address before a port, without its brackets or with half of them.
    #[error("an IPv6 address goes in brackets when a port follows: \"[2001:db8::1]:53\"")]
    Brackets,
    /// The port is not a number from 1 to 65535.
    #[error("found the port {0:?}, expected decimal digits from 1 to 65535")]
    Port(String),
    /// Not an IPv6 address.
    #[error("found {0:?}, expected an IPv6 address without brackets")]
    Ipv6(String),
    /// A zone is meaningful on one machine only, so it cannot be sent to another.
    #[error("found the zone in {0:?}, which has a meaning on this machine only: leave it out")]
    Zone(String),
    /// A spelling of an IPv4 address that resolvers take differently.
    #[error("found {0:?}, expected an IPv4 address as four decimal numbers")]
    OddAddress(String),
    /// Not a DNS name.
    #[error(
        "found {0:?}, expected an address or a name of letters, digits, \"-\", \"_\" and \".\""
    )]
    Host(String),
}

fn parse_ipv6(text: &str) -> Result<Ipv6Addr, TargetError> {
    if text.contains('%') {
        return Err(TargetError::Zone(text.into()));
    }
    text.parse().map_err(|_| TargetError::Ipv6(text.into()))
}

fn parse_international(text: &str) -> Result<Host, TargetError> {
    if text.is_ascii() {
        return text.parse();
    }
    let name = idna::domain_to_ascii(text).map_err(|_| TargetError::Host(text.into()))?;
    name.parse()
}
