//! Addresses as numbers: one arithmetic for both families.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

/// One of the two IP versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) fn of(network: &IpNetwork) -> Self {
        match network {
            IpNetwork::V4(_) => Self::V4,
            IpNetwork::V6(_) => Self::V6,
        }
    }

    /// Bits of an address.
    pub(crate) const fn width(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }
}

/// What a prefix covers: a power of two of addresses, aligned to its own size. The family is known
/// from the context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Block {
    first: u128,
    host_bits: u8,
}

impl Block {
    /// The block of this size that `member` lies in.
    pub(crate) fn around(member: u128, host_bits: u8) -> Self {
        let first = member & !host_mask(host_bits);
        Self { first, host_bits }
    }

    /// What `network` covers; host bits are ignored.
    pub(crate) fn of(network: &IpNetwork) -> Self {
        let host_bits = Family::of(network).width() - network.prefix();
        Self::around(number(network.ip()), host_bits)
    }

    pub(crate) fn first(self) -> u128 {
        self.first
    }

    pub(crate) fn last(self) -> u128 {
        self.first | host_mask(self.host_bits)
    }

    /// Zero for a single address.
    pub(crate) fn host_bits(self) -> u8 {
        self.host_bits
    }

    pub(crate) fn contains(self, other: Self) -> bool {
        self.first <= other.first && other.last() <= self.last()
    }

    /// The prefix, its host bits zero.
    pub(crate) fn to_network(self, family: Family) -> IpNetwork {
        let address = address(self.first, family);
        // A block of a family has at most that family's bits, so the prefix length is always right.
        IpNetwork::new(address, family.width().saturating_sub(self.host_bits))
            .unwrap_or_else(|_| IpNetwork::from(address))
    }
}

/// The `host_bits` low bits.
pub(crate) fn host_mask(host_bits: u8) -> u128 {
    let network_bits = u128::BITS - u32::from(host_bits);
    u128::MAX.checked_shr(network_bits).unwrap_or(0)
}

/// The number that the bits of `address` are.
pub(crate) fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn address(number: u128, family: Family) -> IpAddr {
    match family {
        // The upper bits are zero: the number came from an address of this family.
        Family::V4 => Ipv4Addr::from_bits(number as u32).into(),
        Family::V6 => Ipv6Addr::from_bits(number).into(),
    }
}
