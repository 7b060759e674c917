//! The IP tunnel: an interface of this machine that leads through the server.

use std::fmt;
use std::io::{self, Write};

use http::HeaderMap;
use ipnetwork::IpNetwork;
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
#[derive(Debug)]
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

/// Opens the tunnel and keeps the interface as the server says, until either fails.
pub(crate) async fn run(
    tunnel: &mut IpTunnel,
    connection: &Connection,
    spec: &TunnelSpec,
    headers: &HeaderMap,
) -> Result<Exit, Failure> {
    let subject = format!("tunnel {}", tunnel.name());
    let request = spec.request(headers)?;
    let opened = tunnel.open(connection, request).await;
    opened.map_err(|error| failure(&subject, error))?;
    loop {
        match tunnel.next_event().await {
            Ok(event) => announce(&subject, &event)?,
            Err(error) => return Err(failure(&subject, error)),
        }
    }
}

/// Puts back what the tunnel has changed on this machine.
pub(crate) async fn close(tunnel: IpTunnel) {
    let subject = format!("tunnel {}", tunnel.name());
    if let Err(error) = tunnel.close().await {
        warn!("{subject}: {error}; the next start with --ip removes it");
    }
}

/// Tells the user what becomes of the interface; programs read it, too.
fn announce(subject: &str, event: &IpTunnelEvent) -> Result<(), Failure> {
    let line = match event {
        IpTunnelEvent::Up { .. } => format!("{subject} {event}\n"),
        IpTunnelEvent::NoDefault(_) | IpTunnelEvent::Incomplete(_) => {
            warn!("{subject}: {event}");
            return Ok(());
        }
        _ => format!("{subject}: {event}\n"),
    };
    let mut out = io::stdout().lock();
    out.write_all(line.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| Failure::local("standard output", &error))
}

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
            _ => (Exit::Lost, ""),
        },
        IpTunnelError::NoIpv6 => (Exit::Failed, "leave out --target, or name one of IPv4"),
        _ => (Exit::Failed, ""),
    };
    let failure = Failure::new(exit, format!("{subject}: {error}"));
    match advice {
        "" => failure,
        advice => failure.with_advice(advice),
    }
}

#[cfg(test)]
mod tests;
