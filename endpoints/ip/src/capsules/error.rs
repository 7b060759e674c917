//! Why a capsule is malformed.

use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::routes::{RangeError, RouteError};

/// A malformed capsule: the stream it came on is aborted with H3_MESSAGE_ERROR (RFC 9297 §3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed {capsule}: {defect}")]
pub struct CapsuleError {
    /// The name of the capsule type.
    pub capsule: &'static str,
    /// What is wrong with it.
    pub defect: Defect,
}

impl CapsuleError {
    pub(super) fn new(capsule: &'static str, defect: Defect) -> Self {
        Self { capsule, defect }
    }
}

impl From<CapsuleError> for pasque::Error {
    fn from(error: CapsuleError) -> Self {
        Self::malformed(error.to_string())
    }
}

/// What is wrong with a capsule. Entries count from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Defect {
    /// The value ends before the entry does.
    #[error("the value ends in entry {entry}, before its {field} is whole")]
    Truncated {
        /// The last entry.
        entry: usize,
        /// The field that is missing or cut short.
        field: Field,
    },
    /// An IP version other than 4 and 6.
    #[error("entry {entry} has IP version {found}, expected 4 or 6")]
    Version {
        /// The entry.
        entry: usize,
        /// The value of the field.
        found: u8,
    },
    /// A prefix longer than the address.
    #[error("entry {entry} is {address}/{prefix_len}, a prefix longer than the address")]
    PrefixLen {
        /// The entry.
        entry: usize,
        /// Its address.
        address: IpAddr,
        /// Its prefix length, in bits.
        prefix_len: u8,
    },
    /// Bits of the address are set behind the prefix.
    #[error("entry {entry} is {prefix}, expected {} with this prefix length", prefix.network())]
    HostBits {
        /// The entry.
        entry: usize,
        /// The prefix as sent.
        prefix: IpNetwork,
    },
    /// An ADDRESS_REQUEST that asks for nothing (RFC 9484 §4.7.2).
    #[error("no entry found, expected at least one")]
    NoEntries,
    /// An ADDRESS_REQUEST with the Request ID that stands for unprompted assignments.
    #[error("entry {entry} has Request ID 0, expected another number")]
    ZeroRequestId {
        /// The entry.
        entry: usize,
    },
    /// An ADDRESS_REQUEST that has a Request ID twice.
    #[error("entry {entry} has Request ID {request_id}, which an entry before it has")]
    RepeatedRequestId {
        /// The later entry of the two.
        entry: usize,
        /// The Request ID.
        request_id: u64,
    },
    /// Addresses that are not the ends of a range.
    #[error("in entry {entry} {error}")]
    Range {
        /// The entry.
        entry: usize,
        /// What is wrong with it.
        error: RangeError,
    },
    /// Ranges that are fine one by one, but not as a list.
    #[error(transparent)]
    Routes(#[from] RouteError),
}

/// A field of an entry, by its name in RFC 9484 §4.7.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Field {
    /// Of ADDRESS_ASSIGN and ADDRESS_REQUEST.
    RequestId,
    /// Of all three.
    Version,
    /// Of ADDRESS_ASSIGN and ADDRESS_REQUEST.
    Address,
    /// Of ADDRESS_ASSIGN and ADDRESS_REQUEST.
    PrefixLen,
    /// Of ROUTE_ADVERTISEMENT.
    Start,
    /// Of ROUTE_ADVERTISEMENT.
    End,
    /// Of ROUTE_ADVERTISEMENT.
    Protocol,
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RequestId => "Request ID",
            Self::Version => "IP Version",
            Self::Address => "IP Address",
            Self::PrefixLen => "IP Prefix Length",
            Self::Start => "Start IP Address",
            Self::End => "End IP Address",
            Self::Protocol => "IP Protocol",
        })
    }
}
