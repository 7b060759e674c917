//! [`RouteChoice`]: which destinations go into the tunnel.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

use crate::routes::{IpRange, Routes};
use crate::scope::Scope;

/// A range of more addresses than a prefix of this length has is no longer about some network but
/// about the Internet: 10.0.0.0/8 is the largest private one.
const WIDEST_V4: u8 = 8;
/// The same of IPv6, for fc00::/7.
const WIDEST_V6: u8 = 7;

/// Which destinations go into a tunnel. What the server advertises is an offer (RFC 9484 §4.7.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteChoice {
    /// These prefixes and no others, whatever the server offers.
    Exactly(Vec<IpNetwork>),
    /// What the server offers, of the IP versions that the tunnel has an address of.
    Offered {
        /// Only what is in one of these prefixes. Empty: everything but default routes, by which
        /// is meant every range that is larger than 10.0.0.0/8 or fc00::/7.
        accept: Vec<IpNetwork>,
        /// Takes default routes, too: each as two prefixes, so that the host's own stays behind
        /// them.
        default_route: bool,
    },
}

impl Default for RouteChoice {
    fn default() -> Self {
        Self::Offered {
            accept: Vec::new(),
            default_route: false,
        }
    }
}

/// Why a server's routes are not installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server advertises more than {} routes", RouteChoice::MAX)]
pub struct TooManyRoutes;

impl RouteChoice {
    /// How many routes one tunnel installs at most. A capsule of some kilobytes can ask for a
    /// million.
    pub const MAX: usize = 1024;

    /// The routes to install when the server offers `offered` and the tunnel has addresses of the
    /// IP versions `families`.
    ///
    /// # Errors
    ///
    /// When they are more than [`MAX`](Self::MAX).
    pub fn select(
        &self,
        offered: &Routes,
        families: Families,
    ) -> Result<Vec<IpNetwork>, TooManyRoutes> {
        let mut routes = match self {
            Self::Exactly(prefixes) => bounded(prefixes.iter().flat_map(|prefix| halves(*prefix)))?,
            Self::Offered {
                accept,
                default_route,
            } => {
                let offered = offered.only(families.v4, families.v6);
                let mut routes = accepted(&offered, accept)?;
                if *default_route {
                    let wide = offered.addresses().filter(|range| is_wide(range));
                    routes.extend(wide.flat_map(|range| both_halves(range.is_v6())));
                }
                routes
            }
        };
        routes.sort();
        routes.dedup();
        Ok(routes)
    }

    /// The IP versions for which a default route is wanted and not offered. Their packets take the
    /// way that they took without the tunnel.
    pub fn missing_default(&self, offered: &Routes) -> Families {
        let is_offered =
            |v6| (offered.addresses()).any(|range| range.is_v6() == v6 && is_wide(range));
        match self {
            Self::Offered {
                default_route: true,
                ..
            } => Families {
                v4: !is_offered(false),
                v6: !is_offered(true),
            },
            _ => Families::default(),
        }
    }
}

/// Versions of IP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Families {
    /// IPv4.
    pub v4: bool,
    /// IPv6.
    pub v6: bool,
}

impl Families {
    /// Those that `prefixes` are of.
    pub fn of<'a>(prefixes: impl IntoIterator<Item = &'a IpNetwork>) -> Self {
        let mut families = Self::default();
        for prefix in prefixes {
            match prefix {
                IpNetwork::V4(_) => families.v4 = true,
                IpNetwork::V6(_) => families.v6 = true,
            }
        }
        families
    }
}

/// Whether packets to `address` go where one of `routes` leads.
pub(super) fn covers(routes: &[IpNetwork], address: IpAddr) -> bool {
    routes.iter().any(|route| route.contains(address))
}

/// What the user accepts of `offered`.
fn accepted(offered: &Routes, accept: &[IpNetwork]) -> Result<Vec<IpNetwork>, TooManyRoutes> {
    let mut routes = match accept {
        // Neighbours count as one range: two halves of the Internet are all of it.
        [] => {
            let narrow = offered.addresses().filter(|range| !is_wide(range));
            bounded(narrow.flat_map(|range| range.prefixes()))?
        }
        _ => {
            let scope = Scope::new(Some(accept.to_vec()), None);
            bounded(offered.within(&scope).prefixes().flat_map(halves))?
        }
    };
    routes.retain(|prefix| !is_local(prefix));
    Ok(routes)
}

/// Bounds what is collected, not just what is kept.
fn bounded(prefixes: impl Iterator<Item = IpNetwork>) -> Result<Vec<IpNetwork>, TooManyRoutes> {
    let prefixes: Vec<_> = prefixes.take(RouteChoice::MAX + 1).collect();
    match prefixes.len() > RouteChoice::MAX {
        true => Err(TooManyRoutes),
        false => Ok(prefixes),
    }
}

fn is_wide(range: &IpRange) -> bool {
    let (width, widest) = match range.is_v6() {
        true => (u128::BITS, WIDEST_V6),
        false => (u32::BITS, WIDEST_V4),
    };
    let most = 1_u128 << (width - u32::from(widest));
    to_bits(range.end()) - to_bits(range.start()) >= most
}

fn to_bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_bits().into(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// A prefix as it is, but a default route as two: the host's own has the same prefix, and is still
/// needed.
fn halves(prefix: IpNetwork) -> Vec<IpNetwork> {
    match prefix.prefix() {
        0 => both_halves(prefix.is_ipv6()).collect(),
        _ => vec![prefix],
    }
}

fn both_halves(v6: bool) -> impl Iterator<Item = IpNetwork> {
    let starts: [IpAddr; 2] = match v6 {
        false => [0, 1 << 31].map(|bits| Ipv4Addr::from_bits(bits).into()),
        true => [0, 1 << 127].map(|bits| Ipv6Addr::from_bits(bits).into()),
    };
    starts
        .into_iter()
        .filter_map(|start| IpNetwork::new(start, 1).ok())
}

/// Whether these addresses mean something else on every host or link, so that no server has them.
fn is_local(prefix: &IpNetwork) -> bool {
    let (start, len) = (prefix.network(), prefix.prefix());
    match start {
        IpAddr::V4(v4) => (v4.is_loopback() && len >= 8) || (v4.is_link_local() && len >= 16),
        IpAddr::V6(v6) => v6.is_loopback() || (v6.is_unicast_link_local() && len >= 10),
    }
}

#[cfg(test)]
mod tests;
