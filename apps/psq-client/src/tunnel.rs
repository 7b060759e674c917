//! The IP tunnel: an interface of this machine that leads through the server.

use std::fmt;
use std::io::{self, Write};
use std::net::Ipv4Addr;

use http::HeaderMap;
use ipnetwork::{IpNetwork, Ipv4Network};
use pasque::template::UriTemplate;
use pasque::{Connection, Request};
use pasque_ip::client::{
    Families, IpTunnel, IpTunnelError, IpTunnelEvent, IpTunnelOptions, RouteChoice,
};
use pasque_ip::device::DeviceError;
use pasque_ip::flow::TunnelFailure;
use pasque_ip::scope::{IpProto, Target, tunnel_request};
use tracing::warn;

use crate::arguments::Options;
use crate::exit::{Exit, Failure};

/// The tunnel, as the user asks for it.
#[derive(Clone, Debug)]
pub(crate) struct TunnelSpec {
    pub(crate) options: IpTunnelOptions,
    pub(crate) template: UriTemplate,
    pub(crate) target: Target,
    pub(crate) proto: IpProto,
}

impl TunnelSpec {
    /// Makes sense of the options that are about the tunnel; `template` says where the server takes
    /// the request.
    pub(crate) fn new(options: &Options, template: UriTemplate) -> Result<Self, Failure> {
        let target: Target = parse("target", options.target.as_deref().unwrap_or("*"))?;
        let proto: IpProto = parse("ipproto", options.ipproto.as_deref().unwrap_or("*"))?;
        // A tunnel that is wider than asked for is found out now.
        tunnel_request(&template, &target, proto).map_err(|error| wrong("ip-template", error))?;

        let mut tunnel = IpTunnelOptions::default();
        tunnel.interface = options.tun.clone();
        if let Some(kind) = &options.device {
            tunnel.device = parse("device", kind)?;
        }
        if let Target::Prefix(prefix) = &target {
            tunnel.families = Families::of([prefix]);
        }
        tunnel.routes = choice(options)?;
        tunnel.advertise = prefixes("advertise", &options.advertise)?;
        Ok(Self {
            options: tunnel,
            template,
            target,
            proto,
        })
    }

    fn request(&self, headers: &HeaderMap) -> Result<Request, Failure> {
        let mut request = tunnel_request(&self.template, &self.target, self.proto)
            .map_err(|error| wrong("ip-template", error))?;
        request.headers.extend(headers.clone());
        Ok(request)
    }

    /// The same for IPv4 alone. `None` if a request cannot say that: its template has no target, or the
    /// target is a name, or a prefix, which is of one version already.
    fn with_ipv4(&self) -> Option<Self> {
        let all = Ipv4Network::new(Ipv4Addr::UNSPECIFIED, 0).ok()?;
        let target = (self.target == Target::Any).then_some(Target::Prefix(all.into()))?;
        tunnel_request(&self.template, &target, self.proto).ok()?;
        Some(Self {
            target,
            ..self.clone()
        })
    }
}

/// Refuses what only an IP tunnel has a use for, when none is asked for: it would do nothing.
pub(crate) fn require_none(options: &Options) -> Result<(), Failure> {
    let given = [
        ("tun", options.tun.is_some()),
        ("route", !options.route.is_empty()),
        ("accept-routes", !options.accept_routes.is_empty()),
        ("default-route", options.default_route),
        ("advertise", !options.advertise.is_empty()),
        ("device", options.device.is_some()),
        ("target", options.target.is_some()),
        ("ipproto", options.ipproto.is_some()),
        ("ip-template", options.ip_template.is_some()),
    ];
    match given.into_iter().find(|(_, is_given)| *is_given) {
        Some((name, _)) => Err(wrong(name, "is about an IP tunnel: add --ip to open one")),
        None => Ok(()),
    }
}

fn choice(options: &Options) -> Result<RouteChoice, Failure> {
    let accept = prefixes("accept-routes", &options.accept_routes)?;
    let exactly = prefixes("route", &options.route)?;
    let default_route = options.default_route;
    if exactly.is_empty() {
        return Ok(RouteChoice::Offered {
            accept,
            default_route,
        });
    }
    match (accept.is_empty(), default_route) {
        (true, false) => Ok(RouteChoice::Exactly(exactly)),
        (false, _) => Err(wrong(
            "route",
            "is the only route then: leave out --accept-routes",
        )),
        (_, true) => Err(wrong(
            "route",
            "is the only route then: leave out --default-route",
        )),
    }
}

fn prefixes(option: &str, texts: &[String]) -> Result<Vec<IpNetwork>, Failure> {
    let parse = |text: &String| {
        let prefix: IpNetwork = text
            .parse()
            .map_err(|_| format!("{text:?} is no prefix such as 10.0.0.0/8 or 2001:db8::/32"))?;
        match prefix.ip() == prefix.network() {
            true => Ok(prefix),
            false => Err(format!(
                "{text:?} has bits behind its length: {}/{} is meant",
                prefix.network(),
                prefix.prefix()
            )),
        }
    };
    let prefixes: Result<_, String> = texts.iter().map(parse).collect();
    prefixes.map_err(|error| wrong(option, error))
}

fn parse<T>(option: &str, text: &str) -> Result<T, Failure>
where
    T: std::str::FromStr<Err: fmt::Display>,
{
    text.parse().map_err(|error| wrong(option, error))
}

fn wrong(option: &str, error: impl fmt::Display) -> Failure {
    Failure::usage(format!("--{option}: {error}"))
}

/// Makes the interface. Nothing is sent.
pub(crate) async fn prepare(spec: &TunnelSpec) -> Result<IpTunnel, Failure> {
    let tunnel = IpTunnel::prepare(spec.options.clone()).await;
    tunnel.map_err(|error| failure("ip tunnel", error))
}

/// Opens the tunnel and keeps the interface as the server says, until either fails. A path that is too
/// narrow for IPv6 costs no more than that. `has_been_up` tells whether this is the first one on its
/// interface, and becomes true with it.
pub(crate) async fn run(
    tunnel: &mut IpTunnel,
    connection: &Connection,
    spec: &TunnelSpec,
    headers: &HeaderMap,
    has_been_up: &mut bool,
) -> Result<Exit, Failure> {
    let subject = format!("tunnel {}", tunnel.name());
    let request = spec.request(headers)?;
    let opened = match has_been_up {
        false => tunnel.open(connection, request).await,
        true => tunnel.reopen(connection, request).await,
    };
    opened.map_err(|error| failure(&subject, error))?;
    loop {
        let error = match tunnel.next_event().await {
            Ok(event) => {
                *has_been_up |= matches!(event, IpTunnelEvent::Up { .. });
                announce(&subject, &event)?;
                continue;
            }
            Err(error) => error,
        };
        let narrower = match tunnel.is_left_with_ipv4(&error) {
            true => spec.with_ipv4(),
            false => None,
        };
        let Some(narrower) = narrower else {
            return Err(failure(&subject, error));
        };
        say(&format!("{subject}: {error}; going on with IPv4 alone"))?;
        let request = narrower.request(headers)?;
        let reopened = tunnel.reopen_with_ipv4(connection, request).await;
        reopened.map_err(|error| failure(&subject, error))?;
    }
}

/// Sees to it that packets to the server leave this machine, in whichever network it is now.
pub(crate) async fn renew_way_to_server(tunnel: &mut IpTunnel) -> Result<(), Failure> {
    let subject = format!("tunnel {}", tunnel.name());
    let renewed = tunnel.renew_way_to_server().await;
    renewed.map_err(|error| failure(&subject, error))
}

/// Puts back what the tunnel has changed on this machine.
pub(crate) async fn close(tunnel: IpTunnel) {
    let subject = format!("tunnel {}", tunnel.name());
    if let Err(error) = tunnel.close().await {
        warn!("{subject}: {error}; the next start with --ip removes it");
    }
}

/// Tells the user what becomes of the interface.
fn announce(subject: &str, event: &IpTunnelEvent) -> Result<(), Failure> {
    match event {
        IpTunnelEvent::Up { .. } => say(&format!("{subject} {event}")),
        IpTunnelEvent::NoDefault(_) | IpTunnelEvent::Incomplete(_) => {
            warn!("{subject}: {event}");
            Ok(())
        }
        _ => say(&format!("{subject}: {event}")),
    }
}

/// Writes a line; programs read it, too.
fn say(line: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .map_err(|error| Failure::local("standard output", &error))
}

/// What to do about a path that is too narrow for IPv6.
const WITHOUT_IPV6: &str = "a tunnel for IPv4 alone, with an IPv4 --target, needs no such path";

/// What `error` means for a run.
fn failure(subject: &str, error: IpTunnelError) -> Failure {
    let (exit, advice) = match &error {
        IpTunnelError::NotOpened(error) => return Failure::from_client(subject, error),
        // It was there before: whatever ended it, asking again may help.
        IpTunnelError::Lost(error) => {
            return Failure::from_client(subject, error).with_exit(Exit::Lost);
        }
        IpTunnelError::Ended => (Exit::Lost, "run the same command again"),
        IpTunnelError::Device(DeviceError::InvalidName { .. }) => {
            (Exit::Usage, "choose another with --tun")
        }
        IpTunnelError::Device(DeviceError::NameTaken { .. }) => {
            (Exit::Failed, "choose another with --tun")
        }
        IpTunnelError::Device(DeviceError::Unopenable(_)) => (
            Exit::Failed,
            "run as root, or as a user who may and has CAP_NET_ADMIN",
        ),
        IpTunnelError::NoAddress(_) => (Exit::Refused, "the server's log may say why"),
        IpTunnelError::WrongAddress(_) => (Exit::Refused, "tell whoever runs the server"),
        IpTunnelError::Routes(_) => (Exit::Refused, "choose with --accept-routes or --route"),
        IpTunnelError::Failed(failure) => match failure {
            TunnelFailure::Refused => (Exit::Refused, "the server's log may say why"),
            TunnelFailure::Malformed(_) => (Exit::Refused, "tell whoever runs the server"),
            TunnelFailure::Device(_) => (Exit::Failed, ""),
            TunnelFailure::Path(_) => (Exit::Lost, WITHOUT_IPV6),
            _ => (Exit::Lost, ""),
        },
        IpTunnelError::Aborted => (Exit::Lost, WITHOUT_IPV6),
        IpTunnelError::NoIpv6 => (Exit::Failed, "leave out --target, or name one of IPv4"),
        _ => (Exit::Failed, ""),
    };
    let failure = Failure::new(exit, format!("{subject}: {error}"));
    let failure = match error {
        // What such a server does is not to be had once more.
        IpTunnelError::WrongAddress(_)
        | IpTunnelError::Routes(_)
        | IpTunnelError::Failed(TunnelFailure::Malformed(_)) => failure.for_good(),
        _ => failure,
    };
    match advice {
        "" => failure,
        advice => failure.with_advice(advice),
    }
}

#[cfg(test)]
mod tests;
