//! One entry at a time, from the front of a value.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use pasque::wire::varint;

use super::{Defect, Field};
use crate::routes::IpRange;

/// What is left of a value.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    /// The entry that is being read, counted from 0.
    entry: usize,
}

/// The IP Version field.
#[derive(Clone, Copy)]
pub(super) enum Version {
    V4 = 4,
    V6 = 6,
}

impl<'a> Reader<'a> {
    pub(super) fn new(value: &'a [u8]) -> Self {
        Self {
            rest: value,
            entry: 0,
        }
    }

    /// The number of the entry that is being read, from 0.
    pub(super) fn entry(&self) -> usize {
        self.entry
    }

    /// All that `read` makes of the value. It takes at least a byte each time, so that the result
    /// grows with what was sent and not with what was promised.
    pub(super) fn read_all<T>(
        mut self,
        mut read: impl FnMut(&mut Self) -> Result<T, Defect>,
    ) -> Result<Vec<T>, Defect> {
        let mut entries = Vec::new();
        while !self.rest.is_empty() {
            entries.push(read(&mut self)?);
            self.entry += 1;
        }
        Ok(entries)
    }

    /// An entry of ADDRESS_ASSIGN or ADDRESS_REQUEST: Request ID and prefix.
    pub(super) fn requested_prefix(&mut self) -> Result<(u64, IpNetwork), Defect> {
        let request_id = self.request_id()?;
        let version = self.version()?;
        let address = self.address(version, Field::Address)?;
        let [prefix_len] = self.take(Field::PrefixLen)?;

        let entry = self.entry;
        let prefix = IpNetwork::new(address, prefix_len).map_err(|_| Defect::PrefixLen {
            entry,
            address,
            prefix_len,
        })?;
        if prefix.network() != address {
            return Err(Defect::HostBits { entry, prefix });
        }
        Ok((request_id, prefix))
    }

    /// An entry of ROUTE_ADVERTISEMENT.
    pub(super) fn range(&mut self) -> Result<IpRange, Defect> {
        let version = self.version()?;
        let start = self.address(version, Field::Start)?;
        let end = self.address(version, Field::End)?;
        let [protocol] = self.take(Field::Protocol)?;
        IpRange::new(start, end, protocol).map_err(|error| Defect::Range {
            entry: self.entry,
            error,
        })
    }

    fn request_id(&mut self) -> Result<u64, Defect> {
        let found =
            varint::decode(self.rest).and_then(|(id, len)| Some((id, self.rest.get(len..)?)));
        let (request_id, rest) = found.ok_or(Defect::Truncated {
            entry: self.entry,
            field: Field::RequestId,
        })?;
        self.rest = rest;
        Ok(request_id)
    }

    fn version(&mut self) -> Result<Version, Defect> {
        match self.take(Field::Version)? {
            [4] => Ok(Version::V4),
            [6] => Ok(Version::V6),
            [found] => Err(Defect::Version {
                entry: self.entry,
                found,
            }),
        }
    }

    fn address(&mut self, version: Version, field: Field) -> Result<IpAddr, Defect> {
        Ok(match version {
            Version::V4 => IpAddr::from(self.take::<4>(field)?),
            Version::V6 => IpAddr::from(self.take::<16>(field)?),
        })
    }

    fn take<const LEN: usize>(&mut self, field: Field) -> Result<[u8; LEN], Defect> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(Defect::Truncated {
            entry: self.entry,
            field,
        })?;
        self.rest = rest;
        Ok(*bytes)
    }
}
