//! [`Watched`]: a file that is read again when it has changed.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tracing::{error, info};

use crate::config::ConfigError;

/// The largest file that is read, in bytes: some ten thousand users.
const MAX_LEN: u64 = 4 << 20;

/// Permissions of anyone but the owner.
const OTHERS: u32 = 0o077;

/// What a file says. A new content that is wrong changes nothing, and is logged.
#[derive(Debug)]
pub(super) struct Watched<T> {
    path: PathBuf,
    privacy: Privacy,
    parse: fn(&str, &Path) -> Result<T, ConfigError>,
    current: RwLock<Arc<T>>,
    /// Of the content that was last looked at, good or bad; `None` when there was none to look at.
    seen: Mutex<Option<Stamp>>,
}

/// Whether others than its owner may have a permission on a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Privacy {
    Secret,
    Public,
}

/// Changes with the content of a file, by whichever way it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    len: u64,
    mode: u32,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// Why a file is of no use.
#[derive(Debug)]
pub(super) enum FileError {
    /// It cannot be read, or not by this process alone.
    Unreadable(String),
    /// What stands in it.
    Content(ConfigError),
}

impl<T> Watched<T> {
    /// Reads the file for the first time.
    pub(super) fn open(
        path: &Path,
        privacy: Privacy,
        parse: fn(&str, &Path) -> Result<T, ConfigError>,
    ) -> Result<Self, FileError> {
        let (stamp, text) = read(path, privacy).map_err(FileError::Unreadable)?;
        let content = parse(&text, path).map_err(FileError::Content)?;
        Ok(Self {
            path: path.into(),
            privacy,
            parse,
            current: RwLock::new(Arc::new(content)),
            seen: Mutex::new(Some(stamp)),
        })
    }

    /// What the file says, or said before it became wrong.
    pub(super) fn get(&self) -> Arc<T> {
        let current = self.current.read();
        current.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the file again if it is another one than before. Each mistake is logged once.
    pub(super) fn refresh(&self) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = fs::metadata(&self.path).ok().as_ref().map(Stamp::of);
        if stamp == *seen {
            return;
        }
        let result = read(&self.path, self.privacy).and_then(|(stamp, text)| {
            // What is written after this makes another stamp.
            *seen = Some(stamp);
            (self.parse)(&text, &self.path).map_err(|mistake| mistake.to_string())
        });
        let file = self.path.display();
        match result {
            Ok(content) => {
                let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
                *current = Arc::new(content);
                info!("{file}: read again");
            }
            Err(mistake) => {
                *seen = stamp;
                error!("{file}: what it said before stays in force: {mistake}");
            }
        }
    }
}

impl Stamp {
    fn of(found: &Metadata) -> Self {
        Self {
            device: found.dev(),
            inode: found.ino(),
            len: found.len(),
            mode: found.mode(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        }
    }
}

/// The text of a file, and the stamp that it had before it was read.
fn read(path: &Path, privacy: Privacy) -> Result<(Stamp, String), String> {
    let refuse = |error: io::Error| format!("cannot read {}: {error}", path.display());
    // Opening a pipe would wait for its writer.
    if !fs::metadata(path).map_err(refuse)?.is_file() {
        return Err(refuse(io::Error::other("it is not a regular file")));
    }
    let mut file = File::open(path).map_err(refuse)?;
    let found = file.metadata().map_err(refuse)?;
    check_mode(path, &found, privacy)?;
    if found.len() > MAX_LEN {
        let message = format!("it has {} bytes, expected at most {MAX_LEN}", found.len());
        return Err(refuse(io::Error::other(message)));
    }
    let mut text = String::new();
    let mut limited = (&mut file).take(MAX_LEN);
    limited.read_to_string(&mut text).map_err(refuse)?;
    Ok((Stamp::of(&found), text))
}

fn check_mode(path: &Path, found: &Metadata, privacy: Privacy) -> Result<(), String> {
    let mode = found.permissions().mode() & 0o777;
    if privacy == Privacy::Public || mode & OTHERS == 0 {
        return Ok(());
    }
    let path = path.display();
    Err(format!(
        "{path} has mode {mode:04o}, expected 0600: run `chmod 600 {path}`"
    ))
}

#[cfg(test)]
mod tests;
