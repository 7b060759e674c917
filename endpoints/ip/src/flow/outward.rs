//! From the peer to the interface.

use std::time::Instant;

use pasque::{Batch, FlowCx, Packet, Result};

use super::core::Core;
use super::{Role, context};
use crate::filter::{DropReason, Rejection, Way};
use crate::icmp::{self, Problem};
use crate::packet::{self, Header};

impl<R: Role> Core<R> {
    /// Whether a packet from the peer goes on to the interface.
    #[inline]
    pub(super) fn admit_outward(
        &mut self,
        packet: &mut Packet,
        now: Instant,
        cx: &mut FlowCx<'_>,
    ) -> bool {
        let header = match packet::parse(packet) {
            Ok(header) => header,
            Err(malformed) => {
                self.counters.outward.drop_one(malformed.into());
                return false;
            }
        };
        packet.truncate(header.total_len);
        if self.guard.is_waiting() && self.take_echo_answer(packet, &header) {
            self.counters.outward.answered += 1;
            return false;
        }
        let verdict = match self.role.outward(packet, &header, now) {
            Ok(Way::On) => return true,
            Ok(Way::Across) => match self.forward(packet, header) {
                Ok(()) => return true,
                Err(rejection) => Err(rejection),
            },
            Ok(Way::Here) => self.answer(packet, &header, cx),
            Err(rejection) => Err(rejection),
        };
        if let Err(Rejection { reason, problem }) = verdict {
            self.counters.outward.drop_one(reason);
            if let Some(problem) = problem
                && self.errors.admit(now)
            {
                self.tell_peer(problem, packet, &header, cx);
            }
        }
        false
    }

    /// Does what a router does to a packet for another client.
    fn forward(&self, packet: &mut Packet, mut header: Header) -> Result<(), Rejection> {
        if !self.role.forwards_across() {
            return Ok(());
        }
        packet::lower_hop_limit(packet, &mut header)
            .map_err(|_| DropReason::HopLimit.telling(Problem::HopLimit))
    }

    /// Hands packets to the interface, behind those that wait for it.
    pub(super) fn deliver(&mut self, packets: &mut Batch, cx: &FlowCx<'_>) -> Result<()> {
        if packets.is_empty() {
            return Ok(());
        }
        if self.unwritten.is_empty() {
            self.write(packets)?;
        }
        for packet in packets.drain() {
            if self.unwritten.push(packet).is_err() {
                self.counters.outward.drop_one(DropReason::Device);
            }
        }
        if !self.unwritten.is_empty() {
            // Nobody tells when there is room again. The next turn is soon enough.
            cx.task().waker().wake_by_ref();
        }
        Ok(())
    }

    /// Offers the interface what it refused in the last turn, for the last time.
    pub(super) fn retry(&mut self) -> Result<()> {
        if self.unwritten.is_empty() {
            return Ok(());
        }
        let mut packets = std::mem::take(&mut self.unwritten);
        self.write(&mut packets)?;
        for _ in packets.drain() {
            self.counters.outward.drop_one(DropReason::Device);
        }
        self.unwritten = packets;
        Ok(())
    }

    /// Writes what the interface takes; the rest stays in `packets`.
    fn write(&mut self, packets: &mut Batch) -> Result<()> {
        let before = packets.len();
        if let Err(error) = self.device.try_send(packets) {
            return Err(self.lose_device(error));
        }
        let mut passed = (before - packets.len()) as u64;
        let refused = self.device.refused();
        let refused_now = (refused - self.refused_by_kernel).min(passed);
        self.refused_by_kernel = refused;
        passed -= refused_now;
        self.counters.outward.passed += passed;
        for _ in 0..refused_now {
            self.counters.outward.drop_one(DropReason::Device);
        }
        Ok(())
    }

    /// Answers an echo request to all nodes of the link (RFC 9484 §7.2).
    fn answer(
        &mut self,
        packet: &[u8],
        header: &Header,
        cx: &mut FlowCx<'_>,
    ) -> Result<(), Rejection> {
        let own = self.role.own_address(header.is_v6());
        let mut reply = own
            .and_then(|own| icmp::echo_reply_to(packet, header, own))
            .ok_or(DropReason::LinkLocal.silently())?;
        self.counters.outward.answered += 1;
        context::add(&mut reply);
        cx.send(reply);
        Ok(())
    }

    /// Tells the sender of a packet from the peer why it is dropped (RFC 9484 §7.2.1).
    #[cold]
    fn tell_peer(&mut self, problem: Problem, packet: &[u8], header: &Header, cx: &mut FlowCx<'_>) {
        let own = self.role.own_address(header.is_v6());
        let source = own.unwrap_or(header.destination);
        if let Some(mut error) = icmp::error(problem, packet, header, source) {
            self.counters.errors_sent += 1;
            context::add(&mut error);
            cx.send(error);
        }
    }
}
