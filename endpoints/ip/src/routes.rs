//! [`Routes`]: which packets one end takes from the other (RFC 9484 §4.7.3).
//!
//! A list is legal when it is sorted by IP version, protocol and address, no two ranges of one
//! protocol overlap, and none of a protocol overlaps one of any protocol. [`Routes`] holds legal
//! lists only: what comes from the peer is [checked](Routes::try_from_wire), what we say ourselves
//! is [put in order](Routes::new).
//!
//! ```
//! use pasque_ip::routes::Routes;
//!
//! let routes = Routes::from_config(&["0.0.0.0/0".parse()?, "fd00::/8".parse()?]);
//! assert!(routes.admits("192.0.2.1".parse()?, 17));
//! assert!(!routes.admits("2001:db8::1".parse()?, 17));
//! assert_eq!(routes.iter().next().map(|range| range.to_string()), Some("0.0.0.0-223.255.255.255".into()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod range;
mod sets;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::slice;
use std::sync::Arc;

use ipnetwork::IpNetwork;

pub use self::range::{ANY_PROTOCOL, IpRange, RangeError};
use self::sets::{clip, cut, merge, overlapping};
use crate::scope::{Scope, is_icmp};

/// The first multicast address of IPv4. Multicast and reserved addresses are all that follows.
const MULTICAST_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(224, 0, 0, 0));
/// The first multicast address of IPv6. All that follow are multicast addresses, too.
const MULTICAST_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0));

/// A legal list of ranges: what a ROUTE_ADVERTISEMENT capsule may say (RFC 9484 §4.7.3).
///
/// A clone shares the list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routes(Arc<Lists>);

#[derive(Debug, Default, PartialEq, Eq)]
struct Lists {
    /// The list as it goes over the wire.
    ranges: Box<[IpRange]>,
    /// Every address in it, whatever the protocol. ICMP is looked up here: up to 256 lists of
    /// single protocols would have to be searched instead, for a packet whose sender chose them.
    addresses: Box<[IpRange]>,
}

impl Routes {
    /// The legal list that admits what any of `ranges` admits, in as few ranges as possible.
    ///
    /// Ranges of one protocol are merged where they overlap or touch. A range of a protocol is cut
    /// where a range of any protocol covers it, since no list may have both (RFC 9484 §4.7.3).
    pub fn new(ranges: impl IntoIterator<Item = IpRange>) -> Self {
        let merged = merge(ranges.into_iter().collect());
        let any: Vec<_> = merged.iter().copied().filter(admits_any).collect();
        let ranges = merged
            .into_iter()
            .flat_map(|range| match admits_any(&range) {
                true => vec![range],
                false => cut(range, &any),
            });
        Self::from_legal(ranges.collect())
    }

    /// The routes that these prefixes of a configuration stand for, for any protocol.
    ///
    /// A prefix that holds unicast and multicast addresses, as `0.0.0.0/0` and `::/0` do, ends
    /// before the latter: who writes it means the default route, which leads to no group. One that
    /// starts among them, such as `239.0.0.0/8`, stays whole.
    pub fn from_config(prefixes: &[IpNetwork]) -> Self {
        let unicast = |prefix: &IpNetwork| {
            let range = IpRange::from_prefix(*prefix, ANY_PROTOCOL);
            match prefix {
                IpNetwork::V4(_) => range.without_tail(MULTICAST_V4),
                IpNetwork::V6(_) => range.without_tail(MULTICAST_V6),
            }
        };
        Self::new(prefixes.iter().map(unicast))
    }

    /// The list that a peer sent, as it is, if it is legal.
    ///
    /// # Errors
    ///
    /// The first rule of RFC 9484 §4.7.3 that is broken.
    pub fn try_from_wire(ranges: Vec<IpRange>) -> Result<Self, RouteError> {
        let mut neighbours = ranges.iter().zip(ranges.iter().skip(1)).enumerate();
        neighbours
            .try_for_each(|(entry, (before, range))| check_order(entry + 1, before, range))?;

        let any: Vec<_> = ranges.iter().copied().filter(admits_any).collect();
        for (entry, range) in ranges.iter().enumerate() {
            if admits_any(range) {
                continue;
            }
            if let Some(found) = overlapping(&any, *range).next() {
                return Err(RouteError::AnyProtocol {
                    entry,
                    range: *range,
                    covered_by: *found,
                });
            }
        }
        Ok(Self::from_legal(ranges))
    }

    fn from_legal(ranges: Vec<IpRange>) -> Self {
        let any = |range: &IpRange| range.with_protocol(ANY_PROTOCOL);
        Self(Arc::new(Lists {
            addresses: merge(ranges.iter().map(any).collect()).into(),
            ranges: ranges.into(),
        }))
    }

    /// Whether nothing is routed at all.
    pub fn is_empty(&self) -> bool {
        self.0.ranges.is_empty()
    }

    /// The ranges in the order of the wire: by IP version, protocol, address.
    pub fn iter(&self) -> slice::Iter<'_, IpRange> {
        self.0.ranges.iter()
    }

    /// Whether a packet of `protocol` may go to `address`. This is a binary search.
    ///
    /// ICMP may go wherever any protocol may (RFC 9484 §4.7.3).
    pub fn admits(&self, address: IpAddr, protocol: u8) -> bool {
        if is_icmp(address, protocol) {
            return holds(&self.0.addresses, address, ANY_PROTOCOL);
        }
        holds(&self.0.ranges, address, ANY_PROTOCOL) || holds(&self.0.ranges, address, protocol)
    }

    /// The part that is IPv4, if `v4`, and the part that is IPv6, if `v6`.
    #[must_use]
    pub fn only(&self, v4: bool, v6: bool) -> Self {
        if v4 && v6 {
            return self.clone();
        }
        let kept = |range: &IpRange| if range.is_v6() { v6 } else { v4 };
        Self::from_legal(self.iter().copied().filter(kept).collect())
    }

    /// The part that lies within `scope`: its addresses, and its protocol (RFC 9484 §4.6).
    ///
    /// Where the two name different protocols nothing is left. That ICMP is exempt from either
    /// does not make a route of its own, unless one of the two is about ICMP.
    #[must_use]
    pub fn within(&self, scope: &Scope) -> Self {
        let wanted = scope.protocol().unwrap_or(ANY_PROTOCOL);
        let narrowed = self
            .iter()
            .filter_map(|range| Some(range.with_protocol(common_protocol(range, wanted)?)));
        match scope.prefixes() {
            None if wanted == ANY_PROTOCOL => self.clone(),
            None => Self::new(narrowed),
            Some(prefixes) => {
                let any = |prefix: &IpNetwork| IpRange::from_prefix(*prefix, ANY_PROTOCOL);
                let kept = merge(prefixes.iter().map(any).collect());
                Self::new(narrowed.flat_map(|range| clip(range, &kept)))
            }
        }
    }

    /// The part that lies outside of `networks`.
    #[must_use]
    pub fn without(&self, networks: &[IpNetwork]) -> Self {
        let any = |network: &IpNetwork| IpRange::from_prefix(*network, ANY_PROTOCOL);
        let holes = merge(networks.iter().map(any).collect());
        Self::new(self.iter().flat_map(|range| cut(*range, &holes)))
    }

    /// The addresses of all ranges, whatever the protocol: disjoint ranges that do not touch, IPv4
    /// before IPv6, ascending.
    pub fn addresses(&self) -> slice::Iter<'_, IpRange> {
        self.0.addresses.iter()
    }

    /// The same addresses in as few prefixes as possible.
    ///
    /// One range of a few bytes may take 254 of them, so bound how many you use of a peer's list.
    pub fn prefixes(&self) -> impl Iterator<Item = IpNetwork> + '_ {
        self.addresses().flat_map(|range| range.prefixes())
    }
}

/// Why a list of ranges is not legal (RFC 9484 §4.7.3). Entries count from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RouteError {
    /// IPv4 after IPv6.
    #[error("entry {entry} ({range}) is IPv4 after IPv6, expected IPv4 first")]
    Version {
        /// The later entry of the two.
        entry: usize,
        /// Its range.
        range: IpRange,
    },
    /// A protocol after one of a higher number, in the same IP version.
    #[error("entry {entry} ({range}) comes after protocol {before}, expected ascending protocols")]
    Protocol {
        /// The later entry of the two.
        entry: usize,
        /// Its range.
        range: IpRange,
        /// The protocol of the entry before.
        before: u8,
    },
    /// A range that starts before the one in front of it ends: it overlaps or is out of order.
    #[error("entry {entry} ({range}) does not start after {before}, where the entry before ends")]
    Address {
        /// The later entry of the two.
        entry: usize,
        /// Its range.
        range: IpRange,
        /// The last address of the entry before.
        before: IpAddr,
    },
    /// A range of one protocol overlaps a range of any protocol.
    #[error("entry {entry} ({range}) overlaps {covered_by}, which is for any protocol")]
    AnyProtocol {
        /// The entry that is for one protocol.
        entry: usize,
        /// Its range.
        range: IpRange,
        /// The range for any protocol.
        covered_by: IpRange,
    },
}

fn check_order(entry: usize, before: &IpRange, range: &IpRange) -> Result<(), RouteError> {
    let range = *range;
    if range.is_v6() != before.is_v6() {
        return match before.is_v6() {
            true => Err(RouteError::Version { entry, range }),
            false => Ok(()),
        };
    }
    if range.protocol() != before.protocol() {
        let before = before.protocol();
        return match range.protocol() < before {
            true => Err(RouteError::Protocol {
                entry,
                range,
                before,
            }),
            false => Ok(()),
        };
    }
    match range.start() <= before.end() {
        true => Err(RouteError::Address {
            entry,
            range,
            before: before.end(),
        }),
        false => Ok(()),
    }
}

/// Whether a range of exactly this protocol holds `address`.
fn holds(ranges: &[IpRange], address: IpAddr, protocol: u8) -> bool {
    let place = (address.is_ipv6(), protocol, address);
    let behind = ranges.partition_point(|range| range.order() <= place);
    ranges
        .get(..behind)
        .and_then(<[_]>::last)
        .is_some_and(|range| range.protocol() == protocol && range.contains(address))
}

fn admits_any(range: &IpRange) -> bool {
    range.protocol() == ANY_PROTOCOL
}

/// What is in both the protocol of `range` and `wanted`.
fn common_protocol(range: &IpRange, wanted: u8) -> Option<u8> {
    let own = range.protocol();
    if own == wanted || wanted == ANY_PROTOCOL || is_icmp(range.start(), own) {
        return Some(own);
    }
    (own == ANY_PROTOCOL || is_icmp(range.start(), wanted)).then_some(wanted)
}
