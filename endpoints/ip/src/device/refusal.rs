//! What an error of a TUN descriptor is about.

use std::io;

use rustix::io::Errno;

/// Why a packet was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// There is no room now.
    Later,
    /// The interface is gone, and with it all that will be written.
    Gone,
    /// The kernel does not take this packet: it is no IP packet, the interface is down, or there is no
    /// memory for it. Others may be taken.
    Packet,
}

impl Refusal {
    pub(super) fn of(error: &io::Error) -> Self {
        match Errno::from_io_error(error) {
            Some(Errno::AGAIN | Errno::INTR) => Self::Later,
            Some(Errno::BADF | Errno::BADFD | Errno::NODEV | Errno::NXIO) => Self::Gone,
            _ => Self::Packet,
        }
    }
}

/// Whether a failed read lost one packet, and the next may bring another: the kernel could not
/// describe the packet, or had no memory to hand it over.
pub(super) fn is_one_lost(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::INVAL | Errno::NOMEM | Errno::NOBUFS)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_interface_is_told_from_a_bad_packet() {
        for errno in [Errno::BADF, Errno::BADFD, Errno::NODEV] {
            assert_eq!(Refusal::of(&errno.into()), Refusal::Gone, "{errno}");
            assert!(!is_one_lost(&errno.into()));
        }
        for errno in [
            Errno::INVAL,
            Errno::IO,
            Errno::NOBUFS,
            Errno::NOMEM,
            Errno::NOSPC,
        ] {
            assert_eq!(Refusal::of(&errno.into()), Refusal::Packet, "{errno}");
        }
        assert_eq!(Refusal::of(&Errno::AGAIN.into()), Refusal::Later);
        // A read that fails so is the end.
        assert!(!is_one_lost(&Errno::IO.into()));
    }
}
