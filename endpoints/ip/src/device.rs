//! Where IP packets enter and leave the host: a TUN interface, or memory in tests.
//!
//! ```text
//!            PacketDevice
//!   ┌─────────────┼──────────────┐
//! OffloadDevice  PlainDevice   MemoryDevice
//!  super-packets  one packet    two ends
//!  both ways      per call      of one test
//! ```
//!
//! [`open`] makes the interface and gives its [`Queue`]s; each becomes a [`PacketDevice`] on the
//! runtime that polls it. Addresses, routes and the MTU are the business of
//! [`Link`](crate::link::Link).

mod access;
mod load;
mod memory;
mod name;
mod offload_device;
mod plain_device;
mod queue;
mod readiness;
mod refusal;

pub mod offload;

use std::fmt;
use std::io;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};

use pasque::Batch;
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub(crate) use access::TUN_FILE;
pub use access::check_access;
pub(crate) use load::BLOCK;
pub use load::{Load, Reads};
pub use memory::{MemoryDevice, MemoryPeer};
pub(crate) use name::MAX_NAME_LEN;
pub use queue::{Queue, open};

/// The MTU that the kernel gives a new TUN interface, in bytes.
const NEW_INTERFACE_MTU: u32 = 1500;

/// Where IP packets enter and leave the host.
///
/// One task polls it; any may send.
pub trait PacketDevice: Send + Sync + 'static {
    /// The longest packet that the interface carries, in bytes, as it was last set.
    fn mtu(&self) -> usize;

    /// Adds to `reads`, which must not be full, at least one load that the host sends through the
    /// interface. Each of its packets is one IP packet with [`HEADROOM`](pasque::HEADROOM) in front of
    /// it.
    ///
    /// # Errors
    /// The interface is gone. Nothing comes after that: drop the device.
    fn poll_recv(&self, cx: &mut Context<'_>, reads: &mut Reads) -> Poll<io::Result<()>>;

    /// Hands packets to the host, in the order of each flow. What stays in `batch` found no room
    /// now; a packet that the kernel refuses for itself is dropped and [counted](Self::refused).
    ///
    /// # Errors
    /// The interface is gone: drop the device.
    fn try_send(&self, batch: &mut Batch) -> io::Result<()>;

    /// How many packets were dropped because the kernel refused them, or handed over something that
    /// cannot be a packet.
    fn refused(&self) -> u64 {
        0
    }
}

/// How a TUN interface moves its packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    /// With offloads where the kernel has them, otherwise plain.
    #[default]
    Auto,
    /// Many packets of one flow per system call, as one super-packet (`IFF_VNET_HDR`).
    Offload,
    /// One packet per system call.
    Plain,
}

impl FromStr for DeviceKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "offload" => Ok(Self::Offload),
            "plain" => Ok(Self::Plain),
            _ => Err(format!(
                "{text:?} is no kind of device: auto, offload or plain"
            )),
        }
    }
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Offload => "offload",
            Self::Plain => "plain",
        })
    }
}

/// A network interface of this host, in the network namespace of whoever opened it.
#[derive(Clone, Debug)]
pub struct Interface {
    /// Its name, at most 15 bytes.
    pub name: String,
    /// The kernel's number for it.
    pub index: u32,
    mtu: Mtu,
}

impl Interface {
    /// An interface whose MTU is still that of a new one.
    pub fn new(name: impl Into<String>, index: u32) -> Self {
        Self {
            name: name.into(),
            index,
            mtu: Mtu::default(),
        }
    }

    /// The MTU that was last set through [`Link`](crate::link::Link), in bytes.
    pub fn mtu(&self) -> usize {
        self.mtu.get()
    }

    /// Notes the MTU that the kernel took, for all queues of the interface.
    pub(crate) fn set_mtu(&self, mtu: u32) {
        self.mtu.0.store(mtu, Ordering::Relaxed);
    }
}

/// The MTU of an interface, shared by all that use it: a system call per look would cost too much.
#[derive(Clone, Debug)]
struct Mtu(Arc<AtomicU32>);

impl Mtu {
    fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed) as usize
    }
}

impl Default for Mtu {
    fn default() -> Self {
        Self(Arc::new(AtomicU32::new(NEW_INTERFACE_MTU)))
    }
}

/// Why there is no TUN interface.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// The kernel would not take the name, or take it for a pattern.
    #[error("{name:?} cannot be the name of an interface: {reason}")]
    InvalidName {
        /// What was asked for.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },

    /// Something else has the name.
    #[error("interface {name} exists already")]
    NameTaken {
        /// What was asked for.
        name: String,
    },

    /// The host has no TUN driver, or a container does not show it.
    #[error(
        "there is no /dev/net/tun: load the kernel's tun module (modprobe tun), or pass the device \
         to the container (--device /dev/net/tun)"
    )]
    NoDriver,

    /// The device file does not open.
    #[error("cannot open /dev/net/tun: {0}")]
    Unopenable(#[source] io::Error),

    /// The process may not make interfaces.
    #[error(
        "making a network interface needs the capability CAP_NET_ADMIN: run as root, or set it with \
         setcap cap_net_admin+ep or AmbientCapabilities=CAP_NET_ADMIN"
    )]
    NotPermitted,

    /// The kernel refused for another reason.
    #[error("cannot make interface {name}: {source}")]
    Kernel {
        /// What was asked for.
        name: String,
        /// What the kernel said.
        source: io::Error,
    },
}
