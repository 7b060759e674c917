//! `make demo`: a server, a download, and UDP through tunnels, with real processes on this machine.
//!
//! Everything happens in a temporary folder and on loopback addresses; nothing is left behind.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket as StdSocket};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use pasque::testing::dns::{self, Answer, DnsServer};
use pasque_tests::{EchoTarget, Process, Server, beside, example_config, repository};
use sha2::{Digest, Sha256};
use tokio::net::UdpSocket;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

/// The port that the walk-through of the README has its target on.
const ECHO_PORT: u16 = 9000;
/// The file that is fetched, beneath the root of the `Files` endpoint.
const FILE: &str = "pasque.png";
/// Round trips of each size.
const ROUNDS: usize = 100;
/// How long a round trip may take before the datagram counts as lost.
const LOST_AFTER: Duration = Duration::from_millis(500);
/// How often the same question is asked: UDP may lose some.
const ATTEMPTS: usize = 5;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    // Whatever ends the demo, a panic included, drops it, and with it its processes and files.
    match runtime.block_on(until_interrupted()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&*error),
    }
}

fn fail(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("demo: {error}");
    ExitCode::FAILURE
}

async fn until_interrupted() -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        result = demo() => result,
        _ = interrupt.recv() => Err("interrupted".into()),
        _ = terminate.recv() => Err("terminated".into()),
    }
}

async fn demo() -> Result<()> {
    let client = beside("psq-client")?;
    let downloads = tempfile::tempdir()?;

    println!("1. psq-server -c server-example.json");
    let mut server = start_server().await?;
    println!(
        "   listens on {}, certificate {}…",
        server.address(),
        &server.pin()[..16]
    );

    println!(
        "2. psq-client -d {} --pin … get /files/{FILE}",
        server.url()
    );
    fetch(&client, &server, downloads.path()).await?;

    let target = echo_target().await?;
    let mut forward = forward(&client, &server, target.address()).await?;
    println!(
        "3. psq-client -d {} --pin …{}",
        server.url(),
        forward.option
    );
    println!(
        "   {} is a tunnel to an echo at {}",
        forward.local,
        target.address()
    );
    println!("   bytes  round trips  lost  least      median");
    for len in [1, 64, 512, 1200] {
        println!("   {}", echo(forward.local, len).await?);
    }
    println!("   the echo has seen {} datagrams", target.count());

    let names = DnsServer::start(|question| {
        // "n12.example" has twelve addresses.
        let count = question.name.trim_start_matches('n').split('.').next();
        let count: u8 = count.and_then(|digits| digits.parse().ok()).unwrap_or(0);
        let addresses: Vec<_> = (1..=count).map(|last| format!("192.0.2.{last}")).collect();
        Answer::addresses(addresses.iter().map(String::as_str))
    })
    .await?;
    let mut resolver = self::forward(&client, &server, names.address()).await?;
    println!(
        "4. psq-client -d {} --pin … -u {}",
        server.url(),
        names.address()
    );
    println!("   {} is a tunnel to a name server", resolver.local);
    println!("   name          addresses  bytes of query  bytes of reply  time");
    for count in [1, 12, 60] {
        println!("   {}", resolve(resolver.local, count).await?);
    }

    println!("5. SIGTERM to psq-server");
    let asked = Instant::now();
    let status = server.process().terminate().await?;
    println!("   it ended after {:.0?} with {status}", asked.elapsed());
    if !status.success() {
        return Err(format!("psq-server printed:\n{}", server.process().output()).into());
    }
    for client in [&mut forward.process, &mut resolver.process] {
        // 5 is "the connection was lost", as psq-client --help says.
        let status = client.exit().await?;
        if status.code() != Some(5) {
            return Err(format!("psq-client: {status}, expected 5:\n{}", client.output()).into());
        }
    }
    println!("   both clients noticed and ended with exit code 5");
    println!("all as it should be");
    Ok(())
}

/// The server of `server-example.json`, at its own address unless somebody else is there.
async fn start_server() -> Result<Server> {
    let program = beside("psq-server")?;
    let config = example_config()?;
    let listen = config["listen"]
        .as_str()
        .ok_or("server-example.json has no \"listen\"")?;
    if StdSocket::bind(listen).is_ok() {
        return Ok(Server::start_with(&program, config, []).await?);
    }
    println!("   {listen} is taken: -a 127.0.0.1:0 goes before it");
    Ok(Server::start_with(&program, config, ["-a", "127.0.0.1:0"]).await?)
}

async fn fetch(client: &Path, server: &Server, folder: &Path) -> Result<()> {
    let copy = folder.join(FILE);
    let path = format!("/files/{FILE}");
    let url = server.url();
    let output = copy.display().to_string();
    let arguments = [
        "-d",
        &url,
        "--pin",
        server.pin(),
        "get",
        &path,
        "-o",
        &output,
    ];
    let mut process = Process::start(client, arguments)?;
    let status = process.exit().await?;
    if !status.success() {
        return Err(format!("psq-client get: {status}:\n{}", process.output()).into());
    }
    let original = repository().join("apps/psq-server/public").join(FILE);
    let [ours, theirs] = [digest(&copy)?, digest(&original)?];
    println!(
        "   {} bytes, sha256 {ours}",
        std::fs::metadata(&copy)?.len()
    );
    if ours != theirs {
        return Err(format!("the file on disk has {theirs}").into());
    }
    println!("   the same as the file on disk");
    Ok(())
}

fn digest(file: &Path) -> io::Result<String> {
    let digest = Sha256::digest(std::fs::read(file)?);
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// An echo where the default forward of `psq-client` leads, or else on a free port.
async fn echo_target() -> io::Result<EchoTarget> {
    match EchoTarget::start((Ipv4Addr::LOCALHOST, ECHO_PORT).into()).await {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => EchoTarget::on_loopback().await,
        result => result,
    }
}

/// A client that keeps a forward open.
struct Forward {
    process: Process,
    /// Where to send to.
    local: SocketAddr,
    /// What its command line says of the target.
    option: String,
}

async fn forward(client: &Path, server: &Server, target: SocketAddr) -> Result<Forward> {
    let (url, target) = (server.url(), target.to_string());
    // The end of the server is to be theirs, too.
    let mut arguments = vec!["-d", &url, "--pin", server.pin(), "--no-reconnect"];
    let mut option = String::new();
    if target != format!("127.0.0.1:{ECHO_PORT}") {
        arguments.extend(["-u", &target]);
        option = format!(" -u {target}");
    }
    let mut process = Process::start(client, arguments)?;
    let line = process.line("forwarding ").await?;
    let local = line
        .split_whitespace()
        .nth(1)
        .ok_or("no local address")?
        .parse()?;
    Ok(Forward {
        process,
        local,
        option,
    })
}

/// Sends datagrams of `len` bytes one after the other and measures how long each is under way.
async fn echo(local: SocketAddr, len: usize) -> Result<String> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    socket.connect(local).await?;
    let mut times = Vec::with_capacity(ROUNDS);
    let mut lost = 0;
    for round in 0..ROUNDS {
        let sent: Vec<u8> = (0..len).map(|at| (at + round) as u8).collect();
        let start = Instant::now();
        socket.send(&sent).await?;
        match timeout(LOST_AFTER, receive(&socket, |received| received == sent)).await {
            Ok(result) => {
                result?;
                times.push(start.elapsed());
            }
            Err(_late) => lost += 1,
        }
        if lost > ROUNDS / 10 {
            return Err(
                format!("{lost} of {} datagrams of {len} bytes are lost", round + 1).into(),
            );
        }
    }
    times.sort();
    let (least, median) = (times[0], times[times.len() / 2]);
    Ok(format!(
        "{len:5}  {:11}  {lost:4}  {least:<9.0?}  {median:.0?}",
        times.len()
    ))
}

/// Waits for the datagram that is `wanted`; one that was given up before may still come.
async fn receive(socket: &UdpSocket, wanted: impl Fn(&[u8]) -> bool) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; 65_536];
    loop {
        let len = socket.recv(&mut buffer).await?;
        if wanted(&buffer[..len]) {
            buffer.truncate(len);
            return Ok(buffer);
        }
    }
}

/// Asks for the addresses of a name that has `count` of them.
async fn resolve(local: SocketAddr, count: u8) -> Result<String> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    socket.connect(local).await?;
    let name = format!("n{count}.example");
    let id = u16::from(count);
    let question = query(id, &name);
    for _ in 0..ATTEMPTS {
        let start = Instant::now();
        socket.send(&question).await?;
        let is_answer = |message: &[u8]| message.starts_with(&id.to_be_bytes());
        let Ok(answer) = timeout(LOST_AFTER, receive(&socket, is_answer)).await else {
            continue;
        };
        let answer = answer?;
        let time = start.elapsed();
        // The count of answers, after ID, flags and the count of questions (RFC 1035 §4.1.1).
        let answers = answer
            .get(6..8)
            .map(|field| u16::from_be_bytes([field[0], field[1]]));
        if answers != Some(id) {
            return Err(format!("{name}: {answers:?} addresses, expected {count}").into());
        }
        let (asked, got) = (question.len(), answer.len());
        return Ok(format!(
            "{name:12}  {count:9}  {asked:14}  {got:14}  {time:.1?}"
        ));
    }
    Err(format!("{name}: no answer to {ATTEMPTS} questions").into())
}

/// A question for the IPv4 addresses of `name` (RFC 1035 §4.1).
fn query(id: u16, name: &str) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    // Recursion desired; one question.
    message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        message.push(label.len() as u8);
        message.extend(label.bytes());
    }
    message.push(0);
    for field in [dns::A, 1] {
        message.extend(field.to_be_bytes());
    }
    message
}
