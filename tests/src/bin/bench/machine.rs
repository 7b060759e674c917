//! The machine: which core does what, and what the kernel says about a process.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::PathBuf;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Which processor does what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cores {
    /// The server, or what stands in for it.
    pub(crate) server: usize,
    /// The client, and the tunnel's target.
    pub(crate) client: usize,
}

impl Cores {
    pub(crate) fn choose() -> io::Result<Self> {
        let usable = sched_getaffinity(None)?;
        let mut numbers = (0..CpuSet::MAX_CPU).filter(|&core| usable.is_set(core));
        let server = numbers.next().unwrap_or(0);
        Ok(Self {
            server,
            client: numbers.next().unwrap_or(server),
        })
    }
}

impl std::fmt::Display for Cores {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.server == self.client {
            true => f.write_str("one core for everything: there is no other"),
            false => write!(
                f,
                "on loopback the server on core {}, the client on core {}",
                self.server, self.client
            ),
        }
    }
}

/// Keeps the calling thread, and whatever it starts from now on, on one core.
pub(crate) fn pin(core: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    Ok(sched_setaffinity(None, &set)?)
}

/// Processor and kernel, as far as they say.
pub(crate) fn describe() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let models: Vec<&str> = cpuinfo
        .lines()
        .filter_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map(|(_, model)| model)
        .collect();
    let count = models.len();
    let model = models.first().unwrap_or(&"unknown processor");
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{count} × {model}, Linux {}", kernel.trim())
}

/// Whether namespaces and interfaces may be made.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Where the program `name` is, if it is installed.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    let paths = std::env::split_paths(&folders).map(|folder| folder.join(name));
    paths.into_iter().find(|path| path.is_file())
}

/// Seconds that a process, or some of its threads, have had of a processor.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cpu {
    pub(crate) user: f64,
    pub(crate) system: f64,
}

impl Cpu {
    /// Of the process `id` so far.
    pub(crate) fn of(id: u32) -> io::Result<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{id}/stat"))?)
    }

    /// Of the threads of this process that have this name, so far.
    pub(crate) fn of_threads(name: &str) -> io::Result<Self> {
        let mut sum = Self::default();
        for entry in fs::read_dir("/proc/self/task")? {
            let folder = entry?.path();
            // One that has ended meanwhile does nothing any more.
            let read = |file: &str| fs::read_to_string(folder.join(file)).unwrap_or_default();
            if read("comm").trim_end() == name {
                sum = sum.plus(Self::parse(&read("stat"))?);
            }
        }
        Ok(sum)
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            user: self.user + other.user,
            system: self.system + other.system,
        }
    }

    /// What was used since `before`.
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            user: self.user - before.user,
            system: self.system - before.system,
        }
    }

    pub(crate) fn total(self) -> f64 {
        self.user + self.system
    }

    /// What part of it was the kernel's, in percent.
    pub(crate) fn kernel_share(self) -> f64 {
        100.0 * self.system / self.total()
    }

    fn parse(stat: &str) -> io::Result<Self> {
        // The name, which may hold anything, is in parentheses; user and system time are the 14th
        // and 15th field (proc_pid_stat(5)), two of which are gone then.
        let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        let mut times = rest
            .split_whitespace()
            .skip(11)
            .map_while(|field| Some(field.parse::<f64>().ok()? / ticks));
        match (times.next(), times.next()) {
            (Some(user), Some(system)) => Ok(Self { user, system }),
            _ => Err(io::Error::other("a process without times")),
        }
    }
}

/// Bytes that the process `id` has for itself alone.
pub(crate) fn private_memory(id: u32) -> io::Result<f64> {
    let text = fs::read_to_string(format!("/proc/{id}/smaps_rollup"))?;
    let kib = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().nth(1)?.parse::<f64>().ok()
    };
    let parts = kib("Private_Clean").zip(kib("Private_Dirty"));
    let (clean, dirty) = parts.ok_or_else(|| io::Error::other("no smaps_rollup"))?;
    Ok((clean + dirty) * 1024.0)
}

/// The `name=value` words of a line.
pub(crate) fn numbers(line: &str) -> HashMap<&str, f64> {
    line.split_whitespace()
        .filter_map(|word| {
            let (name, value) = word.split_once('=')?;
            Some((name, value.parse().ok()?))
        })
        .collect()
}

/// What a program prints on standard output.
pub(crate) fn output(
    program: &OsStr,
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> crate::Result<String> {
    let name = program.display();
    let output = std::process::Command::new(program)
        .args(arguments)
        .output()
        .map_err(|error| format!("{name}: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{name}: {}: {}", output.status, said.trim()).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_behind_any_name() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 250 150 0 0 20 0 1 0 5 1 1";
        let cpu = Cpu::parse(stat).unwrap();
        assert!(
            (cpu.total() - 400.0 / rustix::param::clock_ticks_per_second() as f64).abs() < 1e-9
        );
        assert!((cpu.kernel_share() - 37.5).abs() < 1e-9);
        assert!(Cpu::parse("").is_err());
        assert!(Cpu::of(std::process::id()).is_ok());
    }

    #[test]
    fn this_process_has_memory_of_its_own() {
        assert!(private_memory(std::process::id()).unwrap() > 4096.0);
    }

    #[test]
    fn numbers_are_the_words_with_a_value() {
        let line = "DEBUG socket closed sent=12 sends=3 name=x";
        assert_eq!(
            numbers(line),
            HashMap::from([("sent", 12.0), ("sends", 3.0)])
        );
    }
}
