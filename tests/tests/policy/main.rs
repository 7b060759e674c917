//! What a client may reach through `psq-server`, from the request on the wire to the packet that
//! is sent, or is not.
//!
//! The proof is no refusal and no log, but a count at the forbidden place: sockets there hear what
//! arrives, and hear nothing.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by a panic"
)]

#[path = "../common/mod.rs"]
mod common;
mod names;
mod spellings;

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::time::Duration;

use http::StatusCode;
use pasque::Connection;
use pasque::policy::LocalAddresses;
use tokio::time::sleep;

use crate::common::{NAME, refusal, try_open};

/// The status and the `proxy-status` of a refusal.
type Refusal = (StatusCode, String);

fn refused_with(status: u16, error: &str) -> Result<(), Refusal> {
    let status = StatusCode::from_u16(status).unwrap();
    Err((status, format!("{NAME};error={error}")))
}

fn prohibited() -> Result<(), Refusal> {
    refused_with(403, "destination_ip_prohibited")
}

/// Asks for a tunnel and, should there be one, uses it.
async fn attack(connection: &Connection, host: &str, port: u16) -> Result<(), Refusal> {
    match try_open(connection, host, port).await {
        Ok(tunnel) => {
            tunnel.send(b"\0leak");
            // What was sent leaves before the tunnel ends.
            sleep(Duration::from_millis(5)).await;
            Ok(())
        }
        Err(error) => Err(refusal(&error)),
    }
}

/// Sockets on one port of every address of this host, which count what arrives.
struct Victims {
    port: u16,
    sockets: Vec<UdpSocket>,
}

impl Victims {
    fn bind() -> Self {
        let first = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = first.local_addr().unwrap().port();
        let mut sockets = vec![first];
        // Linux has the whole of 127.0.0.0/8 on its loopback interface.
        for address in ["[::1]", "127.0.0.2", "127.0.0.53", "127.255.255.254"] {
            sockets.push(UdpSocket::bind(format!("{address}:{port}")).unwrap());
        }
        // An address that cannot be bound, such as one being set up, cannot be reached either.
        let interfaces = LocalAddresses::detect(Vec::new()).unwrap().interfaces;
        let others = interfaces.iter().map(|own| own.ip());
        let others = others.filter_map(|own| UdpSocket::bind((own, port)).ok());
        sockets.extend(others);
        for socket in &sockets {
            socket.set_nonblocking(true).unwrap();
        }
        Self { port, sockets }
    }

    /// How many datagrams have arrived since the last time.
    fn count(&self) -> usize {
        let arrived = |socket: &UdpSocket| match socket.recv(&mut [0; 9]) {
            Ok(_) => true,
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(error) => panic!("{error}"),
        };
        let counts = self.sockets.iter().map(|socket| {
            let arrivals = std::iter::from_fn(|| arrived(socket).then_some(()));
            arrivals.count()
        });
        counts.sum()
    }

    /// That nothing has come, though it would have been heard.
    async fn assert_untouched(&self) {
        // Loopback is quick; whatever was sent is there by now.
        sleep(Duration::from_millis(100)).await;
        assert_eq!(self.count(), 0, "datagrams have reached a forbidden place");
        for socket in &self.sockets {
            let address = socket.local_addr().unwrap();
            let source = UdpSocket::bind((address.ip(), 0)).unwrap();
            source.send_to(b"heard", address).unwrap();
        }
        sleep(Duration::from_millis(10)).await;
        assert_eq!(self.count(), self.sockets.len(), "the sockets are deaf");
    }
}
