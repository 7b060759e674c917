//! The tunnel and a server of ours, with hosts in memory at both ends.

use ipnetwork::IpNetwork;
use pasque::template::{PathTemplate, UriTemplate};
use pasque::testing::TestServer;
use pasque::{Mount, Packet, StartContext, endpoint_types};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;
use crate::IpEndpoint;
use crate::device::MemoryPeer;
use crate::packet::UDP;
use crate::packet::testing::{readdressed, v4};
use crate::scope::{IpProto, Target, tunnel_request};

const TARGET: &str = "198.51.100.2";

/// A server whose endpoint has these keys beside `ifprefix`, and the hosts behind its tunnels.
async fn server(keys: &str) -> (TestServer, UnboundedReceiver<MemoryPeer>) {
    let (made, hosts) = unbounded_channel();
    let json = format!(r#"{{ "ifprefix": "tun-s", "mtu_probe": false, {keys} }}"#);
    let endpoint: IpEndpoint = serde_json::from_str(&json).unwrap();
    let endpoint = endpoint.with_devices(move |_: &[IpNetwork]| {
        let (device, host) = MemoryDevice::pair(1500);
        made.send(host).unwrap();
        Ok(Arc::new(device))
    });
    let types = endpoint_types().unwrap();
    let kind = types.iter().find(|kind| kind.tag == "IpEndpoint").unwrap();
    let template = PathTemplate::from_prefix("ip", kind.variables).unwrap();
    let mount = Mount::new(kind, vec![template], Box::new(endpoint));
    (
        TestServer::with_mounts(vec![mount], StartContext::new(".")).await,
        hosts,
    )
}

/// A tunnel on a host in memory, not yet open.
struct Client {
    tunnel: IpTunnel,
    host: FakeHost,
    /// What the IP stack of that host sends and gets.
    stack: MemoryPeer,
    _folder: TempDir,
}

impl Client {
    fn new(options: IpTunnelOptions) -> Self {
        let folder = TempDir::new().unwrap();
        let host = FakeHost::default();
        let (device, stack) = MemoryDevice::pair(1500);
        let tunnel = parts(options, &host, folder.path(), Arc::new(device));
        Self {
            tunnel,
            host,
            stack,
            _folder: folder,
        }
    }

    async fn open(&mut self, server: &TestServer) -> Result<(), IpTunnelError> {
        self.open_to(server, &Target::Any).await
    }

    async fn open_to(&mut self, server: &TestServer, target: &Target) -> Result<(), IpTunnelError> {
        self.tunnel
            .open(&server.connection(), request(target))
            .await
    }

    /// What becomes of the tunnel next.
    async fn next(&mut self) -> Result<String, IpTunnelError> {
        let event = tokio::time::timeout(Duration::from_secs(5), self.tunnel.next_event()).await;
        event
            .expect("an event in time")
            .map(|event| event.to_string())
    }
}

fn request(target: &Target) -> Request {
    let template = UriTemplate::parse("https://localhost/ip/{target}/{ipproto}/", &[]).unwrap();
    tunnel_request(&template, target, IpProto::ANY).unwrap()
}

const V4: &str = r#""addresspools": ["10.76.0.1/24"], "routes": ["198.51.100.0/24"]"#;

fn udp(source: &str, destination: &str) -> Vec<u8> {
    let body = [0x12, 0x34, 0, 53, 0, 8, 0, 0];
    readdressed(v4(UDP, 0x4000, &[], &body), source, destination)
}

#[tokio::test]
async fn packets_go_both_ways_between_the_two_hosts() {
    let (server, mut hosts) = server(V4).await;
    let mut client = Client::new(IpTunnelOptions::default());
    client.open(&server).await.unwrap();
    let up = client.next().await.unwrap();
    assert!(up.starts_with("up: 10.76.0.2/32 mtu "), "{up}");
    assert_eq!(client.next().await.unwrap(), "routes 198.51.100.0/24");
    let interface = client.host.interface();
    assert_eq!(
        interface.addresses,
        [LinkAddress::new("10.76.0.2/32".parse().unwrap())]
    );
    assert_eq!(interface.routes, prefixes(&["198.51.100.0/24"]));

    let mut behind = hosts.recv().await.unwrap();
    let there = udp("10.76.0.2", TARGET);
    client.stack.send(Packet::copy_from(&there)).unwrap();
    assert_eq!(&behind.recv().await.unwrap()[..], there);
    let back = udp(TARGET, "10.76.0.2");
    behind.send(Packet::copy_from(&back)).unwrap();
    assert_eq!(&client.stack.recv().await.unwrap()[..], back);
}

#[tokio::test]
async fn ip_12_a_server_without_a_free_address_is_told_as_it_is() {
    let (server, _hosts) = server(r#""addresspools": ["10.76.0.1/30"]"#).await;
    let mut served = [(); 2].map(|()| Client::new(IpTunnelOptions::default()));
    for client in &mut served {
        client.open(&server).await.unwrap();
        client.next().await.unwrap();
    }
    let mut next = Client::new(IpTunnelOptions::default());
    let error = next.open(&server).await.unwrap_err();
    assert!(
        matches!(&error, IpTunnelError::NotOpened(ClientError::Refused { status, .. }) if status.as_u16() == 503),
        "{error}"
    );
    assert_eq!(next.host.log(), [""; 0]);
}

#[tokio::test]
async fn ip_11_a_server_without_anything_in_the_scope_is_told_as_it_is() {
    let (server, _hosts) = server(V4).await;
    let mut client = Client::new(IpTunnelOptions::default());
    let target = Target::Prefix("2001:db8::/32".parse().unwrap());
    let error = client.open_to(&server, &target).await.unwrap_err();
    let text = "the server answered 403 Forbidden (pasque: http_request_denied)";
    assert_eq!(error.to_string(), text);
}

#[tokio::test]
async fn an_interface_that_is_removed_ends_the_tunnel() {
    let (server, _hosts) = server(V4).await;
    let mut client = Client::new(IpTunnelOptions::default());
    client.open(&server).await.unwrap();
    client.next().await.unwrap();
    client.next().await.unwrap();
    let (_, other) = MemoryDevice::pair(1500);
    drop(std::mem::replace(&mut client.stack, other));
    let error = client.next().await.unwrap_err();
    assert!(
        matches!(error, IpTunnelError::Failed(TunnelFailure::Device(_))),
        "{error}"
    );
}

#[tokio::test]
async fn a_server_that_gives_the_interface_up_ends_the_tunnel() {
    let (server, mut hosts) = server(V4).await;
    let mut client = Client::new(IpTunnelOptions::default());
    client.open(&server).await.unwrap();
    client.next().await.unwrap();
    client.next().await.unwrap();
    drop(hosts.recv().await.unwrap());
    let error = client.next().await.unwrap_err();
    assert!(matches!(error, IpTunnelError::Lost(_)), "{error}");
}

#[tokio::test]
async fn ip_61_another_tunnel_for_ipv4_takes_the_interface_over() {
    let keys = r#""addresspools": ["10.76.0.1/24", "fd76::1/64"],
        "routes": ["198.51.100.0/24", "2001:db8::/32"]"#;
    let (server, mut hosts) = server(keys).await;
    let mut client = Client::new(IpTunnelOptions::default());
    client.open(&server).await.unwrap();
    let up = client.next().await.unwrap();
    assert!(up.starts_with("up: 10.76.0.2/32 fd76::2/128 mtu "), "{up}");
    while client.host.interface().routes.len() < 2 {
        client.next().await.unwrap();
    }
    // For one key, the address that was given back last comes first: that is the neighbour's.
    let mut neighbour = Client::new(IpTunnelOptions::default());
    neighbour.open(&server).await.unwrap();
    neighbour.next().await.unwrap();
    drop(hosts.recv().await.unwrap());
    while client.next().await.is_ok() {}
    drop(hosts.recv().await.unwrap());
    while neighbour.next().await.is_ok() {}
    client.host.log();

    let all_of_ipv4 = Target::Prefix("0.0.0.0/0".parse().unwrap());
    let connection = server.connection();
    let reopened = client
        .tunnel
        .reopen_with_ipv4(&connection, request(&all_of_ipv4));
    reopened.await.unwrap();
    let up = client.next().await.unwrap();
    assert!(up.starts_with("up: 10.76.0."), "{up}");
    let same = [LinkAddress::new("10.76.0.2/32".parse().unwrap())];
    while client.host.interface().addresses != same {
        client.next().await.unwrap();
    }
    while client.tunnel.events.pop_front().is_some() {}
    assert_eq!(
        client.host.interface().routes,
        prefixes(&["198.51.100.0/24"])
    );
    // What goes there went nowhere else in the meantime.
    let log = client.host.log();
    assert!(
        log.iter().all(|call| call == "apply 198.51.100.0/24"),
        "{log:?}"
    );

    let mut behind = hosts.recv().await.unwrap();
    let there = udp("10.76.0.2", TARGET);
    client.stack.send(Packet::copy_from(&there)).unwrap();
    assert_eq!(&behind.recv().await.unwrap()[..], there);
}

/// Opens a client's tunnel and waits until its interface is complete.
async fn complete(client: &mut Client, server: &TestServer) {
    client.open(server).await.unwrap();
    while client.host.interface().routes.len() < 2 {
        client.next().await.unwrap();
    }
    while client.tunnel.events.pop_front().is_some() {}
}

#[tokio::test]
async fn another_servers_tunnel_takes_the_interface_over() {
    let keys = r#""addresspools": ["10.76.0.1/24", "fd76::1/64"],
        "routes": ["198.51.100.0/24", "2001:db8::/32"]"#;
    let routes = prefixes(&["198.51.100.0/24", "2001:db8::/32"]);
    let (first, mut hosts) = server(keys).await;
    // So that the client's address is not the one that it would get by itself.
    let mut neighbour = Client::new(IpTunnelOptions::default());
    complete(&mut neighbour, &first).await;
    let _neighbours = hosts.recv().await.unwrap();
    let mut client = Client::new(IpTunnelOptions::default());
    complete(&mut client, &first).await;
    let before = client.host.interface().addresses;
    assert_eq!(before[0].local, "10.76.0.3/32".parse().unwrap());
    drop(hosts.recv().await.unwrap());
    while client.next().await.is_ok() {}
    client.host.log();

    // A server that does not serve yet changes nothing, and costs nothing that is known.
    let (refusing, _hosts) = server(r#""addresspools": ["10.77.0.1/30"]"#).await;
    let elsewhere = Target::Prefix("192.0.2.0/24".parse().unwrap());
    for _ in 0..2 {
        let reopened = client
            .tunnel
            .reopen(&refusing.connection(), request(&elsewhere))
            .await;
        assert!(reopened.is_err());
    }
    assert_eq!(client.host.log(), [""; 0]);

    let (second, mut hosts) = server(keys).await;
    let connection = second.connection();
    let reopened = client.tunnel.reopen(&connection, request(&Target::Any));
    reopened.await.unwrap();
    let up = client.next().await.unwrap();
    assert!(up.starts_with("up: 10.76.0.3/32 fd76::3/128 mtu "), "{up}");
    let mut behind = hosts.recv().await.unwrap();
    let there = udp("10.76.0.3", TARGET);
    client.stack.send(Packet::copy_from(&there)).unwrap();
    assert_eq!(&behind.recv().await.unwrap()[..], there);

    // Where the address is somebody else's, another takes its place.
    drop(behind);
    while client.next().await.is_ok() {}
    let (third, _hosts) = server(keys).await;
    let mut others = Vec::new();
    for _ in 0..2 {
        let mut other = Client::new(IpTunnelOptions::default());
        complete(&mut other, &third).await;
        others.push(other);
    }
    let connection = third.connection();
    let reopened = client.tunnel.reopen(&connection, request(&Target::Any));
    reopened.await.unwrap();
    let up = client.next().await.unwrap();
    assert!(up.starts_with("up: 10.76.0.4/32 fd76::4/128 mtu "), "{up}");
    let local: Vec<_> = client.host.interface().addresses;
    assert_eq!(local[0].local, "10.76.0.4/32".parse().unwrap());
    // What goes there went nowhere else at any time.
    let log = client.host.log();
    let all = "apply 198.51.100.0/24 2001:db8::/32";
    assert!(log.iter().all(|call| call == all), "{log:?}");
    assert_eq!(client.host.interface().routes, routes);
}

#[tokio::test]
async fn a_tunnel_opens_once_and_only_for_what_the_host_can_do() {
    let (server, _hosts) = server(V4).await;
    let mut client = Client::new(IpTunnelOptions {
        families: Families {
            v4: false,
            v6: true,
        },
        ..IpTunnelOptions::default()
    });
    client.tunnel.has_v6 = false;
    let error = client.open(&server).await.unwrap_err();
    assert!(matches!(error, IpTunnelError::NoIpv6), "{error}");
    let error = client.next().await.unwrap_err();
    assert!(matches!(error, IpTunnelError::Ended), "{error}");
}
