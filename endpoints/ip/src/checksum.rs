//! The Internet checksum (RFC 1071) and its update for one changed word (RFC 1624).

#[cfg(test)]
mod tests;

use std::net::IpAddr;

/// A running ones' complement sum of 16-bit words, from which a checksum is made.
///
/// The words are summed in the byte order of the machine, several at once; the sum only changes its
/// byte order by that (RFC 1071 §2(B)), which [`checksum`](Self::checksum) undoes.
#[derive(Clone, Copy, Debug, Default)]
#[must_use]
pub struct Sum(u64);

impl Sum {
    /// The pseudo-header that TCP, UDP and ICMPv6 sum with their message of `len` bytes
    /// (RFC 9293 §3.1, RFC 768, RFC 8200 §8.1). The sum is one for both IP versions.
    pub fn pseudo_header(source: IpAddr, destination: IpAddr, protocol: u8, len: usize) -> Self {
        // No message is longer than 32 bits can tell.
        let [.., a, b, c, d] = (len as u64).to_be_bytes();
        Self::default()
            .with_address(source)
            .with_address(destination)
            .with(&[a, b, c, d, 0, protocol])
    }

    /// Adds the words of `bytes`. An odd last byte counts as the high half of a word, so that only the
    /// last piece of a message may have an odd length.
    #[inline]
    pub fn with(self, bytes: &[u8]) -> Self {
        // Four sums that do not wait for each other. Each takes two numbers of 32 bits per round: it
        // cannot overflow below 2^31 rounds, which are 64 GiB.
        let mut lanes = [0_u64; 4];
        let (blocks, rest) = bytes.as_chunks::<32>();
        for block in blocks {
            for (lane, word) in lanes.iter_mut().zip(block.as_chunks::<8>().0) {
                *lane = lane.wrapping_add(halves(*word));
            }
        }
        let (words, rest) = rest.as_chunks::<8>();
        let mut sum = words.iter().fold(u64::from(self.fold()), |sum, word| {
            sum.wrapping_add(halves(*word))
        });
        // A copy of known length is one instruction, of an unknown one a call.
        let (words, rest) = rest.as_chunks::<4>();
        for word in words {
            sum = sum.wrapping_add(u32::from_ne_bytes(*word).into());
        }
        let (words, rest) = rest.as_chunks::<2>();
        for word in words {
            sum = sum.wrapping_add(u16::from_ne_bytes(*word).into());
        }
        if let [last] = rest {
            sum = sum.wrapping_add(u16::from_ne_bytes([*last, 0]).into());
        }
        Self(lanes.into_iter().fold(sum, u64::wrapping_add))
    }

    /// What the checksum field gets, for [`u16::to_be_bytes`].
    ///
    /// Zero if what was summed includes a checksum that is right. (Where a protocol has zero stand for
    /// "none", as UDP, a computed zero is sent as `0xffff`.)
    #[inline]
    #[must_use]
    pub fn checksum(self) -> u16 {
        !u16::from_be(self.fold())
    }

    fn with_address(self, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => self.with(&address.octets()),
            IpAddr::V6(address) => self.with(&address.octets()),
        }
    }

    /// The sum in 16 bits, every carry added in again; in the byte order of the machine.
    #[inline]
    fn fold(self) -> u16 {
        let sum = (self.0 >> 32) + (self.0 & 0xffff_ffff);
        let sum = (sum >> 16) + (sum & 0xffff);
        let sum = (sum >> 16) + (sum & 0xffff);
        // Two foldings leave 0x1_0001 at most.
        ((sum >> 16) + (sum & 0xffff)) as u16
    }
}

/// The checksum of `bytes`, whose checksum field is zero; zero if that is filled in and right.
#[inline]
#[must_use]
pub fn checksum(bytes: &[u8]) -> u16 {
    Sum::default().with(bytes).checksum()
}

/// `checksum` after one of the words that it covers went from `old` to `new` (RFC 1624, equation 3).
///
/// A checksum that was wrong stays wrong, so that whoever is to check it still finds out.
#[inline]
#[must_use]
pub fn update(checksum: u16, old: u16, new: u16) -> u16 {
    let sum = u32::from(!checksum) + u32::from(!old) + u32::from(new);
    let sum = (sum >> 16) + (sum & 0xffff);
    !(((sum >> 16) + (sum & 0xffff)) as u16)
}

/// Both halves of a word, added: as good as the word, and with room for carries.
#[inline]
fn halves(word: [u8; 8]) -> u64 {
    let word = u64::from_ne_bytes(word);
    (word >> 32) + (word & 0xffff_ffff)
}
