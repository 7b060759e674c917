//! The route by which the host reaches one address, kept when others are laid over it.

use std::cmp::Reverse;
use std::io;
use std::net::IpAddr;

use futures_util::TryStreamExt;
use ipnetwork::IpNetwork;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteScope, RouteType,
    RouteVia,
};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::connection::{connect, to_io};
use super::{ROUTE_PROTOCOL, is_absent, message};

/// `RTNH_F_ONLINK`: the router is not looked for among the networks of the interface.
const ONLINK: u32 = 4;

/// How the host reaches one address. It can be written down, so that a route that outlived its
/// program is removed by the next one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HostRoute {
    /// The address.
    pub destination: IpAddr,
    /// The next router, unless the address is on the link itself.
    pub gateway: Option<IpAddr>,
    /// The index of the interface.
    pub interface: u32,
    /// The routing protocol number that the route gets: [`ROUTE_PROTOCOL`].
    pub protocol: u8,
    /// Whether the address is the host's own. No other route ever leads there.
    pub is_local: bool,
}

/// How the host reaches `address` now.
///
/// # Errors
/// It does not (`NetworkUnreachable`, `HostUnreachable`), or there is no netlink socket to be had.
pub async fn route_to(address: IpAddr) -> io::Result<HostRoute> {
    let length = if address.is_ipv6() { 128 } else { 32 };
    let request = RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(address, length)
        .map_err(io::Error::other)?
        .build();
    // The connection ends with its handle, whether or not it was answered.
    let handle = connect()?;
    let replies = handle.route().get(request).execute();
    let routes: Vec<RouteMessage> = to_io(replies.try_collect().await)?;
    routes
        .first()
        .and_then(|route| parse(address, route))
        .ok_or_else(|| Errno::NETUNREACH.into())
}

/// How the host would reach `address` if neither the interface of index `interface` were there nor any
/// route that bears our mark: by the best route of the main table whose link is up.
///
/// # Errors
/// There is none (`NetworkUnreachable`), or there is no netlink socket to be had.
pub async fn route_outside(address: IpAddr, interface: u32) -> io::Result<HostRoute> {
    let routes = all_routes(address.is_ipv6()).await?;
    best_outside(address, interface, &routes).ok_or_else(|| Errno::NETUNREACH.into())
}

/// The entry that [`add_host_route`] has made for `address`, whichever program called it.
///
/// # Errors
/// There is no netlink socket to be had.
pub async fn added_host_route(address: IpAddr) -> io::Result<Option<HostRoute>> {
    Ok(added(address, &all_routes(address.is_ipv6()).await?))
}

async fn all_routes(is_v6: bool) -> io::Result<Vec<RouteMessage>> {
    let mut request = RouteMessage::default();
    request.header.address_family = message::family(is_v6);
    let handle = connect()?;
    let routes = handle.route().get(request).execute();
    to_io(routes.try_collect().await)
}

fn added(address: IpAddr, routes: &[RouteMessage]) -> Option<HostRoute> {
    let length = if address.is_ipv6() { 128 } else { 32 };
    let is_entry = |route: &&RouteMessage| {
        let header = &route.header;
        header.table == RouteHeader::RT_TABLE_MAIN
            && header.destination_prefix_length == length
            && is_ours(route)
            && covers(route, address)
    };
    let entry = routes.iter().find(is_entry)?;
    parse(address, entry)
}

/// Whether it bears our mark. Those that lead into another client's tunnel do, too: of two that lead
/// their servers into each other, nothing would leave the host any more.
fn is_ours(route: &RouteMessage) -> bool {
    route.header.protocol == ROUTE_PROTOCOL.into()
}

/// Of `routes`, that which the kernel would take: the longest prefix, and of those the least metric.
fn best_outside(address: IpAddr, interface: u32, routes: &[RouteMessage]) -> Option<HostRoute> {
    let is_usable = |route: &&RouteMessage| {
        let header = &route.header;
        let is_down = RouteFlags::Dead | RouteFlags::Linkdown;
        header.table == RouteHeader::RT_TABLE_MAIN
            && !is_ours(route)
            && !header.flags.intersects(is_down)
            && covers(route, address)
    };
    let usable = routes.iter().filter(is_usable);
    let found = usable.filter_map(|route| Some((route, parse(address, route)?)));
    let elsewhere = found.filter(|(_, found)| found.interface != interface);
    let best = elsewhere.min_by_key(|(route, _)| {
        let prefix = route.header.destination_prefix_length;
        (Reverse(prefix), metric(route))
    });
    best.map(|(_, found)| found)
}

fn covers(route: &RouteMessage, address: IpAddr) -> bool {
    let destination = route
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(to)) => Some(IpAddr::from(*to)),
            RouteAttribute::Destination(RouteAddress::Inet6(to)) => Some(IpAddr::from(*to)),
            _ => None,
        });
    let prefix = route.header.destination_prefix_length;
    match destination {
        Some(to) => IpNetwork::new(to, prefix).is_ok_and(|network| network.contains(address)),
        // A default route has none.
        None => prefix == 0,
    }
}

fn metric(route: &RouteMessage) -> u32 {
    let mut attributes = route.attributes.iter();
    let metric = attributes.find_map(|attribute| match attribute {
        RouteAttribute::Priority(metric) => Some(*metric),
        _ => None,
    });
    metric.unwrap_or_default()
}

/// Gives `route` an entry of its own in the main table, before which every shorter prefix steps
/// back. Does nothing for an address of the host.
///
/// # Errors
/// `AlreadyExists` if the address has such an entry; it is not ours, and does the same service.
pub async fn add_host_route(route: &HostRoute) -> io::Result<()> {
    if route.is_local {
        return Ok(());
    }
    let handle = connect()?;
    let mut message = entry(route);
    let added = to_io(handle.route().add(message.clone()).execute().await);
    match added {
        // The router is on the link though no network of the interface covers it: the kernel said so
        // itself, by the route that it was asked for.
        Err(error) if route.gateway.is_some() && is_unreachable(&error) => {
            message.header.flags |= RouteFlags::from_bits_retain(ONLINK);
            to_io(handle.route().add(message).execute().await)
        }
        added => added,
    }
}

/// Removes what [`add_host_route`] added, and nothing else. It is no error if it is not there.
///
/// # Errors
/// What the kernel says.
pub async fn remove_host_route(route: &HostRoute) -> io::Result<()> {
    if route.is_local {
        return Ok(());
    }
    let request = connect()?.route().del(entry(route));
    match to_io(request.execute().await) {
        // With the interface its routes are gone.
        Err(error) if is_absent(&error) || super::is_gone(&error) => Ok(()),
        result => result,
    }
}

fn is_unreachable(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::NETUNREACH | Errno::HOSTUNREACH | Errno::INVAL)
    )
}

fn parse(destination: IpAddr, route: &RouteMessage) -> Option<HostRoute> {
    let is_local = match route.header.kind {
        RouteType::Unicast => false,
        RouteType::Local => true,
        _ => return None,
    };
    let address = |address: &RouteAddress| match address {
        RouteAddress::Inet(address) => Some(IpAddr::from(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::from(*address)),
        _ => None,
    };
    let mut found = HostRoute {
        destination,
        gateway: None,
        interface: 0,
        protocol: ROUTE_PROTOCOL,
        is_local,
    };
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Gateway(gateway) => found.gateway = address(gateway),
            // The next router may be known by an address of the other family.
            RouteAttribute::Via(RouteVia::Inet6(gateway)) => {
                found.gateway = Some((*gateway).into())
            }
            RouteAttribute::Oif(index) => found.interface = *index,
            _ => {}
        }
    }
    (found.interface != 0).then_some(found)
}

fn entry(route: &HostRoute) -> RouteMessage {
    let destination = IpNetwork::from(route.destination);
    let mut message = message::route(route.interface, destination);
    message.header.protocol = route.protocol.into();
    if let Some(gateway) = route.gateway {
        message.header.scope = RouteScope::Universe;
        message.attributes.push(match gateway {
            IpAddr::V6(gateway) if route.destination.is_ipv4() => {
                RouteAttribute::Via(RouteVia::Inet6(gateway))
            }
            gateway => RouteAttribute::Gateway(gateway.into()),
        });
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_loopback_address_is_the_hosts_own_and_gets_no_route() {
        let route = route_to("127.0.0.1".parse().unwrap()).await.unwrap();
        assert!(route.is_local);
        // Neither asks the kernel for anything, which takes a privilege.
        add_host_route(&route).await.unwrap();
        remove_host_route(&route).await.unwrap();
    }

    #[test]
    fn a_route_is_added_as_it_was_found() {
        for (destination, gateway) in [
            ("192.0.2.1", None),
            ("192.0.2.1", Some("10.0.0.1")),
            ("192.0.2.1", Some("fe80::1")),
            ("2001:db8::1", None),
            ("2001:db8::1", Some("fe80::1")),
        ] {
            let route = HostRoute {
                destination: destination.parse().unwrap(),
                gateway: gateway.map(|gateway| gateway.parse().unwrap()),
                interface: 7,
                protocol: ROUTE_PROTOCOL,
                is_local: false,
            };
            let entry = entry(&route);
            assert_eq!(parse(route.destination, &entry), Some(route.clone()));
            let length = if route.destination.is_ipv4() { 32 } else { 128 };
            assert_eq!(entry.header.destination_prefix_length, length);
            // Only what is directly reached may be said to be on the link (`ip-route(8)`).
            let is_on_link = entry.header.scope == RouteScope::Link;
            assert_eq!(is_on_link, route.gateway.is_none());
            let json = serde_json::to_string(&route).unwrap();
            assert_eq!(serde_json::from_str::<HostRoute>(&json).unwrap(), route);
        }
    }

    #[test]
    fn the_best_way_outside_is_the_one_that_the_kernel_would_take() {
        let route = |to: &str, interface, metric| {
            let mut message = message::route(interface, to.parse().unwrap());
            message.header.protocol = 3.into();
            message.attributes.push(RouteAttribute::Priority(metric));
            message
        };
        let server = "192.0.2.1".parse().unwrap();
        let best =
            |routes: &[RouteMessage]| best_outside(server, 9, routes).map(|route| route.interface);
        let mut entry = route("192.0.2.1/32", 2, 0);
        entry.header.protocol = ROUTE_PROTOCOL.into();
        let mut down = route("192.0.2.0/25", 5, 0);
        down.header.flags = RouteFlags::Linkdown;
        let mut table = route("192.0.2.0/25", 6, 0);
        table.header.table = 7;
        let mut default = route("0.0.0.0/0", 2, 100);
        default.attributes.remove(0);
        let mut others = route("192.0.0.0/8", 8, 0);
        others.header.protocol = ROUTE_PROTOCOL.into();
        // The tunnel's own, another client's, what was kept outside before, and what leads elsewhere or
        // nowhere.
        let mut routes = vec![
            route("0.0.0.0/1", 9, 0),
            route("128.0.0.0/1", 9, 0),
            others,
            entry,
            down,
            table,
            route("198.51.100.0/24", 7, 0),
        ];
        assert_eq!(best(&routes), None);
        routes.push(default);
        assert_eq!(best(&routes), Some(2));
        routes.push(route("0.0.0.0/0", 3, 50));
        assert_eq!(best(&routes), Some(3));
        routes.push(route("192.0.2.0/24", 4, 900));
        assert_eq!(best(&routes), Some(4));
    }

    #[test]
    fn an_entry_of_ours_is_told_from_one_of_the_users() {
        let server: IpAddr = "192.0.2.1".parse().unwrap();
        let network = message::route(9, "192.0.2.0/24".parse().unwrap());
        let neighbour = message::route(2, "192.0.2.2/32".parse().unwrap());
        let ours = message::route(3, "192.0.2.1/32".parse().unwrap());
        let mut users = ours.clone();
        users.header.protocol = 4.into();
        let mut routes = vec![network, neighbour, users];
        assert_eq!(added(server, &routes), None);
        routes.push(ours);
        let found = added(server, &routes);
        assert_eq!(found.as_ref().map(|route| route.interface), Some(3));
        // The address that packets leave with belongs to no entry: the kernel tells it when it is asked.
        let mut told = message::route(3, "192.0.2.1/32".parse().unwrap());
        let source = RouteAddress::Inet([192, 0, 2, 9].into());
        told.attributes.push(RouteAttribute::PrefSource(source));
        assert_eq!(parse(server, &told), found);
    }

    #[test]
    fn what_leads_nowhere_is_no_route() {
        let mut message = message::route(7, "192.0.2.1/32".parse().unwrap());
        let destination = "192.0.2.1".parse().unwrap();
        assert!(parse(destination, &message).is_some());
        message.header.kind = RouteType::BlackHole;
        assert_eq!(parse(destination, &message), None);
        message.header.kind = RouteType::Unicast;
        message.attributes.clear();
        assert_eq!(parse(destination, &message), None);
    }
}
