use std::net::IpAddr;

use super::super::{is_group, is_link_local, is_single_host};

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn ip_49_link_local_addresses_and_groups_are_known() {
    for inside in [
        "169.254.0.0",
        "169.254.169.254",
        "169.254.255.255",
        "224.0.0.0",
        "224.0.0.1",
        "224.0.0.255",
        "fe80::1",
        "febf:ffff::1",
        "ff02::1",
        "ff02::1:ff00:1",
        "ff01::1",
        "ff12::8",
        "ff32::1",
        "ff00::1",
        "::ffff:169.254.169.254",
    ] {
        assert!(is_link_local(address(inside)), "{inside}");
    }
    for outside in [
        "169.253.255.255",
        "169.255.0.0",
        "223.255.255.255",
        "224.0.1.0",
        "239.1.1.1",
        "255.255.255.255",
        "fe7f:ffff::1",
        "fec0::1",
        "2001:db8::1",
        "ff03::1",
        "ff05::2",
        "ff0e::1",
        "ff1e::2",
        "fd00::2",
        "::ffff:192.0.2.1",
        "::1",
    ] {
        assert!(!is_link_local(address(outside)), "{outside}");
    }
}

#[test]
fn ip_53_groups_are_told_from_hosts() {
    for group in [
        "224.0.0.1",
        "239.255.255.255",
        "255.255.255.255",
        "ff02::1",
        "ff0e::1",
        "::ffff:224.0.0.1",
    ] {
        assert!(is_group(address(group)), "{group}");
        assert!(!is_single_host(address(group)), "{group}");
    }
    for nobody in ["0.0.0.0", "0.1.2.3", "127.0.0.1", "240.0.0.1", "::", "::1"] {
        assert!(!is_group(address(nobody)), "{nobody}");
        assert!(!is_single_host(address(nobody)), "{nobody}");
    }
    for host in [
        "1.0.0.0",
        "126.1.1.1",
        "192.0.2.255",
        "223.255.255.255",
        "2001:db8::",
        "fe80::1",
    ] {
        assert!(!is_group(address(host)), "{host}");
        assert!(is_single_host(address(host)), "{host}");
    }
}
