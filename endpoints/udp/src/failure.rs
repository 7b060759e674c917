//! What the operating system's errors mean for a tunnel.

use std::io;

use rustix::io::Errno;

/// A kind of failure of a socket that carries datagrams.
///
/// A UDP socket outlives nearly everything: an error is about one datagram, often an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The target, or the way to it, is not there. Mostly an ICMP message about an earlier datagram;
    /// then this one was not sent and may be sent again.
    Unreachable,
    /// Longer than the link carries in one piece.
    TooLong,
    /// No buffer is free.
    NoBuffer,
    /// The local firewall dropped it.
    Denied,
    /// The interface is down: it may come back.
    LinkDown,
    /// This is no working socket any more.
    Unusable,
    /// Anything else.
    Other,
}

impl Failure {
    pub(crate) fn of(error: &io::Error) -> Self {
        let Some(errno) = Errno::from_io_error(error) else {
            return Self::Other;
        };
        match errno {
            // What Linux makes of ICMP types 3 and 12 (`icmp_err_convert`) and of ICMPv6 type 1.
            Errno::CONNREFUSED
            | Errno::HOSTUNREACH
            | Errno::NETUNREACH
            | Errno::HOSTDOWN
            | Errno::NOPROTOOPT
            | Errno::OPNOTSUPP
            | Errno::PROTO => Self::Unreachable,
            Errno::MSGSIZE => Self::TooLong,
            Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM => Self::NoBuffer,
            Errno::PERM | Errno::ACCESS => Self::Denied,
            Errno::NETDOWN => Self::LinkDown,
            Errno::BADF | Errno::NOTSOCK | Errno::NOTCONN | Errno::DESTADDRREQ | Errno::PIPE => {
                Self::Unusable
            }
            _ => Self::Other,
        }
    }
}

/// Whether the process or the system is out of descriptors: another address would not help.
pub(crate) fn is_exhaustion(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(
        errno,
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)
    )
}
