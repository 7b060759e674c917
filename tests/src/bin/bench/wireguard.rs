//! WireGuard in user space, as far as it is installed, on the same network as the tunnels that it
//! is compared with.

use std::ffi::OsStr;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pasque_tests::netns::{Namespace, Network};
use pasque_tests::{PATIENCE, Process};
use tempfile::TempDir;
use tokio::time::sleep;

use crate::Result;
use crate::lab::Lab;
use crate::machine::{find, output};

/// Programs that make the interface that they are told the name of.
const PROGRAMS: [&str; 2] = ["wireguard-go", "boringtun-cli"];

/// What sets one up.
const TOOL: &str = "wg";

/// Where the programs listen for it.
const SOCKETS: &str = "/var/run/wireguard";

const PORT: u16 = 51820;

const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

/// One of the programs.
#[derive(Clone, Debug)]
pub(crate) struct WireGuard {
    name: &'static str,
    program: PathBuf,
}

/// Both ends, with their keys.
#[derive(Debug)]
pub(crate) struct Running {
    ends: [Process; 2],
    _keys: TempDir,
}

/// What one end is told.
struct End<'a> {
    place: &'a Namespace,
    interface: &'a str,
    private: &'a Path,
    address: Ipv4Addr,
    /// The other end: its public key, and what it may send.
    peer: &'a str,
    allowed: &'a str,
}

impl WireGuard {
    /// Those that are there, and the names of those that are not.
    pub(crate) fn installed() -> (Vec<Self>, Vec<&'static str>) {
        let (mut found, mut absent) = (Vec::new(), Vec::new());
        let has_tool = find(TOOL).is_some();
        if !has_tool {
            absent.push(TOOL);
        }
        for name in PROGRAMS {
            match find(name) {
                Some(program) if has_tool => found.push(Self { name, program }),
                Some(_) => {}
                None => absent.push(name),
            }
        }
        (found, absent)
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Joins client 0 to the server and leads the target's network through it.
    pub(crate) fn open(&self, lab: &Lab) -> Result<Running> {
        let keys = tempfile::tempdir()?;
        let network = &lab.network;
        let places = [&network.clients[0], &network.server];
        // The programs' sockets are not in namespaces.
        let names = ["c", "s"].map(|end| format!("bench{}{end}", std::process::id()));
        lab.runtime.block_on(async {
            let mut ends = Vec::new();
            for (place, name) in places.into_iter().zip(&names) {
                ends.push(place.start(&self.program, ["-f", name])?);
                wait_for(place, name).await?;
            }
            let private = ["client", "server"].map(|end| keys.path().join(end));
            let public = [make_key(&private[0])?, make_key(&private[1])?];
            configure(&End {
                place: places[1],
                interface: &names[1],
                private: &private[1],
                address: SERVER,
                peer: &public[0],
                allowed: "10.77.0.0/24",
            })?;
            configure(&End {
                place: places[0],
                interface: &names[0],
                private: &private[0],
                address: CLIENT,
                peer: &public[1],
                allowed: "0.0.0.0/0",
            })?;
            let endpoint = SocketAddr::from((Network::SERVER, PORT)).to_string();
            set(&[&names[0], "peer", &public[1], "endpoint", &endpoint])?;
            places[0].ip(&format!("route add 198.51.100.0/24 dev {}", names[0]))?;
            let ends = <[Process; 2]>::try_from(ends).map_err(|_| "there are two ends")?;
            Ok(Running { ends, _keys: keys })
        })
    }
}

impl Running {
    pub(crate) fn close(mut self, lab: &Lab) -> Result<()> {
        lab.runtime.block_on(async {
            for end in &mut self.ends {
                end.terminate().await?;
            }
            Ok(())
        })
    }
}

/// Waits until the program has made its interface, and listens.
async fn wait_for(place: &Namespace, name: &str) -> Result<()> {
    let socket = Path::new(SOCKETS).join(format!("{name}.sock"));
    let deadline = Instant::now() + PATIENCE;
    while !socket.exists() || place.show(&format!("link show dev {name}")).is_err() {
        if Instant::now() > deadline {
            return Err(format!("no interface {name}").into());
        }
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Writes a private key to `file` and returns the public one.
fn make_key(file: &Path) -> Result<String> {
    let script = "umask 077; wg genkey >\"$1\" && wg pubkey <\"$1\"";
    let arguments = [
        OsStr::new("-c"),
        OsStr::new(script),
        OsStr::new("sh"),
        file.as_os_str(),
    ];
    let public = output(OsStr::new("/bin/sh"), arguments)?;
    fs::metadata(file)?;
    Ok(public.trim().to_owned())
}

fn configure(end: &End<'_>) -> Result<()> {
    let (port, private) = (PORT.to_string(), end.private.display().to_string());
    let interface = end.interface;
    set(&[interface, "listen-port", &port, "private-key", &private])?;
    set(&[interface, "peer", end.peer, "allowed-ips", end.allowed])?;
    end.place.ip(&format!(
        "addr add {}/24 dev {interface}\nlink set {interface} mtu 1420 up",
        end.address
    ))?;
    Ok(())
}

fn set(words: &[&str]) -> Result<()> {
    output(OsStr::new(TOOL), ["set"].iter().chain(words)).map(drop)
}
