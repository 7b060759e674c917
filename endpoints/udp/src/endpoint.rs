//! [`UdpEndpoint`]: the server's side of UDP tunnels.

#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use http::header::{HeaderName, HeaderValue};
use pasque::Capability;
use pasque::policy::{EgressPolicy, HostPolicy, Rule};
use pasque::prelude::*;
use pasque::proxy_status::ProxyStatus;
use pasque::resolve::{ResolveError, Resolver};
use serde::Deserializer;
use serde::de::{Error as _, Unexpected};

use crate::PROTOCOL;
use crate::candidates::Candidates;
use crate::flow::UdpFlow;
use crate::raw::RawSockets;
use crate::socket::{DEFAULT_BUFFER_LEN, Dial, SocketOptions};
use crate::target::{Host, Port};

/// The field that says where a tunnel leads (RFC 9209).
const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// Seconds without a datagram after which a tunnel may end. RFC 9298 §3.1 wants at least the two
/// minutes of RFC 4787 §4.3; beyond a week it is a mistake.
const IDLE_TIMEOUT_S: RangeInclusive<u64> = 120..=7 * 24 * 3600;

/// Bytes of a kernel buffer: from one full-sized datagram to more than any system allows.
const BUFFER_BYTES: RangeInclusive<u64> = 1 << 16..=1 << 30;

/// UDP tunnels to the targets that the clients name (RFC 9298).
///
/// Which targets may be reached is the egress policy's matter, see [`pasque::policy`]: private
/// addresses and the like are closed unless `allow` opens them.
///
/// What a target sends that is too long for a datagram of the tunnel is dropped and counted. With
/// `packet_too_big` the target is told by an ICMP message (RFC 9298 §6.1), at most ten times a second
/// per tunnel. That takes raw sockets, for which the process needs the capability `CAP_NET_RAW`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UdpEndpoint {
    /// Targets to open that are closed by default.
    #[serde(default)]
    allow: Vec<Rule>,
    /// Targets to close; goes before `allow`.
    #[serde(default)]
    deny: Vec<Rule>,
    /// Seconds without a datagram in either direction after which a tunnel ends.
    #[serde(
        default = "default_idle_timeout_s",
        deserialize_with = "idle_timeout_s"
    )]
    idle_timeout_s: u64,
    /// Whether an accepted tunnel's response names the target's address.
    #[serde(default = "default_next_hop")]
    next_hop: bool,
    /// The kernel's receive buffer of each tunnel's socket.
    #[serde(default = "default_buffer_bytes", deserialize_with = "buffer_bytes")]
    receive_buffer_bytes: usize,
    /// The kernel's send buffer of each tunnel's socket.
    #[serde(default = "default_buffer_bytes", deserialize_with = "buffer_bytes")]
    send_buffer_bytes: usize,
    /// Whether a target is told by ICMP that what it sends is too long for the tunnel.
    #[serde(default)]
    packet_too_big: bool,

    #[serde(skip)]
    dial: Option<Arc<dyn Dial>>,
    /// What [`start`](Endpoint::start) made.
    #[serde(skip)]
    started: Option<Started>,
}

pasque::register!(UdpEndpoint, "UDP tunnels (RFC 9298)",
    example: r#"{ "path": "udp", "type": "UdpEndpoint" }"#,
    variables: &["target_host", "target_port"], inline: true,
    well_known: Some("/.well-known/masque/udp/{target_host}/{target_port}/"));

impl UdpEndpoint {
    /// The same endpoint with sockets from `dial`.
    #[must_use]
    pub fn with_dial(self, dial: Arc<dyn Dial>) -> Self {
        Self {
            dial: Some(dial),
            ..self
        }
    }

    /// What a running tunnel has to meet.
    ///
    /// # Errors
    /// The endpoint is not started, or the interfaces of this host cannot be listed.
    pub(crate) fn terms(&self) -> Result<Terms> {
        let started = self.started()?;
        Ok(Terms {
            policy: started.policy.current()?,
            idle_timeout: self.idle_timeout(),
        })
    }

    fn started(&self) -> Result<&Started> {
        let started = self.started.as_ref();
        started.ok_or_else(|| Error::internal("not started"))
    }

    fn idle_timeout(&self) -> Duration {
        Duration::from_secs(self.idle_timeout_s)
    }
}

/// What the configuration demands of a tunnel that runs.
pub(crate) struct Terms {
    pub(crate) policy: Arc<EgressPolicy>,
    pub(crate) idle_timeout: Duration,
}

#[async_trait]
#[typetag::deserialize]
impl Endpoint for UdpEndpoint {
    /// The sockets that a test has given stay with the endpoint that takes over.
    async fn start_after(
        &mut self,
        former: &(dyn Endpoint + 'static),
        cx: &StartContext,
    ) -> Result<()> {
        if let Some(former) = former.downcast_ref::<Self>() {
            self.dial = self.dial.take().or_else(|| former.dial.clone());
        }
        self.start(cx).await
    }

    async fn start(&mut self, cx: &StartContext) -> Result<()> {
        let resolver = match cx.nameserver {
            Some(address) => Resolver::with_nameserver(address),
            None => Resolver::system(),
        };
        let resolver = resolver
            .map_err(|error| Error::internal("cannot set up name resolution").with_source(error))?;
        let dial = self.dial.clone().unwrap_or_else(|| {
            Arc::new(SocketOptions {
                receive_buffer_bytes: self.receive_buffer_bytes,
                send_buffer_bytes: self.send_buffer_bytes,
            })
        });
        let reports = self.packet_too_big.then(open_raw_sockets).transpose()?;
        self.started = Some(Started {
            resolver,
            dial,
            reports,
            policy: HostPolicy::new(
                EgressPolicy::new(self.allow.clone(), self.deny.clone()),
                cx.listeners.clone(),
                Vec::new(),
            )?,
            proxy_name: cx.proxy_name.clone(),
        });
        Ok(())
    }

    /// Nothing is asked of the name server, and no socket opened, for a request that fails earlier
    /// (RFC 9298 §3.1): parse, resolve, judge every address, open the socket, answer.
    async fn handle(&self, request: Request) -> Result<Response> {
        request.require_protocol(PROTOCOL)?;
        let host: Host = request.var("target_host")?;
        let port: Port = request.var("target_port")?;
        let started = self.started()?;

        let found = started.addresses(request.peer.ip(), host, port).await?;
        let (allowed, refusal) = started.policy.current()?.first_allowed(&found);
        if let (true, Some(refusal)) = (allowed.is_empty(), refusal) {
            return Err(refusal.into());
        }
        let target = Candidates::open(allowed, started.dial.clone())?;
        let address = target.address();
        let mut flow = UdpFlow::new(target, self.idle_timeout());
        if let Some(sockets) = &started.reports {
            flow = flow.with_reports(sockets.clone());
        }
        let response = Response::flow(flow);
        Ok(match self.next_hop {
            true => response.with_header(PROXY_STATUS, started.next_hop(address)?),
            false => response,
        })
    }

    fn capabilities(&self) -> &'static [Capability] {
        match self.packet_too_big {
            true => &[Capability::NetRaw],
            false => &[],
        }
    }
}

#[derive(Debug)]
struct Started {
    resolver: Resolver,
    dial: Arc<dyn Dial>,
    /// What targets are told by, if they are told.
    reports: Option<Arc<RawSockets>>,
    policy: HostPolicy,
    proxy_name: String,
}

impl Started {
    /// The addresses of what `peer` asks for.
    async fn addresses(&self, peer: IpAddr, host: Host, port: Port) -> Result<Vec<SocketAddr>> {
        let addresses = match host {
            Host::Address(address) => vec![address],
            Host::Name(name) => {
                let found = self.resolver.resolve(peer, &name).await;
                found.map_err(unresolved)?
            }
        };
        let with_port = |address| SocketAddr::new(address, port.number());
        Ok(addresses.into_iter().map(with_port).collect())
    }

    fn next_hop(&self, address: SocketAddr) -> Result<HeaderValue> {
        let status = ProxyStatus::new(&self.proxy_name).with_next_hop(address.to_string());
        HeaderValue::try_from(status.to_string())
            .map_err(|error| Error::internal("proxy-status").with_source(error))
    }
}

fn open_raw_sockets() -> Result<Arc<RawSockets>> {
    let opened = RawSockets::open().map(Arc::new);
    opened.map_err(|error| {
        let message = "\"packet_too_big\" takes raw sockets, which this process cannot open: it needs \
                       the capability CAP_NET_RAW";
        Error::internal(message).with_source(error)
    })
}

fn unresolved(error: ResolveError) -> Error {
    let refused = Error::proxy(error.proxy_error(), error.to_string());
    match error.rcode() {
        Some(rcode) => refused.with_rcode(rcode),
        None => refused,
    }
}

fn default_idle_timeout_s() -> u64 {
    300
}

fn default_next_hop() -> bool {
    true
}

fn default_buffer_bytes() -> usize {
    DEFAULT_BUFFER_LEN
}

fn idle_timeout_s<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    in_range(deserializer, IDLE_TIMEOUT_S)
}

fn buffer_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    in_range(deserializer, BUFFER_BYTES).map(|bytes| bytes as usize)
}

fn in_range<'de, D>(deserializer: D, range: RangeInclusive<u64>) -> Result<u64, D::Error>
where
    D: Deserializer<'de>,
{
    let found = u64::deserialize(deserializer)?;
    if range.contains(&found) {
        return Ok(found);
    }
    let expected = format!("{} to {}", range.start(), range.end());
    Err(D::Error::invalid_value(
        Unexpected::Unsigned(found),
        &&*expected,
    ))
}
