//! [`LateDevice`]: a TUN interface that is opened here and used elsewhere.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};

use pasque::Batch;

use crate::device::{Interface, PacketDevice, Queue, Reads};

/// A queue that registers itself with the runtime that uses it first: that of the connection's
/// worker. On any other, each packet would wake two threads.
pub(super) struct LateDevice {
    device: OnceLock<Arc<dyn PacketDevice>>,
    queue: Mutex<Option<Arc<Queue>>>,
    interface: Interface,
}

impl LateDevice {
    pub(super) fn new(queue: Arc<Queue>, interface: Interface) -> Self {
        Self {
            device: OnceLock::new(),
            queue: Mutex::new(Some(queue)),
            interface,
        }
    }

    fn device(&self) -> io::Result<&dyn PacketDevice> {
        if self.device.get().is_none() {
            let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(queue) = queue.take() {
                let _ = self.device.set(queue.register()?);
            }
        }
        // Nothing is there after a registration that failed: that was the end of the device.
        let device = self.device.get().map(Arc::as_ref);
        device.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl PacketDevice for LateDevice {
    fn mtu(&self) -> usize {
        self.interface.mtu()
    }

    fn poll_recv(&self, cx: &mut Context<'_>, reads: &mut Reads) -> Poll<io::Result<()>> {
        self.device()?.poll_recv(cx, reads)
    }

    fn try_send(&self, batch: &mut Batch) -> io::Result<()> {
        self.device()?.try_send(batch)
    }

    fn refused(&self) -> u64 {
        self.device.get().map_or(0, |device| device.refused())
    }
}

impl fmt::Debug for LateDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LateDevice").field(&self.interface).finish()
    }
}
