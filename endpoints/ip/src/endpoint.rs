//! [`IpEndpoint`]: the server's side of IP tunnels.

mod claims;
mod ground;
mod interfaces;
mod keys;
mod numbers;
mod place;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::header::{HeaderValue, RETRY_AFTER};
use ipnetwork::IpNetwork;
use pasque::diagnosis::Finding;
use pasque::policy::{EgressPolicy, HostPolicy, Rule};
use pasque::prelude::*;
use pasque::proxy_status::ProxyError;
use pasque::resolve::{ResolveError, Resolver};
use pasque::{Capability, FileUse};
use tokio::time::timeout;
use tracing::debug;

use self::ground::Ground;
use self::keys::InterfacePrefix;
use self::place::Devices;
use crate::PROTOCOL;
use crate::device::{DeviceKind, PacketDevice, TUN_FILE};
use crate::doctor::{self, Plan};
use crate::filter::{ServerFilter, ServerRules, SharedCounters};
use crate::flow::{IpFlow, ServerTunnel};
use crate::pool::{ClientKey, Exhausted};
use crate::routes::Routes;
use crate::scope::{IpProto, Scope, Target, parse_scope};
use crate::session::AddressServer;

/// When a client may ask again that found every address in use, in seconds.
const RETRY_AFTER_S: HeaderValue = HeaderValue::from_static("30");

/// How long a client waits for its former tunnels to be put away, which takes the kernel some
/// milliseconds each.
const SETTLE_TIME: Duration = Duration::from_secs(1);

/// Seconds in which an address is kept for a client that left: a day.
const LEASE_S: u64 = 86_400;

/// IP tunnels (RFC 9484): each client gets addresses of the pools, and the host forwards its packets.
///
/// A tunnel is an interface of its own, or with `"interface": "shared"` a part of one that all clients
/// are behind. The kernel forwards, so what it is told to do (`net.ipv4.ip_forward`, firewall, address
/// translation) decides as well. For the interfaces the process needs the capability `CAP_NET_ADMIN`.
///
/// What clients may reach has three limits, all of which apply: the `routes` that they are offered, the
/// scope that their request names, and the egress policy, see [`pasque::policy`]. A route that lies
/// inside a closed range opens it: who writes `10.0.0.0/8` means private addresses.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IpEndpoint {
    /// How the names of the interfaces begin.
    ifprefix: InterfacePrefix,
    /// Where clients' addresses are from. The address written in each prefix is the server's own.
    #[serde(deserialize_with = "keys::pools")]
    addresspools: Vec<IpNetwork>,
    /// What clients are offered. Default: the networks of the pools.
    #[serde(default, deserialize_with = "keys::routes")]
    routes: Option<Vec<IpNetwork>>,
    /// Destinations to open that are closed by default.
    #[serde(default)]
    allow: Vec<Rule>,
    /// Destinations to close; goes before `allow`.
    #[serde(default)]
    deny: Vec<Rule>,
    /// One interface per client, or one for all.
    #[serde(default)]
    interface: InterfaceMode,
    /// How the interfaces move packets.
    #[serde(default)]
    device: DeviceKind,
    /// Whether clients may reach each other.
    #[serde(default)]
    client_to_client: bool,
    /// Networks that clients may have behind them, site to site: what a client advertises is accepted
    /// as far as it lies in one of these.
    #[serde(default, deserialize_with = "keys::networks")]
    accept_client_routes: Vec<IpNetwork>,
    /// Seconds in which an address is kept for a client that left.
    #[serde(default = "default_lease_s", deserialize_with = "keys::lease_s")]
    lease_s: u64,
    /// Where that is remembered across restarts.
    #[serde(default)]
    lease_file: Option<PathBuf>,
    /// Whether the client has to answer an echo of 1280 bytes once it has an IPv6 address. Without, the
    /// path must be known to carry that much (RFC 9484 §7.2).
    #[serde(default = "default_mtu_probe")]
    mtu_probe: bool,

    #[serde(skip)]
    devices: Option<Devices>,
    #[serde(skip)]
    counters: SharedCounters,
    /// What [`start`](Endpoint::start) made.
    #[serde(skip)]
    started: Option<Started>,
}

pasque::register!(IpEndpoint, "IP tunnels (RFC 9484)",
    example: r#"{ "path": "ip", "type": "IpEndpoint",
  "ifprefix": "tun-s", "addresspools": ["10.76.0.1/24", "fd76:212:dead::1/64"],
  "routes": ["10.76.0.0/24", "fd76:212:dead::/64"] }"#,
    variables: &["target", "ipproto"],
    well_known: Some("/.well-known/masque/ip/{target}/{ipproto}/"),
    optional: true, inline: true);

/// Whose an interface is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum InterfaceMode {
    #[default]
    Client,
    Shared,
}

impl IpEndpoint {
    /// The same endpoint with `device` in place of every interface.
    #[must_use]
    pub fn with_device(self, device: Arc<dyn PacketDevice>) -> Self {
        self.with_devices(move |_| Ok(device.clone()))
    }

    /// The same endpoint with devices from `make`, which is told the addresses of the client. With a
    /// shared interface it is called once, with the server's own addresses.
    #[must_use]
    pub fn with_devices(
        self,
        make: impl Fn(&[IpNetwork]) -> io::Result<Arc<dyn PacketDevice>> + Send + Sync + 'static,
    ) -> Self {
        Self {
            devices: Some(Arc::new(make)),
            ..self
        }
    }

    /// What the tunnels have counted: those that ended, and the others as of ten seconds ago at most.
    pub fn counters(&self) -> SharedCounters {
        self.counters.clone()
    }

    /// What clients are offered.
    fn offered(&self) -> Vec<IpNetwork> {
        self.routes.clone().unwrap_or_else(|| self.pool_networks())
    }

    /// The networks of the pools, host bits zero.
    fn pool_networks(&self) -> Vec<IpNetwork> {
        self.addresspools.iter().copied().map(network_of).collect()
    }

    fn policy(&self, cx: &StartContext, own: &[IpAddr]) -> Result<HostPolicy> {
        // The policy would close the private addresses that pools mostly have.
        let opened = [self.offered(), self.pool_networks()].concat();
        let rules = EgressPolicy::new(self.allow.clone(), self.deny.clone()).open(&opened);
        HostPolicy::new(rules, cx.listeners.clone(), own.to_vec())
    }

    /// Serves on `ground`.
    fn start_on(&mut self, ground: Arc<Ground>, cx: &StartContext) -> Result<()> {
        let resolver = match cx.nameserver {
            Some(address) => Resolver::with_nameserver(address),
            None => Resolver::system(),
        };
        let resolver = resolver
            .map_err(|error| Error::internal("cannot set up name resolution").with_source(error))?;
        let own: Vec<_> = self.addresspools.iter().map(IpNetwork::ip).collect();
        let policy = self.policy(cx, &own)?;
        self.started = Some(Started {
            resolver,
            routes: Routes::from_config(&self.offered()),
            rules: Arc::new(ServerRules {
                own,
                clients: ground.clients.clone(),
                client_to_client: self.client_to_client,
                policy,
            }),
            ground,
        });
        Ok(())
    }

    fn started(&self) -> Result<&Started> {
        let started = self.started.as_ref();
        started.ok_or_else(|| Error::internal("not started"))
    }

    /// What a running tunnel with this scope has to meet.
    ///
    /// # Errors
    /// Nothing in the scope is offered any more.
    pub(crate) fn terms(&self, scope: &Scope) -> Result<Terms> {
        let started = self.started()?;
        Ok(Terms {
            rules: started.rules.clone(),
            routes: started.routes_within(scope)?,
        })
    }
}

/// What the configuration demands of a tunnel that runs.
pub(crate) struct Terms {
    pub(crate) rules: Arc<ServerRules>,
    pub(crate) routes: Routes,
}

#[async_trait]
#[typetag::deserialize]
impl Endpoint for IpEndpoint {
    async fn start(&mut self, cx: &StartContext) -> Result<()> {
        let ground = self.ground(cx).await?;
        self.start_on(Arc::new(ground), cx)
    }

    /// Tunnels, their addresses and interfaces go on under the new keys.
    async fn start_after(
        &mut self,
        former: &(dyn Endpoint + 'static),
        cx: &StartContext,
    ) -> Result<()> {
        let former = former.downcast_ref::<Self>();
        let Some((former, started)) = former.and_then(|it| Some((it, it.started.as_ref()?))) else {
            return self.start(cx).await;
        };
        self.devices = self.devices.take().or_else(|| former.devices.clone());
        let differences = self.differences(former);
        if differences.is_empty() {
            self.counters = former.counters.clone();
            return self.start_on(started.ground.clone(), cx);
        }
        if self.is_elsewhere(former) {
            return self.start(cx).await;
        }
        Err(Error::internal(format!(
            "{} cannot change while the server runs: restart it, or leave that as it was",
            differences.join(" and ")
        )))
    }

    /// Nothing is taken for a request that fails earlier: parse, resolve, judge the scope, take addresses,
    /// make the interface, answer. What was taken is given back wherever this ends.
    async fn handle(&self, request: Request) -> Result<Response> {
        request.require_protocol(PROTOCOL)?;
        let (target, protocol) = parse_scope(&request.vars)?;
        let started = self.started()?;
        let peer = request.peer.ip();
        let scope = self.scope(started, peer, target, protocol).await?;
        let routes = started.routes_within(&scope)?;

        let client = ClientKey::new(&request.identity, peer);
        // Late is better than with another address, for who has just lost a tunnel.
        let _ = timeout(SETTLE_TIME, started.ground.pools.settle(&client)).await;
        let lease = started
            .ground
            .pools
            .lease(&client, &scope)
            .map_err(exhausted)?;
        let addresses = lease.addresses().to_vec();
        let (device, seat) = started.ground.place.take_seat(&addresses).await?;
        debug!(%client, ?addresses, "IP tunnel accepted");

        let session = AddressServer::new(lease, routes)
            .accept_client_routes(self.accept_client_routes.clone())
            .reserve(self.pool_networks());
        let filter = ServerFilter::new(started.rules.clone(), scope, session.routes().clone());
        Ok(Response::flow(IpFlow::new(ServerTunnel {
            device,
            seat,
            membership: started.rules.clients.join(),
            session,
            filter,
            rules: started.rules.clone(),
            counters: self.counters.clone(),
            mtu_probe: self.mtu_probe,
            client: client.to_string(),
        })))
    }

    async fn stop(&self) {
        if let Some(started) = &self.started {
            ground::leave(&started.ground);
        }
    }

    fn capabilities(&self) -> &'static [Capability] {
        &[Capability::NetAdmin]
    }

    fn files(&self) -> Vec<FileUse> {
        let leases = self.lease_file.iter().map(FileUse::write);
        leases.chain([FileUse::write(TUN_FILE)]).collect()
    }

    async fn diagnose(&self, _cx: &StartContext) -> Vec<Finding> {
        let interfaces = match self.interface {
            InterfaceMode::Client => format!("{}-i*", self.ifprefix),
            InterfaceMode::Shared => self.ifprefix.to_string(),
        };
        let plan = Plan {
            pools: self.pool_networks(),
            routes: self.offered(),
            interfaces,
        };
        doctor::examine(&plan).await
    }
}

impl IpEndpoint {
    /// What a request asks for, with a name resolved (RFC 9484 §4.6).
    async fn scope(
        &self,
        started: &Started,
        peer: IpAddr,
        target: Target,
        protocol: IpProto,
    ) -> Result<Scope> {
        let prefixes = match target {
            Target::Any => None,
            Target::Prefix(prefix) => {
                let prefixes = Some(vec![prefix]);
                if is_host(prefix) {
                    // That it is not offered says more than that it is not allowed.
                    started.routes_within(&Scope::new(prefixes.clone(), None))?;
                    self.allowed(started, vec![prefix.ip()])?;
                }
                prefixes
            }
            Target::Name(name) => {
                let found = started.resolver.resolve(peer, &name).await;
                let found = found.map_err(unresolved)?;
                Some(self.allowed(started, found)?)
            }
        };
        Ok(Scope::new(prefixes, protocol.number()))
    }

    /// Those of a target's addresses that may be reached.
    fn allowed(&self, started: &Started, found: Vec<IpAddr>) -> Result<Vec<IpNetwork>> {
        // With rules that open single ports there is no telling before a packet has one.
        if !self.allow.is_empty() {
            let canonical = found.iter().map(IpAddr::to_canonical);
            return Ok(canonical.map(IpNetwork::from).collect());
        }
        let found: Vec<_> = found
            .into_iter()
            .map(|address| (address, 0).into())
            .collect();
        let (allowed, refusal) = started.rules.policy.current()?.first_allowed(&found);
        match refusal {
            Some(refusal) if allowed.is_empty() => Err(refusal.into()),
            _ => Ok(allowed
                .iter()
                .map(SocketAddr::ip)
                .map(IpNetwork::from)
                .collect()),
        }
    }
}

impl fmt::Debug for IpEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IpEndpoint")
            .field("ifprefix", &self.ifprefix)
            .field("addresspools", &self.addresspools)
            .field("routes", &self.routes)
            .finish_non_exhaustive()
    }
}

struct Started {
    resolver: Resolver,
    ground: Arc<Ground>,
    /// What is offered to a client whose scope has no limit.
    routes: Routes,
    rules: Arc<ServerRules>,
}

impl Started {
    /// What is offered within a scope.
    ///
    /// # Errors
    /// That is nothing: then there is no point in a tunnel (RFC 9484 §4.6).
    fn routes_within(&self, scope: &Scope) -> Result<Routes> {
        let has = |v6: bool| self.rules.own.iter().any(|own| own.is_ipv6() == v6);
        let routes = self.routes.within(scope).only(has(false), has(true));
        match routes.is_empty() {
            true => Err(Error::proxy(
                ProxyError::HttpRequestDenied,
                "nothing in the tunnel's scope is offered",
            )),
            false => Ok(routes),
        }
    }
}

fn is_host(prefix: IpNetwork) -> bool {
    prefix.prefix() == if prefix.is_ipv6() { 128 } else { 32 }
}

fn network_of(prefix: IpNetwork) -> IpNetwork {
    // The length is that of a prefix of the same family.
    IpNetwork::new(prefix.network(), prefix.prefix()).unwrap_or(prefix)
}

fn unresolved(error: ResolveError) -> Error {
    let refused = Error::proxy(error.proxy_error(), error.to_string());
    match error.rcode() {
        Some(rcode) => refused.with_rcode(rcode),
        None => refused,
    }
}

fn exhausted(error: Exhausted) -> Error {
    Error::from(error).with_header(RETRY_AFTER, RETRY_AFTER_S)
}

fn default_lease_s() -> u64 {
    LEASE_S
}

fn default_mtu_probe() -> bool {
    true
}
