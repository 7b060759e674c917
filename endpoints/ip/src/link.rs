//! Addresses, routes and the MTU of an interface, by netlink.
//!
//! A [`LinkState`] says how an interface should be; a [`Link`] makes it so, touching only what
//! differs from what it set before. What it does not know of, it leaves alone: the user's own routes
//! are neither replaced nor removed.

mod changes;
mod connection;
mod host_route;
mod message;
mod names;

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use ipnetwork::IpNetwork;
use rtnetlink::Handle;
use rtnetlink::packet_route::link::LinkMessage;
use rustix::io::Errno;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::device::Interface;
use changes::{Change, changes, record};
use connection::{connect, describe};

pub use host_route::{
    HostRoute, add_host_route, added_host_route, remove_host_route, route_outside, route_to,
};
pub use names::{interfaces, next_free_name};

/// The number that marks our routes (`ip route show proto 80`), a P in ASCII. It is none of those that
/// other programs have registered.
pub const ROUTE_PROTOCOL: u8 = 0x50;

/// The least MTU of an interface with IPv6, in bytes (RFC 8200 §5); Linux takes IPv6 off below it.
const MIN_MTU_V6: u32 = 1280;

/// Packets that the kernel holds for us to read, the usual length of an Ethernet interface. A TUN
/// interface has half of it, which is less than one burst of a fast sender.
const QUEUE_LEN: u32 = 1000;

/// How long until what the kernel refused is tried again. Somebody may have removed the route in the
/// way.
const RETRY: Duration = Duration::from_secs(10);

/// How an interface should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkState {
    /// The MTU in bytes, or 0 to leave it. Never set below 1280 while there are addresses or routes of
    /// IPv6.
    pub mtu: u32,
    /// Its addresses. They bring no routes with them.
    pub addresses: Vec<LinkAddress>,
    /// Destinations behind it.
    pub routes: Vec<IpNetwork>,
}

/// An address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LinkAddress {
    /// The address with the length of its network.
    pub local: IpNetwork,
    /// The one address at the other end, if there is only one.
    pub peer: Option<IpAddr>,
}

impl LinkAddress {
    /// An address of a network, or with a full length one of its own.
    pub fn new(local: IpNetwork) -> Self {
        Self { local, peer: None }
    }

    /// `local` with one other address at the far end.
    pub fn with_peer(local: IpAddr, peer: IpAddr) -> Self {
        Self {
            local: local.into(),
            peer: Some(peer),
        }
    }
}

/// One interface, by a netlink connection of its own.
pub struct Link {
    handle: Handle,
    interface: Interface,
    applied: LinkState,
}

impl Link {
    /// Connects to the network namespace of this thread. The connection's task runs on the current
    /// runtime and ends with this value.
    ///
    /// # Errors
    /// There is no netlink socket to be had.
    pub async fn new(interface: &Interface) -> io::Result<Self> {
        Ok(Self {
            handle: connect()?,
            interface: interface.clone(),
            applied: LinkState::default(),
        })
    }

    /// The interface that it is about.
    pub fn interface(&self) -> &Interface {
        &self.interface
    }

    /// Sets the interface up, in silence: without a link-local address there is no neighbour
    /// discovery and nothing asks for routers (RFC 9484 §7.1 expects neither on a tunnel).
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn set_up(&self) -> io::Result<()> {
        // First: addresses are made when the interface comes up.
        self.set_quiet().await?;
        self.change(message::up(self.interface.index, QUEUE_LEN))
            .await
    }

    /// Makes the interface as `wanted` says. Routes need it to be [up](Self::set_up).
    ///
    /// # Errors
    /// The first thing that the kernel refused; everything else was tried too. The next call tries
    /// again what failed.
    pub async fn apply(&mut self, wanted: &LinkState) -> io::Result<()> {
        let mut first_error = None;
        // Twice: with the last address of IPv4 the kernel removes all routes of IPv4.
        for _ in 0..2 {
            for change in changes(&self.applied, wanted) {
                match self.make(&change).await {
                    Ok(()) => record(&mut self.applied, &change),
                    Err(error) if is_gone(&error) => return Err(error),
                    Err(error) => {
                        first_error.get_or_insert(describe(&change, error));
                    }
                }
            }
            if first_error.is_some() {
                break;
            }
        }
        first_error.map_or(Ok(()), Err)
    }

    async fn make(&self, change: &Change) -> io::Result<()> {
        let index = self.interface.index;
        let result = match change {
            Change::Mtu(mtu) => return self.set_mtu(*mtu).await,
            Change::AddAddress(address) => {
                let mut request = self.handle.address().add(index, address.local.ip(), 0);
                *request.message_mut() = message::address(index, address);
                request.replace().execute().await
            }
            Change::RemoveAddress(address) => {
                let message = message::address(index, address);
                self.handle.address().del(message).execute().await
            }
            Change::AddRoute(route) => {
                let message = message::route(index, *route);
                self.handle.route().add(message).execute().await
            }
            Change::RemoveRoute(route) => {
                let message = message::route(index, *route);
                self.handle.route().del(message).execute().await
            }
        };
        let result = connection::to_io(result);
        match (change, &result) {
            // What is to go has gone already.
            (Change::RemoveAddress(_) | Change::RemoveRoute(_), Err(error)) if is_absent(error) => {
                Ok(())
            }
            _ => result,
        }
    }

    async fn set_mtu(&self, mtu: u32) -> io::Result<()> {
        let index = self.interface.index;
        self.change(message::mtu(index, mtu)).await?;
        self.interface.set_mtu(mtu);
        // Below 1280 bytes the kernel had taken IPv6 off, and what it now puts back is not quiet.
        if mtu >= MIN_MTU_V6 && (1..MIN_MTU_V6).contains(&self.applied.mtu) {
            self.set_quiet().await?;
            self.remove_link_local().await?;
        }
        Ok(())
    }

    /// Keeps the kernel from making addresses.
    async fn set_quiet(&self) -> io::Result<()> {
        match self
            .change(message::no_address_generation(self.interface.index))
            .await
        {
            // A host without IPv6 makes none.
            Err(error) if Errno::from_io_error(&error) == Some(Errno::AFNOSUPPORT) => Ok(()),
            result => result,
        }
    }

    async fn remove_link_local(&self) -> io::Result<()> {
        for address in connection::link_local(&self.handle, self.interface.index).await? {
            let removed = self.handle.address().del(address).execute().await;
            match connection::to_io(removed) {
                Err(error) if !is_absent(&error) => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    async fn change(&self, message: LinkMessage) -> io::Result<()> {
        connection::to_io(self.handle.link().change(message).execute().await)
    }
}

/// Keeps the interface as the latest state says, until the sender or the interface is gone. What the
/// kernel refuses is tried again with the next state, or after some time, and reported once.
pub async fn follow(mut link: Link, mut states: watch::Receiver<LinkState>) {
    let mut reported = Vec::new();
    loop {
        let state = states.borrow_and_update().clone();
        let interface = link.interface.name.clone();
        let failed = match link.apply(&state).await {
            Ok(()) => false,
            Err(error) if is_gone(&error) => {
                info!(interface, "the interface is gone");
                return;
            }
            Err(error) => {
                if !reported.contains(&error.kind()) {
                    warn!(interface, %error, "the interface is not as it should be");
                    reported.push(error.kind());
                }
                true
            }
        };
        let changed = if failed {
            tokio::time::timeout(RETRY, states.changed()).await
        } else {
            Ok(states.changed().await)
        };
        if let Ok(Err(_)) = changed {
            return;
        }
    }
}

fn is_gone(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::NODEV)
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::SRCH | Errno::ADDRNOTAVAIL | Errno::NOENT)
    )
}
