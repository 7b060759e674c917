//! What counts as one client where clients are counted by their address.

use std::net::{IpAddr, Ipv6Addr};

/// The network of `client` that counts as one: an address of IPv4, in its mapped form too, and a /64 of
/// IPv6, of which even the smallest customer has 2⁶⁴ addresses.
pub fn client_network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(
            address.to_bits() & !u128::from(u64::MAX),
        )),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_64_of_ipv6_is_one_and_so_is_an_address_of_ipv4() {
        for (client, network) in [
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("2001:db8:1:2::", "2001:db8:1:2::"),
            ("fe80::1", "fe80::"),
        ] {
            let [client, network] = [client, network].map(|text| text.parse::<IpAddr>().unwrap());
            assert_eq!(client_network(client), network);
        }
    }
}
