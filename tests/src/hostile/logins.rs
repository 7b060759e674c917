//! Guessing at passwords.

use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use serde_json::json;

use super::bystander::under_attack;
use super::peer::{Peer, config, headers};
use super::{Figures, Length, MIB, Victim};

/// Wrong passwords a second, in all.
const PER_SECOND: f64 = 2000.0;

/// Connections that they come over, each from an address of its own: one address alone would soon get
/// nothing but 429.
const CONNECTIONS: u8 = 32;

/// The hash of a password that nobody here knows, at the cost that `psq-server hash-password` has.
const HASH: &str = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$\
                    AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// `text` in Base64 (RFC 4648 §4).
fn base64(text: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut encoded = String::new();
    for chunk in text.as_bytes().chunks(3) {
        let bits = chunk
            .iter()
            .enumerate()
            .fold(0, |bits, (n, byte)| bits | u32::from(*byte) << (16 - 8 * n));
        for n in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * n) & 63) as usize];
            let is_padding = n > chunk.len();
            encoded.push(if is_padding { '=' } else { char::from(digit) });
        }
    }
    encoded
}

/// A request with a wrong password, never the same.
fn guess(number: usize) -> Vec<u8> {
    let credentials = format!("Basic {}", base64(&format!("user:guess{number}")));
    headers(&[
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "localhost"),
        (":path", "/closed/a.txt"),
        ("authorization", &credentials),
    ])
}

/// Returns how many guesses were sent, and how many of them were answered.
fn attack(server: SocketAddr, time: Duration) -> (usize, usize) {
    let connect = |last| {
        let from = IpAddr::from([127, 0, 4, last]);
        (Peer::connect(server, from, &mut config()), 0)
    };
    let mut peers: Vec<(Peer, u64)> = (1..=CONNECTIONS).map(connect).collect();
    let (mut sent, mut answered) = (0, 0);
    let start = Instant::now();
    while start.elapsed() < time {
        let due = (start.elapsed().as_secs_f64() * PER_SECOND) as usize;
        for (peer, next) in &mut peers {
            while sent < due && peer.quic.peer_streams_left_bidi() > 0 {
                if peer.quic.stream_send(*next, &guess(sent), true).is_err() {
                    break;
                }
                *next += 4;
                sent += 1;
                if sent % 8 == 0 {
                    break;
                }
            }
            peer.flush();
            peer.receive(Duration::ZERO);
            let readable: Vec<u64> = peer.quic.readable().collect();
            for stream in readable {
                while let Ok((_, fin)) = peer.quic.stream_recv(stream, &mut [0; 4096]) {
                    answered += usize::from(fin && stream.is_multiple_of(4));
                }
            }
        }
    }
    (sent, answered)
}

/// Wrong passwords from many addresses.
pub(super) async fn wrong_logins(length: Length) -> Figures {
    let time = length.pick(Duration::from_secs(2), Duration::from_secs(30));
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("users.json");
    let entry = json!({ "user": { "hash": HASH, "permissions": ["files"] } });
    std::fs::write(&users, entry.to_string()).unwrap();
    std::fs::set_permissions(&users, std::fs::Permissions::from_mode(0o600)).unwrap();
    let config = json!({
        "auth": { "users_file": users },
        "endpoints": [
            { "path": "closed", "type": "Files", "root": folder.path(), "permission": "files" },
        ],
    });
    let mut victim = Victim::with(config).await;
    let outcome = under_attack(&mut victim, move |server| attack(server, time)).await;
    let (sent, answered) = outcome.result;
    let mut figures = outcome.figures(32 * MIB, 0.01);
    let rate = sent as f64 / time.as_secs_f64();
    figures.rate("wrong passwords", rate, 0.9 * PER_SECOND);
    figures.at_least("of them answered", answered, 100);
    let allowed = 10.0 * outcome.time.as_secs_f64();
    figures.at_most(
        "lines in the log, ten a second",
        outcome.lines,
        allowed as usize,
    );
    figures
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_of_rfc_4648_come_out() {
        for (text, encoded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(text), encoded);
        }
    }
}
