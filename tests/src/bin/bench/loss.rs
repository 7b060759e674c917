//! TCP through an IP tunnel over a path that loses one packet of a hundred in both directions,
//! beside plain TCP over the same path; and over a path that loses none and takes 50 ms.
//!
//! The server's congestion control is a key of its configuration and decides about what goes down;
//! the client's is the default one.

use std::net::SocketAddr;
use std::time::Duration;

use pasque_tests::netns::Network;

use crate::lab::{self, Lab, Load, Spec, Transfer};
use crate::relay::Relay;
use crate::report::Report;
use crate::{Plan, Result};

/// Whatever the configuration accepts.
const CONGESTION_CONTROLS: [&str; 3] = ["cubic", "reno", "bbr2"];

const LOADS: [Load; 2] = [Load::UP, Load::DOWN];

const LOSSY: &str = "table inet bench {
    chain forward {
        type filter hook forward priority 0
        numgen random mod 100 == 0 drop
    }
}";
const CLEAN: &str = "delete table inet bench";

/// Of one way; the round trip takes twice as long.
const DELAY: Duration = Duration::from_millis(25);

/// The relay's port at the router.
const RELAY_PORT: u16 = 4433;

/// Both [`LOADS`].
type Sample = [Transfer; 2];

pub(crate) fn measure(plan: &Plan) -> Result<Report> {
    if let Some(why) = lab::missing() {
        return Ok(Report::skipped(why));
    }
    // Every datagram alone: the router would lose a whole burst at a time otherwise.
    let short = Lab::new(1, true)?;
    let long = Lab::new(1, false)?;
    let mut plain = Vec::new();
    let mut lossy = CONGESTION_CONTROLS.map(|_| Vec::new());
    let mut delayed = CONGESTION_CONTROLS.map(|_| Vec::new());
    let mut relayed = CONGESTION_CONTROLS.map(|_| Vec::new());
    for _ in 0..plan.runs {
        plain.push(with_loss(&short, || both(plan, &short, None))?);
        for (n, control) in CONGESTION_CONTROLS.into_iter().enumerate() {
            lossy[n].push(through(plan, &short, control, None)?);
            delayed[n].push(through(plan, &long, control, Some(DELAY))?);
            relayed[n].push(through(plan, &long, control, Some(Duration::ZERO))?);
        }
    }
    let mut report = Report::default();
    for (n, load) in LOADS.into_iter().enumerate() {
        for (m, control) in CONGESTION_CONTROLS.into_iter().enumerate() {
            // What goes up is the client's business, and the same for all of them.
            if !load.down && m > 0 {
                continue;
            }
            let rates = |samples: &[Sample]| {
                let rates = samples.iter().map(|sample| sample[n].rate * 1e3);
                rates.collect::<Vec<_>>()
            };
            let who = if load.down { control } else { "cubic" };
            report.row(
                format!("{load}, 1 % loss both ways, {who}"),
                "Mbit/s",
                rates(&lossy[m]),
            );
            report.beside("plain TCP", rates(&plain));
            let what = format!("{load}, 50 ms round trip, no loss, {who}");
            report.row(what, "Mbit/s", rates(&delayed[m]));
            report.beside("the same relay without delay", rates(&relayed[m]));
        }
    }
    report.note("the relay passes UDP only: there is no plain TCP over it");
    report.note("what goes up obeys the client's congestion control, which is cubic");
    Ok(report)
}

/// Both loads with a server of this congestion control: over the lossy path, or through a relay.
fn through(
    plan: &Plan,
    lab: &Lab,
    congestion_control: &'static str,
    delay: Option<Duration>,
) -> Result<Sample> {
    let mut spec = Spec {
        congestion_control,
        ..Spec::default()
    };
    let mut relay = None;
    if let Some(delay) = delay {
        let listen = SocketAddr::from((Lab::router_address(), RELAY_PORT));
        let server = SocketAddr::from((Network::SERVER, 443));
        relay = Some(Relay::start(lab.router(), listen, server, delay)?);
        spec.server = listen;
    }
    let tunnel = lab.open(&spec)?;
    let measure = || both(plan, lab, Some(&tunnel));
    let sample = match relay {
        Some(_) => measure()?,
        None => with_loss(lab, measure)?,
    };
    lab.close(tunnel)?;
    drop(relay);
    Ok(sample)
}

fn both(plan: &Plan, lab: &Lab, tunnel: Option<&lab::Tunnel>) -> Result<Sample> {
    let [up, down] = LOADS.map(|load| lab.transfer(plan, tunnel, load));
    Ok([up?, down?])
}

fn with_loss<T>(lab: &Lab, measure: impl FnOnce() -> Result<T>) -> Result<T> {
    lab.router().nft(LOSSY)?;
    let result = measure();
    lab.router().nft(CLEAN)?;
    result
}
