//! [`IpTunnelOptions`]: what a tunnel is to be on this host.

use std::time::Duration;

use ipnetwork::IpNetwork;

use super::choice::{Families, RouteChoice};
use crate::device::DeviceKind;

/// What a tunnel is to be on this host.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct IpTunnelOptions {
    /// The name of the interface. Default: `psq0`, or the next one that is free.
    pub interface: Option<String>,
    /// How the interface moves packets.
    pub device: DeviceKind,
    /// The IP versions of which the server is asked for an address. Default: both. Those that the
    /// host does not have are left out.
    pub families: Families,
    /// Which destinations go into the tunnel.
    pub routes: RouteChoice,
    /// Networks behind this host that the server may send packets to.
    pub advertise: Vec<IpNetwork>,
    /// How long the server may take to assign the first address. Default: 10 s.
    pub address_timeout: Duration,
}

impl Default for IpTunnelOptions {
    fn default() -> Self {
        Self {
            interface: None,
            device: DeviceKind::default(),
            families: Families { v4: true, v6: true },
            routes: RouteChoice::default(),
            advertise: Vec::new(),
            address_timeout: Duration::from_secs(10),
        }
    }
}
