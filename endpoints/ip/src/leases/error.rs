//! Why a lease file cannot be used.

use std::io;
use std::path::PathBuf;

/// Why a lease file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LeaseFileError {
    /// The system does not let us have it.
    #[error(
        "cannot open the lease file {path}: {error}; expected a path in a folder that the server \
         may write to"
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// Another process, or another endpoint of this one, has it open.
    #[error("the lease file {path} is in use by another server or endpoint, expected one for each")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// It was not written by this program, or was changed since.
    #[error("the lease file {path} is damaged ({reason}): move it away to start with a new one")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// It was found good, and now reading or writing fails.
    #[error("cannot read or write the lease file {path}: {error}")]
    Access {
        /// The file.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// The thread that writes it cannot be started.
    #[error("cannot start the thread that writes the lease file {path}: {error}")]
    Thread {
        /// The file.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
}
