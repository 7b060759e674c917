//! Whether this process can make TUN interfaces at all, told before anything is started.

use std::fs::File;
use std::io::{self, ErrorKind};

use rustix::thread::{CapabilitySet, capabilities};

use super::DeviceError;

/// The file that makes TUN interfaces.
pub(crate) const TUN_FILE: &str = "/dev/net/tun";

/// Checks that the host has TUN interfaces and that this process may make them. Makes none.
///
/// # Errors
/// Which of the two is missing, and what to do about it.
pub fn check_access() -> Result<(), DeviceError> {
    let opened = File::options().read(true).write(true).open(TUN_FILE);
    let effective = capabilities(None).map(|sets| sets.effective);
    judge(
        opened.map(drop),
        effective.unwrap_or(CapabilitySet::empty()),
    )
}

fn judge(opened: io::Result<()>, effective: CapabilitySet) -> Result<(), DeviceError> {
    let may_make = effective.contains(CapabilitySet::NET_ADMIN);
    match opened {
        // ENODEV and ENXIO: the file is there, but no driver behind it.
        Err(error) if is_missing(&error) => Err(DeviceError::NoDriver),
        // Where the file is closed to most users, root has it and the capability.
        Err(error) if error.kind() == ErrorKind::PermissionDenied && !may_make => {
            Err(DeviceError::NotPermitted)
        }
        Err(error) => Err(DeviceError::Unopenable(error)),
        Ok(()) if !may_make => Err(DeviceError::NotPermitted),
        Ok(()) => Ok(()),
    }
}

fn is_missing(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(
        Errno::from_io_error(error),
        Some(Errno::NOENT | Errno::NODEV | Errno::NXIO)
    )
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn a_missing_driver_a_closed_file_and_a_missing_capability_have_texts_of_their_own() {
        let admin = CapabilitySet::NET_ADMIN;
        assert!(judge(Ok(()), admin).is_ok());
        for errno in [Errno::NOENT, Errno::NODEV, Errno::NXIO] {
            let error = judge(Err(errno.into()), admin).unwrap_err();
            assert!(matches!(error, DeviceError::NoDriver), "{errno}: {error}");
            assert!(error.to_string().contains("modprobe tun"), "{error}");
        }
        let error = judge(Err(Errno::ACCESS.into()), admin).unwrap_err();
        assert!(error.to_string().contains("Permission denied"), "{error}");
        for opened in [Ok(()), Err(Errno::ACCESS.into())] {
            let error = judge(opened, CapabilitySet::NET_RAW).unwrap_err();
            assert!(error.to_string().contains("CAP_NET_ADMIN"), "{error}");
        }
    }
}
