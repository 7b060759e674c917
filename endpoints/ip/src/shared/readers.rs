//! [`Readers`]: which worker reads which queue of the interface.
//!
//! Each worker has a runtime of its own. The kernel sends a flow's packets to the queue on which it saw
//! the flow last, so a worker that reads the queue it writes to mostly meets its own tunnels' packets.
//! But the kernel uses all queues from the beginning, so all are read from the beginning: by the first
//! worker that has a tunnel, until others come and take over their share.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::runtime::{Handle, Id};
use tokio::sync::oneshot;
use tokio::task::yield_now;

use super::Shared;
use crate::device::{PacketDevice, Queue, Reads};

/// The queues of one interface.
pub(super) struct Readers(Mutex<Vec<Reader>>);

/// One queue.
enum Reader {
    /// Nobody has needed it yet.
    Idle(Option<Queue>),
    /// A device that was made elsewhere, and is not read yet.
    Ready(Arc<dyn PacketDevice>),
    Running {
        device: Arc<dyn PacketDevice>,
        runtime: Id,
        /// Tells the task that reads it where to go on. Dropping it ends the task.
        hand_over: oneshot::Sender<HandOver>,
    },
}

/// Another runtime for a task that reads a queue.
struct HandOver {
    runtime: Handle,
    next: oneshot::Receiver<HandOver>,
}

impl Readers {
    pub(super) fn of_queues(queues: Vec<Queue>) -> Self {
        let idle = queues.into_iter().map(|queue| Reader::Idle(Some(queue)));
        Self(Mutex::new(idle.collect()))
    }

    pub(super) fn of_devices(devices: impl IntoIterator<Item = Arc<dyn PacketDevice>>) -> Self {
        Self(Mutex::new(devices.into_iter().map(Reader::Ready).collect()))
    }

    /// The queue to write to on the current runtime. Sees to it that all queues are read.
    ///
    /// # Errors
    /// There is no runtime here, or it does not take the queues.
    pub(super) fn queue_here(&self, shared: &Weak<Shared>) -> io::Result<Arc<dyn PacketDevice>> {
        let here = Handle::try_current().map_err(io::Error::other)?;
        let mut readers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for reader in &mut *readers {
            reader.run(&here, shared)?;
        }
        let of_runtime = |id: Id| move |reader: &&Reader| reader.runtime() == Some(id);
        if let Some(own) = readers.iter().find(of_runtime(here.id())) {
            return own.device();
        }
        let readers_of = |id: Id| readers.iter().filter(of_runtime(id)).count();
        let has_several = |reader: &Reader| reader.runtime().is_some_and(|id| readers_of(id) > 1);
        let spare = readers.iter().position(has_several);
        match spare.and_then(|index| readers.get_mut(index)) {
            Some(reader) => {
                reader.move_to(&here);
                reader.device()
            }
            // More workers than queues: any queue may be written to.
            None => readers.first().map_or_else(gone, Reader::device),
        }
    }

    /// Ends all tasks, and closes the interface once no tunnel uses it any more.
    pub(super) fn stop(&self) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}

impl Reader {
    /// Begins to read, on this runtime, unless that has begun somewhere.
    fn run(&mut self, here: &Handle, shared: &Weak<Shared>) -> io::Result<()> {
        let device = match self {
            Self::Idle(queue) => queue.take().map_or_else(gone, |queue| queue.register())?,
            Self::Ready(device) => device.clone(),
            Self::Running { .. } => return Ok(()),
        };
        let (hand_over, next) = oneshot::channel();
        here.spawn(read(shared.clone(), device.clone(), next));
        *self = Self::Running {
            device,
            runtime: here.id(),
            hand_over,
        };
        Ok(())
    }

    /// Goes on reading on another runtime.
    fn move_to(&mut self, there: &Handle) {
        let Self::Running {
            runtime, hand_over, ..
        } = self
        else {
            return;
        };
        let (sender, next) = oneshot::channel();
        *runtime = there.id();
        // A task that has ended already found the interface gone.
        let _ = std::mem::replace(hand_over, sender).send(HandOver {
            runtime: there.clone(),
            next,
        });
    }

    fn runtime(&self) -> Option<Id> {
        match self {
            Self::Running { runtime, .. } => Some(*runtime),
            _ => None,
        }
    }

    fn device(&self) -> io::Result<Arc<dyn PacketDevice>> {
        match self {
            Self::Running { device, .. } | Self::Ready(device) => Ok(device.clone()),
            Self::Idle(_) => gone(),
        }
    }
}

/// Reads a queue until it is to be read elsewhere, or no more.
async fn read(
    shared: Weak<Shared>,
    device: Arc<dyn PacketDevice>,
    mut hand_over: oneshot::Receiver<HandOver>,
) {
    let mut reads = Reads::default();
    loop {
        let received = tokio::select! {
            biased;
            there = &mut hand_over => {
                if let Ok(HandOver { runtime, next }) = there {
                    runtime.spawn(boxed(shared, device, next));
                }
                return;
            }
            received = poll_fn(|cx| device.poll_recv(cx, &mut reads)) => received,
        };
        let Some(shared) = shared.upgrade() else {
            return;
        };
        match received {
            Ok(()) => shared.switch(&mut reads, &*device),
            Err(error) => return shared.lose(&error),
        }
        // The tunnels that were woken come first.
        yield_now().await;
    }
}

/// [`read`] for its own use: it cannot name a future of which it is a part.
fn boxed(
    shared: Weak<Shared>,
    device: Arc<dyn PacketDevice>,
    hand_over: oneshot::Receiver<HandOver>,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(read(shared, device, hand_over))
}

fn gone<T>() -> io::Result<T> {
    Err(io::ErrorKind::NotConnected.into())
}
