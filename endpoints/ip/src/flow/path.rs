//! What a tunnel does about the path that it goes over: see [`PathGuard`](crate::mtu::PathGuard).

use std::net::IpAddr;
use std::time::Duration;

use pasque::{Error, FlowCx, Result, StreamError};
use tokio::time::{Instant, sleep};

use super::core::Core;
use super::{Role, context};
use crate::filter::ALL_NODES;
use crate::icmp::{self, Echo};
use crate::mtu::{Duty, ECHO_DATA_LEN, MIN_MTU_V6};
use crate::packet::Header;

impl<R: Role> Core<R> {
    /// Whether the packet answers an echo request of ours.
    pub(super) fn take_echo_answer(&mut self, packet: &[u8], header: &Header) -> bool {
        header.is_v6()
            && header.total_len >= MIN_MTU_V6 as usize
            && icmp::parse_echo_reply(packet, header).is_some_and(|echo| {
                echo.id == self.echo_id && self.guard.take_answer(echo.sequence)
            })
    }

    fn send_echo(&mut self, sequence: u16, cx: &mut FlowCx<'_>) {
        let Some(IpAddr::V6(source)) = self.role.own_address(true) else {
            return;
        };
        // A host may answer at only one of the two.
        let destination = match self.role.peer_address_v6() {
            Some(address) if sequence % 2 == 1 => address,
            _ => ALL_NODES,
        };
        let echo = Echo {
            id: self.echo_id,
            sequence,
        };
        let mut request = icmp::echo_request_v6(source, destination, echo, ECHO_DATA_LEN);
        context::add(&mut request);
        cx.send(request);
    }

    /// Does what the guard wants, when it is time or the limit is another.
    pub(super) fn watch_path(&mut self, cx: &mut FlowCx<'_>) -> Result<()> {
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(sleep(Duration::ZERO)));
        let is_time = timer.as_mut().poll(&mut cx.task()).is_ready();
        if !is_time && !self.is_guard_due && cx.max_len() == self.max_len {
            return Ok(());
        }
        self.is_guard_due = false;
        self.max_len = cx.max_len();
        let now = Instant::now();
        let has_ipv6 = self.role.has_ipv6();
        while let Some(duty) = self.guard.check(now.into_std(), self.max_len, has_ipv6) {
            match duty {
                Duty::SetMtu(_) => self.role.report(&self.guard),
                Duty::SendEcho { sequence } => self.send_echo(sequence, cx),
                Duty::Abort(failure) => {
                    self.role.on_path_failure(failure);
                    return Err(Error::internal(failure.to_string())
                        .with_stream_error(StreamError::RequestCancelled));
                }
            }
        }
        self.count();
        let next = now + self.guard.next_check(now.into_std());
        if let Some(timer) = &mut self.timer {
            timer.as_mut().reset(next);
            // Registers the waker; were it time already, the next turn would see it.
            if timer.as_mut().poll(&mut cx.task()).is_ready() {
                cx.task().waker().wake_by_ref();
            }
        }
        Ok(())
    }
}
