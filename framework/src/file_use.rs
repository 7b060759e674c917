//! [`FileUse`]: what of the file system is opened, told beforehand.

use std::path::PathBuf;

/// A file that is opened, or a folder beneath which files are.
///
/// A server confines itself to these, where the kernel can do that.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileUse {
    /// The file or folder. A file that is to be made need not be there, but its folder has to be.
    pub path: PathBuf,
    /// Whether it is written, made or removed, and not read alone.
    pub is_written: bool,
}

impl FileUse {
    /// Something that is read.
    pub fn read(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            is_written: false,
        }
    }

    /// Something that is read and written.
    pub fn write(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            is_written: true,
        }
    }
}
