//! Networks inside this host: namespaces, the links between them, and what may be done inside one.
//!
//! Takes root (`CAP_SYS_ADMIN`, `CAP_NET_ADMIN`) and the programs `ip` and `nft`. Everything that is
//! made disappears when it is dropped; what a killed process has left is removed by the next one.

mod network;
mod sweep;
mod tools;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::future::Future;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use pasque::Connection;
use pasque::connection::ClientError;
use pasque_h3::ClientConfig;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;
use tokio::runtime::{self, Handle};

pub use self::network::{Network, Plan};
use self::tools::run;
use crate::process::Process;

/// Where `ip` keeps the names of namespaces.
const NAMES: &str = "/run/netns";

/// A network namespace. Dropping it removes it, as soon as no process is left inside.
///
/// A socket belongs for ever to the namespace that it was made in, whichever thread uses it. So it is
/// enough to make it in a thread that is inside: see [`enter`](Self::enter).
#[derive(Debug)]
pub struct Namespace {
    name: String,
    link: File,
}

/// What a named counter of nftables has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counter {
    /// Packets; of an offloaded burst, one.
    pub packets: u64,
    /// Their lengths in bytes, IP headers included.
    pub bytes: u64,
}

impl Namespace {
    /// Makes a namespace with a loopback interface that is up. `role` ends its name.
    ///
    /// # Errors
    /// When a privilege or the program `ip` is missing; says which.
    pub fn new(role: &str) -> io::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        static SWEEP: Once = Once::new();
        SWEEP.call_once(sweep::sweep);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = sweep::name(std::process::id(), number, role);
        run("ip", ["netns", "add", &name], "")?;
        let link = match File::open(Path::new(NAMES).join(&name)) {
            Ok(link) => link,
            Err(error) => {
                sweep::remove(&name);
                return Err(error);
            }
        };
        let namespace = Self { name, link };
        // An address is usable at once: nobody else is on these links who could have it.
        for scope in ["all", "default"] {
            namespace.set(&format!("net/ipv6/conf/{scope}/accept_dad"), "0")?;
            namespace.set(&format!("net/ipv6/conf/{scope}/accept_ra"), "0")?;
            namespace.set(&format!("net/ipv4/conf/{scope}/rp_filter"), "0")?;
        }
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// Its name, as `ip netns exec` takes it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `work` on a thread inside, and waits for it. Threads and processes that it starts are
    /// inside, too. A panic in it goes on in the caller.
    ///
    /// # Errors
    /// Those of `work`, and that the namespace cannot be entered.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        let inside = || {
            move_into_link_name_space(self.link.as_fd(), Some(LinkNameSpaceType::Network))?;
            work()
        };
        thread::scope(|scope| match scope.spawn(inside).join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }

    /// Runs the future that `make` makes on a runtime of its own, all of whose threads are inside.
    ///
    /// # Errors
    /// That the namespace cannot be entered, or there is no runtime.
    pub fn block_on<F: Future>(&self, make: impl FnOnce() -> F + Send) -> io::Result<F::Output>
    where
        F::Output: Send,
    {
        self.enter(|| {
            let runtime = runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            let output = runtime.block_on(async { make().await });
            runtime.shutdown_background();
            Ok(output)
        })
    }

    /// Starts `program` inside. Takes a tokio runtime, as [`Process::start`] does.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn start(
        &self,
        program: &Path,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>> + Send,
    ) -> io::Result<Process> {
        let runtime = Handle::current();
        self.enter(|| {
            let _entered = runtime.enter();
            Process::start(program, arguments)
        })
    }

    /// Connects to a server from inside.
    ///
    /// # Errors
    /// When there is no connection.
    pub fn connect(
        &self,
        server: SocketAddr,
        config: &ClientConfig,
    ) -> Result<Connection, ClientError> {
        let host = server.ip().to_string();
        self.block_on(|| pasque_h3::connect(&host, server.port(), config))?
    }

    /// A UDP socket inside, which does not block.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn udp(&self, address: impl Into<SocketAddr>) -> io::Result<UdpSocket> {
        let address = address.into();
        self.enter(|| {
            let socket = UdpSocket::bind(address)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        })
    }

    /// Runs commands of `ip`, one a line, each without the leading `ip`.
    ///
    /// # Errors
    /// What `ip` says about the first that fails.
    pub fn ip(&self, commands: &str) -> io::Result<()> {
        run("ip", ["-n", &self.name, "-batch", "-"], commands).map(drop)
    }

    /// What `ip -json` prints for these arguments, separated by spaces: a list of objects.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn show(&self, arguments: &str) -> io::Result<Vec<Value>> {
        let all = ["-n", &self.name, "-json", "-details"].into_iter();
        let text = run("ip", all.chain(arguments.split_whitespace()), "")?;
        // Nothing to list is printed as nothing.
        match text.trim() {
            "" => Ok(Vec::new()),
            text => Ok(serde_json::from_str(text)?),
        }
    }

    /// Loads rules of nftables.
    ///
    /// # Errors
    /// What `nft` says.
    pub fn nft(&self, rules: &str) -> io::Result<()> {
        self.enter(|| run("nft", ["-f", "-"], rules).map(drop))
    }

    /// The named counter `name`, of whichever table.
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn counter(&self, name: &str) -> io::Result<Counter> {
        let text = self.enter(|| run("nft", ["-j", "list", "counters"], ""))?;
        let listed: Value = serde_json::from_str(&text)?;
        let mut counters = listed["nftables"].as_array().into_iter().flatten();
        let counter = counters
            .find_map(|object| {
                object
                    .get("counter")
                    .filter(|counter| counter["name"] == name)
            })
            .ok_or_else(|| io::Error::other(format!("{}: no counter {name:?}", self.name)))?;
        let number = |key: &str| counter[key].as_u64().unwrap_or_default();
        Ok(Counter {
            packets: number("packets"),
            bytes: number("bytes"),
        })
    }

    /// Sets the kernel's parameter at `path` below `/proc/sys`.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn set(&self, path: &str, value: &str) -> io::Result<()> {
        let path: PathBuf = Path::new("/proc/sys").join(path);
        self.enter(|| {
            fs::write(&path, value)
                .map_err(|error| io::Error::new(error.kind(), format!("{path:?}: {error}")))
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        sweep::remove(&self.name);
    }
}

#[cfg(test)]
mod tests;
