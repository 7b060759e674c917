//! [`LeaseFile`]: who had which address, across restarts.
//!
//! A file of one table: an address or prefix, whose it is, and when it was given back. While a
//! tunnel has it, there is no such time: an entry without one, found at the start, is from a server
//! that was killed, and counts as given back just then.
//!
//! Changes are written by a thread of the file's own, which tunnels never wait for. It writes them
//! at once while they are few. While they are many it writes the latest state of each address, a
//! few times a second. A server that is killed loses what it changed since.

mod error;
mod queue;
mod table;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ipnetwork::IpNetwork;
use redb::Database;
use redb::backends::FileBackend;

pub use self::error::LeaseFileError;
use self::queue::{Change, Queue};
use self::table::{Stored, explain};
use crate::pool::ClientKey;

/// Readable by the server alone: it says who was here, and when.
const MODE: u32 = 0o600;

/// The memory for pages of the file, in bytes. It is read once and then only written.
const CACHE_LEN: usize = 1 << 20;

/// The file that keeps a server's leases (`lease_file`).
///
/// One server at a time can have it open. Dropping it writes what is still to be written.
#[derive(Debug)]
pub struct LeaseFile {
    queue: Arc<Queue>,
    writer: Option<JoinHandle<()>>,
    /// What was in the file, until it is asked for.
    stored: Mutex<Vec<Stored>>,
}

/// An address or prefix that a client had before this server started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) network: IpNetwork,
    pub(crate) client: ClientKey,
    /// For how long it has not been used.
    pub(crate) age: Duration,
}

impl LeaseFile {
    /// Opens the file, or makes it where there is none. Reads all of it, so it may block.
    ///
    /// # Errors
    ///
    /// If it cannot be opened or made, is in use by another server, or is damaged.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, LeaseFileError> {
        let path = path.as_ref().to_path_buf();
        let database = open_database(&path)?;
        let stored = table::read(&database).map_err(|error| explain(error, &path))?;
        let queue = Arc::new(Queue::default());
        let writer = Writer {
            path: path.clone(),
            database: Some(database),
            queue: queue.clone(),
        };
        let spawned = thread::Builder::new()
            .name("pasque-leases".into())
            .spawn(|| writer.run());
        Ok(Self {
            queue,
            writer: Some(spawned.map_err(|error| LeaseFileError::Thread { path, error })?),
            stored: Mutex::new(stored),
        })
    }

    /// What was in the file and is younger than `reuse`, the oldest first. The rest is removed.
    /// There is nothing the second time.
    pub(crate) fn take_entries(&self, reuse: Duration) -> Vec<Entry> {
        let mut stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        let stored = std::mem::take(&mut *stored);
        let now = unix_time();
        let mut entries = Vec::new();
        for Stored {
            network,
            client,
            ended,
        } in stored
        {
            // A time in the future is from a clock that was set back since.
            let age = Duration::from_secs(now.saturating_sub(ended.unwrap_or(now)));
            if age >= reuse {
                self.remove(network);
                continue;
            }
            if ended.is_none() {
                self.record_end(network, &client);
            }
            entries.push(Entry {
                network,
                client,
                age,
            });
        }
        entries.sort_by_key(|entry| Reverse(entry.age));
        entries
    }

    /// `client` has `network` from now on.
    pub(crate) fn record_start(&self, network: IpNetwork, client: &ClientKey) {
        let client = client.clone();
        self.queue.push(
            network,
            Change::Put {
                client,
                ended: None,
            },
        );
    }

    /// `client` had `network` until now.
    pub(crate) fn record_end(&self, network: IpNetwork, client: &ClientKey) {
        let client = client.clone();
        let ended = Some(unix_time());
        self.queue.push(network, Change::Put { client, ended });
    }

    /// It does not matter any more who had `network`.
    pub(crate) fn remove(&self, network: IpNetwork) {
        self.queue.push(network, Change::Remove);
    }
}

impl Drop for LeaseFile {
    fn drop(&mut self) {
        self.queue.close();
        if let Some(writer) = self.writer.take() {
            // Err: it panicked, and the message is on record.
            let _ = writer.join();
        }
    }
}

/// What the file's thread does.
struct Writer {
    path: PathBuf,
    /// `None` after a failure, which leaves an open database useless.
    database: Option<Database>,
    queue: Arc<Queue>,
}

impl Writer {
    fn run(mut self) {
        let mut is_failing = false;
        while let Some(changes) = self.queue.take(is_failing) {
            let written = self.write(&changes);
            if let Err(error) = &written {
                self.queue.put_back(changes);
                if !is_failing {
                    tracing::error!(%error, "leases are not written down; trying again");
                }
            } else if is_failing {
                tracing::info!(path = %self.path.display(), "leases are written down again");
            }
            is_failing = written.is_err();
        }
    }

    fn write(&mut self, changes: &queue::Changes) -> Result<(), LeaseFileError> {
        let database = match self.database.take() {
            Some(database) => database,
            None => open_database(&self.path)?,
        };
        table::write(&database, changes).map_err(|error| explain(error, &self.path))?;
        self.database = Some(database);
        Ok(())
    }
}

fn open_database(path: &Path) -> Result<Database, LeaseFileError> {
    let path_buf = || path.to_path_buf();
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(MODE)
        .open(path)
        .map_err(|error| LeaseFileError::Open {
            path: path_buf(),
            error,
        })?;
    let backend = FileBackend::new(file).map_err(|error| explain(error.into(), path))?;
    Database::builder()
        .set_cache_size(CACHE_LEN)
        // Once, at the start: a damaged page found later would be found in the middle of a write.
        .set_check_integrity_on_open(true)
        .create_with_backend(backend)
        .map_err(|error| explain(error.into(), path))
}

/// Seconds since 1970, by the system's clock: the only one that a restart does not set back.
fn unix_time() -> u64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH);
    elapsed.map_or(0, |elapsed| elapsed.as_secs())
}
