//! [`Place`]: where the tunnels of an endpoint end at this host.

use std::io;
use std::sync::Arc;

use ipnetwork::IpNetwork;
use pasque::{Error, Result};

use super::interfaces::Interfaces;
use crate::device::PacketDevice;
use crate::flow::{ClientState, Seat};
use crate::shared::Shared;

/// Makes the device of a tunnel, or the one of all tunnels, that has these addresses.
pub(super) type Devices =
    Arc<dyn Fn(&[IpNetwork]) -> io::Result<Arc<dyn PacketDevice>> + Send + Sync + 'static>;

/// Where tunnels end.
pub(super) enum Place {
    /// In an interface each.
    Own(Interfaces),
    /// In one interface.
    Shared(Arc<Shared>),
    /// In what the program, or a test, has given.
    Given(Devices),
}

impl Place {
    /// A place for a client with these addresses.
    pub(super) async fn take_seat(
        &self,
        addresses: &[IpNetwork],
    ) -> Result<(Arc<dyn PacketDevice>, Box<dyn Seat>)> {
        match self {
            Self::Own(interfaces) => interfaces.open(addresses).await,
            Self::Shared(shared) => shared.take_seat(),
            Self::Given(devices) => Ok((devices(addresses)?, Box::new(NoSeat))),
        }
    }

    /// Takes no more packets.
    pub(super) fn stop(&self) {
        if let Self::Shared(shared) = self {
            shared.stop();
        }
    }
}

/// The place of a tunnel whose device needs no settings.
struct NoSeat;

impl Seat for NoSeat {
    fn update(&mut self, _client: &ClientState) {}
}

/// Checks that interfaces of this host can have the addresses of `pools`.
///
/// # Errors
/// One of them is of IPv6, which is off: every tunnel would fail.
pub(super) fn check_host(pools: &[IpNetwork]) -> Result<()> {
    /// What new interfaces start with.
    const FILE: &str = "/proc/sys/net/ipv6/conf/default/disable_ipv6";
    let Some(pool) = pools.iter().find(|pool| pool.is_ipv6()) else {
        return Ok(());
    };
    // There is no such file where the kernel has no IPv6 at all.
    match std::fs::read_to_string(FILE) {
        Ok(text) if text.trim() == "0" => Ok(()),
        _ => Err(Error::internal(format!(
            "the address pool {pool} needs IPv6, which this host has switched off: remove the pool, \
             or set net.ipv6.conf.default.disable_ipv6=0"
        ))),
    }
}
