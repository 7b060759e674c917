//! The harness itself, without any program of the project.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::*;

fn exists(name: &str) -> bool {
    Path::new(NAMES).join(name).exists()
}

/// Whether a datagram of `len` bytes gets from `client` to the server.
fn passes(network: &Network, len: usize) -> bool {
    let at = SocketAddr::from((Network::SERVER, 7));
    let to = network.server.enter(|| UdpSocket::bind(at)).unwrap();
    let from = network.clients[0].udp(([0, 0, 0, 0], 0)).unwrap();
    from.send_to(&vec![0; len], at).unwrap();
    to.set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    to.recv(&mut [0; 4096]).is_ok()
}

#[test]
fn a_namespace_is_gone_after_a_panic() {
    let mut name = String::new();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let namespace = Namespace::new("panic").unwrap();
        name = namespace.name().to_owned();
        assert!(exists(&name));
        namespace.enter(|| -> io::Result<()> { panic!("on purpose") })
    }));
    let panic = panicked.unwrap_err();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"on purpose"));
    assert!(!exists(&name));
}

#[test]
fn what_a_killed_process_has_left_is_swept_and_what_others_use_is_not() {
    // The highest process ID there can be is one more than this at most.
    let highest = fs::read_to_string("/proc/sys/kernel/pid_max").unwrap();
    let gone = sweep::name(highest.trim().parse::<u32>().unwrap() + 1, 0, "left");
    let ours = Namespace::new("kept").unwrap();
    run("ip", ["netns", "add", &gone], "").unwrap();
    let inside = ["netns", "exec", &gone, "sleep", "1000"];
    let mut sleeper = std::process::Command::new("ip")
        .args(inside)
        .spawn()
        .unwrap();
    let is_inside = || !run("ip", ["netns", "pids", &gone], "").unwrap().is_empty();
    while !is_inside() {
        thread::sleep(Duration::from_millis(1));
    }
    sweep::sweep();
    assert!(!exists(&gone));
    assert!(exists(ours.name()));
    assert!(!sleeper.wait().unwrap().success());
}

#[test]
fn sockets_and_processes_are_inside() {
    let a = Namespace::new("a").unwrap();
    let b = Namespace::new("b").unwrap();
    // The same port of the same address, in three namespaces.
    let address = SocketAddr::from(([127, 0, 0, 1], 5353));
    let _a = a.udp(address).unwrap();
    let _b = b.udp(address).unwrap();
    assert!(a.udp(address).is_err());
    a.ip("link add here7 type veth peer name there7").unwrap();
    assert_eq!(a.show("link").unwrap().len(), 3);
    assert_eq!(b.show("link").unwrap().len(), 1);
    assert!(b.show("route").unwrap().is_empty());
    let error = b.ip("link del here7").unwrap_err().to_string();
    assert!(error.contains("here7"), "{error}");
}

#[tokio::test]
async fn a_program_is_started_inside() {
    let namespace = Namespace::new("program").unwrap();
    namespace
        .ip("link add here7 type veth peer name there7")
        .unwrap();
    let mut process = namespace
        .start(Path::new("/bin/cat"), ["/proc/self/net/dev"])
        .unwrap();
    process.exit().await.unwrap();
    assert!(process.output().contains("here7"), "{}", process.output());
}

#[test]
fn tcp_passes_the_router_and_is_counted() {
    let network = Network::new(2, Plan::default()).unwrap();
    let rules = "table inet t {
        counter seen {}
        chain forward {
            type filter hook forward priority 0
            tcp dport 80 counter name seen
        }
    }";
    network.router.nft(rules).unwrap();
    for server in [IpAddr::from(Network::SERVER), Network::SERVER_V6.into()] {
        let server = SocketAddr::from((server, 80));
        let listener = network.server.enter(|| TcpListener::bind(server)).unwrap();
        for client in &network.clients {
            let mut stream = client.enter(|| TcpStream::connect(server)).unwrap();
            stream.write_all(&[7; 100_000]).unwrap();
            drop(stream);
            let mut received = Vec::new();
            listener
                .accept()
                .unwrap()
                .0
                .read_to_end(&mut received)
                .unwrap();
            assert_eq!(received, [7; 100_000]);
        }
    }
    let seen = network.router.counter("seen").unwrap();
    assert!(seen.bytes > 4 * 100_000 && seen.packets >= 4, "{seen:?}");
    assert!(network.router.counter("unknown").is_err());
}

#[test]
fn the_target_is_behind_the_server_and_knows_the_way_back_only_if_planned() {
    for routed in [false, true] {
        let network = Network::new(
            1,
            Plan {
                routed,
                ..Plan::default()
            },
        )
        .unwrap();
        let at = SocketAddr::from((Network::TARGET, 7));
        let target = network.target.enter(|| UdpSocket::bind(at)).unwrap();
        target
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        let client = network.clients[0]
            .enter(|| UdpSocket::bind("0.0.0.0:0"))
            .unwrap();
        client
            .set_read_timeout(Some(Duration::from_millis(200)))
            .unwrap();
        // The router does not know it: only the server leads there.
        network
            .router
            .ip("route add 198.51.100.0/24 via 10.9.0.2")
            .unwrap();
        client.send_to(b"ping", at).unwrap();
        let (_, from) = target.recv_from(&mut [0; 9]).unwrap();
        assert_eq!(target.send_to(b"pong", from).is_ok(), routed);
        assert_eq!(client.recv(&mut [0; 9]).is_ok(), routed);
    }
}

#[test]
fn a_rule_about_lengths_drops_what_is_longer_and_nothing_else() {
    let plan = Plan {
        single_packets: true,
        ..Plan::default()
    };
    let network = Network::new(1, plan).unwrap();
    let rules = "table inet t {
        chain forward { type filter hook forward priority 0; meta length > 1250 drop; }
    }";
    network.router.nft(rules).unwrap();
    assert!(passes(&network, 1222));
    assert!(!passes(&network, 1223));
}
