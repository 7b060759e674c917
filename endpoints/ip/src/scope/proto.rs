//! [`IpProto`]: the variable `ipproto`.

use std::fmt;
use std::str::FromStr;

/// The most digits that a protocol number is written with (RFC 9484 §4.6).
const MAX_DIGITS: usize = 3;

/// An upper-layer protocol number, or `*` for all of them (RFC 9484 §4.6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct IpProto(Option<u8>);

impl IpProto {
    /// `*`: every protocol.
    pub const ANY: Self = Self(None);

    /// The number, or `None` for every protocol. Never that of an IPv6 extension header.
    pub const fn number(self) -> Option<u8> {
        self.0
    }
}

impl TryFrom<u8> for IpProto {
    type Error = ProtoError;

    /// The number of an IPv6 extension header is refused, as RFC 9484 §4.8 allows: packets are held
    /// against the first header that is no extension, so that none would ever match. Besides, 0
    /// among them means "any" in a ROUTE_ADVERTISEMENT.
    fn try_from(number: u8) -> Result<Self, ProtoError> {
        match number {
            0 | 43 | 44 | 51 | 60 | 135 | 139 | 140 => Err(ProtoError::Extension(number)),
            number => Ok(Self(Some(number))),
        }
    }
}

impl FromStr for IpProto {
    type Err = ProtoError;

    fn from_str(text: &str) -> Result<Self, ProtoError> {
        if text == "*" {
            return Ok(Self::ANY);
        }
        let malformed = || ProtoError::Malformed(text.into());
        // The standard parser would take a plus sign and any number of zeros, too.
        if text.len() > MAX_DIGITS || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(malformed());
        }
        let number: u8 = text.parse().map_err(|_| malformed())?;
        number.try_into()
    }
}

impl fmt::Display for IpProto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("*"),
            Some(number) => number.fmt(f),
        }
    }
}

/// Why a text or number is no [`IpProto`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtoError {
    /// Not a number from 0 to 255.
    #[error("found {0:?}, expected \"*\" or up to three digits from 0 to 255")]
    Malformed(String),
    /// The number of an IPv6 extension header.
    #[error("found {0}, an IPv6 extension header: expected the protocol behind such headers")]
    Extension(u8),
}
