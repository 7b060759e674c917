//! [`Writer`]: hashes and writes on a thread of its own, so that a slow disk, or a pipe that nobody
//! reads, stops neither the other downloads nor the answer to a signal.

use std::io::{self, Write};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};

/// Chunks that wait for the thread. With chunks of at most 64 KiB this is half a megabyte; beyond
/// it the server is told to wait, by flow control.
const QUEUE_LEN: usize = 8;

/// The way to a thread that writes to a `W`.
#[derive(Debug)]
pub(crate) struct Writer<W> {
    chunks: mpsc::Sender<Bytes>,
    thread: JoinHandle<io::Result<(W, [u8; 32])>>,
}

impl<W: Write + Send + 'static> Writer<W> {
    /// Starts the thread. `open` runs on it, and gives the hash what is already written.
    pub(crate) fn spawn(open: impl FnOnce(&mut Sha256) -> io::Result<W> + Send + 'static) -> Self {
        let (chunks, mut queue) = mpsc::channel::<Bytes>(QUEUE_LEN);
        let thread = spawn_blocking(move || {
            let mut hash = Sha256::new();
            let mut out = open(&mut hash)?;
            while let Some(chunk) = queue.blocking_recv() {
                out.write_all(&chunk)?;
                hash.update(&chunk);
            }
            out.flush()?;
            Ok((out, hash.finalize().into()))
        });
        Self { chunks, thread }
    }

    /// Queues a chunk. Returns whether the thread still writes; if not, [`finish`](Self::finish)
    /// says why.
    pub(crate) async fn write(&self, chunk: Bytes) -> bool {
        self.chunks.send(chunk).await.is_ok()
    }

    /// Waits until everything is written. Returns what was written to, and the digest.
    pub(crate) async fn finish(self) -> io::Result<(W, [u8; 32])> {
        drop(self.chunks);
        self.thread.await.map_err(io::Error::other)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_digest_is_of_everything() {
        let writer = Writer::spawn(|hash| {
            hash.update(b"a");
            Ok(Vec::from(b"a"))
        });
        assert!(writer.write(Bytes::from_static(b"bc")).await);
        let (written, digest) = writer.finish().await.unwrap();
        assert_eq!(written, b"abc");
        // FIPS 180-2, appendix B.1.
        assert_eq!(digest[..4], [0xba, 0x78, 0x16, 0xbf]);
    }

    #[tokio::test]
    async fn what_fails_on_the_thread_is_told() {
        let writer = Writer::spawn(|_| Ok(Full));
        while writer.write(Bytes::from_static(b"x")).await {}
        let error = writer.finish().await.map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }

    struct Full;

    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}
