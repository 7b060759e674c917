//! A target's socket in memory, for this crate's own tests.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use rustix::io::Errno;

use crate::inbox::Inbox;
use crate::raw::IcmpSink;
use crate::socket::{Dial, Sink, TargetSocket};

/// The local address of every [`FakeSocket`].
pub(crate) const LOCAL_ADDRESS: ([u8; 4], u16) = ([198, 51, 100, 7], 40_000);

/// What one read of a [`FakeSocket`] gives.
#[derive(Debug)]
pub(crate) enum Read {
    Datagrams {
        from: Option<SocketAddr>,
        contents: Vec<u8>,
        segment_len: usize,
    },
    Error(Errno),
}

/// One `send`: its contents and segment length.
pub(crate) type Send = (Vec<u8>, Option<usize>);

/// What happens at one address. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fake(Arc<Mutex<State>>);

#[derive(Debug)]
pub(crate) struct State {
    /// What the next sends fail with; `None` lets one pass.
    pub(crate) send_errors: VecDeque<Option<Errno>>,
    pub(crate) sends: Vec<Send>,
    pub(crate) reads: VecDeque<Read>,
    pub(crate) dial_errors: VecDeque<Errno>,
    pub(crate) dials: usize,
    pub(crate) open: usize,
    pub(crate) max_segments: usize,
    pub(crate) link_len: usize,
    waker: Option<Waker>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            send_errors: VecDeque::new(),
            sends: Vec::new(),
            reads: VecDeque::new(),
            dial_errors: VecDeque::new(),
            dials: 0,
            open: 0,
            max_segments: 64,
            link_len: 1472,
            waker: None,
        }
    }
}

impl Fake {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Lets the target send datagrams of `segment_len` bytes, put together.
    pub(crate) fn answer(&self, contents: &[u8], segment_len: usize) {
        self.read(Read::Datagrams {
            from: None,
            contents: contents.to_vec(),
            segment_len,
        });
    }

    pub(crate) fn read(&self, read: Read) {
        let mut state = self.lock();
        state.reads.push_back(read);
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }

    /// All datagrams that were sent, offload undone.
    pub(crate) fn sent(&self) -> Vec<Vec<u8>> {
        let state = self.lock();
        let cut = |(contents, segment_len): &Send| match segment_len {
            Some(len) => contents.chunks(*len).map(<[u8]>::to_vec).collect(),
            None => vec![contents.clone()],
        };
        state.sends.iter().flat_map(cut).collect()
    }

    pub(crate) fn socket(&self, address: SocketAddr) -> FakeSocket {
        self.lock().open += 1;
        FakeSocket {
            fake: self.clone(),
            address,
        }
    }
}

#[derive(Debug)]
pub(crate) struct FakeSocket {
    fake: Fake,
    address: SocketAddr,
}

impl Sink for FakeSocket {
    fn send(&self, contents: &[u8], segment_len: Option<usize>) -> io::Result<()> {
        let mut state = self.fake.lock();
        if let Some(Some(errno)) = state.send_errors.pop_front() {
            return Err(errno.into());
        }
        state.sends.push((contents.to_vec(), segment_len));
        Ok(())
    }

    fn max_segments(&self) -> usize {
        self.fake.lock().max_segments
    }
}

impl TargetSocket for FakeSocket {
    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        inbox: &mut Inbox,
        _limit: usize,
    ) -> Poll<io::Result<()>> {
        let mut state = self.fake.lock();
        match state.reads.pop_front() {
            None => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
            Some(Read::Error(errno)) => Poll::Ready(Err(errno.into())),
            Some(Read::Datagrams {
                from,
                contents,
                segment_len,
            }) => {
                inbox.put(from.unwrap_or(self.address), &contents, segment_len);
                Poll::Ready(Ok(()))
            }
        }
    }

    fn link_len(&self) -> usize {
        self.fake.lock().link_len
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(LOCAL_ADDRESS.into())
    }
}

impl Drop for FakeSocket {
    fn drop(&mut self) {
        // Not a second panic where a test has failed.
        if let Ok(mut state) = self.fake.0.lock() {
            state.open -= 1;
        }
    }
}

/// Addresses and what happens there.
#[derive(Debug, Default)]
pub(crate) struct FakeNetwork(HashMap<SocketAddr, Fake>);

impl FakeNetwork {
    pub(crate) fn new(hosts: &[(SocketAddr, &Fake)]) -> Arc<Self> {
        let hosts = hosts
            .iter()
            .map(|(address, fake)| (*address, Fake::clone(fake)));
        Arc::new(Self(hosts.collect()))
    }
}

impl Dial for FakeNetwork {
    fn dial(&self, target: SocketAddr) -> io::Result<Box<dyn TargetSocket>> {
        let fake = &self.0[&target];
        fake.lock().dials += 1;
        let error = fake.lock().dial_errors.pop_front();
        match error {
            Some(errno) => Err(errno.into()),
            None => Ok(Box::new(fake.socket(target))),
        }
    }
}

/// ICMP messages in memory, each with whom it is for.
#[derive(Debug, Default)]
pub(crate) struct FakeIcmp {
    pub(crate) sent: Mutex<Vec<(SocketAddr, Vec<u8>)>>,
    pub(crate) errors: Mutex<VecDeque<Errno>>,
}

impl IcmpSink for FakeIcmp {
    fn send(&self, to: SocketAddr, message: &[u8]) -> io::Result<()> {
        if let Some(errno) = self.errors.lock().unwrap().pop_front() {
            return Err(errno.into());
        }
        self.sent.lock().unwrap().push((to, message.to_vec()));
        Ok(())
    }
}
