//! [`IpRange`]: neighbouring addresses, and what may be sent to them.

use std::fmt;
use std::iter;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

/// What stands in place of a protocol number where every protocol is meant (RFC 9484 §4.7.3).
pub const ANY_PROTOCOL: u8 = 0;

/// First and last address of IPv4 that the public Internet uses.
const PUBLIC_V4: (IpAddr, IpAddr) = (
    IpAddr::V4(Ipv4Addr::new(1, 0, 0, 0)),
    IpAddr::V4(Ipv4Addr::new(223, 255, 255, 255)),
);
/// First and last address of IPv6 that the public Internet uses: 2000::/3.
const PUBLIC_V6: (IpAddr, IpAddr) = (
    IpAddr::V6(Ipv6Addr::from_bits(1 << 125)),
    IpAddr::V6(Ipv6Addr::from_bits((1 << 126) - 1)),
);

/// Addresses from a first to a last one, and a protocol (RFC 9484 §4.7.3).
///
/// Both addresses are of one IP version, and the first is not above the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IpRange {
    start: IpAddr,
    end: IpAddr,
    protocol: u8,
}

impl IpRange {
    /// The addresses from `start` to `end`, both included, for `protocol` or [`ANY_PROTOCOL`].
    ///
    /// # Errors
    ///
    /// If the addresses are of two IP versions, or in the wrong order.
    pub fn new(start: IpAddr, end: IpAddr, protocol: u8) -> Result<Self, RangeError> {
        if start.is_ipv6() != end.is_ipv6() {
            return Err(RangeError::Versions { start, end });
        }
        if start > end {
            return Err(RangeError::Backwards { start, end });
        }
        Ok(Self {
            start,
            end,
            protocol,
        })
    }

    /// The addresses of `prefix`, host bits or not, for `protocol` or [`ANY_PROTOCOL`].
    pub fn from_prefix(prefix: IpNetwork, protocol: u8) -> Self {
        Self {
            start: prefix.network(),
            end: prefix.broadcast(),
            protocol,
        }
    }

    /// The first address.
    pub fn start(&self) -> IpAddr {
        self.start
    }

    /// The last address.
    pub fn end(&self) -> IpAddr {
        self.end
    }

    /// The protocol number, or [`ANY_PROTOCOL`].
    pub fn protocol(&self) -> u8 {
        self.protocol
    }

    /// Whether these are IPv6 addresses.
    pub fn is_v6(&self) -> bool {
        self.start.is_ipv6()
    }

    /// Whether `address` is one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        // Addresses of different versions compare by version, so none slips in here.
        self.start <= address && address <= self.end
    }

    /// Whether this is a default route: it holds every public address of its IP version, whether
    /// or not it goes on to multicast and the rest.
    pub fn is_default(&self) -> bool {
        let (first, last) = match self.is_v6() {
            true => PUBLIC_V6,
            false => PUBLIC_V4,
        };
        self.start <= first && last <= self.end
    }

    /// The addresses in as few prefixes as possible, ascending: at most 62 of IPv4, 254 of IPv6.
    pub fn prefixes(self) -> impl Iterator<Item = IpNetwork> {
        let mut rest = Some(self);
        iter::from_fn(move || {
            let (first, behind) = rest?.split_prefix()?;
            rest = behind;
            Some(first)
        })
    }

    /// The largest prefix at the start of the range, and what is behind it.
    fn split_prefix(self) -> Option<(IpNetwork, Option<Self>)> {
        let width = match self.is_v6() {
            true => u128::BITS,
            false => u32::BITS,
        };
        let others = to_bits(self.end) - to_bits(self.start);
        // As large as the range has room for, and as the start has zeros at its end.
        let host_bits = match others.checked_add(1) {
            Some(count) => count.ilog2().min(to_bits(self.start).trailing_zeros()),
            None => u128::BITS,
        };
        let prefix_len = u8::try_from(width - host_bits).ok()?;
        let prefix = IpNetwork::new(self.start, prefix_len).ok()?;
        Some((prefix, self.after(prefix.broadcast())))
    }

    /// The same addresses for another protocol.
    #[must_use]
    pub(super) fn with_protocol(self, protocol: u8) -> Self {
        Self { protocol, ..self }
    }

    /// The part before `address`.
    pub(super) fn before(self, address: IpAddr) -> Option<Self> {
        let end = predecessor(address)?.min(self.end);
        (self.start <= end).then_some(Self { end, ..self })
    }

    /// The part behind `address`.
    pub(super) fn after(self, address: IpAddr) -> Option<Self> {
        let start = successor(address)?.max(self.start);
        (start <= self.end).then_some(Self { start, ..self })
    }

    /// The range up to `tail`, which is left out unless the whole range lies there.
    #[must_use]
    pub(super) fn without_tail(self, tail: IpAddr) -> Self {
        self.before(tail).unwrap_or(self)
    }

    /// The addresses in both ranges, for the protocol of this one.
    pub(super) fn common(self, other: Self) -> Option<Self> {
        let start = self.start.max(other.start);
        let end = self.end.min(other.end);
        (start <= end).then_some(Self { start, end, ..self })
    }

    /// Both ranges as one, if they are of one protocol, this one does not start behind the other,
    /// and no address lies between them.
    pub(super) fn joined(self, other: Self) -> Option<Self> {
        let touches = other.start <= self.end || successor(self.end) == Some(other.start);
        (touches && self.protocol == other.protocol && self.is_v6() == other.is_v6()).then_some(
            Self {
                end: self.end.max(other.end),
                ..self
            },
        )
    }

    /// What a list on the wire is sorted by.
    pub(super) fn order(&self) -> (bool, u8, IpAddr) {
        (self.is_v6(), self.protocol, self.start)
    }
}

impl fmt::Display for IpRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.split_prefix() {
            Some((prefix, None)) => prefix.fmt(f)?,
            _ => write!(f, "{}-{}", self.start, self.end)?,
        }
        match self.protocol {
            ANY_PROTOCOL => Ok(()),
            protocol => write!(f, " protocol {protocol}"),
        }
    }
}

/// Why two addresses are not the ends of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RangeError {
    /// One is IPv4, the other IPv6.
    #[error("{start} and {end} are not of the same IP version")]
    Versions {
        /// The first address.
        start: IpAddr,
        /// The last address.
        end: IpAddr,
    },
    /// The first one is above the last.
    #[error("the range starts at {start}, above {end} where it ends")]
    Backwards {
        /// The first address.
        start: IpAddr,
        /// The last address.
        end: IpAddr,
    },
}

fn to_bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn successor(address: IpAddr) -> Option<IpAddr> {
    Some(match address {
        IpAddr::V4(address) => Ipv4Addr::from_bits(address.to_bits().checked_add(1)?).into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits().checked_add(1)?).into(),
    })
}

fn predecessor(address: IpAddr) -> Option<IpAddr> {
    Some(match address {
        IpAddr::V4(address) => Ipv4Addr::from_bits(address.to_bits().checked_sub(1)?).into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits().checked_sub(1)?).into(),
    })
}
