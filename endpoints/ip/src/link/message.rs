//! What is said to the kernel.

use ipnetwork::IpNetwork;
use rtnetlink::LinkUnspec;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage,
};
use rtnetlink::packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute, LinkMessage,
};
use rtnetlink::packet_route::route::{
    RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};

use super::{LinkAddress, ROUTE_PROTOCOL};

pub(super) fn up(index: u32, queue_len: u32) -> LinkMessage {
    LinkUnspec::new_with_index(index)
        .txqueuelen(queue_len)
        .up()
        .build()
}

pub(super) fn mtu(index: u32, mtu: u32) -> LinkMessage {
    LinkUnspec::new_with_index(index).mtu(mtu).build()
}

pub(super) fn no_address_generation(index: u32) -> LinkMessage {
    let inet6 = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
    let families = vec![AfSpecUnspec::Inet6(vec![inet6])];
    LinkUnspec::new_with_index(index)
        .append_extra_attribute(LinkAttribute::AfSpecUnspec(families))
        .build()
}

pub(super) fn address(index: u32, address: &LinkAddress) -> AddressMessage {
    let local = address.local.ip();
    // Routes come from the state alone. Nobody else can have the address of a tunnel's end.
    let mut flags = AddressFlags::Noprefixroute;
    if local.is_ipv6() {
        flags |= AddressFlags::Nodad;
    }
    let mut message = AddressMessage::default();
    message.header.family = family(local.is_ipv6());
    message.header.prefix_len = address.local.prefix();
    message.header.index = index;
    message.header.flags = AddressHeaderFlags::from_bits_truncate(flags.bits() as u8);
    message.attributes = vec![
        AddressAttribute::Local(local),
        AddressAttribute::Address(address.peer.unwrap_or(local)),
        AddressAttribute::Flags(flags),
    ];
    message
}

pub(super) fn route(index: u32, destination: IpNetwork) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: family(destination.is_ipv6()),
        destination_prefix_length: destination.prefix(),
        table: RouteHeader::RT_TABLE_MAIN,
        protocol: RouteProtocol::Other(ROUTE_PROTOCOL),
        // There is no gateway: whatever the packet, the interface takes it.
        scope: RouteScope::Link,
        kind: RouteType::Unicast,
        ..RouteHeader::default()
    };
    message.attributes = vec![
        RouteAttribute::Destination(destination.network().into()),
        RouteAttribute::Oif(index),
    ];
    message
}

pub(super) fn family(is_v6: bool) -> AddressFamily {
    if is_v6 {
        AddressFamily::Inet6
    } else {
        AddressFamily::Inet
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_brings_no_route_and_waits_for_nobody() {
        for (local, peer) in [("10.76.0.1/24", None), ("fd76::1/64", Some("fd76::2"))] {
            let wanted = LinkAddress {
                local: local.parse().unwrap(),
                peer: peer.map(|peer| peer.parse().unwrap()),
            };
            let message = address(7, &wanted);
            let is_v6 = wanted.local.is_ipv6();
            let local = wanted.local.ip();
            assert!(message.attributes.contains(&AddressAttribute::Local(local)));
            let peer = AddressAttribute::Address(wanted.peer.unwrap_or(local));
            assert!(message.attributes.contains(&peer));
            let mut flags = AddressFlags::Noprefixroute;
            flags.set(AddressFlags::Nodad, is_v6);
            assert!(message.attributes.contains(&AddressAttribute::Flags(flags)));
            assert_eq!(message.header.prefix_len, wanted.local.prefix());
        }
    }

    #[test]
    fn a_route_bears_our_mark() {
        let message = route(7, "10.1.2.3/8".parse().unwrap());
        assert_eq!(message.header.protocol, RouteProtocol::Other(b'P'));
        assert_eq!(message.header.destination_prefix_length, 8);
        let destination = std::net::Ipv4Addr::new(10, 0, 0, 0);
        let destination = RouteAttribute::Destination(std::net::IpAddr::from(destination).into());
        assert!(message.attributes.contains(&destination));
    }
}
