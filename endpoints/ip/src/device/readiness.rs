//! Waiting on a TUN descriptor, and noticing that its interface is gone.

#![allow(
    unsafe_code,
    reason = "tokio registers descriptors by an unsafe call only"
)]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use pasque::BATCH_LEN;
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;
use tokio_tun::Tun;

use super::Reads;
use super::refusal::is_one_lost;

/// What owns a descriptor and names the same one for as long as it lives.
pub(super) trait Descriptor: AsRawFd {}

impl Descriptor for OwnedFd {}

impl Descriptor for Tun {}

impl<D: Descriptor> Descriptor for Arc<D> {}

/// A TUN descriptor that is registered with a runtime.
pub(super) struct Readiness<D: Descriptor>(AsyncFd<D>);

impl<D: Descriptor> Readiness<D> {
    /// Registers the descriptor with the current runtime.
    pub(super) fn register(descriptor: D) -> io::Result<Self> {
        Handle::try_current().map_err(io::Error::other)?;
        // Writability is not asked for: see `poll_gone`.
        // SAFETY: a `Descriptor` keeps the descriptor that it names open until it is dropped. Nothing
        // here replaces it, and an `AsyncFd` ends its registration before it drops what it holds.
        let registered = unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) };
        Ok(Self(registered.map_err(io::Error::from)?))
    }

    pub(super) fn get_ref(&self) -> &D {
        self.0.get_ref()
    }

    /// Adds to `reads` as often as `read`, which is one system call, brings some: until there
    /// is no more, or no room. `read` says how many it brought; `lost` counts those that it could
    /// not.
    pub(super) fn poll_fill(
        &self,
        cx: &mut Context<'_>,
        reads: &mut Reads,
        lost: &AtomicU64,
        mut read: impl FnMut(&mut Reads) -> io::Result<usize>,
    ) -> Poll<io::Result<()>> {
        let before = reads.len();
        loop {
            let Poll::Ready(guard) = self.0.poll_read_ready(cx) else {
                return self.poll_gone(cx);
            };
            let mut guard = guard?;
            if fill(reads, lost, &mut read)? {
                guard.clear_ready();
            } else {
                guard.retain_ready();
            }
            if reads.len() > before || reads.is_full() {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// The kernel reports a deleted interface as an error and nothing else. To tokio that is the far
    /// end of a pipe that was closed: it wakes who waits to write, never who waits to read. As
    /// nobody asked to hear when the descriptor is writable, nothing else ends this wait.
    fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.0.poll_write_ready(cx) {
            Poll::Ready(_) => Poll::Ready(Err(Errno::NODEV.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// Reads until `reads` is full or nothing is left; true if nothing is left.
fn fill(
    reads: &mut Reads,
    lost: &AtomicU64,
    mut read: impl FnMut(&mut Reads) -> io::Result<usize>,
) -> io::Result<bool> {
    let before = reads.len();
    let mut failures = 0;
    // Bounds also reads that bring nothing.
    for _ in 0..BATCH_LEN {
        let brought = match read(reads) {
            Ok(brought) => brought,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // One packet is lost, unless it goes on like that.
            Err(error) if is_one_lost(&error) && failures + 1 < BATCH_LEN => {
                lost.fetch_add(1, Ordering::Relaxed);
                failures += 1;
                continue;
            }
            // It will be met again, when what was read before it has been taken.
            Err(_) if reads.len() > before => return Ok(false),
            Err(error) => return Err(error),
        };
        // The next read is likely to be like this one.
        if reads.len() + brought.max(1) > BATCH_LEN {
            break;
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use futures_util::FutureExt;
    use pasque::Packet;
    use tokio::time::timeout;

    use super::*;

    /// A script of reads: how many packets each brings, or its error.
    fn script(steps: Vec<Result<usize, Errno>>) -> impl FnMut(&mut Reads) -> io::Result<usize> {
        let mut steps = steps.into_iter();
        move |reads| {
            let count = steps.next().unwrap_or(Err(Errno::AGAIN))?;
            for _ in 0..count {
                reads.push(Packet::copy_from(b"x").into());
            }
            Ok(count)
        }
    }

    fn run(steps: Vec<Result<usize, Errno>>) -> (io::Result<bool>, usize, u64) {
        let (mut reads, lost) = (Reads::default(), AtomicU64::new(0));
        let result = fill(&mut reads, &lost, script(steps));
        (result, reads.len(), lost.into_inner())
    }

    #[test]
    fn it_reads_on_while_the_next_read_would_probably_fit() {
        assert!(matches!(run(vec![]), (Ok(true), 0, 0)));
        assert!(matches!(run(vec![Ok(1), Ok(1)]), (Ok(true), 2, 0)));
        assert!(matches!(run(vec![Ok(46), Ok(46)]), (Ok(false), 46, 0)));
        assert!(matches!(run(vec![Ok(20); 9]), (Ok(false), 60, 0)));
        assert!(matches!(run(vec![Ok(1); 99]), (Ok(false), 64, 0)));
    }

    #[test]
    fn a_lost_packet_is_counted_and_an_error_comes_after_what_was_read() {
        let reads = vec![Ok(1), Err(Errno::INVAL), Err(Errno::INTR), Ok(1)];
        assert!(matches!(run(reads), (Ok(true), 2, 1)));
        let reads = vec![Ok(1), Err(Errno::BADFD)];
        assert!(matches!(run(reads), (Ok(false), 1, 0)));
        assert!(run(vec![Err(Errno::BADFD)]).0.is_err());
        assert!(run(vec![Err(Errno::IO)]).0.is_err());
    }

    #[test]
    fn a_read_that_only_ever_fails_is_the_end() {
        assert!(run(vec![Err(Errno::INVAL); 1000]).0.is_err());
    }

    /// The far end of a pipe, when closed, is reported like a deleted interface: an error alone.
    #[tokio::test]
    async fn a_reader_hears_of_an_error_that_comes_alone() {
        let (reader, writer) = std::io::pipe().unwrap();
        let device = Readiness::register(OwnedFd::from(writer)).unwrap();
        let (mut reads, lost) = (Reads::default(), AtomicU64::new(0));
        let mut receive = async || {
            let filled = poll_fn(|cx| device.poll_fill(cx, &mut reads, &lost, script(vec![])));
            timeout(Duration::from_secs(10), filled).await.unwrap()
        };
        assert!(receive().now_or_never().is_none());
        drop(reader);
        let error = receive().await.unwrap_err();
        assert_eq!(Errno::from_io_error(&error), Some(Errno::NODEV));
        assert!(receive().await.is_err());
    }

    #[test]
    fn without_a_runtime_there_is_an_error_and_no_panic() {
        let (reader, _writer) = std::io::pipe().unwrap();
        assert!(Readiness::register(OwnedFd::from(reader)).is_err());
    }
}
