//! What the tests with real processes and the hostile suite share: configurations, servers and
//! clients, and a [`Pinger`] that tells how a bystander fares.
//!
//! # Panics
//! Whatever does not go as wanted is a panic, by which a test fails.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by a panic"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use http::StatusCode;
use pasque::connection::ClientError;
use pasque::testing::TestTunnel;
use pasque::{Connection, Request};
use serde_json::{Value, json};
use tokio::net::UdpSocket;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::{PATIENCE, Process, Server, program};

/// The name of the servers in `proxy-status`.
pub const NAME: &str = "tests.example";

/// Any free port of 127.0.0.1.
pub const ANY_PORT: [&str; 2] = ["-a", "127.0.0.1:0"];

/// A `psq-server` with this configuration on a free port of 127.0.0.1.
pub async fn server(config: Value) -> Server {
    server_by(&program("psq-server"), config).await
}

/// [`server`] with another program.
pub async fn server_by(program: &Path, mut config: Value) -> Server {
    config["name"] = json!(NAME);
    Server::start_with(program, config, ANY_PORT).await.unwrap()
}

/// `psq-server` as a shell starts it after `setup`: with other limits, or another environment.
pub fn server_after(setup: &str, folder: &Path) -> PathBuf {
    let script = folder.join("psq-server.sh");
    let server = program("psq-server");
    let text = format!(
        "#!/bin/sh\nset -e\n{setup}\nexec '{}' \"$@\"\n",
        server.display()
    );
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o700)).unwrap();
    script
}

/// A UDP endpoint that reaches what the rules in `allow` open.
pub fn udp(allow: &[&str]) -> Value {
    json!({ "path": "udp", "type": "UdpEndpoint", "allow": allow })
}

/// The folder `root` as `/files`.
pub fn files(root: &Path) -> Value {
    json!({ "path": "files", "type": "Files", "root": root })
}

/// The path of a tunnel to `host` and `port`, all but letters and digits percent-encoded.
pub fn path(host: &str, port: u16) -> String {
    let host: String = host
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect();
    format!("/.well-known/masque/udp/{host}/{port}/")
}

/// A tunnel to `host` and `port`, or why there is none.
pub async fn try_open(
    connection: &Connection,
    host: &str,
    port: u16,
) -> Result<TestTunnel, ClientError> {
    TestTunnel::open(connection, Request::tunnel("connect-udp", path(host, port))).await
}

/// A tunnel to `host` and `port`.
pub async fn open(connection: &Connection, host: &str, port: u16) -> TestTunnel {
    try_open(connection, host, port)
        .await
        .unwrap_or_else(|error| panic!("{host}: {error}"))
}

/// The status and the `proxy-status` of a refusal.
pub fn refusal(error: &ClientError) -> (StatusCode, String) {
    match error {
        ClientError::Refused {
            status, headers, ..
        } => {
            let field = headers
                .get("proxy-status")
                .map(|value| value.to_str().unwrap());
            (*status, field.unwrap_or_default().to_owned())
        }
        other => panic!("not a refusal: {other}"),
    }
}

/// Sends `payload` through a tunnel to a target that returns it, and waits for it.
pub async fn echo(tunnel: &mut TestTunnel, payload: &[u8]) {
    let mut datagram = vec![0];
    datagram.extend(payload);
    tunnel.send(datagram.clone());
    assert_eq!(tunnel.recv().await[..], datagram);
}

/// The content of `path`.
pub async fn get(connection: &Connection, path: &str) -> (StatusCode, Vec<u8>) {
    let response = connection.request(Request::get(path)).await.unwrap();
    (
        response.status,
        response.body.collect(1 << 30).await.unwrap().to_vec(),
    )
}

/// A `psq-client` that talks to `server`.
pub fn client<const N: usize>(server: &Server, arguments: [&str; N]) -> Process {
    let mut all = vec![
        "-d".to_owned(),
        server.url(),
        "--pin".to_owned(),
        server.pin().to_owned(),
    ];
    all.extend(arguments.map(str::to_owned));
    Process::start(&program("psq-client"), all).unwrap()
}

/// A local program that uses the forward which `client` has announced for `target`.
pub async fn user(client: &mut Process, target: &str) -> UdpSocket {
    let line = client.line(&format!(" to {target}")).await.unwrap();
    let local = line.split_whitespace().nth(1).unwrap();
    let socket = UdpSocket::bind(("127.0.0.1", 0)).await.unwrap();
    socket.connect(local).await.unwrap();
    socket
}

/// Sends `payload` until an answer comes, and returns that.
pub async fn ask(user: &UdpSocket, payload: &[u8]) -> Vec<u8> {
    let mut buffer = vec![0; 65_536];
    let attempts = async {
        loop {
            user.send(payload).await.unwrap();
            if let Ok(received) = timeout(Duration::from_secs(1), user.recv(&mut buffer)).await {
                return received.unwrap();
            }
        }
    };
    let len = timeout(PATIENCE, attempts).await.expect("an answer");
    buffer.truncate(len);
    buffer
}

/// Whether nothing comes for a while.
pub async fn is_silent(user: &UdpSocket) -> bool {
    timeout(Duration::from_millis(300), user.recv(&mut [0; 65_536]))
        .await
        .is_err()
}

/// Memory of a process that is not on disk, in bytes.
pub fn resident(server: &mut Server) -> u64 {
    let id = server.process().id().unwrap();
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let mut lines = status.lines();
    let Some(line) = lines.find_map(|line| line.strip_prefix("VmRSS:")) else {
        panic!("the server has ended: {}", server.process().output());
    };
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    kib << 10
}

/// A tunnel through which a datagram goes back and forth, many times a second.
pub struct Pinger {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Pings>,
}

/// How long a datagram may take before it counts as lost.
const LATE: Duration = Duration::from_secs(1);

/// What a [`Pinger`] has seen.
#[derive(Debug)]
pub struct Pings {
    /// Datagrams sent.
    pub sent: usize,
    /// How long each of those that came back has taken, shortest first.
    pub round_trips: Vec<Duration>,
}

impl Pinger {
    /// Pings through `tunnel`, which leads to a target that returns what it gets.
    pub fn start(tunnel: TestTunnel) -> Self {
        let (stop, stopped) = oneshot::channel();
        Self {
            stop,
            task: tokio::spawn(ping(tunnel, stopped)),
        }
    }

    /// Stops, and waits for what is still on its way.
    pub async fn finish(self) -> Pings {
        self.stop.send(()).expect("the pinger runs");
        self.task.await.unwrap()
    }
}

async fn ping(mut tunnel: TestTunnel, mut stopped: oneshot::Receiver<()>) -> Pings {
    let mut sent = Vec::new();
    let mut round_trips = Vec::new();
    let mut clock = tokio::time::interval(Duration::from_millis(10));
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut note = |packet: &[u8], sent: &[Instant]| {
        let number = u32::from_be_bytes(packet[1..5].try_into().unwrap());
        round_trips.push(sent[number as usize].elapsed());
    };
    loop {
        tokio::select! {
            _ = clock.tick() => {
                let mut datagram = vec![0];
                datagram.extend((sent.len() as u32).to_be_bytes());
                sent.push(Instant::now());
                tunnel.send(datagram);
            }
            packet = tunnel.0.recv() => note(&packet.expect("the tunnel is open"), &sent),
            _ = &mut stopped => break,
        }
    }
    while let Ok(Some(packet)) = timeout(Duration::from_secs(1), tunnel.0.recv()).await {
        note(&packet, &sent);
    }
    round_trips.sort();
    Pings {
        sent: sent.len(),
        round_trips,
    }
}

impl Pings {
    /// The share that did not come back within a second: what is so late is lost to its user.
    pub fn loss(&self) -> f64 {
        let in_time = self.round_trips.partition_point(|time| *time <= LATE);
        1.0 - in_time as f64 / self.sent as f64
    }

    /// The time within which `share` of those that came back did.
    pub fn within(&self, share: f64) -> Duration {
        let index = (self.round_trips.len() as f64 * share) as usize;
        self.round_trips[index.min(self.round_trips.len() - 1)]
    }
}

/// Waits until `condition` holds.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        sleep(Duration::from_millis(5)).await;
    }
}
