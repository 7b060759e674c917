//! What a client with four TCP streams leaves to one with a single stream, both through one server;
//! beside what plain TCP leaves on the same network.

use crate::lab::{self, Lab, Load, Spec, Tunnel};
use crate::report::Report;
use crate::{Plan, Result};

const GREEDY: u32 = 4;

pub(crate) fn measure(plan: &Plan) -> Result<Report> {
    if let Some(why) = lab::missing() {
        return Ok(Report::skipped(why));
    }
    let lab = Lab::new(2, false)?;
    let mut report = Report::default();
    for down in [false, true] {
        let (mut tunnel, mut bare) = (Vec::new(), Vec::new());
        for _ in 0..plan.runs {
            let spec = Spec {
                clients: 2,
                ..Spec::default()
            };
            let pair: Tunnel = lab.open(&spec)?;
            tunnel.push(share(plan, &lab, down)?);
            lab.close(pair)?;
            bare.push(share(plan, &lab, down)?);
        }
        let way = if down { "down" } else { "up" };
        let what = format!("share of one stream {way} beside {GREEDY} of another");
        report.row(what, "%", tunnel);
        report.beside("bare veth", bare);
    }
    report.note("50 % is even between clients, 20 % between streams");
    Ok(report)
}

/// The second client's share of what both get, in percent.
fn share(plan: &Plan, lab: &Lab, down: bool) -> Result<f64> {
    lab.runtime.block_on(async {
        let loads = [GREEDY, 1].map(|streams| Load { streams, down });
        let [greedy, other] = [lab.start(plan, 0, loads[0])?, lab.start(plan, 1, loads[1])?];
        let (greedy, other) = (greedy.finish().await?.rate, other.finish().await?.rate);
        Ok(100.0 * other / (greedy + other))
    })
}
