//! Forwards: local UDP ports that lead through the server to a target.

use std::cell::Cell;
use std::future::pending;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::HeaderMap;
use pasque::Connection;
use pasque::connection::ClientError;
use pasque::template::UriTemplate;
use pasque_udp::{Forward, ForwardEvent, Target, tunnel_request};
use tokio::sync::mpsc;
use tracing::{debug, warn};

use crate::exit::{Exit, Failure};

/// A free port that only this machine reaches.
const FREE_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// One forward, as the user asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ForwardSpec {
    /// Where local users send to; port 0 for any that is free.
    pub(crate) local: SocketAddr,
    /// Where it goes, as the server sees it.
    pub(crate) target: Target,
}

impl FromStr for ForwardSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (local, target) = match text.split_once('=') {
            None => (FREE_PORT, text),
            Some((local, target)) => {
                let parsed = local.parse().map_err(|_| {
                    format!("expected a local address and a port before '=', found {local:?}")
                })?;
                (parsed, target)
            }
        };
        let target = target
            .parse::<Target>()
            .map_err(|error| format!("{target:?}: {error}"))?;
        Ok(Self { local, target })
    }
}

/// Forwards whose sockets are open.
pub(crate) struct Forwards(Vec<Bound>);

impl Forwards {
    /// Opens all sockets, and then tells the user where to send to: a port that is taken is an error at
    /// start.
    pub(crate) fn bind(
        connection: &Connection,
        template: &UriTemplate,
        headers: &HeaderMap,
        forwards: &[ForwardSpec],
    ) -> Result<Self, Failure> {
        let bound = forwards
            .iter()
            .map(|spec| Bound::new(connection, template, headers, spec));
        let bound: Vec<Bound> = bound.collect::<Result<_, _>>()?;
        for forward in &bound {
            forward.announce()?;
        }
        Ok(Self(bound))
    }

    /// Goes on with another connection: each user's next datagram opens a tunnel there.
    pub(crate) fn reconnect(&mut self, connection: &Connection) {
        for bound in &mut self.0 {
            bound.forward.reconnect(connection.clone());
            // Several may have been refused at once; one answer was enough to end the other connection.
            while bound.refusal.try_recv().is_ok() {}
        }
    }

    /// Serves all until the connection ends, or none of them is of any use, and says why.
    pub(crate) async fn run(&mut self) -> Failure {
        let useful = &Cell::new(self.0.len());
        let serving = self.0.iter_mut().map(|bound| async move {
            let failure = bound.run().await;
            if failure.exit == Exit::Refused && useful.get() > 1 {
                // The other targets may well be permitted.
                useful.set(useful.get() - 1);
                failure.report();
                return pending().await;
            }
            failure
        });
        let mut running: FuturesUnordered<_> = serving.collect();
        let first = running.next().await;
        first.unwrap_or_else(|| Failure::usage("there is nothing to forward"))
    }
}

/// A forward whose socket is open.
struct Bound {
    forward: Forward,
    local: SocketAddr,
    target: Target,
    /// The answer after which it makes no sense to go on.
    refusal: mpsc::Receiver<Failure>,
}

impl Bound {
    fn new(
        connection: &Connection,
        template: &UriTemplate,
        headers: &HeaderMap,
        spec: &ForwardSpec,
    ) -> Result<Self, Failure> {
        let target = spec.target.clone();
        let request = {
            let (template, headers, target) = (template.clone(), headers.clone(), target.clone());
            move || {
                let mut request = tunnel_request(&template, &target);
                request.headers.extend(headers.clone());
                request
            }
        };
        let subject = format!("udp {target}");
        let (refuse, refusal) = mpsc::channel(1);
        let local = |error| Failure::local(format!("udp {}", spec.local), &error);
        let forward = Forward::bind(spec.local, connection.clone(), request)
            .map_err(local)?
            .with_events(move |event| on_event(&subject, &event, &refuse));
        let local = forward.local_addr().map_err(local)?;
        Ok(Self {
            forward,
            local,
            target,
            refusal,
        })
    }

    /// Tells the user where to send to; programs read it, too.
    fn announce(&self) -> Result<(), Failure> {
        if !self.local.ip().is_loopback() {
            warn!("whoever reaches {} can use this tunnel", self.local);
        }
        let line = format!("forwarding {} to {}\n", self.local, self.target);
        let mut out = io::stdout().lock();
        out.write_all(line.as_bytes())
            .and_then(|()| out.flush())
            .map_err(|error| Failure::local("standard output", &error))
    }

    async fn run(&mut self) -> Failure {
        let Self {
            forward,
            local,
            refusal,
            ..
        } = self;
        tokio::select! {
            ended = forward.run() => match ended {
                Ok(reason) => Failure::from_client("tunnels", &ClientError::Closed(reason)),
                Err(error) => Failure::local(format!("udp {local}"), &error),
            },
            Some(failure) = refusal.recv() => failure,
        }
    }
}

/// Tells the user what it takes to understand why nothing comes back.
fn on_event(subject: &str, event: &ForwardEvent<'_>, refuse: &mpsc::Sender<Failure>) {
    match event {
        // The end of the connection is told once, for all that it carried.
        ForwardEvent::Refused {
            error: ClientError::Closed(_),
            ..
        } => debug!("{subject}: {event}"),
        ForwardEvent::Refused { error, .. } if is_final(error) => {
            // It is full when another user was refused at the same time.
            // Another connection would bring the same answer.
            let _ = refuse.try_send(Failure::from_client(subject, error).for_good());
        }
        ForwardEvent::Refused { error, .. } => {
            Failure::from_client(subject, error).report();
        }
        ForwardEvent::Opened { .. } | ForwardEvent::Ended { .. } => debug!("{subject}: {event}"),
        _ => warn!("{subject}: {event}"),
    }
}

/// Whether asking again would get the same answer.
fn is_final(error: &ClientError) -> bool {
    match error {
        ClientError::NoExtendedConnect => true,
        ClientError::Refused { status, .. } => match status.as_u16() {
            408 | 425 | 429 => false,
            501 => true,
            status => status < 500,
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests;
