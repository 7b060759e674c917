//! Names of interfaces: which the kernel takes, and which are taken.

use std::io;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with};

use super::DeviceError;

/// The longest name of an interface, in bytes (`IFNAMSIZ` without its final zero).
pub(crate) const MAX_NAME_LEN: usize = 15;

/// Checks what the kernel would not take, or silently change: it cuts long names, and numbers those
/// with a `%`.
pub(crate) fn check(name: &str) -> Result<(), DeviceError> {
    let reason = if name.is_empty() {
        "it is empty"
    } else if name.len() > MAX_NAME_LEN {
        "it is longer than 15 bytes"
    } else if matches!(name, "." | "..") || !name.bytes().all(is_allowed) {
        "it must be of ASCII letters, digits and the like, without space, slash, colon or percent"
    } else {
        return Ok(());
    };
    Err(DeviceError::InvalidName {
        name: name.to_owned(),
        reason,
    })
}

fn is_allowed(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'/' | b':' | b'%')
}

/// The index of the interface called `name` in this thread's network namespace.
#[expect(
    clippy::disallowed_methods,
    reason = "nothing is sent from this socket"
)]
pub(super) fn index_of(name: &str) -> io::Result<Option<u32>> {
    // Any socket does: it only says which namespace is meant.
    let socket = socket_with(
        AddressFamily::INET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    match netdevice::name_to_index(&socket, name) {
        Ok(index) => Ok(Some(index)),
        Err(Errno::NODEV) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_the_kernel_would_change_are_refused() {
        for name in ["psq0", "a", "0123456789abcde", "psq-1_x.y@z"] {
            assert!(check(name).is_ok(), "{name}");
        }
        for name in [
            "", ".", "..", "a b", "a/b", "a:1", "psq%d", "psq\0", "psqé", "a\n",
        ] {
            let error = check(name).unwrap_err();
            assert!(error.to_string().contains("cannot be the name"), "{error}");
        }
        let error = check("0123456789abcdef").unwrap_err().to_string();
        assert!(error.contains("longer than 15 bytes"), "{error}");
    }

    #[test]
    fn an_interface_is_found_by_its_name() {
        assert!(index_of("lo").unwrap().is_some());
        assert_eq!(index_of("no-such-link").unwrap(), None);
    }
}
