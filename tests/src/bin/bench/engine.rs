//! Both ends of a QUIC connection in one thread, with the engine's settings and what a tunnel puts
//! in front of a datagram, beside the AEAD of the same packets: how much more than encrypting it
//! costs to send and to receive.

use std::ffi::OsStr;

use pasque_tests::beside;

use crate::machine::{numbers, output, pin};
use crate::oneway::CEILING;
use crate::report::Report;
use crate::{Plan, Result};

/// Datagrams of one run, for each second that a run may take: about as many as it takes.
const DATAGRAMS_PER_SECOND: u64 = 200_000;

pub(crate) fn measure(plan: &Plan) -> Result<Report> {
    pin(plan.cores.server)?;
    let program = beside(CEILING)?;
    let datagrams = (DATAGRAMS_PER_SECOND * plan.time.as_secs()).to_string();
    let mut values = [const { Vec::new() }; 4];
    for _ in 0..plan.runs {
        // Within a run, the connections and the AEAD take turns every few milliseconds.
        let text = output(
            program.as_os_str(),
            [OsStr::new("memory"), OsStr::new(&datagrams)],
        )?;
        let numbers = numbers(&text);
        for (name, values) in ["sender", "receiver", "seal", "open"]
            .iter()
            .zip(&mut values)
        {
            let value = numbers.get(name);
            values.push(*value.ok_or_else(|| format!("the ceiling printed {text:?}"))?);
        }
    }
    let [sender, receiver, seal, open] = values;
    let mut report = Report::default();
    report.row("1380 B, sender", "ns/datagram", sender);
    report.beside("AES-128-GCM seal", seal);
    report.row("1380 B, receiver", "ns/datagram", receiver);
    report.beside("AES-128-GCM open", open);
    Ok(report)
}
