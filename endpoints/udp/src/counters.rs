//! What a tunnel's end counts. Plain numbers: one flow owns them, and a packet costs one addition.

/// What happened to the datagrams of one tunnel at this end.
///
/// *Outward* is away from the tunnel, to the target or to the local user; *inward* is into it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Datagrams handed to the socket.
    pub sent: u64,
    /// Datagrams taken from the socket.
    pub received: u64,
    /// From the peer: of a context that nobody registered (RFC 9298 §4).
    pub unknown_context: u64,
    /// From the peer: too short for a context ID (RFC 9298 §5).
    pub no_context: u64,
    /// Outward: longer than the link carries in one piece.
    pub too_long_outward: u64,
    /// Inward: longer than a datagram of the tunnel carries.
    pub too_long_inward: u64,
    /// Of those, the ones that an ICMP message told the target about (RFC 9298 §6.1).
    pub too_long_reported: u64,
    /// Outward: no buffer was free.
    pub no_buffer: u64,
    /// Outward: the local firewall said no.
    pub denied: u64,
    /// Reports that the target, or the way to it, cannot be reached. One packet each, but for those
    /// that were sent again.
    pub unreachable: u64,
    /// Outward: the interface was down.
    pub link_down: u64,
    /// Any other error of the socket.
    pub failed: u64,
    /// Inward: had waited too long for room, or was the oldest of too many.
    pub queue_dropped: u64,
    /// Inward: from another address than the target's.
    pub foreign: u64,
    /// How often the tunnel went on to the next address of its target.
    pub switched: u64,
}
