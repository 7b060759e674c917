//! Answers larger than their questions, and proofs of address that are somebody else's.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use pasque_tests::hostile::ATTACKER;
use pasque_tests::hostile::peer::{Peer, config};
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};

use crate::{QUIET, Victim};

/// What comes back on a socket within a while: the length of each datagram.
fn answers(socket: &UdpSocket) -> Vec<usize> {
    socket
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    let mut buffer = [0; 65_536];
    std::iter::from_fn(|| socket.recv(&mut buffer).ok()).collect()
}

/// The first packet of a client.
fn initial(server: SocketAddr) -> Vec<u8> {
    Peer::new(server, ATTACKER, &mut config()).packet().unwrap()
}

#[tokio::test]
async fn an_answer_before_the_address_is_proven_is_far_smaller_than_the_question() {
    let _quiet = QUIET.read().await;
    let victim = Victim::start().await;
    let server = victim.server.address();
    let socket = UdpSocket::bind((ATTACKER, 0)).unwrap();
    let first = initial(server);
    assert!(first.len() >= 1200);
    for _ in 0..50 {
        socket.send_to(&first, server).unwrap();
    }
    let bytes: usize = answers(&socket).iter().sum();
    assert!(bytes > 0, "a Retry");
    assert!(
        bytes * 4 <= 50 * first.len(),
        "{bytes} bytes for {}",
        50 * first.len()
    );
    victim.assert_serves("first packets").await;
}

#[tokio::test]
async fn short_unknown_and_forged_packets_get_no_answer_or_a_smaller_one() {
    let _quiet = QUIET.read().await;
    let victim = Victim::start().await;
    let server = victim.server.address();
    let first = initial(server);
    let mut random = vec![0; 1200];
    StdRng::seed_from_u64(22).fill_bytes(&mut random);
    let version = |number: u32| {
        let mut packet = first.clone();
        packet[1..5].copy_from_slice(&number.to_be_bytes());
        packet
    };
    let short_header = |len: usize| [&[0x40 | random[0] & 0x3f], &random[1..len]].concat();
    for (name, packet) in [
        ("an Initial that is too short", first[..1199].to_vec()),
        ("an empty datagram", Vec::new()),
        ("one byte", vec![0xc0]),
        ("a version negotiation", version(0)),
        (
            "a short one of an unknown version",
            version(0x0a0a_0a0a)[..100].to_vec(),
        ),
        ("a packet of no connection", short_header(60)),
        ("a large packet of no connection", short_header(1200)),
    ] {
        let socket = UdpSocket::bind((ATTACKER, 0)).unwrap();
        for _ in 0..10 {
            socket.send_to(&packet, server).unwrap();
        }
        assert_eq!(answers(&socket), [0; 0], "{name}");
    }
    // A version that is not known is answered by those that are, in fewer bytes.
    let socket = UdpSocket::bind((ATTACKER, 0)).unwrap();
    socket.send_to(&version(0x0a0a_0a0a), server).unwrap();
    let lens = answers(&socket);
    assert_eq!(lens.len(), 1);
    assert!(lens[0] < 100, "{lens:?}");
    victim.assert_serves("forged packets").await;
}

#[tokio::test]
async fn a_retry_token_is_of_no_use_to_another_address() {
    let _quiet = QUIET.read().await;
    let victim = Victim::start().await;
    let server = victim.server.address();
    let mut peer = Peer::new(server, ATTACKER, &mut config());
    peer.flush();
    peer.receive(Duration::from_secs(2));
    let with_token = peer.packet().unwrap();

    let mut answered = HashSet::new();
    for from in [[127, 0, 0, 67], [127, 0, 0, 1]] {
        let thief = UdpSocket::bind((IpAddr::from(from), 0)).unwrap();
        thief.send_to(&with_token, server).unwrap();
        answered.extend(answers(&thief));
    }
    assert!(answered.is_empty(), "{answered:?}");
    // A token that was changed is none, wherever it comes from.
    let mut changed = with_token.clone();
    let at = 7 + usize::from(changed[5]) + usize::from(changed[6 + usize::from(changed[5])]) + 6;
    changed[at] ^= 1;
    let other = UdpSocket::bind((ATTACKER, 0)).unwrap();
    other.send_to(&changed, server).unwrap();
    assert_eq!(answers(&other), [0; 0]);
    victim.assert_serves("stolen tokens").await;
}
