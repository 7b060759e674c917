//! Making a TUN interface.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;
use tokio_tun::Tun;
use tracing::info;
use tun_rs::{DeviceBuilder, SyncDevice};

use super::offload_device::OffloadDevice;
use super::plain_device::PlainDevice;
use super::{DeviceError, DeviceKind, Interface, Mtu, PacketDevice, check_access, name};

/// One queue of a TUN interface, not yet bound to a runtime. The interface goes with the last of its
/// queues.
pub struct Queue {
    port: Port,
    mtu: Mtu,
}

enum Port {
    /// A descriptor with virtio headers, and whether it takes UDP datagrams together.
    Offload(Arc<OwnedFd>, bool),
    Plain(Arc<Tun>),
}

impl Queue {
    /// Whether it moves super-packets.
    pub fn is_offload(&self) -> bool {
        matches!(self.port, Port::Offload(..))
    }

    /// Registers it with the current runtime, which is the one that has to poll it. Only one device of a
    /// queue can be of use at a time, and a runtime takes only one.
    ///
    /// # Errors
    /// There is no runtime here, or its reactor does not take the descriptor.
    pub fn register(&self) -> io::Result<Arc<dyn PacketDevice>> {
        let mtu = self.mtu.clone();
        Ok(match &self.port {
            Port::Offload(fd, udp) => Arc::new(OffloadDevice::register(fd.clone(), *udp, mtu)?),
            Port::Plain(tun) => Arc::new(PlainDevice::register(tun.clone(), mtu)?),
        })
    }
}

/// Makes a TUN interface with `queues` queues, at least one, in the network namespace of this thread.
///
/// It is down and without addresses, and goes away with its queues.
///
/// # Errors
/// Why there is no interface; no half-made one stays behind.
pub fn open(
    name: &str,
    kind: DeviceKind,
    queues: usize,
) -> Result<(Vec<Queue>, Interface), DeviceError> {
    name::check(name)?;
    check_access()?;
    let kernel = |source| DeviceError::Kernel {
        name: name.to_owned(),
        source,
    };
    // The kernel would hand over an interface of that name which outlived its maker.
    if name::index_of(name).map_err(kernel)?.is_some() {
        return Err(DeviceError::NameTaken {
            name: name.to_owned(),
        });
    }
    let queues = queues.max(1);
    let ports = match kind {
        DeviceKind::Offload => open_offload(name, queues),
        DeviceKind::Plain => open_plain(name, queues),
        DeviceKind::Auto => open_offload(name, queues).or_else(|error| {
            info!(name, %error, "no offload for the tunnel interface; it moves single packets");
            open_plain(name, queues)
        }),
    };
    let ports = ports.map_err(|error| explain(name, error))?;
    let index = name::index_of(name)
        .and_then(|index| index.ok_or(Errno::NODEV.into()))
        .map_err(kernel)?;
    let interface = Interface::new(name, index);
    let bind = |port| Queue {
        port,
        mtu: interface.mtu.clone(),
    };
    Ok((ports.into_iter().map(bind).collect(), interface))
}

/// What an error means that came after the checks: somebody was faster, or a limit of the kernel.
fn explain(name: &str, source: io::Error) -> DeviceError {
    let name = name.to_owned();
    match Errno::from_io_error(&source) {
        Some(Errno::BUSY | Errno::EXIST) => DeviceError::NameTaken { name },
        Some(Errno::PERM) => DeviceError::NotPermitted,
        _ => DeviceError::Kernel { name, source },
    }
}

fn open_offload(name: &str, queues: usize) -> io::Result<Vec<Port>> {
    let first = DeviceBuilder::new()
        .name(name)
        .with(|builder| {
            builder.offload(true).multi_queue(queues > 1);
        })
        .inherit_enable_state()
        .build_sync()?;
    let mut ports = vec![offload_port(&first)?];
    while ports.len() < queues {
        ports.push(offload_port(&first.try_clone()?)?);
    }
    Ok(ports)
}

/// Reads and writes of `device` go around it: it would copy what `writev` need not.
fn offload_port(device: &SyncDevice) -> io::Result<Port> {
    device.set_nonblocking(true)?;
    Ok(Port::Offload(
        Arc::new(device.as_fd().try_clone_to_owned()?),
        device.udp_gso(),
    ))
}

fn open_plain(name: &str, queues: usize) -> io::Result<Vec<Port>> {
    // A `Tun` binds itself to the runtime that it is made on, which need not be the one that polls it
    // later, and would wake that one for every packet. So it is made on one that nobody runs.
    let idle = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let tuns = {
        let _context = idle.enter();
        Tun::builder().name(name).queues(queues).build()
    };
    // A runtime must not be dropped where another one runs.
    idle.shutdown_background();
    let tuns = tuns.map_err(|error| match error {
        tokio_tun::Error::IoError(error) => error,
        tokio_tun::Error::NixError(errno) => io::Error::from_raw_os_error(errno as i32),
    })?;
    Ok(tuns.into_iter().map(Arc::new).map(Port::Plain).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(name: &str) -> DeviceError {
        match open(name, DeviceKind::Auto, 1) {
            Ok(_) => panic!("{name} was made"),
            Err(error) => error,
        }
    }

    #[test]
    fn a_bad_name_is_told_first() {
        let text = error("much-too-long-name").to_string();
        assert!(text.contains("longer than 15 bytes"), "{text}");
    }

    #[test]
    fn a_taken_name_is_told_where_interfaces_can_be_made() {
        match error("lo") {
            DeviceError::NameTaken { name } => assert_eq!(name, "lo"),
            error => assert!(check_access().is_err(), "{error}"),
        }
        let text = explain("psq0", Errno::BUSY.into()).to_string();
        assert_eq!(text, "interface psq0 exists already");
    }
}
