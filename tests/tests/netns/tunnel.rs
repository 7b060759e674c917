//! [`RawTunnel`]: an IP tunnel without an interface, whose packets and capsules the test writes and
//! reads itself.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::Duration;

use pasque::connection::ClientError;
use pasque::{Admit, Batch, Capsule, Connection, Flow, FlowCx, Packet, Request, Result};
use pasque_tests::PATIENCE;
use tokio::sync::mpsc;
use tokio::time::timeout;

pub(crate) const ADDRESS_ASSIGN: u64 = 1;
pub(crate) const ROUTE_ADVERTISEMENT: u64 = 3;

/// The client's end of an IP tunnel. Dropping it ends the tunnel.
pub(crate) struct RawTunnel {
    outbound: Arc<Mutex<Outbound>>,
    capsules: mpsc::UnboundedReceiver<(u64, Vec<u8>)>,
    packets: mpsc::UnboundedReceiver<Vec<u8>>,
}

#[derive(Default)]
struct Outbound {
    datagrams: VecDeque<Vec<u8>>,
    waker: Option<Waker>,
    ended: bool,
}

struct RawFlow {
    outbound: Arc<Mutex<Outbound>>,
    capsules: mpsc::UnboundedSender<(u64, Vec<u8>)>,
    packets: mpsc::UnboundedSender<Vec<u8>>,
}

impl RawTunnel {
    /// Asks for a tunnel to `target` and `protocol`, as the path has them.
    pub(crate) async fn open(
        connection: &Connection,
        target: &str,
        protocol: &str,
    ) -> std::result::Result<Self, ClientError> {
        let request = Request::tunnel("connect-ip", format!("/ip/{target}/{protocol}/"));
        Self::ask(connection, request, &[]).await
    }

    /// Sends `request`, and these packets as soon as it may.
    pub(crate) async fn ask(
        connection: &Connection,
        request: Request,
        packets: &[Vec<u8>],
    ) -> std::result::Result<Self, ClientError> {
        let outbound = Arc::<Mutex<Outbound>>::default();
        let datagrams = packets.iter().map(|packet| [&[0], &packet[..]].concat());
        outbound.lock().unwrap().datagrams.extend(datagrams);
        let (capsule_sender, capsules) = mpsc::unbounded_channel();
        let (packet_sender, packets) = mpsc::unbounded_channel();
        let flow = RawFlow {
            outbound: outbound.clone(),
            capsules: capsule_sender,
            packets: packet_sender,
        };
        connection.open(request, flow).await?;
        Ok(Self {
            outbound,
            capsules,
            packets,
        })
    }

    /// Sends one HTTP Datagram, context ID included.
    pub(crate) fn send_datagram(&self, datagram: Vec<u8>) {
        let mut outbound = self.outbound.lock().unwrap();
        outbound.datagrams.push_back(datagram);
        if let Some(waker) = outbound.waker.take() {
            waker.wake();
        }
    }

    /// Sends one IP packet.
    pub(crate) fn send(&self, packet: &[u8]) {
        self.send_datagram([&[0], packet].concat());
    }

    /// The next packet, if one comes within `patience`.
    pub(crate) async fn recv(&mut self, patience: Duration) -> Option<Vec<u8>> {
        timeout(patience, self.packets.recv()).await.ok().flatten()
    }

    /// The next capsule of this kind, others are skipped.
    pub(crate) async fn capsule(&mut self, kind: u64) -> Vec<u8> {
        loop {
            let capsule = timeout(PATIENCE, self.capsules.recv()).await;
            let (found, value) = capsule
                .expect("a capsule in time")
                .expect("the tunnel is open");
            if found == kind {
                return value;
            }
        }
    }

    /// The addresses of the next `ADDRESS_ASSIGN`.
    pub(crate) async fn addresses(&mut self) -> Vec<IpAddr> {
        let value = self.capsule(ADDRESS_ASSIGN).await;
        let mut rest = &value[..];
        let mut addresses = Vec::new();
        while let Some((&id, after)) = rest.split_first() {
            assert!(id < 64, "a request ID of one byte");
            let (&version, after) = after.split_first().unwrap();
            match version {
                4 => {
                    addresses.push(IpAddr::from(<[u8; 4]>::try_from(&after[..4]).unwrap()));
                    rest = &after[5..];
                }
                _ => {
                    addresses.push(IpAddr::from(<[u8; 16]>::try_from(&after[..16]).unwrap()));
                    rest = &after[17..];
                }
            }
        }
        addresses
    }
}

impl Drop for RawTunnel {
    fn drop(&mut self) {
        let mut outbound = self.outbound.lock().unwrap();
        outbound.ended = true;
        if let Some(waker) = outbound.waker.take() {
            waker.wake();
        }
    }
}

impl Flow for RawFlow {
    fn on_datagrams(&mut self, inbound: &mut Batch, _cx: &mut FlowCx<'_>) -> Result<()> {
        for packet in inbound.drain() {
            // Context 0 only; the test may have ended already.
            if packet.first() == Some(&0) {
                let _ = self.packets.send(packet[1..].to_vec());
            }
        }
        Ok(())
    }

    fn on_capsule(&mut self, capsule: Capsule<'_>, _cx: &mut FlowCx<'_>) -> Result<()> {
        let _ = self.capsules.send((capsule.kind, capsule.value.to_vec()));
        Ok(())
    }

    fn admit_capsule(&self, _kind: u64, _len: u64, _start: &[u8]) -> Admit {
        Admit::Buffer
    }

    fn poll_outbound(&mut self, cx: &mut FlowCx<'_>) -> Poll<Result<()>> {
        let mut outbound = self.outbound.lock().unwrap();
        while cx.room() > 0
            && let Some(datagram) = outbound.datagrams.pop_front()
        {
            cx.send(Packet::from(datagram));
        }
        outbound.waker = Some(cx.task().waker().clone());
        match outbound.ended && outbound.datagrams.is_empty() {
            true => Poll::Ready(Ok(())),
            false => Poll::Pending,
        }
    }
}
