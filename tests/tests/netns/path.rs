//! Paths that carry less than Ethernet does, from the start or all at once.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use pasque_tests::netns::Network;

use crate::lab::{Client, FULL_MTU, Lab, Mode, Setup, addresses, wait};
use crate::probe::{Answer, Ping};
use crate::transfer::{Transfer, tcp};

/// Within this time the traffic of a tunnel goes on when its path has become narrower.
const RECOVERY: Duration = Duration::from_secs(10);

/// How the client says that it has lost its tunnel.
const LOST: i32 = 5;

/// IP, UDP and what [`FULL_MTU`] is less than the UDP payload.
const OVERHEAD: u32 = 20 + 8 + (1452 - FULL_MTU);

/// How a path becomes narrower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Narrowing {
    /// The router says so, with Packet Too Big.
    Told,
    /// It drops, and says nothing.
    Silent,
}

/// Lets nothing longer than `mtu` pass the router, in either direction.
fn narrow(lab: &Lab, mtu: u32, how: Narrowing) {
    let router = &lab.network.router;
    match how {
        Narrowing::Told => {
            // Routes of their own, so that the router's links still carry what comes in.
            let routes = format!(
                "route add 10.9.0.2/32 dev s0 mtu {mtu}\nroute add 10.9.1.2/32 dev c0 mtu {mtu}\n"
            );
            router.ip(&routes).unwrap();
        }
        Narrowing::Silent => {
            let rules = format!(
                "table inet narrow {{
                    chain forward {{
                        type filter hook forward priority 0
                        meta length > {mtu} drop
                    }}
                }}"
            );
            router.nft(&rules).unwrap();
        }
    }
}

/// Lowers the MTU of the path to `mtu` in the middle of a transfer each way between `client` and the
/// target, whose TCP then goes on.
async fn lower(lab: &Lab, client: &Client, here: IpAddr, mtu: u32, how: Narrowing) {
    let there = Network::target_like(here);
    let up = Transfer::start(lab.place(0), lab.target(), there, None);
    let down = Transfer::start(lab.target(), lab.place(0), here, None);
    up.wait_for(1_000_000);
    down.wait_for(1_000_000);
    narrow(lab, mtu, how);
    let start = Instant::now();
    // More than was on its way.
    up.wait_for(8_000_000);
    down.wait_for(8_000_000);
    let took = start.elapsed();
    assert!(took < RECOVERY, "{here}, {mtu}, {how:?}: {took:?}");
    up.finish();
    down.finish();
    let expected = mtu - OVERHEAD;
    // Discovery need not find the last byte; what it has found is what passes.
    let found = client.mtu(lab.place(0));
    assert!(
        (expected - 40..=expected).contains(&found),
        "{found} of {expected}"
    );
    wait("the server's MTU", || lab.server_mtu(client) == found).await;
    let answer = Ping::to(there).whole(found as usize).send(lab.place(0));
    assert_eq!(answer, Answer::Reply { from: there });
    let answer = Ping::to(here).whole(found as usize).send(lab.target());
    assert_eq!(answer, Answer::Reply { from: here });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ip_58_61_a_path_that_becomes_narrow_and_says_so_goes_on_carrying_tcp() {
    let lab = Setup::new(Mode::AUTO_CLIENT)
        .ipv4_only()
        .single_packets()
        .start()
        .await;
    let client = lab.client(0, &[]).await;
    lower(
        &lab,
        &client,
        client.v4.unwrap().into(),
        1280,
        Narrowing::Told,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ip_58_61_a_path_that_becomes_narrow_in_silence_goes_on_carrying_tcp() {
    let lab = Setup::new(Mode::AUTO_CLIENT)
        .ipv4_only()
        .single_packets()
        .start()
        .await;
    let client = lab.client(0, &[]).await;
    lower(
        &lab,
        &client,
        client.v4.unwrap().into(),
        1280,
        Narrowing::Silent,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ip_58_ipv6_goes_on_where_the_narrower_path_carries_it() {
    let lab = Setup::new(Mode::AUTO_SHARED).single_packets().start().await;
    let client = lab.client(0, &[]).await;
    lower(
        &lab,
        &client,
        client.v6.unwrap().into(),
        1400,
        Narrowing::Silent,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ip_60_61_a_path_that_carries_no_ipv6_has_no_tunnel_with_ipv6() {
    let lab = Setup::new(Mode::AUTO_CLIENT).single_packets().start().await;
    narrow(&lab, 1250, Narrowing::Silent);
    let start = Instant::now();
    let mut process = lab.launch(0, &["--target", "::/0", "--no-reconnect"]);
    let status = process.exit().await.unwrap();
    assert!(start.elapsed() < RECOVERY, "{:?}", start.elapsed());
    assert_eq!(status.code(), Some(LOST), "{}", process.output());
    // Its last words name the cause and the number that was missed.
    let said = process.output();
    let reason = said.lines().last().unwrap_or_default();
    assert!(reason.contains("MTU") && reason.contains("1280"), "{said}");
}

/// A tunnel with addresses of both versions on a path that becomes too narrow for IPv6 in the middle of
/// transfers over IPv4, to the target or from it or both, which go on in a tunnel for IPv4 alone.
async fn lose_ipv6(mode: Mode, ways: &[Way]) {
    let lab = Setup::new(mode).single_packets().start().await;
    let mut client = lab.client(0, &[]).await;
    let here: IpAddr = client.v4.unwrap().into();
    let there = Network::TARGET.into();
    let start_one = |way: &Way| match way {
        Way::Up => Transfer::start(lab.place(0), lab.target(), there, None),
        Way::Down => Transfer::start(lab.target(), lab.place(0), here, None),
    };
    let transfers: Vec<_> = ways.iter().map(start_one).collect();
    let go_on = |bytes| {
        let start = Instant::now();
        for transfer in &transfers {
            transfer.wait_for(bytes);
        }
        let took = start.elapsed();
        assert!(took < RECOVERY, "{mode:?}, {ways:?}: {took:?}");
    };
    go_on(1_000_000);
    narrow(&lab, 1280, Narrowing::Silent);
    // More than was on its way.
    go_on(8_000_000);
    let line = client.process.line("IPv4").await.unwrap();
    // Who sends nothing long may hear of it from the other end, which does not say how short it is.
    let knows_its_path = ways.contains(&Way::Up);
    let most = 1280 - OVERHEAD;
    let said: Vec<u32> = line
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|number| number.parse().ok())
        .collect();
    let is_found = |mtu: &u32| (most - 40..=most).contains(mtu);
    assert!(
        said.contains(&1280) && (said.iter().any(is_found) || !knows_its_path),
        "what IPv6 needs and what there is: {line}"
    );
    let same_address = format!("{} up: {here}/32 mtu ", client.interface);
    client.process.line(&same_address).await.unwrap();
    go_on(8_000_000);
    transfers.into_iter().for_each(Transfer::finish);

    // It is the same interface, with an MTU that IPv6 could not have.
    assert_eq!(addresses(lab.place(0), &client.interface), [here]);
    if knows_its_path {
        let mtu = client.mtu(lab.place(0));
        assert!(is_found(&mtu), "{mtu}");
        let answer = Ping::to(there).whole(mtu as usize).send(lab.place(0));
        assert_eq!(answer, Answer::Reply { from: there });
    }
    client.leave().await;
}

/// Where a transfer goes, seen from the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Up,
    Down,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ip_61_a_tunnel_goes_on_with_ipv4_when_its_path_carries_no_ipv6_any_more() {
    lose_ipv6(Mode::AUTO_CLIENT, &[Way::Up, Way::Down]).await;
    lose_ipv6(Mode::PLAIN_SHARED, &[Way::Up]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ip_61_a_download_goes_on_with_ipv4_when_its_path_carries_no_ipv6_any_more() {
    lose_ipv6(Mode::PLAIN_CLIENT, &[Way::Down]).await;
}

/// What the target finds out about the path to `here`, by what it is told about what is too long.
fn path_mtu(lab: &Lab, here: IpAddr) -> u32 {
    let mut len = 1500;
    loop {
        match Ping::to(here).whole(len as usize).send(lab.target()) {
            Answer::Reply { .. } => return len,
            // First of the server's interface, then of the tunnel.
            Answer::Error {
                kind: 3,
                code: 4,
                mtu,
                ..
            } if mtu < len => len = mtu,
            other => panic!("{len} bytes: {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ip_61_a_path_that_carries_no_ipv6_carries_ipv4_with_an_mtu_of_its_own() {
    for mode in [Mode::AUTO_CLIENT, Mode::AUTO_SHARED] {
        let lab = Setup::new(mode).ipv4_only().single_packets().start().await;
        narrow(&lab, 1250, Narrowing::Silent);
        let client = lab.open(0, &[]).await;
        let here: IpAddr = client.v4.unwrap().into();
        let there = Network::TARGET.into();
        let most = 1250 - OVERHEAD;
        wait("an MTU of the tunnel", || {
            // A shared interface is for IPv6 as well: what is too long is found out behind it.
            let mtu = client.mtu(lab.place(0));
            let far_mtu = lab.server_mtu(&client);
            (most - 40..=most).contains(&mtu)
                && ((mtu..=most).contains(&far_mtu) || mode.interface == "shared")
        })
        .await;
        let mtu = client.mtu(lab.place(0));
        let answer = Ping::to(there).whole(mtu as usize).send(lab.place(0));
        assert_eq!(answer, Answer::Reply { from: there });
        let longer = Ping::to(there).whole(mtu as usize + 1).send(lab.place(0));
        assert_eq!(longer, Answer::TooLong { mtu });
        let found = path_mtu(&lab, here);
        assert!((mtu..=most).contains(&found), "{found}");
        tcp(lab.place(0), lab.target(), there, 1_000_000);
        tcp(lab.target(), lab.place(0), here, 1_000_000);
        client.leave().await;
    }
}
