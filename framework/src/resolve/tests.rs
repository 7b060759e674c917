use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::testing::dns::{A, AAAA, Answer, DnsServer, Question};

const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// Longer than any answer here takes, shorter than anyone waits for a test.
const SHORT: Duration = Duration::from_millis(400);

async fn server(answer: impl FnMut(&Question) -> Answer + Send + 'static) -> (DnsServer, Resolver) {
    let server = DnsServer::start(answer).await.unwrap();
    let resolver = Resolver::with_nameserver(server.address()).unwrap();
    (server, resolver)
}

fn addresses(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn failed(rcode: &str) -> ResolveError {
    ResolveError::Failed {
        rcode: Some(rcode.to_owned()),
    }
}

#[tokio::test]
async fn udp_13_families_take_turns() {
    let all = [
        "192.0.2.1",
        "192.0.2.2",
        "192.0.2.3",
        "2001:db8::1",
        "2001:db8::2",
    ];
    let (_server, resolver) = server(move |_| Answer::addresses(all)).await;
    let expected = addresses(&[
        "2001:db8::1",
        "192.0.2.1",
        "2001:db8::2",
        "192.0.2.2",
        "192.0.2.3",
    ]);
    assert_eq!(resolver.resolve(CLIENT, "host.example").await, Ok(expected));
}

#[tokio::test]
async fn udp_13_one_family_is_enough() {
    for text in ["192.0.2.1", "2001:db8::1"] {
        let (_server, resolver) = server(move |_| Answer::addresses([text])).await;
        let found = resolver.resolve(CLIENT, "host.example").await;
        assert_eq!(found, Ok(addresses(&[text])));
    }
}

#[tokio::test]
async fn udp_13_one_failing_family_does_no_harm() {
    for failure in [Answer::SERVFAIL, Answer::NXDOMAIN, Answer::Silence] {
        for (kind, text) in [(A, "192.0.2.1"), (AAAA, "2001:db8::1")] {
            let failure = failure.clone();
            let (_server, resolver) = server(move |question| match question.kind {
                good if good == kind => Answer::addresses([text]),
                _ => failure.clone(),
            })
            .await;
            let begin = Instant::now();
            let found = resolver.resolve(CLIENT, "host.example").await;
            assert_eq!(found, Ok(addresses(&[text])), "{text}");
            assert!(
                begin.elapsed() < DEADLINE / 2,
                "waited for the other family"
            );
        }
    }
}

#[tokio::test]
async fn udp_13_aliases_are_followed() {
    let (_server, resolver) = server(|question| match question.name.as_str() {
        "alias.example" => Answer::Records {
            aliases: vec!["second.example".into(), "last.example".into()],
            addresses: addresses(&["127.0.0.1"]),
        },
        _ => Answer::NXDOMAIN,
    })
    .await;
    let found = resolver.resolve(CLIENT, "alias.example").await;
    assert_eq!(found, Ok(addresses(&["127.0.0.1"])));
}

#[tokio::test]
async fn udp_13_response_codes_are_reported() {
    let table = [
        (Answer::NXDOMAIN, "NXDOMAIN"),
        (Answer::SERVFAIL, "SERVFAIL"),
        (Answer::Code(1), "FORMERR"),
        (Answer::Code(4), "NOTIMP"),
        (Answer::Code(5), "REFUSED"),
        (Answer::Code(9), "RCODE9"),
    ];
    for (answer, rcode) in table {
        let (_server, resolver) = server(move |_| answer.clone()).await;
        let error = resolver.resolve(CLIENT, "host.example").await.unwrap_err();
        assert_eq!(error, failed(rcode));
        assert_eq!(error.rcode(), Some(rcode));
        assert_eq!(error.proxy_error(), ProxyError::DnsError);
    }
}

#[tokio::test]
async fn udp_13_a_response_code_says_more_than_silence() {
    for silent in [A, AAAA] {
        let (_server, resolver) = server(move |question| match question.kind {
            kind if kind == silent => Answer::Silence,
            _ => Answer::NXDOMAIN,
        })
        .await;
        let error = resolver
            .with_deadline(SHORT)
            .resolve(CLIENT, "host.example")
            .await;
        assert_eq!(error, Err(failed("NXDOMAIN")));
    }
}

#[tokio::test]
async fn udp_13_a_name_without_addresses_is_an_error() {
    let (_server, resolver) = server(|_| Answer::addresses([])).await;
    let error = resolver.resolve(CLIENT, "host.example").await.unwrap_err();
    assert_eq!(error, ResolveError::NoAddress);
    assert_eq!(error.rcode(), Some("NOERROR"));
    assert_eq!(error.proxy_error().status(), 502);
}

#[tokio::test]
async fn udp_13_silence_ends_at_the_deadline() {
    let (server, resolver) = server(|_| Answer::Silence).await;
    let begin = Instant::now();
    let error = resolver
        .with_deadline(SHORT)
        .resolve(CLIENT, "host.example")
        .await
        .unwrap_err();
    assert_eq!(error, ResolveError::Timeout);
    assert_eq!(error.proxy_error(), ProxyError::DnsTimeout);
    assert!(begin.elapsed() >= SHORT && begin.elapsed() < SHORT * 3);
    assert!(server.queries() >= 2, "both families are asked");
}

#[tokio::test]
async fn udp_13_waiting_for_a_turn_counts() {
    let deadline = Duration::from_secs(1);
    let (_server, resolver) = server(|_| Answer::Silence).await;
    let resolver = Arc::new(resolver.with_concurrency(1, 1).with_deadline(deadline));
    let first = tokio::spawn({
        let resolver = Arc::clone(&resolver);
        async move { resolver.resolve(CLIENT, "first.example").await }
    });
    // The second one gets its turn halfway, and then has half of its time left.
    tokio::time::sleep(deadline / 2).await;
    let begin = Instant::now();
    let second = resolver.resolve(CLIENT, "second.example").await;
    assert_eq!(second, Err(ResolveError::Timeout));
    let elapsed = begin.elapsed();
    assert!(elapsed < deadline * 5 / 4, "{elapsed:?}");
    assert_eq!(first.await.unwrap(), Err(ResolveError::Timeout));
}

#[tokio::test]
async fn udp_13_look_ups_are_bounded() {
    let asked: Arc<AtomicUsize> = Arc::default();
    let counter = Arc::clone(&asked);
    let (_server, resolver) = server(move |question| {
        if question.number == 0 && question.kind == A {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        Answer::Silence
    })
    .await;
    let resolver = Arc::new(resolver.with_concurrency(3, 3));
    let tasks: Vec<_> = (0..20)
        .map(|number| {
            let resolver = Arc::clone(&resolver);
            tokio::spawn(async move {
                resolver
                    .resolve(CLIENT, &format!("host{number}.example"))
                    .await
            })
        })
        .collect();
    tokio::time::sleep(SHORT).await;
    assert_eq!(asked.load(Ordering::Relaxed), 3);
    assert!(tasks.iter().all(|task| !task.is_finished()));
}

#[tokio::test]
async fn udp_13_a_dropped_look_up_frees_its_turn() {
    let (_server, resolver) = server(|question| match question.name.as_str() {
        "slow.example" => Answer::Silence,
        _ => Answer::addresses(["192.0.2.1"]),
    })
    .await;
    let resolver = resolver.with_concurrency(1, 1);
    let slow = resolver.resolve(CLIENT, "slow.example");
    tokio::time::timeout(Duration::from_millis(50), slow)
        .await
        .unwrap_err();
    let found = resolver.resolve(CLIENT, "host.example").await;
    assert_eq!(found, Ok(addresses(&["192.0.2.1"])));
}

#[tokio::test]
async fn udp_13_the_name_server_may_be_out_of_reach() {
    let closed = DnsServer::start(|_| Answer::Silence).await.unwrap();
    let resolver = Resolver::with_nameserver(closed.address()).unwrap();
    drop(closed);
    tokio::task::yield_now().await;
    let error = resolver
        .with_deadline(SHORT)
        .resolve(CLIENT, "host.example")
        .await
        .unwrap_err();
    let outcomes = [ResolveError::Failed { rcode: None }, ResolveError::Timeout];
    assert!(outcomes.contains(&error), "{error:?}");
}

#[tokio::test]
async fn udp_13_the_system_knows_itself() {
    let resolver = Resolver::system().unwrap();
    let found = resolver.resolve(CLIENT, "localhost").await.unwrap();
    assert!(found.iter().all(IpAddr::is_loopback), "{found:?}");
}

#[tokio::test]
async fn udp_14_each_look_up_sees_the_present_answer() {
    let (server, resolver) = server(|question| match question.number {
        0 => Answer::addresses(["198.51.100.1"]),
        _ => Answer::addresses(["127.0.0.1"]),
    })
    .await;
    let first = resolver.resolve(CLIENT, "rebind.example").await;
    assert_eq!(first, Ok(addresses(&["198.51.100.1"])));
    assert_eq!(server.queries(), 2);
    let second = resolver.resolve(CLIENT, "rebind.example").await;
    assert_eq!(second, Ok(addresses(&["127.0.0.1"])));
}

#[tokio::test]
async fn udp_13_names_that_are_never_resolved_hold_up_only_who_asks_for_them() {
    let (_server, resolver) = server(|question| match question.name.as_str() {
        "silent.example" => Answer::Silence,
        _ => Answer::addresses(["192.0.2.1"]),
    })
    .await;
    let resolver = resolver.with_deadline(SHORT).with_concurrency(4, 2);
    let silent = (0..10).map(|_| resolver.resolve(CLIENT, "silent.example"));
    let silent = future::join_all(silent);
    let other = resolver.resolve("192.0.2.9".parse().unwrap(), "host.example");
    // In this order: the others' turns are taken or waited for before.
    let (silent, other) = future::join(silent, other).await;
    assert_eq!(other, Ok(addresses(&["192.0.2.1"])));
    assert_eq!(silent, vec![Err(ResolveError::Timeout); 10]);
    assert_eq!(resolver.turns.free(), 4);
}

#[tokio::test]
async fn udp_29_many_answers_are_cut_to_sixteen() {
    let many: Vec<_> = (0..50).map(|last| format!("10.0.0.{last}")).collect();
    let mut both = many.clone();
    both.push("2001:db8::1".to_owned());
    let (_server, resolver) =
        server(move |_| Answer::addresses(both.iter().map(String::as_str))).await;
    let found = resolver.resolve(CLIENT, "host.example").await.unwrap();
    assert_eq!(found.len(), MAX_CANDIDATES);
    assert_eq!(found[..2], addresses(&["2001:db8::1", "10.0.0.0"]));
}

#[tokio::test]
async fn udp_29_names_are_absolute_and_numbers_are_not_names() {
    let asked: Arc<std::sync::Mutex<Vec<String>>> = Arc::default();
    let log = Arc::clone(&asked);
    let (server, resolver) = server(move |question| {
        log.lock().unwrap().push(question.name.clone());
        Answer::addresses(["192.0.2.1"])
    })
    .await;

    let refused = [
        "",
        ".",
        "..",
        "a..b",
        ".a",
        "127.0.0.1",
        "127.0.0.1.",
        "127.1",
        "0x7f.1",
        "2130706433",
        "0",
        "0x7F000001",
        "0177.0.0.1",
        "::1",
        "[::1]",
        "fe80::1%eth0",
        "a b",
        "a/b",
        "bücher.example",
        "a\\.b",
        "a%2eb",
        "host.example:53",
        "１２７.0.0.1",
    ];
    let too_long = ["a".repeat(64), ["abcdefg"; 33].join(".")];
    for host in refused
        .into_iter()
        .chain(too_long.iter().map(String::as_str))
    {
        let error = resolver.resolve(CLIENT, host).await.expect_err(host);
        assert_eq!(error, ResolveError::NotAName, "{host:?}");
        assert_eq!(error.proxy_error().status(), 400);
    }
    assert_eq!(server.queries(), 0);

    for host in ["host", "host.", "HOST", "xn--bcher-kva", "_a-1.b2", "1a"] {
        resolver.resolve(CLIENT, host).await.unwrap();
    }
    let mut names = asked.lock().unwrap().clone();
    names.dedup();
    assert_eq!(names, ["host", "xn--bcher-kva", "_a-1.b2", "1a"]);
}

#[test]
fn udp_29_numbers_are_recognised() {
    let numeric = [
        "127.0.0.1",
        "127.0.0.1.",
        "127.1",
        "127.0.1",
        "0",
        "00",
        "2130706433",
        "0x7f.1",
        "0X7F000001",
        "0177.0.0.1",
        "0x",
        "a.0x",
        "1.2.3.4.5",
        "host.1",
        "4294967296",
        "127.0.0.0x1",
    ];
    for host in numeric {
        assert!(looks_numeric(host), "{host}");
    }
    let names = [
        "",
        ".",
        "host",
        "1a",
        "1.a",
        "0xg",
        "x0",
        "host.0xyz",
        "127.0.0.1a",
        "::1",
        "1-1",
    ];
    for host in names {
        assert!(!looks_numeric(host), "{host}");
    }
}
