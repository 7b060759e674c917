use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use ipnetwork::IpNetwork;
use pasque::policy::{EgressPolicy, HostPolicy};

use super::*;
use crate::icmp::{Problem, error};
use crate::packet::testing::{extension, fragment, readdressed, v4, v6};
use crate::packet::{ICMP, ICMP_V6, TCP, UDP, parse};
use crate::routes::Routes;
use crate::scope::Scope;

const CLIENT: &str = "10.76.0.2";
const CLIENT_V6: &str = "fd76::2";
const TARGET: &str = "198.51.100.2";
const TARGET_V6: &str = "2001:db8::2";
/// The port that the server listens on.
const LISTENER: u16 = 4433;

fn networks(texts: &[&str]) -> Vec<IpNetwork> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// An endpoint with pools 10.76.0.1/24 and fd76::1/64 that offers everything.
struct Fixture {
    scope: Scope,
    routes: Vec<&'static str>,
    accepted: Vec<&'static str>,
    client_to_client: bool,
    deny: Vec<&'static str>,
}

impl Default for Fixture {
    fn default() -> Self {
        Self {
            scope: Scope::everything(),
            routes: vec!["0.0.0.0/0", "::/0"],
            accepted: Vec::new(),
            client_to_client: false,
            deny: Vec::new(),
        }
    }
}

impl Fixture {
    fn filter(&self) -> ServerFilter {
        let pools = networks(&["10.76.0.0/24", "fd76::/64"]);
        let own = networks(&["10.76.0.1/32", "fd76::1/128"]);
        let own: Vec<_> = own.iter().map(IpNetwork::ip).collect();
        let routes = networks(&self.routes);
        let rules = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let allow = rules(&["198.51.100.0/24", "2001:db8::/32"]);
        let policy = EgressPolicy::new(allow, rules(&self.deny))
            .open(&[routes.clone(), pools.clone()].concat());
        let listeners = vec![SocketAddr::from(([0; 4], LISTENER))];
        let accepted = networks(&self.accepted);
        let rules = ServerRules {
            own: own.clone(),
            clients: Arc::new(Clients::new([pools, accepted.clone()].concat())),
            client_to_client: self.client_to_client,
            policy: HostPolicy::new(policy, listeners, own).unwrap(),
        };
        let routes = Routes::from_config(&routes).within(&self.scope);
        let mut filter = ServerFilter::new(Arc::new(rules), self.scope.clone(), routes);
        let assigned = networks(&["10.76.0.2/32", "fd76::2/128"]);
        filter.set_client(&assigned, Routes::from_config(&accepted));
        filter
    }
}

fn scope(prefix: &str, protocol: Option<u8>) -> Scope {
    Scope::new(Some(networks(&[prefix])), protocol)
}

/// A packet of this protocol; its first bytes are ports or an echo request.
fn packet(source: &str, destination: &str, protocol: u8, port: u16) -> Vec<u8> {
    let [a, b] = port.to_be_bytes();
    let body = match protocol {
        ICMP => [8, 0, 0, 0, 0, 1, 0, 1],
        ICMP_V6 => [128, 0, 0, 0, 0, 1, 0, 1],
        _ => [0x12, 0x34, a, b, 0, 8, 0, 0],
    };
    let packet = match source.contains(':') {
        true => v6(protocol, &body),
        false => v4(protocol, 0x4000, &[], &body),
    };
    readdressed(packet, source, destination)
}

fn udp(source: &str, destination: &str) -> Vec<u8> {
    packet(source, destination, UDP, 53)
}

fn outward(filter: &mut ServerFilter, packet: &[u8]) -> Result<Way, Rejection> {
    filter.outward(packet, &parse(packet).unwrap(), Instant::now())
}

fn inward(filter: &ServerFilter, packet: &[u8]) -> Result<(), Rejection> {
    filter.inward(packet, &parse(packet).unwrap())
}

/// An ICMP error from `router` about `quoted`.
fn icmp_error(router: &str, quoted: &[u8]) -> Vec<u8> {
    let problem = match router.contains(':') {
        true => Problem::TooBig { mtu: 1280 },
        false => Problem::HopLimit,
    };
    let header = parse(quoted).unwrap();
    let error = error(problem, quoted, &header, router.parse().unwrap());
    error.unwrap().to_vec()
}

const PROHIBITED: Option<Problem> = Some(Problem::Prohibited);
const NO_ROUTE: Option<Problem> = Some(Problem::NoRoute);
const NOT_ALLOWED: Option<Problem> = Some(Problem::SourceNotAllowed);

fn rejection<T>(reason: DropReason, problem: Option<Problem>) -> Result<T, Rejection> {
    Err(Rejection { reason, problem })
}

#[test]
fn ip_42_a_source_that_is_not_the_clients_is_refused() {
    let mut filter = Fixture::default().filter();
    for (source, target) in [(CLIENT, TARGET), (CLIENT_V6, TARGET_V6)] {
        assert_eq!(outward(&mut filter, &udp(source, target)), Ok(Way::On));
    }
    for source in [
        "10.76.0.3",
        "10.76.0.1",
        "198.51.100.9",
        "127.0.0.1",
        "0.0.0.0",
        "224.1.2.3",
        "255.255.255.255",
        "240.0.0.1",
    ] {
        let verdict = outward(&mut filter, &udp(source, TARGET));
        assert_eq!(
            verdict,
            rejection(DropReason::SourceNotAssigned, NOT_ALLOWED),
            "{source}"
        );
    }
    for source in [
        "fd76::3",
        "fd76::1",
        "2001:db8::9",
        "::1",
        "::",
        "ff0e::1",
        "::ffff:10.76.0.2",
    ] {
        let verdict = outward(&mut filter, &udp(source, TARGET_V6));
        assert_eq!(
            verdict,
            rejection(DropReason::SourceNotAssigned, NOT_ALLOWED),
            "{source}"
        );
    }
}

#[test]
fn ip_42_sources_in_an_accepted_route_pass_and_no_others() {
    let fixture = Fixture {
        accepted: vec!["192.168.7.0/24"],
        ..Fixture::default()
    };
    let mut filter = fixture.filter();
    assert_eq!(
        outward(&mut filter, &udp("192.168.7.9", TARGET)),
        Ok(Way::On)
    );
    assert!(outward(&mut filter, &udp("192.168.8.9", TARGET)).is_err());
    let answer = udp(TARGET, "192.168.7.9");
    assert_eq!(inward(&filter, &answer), Ok(()));
    filter.set_client(&networks(&["10.76.0.2/32"]), Routes::default());
    assert!(outward(&mut filter, &udp("192.168.7.9", TARGET)).is_err());
    assert!(inward(&filter, &answer).is_err());
}

#[test]
fn ip_44_a_destination_outside_the_advertised_routes_is_refused() {
    let fixture = Fixture {
        routes: vec!["10.76.0.0/24", "198.51.100.0/25"],
        ..Fixture::default()
    };
    let mut filter = fixture.filter();
    assert_eq!(
        outward(&mut filter, &udp(CLIENT, "198.51.100.127")),
        Ok(Way::On)
    );
    assert_eq!(
        outward(&mut filter, &udp(CLIENT, "198.51.100.128")),
        rejection(DropReason::NoRoute, NO_ROUTE)
    );
    assert_eq!(
        outward(&mut filter, &udp(CLIENT_V6, TARGET_V6)),
        rejection(DropReason::NoRoute, NO_ROUTE)
    );
}

#[test]
fn ip_10_the_scope_holds_outward() {
    let fixture = Fixture {
        scope: scope("198.51.100.2/32", Some(UDP)),
        ..Fixture::default()
    };
    let mut filter = fixture.filter();
    assert_eq!(outward(&mut filter, &udp(CLIENT, TARGET)), Ok(Way::On));
    let echo = |to| packet(CLIENT, to, ICMP, 0);
    assert_eq!(
        outward(&mut filter, &echo(TARGET)),
        Ok(Way::On),
        "ICMP is exempt"
    );
    let refused = rejection(DropReason::Scope, PROHIBITED);
    assert_eq!(
        outward(&mut filter, &packet(CLIENT, TARGET, TCP, 80)),
        refused
    );
    assert_eq!(outward(&mut filter, &echo("198.51.100.3")), refused);
    assert_eq!(outward(&mut filter, &udp(CLIENT, "198.51.100.3")), refused);
    assert_eq!(
        outward(&mut filter, &packet(CLIENT, TARGET, ICMP_V6, 0)),
        refused
    );
}

#[test]
fn ip_10_no_protocol_hides_behind_extension_headers() {
    let fixture = Fixture {
        scope: scope("2001:db8::/32", Some(UDP)),
        ..Fixture::default()
    };
    let mut filter = fixture.filter();
    let body = [0x12, 0x34, 0, 80, 0, 8, 0, 0];
    for (protocol, passes) in [(UDP, true), (TCP, false)] {
        let hidden = v6(60, &[extension(protocol), body].concat());
        let hidden = readdressed(hidden, CLIENT_V6, TARGET_V6);
        assert_eq!(outward(&mut filter, &hidden).is_ok(), passes);
        // A later fragment is of the protocol that its header names.
        let later = v6(44, &[fragment(protocol, 8, false), body].concat());
        let later = readdressed(later, CLIENT_V6, TARGET_V6);
        assert_eq!(outward(&mut filter, &later).is_ok(), passes);
    }
    // What nobody can tell the protocol of is of no protocol that was asked for.
    let opaque = v6(44, &[fragment(60, 8, false), body].concat());
    let opaque = readdressed(opaque, CLIENT_V6, TARGET_V6);
    assert_eq!(
        outward(&mut filter, &opaque),
        rejection(DropReason::Scope, PROHIBITED)
    );
}

#[test]
fn ip_10_the_scope_holds_inward_and_errors_are_judged_by_what_they_quote() {
    let fixture = Fixture {
        scope: scope("198.51.100.2/32", Some(UDP)),
        ..Fixture::default()
    };
    let filter = fixture.filter();
    assert_eq!(inward(&filter, &udp(TARGET, CLIENT)), Ok(()));
    let refused = rejection(DropReason::Scope, None);
    assert_eq!(inward(&filter, &packet(TARGET, CLIENT, TCP, 80)), refused);
    assert_eq!(inward(&filter, &udp("198.51.100.3", CLIENT)), refused);

    let router = "192.0.2.254";
    assert_eq!(
        inward(&filter, &icmp_error(router, &udp(CLIENT, TARGET))),
        Ok(())
    );
    for quoted in [packet(CLIENT, TARGET, TCP, 80), udp(CLIENT, "198.51.100.3")] {
        assert_eq!(inward(&filter, &icmp_error(router, &quoted)), refused);
        assert_eq!(
            inward(&filter, &icmp_error(TARGET, &quoted)),
            refused,
            "from the target"
        );
    }
    // About a packet of somebody else: to this client by its destination, but none of its business.
    let foreign = readdressed(
        icmp_error(router, &udp("10.76.0.3", TARGET)),
        router,
        CLIENT,
    );
    assert_eq!(inward(&filter, &foreign), refused);
}

#[test]
fn ip_56_an_error_goes_to_the_tunnel_whose_scope_fits_the_quoted_packet() {
    let tunnel = |protocol| {
        let fixture = Fixture {
            scope: Scope::new(None, Some(protocol)),
            ..Fixture::default()
        };
        fixture.filter()
    };
    let (of_udp, of_tcp) = (tunnel(UDP), tunnel(TCP));
    for (source, target, router) in [
        (CLIENT, TARGET, "192.0.2.254"),
        (CLIENT_V6, TARGET_V6, "2001:db8:ffff::1"),
    ] {
        for (protocol, fits) in [(UDP, [true, false]), (TCP, [false, true])] {
            let error = icmp_error(router, &packet(source, target, protocol, 53));
            let passed = [&of_udp, &of_tcp].map(|filter| inward(filter, &error).is_ok());
            assert_eq!(passed, fits);
        }
    }
}

#[test]
fn ip_55_packet_too_big_from_any_router_passes() {
    let filter = Fixture::default().filter();
    let error = icmp_error("2001:db8:ffff::1", &udp(CLIENT_V6, TARGET_V6));
    assert_eq!(inward(&filter, &error), Ok(()));

    let mut client = ClientFilter::new(Routes::default());
    client.set_held(&networks(&["fd76::2/128"]));
    let header = parse(&error).unwrap();
    assert_eq!(client.outward(&error, &header), Ok(Way::On));
}

#[test]
fn ip_49_nothing_link_local_passes_in_either_direction() {
    let mut filter = Fixture::default().filter();
    let refused = || rejection(DropReason::LinkLocal, None);
    for (source, destination) in [
        (CLIENT, "169.254.1.1"),
        (CLIENT, "224.0.0.251"),
        ("169.254.1.1", TARGET),
        (CLIENT_V6, "fe80::1"),
        (CLIENT_V6, "ff02::fb"),
        (CLIENT_V6, "ff12::1"),
        ("fe80::2", TARGET_V6),
        ("fe80::2", "ff02::1"),
    ] {
        let packet = udp(source, destination);
        assert_eq!(
            outward(&mut filter, &packet),
            rejection(DropReason::LinkLocal, None)
        );
        assert_eq!(inward(&filter, &packet), refused());
    }
    // Every node of the link is also this one.
    assert_eq!(
        outward(&mut filter, &udp(CLIENT_V6, "ff02::1")),
        Ok(Way::Here)
    );
    assert_eq!(inward(&filter, &udp(CLIENT_V6, "ff02::1")), refused());
    let spoofed = outward(&mut filter, &udp("fd76::3", "ff02::1"));
    assert_eq!(
        spoofed,
        rejection(DropReason::SourceNotAssigned, NOT_ALLOWED)
    );
}

#[test]
fn ip_66_neighbour_and_router_discovery_is_dropped_silently() {
    let mut filter = Fixture::default().filter();
    let mut client = ClientFilter::new(Routes::default());
    client.set_held(&networks(&["fd76::2/128"]));
    for kind in 133..=137 {
        for (source, destination) in [
            ("::", "ff02::2"),
            (CLIENT_V6, "ff02::1"),
            (CLIENT_V6, TARGET_V6),
        ] {
            let packet = v6(ICMP_V6, &[kind, 0, 0, 0, 0, 0, 0, 0]);
            let packet = readdressed(packet, source, destination);
            let header = parse(&packet).unwrap();
            let refused = DropReason::NeighbourDiscovery.silently();
            assert_eq!(outward(&mut filter, &packet), Err(refused));
            assert_eq!(inward(&filter, &packet), Err(refused));
            assert_eq!(client.outward(&packet, &header), Err(refused));
            assert_eq!(client.inward(&packet, &header), Err(refused));
        }
    }
}

#[test]
fn ip_50_closed_ranges_stay_closed_behind_a_default_route() {
    let mut filter = Fixture::default().filter();
    for destination in [
        "127.0.0.1",
        "0.0.0.1",
        "10.0.0.1",
        "100.64.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "192.0.2.1",
        "198.18.0.1",
        "203.0.113.1",
    ] {
        assert_eq!(
            outward(&mut filter, &udp(CLIENT, destination)),
            rejection(DropReason::Policy, PROHIBITED),
            "{destination}"
        );
    }
    for destination in [
        "::1",
        "fd00::1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::1",
        "::ffff:127.0.0.1",
    ] {
        assert_eq!(
            outward(&mut filter, &udp(CLIENT_V6, destination)),
            rejection(DropReason::Policy, PROHIBITED),
            "{destination}"
        );
    }
    for public in ["9.9.9.9", "1.1.1.1"] {
        assert_eq!(outward(&mut filter, &udp(CLIENT, public)), Ok(Way::On));
    }
}

#[test]
fn ip_50_a_route_that_names_a_closed_range_opens_it_but_never_this_host() {
    let fixture = Fixture {
        routes: vec!["10.0.0.0/8", "127.0.0.0/8", "192.168.0.0/16", "fd00::/8"],
        deny: vec!["192.168.9.0/24", "*:25"],
        ..Fixture::default()
    };
    let mut filter = fixture.filter();
    for destination in ["10.1.2.3", "192.168.1.1"] {
        assert_eq!(outward(&mut filter, &udp(CLIENT, destination)), Ok(Way::On));
    }
    let refused = rejection(DropReason::Policy, PROHIBITED);
    assert_eq!(
        outward(&mut filter, &udp(CLIENT, "127.0.0.1")),
        refused,
        "this host"
    );
    assert_eq!(
        outward(&mut filter, &udp(CLIENT, "192.168.9.1")),
        refused,
        "a deny rule"
    );
    let mail = packet(CLIENT, "10.1.2.3", TCP, 25);
    assert_eq!(
        outward(&mut filter, &mail),
        refused,
        "a deny rule on a port"
    );
}

#[test]
fn ip_50_of_the_servers_own_addresses_only_that_in_the_tunnel_is_reached() {
    let mut filter = Fixture::default().filter();
    for own in ["10.76.0.1", "fd76::1"] {
        let source = if own.contains(':') { CLIENT_V6 } else { CLIENT };
        assert_eq!(outward(&mut filter, &udp(source, own)), Ok(Way::On));
        assert_eq!(inward(&filter, &udp(own, source)), Ok(()));
    }
    // The addresses of this machine, whatever they are, behind routes that open their ranges.
    let fixture = Fixture {
        routes: vec![
            "0.0.0.0/1",
            "128.0.0.0/1",
            "10.0.0.0/8",
            "172.16.0.0/12",
            "192.168.0.0/16",
        ],
        ..Fixture::default()
    };
    let mut filter = fixture.filter();
    let local = pasque::policy::LocalAddresses::detect(Vec::new()).unwrap();
    for own in local.interfaces.iter().filter(|own| own.is_ipv4()) {
        let verdict = outward(&mut filter, &udp(CLIENT, &own.ip().to_string()));
        assert_eq!(verdict, rejection(DropReason::Policy, PROHIBITED), "{own}");
    }
}

#[test]
fn ip_69_clients_do_not_reach_each_other_unless_they_may() {
    let mut filter = Fixture::default().filter();
    for destination in ["10.76.0.3", "10.76.0.255"] {
        assert_eq!(
            outward(&mut filter, &udp(CLIENT, destination)),
            rejection(DropReason::OtherClient, PROHIBITED)
        );
        assert_eq!(
            inward(&filter, &udp(destination, CLIENT)),
            rejection(DropReason::OtherClient, None)
        );
    }
    let fixture = Fixture {
        client_to_client: true,
        ..Fixture::default()
    };
    let mut filter = fixture.filter();
    let mut other = filter.rules().clients.join();
    other.set(&networks(&["10.76.0.3/32"]));
    assert_eq!(
        outward(&mut filter, &udp(CLIENT, "10.76.0.3")),
        Ok(Way::Across)
    );
    assert_eq!(inward(&filter, &udp("10.76.0.3", CLIENT)), Ok(()));
    assert_eq!(
        outward(&mut filter, &udp(CLIENT, "10.76.0.4")),
        rejection(DropReason::NoRoute, NO_ROUTE),
        "nobody is there"
    );
}

#[test]
fn ip_69_nothing_comes_back_to_its_own_tunnel() {
    for client_to_client in [false, true] {
        let fixture = Fixture {
            client_to_client,
            accepted: vec!["192.168.7.0/24"],
            ..Fixture::default()
        };
        let mut filter = fixture.filter();
        for (source, destination) in [
            (CLIENT, CLIENT),
            (CLIENT, "192.168.7.1"),
            ("192.168.7.1", "192.168.7.2"),
            (CLIENT_V6, CLIENT_V6),
        ] {
            let packet = udp(source, destination);
            let refused = DropReason::OwnTunnel.silently();
            assert_eq!(outward(&mut filter, &packet), Err(refused));
            assert_eq!(inward(&filter, &packet), Err(refused));
        }
    }
}

#[test]
fn ip_71_groups_are_reached_only_where_a_route_says_so() {
    let mut filter = Fixture::default().filter();
    for (source, group) in [
        (CLIENT, "239.1.1.1"),
        (CLIENT, "255.255.255.255"),
        (CLIENT_V6, "ff0e::1"),
    ] {
        assert_eq!(
            outward(&mut filter, &udp(source, group)),
            rejection(DropReason::Multicast, None),
            "{group}"
        );
    }
    let fixture = Fixture {
        routes: vec!["239.0.0.0/8", "10.76.0.0/24"],
        ..Fixture::default()
    };
    let mut filter = fixture.filter();
    assert_eq!(outward(&mut filter, &udp(CLIENT, "239.1.1.1")), Ok(Way::On));
}

#[test]
fn inward_packets_are_for_the_client_and_from_where_it_may_send_to() {
    let fixture = Fixture {
        routes: vec!["10.76.0.0/24", "198.51.100.0/24"],
        ..Fixture::default()
    };
    let filter = fixture.filter();
    assert_eq!(inward(&filter, &udp(TARGET, CLIENT)), Ok(()));
    let refused = |reason| rejection(reason, None);
    assert_eq!(
        inward(&filter, &udp(TARGET, "10.76.0.3")),
        refused(DropReason::DestinationNotAssigned)
    );
    assert_eq!(
        inward(&filter, &udp("9.9.9.9", CLIENT)),
        refused(DropReason::NoRoute)
    );
}

#[test]
fn ip_43_a_client_takes_only_what_is_for_it() {
    let mut filter = ClientFilter::new(Routes::from_config(&networks(&["192.168.7.0/24"])));
    filter.set_held(&networks(&["10.76.0.2/32"]));
    let outward = |packet: &[u8]| filter.outward(packet, &parse(packet).unwrap());
    assert_eq!(outward(&udp(TARGET, CLIENT)), Ok(Way::On));
    assert_eq!(outward(&udp(TARGET, "192.168.7.9")), Ok(Way::On));
    for destination in ["10.76.0.3", "192.168.8.1", "239.1.1.1", "127.0.0.1"] {
        assert_eq!(
            outward(&udp(TARGET, destination)),
            rejection(DropReason::DestinationNotAssigned, None),
            "{destination}"
        );
    }
    assert_eq!(
        outward(&udp(CLIENT, CLIENT)),
        rejection(DropReason::OwnTunnel, None)
    );
}

#[test]
fn a_client_sends_what_the_proxy_takes_and_tells_who_sends_other_things() {
    let mut filter = ClientFilter::new(Routes::default());
    let inward =
        |filter: &ClientFilter, packet: &[u8]| filter.inward(packet, &parse(packet).unwrap());
    let packet = udp(CLIENT, TARGET);
    assert_eq!(
        inward(&filter, &packet),
        rejection(DropReason::SourceNotAssigned, None),
        "there is no address yet"
    );
    filter.set_held(&networks(&["10.76.0.2/32"]));
    assert_eq!(
        inward(&filter, &packet),
        Ok(()),
        "the proxy has said nothing about routes"
    );
    assert_eq!(
        inward(&filter, &udp(CLIENT, "239.1.1.1")),
        rejection(DropReason::Multicast, None)
    );
    assert_eq!(
        inward(&filter, &udp("192.168.1.1", TARGET)),
        rejection(DropReason::SourceNotAssigned, NOT_ALLOWED)
    );
    filter.set_routes(Routes::from_config(&networks(&["203.0.113.0/24"])));
    assert_eq!(
        inward(&filter, &packet),
        rejection(DropReason::NoRoute, NO_ROUTE)
    );
    assert_eq!(inward(&filter, &udp(CLIENT, "203.0.113.5")), Ok(()));
    assert_eq!(
        inward(&filter, &udp(CLIENT, CLIENT)),
        rejection(DropReason::OwnTunnel, None)
    );
}
