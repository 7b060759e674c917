//! The addresses of one target, of which one has a socket.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::counters::Counters;
use crate::failure::is_exhaustion;
use crate::socket::{Dial, Sink, TargetSocket};
use crate::transmit::Route;

/// The addresses that a target's name has and that policy allows, best first.
///
/// UDP has no handshake that could be raced as RFC 8305 §5 does it. What there is instead: an address
/// without a route fails at once and the next one is taken; and until the first datagram has come
/// back, a report that the present address is unreachable moves the tunnel on to the next one. An
/// address that has answered once is kept whatever happens, since the client has state with whoever
/// answered.
#[derive(Debug)]
pub struct Candidates {
    socket: Box<dyn TargetSocket>,
    address: SocketAddr,
    /// In the order they are tried in. The one that is left goes to the back.
    others: VecDeque<SocketAddr>,
    dial: Arc<dyn Dial>,
}

impl Candidates {
    /// Opens a socket to the first of `addresses` that has a route.
    ///
    /// # Errors
    /// What the operating system says about the first address, or that it has no descriptors left.
    pub fn open(
        addresses: impl IntoIterator<Item = SocketAddr>,
        dial: Arc<dyn Dial>,
    ) -> io::Result<Self> {
        let mut others: VecDeque<_> = addresses.into_iter().collect();
        let mut first_error = None;
        for _ in 0..others.len() {
            let Some(address) = others.pop_front() else {
                break;
            };
            match dial.dial(address) {
                Ok(socket) => {
                    return Ok(Self {
                        socket,
                        address,
                        others,
                        dial,
                    });
                }
                Err(error) if is_exhaustion(&error) => return Err(error),
                Err(error) => first_error = first_error.or(Some(error)),
            }
            others.push_back(address);
        }
        Err(first_error.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into()))
    }

    /// The address that datagrams go to now.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn socket(&self) -> &dyn TargetSocket {
        &*self.socket
    }

    /// Goes on to none of the other addresses that are not `wanted`.
    pub(crate) fn retain(&mut self, mut wanted: impl FnMut(SocketAddr) -> bool) {
        self.others.retain(|&address| wanted(address));
    }

    /// A datagram came back: the tunnel stays with this address.
    pub(crate) fn keep(&mut self) {
        self.others = VecDeque::new();
    }

    /// Goes on to the next address that has a route, unless this one has answered before.
    pub(crate) fn give_up(&mut self, counters: &mut Counters) {
        for _ in 0..self.others.len() {
            let Some(address) = self.others.pop_front() else {
                return;
            };
            let Ok(socket) = self.dial.dial(address) else {
                self.others.push_back(address);
                continue;
            };
            self.others.push_back(self.address);
            self.address = address;
            self.socket = socket;
            counters.switched += 1;
            return;
        }
    }
}

impl Route for Candidates {
    fn sink(&self) -> &dyn Sink {
        &*self.socket
    }

    fn unreachable(&mut self, counters: &mut Counters) {
        self.give_up(counters);
    }
}
