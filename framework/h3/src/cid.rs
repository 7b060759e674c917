//! Connection IDs: what routes a packet to its worker and its connection.

use quiche::ConnectionId;

use crate::settings::CID_LEN;

/// A destination connection ID as a key: inline, so that a look-up allocates nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Cid {
    len: u8,
    bytes: [u8; quiche::MAX_CONN_ID_LEN],
}

impl Cid {
    /// A fresh ID of worker `index`: the first byte names the worker, the others are random.
    pub(crate) fn random(index: u8) -> Self {
        let mut bytes: [u8; CID_LEN] = rand::random();
        bytes[0] = index;
        Self::copy_from(&bytes)
    }

    /// The first [`quiche::MAX_CONN_ID_LEN`] bytes of `bytes`.
    pub(crate) fn copy_from(bytes: &[u8]) -> Self {
        let bytes = bytes.get(..quiche::MAX_CONN_ID_LEN).unwrap_or(bytes);
        let mut cid = Self {
            len: bytes.len() as u8,
            bytes: [0; quiche::MAX_CONN_ID_LEN],
        };
        if let Some(place) = cid.bytes.get_mut(..bytes.len()) {
            place.copy_from_slice(bytes);
        }
        cid
    }

    /// The worker that made this ID, if its form is ours.
    pub(crate) fn worker(&self) -> Option<u8> {
        (self.len as usize == CID_LEN).then_some(self.bytes[0])
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        let len = usize::from(self.len);
        self.bytes.get(..len).unwrap_or(&self.bytes)
    }

    pub(crate) fn to_quiche(self) -> ConnectionId<'static> {
        ConnectionId::from_vec(self.as_bytes().to_vec())
    }
}

/// What the first bytes of a packet say (RFC 9000 §17).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// A short header: the handshake is done, and the ID is one of ours.
    Short(Cid),
    /// A long header.
    Long,
}

/// Tells a packet's form. `None`: too short to be anything, or not QUIC.
pub(crate) fn form(packet: &[u8]) -> Option<Form> {
    let (first, rest) = packet.split_first()?;
    if first & 0x80 != 0 {
        return Some(Form::Long);
    }
    Some(Form::Short(Cid::copy_from(rest.get(..CID_LEN)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_names_the_worker() {
        let cid = Cid::random(3);
        assert_eq!(cid.worker(), Some(3));
        let packet = [&[0x40], cid.as_bytes(), &[0; 20]].concat();
        assert_eq!(form(&packet), Some(Form::Short(cid)));
        assert_eq!(form(&packet[..8]), None);
        assert_eq!(form(&[]), None);
        assert_eq!(form(&[0xc0]), Some(Form::Long));
        assert_eq!(Cid::copy_from(&[7; 16]).worker(), None);
    }
}
