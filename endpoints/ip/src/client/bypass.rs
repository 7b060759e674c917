//! [`Bypass`]: the ways to the server that no route into the tunnel may swallow.
//!
//! The tunnel's own packets go to the server. Were they routed into the tunnel, nothing would leave
//! the host any more (RFC 9484 §7.2). So each address of the server gets a route of its own, which leads
//! where its packets went before, and is more specific than any other.

use std::io;
use std::net::IpAddr;

use super::host::Host;
use super::ledger::{Entry, Ledger, Locked};
use crate::link::HostRoute;

/// Routes to the server outside the tunnel, while they are needed.
#[derive(Debug)]
pub(super) struct Bypass {
    ledger: io::Result<Ledger>,
    interface: String,
    /// There while a route may be.
    entry: Option<Entry>,
    /// The addresses of now; the entry has earlier routes, too.
    held: Vec<Held>,
}

/// One address of the server.
#[derive(Debug)]
struct Held {
    server: IpAddr,
    /// What leads there outside the tunnel, as far as there is anything.
    route: Option<HostRoute>,
    /// What the main table said then. Another table, or one of several routers, may have been taken: so
    /// this tells whether the host is in another network, and not where packets go.
    outside: Option<HostRoute>,
}

impl Bypass {
    /// For the client that runs `interface`. The ledger is needed once there is a route.
    pub(super) fn new(ledger: io::Result<Ledger>, interface: &str) -> Self {
        Self {
            ledger,
            interface: interface.to_owned(),
            entry: None,
            held: Vec::new(),
        }
    }

    /// Removes the routes of clients that were killed.
    pub(super) async fn clean_up(&self, host: &mut dyn Host) -> io::Result<()> {
        let Ok(ledger) = &self.ledger else {
            // Then there was nowhere to leave them either.
            return Ok(());
        };
        let locked = ledger.lock().await?;
        let mut result = Ok(());
        for entry in locked.abandoned()? {
            result = result.and(remove(&locked, entry, host).await);
        }
        result
    }

    /// Makes sure that packets to `server` stay outside. To be called before the first route into
    /// the tunnel that covers it, since it keeps what is the way now.
    pub(super) async fn hold(&mut self, server: IpAddr, host: &mut dyn Host) -> io::Result<()> {
        if self.holds(server) {
            return Ok(());
        }
        let route = host.route_to(server).await?;
        if route.is_local {
            // The kernel looks its own addresses up before all routes.
            return Ok(());
        }
        let outside = host.route_outside(server).await.ok();
        self.keep(server, Some(route), outside, host).await
    }

    /// The same for an address of the server to which there is no connection. There may be no way to it in
    /// this network, and one in another.
    pub(super) async fn hold_other(
        &mut self,
        server: IpAddr,
        host: &mut dyn Host,
    ) -> io::Result<()> {
        if self.holds(server) {
            return Ok(());
        }
        let route = host.route_to(server).await.ok();
        if route.as_ref().is_some_and(|route| route.is_local) {
            return Ok(());
        }
        let outside = host.route_outside(server).await.ok();
        // What another tunnel carries, or another table decides, is left to them until it is needed.
        let route = route.filter(|route| outside.as_ref() == Some(route));
        self.keep(server, route, outside, host).await
    }

    fn holds(&self, server: IpAddr) -> bool {
        self.held.iter().any(|held| held.server == server)
    }

    async fn keep(
        &mut self,
        server: IpAddr,
        route: Option<HostRoute>,
        outside: Option<HostRoute>,
        host: &mut dyn Host,
    ) -> io::Result<()> {
        let ledger = self.ledger.as_ref().map_err(copy)?;
        let locked = ledger.lock().await?;
        let entry = match &mut self.entry {
            Some(entry) => entry,
            // Kept first, so that the route goes even if nobody waits for the end of this function.
            none => none.insert(locked.begin(&self.interface)?),
        };
        if let Some(route) = &route {
            entry.note(route)?;
            lead(route, host).await?;
        }
        self.held.push(Held {
            server,
            route,
            outside,
        });
        Ok(())
    }

    /// Leads what is held where the host's packets go now: it may be in another network than before, and
    /// with the link of an old one, the kernel has removed the routes.
    ///
    /// # Errors
    /// Of the first address, if there is a way to none of them.
    pub(super) async fn renew(&mut self, host: &mut dyn Host) -> io::Result<()> {
        let Some(entry) = &mut self.entry else {
            return Ok(());
        };
        let ledger = self.ledger.as_ref().map_err(copy)?;
        let _locked = ledger.lock().await?;
        let mut result = Ok(());
        let mut has_way = false;
        for held in &mut self.held {
            match held.renew(entry, host).await {
                Ok(()) => has_way = true,
                Err(error) => result = result.and(Err(error)),
            }
        }
        if has_way { Ok(()) } else { result }
    }

    /// Removes the routes. To be called when nothing routed into the tunnel covers the server.
    pub(super) async fn release(&mut self, host: &mut dyn Host) -> io::Result<()> {
        let Some(entry) = self.entry.take() else {
            return Ok(());
        };
        self.held.clear();
        let ledger = self.ledger.as_ref().map_err(copy)?;
        remove(&ledger.lock().await?, entry, host).await
    }
}

impl Held {
    async fn renew(&mut self, entry: &mut Entry, host: &mut dyn Host) -> io::Result<()> {
        let outside = host.route_outside(self.server).await;
        if outside.as_ref().ok() == self.outside.as_ref() {
            match &self.route {
                Some(route) => match lead(route, host).await {
                    // The link that it needs may be gone.
                    Err(_) if outside.as_ref().is_ok_and(|outside| outside != route) => {}
                    result => return result,
                },
                None => return outside.map(drop),
            }
        }
        let route = outside?;
        entry.note(&route)?;
        lead(&route, host).await?;
        self.outside = Some(route.clone());
        self.route = Some(route);
        Ok(())
    }
}

/// Adds a route. There may be one already: the user's, who knows better, or another client's, which stays for
/// as long as this one needs it. If it leads elsewhere, it is of an earlier network, and of no more use to
/// the other one either.
async fn lead(route: &HostRoute, host: &mut dyn Host) -> io::Result<()> {
    match host.add_route(route).await {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        result => return result,
    }
    match host.added_route(route.destination).await? {
        Some(former) if former != *route => {
            host.remove_route(&former).await?;
            let added = host.add_route(route).await;
            if added.is_err() {
                // Better than none: the tunnel would swallow what has no route.
                let _ = host.add_route(&former).await;
            }
            added
        }
        _ => Ok(()),
    }
}

/// Removes the routes of `entry` that no other client needs, and then the entry. It stays for the
/// next client when one of them cannot be removed.
async fn remove(locked: &Locked<'_>, entry: Entry, host: &mut dyn Host) -> io::Result<()> {
    let needed = locked.needed_by_others(Some(&entry))?;
    for route in entry.routes() {
        if !needed.contains(route) {
            host.remove_route(route).await?;
        }
    }
    locked.finish(entry)
}

/// An error is no `Clone`, and this one is told each time it matters.
fn copy(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), error.to_string())
}

#[cfg(test)]
mod tests;
