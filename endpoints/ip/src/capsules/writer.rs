//! One entry at a time, onto the end of a value.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use pasque::wire::varint;

use super::reader::Version;
use crate::routes::IpRange;

pub(super) fn put_requested_prefix(request_id: u64, prefix: IpNetwork, value: &mut Vec<u8>) {
    varint::encode(request_id, value);
    // The type allows host bits, the capsule does not.
    let address = prefix.network();
    put_version(address, value);
    put_address(address, value);
    value.push(prefix.prefix());
}

pub(super) fn put_range(range: &IpRange, value: &mut Vec<u8>) {
    put_version(range.start(), value);
    put_address(range.start(), value);
    put_address(range.end(), value);
    value.push(range.protocol());
}

fn put_version(address: IpAddr, value: &mut Vec<u8>) {
    value.push(match address {
        IpAddr::V4(_) => Version::V4,
        IpAddr::V6(_) => Version::V6,
    } as u8);
}

fn put_address(address: IpAddr, value: &mut Vec<u8>) {
    match address {
        IpAddr::V4(address) => value.extend(address.octets()),
        IpAddr::V6(address) => value.extend(address.octets()),
    }
}
