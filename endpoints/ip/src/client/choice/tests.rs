use super::*;

const BOTH: Families = Families { v4: true, v6: true };

fn prefixes(texts: &[&str]) -> Vec<IpNetwork> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// What a server of ours advertises when it is configured with these prefixes.
fn offer(texts: &[&str]) -> Routes {
    Routes::from_config(&prefixes(texts))
}

fn offered(accept: &[&str], default_route: bool) -> RouteChoice {
    RouteChoice::Offered {
        accept: prefixes(accept),
        default_route,
    }
}

fn select(choice: &RouteChoice, offer: &Routes) -> Vec<String> {
    let routes = choice.select(offer, BOTH).unwrap();
    routes.iter().map(ToString::to_string).collect()
}

#[test]
fn ip_36_what_is_offered_is_taken_except_default_routes() {
    let choice = RouteChoice::default();
    let offer_of_networks = offer(&["10.0.0.0/8", "192.0.2.0/24", "fc00::/7", "2001:db8::/32"]);
    assert_eq!(
        select(&choice, &offer_of_networks),
        ["10.0.0.0/8", "192.0.2.0/24", "2001:db8::/32", "fc00::/7"]
    );
    for wide in [
        &["0.0.0.0/0", "::/0"][..],
        // The same in pieces.
        &["0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1"],
        &["16.0.0.0/8", "17.0.0.0/8", "2000::/3"],
    ] {
        assert_eq!(select(&choice, &offer(wide)), [""; 0], "{wide:?}");
    }
    // One network beside the Internet is still a network.
    let mixed = offer(&["::/0", "192.0.2.0/24"]);
    assert_eq!(select(&choice, &mixed), ["192.0.2.0/24"]);
}

#[test]
fn ip_36_what_is_offered_but_private_networks_is_a_default_route() {
    let range = |start: &str, end: &str| {
        IpRange::new(start.parse().unwrap(), end.parse().unwrap(), 0).unwrap()
    };
    let internet = Routes::new([
        range("0.0.0.0", "9.255.255.255"),
        range("11.0.0.0", "172.15.255.255"),
        range("172.32.0.0", "223.255.255.255"),
    ]);
    assert_eq!(select(&RouteChoice::default(), &internet), [""; 0]);
    assert_eq!(
        select(&offered(&[], true), &internet),
        ["0.0.0.0/1", "128.0.0.0/1"]
    );
    // One address more than the largest private network.
    let wider = Routes::new([range("10.0.0.0", "11.0.0.0")]);
    assert_eq!(select(&RouteChoice::default(), &wider), [""; 0]);
}

#[test]
fn ip_36_an_accept_list_cuts_what_is_offered() {
    let offer = offer(&["10.0.0.0/8", "192.0.2.0/24", "2001:db8::/32"]);
    let select = |accept| select(&offered(accept, false), &offer);
    assert_eq!(select(&["10.1.0.0/16"]), ["10.1.0.0/16"]);
    assert_eq!(select(&["192.0.0.0/16"]), ["192.0.2.0/24"]);
    assert_eq!(select(&["::/0"]), ["2001:db8::/32"]);
    assert_eq!(select(&["198.51.100.0/24"]), [""; 0]);
}

#[test]
fn a_default_route_is_two_halves_where_one_is_offered() {
    let choice = offered(&[], true);
    let v4 = offer(&["0.0.0.0/0", "fd00::/8"]);
    assert_eq!(
        select(&choice, &v4),
        ["0.0.0.0/1", "128.0.0.0/1", "fd00::/8"]
    );
    assert_eq!(
        choice.missing_default(&v4),
        Families {
            v4: false,
            v6: true
        }
    );
    assert_eq!(
        select(&choice, &offer(&["0.0.0.0/0", "::/0"])),
        ["0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1"]
    );
    assert_eq!(select(&choice, &offer(&["10.0.0.0/8"])), ["10.0.0.0/8"]);
    assert_eq!(
        RouteChoice::default().missing_default(&Routes::default()),
        Families::default()
    );
}

#[test]
fn a_default_route_by_any_name_leaves_the_hosts_own_in_place() {
    let exactly = RouteChoice::Exactly(prefixes(&["0.0.0.0/0", "::/0"]));
    let halves = ["0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1"];
    assert_eq!(select(&exactly, &Routes::default()), halves);
    // A server that says it in full, unlike ours.
    let all = |text: &str| IpRange::from_prefix(text.parse().unwrap(), 0);
    let offer = Routes::new([all("0.0.0.0/0"), all("::/0")]);
    assert_eq!(
        select(&offered(&["0.0.0.0/0", "::/0"], false), &offer),
        halves
    );
}

#[test]
fn routes_that_are_named_are_installed_exactly() {
    let choice = RouteChoice::Exactly(prefixes(&["192.0.2.0/24", "192.0.2.0/24", "10.0.0.0/8"]));
    let offer = offer(&["198.51.100.0/24"]);
    assert_eq!(select(&choice, &offer), ["10.0.0.0/8", "192.0.2.0/24"]);
}

#[test]
fn a_version_of_ip_without_an_address_gets_no_routes() {
    let v4 = Families {
        v4: true,
        v6: false,
    };
    let offer = offer(&["0.0.0.0/0", "192.0.2.0/24", "::/0", "2001:db8::/32"]);
    let routes = offered(&[], true).select(&offer, v4).unwrap();
    assert_eq!(routes, prefixes(&["0.0.0.0/1", "128.0.0.0/1"]));
}

#[test]
fn loopback_and_link_local_addresses_stay_here() {
    let offer = offer(&[
        "127.0.0.0/8",
        "169.254.1.0/24",
        "192.0.2.0/24",
        "fe80::/10",
        "::1/128",
    ]);
    assert_eq!(select(&RouteChoice::default(), &offer), ["192.0.2.0/24"]);
}

#[test]
fn a_server_cannot_make_us_install_a_million_routes() {
    // 34 bytes of capsule each, and 126 prefixes.
    let range = |n: u128| {
        let base = 0x2001_0db8 << 96 | n << 64;
        let address = |bits: u128| IpAddr::V6(Ipv6Addr::from_bits(bits));
        IpRange::new(address(base + 1), address(base + (1 << 64) - 2), 0).unwrap()
    };
    let offer = Routes::new((0..9).map(range));
    for choice in [RouteChoice::default(), offered(&["::/0"], false)] {
        assert_eq!(choice.select(&offer, BOTH), Err(TooManyRoutes));
        assert!(choice.select(&Routes::new((0..8).map(range)), BOTH).is_ok());
    }
}
