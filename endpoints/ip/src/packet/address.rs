//! Addresses that a tunnel treats apart.
//!
//! An IPv4 address in the dress of IPv6 (`::ffff:0:0/96`) is judged as what it is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether packets from or to it must stay on their link (RFC 9484 §7.2): 169.254.0.0/16, 224.0.0.0/24,
/// fe80::/10, and IPv6 groups of no wider scope, whatever their flags (ff02::/16, ff01::/16, ff12::/16 …;
/// RFC 4291 §2.7).
#[inline]
#[must_use]
pub fn is_link_local(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            address.is_link_local() || matches!(address.octets(), [224, 0, 0, _])
        }
        IpAddr::V6(address) => address.is_unicast_link_local() || is_link_local_group(address),
    }
}

/// Whether it stands for several hosts: multicast, or the IPv4 broadcast of every link. The broadcast
/// address of a network looks like a host's to those who do not know its prefix.
#[inline]
#[must_use]
pub fn is_group(address: IpAddr) -> bool {
    let address = address.to_canonical();
    address.is_multicast() || address == Ipv4Addr::BROADCAST
}

/// Whether it can be one host elsewhere, and so be answered (RFC 1122 §3.2.2, RFC 4443 §2.4): no group,
/// not loopback, not unspecified (in IPv4, all of 0.0.0.0/8), not IPv4's reserved class E.
#[inline]
#[must_use]
pub fn is_single_host(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => !matches!(address.octets()[0], 0 | 127 | 224..),
        IpAddr::V6(address) => {
            !address.is_unspecified() && !address.is_loopback() && !address.is_multicast()
        }
    }
}

/// Scope 0 is reserved, and to be treated as 1, which is the interface; 2 is the link.
fn is_link_local_group(address: Ipv6Addr) -> bool {
    let [first, flags_and_scope, ..] = address.octets();
    first == 0xff && flags_and_scope & 0x0f <= 2
}
