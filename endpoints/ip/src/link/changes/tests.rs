use proptest::prelude::*;

use super::*;

fn network(text: &str) -> IpNetwork {
    text.parse().unwrap()
}

fn address(text: &str) -> LinkAddress {
    LinkAddress::new(network(text))
}

fn state(mtu: u32, addresses: &[&str], routes: &[&str]) -> LinkState {
    LinkState {
        mtu,
        addresses: addresses.iter().copied().map(address).collect(),
        routes: routes.iter().copied().map(network).collect(),
    }
}

/// What the kernel has after all changes, as [`Link::apply`](crate::link::Link::apply) makes them.
fn settle(mut applied: LinkState, wanted: &LinkState) -> LinkState {
    for _ in 0..2 {
        for change in changes(&applied, wanted) {
            record(&mut applied, &change);
        }
    }
    applied
}

#[test]
fn nothing_is_done_twice() {
    let wanted = state(1400, &["10.76.0.2/32", "fd76::2/128"], &["0.0.0.0/1"]);
    let none = LinkState::default();
    assert_eq!(
        changes(&none, &wanted),
        [
            Change::Mtu(1400),
            Change::AddAddress(address("10.76.0.2/32")),
            Change::AddAddress(address("fd76::2/128")),
            Change::AddRoute(network("0.0.0.0/1")),
        ]
    );
    assert_eq!(changes(&wanted, &wanted), []);
    // An MTU of 0 leaves what there is.
    assert_eq!(
        changes(
            &wanted,
            &state(0, &["10.76.0.2/32", "fd76::2/128"], &["0.0.0.0/1"])
        ),
        []
    );
}

#[test]
fn a_new_address_is_there_before_the_old_one_goes() {
    let from = state(1400, &["10.76.0.2/32"], &["0.0.0.0/1"]);
    let to = state(1400, &["10.76.0.9/32"], &["0.0.0.0/1"]);
    assert_eq!(
        changes(&from, &to),
        [
            Change::AddAddress(address("10.76.0.9/32")),
            Change::RemoveAddress(address("10.76.0.2/32")),
        ]
    );
}

#[test]
fn the_same_address_with_another_peer_is_removed_first() {
    let old = LinkAddress::with_peer("fd76::1".parse().unwrap(), "fd76::2".parse().unwrap());
    let new = LinkAddress::with_peer("fd76::1".parse().unwrap(), "fd76::3".parse().unwrap());
    let of = |address| LinkState {
        addresses: vec![address],
        ..LinkState::default()
    };
    assert_eq!(
        changes(&of(old), &of(new)),
        [Change::RemoveAddress(old), Change::AddAddress(new)]
    );
}

#[test]
fn routes_that_fell_with_the_last_address_are_set_again() {
    let from = state(
        0,
        &["10.76.0.2/32", "fd76::2/128"],
        &["10.0.0.0/8", "fd00::/8"],
    );
    let to = state(0, &["fd76::2/128"], &["10.0.0.0/8", "fd00::/8"]);
    let mut applied = from;
    for change in changes(&applied, &to) {
        record(&mut applied, &change);
    }
    assert_eq!(applied.routes, [network("fd00::/8")]);
    assert_eq!(
        changes(&applied, &to),
        [Change::AddRoute(network("10.0.0.0/8"))]
    );
}

#[test]
fn ipv6_keeps_its_least_mtu_and_gets_it_before_its_addresses() {
    let v4 = state(1200, &["10.76.0.2/32"], &[]);
    let both = state(1200, &["10.76.0.2/32", "fd76::2/128"], &[]);
    let to_both = changes(&v4, &both);
    assert_eq!(to_both.first(), Some(&Change::Mtu(1280)));
    let back = changes(&settle(v4.clone(), &both), &v4);
    assert_eq!(back.last(), Some(&Change::Mtu(1200)));
    assert_eq!(back.len(), 2);
}

#[test]
fn bits_behind_a_prefix_and_repetitions_do_not_matter() {
    let wanted = state(0, &[], &["10.1.2.3/8", "10.0.0.0/8", "10.0.0.0/8"]);
    let none = LinkState::default();
    assert_eq!(
        changes(&none, &wanted),
        [Change::AddRoute(network("10.0.0.0/8"))]
    );
    assert_eq!(changes(&settle(none, &wanted), &wanted), []);
}

fn any_state() -> impl Strategy<Value = LinkState> {
    let addresses = [
        "10.0.0.1/32",
        "10.0.0.1/24",
        "10.0.0.2/32",
        "fd00::1/128",
        "fd00::1/64",
    ];
    let routes = ["10.0.0.0/8", "0.0.0.0/1", "fd00::/8", "::/1", "10.9.9.9/8"];
    (
        prop::sample::select(vec![1200, 1280, 1400]),
        prop::sample::subsequence(addresses.to_vec(), 0..=5),
        prop::sample::subsequence(routes.to_vec(), 0..=5),
    )
        .prop_map(|(mtu, addresses, routes)| state(mtu, &addresses, &routes))
}

proptest! {
    /// Whatever came before, the interface ends as wanted.
    #[test]
    fn changes_lead_to_what_is_wanted(states in prop::collection::vec(any_state(), 1..6)) {
        let mut applied = LinkState::default();
        for wanted in states {
            applied = settle(applied, &wanted);
            prop_assert_eq!(changes(&applied, &wanted), vec![]);
            prop_assert_eq!(applied.mtu, mtu_of(&wanted));
            let set = |addresses: &[LinkAddress]| addresses.iter().copied().collect::<HashSet<_>>();
            prop_assert_eq!(set(&applied.addresses), set(&wanted.addresses));
            let set = |routes: &[IpNetwork]| networks(routes).into_iter().collect::<HashSet<_>>();
            prop_assert_eq!(set(&applied.routes), set(&wanted.routes));
        }
    }
}
