//! Making the interface of a tunnel.

use std::fs;
use std::io;

use super::IpTunnelError;
use crate::device::{self, DeviceError, DeviceKind, Interface, Queue};
use crate::link::next_free_name;

/// What the name begins with when none is given.
const PREFIX: &str = "psq";

/// How often a name is chosen. It may be taken before the interface is made.
const ATTEMPTS: usize = 8;

/// Opens the interface called `name`, or the first of `psq0`, `psq1` and so on that is free.
pub(super) async fn open(
    name: Option<&str>,
    kind: DeviceKind,
) -> Result<(Queue, Interface), IpTunnelError> {
    let mut attempts = 1..ATTEMPTS;
    let (queues, interface) = loop {
        let chosen = match name {
            Some(name) => name.to_owned(),
            None => next_free_name(PREFIX).await.map_err(unnamed)?,
        };
        match device::open(&chosen, kind, 1) {
            Err(DeviceError::NameTaken { .. }) if name.is_none() && attempts.next().is_some() => {}
            result => break result?,
        }
    };
    let queue = queues.into_iter().next();
    let queue = queue.ok_or_else(|| IpTunnelError::Gone(interface.name.clone()))?;
    Ok((queue, interface))
}

fn unnamed(source: io::Error) -> IpTunnelError {
    IpTunnelError::Host {
        interface: PREFIX.into(),
        source,
    }
}

/// Whether the interface can have IPv6 addresses. A container's often cannot.
pub(super) fn has_ipv6(name: &str) -> bool {
    let file = format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6");
    fs::read_to_string(file).is_ok_and(|text| text.trim() == "0")
}
