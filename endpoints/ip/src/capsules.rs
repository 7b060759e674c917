//! The values of the three capsules of IP tunnels (RFC 9484 §4.7).
//!
//! ```text
//! ADDRESS_ASSIGN, ADDRESS_REQUEST:  entries of
//!     Request ID (varint) | IP Version (1) | IP Address (4, 16) | Prefix Length (1)
//! ROUTE_ADVERTISEMENT:              entries of
//!     IP Version (1) | Start (4, 16) | End (4, 16) | IP Protocol (1)
//! ```
//!
//! Type and length in front of a value are the [framework's](pasque::wire::capsule). Each of these
//! lists is whole: it takes the place of the one before. What does not decode is malformed, and
//! its stream is aborted with H3_MESSAGE_ERROR (RFC 9297 §3.3), for which [`CapsuleError`] turns
//! into a [`pasque::Error`].
//!
//! ```
//! use pasque_ip::capsules::{self, RequestedAddress};
//!
//! let request = [RequestedAddress::any_v4(1), RequestedAddress::any_v6(2)];
//! let value = capsules::encode_request(&request);
//! assert_eq!(value[..7], [1, 4, 0, 0, 0, 0, 32]);
//! assert_eq!(capsules::decode_request(&value)?, request);
//! # Ok::<(), capsules::CapsuleError>(())
//! ```

mod error;
mod reader;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
pub use pasque::wire::capsule::{ADDRESS_ASSIGN, ADDRESS_REQUEST, ROUTE_ADVERTISEMENT};

pub use self::error::{CapsuleError, Defect, Field};
use self::reader::Reader;
use crate::routes::Routes;

/// An entry of ADDRESS_ASSIGN: what the receiver may use as source (RFC 9484 §4.7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AssignedAddress {
    /// The request that this answers, or 0 if none was made. At most
    /// [`varint::MAX`](pasque::wire::varint::MAX).
    pub request_id: u64,
    /// The address, or all those that share a prefix.
    pub prefix: IpNetwork,
}

impl AssignedAddress {
    /// The answer that nothing is assigned of the IP version that was `asked` for (RFC 9484 §4.7.2).
    pub fn refusal(request_id: u64, asked: IpNetwork) -> Self {
        let prefix = unspecified(asked.is_ipv6()).into();
        Self { request_id, prefix }
    }

    /// Whether this is such an answer, and no address to use: `0.0.0.0/32` or `::/128`.
    pub fn is_refusal(&self) -> bool {
        self.prefix == IpNetwork::from(unspecified(self.prefix.is_ipv6()))
    }
}

/// An entry of ADDRESS_REQUEST: what the sender would like to be assigned (RFC 9484 §4.7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestedAddress {
    /// A number above 0 that the sender has not used on this stream before. At most
    /// [`varint::MAX`](pasque::wire::varint::MAX).
    pub request_id: u64,
    /// The wish. If the address is unspecified, it is only about the prefix length.
    pub prefix: IpNetwork,
}

impl RequestedAddress {
    /// The wish for one IPv4 address.
    pub fn any_v4(request_id: u64) -> Self {
        let prefix = unspecified(false).into();
        Self { request_id, prefix }
    }

    /// The wish for one IPv6 address.
    pub fn any_v6(request_id: u64) -> Self {
        let prefix = unspecified(true).into();
        Self { request_id, prefix }
    }

    /// Whether a certain address is wished for, not only a prefix length.
    pub fn has_preference(&self) -> bool {
        !self.prefix.ip().is_unspecified()
    }
}

/// The entries of an ADDRESS_ASSIGN value (RFC 9484 §4.7.1). None means that all is withdrawn.
///
/// # Errors
///
/// The first entry that is malformed.
pub fn decode_assign(value: &[u8]) -> Result<Vec<AssignedAddress>, CapsuleError> {
    let entries = Reader::new(value).read_all(|reader| {
        let (request_id, prefix) = reader.requested_prefix()?;
        Ok(AssignedAddress { request_id, prefix })
    });
    entries.map_err(|defect| CapsuleError::new("ADDRESS_ASSIGN", defect))
}

/// The entries of an ADDRESS_REQUEST value, of which there is at least one (RFC 9484 §4.7.2).
///
/// # Errors
///
/// The first entry that is malformed, has the Request ID 0, or one that another entry has.
pub fn decode_request(value: &[u8]) -> Result<Vec<RequestedAddress>, CapsuleError> {
    let mut known = HashSet::new();
    let entries = Reader::new(value).read_all(|reader| {
        let (request_id, prefix) = reader.requested_prefix()?;
        let entry = reader.entry();
        if request_id == 0 {
            return Err(Defect::ZeroRequestId { entry });
        }
        if !known.insert(request_id) {
            return Err(Defect::RepeatedRequestId { entry, request_id });
        }
        Ok(RequestedAddress { request_id, prefix })
    });
    match entries {
        Ok(entries) if entries.is_empty() => Err(Defect::NoEntries),
        entries => entries,
    }
    .map_err(|defect| CapsuleError::new("ADDRESS_REQUEST", defect))
}

/// The list in a ROUTE_ADVERTISEMENT value (RFC 9484 §4.7.3). None means that all is withdrawn.
///
/// # Errors
///
/// The first range that is malformed, or out of order, or overlaps another as it may not.
pub fn decode_routes(value: &[u8]) -> Result<Routes, CapsuleError> {
    Reader::new(value)
        .read_all(Reader::range)
        .and_then(|ranges| Ok(Routes::try_from_wire(ranges)?))
        .map_err(|defect| CapsuleError::new("ROUTE_ADVERTISEMENT", defect))
}

/// The value of an ADDRESS_ASSIGN capsule (RFC 9484 §4.7.1). Host bits are sent as zeros.
///
/// # Panics
///
/// If a Request ID is above [`varint::MAX`](pasque::wire::varint::MAX).
pub fn encode_assign(entries: &[AssignedAddress]) -> Vec<u8> {
    let mut value = Vec::new();
    for entry in entries {
        writer::put_requested_prefix(entry.request_id, entry.prefix, &mut value);
    }
    value
}

/// The value of an ADDRESS_REQUEST capsule (RFC 9484 §4.7.2). Host bits are sent as zeros.
///
/// There must be an entry, and their Request IDs must differ from 0 and each other: otherwise the
/// peer aborts the stream.
///
/// # Panics
///
/// If a Request ID is above [`varint::MAX`](pasque::wire::varint::MAX).
pub fn encode_request(entries: &[RequestedAddress]) -> Vec<u8> {
    let mut value = Vec::new();
    for entry in entries {
        writer::put_requested_prefix(entry.request_id, entry.prefix, &mut value);
    }
    value
}

/// The value of a ROUTE_ADVERTISEMENT capsule (RFC 9484 §4.7.3).
pub fn encode_routes(routes: &Routes) -> Vec<u8> {
    let mut value = Vec::new();
    for range in routes.iter() {
        writer::put_range(range, &mut value);
    }
    value
}

fn unspecified(v6: bool) -> IpAddr {
    match v6 {
        true => Ipv6Addr::UNSPECIFIED.into(),
        false => Ipv4Addr::UNSPECIFIED.into(),
    }
}
