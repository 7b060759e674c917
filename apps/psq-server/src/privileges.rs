//! What the process may do: less, from the start on.
//!
//! Everything here is done before there is a second thread. Capabilities belong to threads, and those
//! that start later have what this one has left.

#[cfg(test)]
mod tests;

use std::fs;
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::unistd::{Group, Uid, User, initgroups, setresgid, setresuid};
use pasque::Capability;
use pasque::config::ServerConfig;
use rustix::io::{FdFlags, fcntl_getfd};
use rustix::process::{Resource, Rlimit, geteuid, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set,
    clear_ambient_capability_set, remove_capability_from_bounding_set, set_capabilities,
    set_keep_capabilities, set_no_new_privs,
};
use thiserror::Error;

/// Why the process cannot become another user.
#[derive(Debug, Error)]
pub(crate) enum PrivilegeError {
    #[error("there is no user {0:?}")]
    NoUser(String),
    #[error("there is no group {0:?}")]
    NoGroup(String),
    #[error("user {0:?} may do everything: name an ordinary one")]
    Root(String),
    #[error("only root becomes another user: start the server as root, or without a user")]
    NotRoot,
    #[error("cannot give up privileges: {0}")]
    System(#[from] io::Error),
}

impl From<rustix::io::Errno> for PrivilegeError {
    fn from(error: rustix::io::Errno) -> Self {
        Self::System(error.into())
    }
}

impl From<nix::errno::Errno> for PrivilegeError {
    fn from(error: nix::errno::Errno) -> Self {
        Self::System(error.into())
    }
}

/// Gives up what serving does not need: nothing that this process starts gets more privileges than it
/// has, and its memory, in which there are keys, is not written to disk when it crashes.
pub(crate) fn harden() -> io::Result<()> {
    set_no_new_privs(true)?;
    let nothing = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    Ok(setrlimit(Resource::Core, nothing)?)
}

/// The capabilities that serving `config` takes.
pub(crate) fn needed(config: &ServerConfig) -> CapabilitySet {
    let each = config.endpoints.iter();
    each.flat_map(|endpoint| endpoint.endpoint.capabilities())
        .map(|capability| match capability {
            Capability::NetAdmin => CapabilitySet::NET_ADMIN,
            Capability::NetRaw => CapabilitySet::NET_RAW,
            _ => CapabilitySet::empty(),
        })
        .fold(CapabilitySet::NET_BIND_SERVICE, CapabilitySet::union)
}

/// Becomes the user, and after a colon the group, of the name `who`, and keeps of all capabilities
/// those in `kept` that this process has.
///
/// # Errors
/// There is no such user, or this is not root. The process is not to go on then.
pub(crate) fn become_user(who: &str, kept: CapabilitySet) -> Result<(), PrivilegeError> {
    let (user, group) = find(who)?;
    if !geteuid().is_root() {
        // A service manager that has done this already has left nothing to do.
        return match geteuid().as_raw() == user.uid.as_raw() {
            true => Ok(()),
            false => Err(PrivilegeError::NotRoot),
        };
    }
    check_alone()?;
    let name = std::ffi::CString::new(user.name.as_bytes()).map_err(io::Error::other)?;
    let kept = kept & capabilities(None)?.permitted;
    // What is not in the bounding set never comes back. It takes a capability to change, so this first.
    for other in CapabilitySet::from_bits_retain(u64::MAX)
        .difference(kept)
        .iter_bits()
    {
        // Beyond the last one that the kernel knows there is none.
        if capability_is_in_bounding_set(other).is_ok_and(|is_in| is_in) {
            remove_capability_from_bounding_set(other)?;
        }
    }
    set_keep_capabilities(true)?;
    initgroups(&name, group)?;
    setresgid(group, group, group)?;
    setresuid(user.uid, user.uid, user.uid)?;
    set_keep_capabilities(false)?;
    let sets = CapabilitySets {
        effective: kept,
        permitted: kept,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, sets)?;
    clear_ambient_capability_set()?;
    let back = setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0));
    if back.is_ok() || geteuid().is_root() {
        return Err(io::Error::other("root can be had again").into());
    }
    Ok(())
}

/// Closes the descriptors that whoever started this process has left open, but for the three of every
/// program: they may lead past all that is given up here. Those that the program itself has opened close
/// when another one is executed, and have not come through that.
///
/// Returns how many there were.
pub(crate) fn close_inherited() -> io::Result<usize> {
    let open: Vec<RawFd> = fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    Ok(open
        .into_iter()
        .filter(|&number| close_if_inherited(number))
        .count())
}

#[expect(
    unsafe_code,
    reason = "a number stands for what nobody in this process knows of"
)]
fn close_if_inherited(number: RawFd) -> bool {
    if number <= libc::STDERR_FILENO {
        return false;
    }
    // SAFETY: it is borrowed for one call, which fails on a descriptor that has been closed meanwhile.
    let flags = fcntl_getfd(unsafe { BorrowedFd::borrow_raw(number) });
    let is_inherited = flags.is_ok_and(|flags| !flags.contains(FdFlags::CLOEXEC));
    if is_inherited {
        // SAFETY: there is one thread yet, which has opened nothing without that flag: no owner is left.
        drop(unsafe { OwnedFd::from_raw_fd(number) });
    }
    is_inherited
}

/// Checks that there is no other thread: what one gives up, others keep.
pub(crate) fn check_alone() -> io::Result<()> {
    match fs::read_dir("/proc/self/task")?.count() {
        1 => Ok(()),
        _ => Err(io::Error::other(
            "other threads are running, which would keep theirs",
        )),
    }
}

fn find(who: &str) -> Result<(User, nix::unistd::Gid), PrivilegeError> {
    let (user, group) = match who.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (who, None),
    };
    let found = User::from_name(user)?.ok_or_else(|| PrivilegeError::NoUser(user.into()))?;
    if found.uid.is_root() {
        return Err(PrivilegeError::Root(user.into()));
    }
    let group = match group {
        None => found.gid,
        Some(name) => {
            let group = Group::from_name(name)?;
            group
                .ok_or_else(|| PrivilegeError::NoGroup(name.into()))?
                .gid
        }
    };
    Ok((found, group))
}

/// The capabilities of a set, one by one.
trait IterBits {
    fn iter_bits(self) -> impl Iterator<Item = CapabilitySet>;
}

impl IterBits for CapabilitySet {
    fn iter_bits(self) -> impl Iterator<Item = CapabilitySet> {
        (0..u64::BITS)
            .map(|bit| 1 << bit)
            .filter(move |bit| self.bits() & bit != 0)
            .map(CapabilitySet::from_bits_retain)
    }
}
