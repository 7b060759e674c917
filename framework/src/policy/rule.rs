//! One line of an `allow` or `deny` list.

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Deserializer, de};

/// Addresses and ports, as one string of the configuration:
///
/// | text | addresses | ports |
/// |---|---|---|
/// | `10.0.0.0/8`, `fd00::/8` | a prefix | all |
/// | `127.0.0.1`, `::1` | one address | all |
/// | `127.0.0.1:9000`, `10.0.0.0/8:53`, `[fd00::/8]:53` | | one port |
/// | `10.0.0.0/8:1000-2000` | | a range, both ends included |
/// | `*:25` | all | one port |
/// | `*` | all | all |
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rule {
    /// `None`: every address of both families.
    network: Option<IpNetwork>,
    /// First and last port; `None`: every port, and packets that have none.
    ports: Option<(u16, u16)>,
}

impl Rule {
    /// Whether the rule is about `address`, which is not IPv4-mapped, and `port`.
    pub(super) fn matches(&self, address: IpAddr, port: u16) -> bool {
        self.network.is_none_or(|network| network.contains(address))
            && self
                .ports
                .is_none_or(|(first, last)| (first..=last).contains(&port))
    }

    /// Whether the rule names ports and leaves the address open.
    pub(super) fn is_about_ports_only(&self) -> bool {
        self.network.is_none() && self.ports.is_some()
    }
}

impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let malformed = || RuleError::Malformed(text.to_owned());
        let (network, ports) = if let Some(bracketed) = text.strip_prefix('[') {
            let (network, rest) = bracketed.split_once(']').ok_or_else(malformed)?;
            if !network.contains(':') {
                return Err(malformed());
            }
            match rest {
                "" => (network, None),
                _ => (network, Some(rest.strip_prefix(':').ok_or_else(malformed)?)),
            }
        } else if text.matches(':').count() > 1 {
            // A port after a bare IPv6 address could not be told from its last group.
            (text, None)
        } else {
            match text.split_once(':') {
                Some((network, ports)) => (network, Some(ports)),
                None => (text, None),
            }
        };
        Ok(Self {
            network: match network {
                "*" => None,
                _ => Some(parse_network(network, text)?),
            },
            ports: ports.map(parse_ports).transpose()?,
        })
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.network, self.ports) {
            (None, _) => f.write_str("*")?,
            (Some(network @ IpNetwork::V6(_)), Some(_)) => write!(f, "[{network}]")?,
            (Some(network), _) => network.fmt(f)?,
        }
        match self.ports {
            None => Ok(()),
            Some((first, last)) if first == last => write!(f, ":{first}"),
            Some((first, last)) => write!(f, ":{first}-{last}"),
        }
    }
}

impl<'de> Deserialize<'de> for Rule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// Why a text is not a [`Rule`].
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RuleError {
    /// Neither an address nor a prefix nor `*`, with or without ports.
    #[error(
        "found {0:?}, expected an address, a prefix or \"*\", then an optional port: \
         \"192.0.2.1\", \"10.0.0.0/8:53\", \"[fd00::/8]:1000-2000\", \"*:25\""
    )]
    Malformed(String),
    /// The prefix length is not a number or too large for the address.
    #[error("found the prefix length {found:?} in {text:?}, expected 0 to {longest}")]
    PrefixLength {
        /// The whole rule.
        text: String,
        /// What follows the slash.
        found: String,
        /// Bits in an address of this family.
        longest: u8,
    },
    /// The prefix names one host, so it is unclear whether the host or the network is meant.
    #[error("found host bits in {found}, expected the network {network} or the address {address}")]
    HostBits {
        /// The prefix as written.
        found: IpNetwork,
        /// The network it is in.
        network: IpNetwork,
        /// The host it names.
        address: IpAddr,
    },
    /// Such addresses are judged as IPv4, so a rule about them would never match.
    #[error("found the IPv4-mapped {0}, expected the IPv4 form")]
    Mapped(IpNetwork),
    /// The port is not a number from 1 to 65535, or not two of them with a hyphen.
    #[error("found the port {0:?}, expected 1 to 65535 or a range such as \"1000-2000\"")]
    Port(String),
    /// The range ends before it begins.
    #[error("found the port range {first}-{last}, expected the lower port first")]
    ReversedPorts {
        /// The port before the hyphen.
        first: u16,
        /// The port after it.
        last: u16,
    },
}

fn parse_network(text: &str, rule: &str) -> Result<IpNetwork, RuleError> {
    let (address, prefix_len) = match text.split_once('/') {
        Some((address, prefix_len)) => (address, Some(prefix_len)),
        None => (text, None),
    };
    let address: IpAddr = address
        .parse()
        .map_err(|_| RuleError::Malformed(rule.to_owned()))?;
    let Some(prefix_len) = prefix_len else {
        return reject_mapped(address.into());
    };
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let found = parse_number(prefix_len)
        .and_then(|prefix_len| u8::try_from(prefix_len).ok())
        .and_then(|prefix_len| IpNetwork::new(address, prefix_len).ok())
        .ok_or_else(|| RuleError::PrefixLength {
            text: rule.to_owned(),
            found: prefix_len.to_owned(),
            longest,
        })?;
    if found.network() != address {
        return Err(RuleError::HostBits {
            found,
            network: IpNetwork::new(found.network(), found.prefix()).unwrap_or(found),
            address,
        });
    }
    reject_mapped(found)
}

fn reject_mapped(network: IpNetwork) -> Result<IpNetwork, RuleError> {
    match network {
        IpNetwork::V6(v6) if v6.prefix() >= 96 && v6.ip().to_ipv4_mapped().is_some() => {
            Err(RuleError::Mapped(network))
        }
        _ => Ok(network),
    }
}

fn parse_ports(text: &str) -> Result<(u16, u16), RuleError> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let port = |digits| {
        parse_number(digits)
            .filter(|&port| port != 0)
            .ok_or_else(|| RuleError::Port(text.to_owned()))
    };
    match (port(first)?, port(last)?) {
        (first, last) if first > last => Err(RuleError::ReversedPorts { first, last }),
        ports => Ok(ports),
    }
}

/// Digits only: the standard parser would also take a plus sign.
fn parse_number(text: &str) -> Option<u16> {
    match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => text.parse().ok(),
        false => None,
    }
}
