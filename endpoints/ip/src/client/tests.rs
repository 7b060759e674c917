//! The tunnel on a host in memory, and what it makes of that host.

mod in_process;

use std::path::Path;

use pasque::connection::CloseReason;
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::host::fake::{FakeHost, uplink};
use super::*;
use crate::device::MemoryDevice;
use crate::link::{HostRoute, LinkAddress};

const SERVER: &str = "192.0.2.1";

fn prefixes(texts: &[&str]) -> Vec<IpNetwork> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn state(addresses: &[&str], routes: &[&str], mtu: u32) -> TunnelState {
    TunnelState {
        addresses: prefixes(addresses),
        routes: Some(Routes::from_config(&prefixes(routes))),
        mtu,
        path_mtu: mtu,
        failure: None,
    }
}

/// A tunnel on a host in memory whose server says what the test says.
struct Test {
    tunnel: IpTunnel,
    host: FakeHost,
    states: watch::Sender<TunnelState>,
    end: Option<oneshot::Sender<Result<(), ClientError>>>,
    _folder: TempDir,
}

impl Test {
    fn new(options: IpTunnelOptions) -> Self {
        let folder = TempDir::new().unwrap();
        let host = FakeHost::default();
        let (states, receiver) = watch::channel(TunnelState::default());
        let (end, ended) = oneshot::channel();
        let (device, _stack) = MemoryDevice::pair(1500);
        let mut tunnel = parts(options, &host, folder.path(), Arc::new(device));
        tunnel.running = Some(Running {
            servers: vec![SERVER.parse().unwrap()],
            states: receiver,
            ended: Box::pin(async { ended.await.unwrap() }),
            deadline: Instant::now() + tunnel.options.address_timeout,
        });
        Self {
            tunnel,
            host,
            states,
            end: Some(end),
            _folder: folder,
        }
    }

    fn routing(routes: RouteChoice) -> Self {
        Self::new(IpTunnelOptions {
            routes,
            ..IpTunnelOptions::default()
        })
    }

    /// Lets the server say something, and returns the lines that come of it.
    async fn says(&mut self, state: TunnelState) -> Vec<String> {
        self.states.send_replace(state);
        self.lines().await
    }

    async fn lines(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        let quiet = Duration::from_secs(1);
        while let Ok(event) = tokio::time::timeout(quiet, self.tunnel.next_event()).await {
            lines.push(event.unwrap().to_string());
        }
        lines
    }

    async fn error(&mut self) -> IpTunnelError {
        let minute = Duration::from_secs(60);
        let event = tokio::time::timeout(minute, self.tunnel.next_event()).await;
        event.expect("an end in time").unwrap_err()
    }
}

fn parts(
    options: IpTunnelOptions,
    host: &FakeHost,
    folder: &Path,
    device: Arc<dyn PacketDevice>,
) -> IpTunnel {
    let ledger = Ledger::at(folder.join("psq-client"), 7);
    let bypass = Bypass::new(ledger, "psq0");
    IpTunnel::with_parts(
        "psq0".into(),
        options,
        Box::new(move || device.clone()),
        Box::new(host.clone()),
        bypass,
        true,
    )
}

fn default_route() -> RouteChoice {
    RouteChoice::Offered {
        accept: Vec::new(),
        default_route: true,
    }
}

#[tokio::test(start_paused = true)]
async fn the_interface_is_what_the_server_says() {
    let mut test = Test::new(IpTunnelOptions::default());
    let both = ["10.76.0.2/32", "fd76::2/128"];
    let lines = test.says(state(&both, &["10.76.0.0/24"], 1400)).await;
    assert_eq!(
        lines,
        [
            "up: 10.76.0.2/32 fd76::2/128 mtu 1400",
            "routes 10.76.0.0/24"
        ]
    );
    let expected = LinkState {
        mtu: 1400,
        addresses: prefixes(&both).into_iter().map(LinkAddress::new).collect(),
        routes: prefixes(&["10.76.0.0/24"]),
    };
    assert_eq!(test.host.interface(), expected);
    let lines = test.says(state(&both, &["10.76.0.0/24"], 1380)).await;
    assert_eq!(lines, ["mtu 1380"]);
    assert_eq!(test.host.interface().mtu, 1380);
}

#[tokio::test(start_paused = true)]
async fn ip_19_a_withdrawn_address_leaves_the_interface() {
    let mut test = Test::new(IpTunnelOptions::default());
    test.says(state(
        &["10.76.0.2/32", "10.76.0.3/32"],
        &["10.76.0.0/24"],
        1400,
    ))
    .await;
    let lines = test
        .says(state(&["10.76.0.3/32"], &["10.76.0.0/24"], 1400))
        .await;
    assert_eq!(lines, ["addresses 10.76.0.3/32"]);
    let lines = test.says(state(&[], &["10.76.0.0/24"], 1400)).await;
    // Routes without an address would lead nowhere.
    assert_eq!(lines, ["addresses none", "routes none"]);
    assert_eq!(test.host.interface().addresses, []);
    assert_eq!(test.host.interface().routes, []);
}

#[tokio::test(start_paused = true)]
async fn ip_34_a_withdrawn_route_leaves_the_host() {
    let mut test = Test::routing(default_route());
    test.says(state(&["10.76.0.2/32"], &["0.0.0.0/0"], 1400))
        .await;
    assert_eq!(
        test.host.interface().routes,
        prefixes(&["0.0.0.0/1", "128.0.0.0/1"])
    );
    let lines = test
        .says(state(&["10.76.0.2/32"], &["198.51.100.0/24"], 1400))
        .await;
    assert_eq!(
        lines,
        [
            "routes 198.51.100.0/24",
            "the server offers no default route"
        ]
    );
    assert_eq!(test.host.interface().routes, prefixes(&["198.51.100.0/24"]));
}

#[tokio::test(start_paused = true)]
async fn a_default_route_is_missing_once_the_server_has_said_so() {
    let mut test = Test::routing(default_route());
    let mut silent = state(&["10.76.0.2/32"], &[], 1400);
    silent.routes = None;
    assert_eq!(test.says(silent).await, ["up: 10.76.0.2/32 mtu 1400"]);
    let lines = test.says(state(&["10.76.0.2/32"], &["::/0"], 1400)).await;
    assert_eq!(lines, ["the server offers no default route for IPv4"]);
}

#[tokio::test(start_paused = true)]
async fn ip_68_the_server_gets_its_route_before_any_that_covers_it() {
    let mut test = Test::routing(default_route());
    test.says(state(&["10.76.0.2/32"], &["0.0.0.0/0"], 1400))
        .await;
    assert_eq!(
        test.host.log(),
        [
            "find 192.0.2.1",
            "seek 192.0.2.1",
            "add 192.0.2.1",
            "apply 0.0.0.0/1 128.0.0.0/1"
        ]
    );
    // And keeps it for as long as one does.
    test.says(state(&["10.76.0.2/32"], &["192.0.2.0/24"], 1400))
        .await;
    assert_eq!(test.host.log(), ["apply 192.0.2.0/24"]);
    test.says(state(&["10.76.0.2/32"], &["198.51.100.0/24"], 1400))
        .await;
    assert_eq!(
        test.host.log(),
        ["apply 198.51.100.0/24", "remove 192.0.2.1"]
    );
}

#[tokio::test(start_paused = true)]
async fn ip_68_all_addresses_of_the_server_stay_outside_whichever_is_in_use() {
    let other = "2001:db8::1";
    let mut test = Test::routing(default_route());
    let running = test.tunnel.running.as_mut().unwrap();
    running.servers.push(other.parse().unwrap());
    let both = ["10.76.0.2/32", "fd76::2/128"];
    test.says(state(&both, &["0.0.0.0/0", "::/0"], 1400)).await;
    assert!(test.host.has(&uplink(SERVER)) && test.host.has(&uplink(other)));
    // Another network, which has no IPv4.
    test.host.move_behind("172.16.0.1");
    test.host.lack(Families {
        v4: true,
        v6: false,
    });
    test.tunnel.renew_way_to_server().await.unwrap();
    let moved = HostRoute {
        gateway: Some("172.16.0.1".parse().unwrap()),
        ..uplink(other)
    };
    assert!(test.host.has(&moved));
    // Only what the routes cover is held.
    test.says(state(&both, &["198.51.100.0/24"], 1400)).await;
    assert!(!test.host.has(&moved));
}

#[tokio::test(start_paused = true)]
async fn ip_68_without_a_way_to_the_server_nothing_covers_it() {
    let mut test = Test::routing(default_route());
    test.host.refuse("add", io::ErrorKind::PermissionDenied);
    test.states
        .send_replace(state(&["10.76.0.2/32"], &["0.0.0.0/0"], 1400));
    assert!(matches!(test.error().await, IpTunnelError::Bypass(_)));
    assert_eq!(test.host.interface(), LinkState::default());
}

#[tokio::test(start_paused = true)]
async fn ip_72_the_end_puts_everything_back_in_order() {
    let mut test = Test::routing(default_route());
    test.says(state(&["10.76.0.2/32"], &["0.0.0.0/0"], 1400))
        .await;
    assert!(test.host.has(&uplink(SERVER)));
    test.host.log();
    test.tunnel.close().await.unwrap();
    assert_eq!(test.host.log(), ["apply ", "remove 192.0.2.1"]);
    assert!(!test.host.has(&uplink(SERVER)));
}

#[tokio::test(start_paused = true)]
async fn an_end_before_anything_happened_changes_nothing() {
    let test = Test::new(IpTunnelOptions::default());
    test.tunnel.close().await.unwrap();
    assert_eq!(test.host.log(), ["apply "]);
    assert_eq!(test.host.interface(), LinkState::default());
}

#[tokio::test(start_paused = true)]
async fn ip_68_the_servers_own_address_is_not_taken_from_it() {
    let mut test = Test::new(IpTunnelOptions::default());
    test.states
        .send_replace(state(&["192.0.2.1/32"], &[], 1400));
    let error = test.error().await;
    assert!(matches!(error, IpTunnelError::WrongAddress(_)), "{error}");
    assert_eq!(test.host.log(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_assigns_nothing_is_given_up() {
    let mut test = Test::new(IpTunnelOptions::default());
    let started = Instant::now();
    // Routes and an MTU are no address.
    test.states
        .send_replace(state(&[], &["10.76.0.0/24"], 1400));
    let error = test.error().await;
    assert_eq!(started.elapsed(), Duration::from_secs(10));
    assert_eq!(
        error.to_string(),
        "the server assigned no address within 10 seconds"
    );
}

#[tokio::test(start_paused = true)]
async fn ip_21_an_assignment_ends_the_waiting_for_good() {
    let mut test = Test::new(IpTunnelOptions::default());
    test.says(state(&["10.76.0.2/32"], &[], 1400)).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(test.lines().await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn ip_28_the_flows_reason_is_told_before_the_streams_code() {
    let refused = TunnelState {
        failure: Some(TunnelFailure::Refused),
        ..TunnelState::default()
    };
    let mut test = Test::new(IpTunnelOptions::default());
    test.states.send_replace(refused.clone());
    let error = test.error().await;
    assert!(
        matches!(error, IpTunnelError::Failed(TunnelFailure::Refused)),
        "{error}"
    );

    // The reason and the code arrive together, and somebody has seen the reason.
    let mut test = Test::new(IpTunnelOptions::default());
    test.states.send_replace(refused.clone());
    test.tunnel
        .running
        .as_mut()
        .unwrap()
        .states
        .mark_unchanged();
    test.end
        .take()
        .unwrap()
        .send(Err(ClientError::Reset(0x10c)))
        .unwrap();
    let error = test.error().await;
    assert!(
        matches!(error, IpTunnelError::Failed(TunnelFailure::Refused)),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_end_says_whose_it_was() {
    for (end, expected) in [
        (Ok(()), "the server ended the tunnel"),
        (
            Err(ClientError::Closed(CloseReason::TimedOut)),
            "the connection ended: the server stopped answering",
        ),
    ] {
        let mut test = Test::new(IpTunnelOptions::default());
        test.says(state(&["10.76.0.2/32"], &[], 1400)).await;
        // The flow goes first, and with it what tells of new states.
        test.states = watch::channel(TunnelState::default()).0;
        test.end.take().unwrap().send(end).unwrap();
        assert_eq!(test.error().await.to_string(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn ip_61_a_reset_of_a_tunnel_that_its_path_does_not_carry_is_told_as_that() {
    let both = ["10.76.0.2/32", "fd76::2/128"];
    let narrow = "the path carries IP packets of 1199 bytes, but IPv6 needs 1280: its MTU is too small \
        for a tunnel with IPv6";
    let aborted = "the server aborted the tunnel, as servers do whose path to the client carries less \
        than the 1280 bytes that IPv6 needs";
    for (addresses, path_mtu, code, expected, is_left_with_ipv4) in [
        (&both[..], 1199, 0x10c, narrow, true),
        (&both[..], 1199, 0x102, narrow, true),
        (&both[1..], 1199, 0x10c, narrow, false),
        // Nothing long was sent that could have been lost.
        (&both[..], 1280, 0x10c, aborted, true),
        (&both[1..], 1280, 0x10c, aborted, false),
        // There is no IPv6, or another reason.
        (
            &both[..1],
            1199,
            0x10c,
            "the server reset the stream (code 0x10c)",
            false,
        ),
        (
            &both[..],
            1280,
            0x102,
            "the server reset the stream (code 0x102)",
            false,
        ),
    ] {
        let mut test = Test::new(IpTunnelOptions::default());
        let mtu = state(addresses, &[], 1280);
        test.says(TunnelState { path_mtu, ..mtu }).await;
        // The server's flow was faster, and its stream tells no more than a code.
        let end = test.end.take().unwrap();
        end.send(Err(ClientError::Reset(code))).unwrap();
        let error = test.error().await;
        assert_eq!(error.to_string(), expected);
        let is_left = test.tunnel.is_left_with_ipv4(&error);
        assert_eq!(is_left, is_left_with_ipv4, "{addresses:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_route_in_the_way_is_told_once_and_tried_again() {
    let mut test = Test::new(IpTunnelOptions::default());
    test.host.refuse("apply", io::ErrorKind::AlreadyExists);
    let lines = test
        .says(state(&["10.76.0.2/32"], &["10.76.0.0/24"], 1400))
        .await;
    assert_eq!(lines[0], "in the way");
    test.host.log();
    tokio::time::sleep(RETRY).await;
    assert_eq!(test.lines().await, [""; 0]);
    assert_eq!(test.host.log(), ["apply 10.76.0.0/24"]);
    test.host.refuse_nothing();
    tokio::time::sleep(RETRY).await;
    assert_eq!(test.lines().await, [""; 0]);
    assert_eq!(test.host.interface().routes, prefixes(&["10.76.0.0/24"]));
    test.host.log();
    tokio::time::sleep(RETRY * 3).await;
    assert_eq!(test.lines().await, [""; 0]);
    assert_eq!(test.host.log(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn an_interface_that_is_gone_may_have_gone_with_its_tunnel() {
    let gone = || async {
        let test = Test::new(IpTunnelOptions::default());
        test.host.remove_interface();
        test.states
            .send_replace(state(&["10.76.0.2/32"], &[], 1400));
        test
    };
    let mut test = gone().await;
    assert_eq!(test.error().await.to_string(), "interface psq0 is gone");

    let mut test = gone().await;
    let end = test.end.take().unwrap();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(10)).await;
        end.send(Ok(())).unwrap();
    });
    assert_eq!(
        test.error().await.to_string(),
        "the server ended the tunnel"
    );
}

#[tokio::test(start_paused = true)]
async fn what_the_host_refuses_otherwise_is_the_end() {
    let mut test = Test::new(IpTunnelOptions::default());
    test.host.refuse("apply", io::ErrorKind::PermissionDenied);
    test.states
        .send_replace(state(&["10.76.0.2/32"], &[], 1400));
    assert_eq!(test.error().await.to_string(), "interface psq0: in the way");
}

#[tokio::test(start_paused = true)]
async fn a_host_without_ipv6_uses_the_rest() {
    let mut test = Test::routing(RouteChoice::Exactly(prefixes(&["192.0.2.0/24", "::/0"])));
    test.tunnel.has_v6 = false;
    let lines = test
        .says(state(&["10.76.0.2/32", "fd76::2/128"], &[], 1400))
        .await;
    assert_eq!(lines, ["up: 10.76.0.2/32 mtu 1400", "routes 192.0.2.0/24"]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_advertises_too_much_is_told_so() {
    let mut test = Test::new(IpTunnelOptions::default());
    let routes: Vec<_> = (0..=RouteChoice::MAX)
        .map(|n| format!("10.{}.{}.0/24", n >> 7, 2 * (n & 127)))
        .collect();
    let routes: Vec<_> = routes.iter().map(String::as_str).collect();
    test.states
        .send_replace(state(&["10.76.0.2/32"], &routes, 1400));
    let error = test.error().await;
    assert!(
        matches!(error, IpTunnelError::Routes(TooManyRoutes)),
        "{error}"
    );
}
