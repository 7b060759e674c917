//! [`SharedPort`] and [`SharedSeat`]: one client's part of the interface.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use pasque::{Batch, Packet};

use super::inbox::{Inbox, OpenInbox};
use super::{Shared, destination};
use crate::device::{PacketDevice, Reads};
use crate::filter::{Counters, DropReason, Place};
use crate::flow::{ClientState, Seat};

/// The interface as one tunnel sees it.
pub(super) struct SharedPort {
    shared: Arc<Shared>,
    /// What this worker writes to.
    queue: Arc<dyn PacketDevice>,
    inbox: Arc<Inbox>,
}

impl SharedPort {
    pub(super) fn new(
        shared: Arc<Shared>,
        queue: Arc<dyn PacketDevice>,
        inbox: Arc<Inbox>,
    ) -> Self {
        Self {
            shared,
            queue,
            inbox,
        }
    }

    /// Takes out what is for other clients. The tunnel has judged it, and lowered its hop limit.
    fn deliver_across(&self, batch: &mut Batch) {
        let inboxes = self.shared.inboxes.read();
        let mut open: Option<(*const Inbox, OpenInbox<'_>)> = None;
        batch.retain(|packet| {
            let inbox = destination(packet).and_then(|address| inboxes.get(address));
            let Some(inbox) = inbox.filter(|inbox| !Arc::ptr_eq(inbox, &self.inbox)) else {
                return true;
            };
            let packet = std::mem::replace(packet, Packet::from(Vec::new()));
            match &mut open {
                Some((which, open)) if *which == Arc::as_ptr(inbox) => open.push(packet.into()),
                _ => {
                    drop(open.take());
                    open.insert((Arc::as_ptr(inbox), inbox.open()))
                        .1
                        .push(packet.into());
                }
            }
            false
        });
    }
}

impl PacketDevice for SharedPort {
    fn mtu(&self) -> usize {
        self.queue.mtu()
    }

    fn poll_recv(&self, cx: &mut Context<'_>, reads: &mut Reads) -> Poll<io::Result<()>> {
        let taken = self.inbox.poll_take(cx, reads);
        taken.map_err(|_| io::ErrorKind::NotConnected.into())
    }

    fn try_send(&self, batch: &mut Batch) -> io::Result<()> {
        if self.shared.client_to_client {
            self.deliver_across(batch);
        }
        if batch.is_empty() {
            return Ok(());
        }
        self.queue.try_send(batch)
    }
}

/// A client's place behind the interface.
pub(super) struct SharedSeat {
    id: u64,
    shared: Arc<Shared>,
    inbox: Arc<Inbox>,
    place: Place<Arc<Inbox>>,
}

impl SharedSeat {
    pub(super) fn new(shared: Arc<Shared>, inbox: Arc<Inbox>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            place: shared.inboxes.join(inbox.clone()),
            shared,
            inbox,
        }
    }

    fn count_dropped(&self) {
        let mut counters = Counters::default();
        counters
            .inward
            .lose(self.inbox.take_dropped(), DropReason::QueueFull);
        self.shared.counters.add(&counters);
    }
}

impl Seat for SharedSeat {
    fn update(&mut self, client: &ClientState) {
        let networks: Vec<_> = client
            .addresses
            .iter()
            .chain(&client.routes)
            .copied()
            .collect();
        self.place.set(&networks);
        let held = self.place.networks();
        let routes = client.routes.iter().filter(|route| held.contains(route));
        self.shared.update(
            self.id,
            Some(ClientState {
                routes: routes.copied().collect(),
                ..client.clone()
            }),
        );
        self.count_dropped();
    }

    fn forwards_across(&self) -> bool {
        true
    }
}

impl Drop for SharedSeat {
    fn drop(&mut self) {
        self.shared.update(self.id, None);
        self.count_dropped();
    }
}
