//! What the keys of an endpoint may hold. Each mistake is told where it is, in words for whoever wrote it.

use std::fmt;
use std::time::Duration;

use ipnetwork::IpNetwork;
use serde::de::{Error, Unexpected};
use serde::{Deserialize, Deserializer};

use crate::device::MAX_NAME_LEN;
use crate::pool::AddressPools;

/// The longest `ifprefix`, in bytes: `-i` and four digits come behind it.
const MAX_PREFIX_LEN: usize = 9;

/// Seconds in which an address is kept for a client that left: a year at most.
const MAX_LEASE_S: u64 = 365 * 24 * 3600;

/// The beginning of interface names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InterfacePrefix(pub(super) String);

impl InterfacePrefix {
    /// The name of the interface with this number; `None` if it would be too long.
    pub(super) fn numbered(&self, number: u32) -> Option<String> {
        let name = format!("{}-i{number}", self.0);
        (name.len() <= MAX_NAME_LEN).then_some(name)
    }

    /// Whether that is a name of [`numbered`](Self::numbered).
    pub(super) fn is_numbered(&self, name: &str) -> bool {
        let number = name
            .strip_prefix(&*self.0)
            .and_then(|rest| rest.strip_prefix("-i"));
        number.is_some_and(|number| number.parse::<u32>().is_ok())
    }
}

impl fmt::Display for InterfacePrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for InterfacePrefix {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        let has_allowed_len = (1..=MAX_PREFIX_LEN).contains(&text.len());
        match has_allowed_len && text.bytes().all(is_allowed) {
            true => Ok(Self(text)),
            false => Err(D::Error::invalid_value(
                Unexpected::Str(&text),
                &"1 to 9 letters, digits, \"-\" and \"_\" such as \"tun-s\"",
            )),
        }
    }
}

/// A network: host bits are zero.
#[derive(Clone, Copy, Debug)]
pub(super) struct Network(pub(super) IpNetwork);

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let found: IpNetwork = parse(&text).ok_or_else(|| {
            D::Error::invalid_value(
                Unexpected::Str(&text),
                &"a network such as \"10.0.0.0/8\" or \"fd00::/8\"",
            )
        })?;
        if found.ip() != found.network() {
            return Err(D::Error::custom(format_args!(
                "found host bits in {found}, expected the network {}/{}",
                found.network(),
                found.prefix()
            )));
        }
        Ok(Self(found))
    }
}

/// An address pool with the server's own address in its host bits.
#[derive(Clone, Copy, Debug)]
struct Pool(IpNetwork);

impl<'de> Deserialize<'de> for Pool {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let pool = parse(&text).map(Self);
        pool.ok_or_else(|| {
            D::Error::invalid_value(
                Unexpected::Str(&text),
                &"the server's own address and the pool's prefix length, such as \"10.76.0.1/24\"",
            )
        })
    }
}

/// Only with a prefix length: whoever leaves it out may mean a host or a network.
fn parse(text: &str) -> Option<IpNetwork> {
    text.contains('/').then(|| text.parse().ok())?
}

/// `addresspools`, checked as pools.
pub(super) fn pools<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<IpNetwork>, D::Error> {
    let pools: Vec<_> = Vec::<Pool>::deserialize(deserializer)?;
    let pools: Vec<_> = pools.into_iter().map(|Pool(pool)| pool).collect();
    AddressPools::new(&pools, Duration::ZERO, None).map_err(D::Error::custom)?;
    Ok(pools)
}

/// `accept_client_routes`.
pub(super) fn networks<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<IpNetwork>, D::Error> {
    let networks = Vec::<Network>::deserialize(deserializer)?;
    Ok(networks
        .into_iter()
        .map(|Network(network)| network)
        .collect())
}

/// `routes`.
pub(super) fn routes<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<IpNetwork>>, D::Error> {
    let routes = networks(deserializer)?;
    match routes.is_empty() {
        true => Err(D::Error::custom(
            "found an empty list, expected at least one network: without any, clients reach nothing",
        )),
        false => Ok(Some(routes)),
    }
}

/// `lease_s`.
pub(super) fn lease_s<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let found = u64::deserialize(deserializer)?;
    match found <= MAX_LEASE_S {
        true => Ok(found),
        false => Err(D::Error::invalid_value(
            Unexpected::Unsigned(found),
            &"0 to 31536000",
        )),
    }
}
