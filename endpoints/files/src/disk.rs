//! [`Disk`]: calls that may wait for a disk, kept off the worker's thread.

use std::io;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

/// How many calls of one endpoint may wait for a disk at a time. Enough to keep a fast disk busy;
/// a disk that hangs holds this many threads of the runtime, not all of them.
const MAX_WAITING_CALLS: usize = 32;

/// Runs calls that block. Clones share the bound.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    permits: Arc<Semaphore>,
}

impl Disk {
    pub(crate) fn new() -> Self {
        Self {
            permits: Arc::new(Semaphore::new(MAX_WAITING_CALLS)),
        }
    }

    /// Runs `call` on a thread that may block.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        call: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let permit = self
            .permits
            .clone()
            .acquire_owned()
            .await
            .map_err(io::Error::other)?;
        // The permit goes along: a client that leaves does not end the call that it caused.
        let result = spawn_blocking(move || {
            let result = call();
            drop(permit);
            result
        });
        result.await.map_err(io::Error::other)?
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn calls_that_hang_hold_a_bounded_number_of_threads() {
        let disk = Disk::new();
        let running = Arc::new(AtomicUsize::new(0));
        let calls = (0..3 * MAX_WAITING_CALLS).map(|_| {
            let (disk, running) = (disk.clone(), running.clone());
            tokio::spawn(async move {
                let call = move || {
                    let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                    std::thread::sleep(Duration::from_millis(5));
                    running.fetch_sub(1, Ordering::SeqCst);
                    Ok(now)
                };
                disk.run(call).await.unwrap()
            })
        });
        let mut most = 0;
        for call in calls.collect::<Vec<_>>() {
            most = most.max(call.await.unwrap());
        }
        assert!((2..=MAX_WAITING_CALLS).contains(&most), "{most}");
    }
}
