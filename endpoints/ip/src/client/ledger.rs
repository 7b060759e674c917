//! [`Ledger`]: what running clients have changed in this host's routing, on file, so that the next
//! one undoes what a killed one could not.
//!
//! ```text
//! /run/psq-client/lock                 held while any of the files below comes, goes or is judged
//! /run/psq-client/4026531840-psq0      routes added in that network namespace for that interface,
//!                                      one a line; locked for as long as its client lives
//! ```
//!
//! The kernel releases a lock when its process ends, however it ends. No process ID is compared, so
//! none can be mistaken for another's.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::geteuid;

use crate::link::HostRoute;

/// The folder below `/run`, or below `$XDG_RUNTIME_DIR` for a client that may not write there.
/// Both are emptied when the host starts, as is its routing table.
const FOLDER: &str = "psq-client";

/// How long another client may hold [`LOCK`]: it changes a few files and routes meanwhile.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
const LOCK_RETRY: Duration = Duration::from_millis(20);
const LOCK: &str = "lock";

/// The entries of all clients in one network namespace.
#[derive(Debug)]
pub(super) struct Ledger {
    folder: PathBuf,
    namespace: u64,
}

impl Ledger {
    /// The ledger of this network namespace.
    ///
    /// # Errors
    /// When no folder can be had that outlives this process and is nobody else's.
    pub(super) fn open() -> io::Result<Self> {
        let namespace = fs::metadata("/proc/self/ns/net")?.ino();
        let system = Self::at(Path::new("/run").join(FOLDER), namespace);
        match (system, std::env::var_os("XDG_RUNTIME_DIR")) {
            (Err(_), Some(own)) => Self::at(Path::new(&own).join(FOLDER), namespace),
            (system, _) => system,
        }
    }

    /// The ledger of `namespace` in `folder`.
    pub(super) fn at(folder: PathBuf, namespace: u64) -> io::Result<Self> {
        let context = |error: io::Error| {
            io::Error::new(error.kind(), format!("{}: {error}", folder.display()))
        };
        match DirBuilder::new().mode(0o700).create(&folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(context(error));
            }
            _ => {}
        }
        let found = fs::symlink_metadata(&folder).map_err(context)?;
        // What is read here is undone with all the rights of this process.
        if !found.is_dir() || found.uid() != geteuid().as_raw() || found.mode() & 0o022 != 0 {
            let kind = io::ErrorKind::PermissionDenied;
            return Err(context(io::Error::new(kind, "others can write there")));
        }
        let ledger = Self { folder, namespace };
        ledger.open_file(LOCK)?;
        Ok(ledger)
    }

    /// Waits until no other client reads or changes the ledger.
    ///
    /// # Errors
    /// When one does for seconds.
    pub(super) async fn lock(&self) -> io::Result<Locked<'_>> {
        let file = self.open_file(LOCK)?;
        let attempts = async {
            while !is_ours(&file)? {
                tokio::time::sleep(LOCK_RETRY).await;
            }
            Ok(())
        };
        match tokio::time::timeout(LOCK_PATIENCE, attempts).await {
            Ok(result) => result.map(|()| Locked {
                ledger: self,
                _lock: file,
            }),
            Err(_late) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("{}/{LOCK} is held by another client", self.folder.display()),
            )),
        }
    }

    fn open_file(&self, name: &str) -> io::Result<File> {
        let path = self.folder.join(name);
        OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
    }
}

/// The ledger, while nobody else reads or changes it.
#[derive(Debug)]
pub(super) struct Locked<'a> {
    ledger: &'a Ledger,
    _lock: File,
}

impl Locked<'_> {
    /// Begins the entry of the client that runs `interface`. What a killed client of the same name
    /// has left there is taken over.
    pub(super) fn begin(&self, interface: &str) -> io::Result<Entry> {
        let name = format!("{}{interface}", self.prefix());
        let (entry, is_ours) = self.entry(name)?;
        match is_ours {
            true => Ok(entry),
            false => Err(io::Error::new(
                io::ErrorKind::AddrInUse,
                format!("{interface} belongs to another client"),
            )),
        }
    }

    /// The entries of clients that are gone. They belong to this one now.
    pub(super) fn abandoned(&self) -> io::Result<Vec<Entry>> {
        let entries = self.entries()?.into_iter();
        Ok(entries
            .filter_map(|(entry, is_ours)| is_ours.then_some(entry))
            .collect())
    }

    /// The routes that living clients need, other than the one with the entry `own`.
    pub(super) fn needed_by_others(&self, own: Option<&Entry>) -> io::Result<Vec<HostRoute>> {
        let own = own.map(|entry| &entry.name);
        let entries = self.entries()?.into_iter();
        Ok(entries
            .filter(|(entry, is_ours)| !is_ours && Some(&entry.name) != own)
            .flat_map(|(entry, _)| entry.routes)
            .collect())
    }

    /// Removes an entry whose routes are gone.
    pub(super) fn finish(&self, entry: Entry) -> io::Result<()> {
        fs::remove_file(self.ledger.folder.join(&entry.name))
    }

    /// All entries of this namespace, and of each whether nobody else holds it.
    fn entries(&self) -> io::Result<Vec<(Entry, bool)>> {
        let mut entries = Vec::new();
        for file in fs::read_dir(&self.ledger.folder)? {
            let name = file?.file_name().to_string_lossy().into_owned();
            if name.starts_with(&self.prefix()) {
                entries.push(self.entry(name)?);
            }
        }
        Ok(entries)
    }

    fn entry(&self, name: String) -> io::Result<(Entry, bool)> {
        let mut file = self.ledger.open_file(&name)?;
        let is_ours = is_ours(&file)?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        // A line that a dying client did not finish stands for a route that it did not add.
        let routes = text.lines().map(serde_json::from_str);
        let routes = routes.filter_map(Result::ok).collect();
        Ok((Entry { name, file, routes }, is_ours))
    }

    fn prefix(&self) -> String {
        format!("{}-", self.ledger.namespace)
    }
}

/// The routes that one client may have added.
#[derive(Debug)]
pub(super) struct Entry {
    name: String,
    file: File,
    routes: Vec<HostRoute>,
}

impl Entry {
    /// All that were noted so far.
    pub(super) fn routes(&self) -> &[HostRoute] {
        &self.routes
    }

    /// Notes a route. Only then may it be added.
    pub(super) fn note(&mut self, route: &HostRoute) -> io::Result<()> {
        if self.routes.contains(route) {
            return Ok(());
        }
        let mut line = serde_json::to_vec(route)?;
        line.push(b'\n');
        self.file.write_all(&line)?;
        self.routes.push(route.clone());
        Ok(())
    }
}

/// Takes the lock of `file`, unless somebody else has it.
fn is_ours(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests;
