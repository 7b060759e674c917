//! Memory that socket reads go to: one per thread, so that a thousand tunnels cost no more than one.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};

use quinn_udp::RecvMeta;

/// Messages of one read. Each has room for what the kernel coalesces at most, so that no read is
/// truncated; eight of them save most of the system calls where nothing is coalesced.
pub(crate) const MAX_MESSAGES: usize = 8;
/// Bytes of one message: more than the longest that `UDP_GRO` makes.
const MESSAGE_LEN: usize = 1 << 16;

thread_local! {
    static INBOX: RefCell<Inbox> = RefCell::new(Inbox::new());
}

/// What one read of a socket brought.
pub struct Inbox {
    /// Zeroed by the system page by page, at the first touch: the far end stays free until a read
    /// brings that much.
    memory: Box<[u8]>,
    metas: [RecvMeta; MAX_MESSAGES],
    len: usize,
}

impl Inbox {
    pub(crate) fn new() -> Self {
        Self {
            memory: vec![0; MAX_MESSAGES * MESSAGE_LEN].into_boxed_slice(),
            metas: [RecvMeta::default(); MAX_MESSAGES],
            len: 0,
        }
    }

    /// Lends the inbox of this thread. `read` must not ask for it again.
    pub(crate) fn lend<T>(read: impl FnOnce(&mut Self) -> T) -> T {
        INBOX.with_borrow_mut(read)
    }

    /// Replaces the content with what `read` puts into up to `limit` buffers.
    pub(crate) fn fill(
        &mut self,
        limit: usize,
        read: impl FnOnce(&mut [IoSliceMut<'_>], &mut [RecvMeta]) -> io::Result<usize>,
    ) -> io::Result<()> {
        self.len = 0;
        let mut chunks = self.memory.chunks_exact_mut(MESSAGE_LEN);
        let mut buffers: [_; MAX_MESSAGES] =
            std::array::from_fn(|_| IoSliceMut::new(chunks.next().unwrap_or_default()));
        let limit = limit.clamp(1, MAX_MESSAGES);
        #[expect(
            clippy::indexing_slicing,
            reason = "both have MAX_MESSAGES elements, and `limit` is no more"
        )]
        let (buffers, metas) = (&mut buffers[..limit], &mut self.metas[..limit]);
        self.len = read(buffers, metas)?;
        Ok(())
    }

    /// For sockets in tests: replaces the content with one message, to be cut into datagrams of
    /// `segment_len` bytes. What does not fit is cut off.
    pub fn put(&mut self, from: SocketAddr, contents: &[u8], segment_len: usize) {
        let contents = contents.get(..MESSAGE_LEN).unwrap_or(contents);
        for (place, byte) in self.memory.iter_mut().zip(contents) {
            *place = *byte;
        }
        let mut meta = RecvMeta::default();
        meta.addr = from;
        meta.len = contents.len();
        meta.stride = segment_len;
        self.metas[0] = meta;
        self.len = 1;
    }

    /// How many messages there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The messages, in order.
    pub(crate) fn messages(&self) -> impl Iterator<Item = Message<'_>> {
        let contents = self.memory.chunks_exact(MESSAGE_LEN);
        let metas = self.metas.iter().take(self.len);
        metas.zip(contents).map(|(meta, contents)| Message {
            from: meta.addr,
            to: meta.dst_ip,
            #[cfg(test)]
            ecn: meta.ecn,
            contents: contents.get(..meta.len).unwrap_or(contents),
            segment_len: meta.stride,
        })
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Inbox({} messages)", self.len)
    }
}

/// Datagrams of one sender and, but for the last, of one length, which the kernel put together.
#[derive(Debug)]
pub(crate) struct Message<'a> {
    /// Who sent them.
    pub(crate) from: SocketAddr,
    /// The local address they were sent to, where the system says it.
    pub(crate) to: Option<IpAddr>,
    /// The mark of the network, which a tunnel does not carry on.
    #[cfg(test)]
    pub(crate) ecn: Option<quinn_udp::EcnCodepoint>,
    contents: &'a [u8],
    segment_len: usize,
}

impl<'a> Message<'a> {
    /// The datagrams, in order. An empty message is one empty datagram.
    pub(crate) fn datagrams(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let empty = self.contents.is_empty().then_some(self.contents);
        empty
            .into_iter()
            .chain(self.contents.chunks(self.segment_len.max(1)))
    }
}
