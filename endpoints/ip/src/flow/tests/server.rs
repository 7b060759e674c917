use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

use proptest::prelude::*;
use tokio::task::unconstrained;

use super::*;
use crate::backlog::Backlog;
use crate::held::{Account, Held};

#[tokio::test]
async fn ip_13_addresses_and_routes_come_first_and_once() {
    let mut server = Server::new(&ServerOptions::default());
    assert!(server.end.poll().is_pending());
    let kinds: Vec<_> = server.end.sent_capsules().into_iter().collect();
    assert_eq!(
        kinds.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(),
        [ADDRESS_ASSIGN, ROUTE_ADVERTISEMENT]
    );
    assert!(server.end.poll().is_pending());
    assert_eq!(server.end.sent_capsules(), []);
}

#[tokio::test]
async fn ip_39_packets_pass_both_ways_as_they_are() {
    let mut server = Server::new(&ServerOptions::default());
    let out = [udp(CLIENT, TARGET), udp(CLIENT_V6, TARGET_V6)];
    server.end.deliver(&out);
    assert_eq!(server.end.received(), out);
    let back = [udp(TARGET, CLIENT), udp(TARGET_V6, CLIENT_V6)];
    server.end.host_sends(&back);
    assert!(server.end.poll().is_pending());
    assert_eq!(server.end.sent(), back);
    let counters = server.end();
    assert_eq!((counters.outward.passed, counters.inward.passed), (2, 2));
}

#[tokio::test]
async fn ip_40_what_is_behind_a_packet_is_cut() {
    let mut server = Server::new(&ServerOptions::default());
    let packet = udp(CLIENT, TARGET);
    server.end.deliver(&[[&packet[..], b"trailer"].concat()]);
    assert_eq!(server.end.received(), [packet]);
    let packet = udp(TARGET_V6, CLIENT_V6);
    server.end.host_sends(&[[&packet[..], b"trailer"].concat()]);
    assert!(server.end.poll().is_pending());
    assert_eq!(server.end.sent(), [packet]);
}

#[tokio::test]
async fn ip_39_other_contexts_are_dropped_and_counted() {
    let mut server = Server::new(&ServerOptions::default());
    let datagrams = [b"\x02hi".to_vec(), b"\x05hi".to_vec(), Vec::new()];
    server.end.deliver_datagrams(&datagrams).unwrap();
    assert_eq!(server.end.received(), [[0u8; 0]; 0]);
    let outward = server.end().outward;
    assert_eq!(outward.dropped(DropReason::UnknownContext), 2);
    assert_eq!(outward.dropped(DropReason::NoContext), 1);
    assert_eq!(outward.received, outward.total_dropped());
}

#[tokio::test]
async fn ip_41_no_packet_ends_a_tunnel_and_each_is_counted_once() {
    // All cases are one poll to tokio, which would call it a day.
    let cases = async {
        proptest!(|(packets in prop::collection::vec(hostile(), 0..200))| {
            each_is_counted_once(&packets)?;
        });
    };
    tokio::task::unconstrained(cases).await;
}

fn each_is_counted_once(packets: &[Vec<u8>]) -> Result<(), TestCaseError> {
    let mut server = Server::new(&ServerOptions::default());
    server.end.deliver(packets);
    server.end.host_sends(packets);
    for _ in 0..4 {
        prop_assert!(server.end.poll().is_pending());
    }
    let received = server.end.received().len();
    let sent = server.end.outbox.packets.len();
    let counters = server.end();
    for tally in [counters.outward, counters.inward] {
        prop_assert_eq!(tally.received, packets.len() as u64);
        prop_assert_eq!(
            tally.received,
            tally.passed + tally.answered + tally.total_dropped()
        );
    }
    // What came out is what passed, answers, and errors about the rest.
    let passed = counters.outward.passed + counters.inward.passed;
    prop_assert_eq!(
        (received + sent) as u64,
        passed + counters.outward.answered + counters.errors_sent
    );
    Ok(())
}

/// Random bytes, and packets with some bytes overwritten.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let addresses = prop::sample::select(vec![
        (CLIENT, TARGET),
        (TARGET, CLIENT),
        (CLIENT_V6, TARGET_V6),
        (TARGET_V6, CLIENT_V6),
        (CLIENT_V6, "ff02::1"),
    ]);
    let changes = prop::collection::vec((0usize..100, any::<u8>()), 0..4);
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        (addresses, changes).prop_map(|((source, destination), changes)| {
            let mut packet = udp(source, destination);
            for (at, byte) in changes {
                packet[at] = byte;
            }
            packet
        }),
    ]
}

/// Threat 8: twelve classes of sources that are not the client's.
#[tokio::test]
async fn ip_42_of_spoofed_packets_none_gets_out_and_all_are_counted() {
    const EACH: u64 = 100;
    let classes = [
        ("another client", "10.76.0.3", TARGET),
        ("the server in the tunnel", "10.76.0.1", TARGET),
        ("another client, IPv6", "fd76::3", TARGET_V6),
        ("the server in the tunnel, IPv6", "fd76::1", TARGET_V6),
        ("the target itself", TARGET, TARGET),
        ("a stranger", "9.9.9.9", TARGET),
        ("loopback", "127.0.0.1", TARGET),
        ("loopback, IPv6", "::1", TARGET_V6),
        ("this network", "0.0.0.0", TARGET),
        ("unspecified, IPv6", "::", TARGET_V6),
        ("a group", "224.0.1.1", TARGET),
        ("broadcast", "255.255.255.255", TARGET),
        ("a private network", "192.168.1.1", TARGET),
        ("IPv4 in the dress of IPv6", "::ffff:10.76.0.2", TARGET_V6),
        ("the network of the pool", "10.76.0.0", TARGET),
        ("link-local", "169.254.0.1", TARGET),
        ("link-local, IPv6", "fe80::1", TARGET_V6),
    ];
    let mut server = Server::new(&ServerOptions::default());
    for (class, source, destination) in classes {
        for n in 0..EACH {
            let mut packet = udp(source, destination);
            // Other ports each time.
            let at = if source.contains(':') { 40 } else { 20 };
            packet[at] = n as u8;
            server.end.deliver(&[packet]);
        }
        assert_eq!(server.end.received(), [[0u8; 0]; 0], "{class}");
    }
    let errors = server.end.sent();
    let sent = EACH * classes.len() as u64;
    let counters = server.end();
    assert_eq!(counters.outward.received, sent);
    assert_eq!(counters.outward.passed + counters.outward.answered, 0);
    let dropped = |reason| counters.outward.dropped(reason);
    assert_eq!(dropped(DropReason::LinkLocal), 2 * EACH);
    assert_eq!(dropped(DropReason::SourceNotAssigned), sent - 2 * EACH);
    assert!(
        errors.len() <= 20,
        "{} errors within a second or two",
        errors.len()
    );
}

#[tokio::test]
async fn ip_51_an_echo_to_all_nodes_is_answered() {
    let mut server = Server::new(&ServerOptions::default());
    let echo = icmp::Echo { id: 7, sequence: 9 };
    let source = "fd76::2".parse().unwrap();
    let request = icmp::echo_request_v6(source, crate::filter::ALL_NODES, echo, 1232);
    server.end.deliver(&[request.to_vec()]);
    let sent = server.end.sent();
    let reply = &sent[0];
    let header = packet::parse(reply).unwrap();
    assert_eq!(icmp::parse_echo_reply(reply, &header), Some(echo));
    assert_eq!(
        (header.source, header.destination),
        (address("fd76::1"), address(CLIENT_V6))
    );
    assert_eq!(reply.len(), 1280);
    // Anything else to all nodes is of no interest.
    server.end.deliver(&[udp(CLIENT_V6, "ff02::1")]);
    assert!(server.end.sent().is_empty() && server.end.received().is_empty());
    let outward = server.end().outward;
    assert_eq!(
        (outward.answered, outward.dropped(DropReason::LinkLocal)),
        (1, 1)
    );
}

#[tokio::test]
async fn ip_52_the_client_is_told_why_a_packet_is_dropped() {
    let scope = Scope::new(
        Some(networks(&["198.51.100.0/24", "2001:db8::/32"])),
        Some(UDP),
    );
    let mut server = Server::new(&ServerOptions {
        scope,
        ..ServerOptions::default()
    });
    let with_protocol = |mut packet: Vec<u8>, protocol: u8| {
        let at = if packet[0] >> 4 == 6 { 6 } else { 9 };
        packet[at] = protocol;
        packet
    };
    for (packet, kind) in [
        (udp("10.76.0.9", TARGET), (3, 13)),
        (udp("fd76::9", TARGET_V6), (1, 5)),
        (with_protocol(udp(CLIENT, TARGET), 6), (3, 13)),
        (with_protocol(udp(CLIENT_V6, TARGET_V6), 6), (1, 1)),
    ] {
        server.end.deliver(std::slice::from_ref(&packet));
        let sent = server.end.sent();
        assert_eq!(sent.len(), 1);
        assert_eq!(icmp_kind(&sent[0]), kind);
        let header = packet::parse(&sent[0]).unwrap();
        let own = if header.is_v6() {
            "fd76::1"
        } else {
            "10.76.0.1"
        };
        assert_eq!(header.source, address(own));
        assert_eq!(header.destination, packet::parse(&packet).unwrap().source);
    }
}

#[tokio::test]
async fn ip_53_errors_are_few_and_never_about_what_wants_silence() {
    pause();
    let mut server = Server::new(&ServerOptions::default());
    let bad = vec![udp("10.76.0.9", TARGET); 100];
    server.end.deliver(&bad);
    assert_eq!(server.end.sent().len(), 10);
    advance(Duration::from_millis(1001)).await;
    server.end.deliver(&bad);
    assert_eq!(server.end.sent().len(), 10);
    advance(Duration::from_secs(60)).await;
    server
        .end
        .deliver(&[udp(CLIENT, "239.1.1.1"), udp(CLIENT_V6, "ff0e::1")]);
    server
        .end
        .deliver(&[udp(CLIENT, CLIENT), udp("0.0.0.0", TARGET)]);
    assert_eq!(server.end.sent(), [[0u8; 0]; 0]);
}

#[tokio::test]
async fn ip_57_what_no_datagram_carries_is_answered_with_the_mtu() {
    let mut server = Server::new(&ServerOptions::default());
    server.end.max_len = 1309;
    let fits = [
        udp_of_len(TARGET, CLIENT, 1308, true),
        udp_of_len(TARGET_V6, CLIENT_V6, 1308, true),
    ];
    server.end.host_sends(&fits);
    server.end.host_sends(&[
        udp_of_len(TARGET, CLIENT, 1309, true),
        udp_of_len(TARGET_V6, CLIENT_V6, 1400, true),
        udp_of_len(TARGET, CLIENT, 1400, false),
    ]);
    assert!(server.end.poll().is_pending());
    assert_eq!(server.end.sent(), fits);
    let errors = server.end.received();
    assert_eq!(errors.len(), 2, "no error about what may be fragmented");
    for (error, kind, source) in [
        (&errors[0], (3, 4), CLIENT),
        (&errors[1], (2, 0), CLIENT_V6),
    ] {
        assert_eq!(icmp_kind(error), kind);
        let header = packet::parse(error).unwrap();
        // The kernel would not believe one from an address of its own.
        assert_eq!(header.source, address(source));
        let body = header.body(error);
        assert_eq!(u16::from_be_bytes([body[6], body[7]]), 1308);
    }
    let inward = server.end().inward;
    assert_eq!(inward.dropped(DropReason::TooBig), 3);
    assert_eq!(inward.received, inward.passed + inward.total_dropped());
}

#[tokio::test]
async fn ip_57_no_ipv6_host_is_told_less_than_it_must_take() {
    let mut server = Server::new(&ServerOptions::default());
    server.end.max_len = 1200;
    server
        .end
        .host_sends(&[udp_of_len(TARGET_V6, CLIENT_V6, 1280, true)]);
    assert!(server.end.poll().is_pending());
    let errors = server.end.received();
    let header = packet::parse(&errors[0]).unwrap();
    let body = header.body(&errors[0]);
    assert_eq!(
        u32::from_be_bytes([body[4], body[5], body[6], body[7]]),
        1280
    );
}

#[tokio::test]
async fn ip_65_a_lone_packet_does_not_wait_for_company() {
    let mut server = Server::new(&ServerOptions::default());
    server.end.deliver(&[udp(CLIENT, TARGET)]);
    assert_eq!(server.end.received().len(), 1, "before any other call");
    server.end.host_sends(&[udp(TARGET, CLIENT)]);
    assert!(server.end.poll().is_pending());
    assert_eq!(server.end.sent().len(), 1);
}

/// How often somebody was woken.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wakes {
    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A tunnel that reads no more, because others hold much, goes on reading once it has sent what it holds.
#[tokio::test]
async fn a_tunnel_that_had_to_stop_reading_goes_on() {
    static ACCOUNT: Account = Account::new();
    let mut others = Held::of(&ACCOUNT);
    others.set(1 << 30);
    let mut server = Server::new(&ServerOptions::default());
    server.end.flow.set_backlog(Backlog::of(&ACCOUNT));
    let packets = vec![udp(TARGET, CLIENT); 40];
    server.end.host_sends(&packets);
    assert!(server.end.poll_with_room(1).is_pending());
    assert_eq!(server.end.sent().len(), 1);

    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(wakes.clone());
    assert!(server.end.poll_waking(100, &waker).is_pending());
    let waited = server.end.sent().len();
    assert!((1..39).contains(&waited), "{waited} were read before");
    assert_eq!(wakes.count(), 1, "it does not know of the rest");
    assert!(server.end.poll_waking(100 - waited, &waker).is_pending());
    assert_eq!(server.end.sent().len(), 39 - waited);
    // Nothing is left, and the host's next packet wakes it.
    let before = wakes.count();
    server.end.host_sends(&packets[..1]);
    assert!(wakes.count() > before);
}

#[tokio::test]
async fn nothing_is_lost_where_a_turn_has_less_room_than_a_read() {
    let mut server = Server::new(&ServerOptions::default());
    let packets: Vec<_> = (0..100)
        .map(|n| udp_of_len(TARGET, CLIENT, 100 + n, true))
        .collect();
    server.end.host_sends(&packets);
    let mut sent = Vec::new();
    for room in [1, 2, 0, 3, 50, 64, 64] {
        assert!(server.end.poll_with_room(room).is_pending());
        let now = server.end.sent();
        assert!(now.len() <= room);
        sent.extend(now);
    }
    assert_eq!(sent, packets);
}

#[tokio::test]
async fn a_turn_ends_even_if_the_host_never_does() {
    // Without the budget of a task, as in a worker.
    unconstrained(async {
        let mut server = Server::new(&ServerOptions::default());
        server.end.host_sends(&vec![udp(TARGET, CLIENT); 600]);
        assert!(server.end.poll_with_room(1000).is_pending());
        assert_eq!(server.end.sent().len(), 4 * BATCH_LEN);
    })
    .await;
}

#[tokio::test]
async fn small_flows_pass_the_download_that_waits() {
    // Without the budget of a task, as in a worker.
    unconstrained(async {
        let mut server = Server::new(&ServerOptions::default());
        let download = udp_of_len(TARGET, CLIENT, 1300, true);
        server.end.host_sends(&vec![download.clone(); 200]);
        assert!(server.end.poll_with_room(30).is_pending());
        assert_eq!(server.end.sent(), vec![download.clone(); 30]);
        // A few of them may share the queue of the download by chance.
        let others = (1..9).map(|port| {
            let datagram = [0, port, 0, 53, 0, 8, 0, 0];
            readdressed(v4(UDP, 0, &[], &datagram), TARGET, CLIENT)
        });
        server.end.host_sends(&others.collect::<Vec<_>>());
        assert!(server.end.poll_with_room(40).is_pending());
        let sent = server.end.sent();
        let passed = sent.iter().filter(|packet| **packet != download).count();
        assert!(sent.len() == 40 && passed >= 4, "{passed} of 8");
    })
    .await;
}

#[tokio::test]
async fn what_the_interface_refuses_is_offered_once_more_and_then_dropped() {
    let mut server = Server::new(&ServerOptions::default());
    // A memory device takes 1000.
    let packets = vec![udp(CLIENT, TARGET); 1100];
    server.end.deliver(&packets);
    assert_eq!(server.end.received().len(), 1000);
    assert!(server.end.poll().is_pending());
    assert_eq!(server.end.received().len(), BATCH_LEN);
    let outward = server.end().outward;
    assert_eq!(outward.passed, 1000 + BATCH_LEN as u64);
    assert_eq!(outward.dropped(DropReason::Device), 100 - BATCH_LEN as u64);
}

#[tokio::test]
async fn a_tunnel_ends_with_its_interface() {
    let server = Server::new(&ServerOptions::default());
    let Server { end, .. } = server;
    let End { mut flow, host, .. } = end;
    drop(host);
    let mut outbox = Outbox::default();
    let mut cx = FlowCx::new(&mut outbox, Waker::noop(), BATCH_LEN, MAX_LEN);
    let Poll::Ready(Err(error)) = flow.poll_outbound(&mut cx) else {
        panic!("the tunnel goes on");
    };
    assert_eq!(error.stream_error(), pasque::StreamError::Connect);
}

#[tokio::test]
async fn ip_14_addresses_are_free_when_the_tunnel_is_gone() {
    let server = Server::new(&ServerOptions::default());
    let pools = server.pools.clone();
    let before = pools.free();
    server.end();
    let freed = |(pool, free): &(IpNetwork, u128)| (*pool, free + 1);
    assert_eq!(pools.free(), before.iter().map(freed).collect::<Vec<_>>());
}

#[tokio::test]
async fn ip_36_client_routes_count_only_where_they_are_accepted() {
    let advertised = Routes::from_config(&networks(&["192.168.7.0/24", "172.16.0.0/12"]));
    for (accept, passes) in [(vec![], false), (vec!["192.168.0.0/16"], true)] {
        let mut server = Server::new(&ServerOptions {
            accept,
            ..ServerOptions::default()
        });
        let capsule = encode_routes(&advertised);
        server.end.capsule(ROUTE_ADVERTISEMENT, &capsule).unwrap();
        server
            .end
            .deliver(&[udp("192.168.7.9", TARGET), udp("172.16.0.9", TARGET)]);
        assert_eq!(server.end.received().len(), usize::from(passes));
        server
            .end
            .host_sends(&[udp(TARGET, "192.168.7.9"), udp(TARGET, "172.16.0.9")]);
        assert!(server.end.poll().is_pending());
        let sent = server.end.sent();
        assert_eq!(sent.contains(&udp(TARGET, "192.168.7.9")), passes);
        assert!(!sent.contains(&udp(TARGET, "172.16.0.9")));
    }
}

#[tokio::test]
async fn ip_27_a_replaced_address_is_the_source_from_then_on() {
    let mut server = Server::new(&ServerOptions::default());
    assert!(server.end.poll().is_pending());
    server.end.sent_capsules();
    let wanted = crate::capsules::RequestedAddress {
        request_id: 1,
        prefix: "10.76.0.77/32".parse().unwrap(),
    };
    let request = crate::capsules::encode_request(&[wanted]);
    server.end.capsule(ADDRESS_REQUEST, &request).unwrap();
    server
        .end
        .deliver(&[udp("10.76.0.77", TARGET), udp(CLIENT, TARGET)]);
    assert_eq!(server.end.received(), [udp("10.76.0.77", TARGET)]);
}
