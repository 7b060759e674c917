mod properties;

use super::*;

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn range(start: &str, end: &str, protocol: u8) -> IpRange {
    IpRange::new(address(start), address(end), protocol).unwrap()
}

fn prefix(text: &str) -> IpNetwork {
    text.parse().unwrap()
}

fn list(routes: &Routes) -> Vec<IpRange> {
    routes.iter().copied().collect()
}

fn texts(prefixes: impl Iterator<Item = IpNetwork>) -> Vec<String> {
    prefixes.map(|prefix| prefix.to_string()).collect()
}

#[test]
fn a_range_has_two_ends_of_one_version_in_order() {
    let (v4, v6) = (address("192.0.2.1"), address("2001:db8::1"));
    let error = |start, end| IpRange::new(start, end, 0).unwrap_err();
    assert_eq!(error(v4, v6), RangeError::Versions { start: v4, end: v6 });
    assert_eq!(error(v6, v4), RangeError::Versions { start: v6, end: v4 });
    let before = address("192.0.2.0");
    assert_eq!(
        error(v4, before),
        RangeError::Backwards {
            start: v4,
            end: before
        }
    );
    assert!(range("192.0.2.1", "192.0.2.1", 0).contains(v4));
}

#[test]
fn a_range_is_split_at_any_address() {
    let whole = range("192.0.2.10", "192.0.2.20", 6);
    for (at, before, after) in [
        ("0.0.0.0", None, Some(whole)),
        ("192.0.2.9", None, Some(whole)),
        (
            "192.0.2.10",
            None,
            Some(range("192.0.2.11", "192.0.2.20", 6)),
        ),
        (
            "192.0.2.15",
            Some(range("192.0.2.10", "192.0.2.14", 6)),
            Some(range("192.0.2.16", "192.0.2.20", 6)),
        ),
        (
            "192.0.2.20",
            Some(range("192.0.2.10", "192.0.2.19", 6)),
            None,
        ),
        ("192.0.2.21", Some(whole), None),
        ("255.255.255.255", Some(whole), None),
    ] {
        assert_eq!(whole.before(address(at)), before, "{at}");
        assert_eq!(whole.after(address(at)), after, "{at}");
    }
}

#[test]
fn ranges_are_shown_as_prefixes_where_they_are_one() {
    for (range, text) in [
        (range("0.0.0.0", "255.255.255.255", 0), "0.0.0.0/0"),
        (
            range("192.0.2.5", "192.0.2.5", 17),
            "192.0.2.5/32 protocol 17",
        ),
        (range("192.0.2.0", "192.0.2.41", 0), "192.0.2.0-192.0.2.41"),
        (
            range("2001:db8::", "2001:db8::f", 6),
            "2001:db8::/124 protocol 6",
        ),
    ] {
        assert_eq!(range.to_string(), text);
    }
}

#[test]
fn default_routes_hold_all_that_is_public() {
    for (default, range) in [
        (true, range("0.0.0.0", "255.255.255.255", 0)),
        (true, range("0.0.0.0", "223.255.255.255", 0)),
        (true, range("1.0.0.0", "223.255.255.255", 0)),
        (false, range("0.0.0.0", "127.255.255.255", 0)),
        (false, range("2.0.0.0", "223.255.255.255", 0)),
        (
            true,
            range("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 0),
        ),
        (true, IpRange::from_prefix(prefix("2000::/3"), 0)),
        (false, IpRange::from_prefix(prefix("2000::/4"), 0)),
    ] {
        assert_eq!(range.is_default(), default, "{range}");
    }
    // Two halves are as much of a default route as a whole, where ranges are merged.
    let halves = Routes::try_from_wire(vec![
        range("0.0.0.0", "127.255.255.255", 0),
        range("128.0.0.0", "255.255.255.255", 0),
    ])
    .unwrap();
    assert!(!halves.iter().any(IpRange::is_default));
    assert!(halves.addresses().any(IpRange::is_default));
}

#[test]
fn ip_35_ranges_become_the_fewest_prefixes() {
    let prefixes = |range: IpRange| texts(range.prefixes());
    assert_eq!(
        prefixes(range("192.0.2.0", "192.0.2.41", 0)),
        ["192.0.2.0/27", "192.0.2.32/29", "192.0.2.40/31"]
    );
    assert_eq!(
        prefixes(range("192.0.2.43", "192.0.2.255", 0)),
        [
            "192.0.2.43/32",
            "192.0.2.44/30",
            "192.0.2.48/28",
            "192.0.2.64/26",
            "192.0.2.128/25"
        ]
    );
    assert_eq!(
        prefixes(range("0.0.0.0", "255.255.255.255", 0)),
        ["0.0.0.0/0"]
    );
    let all_v6 = range("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 0);
    assert_eq!(prefixes(all_v6), ["::/0"]);
    let most_v4 = range("0.0.0.1", "255.255.255.254", 0);
    assert_eq!(most_v4.prefixes().count(), 62);
    let most_v6 = range("::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe", 0);
    assert_eq!(most_v6.prefixes().count(), 254);
}

#[test]
fn ip_35_own_lists_are_sorted_and_merged() {
    let routes = Routes::new([
        range("2001:db8::", "2001:db8::ff", 0),
        range("192.0.2.128", "192.0.2.255", 17),
        range("192.0.2.0", "192.0.2.127", 17),
        range("192.0.2.64", "192.0.2.200", 17),
        range("192.0.2.0", "192.0.2.9", 6),
        range("198.51.100.0", "198.51.100.255", 0),
        range("255.255.255.255", "255.255.255.255", 0),
        range("::", "::", 0),
    ]);
    let expected = [
        range("198.51.100.0", "198.51.100.255", 0),
        range("255.255.255.255", "255.255.255.255", 0),
        range("192.0.2.0", "192.0.2.9", 6),
        range("192.0.2.0", "192.0.2.255", 17),
        range("::", "::", 0),
        range("2001:db8::", "2001:db8::ff", 0),
    ];
    assert_eq!(list(&routes), expected);
    assert_eq!(
        texts(routes.prefixes()),
        [
            "192.0.2.0/24",
            "198.51.100.0/24",
            "255.255.255.255/32",
            "::/128",
            "2001:db8::/120"
        ]
    );
}

#[test]
fn ip_33_a_protocol_is_cut_where_any_protocol_is_routed() {
    let routes = Routes::new([
        range("192.0.2.0", "192.0.2.255", 17),
        range("192.0.2.10", "192.0.2.19", 0),
        range("192.0.2.30", "192.0.2.39", 0),
        range("192.0.2.255", "192.0.3.255", 0),
        range("192.0.2.12", "192.0.2.13", 6),
        range("0.0.0.0", "255.255.255.255", 132),
    ]);
    let expected = [
        range("192.0.2.10", "192.0.2.19", 0),
        range("192.0.2.30", "192.0.2.39", 0),
        range("192.0.2.255", "192.0.3.255", 0),
        range("192.0.2.0", "192.0.2.9", 17),
        range("192.0.2.20", "192.0.2.29", 17),
        range("192.0.2.40", "192.0.2.254", 17),
        range("0.0.0.0", "192.0.2.9", 132),
        range("192.0.2.20", "192.0.2.29", 132),
        range("192.0.2.40", "192.0.2.254", 132),
        range("192.0.4.0", "255.255.255.255", 132),
    ];
    assert_eq!(list(&routes), expected);
    assert_eq!(Routes::try_from_wire(list(&routes)), Ok(routes));
}

#[test]
fn ip_32_neighbours_are_compared_within_their_version_and_protocol_only() {
    let legal = [
        range("192.0.2.50", "192.0.2.59", 0),
        range("192.0.2.60", "192.0.2.60", 0),
        range("192.0.2.0", "192.0.2.9", 6),
        range("192.0.2.0", "192.0.2.9", 17),
        range("::", "::1", 0),
        range("::2", "::2", 6),
    ];
    let routes = Routes::try_from_wire(legal.to_vec()).unwrap();
    assert_eq!(list(&routes), legal, "adjacent ranges stay apart");
    let swapped = |one: usize, other: usize| {
        let mut ranges = legal.to_vec();
        ranges.swap(one, other);
        Routes::try_from_wire(ranges).unwrap_err()
    };
    assert!(matches!(
        swapped(0, 1),
        RouteError::Address { entry: 1, .. }
    ));
    assert!(matches!(
        swapped(2, 3),
        RouteError::Protocol { entry: 3, .. }
    ));
    assert!(matches!(
        swapped(3, 4),
        RouteError::Version { entry: 4, .. }
    ));
    assert!(matches!(
        swapped(4, 5),
        RouteError::Protocol { entry: 5, .. }
    ));
}

#[test]
fn ip_44_a_packet_goes_where_a_route_of_its_protocol_leads() {
    let routes = Routes::new([
        range("192.0.2.0", "192.0.2.9", 17),
        range("198.51.100.0", "198.51.100.9", 0),
        range("2001:db8::", "2001:db8::9", 6),
    ]);
    for (to, protocol, admitted) in [
        ("192.0.2.0", 17, true),
        ("192.0.2.9", 17, true),
        ("192.0.2.10", 17, false),
        ("192.0.1.255", 17, false),
        ("192.0.2.0", 6, false),
        ("192.0.2.0", 0, false),
        ("198.51.100.5", 6, true),
        ("198.51.100.5", 0, true),
        ("198.51.100.10", 6, false),
        ("2001:db8::9", 6, true),
        ("2001:db8::9", 17, false),
        ("2001:db8::a", 6, false),
        // ICMP is exempt from the protocol, in the IP version it belongs to.
        ("192.0.2.0", 1, true),
        ("192.0.2.10", 1, false),
        ("192.0.2.0", 58, false),
        ("2001:db8::", 58, true),
        ("2001:db8::", 1, false),
    ] {
        assert_eq!(
            routes.admits(address(to), protocol),
            admitted,
            "{to}, {protocol}"
        );
    }
    assert!(!Routes::default().admits(address("192.0.2.0"), 1));
    assert!(Routes::default().is_empty() && !routes.is_empty());
}

#[test]
fn ip_08_09_within_a_scope_are_its_addresses_and_its_protocol() {
    let routes = Routes::from_config(&[prefix("0.0.0.0/0"), prefix("2001:db8::/32")]);
    let within = |prefixes: Option<&[&str]>, protocol| {
        let prefixes = prefixes.map(|texts| texts.iter().map(|text| prefix(text)).collect());
        list(&routes.within(&Scope::new(prefixes, protocol)))
    };
    assert_eq!(within(None, None), list(&routes));
    // A name with an address of each version, one that is not routed, and one twice.
    assert_eq!(
        within(
            Some(&[
                "192.0.2.7/32",
                "2001:db8::7/128",
                "fd00::7/128",
                "192.0.2.7/32"
            ]),
            Some(17)
        ),
        [
            range("192.0.2.7", "192.0.2.7", 17),
            range("2001:db8::7", "2001:db8::7", 17)
        ]
    );
    assert_eq!(
        within(Some(&["192.0.2.0/24"]), None),
        [range("192.0.2.0", "192.0.2.255", 0)]
    );
    assert_eq!(
        within(Some(&["192.0.0.0/2"]), Some(6)),
        [range("192.0.0.0", "223.255.255.255", 6)]
    );
    assert_eq!(within(Some(&[]), None), []);
}

#[test]
fn ip_11_a_scope_beyond_the_routes_leaves_nothing() {
    let routes = Routes::new([range("10.0.0.0", "10.0.0.255", 6)]);
    let within = |prefix: &str, protocol| {
        let prefixes = Some(vec![prefix.parse().unwrap()]);
        routes.within(&Scope::new(prefixes, protocol))
    };
    assert!(within("10.0.1.0/24", None).is_empty());
    assert!(within("10.0.0.0/24", Some(17)).is_empty());
    assert!(within("2001:db8::/32", None).is_empty());
    // ICMP may go wherever TCP may, so who asks for ICMP gets it.
    let ping = within("10.0.0.0/8", Some(1));
    assert_eq!(list(&ping), [range("10.0.0.0", "10.0.0.255", 1)]);
}

#[test]
fn ip_37_routes_of_one_family() {
    let (v4, v6) = (
        range("10.0.0.0", "10.0.0.255", 0),
        range("fd00::", "fd00::ff", 17),
    );
    let routes = Routes::new([v4, v6]);
    assert_eq!(list(&routes.only(true, true)), [v4, v6]);
    assert_eq!(list(&routes.only(true, false)), [v4]);
    assert_eq!(list(&routes.only(false, true)), [v6]);
    assert!(routes.only(false, false).is_empty());
    assert!(!routes.only(true, false).admits(address("fd00::1"), 58));
}

#[test]
fn ip_71_default_routes_end_before_multicast() {
    let configured = |text: &str| list(&Routes::from_config(&[prefix(text)]));
    let last_v6 = "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    for (text, start, end) in [
        ("0.0.0.0/0", "0.0.0.0", "223.255.255.255"),
        ("128.0.0.0/1", "128.0.0.0", "223.255.255.255"),
        ("192.0.0.0/2", "192.0.0.0", "223.255.255.255"),
        ("::/0", "::", last_v6),
        ("8000::/1", "8000::", last_v6),
        ("fe00::/7", "fe00::", last_v6),
    ] {
        assert_eq!(configured(text), [range(start, end, 0)], "{text}");
    }
    for on_purpose in [
        "239.0.0.0/8",
        "224.0.0.0/4",
        "224.0.0.0/3",
        "240.0.0.0/4",
        "223.0.0.0/8",
        "0.0.0.0/1",
        "ff00::/8",
        "ff0e::/16",
        "fe00::/8",
    ] {
        let whole = IpRange::from_prefix(prefix(on_purpose), 0);
        assert_eq!(configured(on_purpose), [whole], "{on_purpose}");
    }
    // Both at once: the operator means both.
    let both = Routes::from_config(&[prefix("0.0.0.0/0"), prefix("239.0.0.0/8")]);
    assert!(both.admits(address("239.1.1.1"), 17));
    assert!(!both.admits(address("224.0.0.1"), 17));
    assert!(!both.admits(address("255.255.255.255"), 17));
}
