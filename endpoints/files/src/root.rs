//! [`Root`]: the folder that is served, and how the files beneath it are opened.
//!
//! The kernel resolves each path in one call, `openat2` with `RESOLVE_BENEATH`, so no check can be
//! overtaken by a rename. cap-std does the same, but follows links inside the root always, where
//! this endpoint follows none unless told to, and cannot look at a file before it opens it. Where
//! the kernel has no `openat2`, the path is walked name by name without following links, which
//! needs nothing from cap-std either.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, fstat, openat, statat};
use rustix::io::Errno;

use crate::resolve::RelativePath;

/// Reads, but waits neither for a FIFO's writer nor for a lease, and takes no terminal.
const READ: OFlags = OFlags::RDONLY
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

/// The opened folder.
#[derive(Debug)]
pub(crate) struct Root {
    folder: OwnedFd,
    resolver: Resolver,
}

/// How a path beneath the root is resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resolver {
    /// In the kernel. Links that stay beneath the root are followed if `follow_symlinks`.
    #[cfg(target_os = "linux")]
    Kernel { follow_symlinks: bool },
    /// Name by name, without links.
    Walk,
}

/// What stands at a path.
#[derive(Debug)]
pub(crate) enum Found {
    /// A regular file, opened.
    File(File),
    /// A folder.
    Folder,
    /// A FIFO, a device, a socket or a link.
    Other,
}

impl Root {
    /// Opens `folder` with the best resolver that the system has.
    ///
    /// # Errors
    /// What opening says, and `Unsupported` when links are to be followed on a system that cannot
    /// keep them beneath the root.
    pub(crate) fn open(folder: &Path, follow_symlinks: bool) -> io::Result<Self> {
        let folder = openat(
            CWD,
            folder,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let resolver = best_resolver(&folder, follow_symlinks)?;
        Ok(Self { folder, resolver })
    }

    /// The same folder with another resolver.
    #[cfg(test)]
    pub(crate) fn with_resolver(self, resolver: Resolver) -> Self {
        Self { resolver, ..self }
    }

    /// Opens the file at `path`, if it is one. Never waits for a peer of the file, and opens
    /// nothing but regular files: opening alone makes some devices act.
    pub(crate) fn find(&self, path: &RelativePath) -> io::Result<Found> {
        match self.look(path)? {
            FileType::Directory => return Ok(Found::Folder),
            FileType::RegularFile => {}
            _ => return Ok(Found::Other),
        }
        let file = self.open_at(path.as_path(), READ)?;
        // What was looked at may be gone: what counts is the file that is open.
        match file_type(&file)? {
            FileType::RegularFile => Ok(Found::File(File::from(file))),
            FileType::Directory => Ok(Found::Folder),
            _ => Ok(Found::Other),
        }
    }

    fn look(&self, path: &RelativePath) -> io::Result<FileType> {
        match self.resolver {
            #[cfg(target_os = "linux")]
            Resolver::Kernel { .. } => {
                file_type(&self.open_at(path.as_path(), OFlags::PATH | OFlags::CLOEXEC)?)
            }
            Resolver::Walk => {
                let (Some(parent), Some(name)) =
                    (path.as_path().parent(), path.as_path().file_name())
                else {
                    return Ok(FileType::Directory);
                };
                let parent = self.walk(parent)?;
                let stat = statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
                Ok(FileType::from_raw_mode(stat.st_mode))
            }
        }
    }

    fn open_at(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        match self.resolver {
            #[cfg(target_os = "linux")]
            Resolver::Kernel { follow_symlinks } => {
                Ok(open_beneath(&self.folder, path, flags, follow_symlinks)?)
            }
            Resolver::Walk => {
                let parent = self.walk(path.parent().unwrap_or(Path::new("")))?;
                let name = path.file_name().unwrap_or(path.as_os_str());
                Ok(openat(
                    &parent,
                    name,
                    flags | OFlags::NOFOLLOW,
                    Mode::empty(),
                )?)
            }
        }
    }

    /// Opens a folder beneath the root, name by name.
    fn walk(&self, path: &Path) -> io::Result<OwnedFd> {
        const FOLDER: OFlags = OFlags::RDONLY
            .union(OFlags::DIRECTORY)
            .union(OFlags::NOFOLLOW)
            .union(OFlags::CLOEXEC);
        let mut folder = self.folder.try_clone()?;
        for name in path {
            folder = openat(&folder, name, FOLDER, Mode::empty())?;
        }
        Ok(folder)
    }
}

fn file_type(file: impl AsFd) -> io::Result<FileType> {
    Ok(FileType::from_raw_mode(fstat(file)?.st_mode))
}

#[cfg(target_os = "linux")]
fn best_resolver(folder: &OwnedFd, follow_symlinks: bool) -> io::Result<Resolver> {
    match open_beneath(
        folder,
        Path::new("."),
        OFlags::PATH | OFlags::CLOEXEC,
        false,
    ) {
        Ok(_) => Ok(Resolver::Kernel { follow_symlinks }),
        // Some sandboxes answer calls that they do not know with EPERM.
        Err(Errno::NOSYS | Errno::PERM) => walk_only(follow_symlinks),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(target_os = "linux"))]
fn best_resolver(_folder: &OwnedFd, follow_symlinks: bool) -> io::Result<Resolver> {
    walk_only(follow_symlinks)
}

fn walk_only(follow_symlinks: bool) -> io::Result<Resolver> {
    if follow_symlinks {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "follow_symlinks needs openat2, which Linux has since 5.6",
        ));
    }
    Ok(Resolver::Walk)
}

#[cfg(target_os = "linux")]
fn open_beneath(
    folder: &OwnedFd,
    path: &Path,
    flags: OFlags,
    follow_symlinks: bool,
) -> Result<OwnedFd, Errno> {
    use rustix::fs::{ResolveFlags, openat2};

    // The kernel asks to resolve again when something was renamed meanwhile.
    const MAX_ATTEMPTS: usize = 16;

    let mut resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    if !follow_symlinks {
        resolve |= ResolveFlags::NO_SYMLINKS;
    }
    let mut result = Err(Errno::AGAIN);
    for _ in 0..MAX_ATTEMPTS {
        result = openat2(folder, path, flags, Mode::empty(), resolve);
        if !matches!(result, Err(Errno::AGAIN | Errno::INTR)) {
            break;
        }
    }
    result
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests;
