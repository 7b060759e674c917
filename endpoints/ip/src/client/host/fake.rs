//! A host in memory that notes what is asked of it.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use rustix::io::Errno;

use super::*;
use crate::client::Families;
use crate::link::ROUTE_PROTOCOL;

/// Clones are the same host.
#[derive(Clone, Debug, Default)]
pub(in crate::client) struct FakeHost(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    log: Vec<String>,
    interface: LinkState,
    host_routes: HashSet<HostRoute>,
    /// The next router, once it is another one.
    router: Option<IpAddr>,
    /// There is no way to addresses of this version of IP.
    lacks: Families,
    /// What the main table says is no route at all.
    has_other_tables: bool,
    refusal: Option<(&'static str, io::ErrorKind)>,
    is_gone: bool,
}

/// Where the host sends packets to `address` before any tunnel.
pub(in crate::client) fn uplink(address: &str) -> HostRoute {
    HostRoute {
        destination: address.parse().unwrap(),
        gateway: Some("192.168.1.1".parse().unwrap()),
        interface: 2,
        protocol: ROUTE_PROTOCOL,
        is_local: address == "127.0.0.1",
    }
}

impl State {
    fn way(&self, address: IpAddr) -> io::Result<HostRoute> {
        let is_lacking = match address {
            IpAddr::V4(_) => self.lacks.v4,
            IpAddr::V6(_) => self.lacks.v6,
        };
        if is_lacking {
            return Err(Errno::NETUNREACH.into());
        }
        let mut route = uplink(&address.to_string());
        if let Some(router) = self.router {
            route.gateway = Some(router);
        }
        Ok(route)
    }
}

impl FakeHost {
    /// What was done, in order, since the last call.
    pub(in crate::client) fn log(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().log)
    }

    pub(in crate::client) fn interface(&self) -> LinkState {
        self.0.lock().unwrap().interface.clone()
    }

    pub(in crate::client) fn has(&self, route: &HostRoute) -> bool {
        self.0.lock().unwrap().host_routes.contains(route)
    }

    /// Adds a route as another program does.
    pub(in crate::client) fn give(&self, route: HostRoute) {
        self.0.lock().unwrap().host_routes.insert(route);
    }

    /// Moves the host to another network, where this is the next router. Routes go with the old one.
    pub(in crate::client) fn move_behind(&self, router: &str) {
        let mut state = self.0.lock().unwrap();
        state.router = Some(router.parse().unwrap());
        state.host_routes.clear();
    }

    /// Makes this the next router from now on. The link stays, and with it the routes.
    pub(in crate::client) fn reroute(&self, router: &str) {
        self.0.lock().unwrap().router = Some(router.parse().unwrap());
    }

    /// Leaves the host with the other versions of IP than `families`.
    pub(in crate::client) fn lack(&self, families: Families) {
        self.0.lock().unwrap().lacks = families;
    }

    /// Routes of other tables than the main one lead everywhere from now on.
    pub(in crate::client) fn use_other_tables(&self) {
        self.0.lock().unwrap().has_other_tables = true;
    }

    /// Lets `call` fail from now on.
    pub(in crate::client) fn refuse(&self, call: &'static str, kind: io::ErrorKind) {
        self.0.lock().unwrap().refusal = Some((call, kind));
    }

    pub(in crate::client) fn refuse_nothing(&self) {
        self.0.lock().unwrap().refusal = None;
    }

    /// Removes the interface.
    pub(in crate::client) fn remove_interface(&self) {
        self.0.lock().unwrap().is_gone = true;
    }

    fn note(&self, call: &str, what: String) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.log.push(format!("{call} {what}"));
        match state.refusal {
            _ if state.is_gone => Err(Errno::NODEV.into()),
            Some((refused, kind)) if refused == call => Err(io::Error::new(kind, "in the way")),
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Host for FakeHost {
    async fn apply(&mut self, wanted: &LinkState) -> io::Result<()> {
        let routes: Vec<_> = wanted.routes.iter().map(ToString::to_string).collect();
        self.note("apply", routes.join(" "))?;
        self.0.lock().unwrap().interface = wanted.clone();
        Ok(())
    }

    async fn route_to(&mut self, address: IpAddr) -> io::Result<HostRoute> {
        self.note("find", address.to_string())?;
        let state = self.0.lock().unwrap();
        let mut to = state.host_routes.iter();
        match to.find(|route| route.destination == address) {
            Some(route) => Ok(HostRoute {
                protocol: ROUTE_PROTOCOL,
                ..route.clone()
            }),
            None => state.way(address),
        }
    }

    async fn route_outside(&mut self, address: IpAddr) -> io::Result<HostRoute> {
        self.note("seek", address.to_string())?;
        let state = self.0.lock().unwrap();
        match state.has_other_tables {
            true => Err(Errno::NETUNREACH.into()),
            false => state.way(address),
        }
    }

    async fn add_route(&mut self, route: &HostRoute) -> io::Result<()> {
        self.note("add", route.destination.to_string())?;
        let routes = &mut self.0.lock().unwrap().host_routes;
        // The kernel has one route for each prefix, whoever added it.
        match routes
            .iter()
            .any(|known| known.destination == route.destination)
        {
            true => Err(io::ErrorKind::AlreadyExists.into()),
            false => {
                routes.insert(route.clone());
                Ok(())
            }
        }
    }

    async fn added_route(&mut self, address: IpAddr) -> io::Result<Option<HostRoute>> {
        let state = self.0.lock().unwrap();
        let is_ours =
            |route: &&HostRoute| route.destination == address && route.protocol == ROUTE_PROTOCOL;
        Ok(state.host_routes.iter().find(is_ours).cloned())
    }

    async fn remove_route(&mut self, route: &HostRoute) -> io::Result<()> {
        self.note("remove", route.destination.to_string())?;
        self.0.lock().unwrap().host_routes.remove(route);
        Ok(())
    }
}
