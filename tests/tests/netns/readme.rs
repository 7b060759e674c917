//! "A VPN in five minutes" of the README, gone through as its reader would. The configuration and the
//! commands are those of the text as it stands.
//!
//! What it says about two sites is shown by
//! `ip_42_46_a_site_behind_the_client_is_reached_and_its_packets_lose_one_hop_each_way`.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use pasque_tests::netns::Namespace;
use pasque_tests::{Process, program, repository};
use rustix::process::Signal;

use crate::capture::Capture;
use crate::craft::{Header, ICMPV6, icmp};
use crate::inject::Injector;
use crate::lab::{Client, FULL_MTU, addresses, calm, routes, wait};
use crate::probe::{Answer, Ping};
use crate::transfer::tcp;

const TITLE: &str = "## A VPN in five minutes\n";

/// Addresses that the egress policy leaves open, unlike those for documentation.
const SERVER: [&str; 2] = ["203.0.114.10", "2001:db9:114::10"];
const TARGET: [&str; 2] = ["203.0.115.20", "2001:db9:115::20"];
/// At home, behind nobody's address translation.
const CLIENT: [&str; 2] = ["192.168.1.30", "fd01::30"];

/// Everything on a host that somebody could change, in lines.
const LOOK: &str = "
    nft --stateless list ruleset
    ip -details address show
    ip -4 route show table all
    ip -6 route show table all
    ip -4 rule show
    ip -6 rule show
    sysctl --all --ignore 2>/dev/null | grep '^net[.]' | grep -v nf_conntrack_count
";

/// Everything that leaves beside the tunnel.
const LEAKS: &str = "table inet leak {
    counter other {}
    chain output {
        type filter hook output priority 0
        oifname eth0 ip daddr 203.0.114.10 udp dport 443 accept
        oifname eth0 ip6 daddr 2001:db9:114::10 udp dport 443 accept
        oifname eth0 icmpv6 type { 133, 134, 135, 136, 143 } accept
        oifname eth0 counter name other
    }
}";

/// The section of the README.
struct Section(String);

impl Section {
    fn read() -> Self {
        let readme = fs::read_to_string(repository().join("README.md")).unwrap();
        let (_, section) = readme.split_once(TITLE).expect("the section");
        let (section, _) = section.split_once("\n## ").expect("the next section");
        Self(section.into())
    }

    /// The blocks in this language, as many as there should be.
    fn blocks<const N: usize>(&self, language: &str) -> [&str; N] {
        let inside = self.0.split("```").skip(1).step_by(2);
        let blocks = inside.filter_map(|block| block.strip_prefix(language));
        let blocks: Vec<_> = blocks.map(|block| block.trim_start_matches('\n')).collect();
        let count = blocks.len();
        blocks
            .try_into()
            .unwrap_or_else(|_| panic!("{count} blocks of {language}, expected {N}"))
    }

    /// The one option `name` of the text between the blocks, with its value.
    fn option(&self, name: &str) -> &str {
        let text = self.0.split("```").step_by(2);
        let spans = text.flat_map(|text| text.split('`').skip(1).step_by(2));
        let mut options = spans.filter(|span| span.split(' ').next() == Some(name));
        let option = options.next().unwrap_or_else(|| panic!("no {name}"));
        assert!(options.all(|other| other == option), "several {name}");
        option
    }
}

/// The client, the server and its target on one Internet, where nobody knows a way to the addresses
/// in the tunnel.
struct World {
    client: Namespace,
    server: Namespace,
    target: Namespace,
    internet: Namespace,
}

impl World {
    async fn new() -> Self {
        let [client, server, target, internet] =
            ["client", "server", "target", "internet"].map(|role| Namespace::new(role).unwrap());
        internet.set("net/ipv4/ip_forward", "1").unwrap();
        internet.set("net/ipv6/conf/all/forwarding", "1").unwrap();
        let hosts = [(&client, CLIENT), (&server, SERVER), (&target, TARGET)];
        for (n, (host, [v4, v6])) in hosts.into_iter().enumerate() {
            let gateway = |address: &str, separator: char| {
                let (network, _) = address.rsplit_once(separator).unwrap();
                format!("{network}{separator}1")
            };
            let [gateway_v4, gateway_v6] = [gateway(v4, '.'), gateway(v6, ':')];
            let name = internet.name();
            // A host that has never forwarded anything, and takes packets from nowhere but where
            // it would send the answers, as many distributions have it.
            host.set("net/ipv4/ip_forward", "0").unwrap();
            host.set("net/ipv6/conf/all/forwarding", "0").unwrap();
            host.set("net/ipv4/conf/all/rp_filter", "1").unwrap();
            host.ip(&format!(
                "link add eth0 type veth peer name h{n} netns {name}\n\
                 address add {v4}/24 dev eth0\naddress add {v6}/64 dev eth0\nlink set eth0 up\n"
            ))
            .unwrap();
            internet
                .ip(&format!(
                    "address add {gateway_v4}/24 dev h{n}\naddress add {gateway_v6}/64 dev h{n}\n\
                     link set h{n} up\n"
                ))
                .unwrap();
            host.ip(&format!(
                "route add default via {gateway_v4}\nroute add default via {gateway_v6}\n"
            ))
            .unwrap();
        }
        for host in [&client, &server, &target] {
            calm(host).await;
        }
        Self {
            client,
            server,
            target,
            internet,
        }
    }

    /// Everything gets through to the target, which sees it come from `sources`.
    #[track_caller]
    fn assert_reached_as(&self, sources: [&str; 2]) {
        let seen = Capture::start(&self.target);
        for (there, source) in TARGET.map(address).into_iter().zip(sources.map(address)) {
            let answer = Ping::to(there).send(&self.client);
            assert_eq!(answer, Answer::Reply { from: there });
            tcp(&self.client, &self.target, there, 1_000_000);
            let packets = seen.packets();
            let headers = packets
                .iter()
                .filter_map(|packet| Some(Header::parse(packet)?.0));
            // Neighbour discovery comes from next door: its packets are not forwarded.
            let far =
                headers.filter(|header| header.destination == there && header.hop_limit < 255);
            let mut found: Vec<_> = far.map(|header| header.source).collect();
            found.dedup();
            assert_eq!(found, [source]);
        }
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A shell on one of the hosts, where the programs are known by their names.
struct Shell<'a> {
    host: &'a Namespace,
    folder: &'a Path,
    programs: PathBuf,
}

impl<'a> Shell<'a> {
    fn new(host: &'a Namespace, folder: &'a Path) -> Self {
        let programs = program("psq-server").parent().unwrap().to_owned();
        Self {
            host,
            folder,
            programs,
        }
    }

    fn script(&self, commands: &str) -> [String; 2] {
        let [folder, programs] = [self.folder, &self.programs].map(Path::display);
        let place = format!("set -e; cd '{folder}'; PATH='{programs}':\"$PATH\"; export PATH");
        ["-c".into(), format!("{place}\n{commands}")]
    }

    /// Runs commands until all have ended, or one has failed.
    fn run(&self, commands: &str) -> Output {
        let script = self.script(commands);
        let run = || Command::new("/bin/sh").args(script).output();
        self.host.enter(run).unwrap()
    }

    /// Starts one command that goes on.
    fn start(&self, command: &str) -> Process {
        let script = self.script(&format!("exec {command}"));
        self.host.start(Path::new("/bin/sh"), script).unwrap()
    }

    /// The host as it is.
    #[track_caller]
    fn look(&self) -> Vec<String> {
        let seen = self.run(LOOK);
        assert!(seen.status.success(), "{seen:?}");
        lines(&seen.stdout)
    }

    #[track_caller]
    fn assert_unchanged(&self, before: &[String]) {
        let after = self.look();
        let only_in = |some: &[String], others: &[String]| -> Vec<String> {
            let lines = some.iter().filter(|line| !others.contains(line));
            lines.cloned().collect()
        };
        let [gone, new] = [only_in(before, &after), only_in(&after, before)];
        assert!(before == after, "gone: {gone:#?}, new: {new:#?}");
    }
}

fn lines(output: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(output);
    text.lines().map(str::to_owned).collect()
}

/// The interface by which `host` sends packets to `there`.
fn way(host: &Namespace, there: &str) -> String {
    let routes = host.show(&format!("route get {there}")).unwrap();
    routes[0]["dev"].as_str().unwrap().to_owned()
}

/// The commands that `psq-server doctor` has printed.
fn commands(said: &[String]) -> Vec<&str> {
    let indented = said.iter().filter(|line| line.starts_with(' '));
    indented.map(|line| line.trim()).collect()
}

#[track_caller]
fn assert_nothing_missing(said: &Output) {
    assert_eq!(said.status.code(), Some(0), "{said:?}");
    let is_good = |line: &String| line.starts_with("ok ") || line.starts_with("endpoints[0]");
    assert!(lines(&said.stdout).iter().all(is_good), "{said:?}");
}

/// Ends `process` as Ctrl-C does.
async fn interrupt(mut process: Process) {
    process.signal(Signal::INT).unwrap();
    let status = process.exit().await.unwrap();
    assert_eq!(status.code(), Some(0), "{}", process.output());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ip_68_72_a_vpn_comes_about_and_goes_in_the_words_of_the_readme() {
    let section = Section::read();
    let [config] = section.blocks("json");
    let [credentials, doctor, missing, serve, connect] = section.blocks("sh");
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("vpn.json"), config).unwrap();
    let world = World::new().await;
    let at_server = Shell::new(&world.server, folder.path());
    let at_client = Shell::new(&world.client, folder.path());

    let made = at_server.run(credentials);
    assert!(made.status.success(), "{made:?}");
    let files = || fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(files(), 3, "vpn.json, a secret and a token");

    let before = at_server.look();
    let said = at_server.run(doctor);
    at_server.assert_unchanged(&before);
    assert_eq!(files(), 3);
    assert_eq!(said.status.code(), Some(1), "{said:?}");
    let said = lines(&said.stdout);
    assert_eq!(
        commands(&said),
        Vec::from_iter(missing.lines()),
        "{said:#?}"
    );

    let done = at_server.run(missing);
    assert!(done.status.success(), "{done:?}");
    assert_nothing_missing(&at_server.run(doctor));

    let mut server = at_server.start(serve);
    let line = server.line("--pin ").await.unwrap();
    let digest = line.rsplit(' ').next().unwrap();
    server.line("listening on [::]:443").await.unwrap();
    let before = at_client.look();
    world.assert_reached_as(CLIENT);

    for own in SERVER {
        let name = match address(own) {
            IpAddr::V4(own) => own.to_string(),
            IpAddr::V6(own) => format!("[{own}]"),
        };
        let connect = connect.replace("SERVER", &name).replace("DIGEST", digest);
        // Everything but the tunnel itself.
        let client = Client::new(at_client.start(&connect)).await;
        let leads_there = |there| way(&world.client, there) == client.interface;
        wait("the routes", || TARGET.into_iter().all(leads_there)).await;
        assert!(["1.1.1.1", "2600::"].into_iter().all(leads_there));
        assert_eq!(way(&world.client, own), "eth0");
        world.client.nft(LEAKS).unwrap();
        world.assert_reached_as(SERVER);
        assert_eq!(world.client.counter("other").unwrap().packets, 0);
        world.client.nft("delete table inet leak").unwrap();
        interrupt(client.process).await;
        at_client.assert_unchanged(&before);
        world.assert_reached_as(CLIENT);
    }

    let connect = connect
        .replace("SERVER", SERVER[0])
        .replace("DIGEST", digest);
    let default = format!(" {}", section.option("--default-route"));
    assert!(connect.contains(&default), "{connect}");
    let without = connect.replace(&default, "");
    let only = section.option("--route");
    let (_, network) = only.split_once(' ').unwrap();
    for (option, expected) in [("", &[][..]), (only, &[network])] {
        let client = Client::new(at_client.start(&format!("{} {option}", without.trim()))).await;
        // That is later than everything the server says of routes.
        wait("the MTU", || client.mtu(&world.client) == FULL_MTU).await;
        assert_eq!(routes(&world.client, &client.interface), expected);
        world.assert_reached_as(CLIENT);
        interrupt(client.process).await;
        at_client.assert_unchanged(&before);
    }
    interrupt(server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_doctor_asks_for_leaves_a_server_the_routes_that_routers_advertise() {
    let section = Section::read();
    let [config] = section.blocks("json");
    let [_, doctor, ..] = section.blocks::<5>("sh");
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("vpn.json"), config).unwrap();
    let world = World::new().await;
    let server = &world.server;
    server.ip("route del ::/0").unwrap();
    server.set("net/ipv6/conf/eth0/accept_ra", "1").unwrap();
    let is_link_local =
        |address: &IpAddr| matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    let router = addresses(&world.internet, "h1")
        .into_iter()
        .find(is_link_local);
    let header = Header {
        hop_limit: 255,
        ..Header::new(router.unwrap(), address("ff02::1"), ICMPV6)
    };
    // RFC 4861 §4.2: hop limit and flags, half an hour as a router, nothing of timers.
    let advertisement = [&[64, 0, 7, 8][..], &[0; 8]].concat();
    Injector::new(&world.internet, "h1").send(&icmp(header, 134, 0, &advertisement));
    let has_route = || !server.show("-6 route show default").unwrap().is_empty();
    wait("the route", has_route).await;

    let at_server = Shell::new(server, folder.path());
    let said = lines(&at_server.run(doctor).stdout);
    let done = at_server.run(&commands(&said).join("\n"));
    assert!(done.status.success(), "{done:?}");
    assert!(has_route());
    assert_nothing_missing(&at_server.run(doctor));
}
