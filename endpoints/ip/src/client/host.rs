//! [`Host`]: what a tunnel changes on the machine that it runs on.

use std::io;
use std::net::IpAddr;

use async_trait::async_trait;

use crate::link::{self, HostRoute, Link, LinkState};

/// The host that a tunnel is an interface of.
#[async_trait]
pub(super) trait Host: Send {
    /// Makes the interface what `wanted` says. A route in the way of one of ours stays, and is an
    /// error of the kind `AlreadyExists`.
    async fn apply(&mut self, wanted: &LinkState) -> io::Result<()>;

    /// How packets to `address` leave the host now.
    async fn route_to(&mut self, address: IpAddr) -> io::Result<HostRoute>;

    /// How packets to `address` would leave the host without any tunnel of ours.
    async fn route_outside(&mut self, address: IpAddr) -> io::Result<HostRoute>;

    /// Adds a route. One in its way stays, and is an error of the kind `AlreadyExists`.
    async fn add_route(&mut self, route: &HostRoute) -> io::Result<()>;

    /// The route to `address` that [`add_route`](Self::add_route) has added, for whichever client.
    async fn added_route(&mut self, address: IpAddr) -> io::Result<Option<HostRoute>>;

    /// Removes a route that [`add_route`](Self::add_route) may have added.
    async fn remove_route(&mut self, route: &HostRoute) -> io::Result<()>;
}

#[async_trait]
impl Host for Link {
    async fn apply(&mut self, wanted: &LinkState) -> io::Result<()> {
        self.apply(wanted).await
    }

    async fn route_to(&mut self, address: IpAddr) -> io::Result<HostRoute> {
        link::route_to(address).await
    }

    async fn route_outside(&mut self, address: IpAddr) -> io::Result<HostRoute> {
        link::route_outside(address, self.interface().index).await
    }

    async fn add_route(&mut self, route: &HostRoute) -> io::Result<()> {
        link::add_host_route(route).await
    }

    async fn added_route(&mut self, address: IpAddr) -> io::Result<Option<HostRoute>> {
        link::added_host_route(address).await
    }

    async fn remove_route(&mut self, route: &HostRoute) -> io::Result<()> {
        link::remove_host_route(route).await
    }
}

#[cfg(test)]
pub(super) mod fake;
