//! [`Search`]: from a path to an open file, a folder, or nothing.

use std::fs::File;
use std::io;
use std::time::SystemTime;

use http::StatusCode;
use pasque::Error;
use rustix::io::Errno;

use crate::representation::Representation;
use crate::resolve::RelativePath;
use crate::root::{Found, Root};

/// What a request names. Blocks when it runs, so it is separate from the endpoint.
#[derive(Debug)]
pub(crate) struct Search {
    pub(crate) path: RelativePath,
    /// The path ends with a slash.
    pub(crate) wants_folder: bool,
    pub(crate) index: Option<String>,
}

/// What a search found.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// A file to send.
    File(File, Representation),
    /// A folder with an index, asked for without the slash.
    Folder,
    /// Nothing that is served.
    Nothing,
}

impl Search {
    pub(crate) fn run(self, root: &Root) -> io::Result<Outcome> {
        if !self.wants_folder {
            match root.find(&self.path)? {
                Found::File(file) => return Outcome::file(&self.path, file),
                Found::Folder => {}
                Found::Other => return Ok(Outcome::Nothing),
            }
        }
        let Some(index) = self.index else {
            return Ok(Outcome::Nothing);
        };
        let path = self.path.join(&index);
        match root.find(&path)? {
            Found::File(file) if self.wants_folder => Outcome::file(&path, file),
            Found::File(_) => Ok(Outcome::Folder),
            Found::Folder | Found::Other => Ok(Outcome::Nothing),
        }
    }
}

impl Outcome {
    fn file(path: &RelativePath, file: File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let about = Representation::new(path.as_path(), &metadata, SystemTime::now())?;
        Ok(Self::File(file, about))
    }
}

/// What the client is told when the operating system refuses.
pub(crate) fn refusal(cause: io::Error) -> Error {
    let status = match Errno::from_io_error(&cause) {
        Some(Errno::ACCESS | Errno::PERM) => StatusCode::FORBIDDEN,
        Some(
            // Links and paths that leave the root are among these.
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV | Errno::NAMETOOLONG
            // What no file system can hold, and devices without a driver.
            | Errno::ILSEQ | Errno::NXIO | Errno::NODEV,
        ) => StatusCode::NOT_FOUND,
        Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::AGAIN) => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    Error::new(status, "cannot open the file").with_source(cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fs_04_the_operating_system_s_errors_have_their_status() {
        for (errno, status) in [
            (Errno::NOENT, 404),
            (Errno::NOTDIR, 404),
            (Errno::LOOP, 404),
            (Errno::XDEV, 404),
            (Errno::NAMETOOLONG, 404),
            (Errno::NXIO, 404),
            (Errno::ACCESS, 403),
            (Errno::PERM, 403),
            (Errno::MFILE, 503),
            (Errno::NFILE, 503),
            (Errno::AGAIN, 503),
            (Errno::IO, 500),
        ] {
            assert_eq!(refusal(errno.into()).status().as_u16(), status, "{errno:?}");
        }
    }
}
