//! TCP and echo requests through an IP tunnel, with either kind of device, beside the bare network
//! and beside WireGuard where that is installed.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use pasque_tests::netns::Namespace;
use socket2::{Domain, Protocol, Socket, Type};

use crate::lab::{self, Lab, Load, Spec, Transfer, Tunnel};
use crate::report::{Report, percentile};
use crate::wireguard::WireGuard;
use crate::{Plan, Result};

/// What is sent in which way.
const LOADS: [Load; 4] = [
    Load::UP,
    Load::DOWN,
    Load {
        streams: 4,
        down: false,
    },
    Load {
        streams: 4,
        down: true,
    },
];

/// Between two echo requests.
const PING_EVERY: Duration = Duration::from_millis(5);

/// After which an echo request counts as lost, and its time as this.
const PING_PATIENCE: Duration = Duration::from_secs(1);

/// One way from the client to the target.
enum Way {
    Bare,
    Pasque(&'static str),
    WireGuard(WireGuard),
}

impl Way {
    fn name(&self) -> String {
        match self {
            Self::Bare => "bare veth".into(),
            Self::Pasque(device) => format!("device {device}"),
            Self::WireGuard(program) => program.name().into(),
        }
    }
}

/// What one way has shown in one run.
#[derive(Debug)]
struct Sample {
    transfers: Vec<Transfer>,
    /// Round trips of echo requests in milliseconds: p50 and p99, alone and beside TCP.
    idle: [f64; 2],
    busy: [f64; 2],
}

pub(crate) fn measure(plan: &Plan) -> Result<Report> {
    if let Some(why) = lab::missing() {
        return Ok(Report::skipped(why));
    }
    let lab = Lab::new(1, false)?;
    let (others, absent) = WireGuard::installed();
    let mut ways = vec![Way::Bare, Way::Pasque("auto"), Way::Pasque("plain")];
    ways.extend(others.into_iter().map(Way::WireGuard));
    let mut samples: Vec<Vec<Sample>> = ways.iter().map(|_| Vec::new()).collect();
    for _ in 0..plan.runs {
        for (way, samples) in ways.iter().zip(&mut samples) {
            samples
                .push(take(plan, &lab, way).map_err(|error| format!("{}: {error}", way.name()))?);
        }
    }
    let mut report = Report::default();
    // The first way is what the others are beside.
    for (way, samples_of_way) in ways.iter().zip(&samples).skip(1) {
        add(&mut report, way, samples_of_way, &samples[0]);
    }
    let contestants = || ways.iter().zip(&samples);
    for (way, ours) in contestants().filter(|(way, _)| matches!(way, Way::Pasque(_))) {
        for (other, theirs) in contestants().filter(|(way, _)| matches!(way, Way::WireGuard(_))) {
            for (n, load) in LOADS.iter().enumerate() {
                let rate = |sample: &Sample| sample.transfers[n].rate;
                report.row(
                    format!("{}: {load}", way.name()),
                    "Gbit/s",
                    ours.iter().map(rate),
                );
                report.beside(other.name(), theirs.iter().map(rate));
            }
        }
    }
    for program in absent {
        report.note(format!("{program} is not installed: no baseline of it"));
    }
    report.note("both ends, iperf3 at both ends and the kernel share all cores");
    Ok(report)
}

fn take(plan: &Plan, lab: &Lab, way: &Way) -> Result<Sample> {
    match way {
        Way::Bare => run(plan, lab, None),
        Way::Pasque(device) => {
            let tunnel = lab.open(&Spec {
                device,
                ..Spec::default()
            })?;
            let sample = run(plan, lab, Some(&tunnel))?;
            lab.close(tunnel)?;
            Ok(sample)
        }
        Way::WireGuard(program) => {
            let running = program.open(lab)?;
            let sample = run(plan, lab, None)?;
            running.close(lab)?;
            Ok(sample)
        }
    }
}

/// Everything that is measured, over whatever the client's route leads to.
fn run(plan: &Plan, lab: &Lab, tunnel: Option<&Tunnel>) -> Result<Sample> {
    let transfers = LOADS
        .iter()
        .map(|load| lab.transfer(plan, tunnel, *load))
        .collect::<Result<_>>()?;
    let place = &lab.network.clients[0];
    let idle = ping(place, plan.time)?;
    let busy = lab.runtime.block_on(async {
        let iperf = lab.start(plan, 0, Load::UP)?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let busy = ping(place, plan.time)?;
        iperf.finish().await?;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(busy)
    })?;
    Ok(Sample {
        transfers,
        idle,
        busy,
    })
}

fn add(report: &mut Report, way: &Way, samples: &[Sample], bare: &[Sample]) {
    let name = way.name();
    let mut both = |what: String, unit, value: &dyn Fn(&Sample) -> f64| {
        report.row(format!("{name}: {what}"), unit, samples.iter().map(value));
        report.beside("bare veth", bare.iter().map(value));
    };
    for (n, load) in LOADS.iter().enumerate() {
        both(load.to_string(), "Gbit/s", &|sample| {
            sample.transfers[n].rate
        });
        both(format!("{load}, retransmits"), "segments", &|sample| {
            sample.transfers[n].retransmits
        });
    }
    for (n, percentile) in ["p50", "p99"].into_iter().enumerate() {
        both(format!("echo request, {percentile}"), "ms", &|s| s.idle[n]);
        both(
            format!("echo request beside TCP, {percentile}"),
            "ms",
            &|s| s.busy[n],
        );
    }
    if let Way::Pasque(_) = way {
        for (n, load) in LOADS.iter().enumerate().take(2) {
            let cpu = |value: fn(&Transfer) -> f64| {
                samples
                    .iter()
                    .map(move |sample| value(&sample.transfers[n]))
            };
            let what = format!("{name}: {load}, client's CPU");
            report.row(what, "s/GB", cpu(|transfer| transfer.client_cpu));
            let what = format!("{name}: {load}, server's CPU");
            report.row(what, "s/GB", cpu(|transfer| transfer.server_cpu));
        }
    }
}

/// Sends echo requests to the target one after the other for a while. Returns p50 and p99 of their
/// round trips, in milliseconds.
fn ping(place: &Namespace, time: Duration) -> Result<[f64; 2]> {
    // For every group, as far as this namespace goes: a socket that needs no raw access.
    place.set("net/ipv4/ping_group_range", "0 2147483647")?;
    let mut socket = place.enter(|| {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::ICMPV4))?;
        socket.set_read_timeout(Some(PING_PATIENCE))?;
        socket.connect(&SocketAddr::new(lab::target(), 0).into())?;
        Ok(socket)
    })?;
    let start = Instant::now();
    let mut times = Vec::new();
    for number in 0_u16.. {
        if start.elapsed() >= time {
            break;
        }
        let sent = Instant::now();
        times.push(echo(&mut socket, number)?.as_secs_f64() * 1e3);
        std::thread::sleep(PING_EVERY.saturating_sub(sent.elapsed()));
    }
    Ok([0.5, 0.99].map(|share| percentile(&times, share).unwrap_or(f64::NAN)))
}

/// One round trip.
fn echo(socket: &mut Socket, number: u16) -> io::Result<Duration> {
    // Echo request; the kernel fills in identifier and checksum (icmp(7)).
    let [high, low] = number.to_be_bytes();
    let sent = Instant::now();
    socket.write_all(&[8, 0, 0, 0, 0, 0, high, low])?;
    let mut answer = [0; 64];
    loop {
        match socket.read(&mut answer) {
            // An earlier one that had been given up.
            Ok(_) if answer[6..8] != [high, low] => {}
            Ok(_) => return Ok(sent.elapsed()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(PING_PATIENCE),
            Err(error) => return Err(error),
        }
    }
}
