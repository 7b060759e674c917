use super::*;

fn error(prefixes: &[&str]) -> String {
    let refused = AddressPools::new(&networks(prefixes), DAY, None);
    refused.unwrap_err().to_string()
}

#[test]
fn pools_that_overlap_are_refused() {
    assert_eq!(
        error(&["10.76.0.1/24", "fd76::1/64", "10.76.0.129/25"]),
        "the address pools 10.76.0.1/24 and 10.76.0.129/25 overlap"
    );
    assert_eq!(
        error(&["fd76::1/64", "fd76::1/48"]),
        "the address pools fd76::1/64 and fd76::1/48 overlap"
    );
    pools(&["10.76.0.1/25", "10.76.0.129/25"]);
}

#[test]
fn a_pool_needs_room() {
    for (prefix, longest) in [
        ("10.0.0.1/31", 30),
        ("10.0.0.1/32", 30),
        ("fd76::1/127", 126),
        ("fd76::1/128", 126),
    ] {
        assert_eq!(
            error(&[prefix]),
            format!(
                "the address pool {prefix} has no room for clients, expected a prefix length of \
                 {longest} or less"
            )
        );
    }
    pools(&["10.0.0.1/30", "fd76::1/126"]);
    assert_eq!(
        error(&[]),
        "found no address pool, expected at least one such as \"10.76.0.1/24\""
    );
}

#[test]
fn a_pool_is_not_a_share_of_the_internet() {
    assert_eq!(
        error(&["10.0.0.1/7"]),
        "the address pool 10.0.0.1/7 is too large, expected a prefix length of 8 or more"
    );
    let largest = pools(&["10.0.0.1/8", "fd00::1/8"]);
    let addresses = lease(&largest, "a").addresses().to_vec();
    assert_eq!(addresses, networks(&["10.0.0.2/32", "fd00::2/128"]));
}

#[test]
fn the_address_in_the_prefix_is_one_that_a_host_can_have() {
    assert_eq!(
        error(&["10.76.0.0/24"]),
        "the address in the pool 10.76.0.0/24 is its network address, expected the server's own \
         address such as 10.76.0.1/24"
    );
    assert_eq!(
        error(&["fd76::/64"]),
        "the address in the pool fd76::/64 is its network address, expected the server's own \
         address such as fd76::1/64"
    );
    pools(&["10.76.0.255/24", "fd76::ffff:ffff:ffff:ffff/64"]);
}

#[test]
fn pools_of_addresses_that_no_client_can_use_are_refused() {
    let table = [
        ("0.0.0.1/8", "\"this network\""),
        ("127.0.0.1/24", "loopback"),
        ("169.254.1.1/24", "link-local"),
        ("224.0.0.1/24", "multicast or reserved"),
        ("255.255.255.1/24", "multicast or reserved"),
        ("::1/120", "unspecified or loopback"),
        ("::ffff:10.0.0.1/120", "IPv4-mapped"),
        ("fe80::1/64", "link-local"),
        ("ff02::1/64", "multicast"),
    ];
    for (prefix, purpose) in table {
        let prefix = network(prefix);
        let refused = AddressPools::new(&[prefix], DAY, None);
        assert_eq!(
            refused.unwrap_err(),
            PoolError::Unusable { prefix, purpose }
        );
    }
}
