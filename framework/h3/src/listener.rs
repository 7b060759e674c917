//! New connections: whether to answer, to ask for proof of address, or to accept.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use boring::ssl::SslRef;
use pasque::client_network;
use pasque::config::{Limits, Retry};
use quiche::RecvInfo;

use crate::cid::Cid;
use crate::client_certificate::Verifier;
use crate::connection::{ServerSide, Shared};
use crate::memory::Memory;
use crate::token::TokenKey;

/// The least that a UDP datagram with a client's first packet holds, in bytes (RFC 9000 §14.1).
/// Smaller ones get no answer, so that an answer is never the larger of the two.
const MIN_INITIAL: usize = 1200;

/// How many connections there are, and from where.
#[derive(Debug)]
pub(crate) struct Places {
    taken: Mutex<Taken>,
    /// What the lack of memory forbids.
    pub(crate) memory: Memory,
}

#[derive(Debug)]
struct Taken {
    limits: Limits,
    total: usize,
    /// Whether somebody was turned away because all are taken, since it was last asked.
    were_wanted: bool,
    by_address: HashMap<IpAddr, usize>,
}

impl Places {
    pub(crate) fn new(limits: &Limits) -> Arc<Self> {
        Arc::new(Self {
            taken: Mutex::new(Taken {
                limits: limits.clone(),
                total: 0,
                were_wanted: false,
                by_address: HashMap::new(),
            }),
            memory: Memory::default(),
        })
    }

    /// Memory that the process may hold, in bytes.
    pub(crate) fn memory_budget(&self) -> u64 {
        self.lock().limits.memory_budget_mib << 20
    }

    /// Other limits from here on. Connections beyond them stay.
    pub(crate) fn set_limits(&self, limits: &Limits) {
        self.lock().limits = limits.clone();
    }

    /// A place for a connection from `address`, if there is one.
    fn take(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let address = client_network(address);
        let mut taken = self.lock();
        let here = taken.by_address.get(&address).copied().unwrap_or(0);
        if here >= taken.limits.connections_per_address {
            return None;
        }
        if taken.total >= taken.limits.connections {
            taken.were_wanted = true;
            return None;
        }
        if self.memory.refuses_connection() {
            return None;
        }
        taken.total += 1;
        taken.by_address.insert(address, here + 1);
        Some(Place {
            places: self.clone(),
            address,
        })
    }

    /// Whether somebody was turned away because all places are taken, since this was last asked.
    pub(crate) fn were_wanted(&self) -> bool {
        std::mem::take(&mut self.lock().were_wanted)
    }

    /// How many connections there are.
    pub(crate) fn total(&self) -> usize {
        self.lock().total
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection's place; free again when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    address: IpAddr,
}

impl Place {
    /// Whether a new tunnel has to be refused for lack of memory.
    pub(crate) fn refuses_tunnel(&self) -> bool {
        self.places.memory.refuses_tunnel()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        taken.total -= 1;
        if let Some(here) = taken.by_address.get_mut(&self.address) {
            *here -= 1;
            if *here == 0 {
                taken.by_address.remove(&self.address);
            }
        }
    }
}

/// Decides about packets that belong to no connection.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) shared: Arc<Shared>,
    pub(crate) places: Arc<Places>,
    pub(crate) tokens: TokenKey,
    pub(crate) retry: Retry,
    pub(crate) verifier: Verifier,
    /// Whether packets come to the worker that their connection ID names.
    pub(crate) is_steered: bool,
}

/// What becomes of a packet that belongs to no connection.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Nothing: whoever sent it learns nothing.
    Drop,
    /// The answer stands in the buffer, this many bytes of it. No state is kept.
    Reply(usize),
    /// A new connection under the ID `cid`; without a place, one that is refused at once.
    /// `original` is the ID that the client chose before it was sent a Retry.
    Accept {
        cid: Cid,
        original: Option<Cid>,
        place: Option<Place>,
    },
}

impl Listener {
    /// Prepares the handshake of a new connection, which has not begun.
    pub(crate) fn prepare(&mut self, ssl: &mut SslRef) {
        let router = self.shared.site.router();
        let authenticator = router.authenticator().map(|it| &**it);
        self.verifier.prepare(ssl, authenticator);
    }

    /// Judges a packet with a long header; `len` is the length of the datagram, in bytes, and `worker` the one
    /// that a new connection is for.
    pub(crate) fn judge(
        &mut self,
        header: &quiche::Header<'_>,
        info: RecvInfo,
        len: usize,
        now: Instant,
        worker: u8,
        out: &mut [u8],
    ) -> Verdict {
        if len < MIN_INITIAL || is_unanswerable(info.from) {
            return Verdict::Drop;
        }
        if !quiche::version_is_supported(header.version) {
            // Never in answer to a version negotiation: two servers would talk for ever.
            if header.version == 0 {
                return Verdict::Drop;
            }
            let reply = quiche::negotiate_version(&header.scid, &header.dcid, out);
            return reply.map_or(Verdict::Drop, Verdict::Reply);
        }
        if header.ty != quiche::Type::Initial {
            return Verdict::Drop;
        }
        let token = header.token.as_deref().unwrap_or_default();
        if token.is_empty() && self.retry == Retry::Always {
            return self.ask_for_proof(header, info, now, worker, out);
        }
        let original = match token {
            [] => None,
            token => {
                let original = self
                    .tokens
                    .verify(now, token, info.from, info.to, &header.dcid);
                let Some(original) = original else {
                    return Verdict::Drop;
                };
                Some(Cid::copy_from(original))
            }
        };
        let place = self.places.take(info.from.ip());
        Verdict::Accept {
            cid: Cid::random(worker),
            original,
            place,
        }
    }

    fn ask_for_proof(
        &self,
        header: &quiche::Header<'_>,
        info: RecvInfo,
        now: Instant,
        worker: u8,
        out: &mut [u8],
    ) -> Verdict {
        let cid = Cid::random(worker);
        let token = self
            .tokens
            .issue(now, info.from, info.to, &header.dcid, cid.as_bytes());
        let Some(token) = token else {
            return Verdict::Drop;
        };
        let reply = quiche::retry(
            &header.scid,
            &header.dcid,
            &cid.to_quiche(),
            &token,
            header.version,
            out,
        );
        reply.map_or(Verdict::Drop, Verdict::Reply)
    }

    pub(crate) fn server_side(&self, place: Place) -> ServerSide {
        ServerSide::new(self.shared.clone(), place)
    }
}

/// An address to which nothing must be sent: no single host is behind it.
fn is_unanswerable(address: SocketAddr) -> bool {
    let ip = address.ip().to_canonical();
    ip.is_multicast() || ip.is_unspecified() || address.port() == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_limited_in_all_and_per_address_and_given_back() {
        let limits = Limits {
            connections: 3,
            connections_per_address: 2,
            ..Limits::default()
        };
        let places = Places::new(&limits);
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let first = places.take(address("192.0.2.1")).unwrap();
        // The mapped form is the same client.
        let second = places.take(address("::ffff:192.0.2.1")).unwrap();
        assert!(places.take(address("192.0.2.1")).is_none());
        let third = places.take(address("192.0.2.2")).unwrap();
        assert!(places.take(address("192.0.2.3")).is_none());
        drop(first);
        assert!(places.take(address("192.0.2.1")).is_some());
        drop((second, third));
        // A /64 of IPv6 is one client, whatever address of it a connection comes from.
        let fourth = places.take(address("2001:db8::1")).unwrap();
        let fifth = places.take(address("2001:db8::2")).unwrap();
        assert!(places.take(address("2001:db8::3")).is_none());
        assert!(places.take(address("2001:db8:0:1::1")).is_some());
        drop((fourth, fifth));
        assert_eq!(places.total(), 0);
        assert!(places.lock().by_address.is_empty());
    }
}
