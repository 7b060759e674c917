//! What an assigned prefix means for the interface.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

use super::choice::Families;
use crate::link::LinkAddress;

/// The address to ask for when any will do, of each of `families` (RFC 9484 §4.7.2).
pub(super) fn any_address(families: Families) -> impl Iterator<Item = IpNetwork> {
    let v4 = IpNetwork::from(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let v6 = IpNetwork::from(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    [(families.v4, v4), (families.v6, v6)]
        .into_iter()
        .filter_map(|(wanted, any)| wanted.then_some(any))
}

/// The address that the interface gets of a prefix that was assigned. Of a whole network that is
/// the first one for a host: the one before is the network's own in IPv4, and that of its routers
/// in IPv6 (RFC 4291 §2.6.1). The network is no route into the tunnel: it is on this side.
pub(super) fn link_address(assigned: &IpNetwork) -> LinkAddress {
    let local = match assigned {
        IpNetwork::V4(v4) if v4.prefix() < 31 => {
            Ipv4Addr::from_bits(v4.network().to_bits() + 1).into()
        }
        IpNetwork::V6(v6) if v6.prefix() < 127 => {
            Ipv6Addr::from_bits(v6.network().to_bits() + 1).into()
        }
        _ => assigned.network(),
    };
    LinkAddress {
        local: IpNetwork::from(local),
        peer: None,
    }
}

/// Whether a server may give the interface this address. Packets to an address of the host never
/// leave it: with the server's own, the connection would end, and loopback is taken.
pub(super) fn is_assignable(address: IpAddr, servers: &[IpAddr]) -> bool {
    let is_special = match address {
        IpAddr::V4(v4) => v4.is_broadcast() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !(is_special
        || address.is_unspecified()
        || address.is_loopback()
        || address.is_multicast()
        || servers.contains(&address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assigned_address_is_the_interfaces() {
        for (assigned, local) in [
            ("192.0.2.11/32", "192.0.2.11/32"),
            ("2001:db8::b/128", "2001:db8::b/128"),
            ("192.0.2.2/31", "192.0.2.2/32"),
            ("192.0.2.0/24", "192.0.2.1/32"),
            ("2001:db8:1::/64", "2001:db8:1::1/128"),
            ("2001:db8::a/127", "2001:db8::a/128"),
        ] {
            let expected = LinkAddress {
                local: local.parse().unwrap(),
                peer: None,
            };
            assert_eq!(link_address(&assigned.parse().unwrap()), expected);
        }
    }

    #[test]
    fn ip_22_an_address_is_asked_for_of_each_version_in_use() {
        let ask = |v4, v6| -> Vec<String> {
            let asked = any_address(Families { v4, v6 });
            asked.map(|prefix| prefix.to_string()).collect()
        };
        assert_eq!(ask(true, true), ["0.0.0.0/32", "::/128"]);
        assert_eq!(ask(false, true), ["::/128"]);
    }

    #[test]
    fn an_address_that_would_cut_the_host_off_is_not_taken() {
        let server = ["192.0.2.1".parse().unwrap()];
        for wrong in [
            "0.0.0.0",
            "127.0.0.1",
            "169.254.1.1",
            "224.0.0.1",
            "255.255.255.255",
            "192.0.2.1",
            "::",
            "::1",
            "fe80::1",
            "ff02::1",
        ] {
            assert!(!is_assignable(wrong.parse().unwrap(), &server), "{wrong}");
        }
        for good in ["192.0.2.2", "10.0.0.1", "fd76::2", "2001:db8::1"] {
            assert!(is_assignable(good.parse().unwrap(), &server), "{good}");
        }
    }
}
