mod config;
mod model;
mod numbers;
mod reuse;

use std::panic::{self, AssertUnwindSafe};
use std::time::Duration;

use http::StatusCode;

use super::*;

pub(super) const DAY: Duration = Duration::from_secs(86_400);

pub(super) fn network(text: &str) -> IpNetwork {
    text.parse().unwrap()
}

pub(super) fn networks(texts: &[&str]) -> Vec<IpNetwork> {
    texts.iter().map(|text| network(text)).collect()
}

pub(super) fn pools(prefixes: &[&str]) -> AddressPools {
    AddressPools::new(&networks(prefixes), DAY, None).unwrap()
}

pub(super) fn user(name: &str) -> ClientKey {
    ClientKey::of_identity(name)
}

/// A lease of everything that the pools have for one client.
pub(super) fn lease(pools: &AddressPools, client: &str) -> Lease {
    pools.lease(&user(client), &Scope::everything()).unwrap()
}

pub(super) fn scope(prefix: &str) -> Scope {
    Scope::new(Some(vec![network(prefix)]), None)
}

#[test]
fn ip_12_every_pool_gives_one_address() {
    let pools = pools(&["10.76.0.1/24", "fd76:212:dead::1/64", "192.168.9.9/29"]);
    let first = lease(&pools, "a");
    let second = lease(&pools, "b");
    assert_eq!(
        first.addresses(),
        networks(&["10.76.0.2/32", "fd76:212:dead::2/128", "192.168.9.10/32"])
    );
    assert_eq!(
        second.addresses(),
        networks(&["10.76.0.3/32", "fd76:212:dead::3/128", "192.168.9.11/32"])
    );
    assert_eq!(
        pools.own_addresses(),
        networks(&["10.76.0.1/24", "fd76:212:dead::1/64", "192.168.9.9/29"])
    );
}

#[test]
fn ip_12_an_exhausted_pool_gives_nothing_and_says_which() {
    let pools = pools(&["10.76.0.1/24", "192.168.9.9/30"]);
    let _all = [lease(&pools, "a"), lease(&pools, "c")];
    let room = pools.free();
    let refused = pools.lease(&user("b"), &Scope::everything());
    let exhausted = refused.unwrap_err();
    assert_eq!(
        exhausted,
        Exhausted {
            pool: network("192.168.9.9/30")
        }
    );
    assert_eq!(
        exhausted.to_string(),
        "the address pool 192.168.9.9/30 is exhausted: every address is in use"
    );
    assert_eq!(pools.free(), room, "all or nothing");

    let error = pasque::Error::from(exhausted);
    assert_eq!(error.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        error.proxy_error(),
        Some(ProxyError::ConnectionLimitReached)
    );
}

/// Threats, row 75: a /29 has six addresses besides the network's and the server's own.
#[test]
fn ip_12_the_seventh_client_of_a_29_waits_for_another_to_leave() {
    let pools = pools(&["10.76.0.1/29"]);
    let mut leases: Vec<_> = ["a", "b", "c", "d", "e", "f"]
        .map(|client| lease(&pools, client))
        .into();
    assert_eq!(leases[5].addresses(), networks(&["10.76.0.7/32"]));
    assert!(pools.lease(&user("g"), &Scope::everything()).is_err());
    let freed = leases.remove(2).addresses().to_vec();
    assert_eq!(lease(&pools, "g").addresses(), freed);
}

#[test]
fn ip_09_the_scope_chooses_the_ip_version() {
    let pools = pools(&["10.76.0.1/24", "fd76::1/64"]);
    let v4 = pools.lease(&user("a"), &scope("192.0.2.0/24")).unwrap();
    assert_eq!(v4.addresses(), networks(&["10.76.0.2/32"]));
    let v6 = pools.lease(&user("a"), &scope("2001:db8::/32")).unwrap();
    assert_eq!(v6.addresses(), networks(&["fd76::2/128"]));
}

#[test]
fn ip_09_a_scope_without_a_pool_has_an_empty_lease() {
    let pools = pools(&["10.76.0.1/24"]);
    let mut v6 = pools.lease(&user("a"), &scope("2001:db8::/32")).unwrap();
    assert!(v6.addresses().is_empty());
    assert_eq!(v6.request(network("0.0.0.0/32")), None);
    assert_eq!(v6.request(network("10.76.0.9/32")), None);
}

#[test]
fn ip_14_everything_comes_back_when_the_lease_ends() {
    let pools = pools(&["10.76.0.1/24", "fd76::1/64"]);
    let room = pools.free();
    let mut held = lease(&pools, "a");
    held.request(network("0.0.0.0/32")).unwrap();
    held.request(network("::/96")).unwrap();
    assert_ne!(pools.free(), room);
    drop(held);
    assert_eq!(pools.free(), room);
}

#[test]
fn ip_14_a_panicking_tunnel_gives_its_addresses_back() {
    let pools = pools(&["10.76.0.1/30"]);
    let room = pools.free();
    let tunnel = AssertUnwindSafe(|| {
        let _lease = lease(&pools, "a");
        panic!("a tunnel panics");
    });
    assert!(panic::catch_unwind(tunnel).is_err());
    assert_eq!(pools.free(), room);
    assert_eq!(lease(&pools, "a").addresses(), networks(&["10.76.0.2/32"]));
}

#[test]
fn ip_14_a_lease_outlives_the_last_handle_on_its_pools() {
    let pools = pools(&["10.76.0.1/24"]);
    let first = lease(&pools, "a");
    let second = lease(&pools, "b");
    drop(pools);
    drop(first);
    drop(second);
}

#[test]
fn ip_14_a_released_address_is_given_back_once() {
    let pools = pools(&["10.76.0.1/24"]);
    let mut held = lease(&pools, "a");
    let address = held.addresses()[0];
    assert!(held.release(address));
    assert!(!held.release(address));
    let other = pools.lease(&user("a"), &Scope::everything()).unwrap();
    assert_eq!(other.addresses(), [address]);
    drop(held);
    assert_eq!(
        pools.free(),
        [(network("10.76.0.1/24"), 253)],
        "still held by the other"
    );
}

#[test]
fn ip_14_a_pool_takes_back_only_what_it_gave() {
    let pools = pools(&["10.76.0.1/24"]);
    let held = lease(&pools, "a");
    let room = pools.free();
    let mut locked = pools.lock();
    let give_back =
        |pool: &mut AddressPool, text| pool.give_back(&network(text), &user("a"), now());
    for other in [
        "10.76.0.3/32",
        "10.76.0.1/32",
        "10.76.0.0/24",
        "10.76.0.2/31",
        "fd76::1/128",
    ] {
        assert!(!give_back(&mut locked[0], other), "{other}");
    }
    drop(locked);
    assert_eq!(pools.free(), room);
    drop(held);
    assert!(
        !give_back(&mut pools.lock()[0], "10.76.0.2/32"),
        "it has it back already"
    );
}

#[test]
fn ip_30_all_but_the_networks_and_the_own_address_is_given_out() {
    let v4 = pools(&["10.76.0.2/29"]);
    let mut held = lease(&v4, "a");
    while held.request(network("0.0.0.0/32")).is_some() {}
    let given = networks(&[
        "10.76.0.1/32",
        "10.76.0.3/32",
        "10.76.0.4/32",
        "10.76.0.5/32",
        "10.76.0.6/32",
        // There is no subnet that it could be the broadcast address of.
        "10.76.0.7/32",
    ]);
    assert_eq!(held.addresses(), given);

    let own_is_last = pools(&["10.76.0.7/30"]);
    let mut held = lease(&own_is_last, "a");
    while held.request(network("0.0.0.0/32")).is_some() {}
    let given = networks(&["10.76.0.5/32", "10.76.0.6/32"]);
    assert_eq!(held.addresses(), given);

    let v6 = pools(&["fd76::2/126"]);
    let mut held = lease(&v6, "a");
    while held.request(network("::/128")).is_some() {}
    assert_eq!(held.addresses(), networks(&["fd76::1/128", "fd76::3/128"]));
}

#[test]
fn ip_30_reserved_addresses_are_not_given_out_on_request_either() {
    let pools = pools(&["10.76.0.2/24", "fd76::2/64"]);
    let reserved = [
        "10.76.0.0/32",
        "10.76.0.2/32",
        "fd76::/128",
        "fd76::2/128",
        "fd76::/72",
    ];
    for wanted in networks(&reserved) {
        let mut held = lease(&pools, "a");
        let given = held.request(wanted).unwrap();
        assert_ne!(given, wanted);
        assert_eq!(given.prefix(), wanted.prefix());
    }
}

#[test]
fn ip_27_no_preference_gives_any_of_the_wished_size() {
    let pools = pools(&["10.76.0.1/16", "fd76::1/48"]);
    let mut held = lease(&pools, "a");
    assert_eq!(
        held.request(network("0.0.0.0/32")),
        Some(network("10.76.0.3/32"))
    );
    assert_eq!(
        held.request(network("0.0.0.0/24")),
        Some(network("10.76.1.0/24"))
    );
    assert_eq!(
        held.request(network("::/64")),
        Some(network("fd76:0:0:1::/64"))
    );
    assert_eq!(
        held.request(network("::/128")),
        Some(network("fd76::3/128"))
    );
}

#[test]
fn ip_27_a_preference_is_met_if_it_is_free_and_else_another_is_given() {
    let pools = pools(&["10.76.0.1/16", "fd76::1/48"]);
    let mut a = lease(&pools, "a");
    let mut b = lease(&pools, "b");
    for wanted in [
        "10.76.0.77/32",
        "10.76.9.0/24",
        "fd76::77/128",
        "fd76:0:0:9::/64",
    ] {
        let wanted = network(wanted);
        assert_eq!(a.request(wanted), Some(wanted));
        let other = b.request(wanted).unwrap();
        assert!(!other.contains(wanted.ip()) && other.prefix() == wanted.prefix());
    }
    let outside = network("192.0.2.1/32");
    assert_eq!(a.request(outside), Some(network("10.76.0.5/32")));
}

#[test]
fn ip_27_prefixes_come_from_pools_that_are_256_times_larger() {
    let pools = pools(&["10.76.0.1/24", "fd76::1/64"]);
    let mut held = lease(&pools, "a");
    for wanted in [
        "0.0.0.0/31",
        "0.0.0.0/0",
        "10.76.0.8/31",
        "::/71",
        "::/0",
        "fd76::/64",
    ] {
        assert_eq!(held.request(network(wanted)), None, "{wanted}");
    }
    assert!(held.request(network("::/72")).is_some());
}

#[test]
fn ip_27_a_search_in_a_pool_in_pieces_takes_a_bounded_time() {
    let pools = pools(&["10.76.0.1/16"]);
    let mut held = lease(&pools, "a");
    for third in 0..=255 {
        for fourth in (8..=248).step_by(8) {
            let wanted = network(&format!("10.76.{third}.{fourth}/32"));
            assert_eq!(held.request(wanted), Some(wanted));
        }
    }
    assert_eq!(held.request(network("0.0.0.0/24")), None);
    assert!(held.request(network("0.0.0.0/30")).is_some());
}

#[test]
fn a_second_pool_of_the_same_version_helps_out() {
    let pools = pools(&["10.76.0.1/30", "10.77.0.1/29"]);
    let mut held = lease(&pools, "a");
    assert_eq!(
        held.request(network("0.0.0.0/32")),
        Some(network("10.76.0.3/32"))
    );
    assert_eq!(
        held.request(network("0.0.0.0/32")),
        Some(network("10.77.0.3/32"))
    );
    assert_eq!(
        held.request(network("10.77.0.6/32")),
        Some(network("10.77.0.6/32"))
    );
}

#[test]
fn replacing_takes_the_new_address_before_the_old_one_goes() {
    let pools = pools(&["10.76.0.1/24"]);
    let other = lease(&pools, "b");
    let mut held = lease(&pools, "a");
    let old = held.addresses()[0];
    assert!(!held.replace(old, other.addresses()[0]), "in use");
    assert!(
        !held.replace(network("10.76.0.9/32"), network("10.76.0.8/32")),
        "not held"
    );
    assert_eq!(held.addresses(), [old]);
    assert!(held.replace(old, network("10.76.0.8/32")));
    assert_eq!(held.addresses(), networks(&["10.76.0.8/32"]));
    assert_eq!(pools.free(), [(network("10.76.0.1/24"), 252)]);
}
