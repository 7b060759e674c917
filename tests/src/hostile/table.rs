//! The rows of `make hostile`.

use std::pin::Pin;

use super::{
    Figures, Length, floods, garbage, handshakes, hoarders, leaks, log, logins, names, shortage,
    silent, spoofed, stop, streams,
};

/// One line of the project's list of hostile things.
#[derive(Debug)]
pub struct Row {
    /// The name by which `hostile NAME` runs it alone.
    pub name: &'static str,
    /// What is done.
    pub about: &'static str,
    /// How.
    pub parts: &'static [Part],
}

/// What a row consists of.
#[derive(Debug)]
pub enum Part {
    /// A scenario.
    Scenario(Scenario),
    /// Tests that are run as they are, at the same length everywhere. Figures that they print are
    /// taken over.
    Tests(Tests),
}

/// Tests, as Cargo finds them.
#[derive(Debug)]
pub struct Tests {
    /// The target that holds them: `["--test", "policy"]`.
    pub target: &'static [&'static str],
    /// Parts of their names, as the test program takes them.
    pub filters: &'static [&'static str],
}

/// Runs a scenario.
pub type Scenario = fn(Length) -> Pin<Box<dyn Future<Output = Figures> + Send>>;

const fn tests(target: &'static [&'static str], filters: &'static [&'static str]) -> Part {
    Part::Tests(Tests { target, filters })
}

macro_rules! scenario {
    ($function:path) => {
        Part::Scenario(|length| Box::pin($function(length)))
    };
}

const LIB: &[&str] = &["--lib"];
const NETNS: &[&str] = &["--test", "netns"];
const POLICY: &[&str] = &["--test", "policy"];
const HOSTILE: &[&str] = &["--test", "hostile"];
const EVERY_PLUGIN: &[&str] = &["--test", "every_plugin"];
const PROCESSES: &[&str] = &["--test", "processes"];

/// All of them.
pub const ROWS: &[Row] = &[
    Row {
        name: "policy",
        about: "closed addresses in every spelling, by name and in packets",
        parts: &[tests(NETNS, &["policy_matrix"]), tests(POLICY, &[])],
    },
    Row {
        name: "relay",
        about: "nobody is served who was not let in",
        parts: &[tests(PROCESSES, &["relay"])],
    },
    Row {
        name: "spoofing",
        about: "packets with sources and destinations that are not the client's",
        parts: &[tests(NETNS, &["ten_thousand_packets", "told_why"])],
    },
    Row {
        name: "parsers",
        about: "every input that a fuzz target has found worth keeping; `make fuzz` finds new ones",
        parts: &[tests(&["--test", "corpora"], &[])],
    },
    Row {
        name: "properties",
        about: "properties of what parses and decides, on random values",
        // The tests of what is measured print figures that are out of bounds.
        parts: &[tests(LIB, &["--skip", "figure::"])],
    },
    Row {
        name: "misuse",
        about: "messages, frames and capsules that break the RFCs",
        parts: &[tests(HOSTILE, &["malformed", "handshakes"])],
    },
    Row {
        name: "garbage",
        about: "datagrams that are no QUIC, or nearly",
        parts: &[scenario!(garbage::garbage)],
    },
    Row {
        name: "streamless",
        about: "datagrams of streams that do not exist",
        parts: &[scenario!(floods::streamless_datagrams)],
    },
    Row {
        name: "contexts",
        about: "datagrams of contexts that were not registered",
        parts: &[scenario!(floods::context_ids)],
    },
    Row {
        name: "capsules",
        about: "capsules that announce a lot, and capsules that are not read",
        parts: &[
            scenario!(streams::length_bombs),
            scenario!(streams::unknown_capsules),
            scenario!(streams::unread_capsules),
        ],
    },
    Row {
        name: "resets",
        about: "requests that are given up at once",
        parts: &[scenario!(floods::resets)],
    },
    Row {
        name: "handshakes",
        about: "handshakes that nobody means to finish",
        parts: &[scenario!(handshakes::abandoned_handshakes)],
    },
    Row {
        name: "spoofed",
        about: "first packets from forged addresses",
        parts: &[
            scenario!(spoofed::spoofed_initials),
            scenario!(spoofed::spoofed_initials_without_retry),
        ],
    },
    Row {
        name: "readers",
        about: "clients that do not read",
        parts: &[
            scenario!(streams::slow_readers),
            scenario!(streams::flooded_tunnel),
        ],
    },
    Row {
        name: "silent",
        about: "clients of IP tunnels that have fallen silent, while others send to them",
        parts: &[
            scenario!(silent::clients),
            scenario!(silent::clients_of_one_interface),
        ],
    },
    Row {
        name: "hoarders",
        about: "clients that make a server keep what it has sent, or what it was sent",
        parts: &[
            scenario!(hoarders::acknowledgements),
            scenario!(hoarders::unacknowledged),
            scenario!(hoarders::fragments),
        ],
    },
    Row {
        name: "leaks",
        about: "clients that come, go and vanish",
        parts: &[
            scenario!(leaks::udp_tunnels),
            scenario!(leaks::ip_tunnels),
            tests(NETNS, &["ip_14_72_nothing_is_left"]),
        ],
    },
    Row {
        name: "stop",
        about: "SIGTERM under load",
        parts: &[scenario!(stop::graceful_stop)],
    },
    Row {
        name: "files",
        about: "paths that leave the root, links that change, things that are no files",
        parts: &[tests(LIB, &["fs_"])],
    },
    Row {
        name: "configuration",
        about: "configurations with mistakes",
        parts: &[tests(LIB, &["config::"]), tests(PROCESSES, &["start::"])],
    },
    Row {
        name: "isolation",
        about: "plugins that panic and plugins that block",
        parts: &[tests(LIB, &["isolation::", "bulkhead::"])],
    },
    Row {
        name: "plugins",
        about: "what is registered is what is linked",
        parts: &[tests(EVERY_PLUGIN, &[])],
    },
    Row {
        name: "descriptors",
        about: "64 descriptors for more tunnels than that",
        parts: &[scenario!(shortage::descriptors)],
    },
    Row {
        name: "names",
        about: "a name server that does not answer",
        parts: &[scenario!(names::hanging_lookups)],
    },
    Row {
        name: "logins",
        about: "two thousand wrong passwords a second",
        parts: &[scenario!(logins::wrong_logins)],
    },
    Row {
        name: "memory",
        about: "256 MiB for a flood of everything",
        parts: &[scenario!(shortage::memory)],
    },
    Row {
        name: "budget",
        about: "a flood of everything upon a budget of memory, at which load is shed",
        parts: &[scenario!(shortage::budget)],
    },
    Row {
        name: "secrets",
        about: "privileges, descriptors, secrets and keys after the start",
        parts: &[
            tests(NETNS, &["ordinary_user"]),
            tests(
                PROCESSES,
                &[
                    "no_secret",
                    "left_open",
                    "key_that_others",
                    "outside_of_the_sandbox",
                    "traces_and",
                ],
            ),
            tests(LIB, &["sandbox::", "privileges::"]),
        ],
    },
    Row {
        name: "log",
        about: "text of peers in the log",
        parts: &[scenario!(log::hostile_texts), tests(LIB, &["log::"])],
    },
];
