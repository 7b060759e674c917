//! The names of namespaces, and the removal of those whose makers were killed.

use std::fs;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use super::NAMES;
use super::tools::run;

/// What every name starts with, before the maker's process ID.
const PREFIX: &str = "psq";

pub(super) fn name(maker: u32, number: u32, role: &str) -> String {
    format!("{PREFIX}{maker}-{number}-{role}")
}

/// The process that has made the namespace `name`, if the name is one of [`name`].
fn maker(name: &str) -> Option<Pid> {
    let (maker, _) = name.strip_prefix(PREFIX)?.split_once('-')?;
    Pid::from_raw(maker.parse().ok()?)
}

/// Removes the namespaces of makers that are gone, with the processes in them.
pub(super) fn sweep() {
    for entry in fs::read_dir(Path::new(NAMES))
        .into_iter()
        .flatten()
        .flatten()
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        if maker(&name).is_some_and(|maker| test_kill_process(maker).is_err()) {
            // Servers and clients that the maker could not end, being killed itself.
            let left = run("ip", ["netns", "pids", &name], "").unwrap_or_default();
            let left = left
                .split_whitespace()
                .filter_map(|id| Pid::from_raw(id.parse().ok()?));
            for process in left {
                let _ = kill_process(process, Signal::KILL);
            }
            remove(&name);
        }
    }
}

pub(super) fn remove(name: &str) {
    // Another process may have swept it.
    let _ = run("ip", ["netns", "del", name], "");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_maker_is_read_from_a_name_and_from_no_other() {
        assert_eq!(maker(&name(77, 3, "router")), Pid::from_raw(77));
        for other in ["", "psq", "psq-1-a", "psqx-1-a", "other77-1-a", "psq77"] {
            assert_eq!(maker(other), None, "{other}");
        }
    }
}
