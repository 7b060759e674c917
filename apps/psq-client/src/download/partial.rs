//! [`Partial`]: a file until it is whole.
//!
//! Beside the file `NAME` that a download is for, `.NAME.psq-part` takes the content, and
//! `.NAME.psq-part.json` says of what. Both outlive a download that fails, so that the next one can
//! go on where it ended; a file is called `NAME` only when all of it is there.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// How much of a kept file is hashed at a time.
const HASH_CHUNK_LEN: usize = 64 << 10;

/// What a kept file is a part of.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Note {
    url: String,
    etag: String,
    length: u64,
}

/// The part of a file that an earlier download left, and how to ask for the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    /// The strong tag of the version that it is a part of.
    pub(crate) tag: String,
    /// Where the rest begins. At least one byte is missing, so that there is something to ask for.
    pub(crate) offset: u64,
    /// The length of the whole file.
    pub(crate) len: u64,
}

/// A file under way, locked against other processes.
#[derive(Debug)]
pub(crate) struct Partial {
    file: File,
    part: PathBuf,
    note: PathBuf,
    target: PathBuf,
    url: String,
    /// Whether what is there is of use to a later download.
    worth_keeping: bool,
}

impl Partial {
    /// Opens or creates the part of `target`, which is to be what `url` names.
    ///
    /// # Errors
    /// `target` is something that a download cannot replace, or is being downloaded already.
    pub(crate) fn open(target: &Path, url: &str) -> io::Result<Self> {
        match fs::metadata(target) {
            Ok(found) if !found.is_file() => {
                return Err(io::Error::other("is there, and is not a regular file"));
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let name = target
            .file_name()
            .ok_or_else(|| io::Error::other("is not the name of a file"))?;
        let beside = |suffix: &str| {
            let mut hidden = OsString::from(".");
            hidden.push(name);
            hidden.push(suffix);
            target.with_file_name(hidden)
        };
        let (part, note) = (beside(".psq-part"), beside(".psq-part.json"));
        let file = open_locked(&part)?;
        let mut partial = Self {
            file,
            part,
            note,
            target: target.into(),
            url: url.into(),
            worth_keeping: false,
        };
        partial.worth_keeping = partial.kept().is_some();
        Ok(partial)
    }

    /// What there is to go on from. A note that makes no sense counts as none.
    pub(crate) fn kept(&self) -> Option<Kept> {
        let note: Note = serde_json::from_slice(&fs::read(&self.note).ok()?).ok()?;
        let have = self.file.metadata().ok()?.len();
        let offset = have.min(note.length.checked_sub(1)?);
        (note.url == self.url && offset > 0).then_some(Kept {
            tag: note.etag,
            offset,
            len: note.length,
        })
    }

    /// Whether a later download can go on from what there is.
    pub(crate) fn is_worth_keeping(&self) -> bool {
        self.worth_keeping
    }

    /// Gives up what there is.
    pub(crate) fn discard(&mut self) {
        self.worth_keeping = false;
    }

    /// Begins a file of `len` bytes. Without a strong tag it cannot be resumed.
    pub(crate) fn restart(&mut self, len: u64, tag: Option<String>) -> io::Result<()> {
        // First the old note, last the new one: at no time does a note stand beside the content of
        // another version.
        self.worth_keeping = false;
        remove_if_there(&self.note)?;
        self.file.set_len(0)?;
        self.file.rewind()?;
        if let Some(etag) = tag {
            let note = Note {
                url: self.url.clone(),
                etag,
                length: len,
            };
            fs::write(&self.note, serde_json::to_vec(&note)?)?;
            self.worth_keeping = true;
        }
        Ok(())
    }

    /// Goes on at `offset`, and hashes what is before it.
    pub(crate) fn resume(&mut self, offset: u64, hash: &mut Sha256) -> io::Result<()> {
        self.file.set_len(offset)?;
        self.file.rewind()?;
        let mut chunk = vec![0; HASH_CHUNK_LEN];
        loop {
            match self.file.read(&mut chunk)? {
                0 => break,
                len => hash.update(chunk.get(..len).unwrap_or_default()),
            }
        }
        self.file.seek(SeekFrom::Start(offset))?;
        Ok(())
    }

    /// Makes the whole file appear under its name, in one step.
    pub(crate) fn commit(mut self) -> io::Result<()> {
        // The name must not outlive the content when the power fails.
        self.file.sync_all()?;
        fs::rename(&self.part, &self.target)?;
        self.worth_keeping = true;
        remove_if_there(&self.note)
    }
}

impl Write for Partial {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.worth_keeping {
            // Nothing depends on it: the next download starts from zero either way.
            let _ = remove_if_there(&self.note);
            let _ = remove_if_there(&self.part);
        }
    }
}

/// Opens or creates a file that no other process has open through this function.
fn open_locked(path: &Path) -> io::Result<File> {
    loop {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            // In a folder that others can write to, a link could lead anywhere.
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::other("is being downloaded by another process"));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // Before it was locked, its last owner may have finished and renamed or removed it.
        let id = |found: fs::Metadata| (found.dev(), found.ino());
        let locked = id(file.metadata()?);
        if fs::symlink_metadata(path).is_ok_and(|found| id(found) == locked) {
            return Ok(file);
        }
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests;
