//! Text of peers in the log.

use std::time::Duration;

use pasque::Request;
use serde_json::json;

use super::peer::{Peer, headers};
use super::{ATTACKER, Figures, Length};
use crate::kit::{ANY_PORT, NAME, files, path, udp};
use crate::{EchoTarget, Server, program};

/// What a peer would like to see in a log.
const WISHES: [&str; 10] = [
    "\n2026-01-01T00:00:00.000000Z ERROR pasque_h3::server: forged",
    "\r\n2026-01-01T00:00:00Z  INFO listening on 0.0.0.0:1",
    "\u{1b}[2J\u{1b}[31m\u{1b}]0;owned\u{7}",
    "\u{9b}31m\u{85}\u{2028}\u{2029}",
    "\u{202e}gnp.exe\u{2066}",
    "\0\u{8}\u{8}\u{8}\u{7f}",
    "{\"level\":\"ERROR\",\"message\":\"forged\"}",
    "${jndi:ldap://127.0.0.1/a} %s%s%n",
    "' OR 1=1 -- <script>alert(1)</script>",
    "LONG",
];

/// The most of a line that may be a peer's, in bytes, and what stands before it.
const PEER_LEN: usize = 256;
const OWN_LEN: usize = 300;

/// The `n`th text, each of them different.
fn wish(n: usize) -> String {
    match WISHES[n % WISHES.len()] {
        "LONG" => "x".repeat(200 + 37 * n % 6000),
        wish => format!("{n}{wish}{n}"),
    }
}

/// Percent-encoded as a path has it.
fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// A request in which `text` stands in the `n`th place that a peer can write to.
fn ask(n: usize, text: &str) -> Vec<u8> {
    let escaped = encoded(text);
    let target = path(&text.chars().take(200).collect::<String>(), 53);
    let (method, scheme, authority, path) = ("GET", "https", "localhost", "/files/a.txt");
    let of = |fields: &[(&str, &str)]| headers(fields);
    let long = format!("/files/{escaped}");
    match n % 8 {
        0 => of(&[
            (":method", method),
            (":scheme", scheme),
            (":authority", authority),
            (":path", &long),
        ]),
        1 => of(&[
            (":method", method),
            (":scheme", scheme),
            (":authority", authority),
            (":path", text),
        ]),
        2 => of(&[
            (":method", text),
            (":scheme", scheme),
            (":authority", authority),
            (":path", path),
        ]),
        3 => of(&[
            (":method", method),
            (":scheme", scheme),
            (":authority", text),
            (":path", path),
        ]),
        4 => of(&[
            (":method", method),
            (":scheme", text),
            (":authority", authority),
            (":path", path),
        ]),
        5 => of(&[
            (":method", "CONNECT"),
            (":protocol", "connect-udp"),
            (":scheme", scheme),
            (":authority", authority),
            (":path", &target),
        ]),
        6 => of(&[
            (":method", "CONNECT"),
            (":protocol", text),
            (":scheme", scheme),
            (":authority", authority),
            (":path", path),
        ]),
        _ => of(&[
            (":method", method),
            (":scheme", scheme),
            (":authority", authority),
            (":path", path),
            ("user-agent", text),
            ("authorization", text),
            ("referer", text),
        ]),
    }
}

/// Whether `line` is one event as the server writes it: a time, a level, and no control character.
fn is_event(line: &str) -> bool {
    let mut words = line.split_whitespace();
    let time = words.next().unwrap_or_default();
    let level = words.next().unwrap_or_default();
    time.starts_with("20")
        && time.ends_with('Z')
        && ["TRACE", "DEBUG", "INFO", "WARN", "ERROR"].contains(&level)
        && !line.chars().any(char::is_control)
}

/// Texts that would forge lines, colour them or fill them, in every place that a peer can write to.
pub(super) async fn hostile_texts(length: Length) -> Figures {
    let count = length.pick(200, 1000);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.txt"), "a").unwrap();
    let target = EchoTarget::on_loopback().await.unwrap();
    let config = json!({
        "name": NAME, "endpoints": [udp(&["127.0.0.1"]), files(folder.path())],
        "resolver": target.address(),
        // Those that are closed still count for a moment.
        "limits": { "resets_per_10s": 100_000, "connections_per_address": 1000 },
    });
    // Everything that our crates say, at the finest level.
    let filter =
        "info,pasque=trace,pasque_h3=trace,pasque_udp=trace,pasque_files=trace,psq_server=trace";
    let psq_server = program("psq-server");
    let mut server = Server::start_logging(&psq_server, filter, config, ANY_PORT)
        .await
        .unwrap();
    let address = server.address();
    let attack = move || {
        let mut transport = super::peer::config();
        for n in 0..count {
            // A text may end the connection; the next comes on another one.
            let mut peer = Peer::connect(address, ATTACKER, &mut transport);
            let text = wish(n);
            let _ = peer.quic.stream_send(0, &ask(n, &text), true);
            peer.flush();
            peer.receive(Duration::from_millis(20));
            let _ = peer.quic.close(true, 0x100, text.as_bytes());
            peer.flush();
        }
    };
    tokio::task::spawn_blocking(attack).await.unwrap();
    // What was asked last has been answered, and written about.
    let connection = server.connect().await.unwrap();
    connection
        .request(Request::get("/files/a.txt"))
        .await
        .unwrap();

    // What was printed before the first event is the start's.
    let output = server.process().output();
    let events: Vec<&str> = output
        .lines()
        .filter(|line| !line.contains("--pin"))
        .collect();
    let foreign = events.iter().filter(|line| !is_event(line));
    let mut figures = Figures::default();
    // Not every text is worth a line.
    figures.at_least("lines in the log", events.len(), count / 4);
    figures.exactly("lines that are no event", foreign.count(), 0);
    let longest = events.iter().map(|line| line.len()).max().unwrap_or(0);
    figures.at_most("bytes of the longest line", longest, PEER_LEN + OWN_LEN);
    figures
}
