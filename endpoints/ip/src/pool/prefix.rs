//! Which prefixes can be pools.

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use std::net::{Ipv4Addr, Ipv6Addr};

use super::PoolError;
use super::block::{Block, Family, number};

/// The shortest prefix of a pool, in bits: a public network of this size is nobody's own.
const MIN_PREFIX_LEN: u8 = 8;

/// The bits a pool's prefix leaves at least: with one, the prefix's own address and the server's would
/// be all there is.
const MIN_HOST_BITS: u8 = 2;

/// Ranges whose addresses no client can use, and what each is.
const UNUSABLE: [(IpNetwork, &str); 8] = [
    (v4([0, 0, 0, 0], 8), "\"this network\""),
    (v4([127, 0, 0, 0], 8), "loopback"),
    (v4([169, 254, 0, 0], 16), "link-local"),
    (v4([224, 0, 0, 0], 3), "multicast or reserved"),
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 96), "unspecified or loopback"),
    (v6([0, 0, 0, 0, 0, 0xffff, 0, 0], 96), "IPv4-mapped"),
    (v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), "link-local"),
    (v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), "multicast"),
];

const fn v4([a, b, c, d]: [u8; 4], len: u8) -> IpNetwork {
    let address = Ipv4Addr::new(a, b, c, d);
    match Ipv4Network::new_checked(address, len) {
        Some(network) => IpNetwork::V4(network),
        None => unreachable!(),
    }
}

const fn v6([a, b, c, d, e, f, g, h]: [u16; 8], len: u8) -> IpNetwork {
    let address = Ipv6Addr::new(a, b, c, d, e, f, g, h);
    match Ipv6Network::new_checked(address, len) {
        Some(network) => IpNetwork::V6(network),
        None => unreachable!(),
    }
}

/// Checks that `prefixes` can be the pools of one endpoint: each with its own address in the host
/// bits and room for clients, no two overlapping.
pub(super) fn check(prefixes: &[IpNetwork]) -> Result<(), PoolError> {
    if prefixes.is_empty() {
        return Err(PoolError::NoPool);
    }
    for (index, prefix) in prefixes.iter().enumerate() {
        check_one(prefix)?;
        if let Some(other) = prefixes
            .iter()
            .take(index)
            .find(|other| overlap(prefix, other))
        {
            return Err(PoolError::Overlap(*other, *prefix));
        }
    }
    Ok(())
}

fn check_one(prefix: &IpNetwork) -> Result<(), PoolError> {
    if prefix.prefix() < MIN_PREFIX_LEN {
        return Err(PoolError::TooLarge(*prefix));
    }
    if let Some((_, purpose)) = UNUSABLE.iter().find(|(range, _)| overlap(prefix, range)) {
        return Err(PoolError::Unusable {
            prefix: *prefix,
            purpose,
        });
    }
    let family = Family::of(prefix);
    if Block::of(prefix).host_bits() < MIN_HOST_BITS {
        let longest = family.width() - MIN_HOST_BITS;
        return Err(PoolError::NoRoom {
            prefix: *prefix,
            longest,
        });
    }
    let block = Block::of(prefix);
    if number(prefix.ip()) == block.first() {
        let example = Block::around(block.first() + 1, 0).to_network(family);
        return Err(PoolError::OwnAddress {
            prefix: *prefix,
            example: example.ip(),
        });
    }
    Ok(())
}

fn overlap(one: &IpNetwork, other: &IpNetwork) -> bool {
    let blocks = (Block::of(one), Block::of(other));
    Family::of(one) == Family::of(other)
        && (blocks.0.contains(blocks.1) || blocks.1.contains(blocks.0))
}
