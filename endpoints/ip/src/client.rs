//! [`IpTunnel`]: the client's end of an IP tunnel, an interface of this host.
//!
//! ```text
//! prepare: interface, still without address
//!    │
//! open: request ──► IpClientFlow, inside the connection's worker, moves packets
//!    │                      │ addresses, routes, MTU, as the server says them
//!    ▼                      ▼
//! next_event ◄── the interface is made what they say, one state after the other
//!    │       │
//!    │   reopen: another tunnel on the same interface, when its connection was lost
//!    │   reopen_with_ipv4: the same, when the path carries no IPv6
//!    ▼
//! close: what the host had before
//! ```

mod bypass;
mod choice;
mod error;
mod event;
mod host;
mod interface;
mod late_device;
mod ledger;
mod options;
mod prefixes;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::future::pending;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ipnetwork::IpNetwork;
use pasque::connection::{ClientError, OpenTunnel};
use pasque::{Connection, Request, StreamError};
use rustix::io::Errno;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, warn};

use self::bypass::Bypass;
pub use self::choice::{Families, RouteChoice, TooManyRoutes};
pub use self::error::IpTunnelError;
pub use self::event::IpTunnelEvent;
use self::host::Host;
use self::late_device::LateDevice;
use self::ledger::Ledger;
pub use self::options::IpTunnelOptions;
use self::prefixes::{any_address, is_assignable, link_address};
use crate::device::PacketDevice;
use crate::flow::{ClientWants, IpClientFlow, TunnelFailure, TunnelState};
use crate::link::{Link, LinkState};
use crate::routes::Routes;

/// How long until what was in the way is looked for again: nobody tells when it goes.
const RETRY: Duration = Duration::from_secs(10);

/// The code of a stream whose tunnel a server of this project has aborted for its path: none is meant
/// for that in particular (RFC 9484 §7.2).
const ABORTED: u64 = StreamError::RequestCancelled.code();

/// How long after the interface the end of its tunnel may be told.
const GOODBYE: Duration = Duration::from_secs(1);

/// An interface of this host whose packets go through a tunnel.
///
/// The interface is gone when both this and the tunnel are, at the latest with the process. The one
/// thing that outlives them is a route to the server: [`close`](Self::close) removes it, and after a
/// crash, the next [`prepare`](Self::prepare) does.
pub struct IpTunnel {
    name: String,
    options: IpTunnelOptions,
    /// What the host cannot do is not asked for.
    host_has_v6: bool,
    /// Nor what the path does not carry.
    has_v6: bool,
    host: Box<dyn Host>,
    bypass: Bypass,
    /// The flow has it, too.
    device: Arc<dyn PacketDevice>,
    /// Makes another one for a flow on another connection. Keeps the interface meanwhile.
    devices: Box<dyn Fn() -> Arc<dyn PacketDevice> + Send + Sync>,
    running: Option<Running>,
    /// What the interface is now.
    applied: LinkState,
    /// What keeps it from being all of that, and when to try again.
    obstacle: Option<(String, Instant)>,
    /// What was last told of the addresses.
    addresses: Vec<IpNetwork>,
    no_default: Families,
    is_up: bool,
    events: VecDeque<IpTunnelEvent>,
}

/// A tunnel that the server has accepted.
struct Running {
    /// The addresses of the server. Where the packets of the tunnel itself go is the first one.
    servers: Vec<IpAddr>,
    states: watch::Receiver<TunnelState>,
    ended: Pin<Box<dyn Future<Output = Result<(), ClientError>> + Send>>,
    deadline: Instant,
}

impl Running {
    /// Why the tunnel has ended: its stream tells a code, the flow a reason. A server that aborts it
    /// for its path may do so before this end does.
    fn reason(&self, ended: Result<(), ClientError>) -> IpTunnelError {
        let state = self.states.borrow();
        match (&state.failure, ended) {
            (Some(failure), _) => failure.clone().into(),
            (None, Ok(())) => IpTunnelError::Ended,
            (None, Err(error)) => match (&error, state.shortcoming()) {
                (ClientError::Reset(_), Some(path)) => TunnelFailure::Path(path).into(),
                (ClientError::Reset(ABORTED), None) if state.has_ipv6() => IpTunnelError::Aborted,
                _ => IpTunnelError::Lost(error),
            },
        }
    }
}

impl IpTunnel {
    /// Makes the interface, and puts away what killed clients have left. Nothing is sent.
    ///
    /// # Errors
    /// What this host, or its administrator, does not let us do.
    pub async fn prepare(options: IpTunnelOptions) -> Result<Self, IpTunnelError> {
        let (queue, interface) =
            interface::open(options.interface.as_deref(), options.device).await?;
        let name = interface.name.clone();
        let host_error = |source| IpTunnelError::Host {
            interface: name.clone(),
            source,
        };
        let mut link = Link::new(&interface).await.map_err(host_error)?;
        link.set_up().await.map_err(host_error)?;
        let bypass = Bypass::new(Ledger::open(), &name);
        if let Err(error) = bypass.clean_up(&mut link).await {
            warn!("routes of earlier clients may be left: {error}");
        }
        let queue = Arc::new(queue);
        let devices = move || -> Arc<dyn PacketDevice> {
            Arc::new(LateDevice::new(queue.clone(), interface.clone()))
        };
        let has_v6 = interface::has_ipv6(&name);
        Ok(Self::with_parts(
            name,
            options,
            Box::new(devices),
            Box::new(link),
            bypass,
            has_v6,
        ))
    }

    fn with_parts(
        name: String,
        options: IpTunnelOptions,
        devices: Box<dyn Fn() -> Arc<dyn PacketDevice> + Send + Sync>,
        host: Box<dyn Host>,
        bypass: Bypass,
        has_v6: bool,
    ) -> Self {
        Self {
            name,
            options,
            host_has_v6: has_v6,
            has_v6,
            host,
            bypass,
            device: devices(),
            devices,
            running: None,
            applied: LinkState::default(),
            obstacle: None,
            addresses: Vec::new(),
            no_default: Families::default(),
            is_up: false,
            events: VecDeque::new(),
        }
    }

    /// The name of the interface.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Asks the server for the tunnel: see [`tunnel_request`](crate::scope::tunnel_request). Once
    /// only.
    ///
    /// # Errors
    /// The server's refusal, or why there is no answer.
    pub async fn open(
        &mut self,
        connection: &Connection,
        request: Request,
    ) -> Result<(), IpTunnelError> {
        let asked: Vec<_> = any_address(self.families()).collect();
        if asked.is_empty() {
            return Err(IpTunnelError::NoIpv6);
        }
        self.start(connection, request, asked).await
    }

    /// Asks for another tunnel, in place of one whose connection is over, on another connection. The
    /// interface stays as it is until the server has assigned addresses, which are asked to be those that
    /// it had: what is routed into the tunnel takes no other way meanwhile, and connections inside it go
    /// on.
    ///
    /// # Errors
    /// The server's refusal, or why there is no answer. It can be tried again.
    pub async fn reopen(
        &mut self,
        connection: &Connection,
        request: Request,
    ) -> Result<(), IpTunnelError> {
        // The path may be another one, too.
        self.has_v6 = self.host_has_v6;
        self.is_up = false;
        self.obstacle = None;
        self.running = None;
        self.device = (self.devices)();
        let wanted = self.families();
        let had = Families::of(&self.addresses);
        let missing = Families {
            v4: wanted.v4 && !had.v4,
            v6: wanted.v6 && !had.v6,
        };
        let former = self.addresses.iter().copied();
        let asked = former.chain(any_address(missing)).collect();
        self.start(connection, request, asked).await
    }

    /// Leads the ways to the server where this host's packets go now, which may be another network than
    /// before. To be called while there is no connection, before another one is tried.
    ///
    /// # Errors
    /// There is a way to none of its addresses, or it cannot be kept outside the tunnel. It can be tried again.
    pub async fn renew_way_to_server(&mut self) -> Result<(), IpTunnelError> {
        let renewed = self.bypass.renew(&mut *self.host).await;
        renewed.map_err(IpTunnelError::Bypass)
    }

    fn families(&self) -> Families {
        Families {
            v4: self.options.families.v4,
            v6: self.options.families.v6 && self.has_v6,
        }
    }

    /// Whether `error`, by which the tunnel ended, is no matter for a tunnel with the IPv4 addresses
    /// alone that this one had beside those of IPv6.
    pub fn is_left_with_ipv4(&self, error: &IpTunnelError) -> bool {
        let had = Families::of(&self.addresses);
        let is_about_ipv6 = matches!(
            error,
            IpTunnelError::Failed(TunnelFailure::Path(_)) | IpTunnelError::Aborted
        );
        had.v4 && had.v6 && is_about_ipv6
    }

    /// Asks for another tunnel in place of the one that has ended, for IPv4 alone, which `request` has
    /// to say, too. The interface stays as it is until the server has assigned an address, which is asked
    /// to be the one that it had: connections inside the tunnel go on.
    ///
    /// # Errors
    /// The server's refusal, or why there is no answer.
    pub async fn reopen_with_ipv4(
        &mut self,
        connection: &Connection,
        request: Request,
    ) -> Result<(), IpTunnelError> {
        self.has_v6 = false;
        self.is_up = false;
        self.obstacle = None;
        self.addresses.retain(IpNetwork::is_ipv4);
        let former = std::mem::take(&mut self.addresses);
        self.start(connection, request, former).await
    }

    /// Opens a tunnel and asks for these addresses.
    async fn start(
        &mut self,
        connection: &Connection,
        request: Request,
        asked: Vec<IpNetwork>,
    ) -> Result<(), IpTunnelError> {
        let wants = ClientWants {
            request: asked,
            advertise: Routes::from_config(&self.options.advertise).only(true, self.has_v6),
            // Who forwards for others has to know that the tunnel carries IPv6 (RFC 9484 §7.2).
            mtu_probe: !self.options.advertise.is_empty(),
            ..ClientWants::default()
        };
        let servers = connection.server_addresses().into_iter();
        let servers = servers.map(|server| server.to_canonical()).collect();
        let (updates, states) = watch::channel(TunnelState::default());
        let flow = IpClientFlow::new(self.device.clone(), wants, updates);
        let tunnel: OpenTunnel = connection.open(request, flow).await?;
        self.running = Some(Running {
            servers,
            states,
            ended: Box::pin(tunnel.ended()),
            deadline: Instant::now() + self.options.address_timeout,
        });
        Ok(())
    }

    /// Makes the interface what the server says whenever it says something new, and tells what that
    /// was. The interface does not change while nobody waits here.
    ///
    /// # Errors
    /// The tunnel is over, and why. Only [`close`](Self::close) makes sense then,
    /// [`reopen`](Self::reopen), or [`reopen_with_ipv4`](Self::reopen_with_ipv4).
    pub async fn next_event(&mut self) -> Result<IpTunnelEvent, IpTunnelError> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            let Some(running) = &mut self.running else {
                return Err(IpTunnelError::Ended);
            };
            let alarm = match (self.is_up, &self.obstacle) {
                (false, _) => Some(running.deadline),
                (true, obstacle) => obstacle.as_ref().map(|(_, retry)| *retry),
            };
            tokio::select! {
                biased;
                Ok(()) = running.states.changed() => {}
                ended = &mut running.ended => return Err(running.reason(ended)),
                () = at(alarm) => if !self.is_up {
                    return Err(IpTunnelError::NoAddress(self.options.address_timeout));
                }
            }
            let state = running.states.borrow_and_update().clone();
            let servers = running.servers.clone();
            if let Some(failure) = state.failure {
                // Until then the flow may still read from the interface.
                let _ = timeout(GOODBYE, &mut running.ended).await;
                return Err(failure.into());
            }
            if let Err(error) = self.follow(state, &servers).await {
                return Err(self.reason(error).await);
            }
        }
    }

    /// Why the interface does not follow. One that is gone may have gone with the tunnel, whose end
    /// then says more.
    async fn reason(&mut self, error: IpTunnelError) -> IpTunnelError {
        match (&mut self.running, &error) {
            (Some(running), IpTunnelError::Gone(_)) => {
                match timeout(GOODBYE, &mut running.ended).await {
                    Ok(ended) => running.reason(ended),
                    Err(_still_open) => error,
                }
            }
            _ => error,
        }
    }

    /// Makes the host what it was before. The interface itself goes with the tunnel.
    ///
    /// # Errors
    /// What could not be undone; the next [`prepare`](Self::prepare) tries again.
    pub async fn close(mut self) -> Result<(), IpTunnelError> {
        // The other way round, the last packets of the connection would go into the tunnel.
        let unrouted = LinkState {
            routes: Vec::new(),
            ..self.applied.clone()
        };
        // They go with the interface in any case, if it is not gone already.
        let _ = self.host.apply(&unrouted).await;
        let released = self.bypass.release(&mut *self.host).await;
        released.map_err(IpTunnelError::Bypass)
    }

    /// Makes the interface what `state` says.
    async fn follow(
        &mut self,
        state: TunnelState,
        servers: &[IpAddr],
    ) -> Result<(), IpTunnelError> {
        let is_usable = |prefix: &IpNetwork| self.has_v6 || prefix.is_ipv4();
        let addresses: Vec<_> = state.addresses.into_iter().filter(is_usable).collect();
        if state.mtu == 0 || (addresses.is_empty() && !self.is_up) {
            return Ok(());
        }
        let local: Vec<_> = addresses.iter().map(link_address).collect();
        if let Some(wrong) = local
            .iter()
            .find(|own| !is_assignable(own.local.ip(), servers))
        {
            return Err(IpTunnelError::WrongAddress(wrong.local.ip()));
        }
        let no_default = match &state.routes {
            Some(offered) => self.options.routes.missing_default(offered),
            // Nothing is said yet about what will be missing.
            None => self.no_default,
        };
        let families = Families::of(&addresses);
        let mut routes = match &state.routes {
            Some(offered) => self.options.routes.select(offered, families)?,
            // Those of the tunnel before stay until the server says anew where this one leads.
            None if !self.applied.routes.is_empty() => self.applied.routes.clone(),
            None => self.options.routes.select(&Routes::default(), families)?,
        };
        routes.retain(is_usable);
        let wanted = LinkState {
            mtu: state.mtu,
            addresses: local,
            routes,
        };
        self.apply(&wanted, servers).await?;

        self.tell(&wanted, addresses, no_default);
        self.applied = wanted;
        Ok(())
    }

    async fn apply(&mut self, wanted: &LinkState, servers: &[IpAddr]) -> Result<(), IpTunnelError> {
        let host = &mut *self.host;
        let is_swallowed = |server: &&IpAddr| choice::covers(&wanted.routes, **server);
        for server in servers.iter().filter(is_swallowed) {
            if servers.first() == Some(server) {
                let held = self.bypass.hold(*server, host).await;
                held.map_err(IpTunnelError::Bypass)?;
            } else if let Err(error) = self.bypass.hold_other(*server, host).await {
                // Nothing goes there, unless the network changes.
                debug!("the route to {server} outside the tunnel: {error}");
            }
        }
        let obstacle = match host.apply(wanted).await {
            Ok(()) => None,
            // Some other program's, or the user's: it is not ours to remove.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Some(error.to_string()),
            Err(error) => return Err(self.host_error(error)),
        };
        let known = self.obstacle.take().map(|(text, _)| text);
        if let Some(text) = obstacle {
            if known.as_ref() != Some(&text) {
                let event = IpTunnelEvent::Incomplete(text.clone());
                self.events.push_back(event);
            }
            self.obstacle = Some((text, Instant::now() + RETRY));
        }
        if !servers.iter().any(|server| is_swallowed(&server)) {
            let released = self.bypass.release(host).await;
            released.map_err(IpTunnelError::Bypass)?;
        }
        Ok(())
    }

    fn host_error(&self, source: io::Error) -> IpTunnelError {
        let interface = self.name.clone();
        match Errno::from_io_error(&source) {
            Some(Errno::NODEV) => IpTunnelError::Gone(interface),
            _ => IpTunnelError::Host { interface, source },
        }
    }

    /// Tells what changes with `wanted`.
    fn tell(&mut self, wanted: &LinkState, addresses: Vec<IpNetwork>, no_default: Families) {
        let mtu = wanted.mtu;
        if !self.is_up {
            self.is_up = true;
            let addresses = addresses.clone();
            self.events.push_back(IpTunnelEvent::Up { addresses, mtu });
        } else {
            if addresses != self.addresses {
                let addresses = addresses.clone();
                self.events.push_back(IpTunnelEvent::Addresses(addresses));
            }
            if mtu != self.applied.mtu {
                self.events.push_back(IpTunnelEvent::Mtu(mtu));
            }
        }
        if wanted.routes != self.applied.routes {
            let routes = wanted.routes.clone();
            self.events.push_back(IpTunnelEvent::Routes(routes));
        }
        self.addresses = addresses;
        if no_default != self.no_default {
            self.no_default = no_default;
            self.events.push_back(IpTunnelEvent::NoDefault(no_default));
        }
    }
}

impl fmt::Debug for IpTunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IpTunnel")
            .field("name", &self.name)
            .field("applied", &self.applied)
            .finish_non_exhaustive()
    }
}

/// Waits for a moment that may never come.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => pending().await,
    }
}
