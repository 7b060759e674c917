//! The server's part of a [`Peer`]: our client connects to it.

use std::net::SocketAddr;
use std::path::PathBuf;

use pasque::Connection;
use pasque::connection::ClientError;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::peer::{Peer, make_generous};
use crate::cid::Cid;
use crate::client::ClientConfig;
use crate::client_certificate::ClientCertificates;
use crate::socket::memory::{Conditions, Network};
use crate::socket::{Received, Socket};
use crate::testing::dial;
use crate::tls::{Identity, Trust, make_self_signed};

/// What a proper server says first: extended CONNECT and datagrams.
pub(super) const PROPER: &str = "04 04 08 01 33 01";

/// A server that waits for its one client.
pub(super) struct Listening {
    pub(super) network: Network,
    pub(super) address: SocketAddr,
    /// For the test to spoil.
    pub(super) config: quiche::Config,
    socket: Socket,
    folder: TempDir,
}

impl Listening {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (cert, key) = (
            folder.path().join("cert.pem"),
            folder.path().join("key.pem"),
        );
        make_self_signed(&cert, &key).unwrap();
        let tls = Identity::load(&cert, &key)
            .unwrap()
            .context(&ClientCertificates::NotAsked)
            .unwrap();
        let version = quiche::PROTOCOL_VERSION;
        let mut config = quiche::Config::with_boring_ssl_ctx_builder(version, tls.0).unwrap();
        make_generous(&mut config);
        let network = Network::new(Conditions::default());
        let socket = Socket::Memory(network.socket());
        Self {
            address: socket.local_addr(),
            network,
            config,
            socket,
            folder,
        }
    }

    /// The certificate, which is its own authority.
    pub(super) fn certificate(&self) -> PathBuf {
        self.folder.path().join("cert.pem")
    }

    /// Lets our client connect, on a task of its own.
    pub(super) fn dial(
        &self,
        host: &str,
        config: ClientConfig,
    ) -> JoinHandle<Result<Connection, ClientError>> {
        let (network, address, host) = (self.network.clone(), self.address, host.to_owned());
        tokio::spawn(async move { Ok(dial(&network, address, &host, &config).await?.0) })
    }

    /// Waits for the client's first packet and takes the connection.
    pub(super) async fn accept(mut self) -> Peer {
        let mut received = Received::new();
        while self.socket.try_recv(&mut received).is_err() {
            self.socket.readable().await;
        }
        let mut first = None;
        let cid = Cid::random(0).to_quiche();
        received.for_each_run(|info, packet, _stride| {
            let quic = first.get_or_insert_with(|| {
                quiche::accept(&cid, None, info.to, info.from, &mut self.config).unwrap()
            });
            // An error is the client's, and shows in how the connection ends.
            let _ = quic.recv(packet, info);
        });
        Peer::new(first.expect("a packet"), self.socket)
    }

    /// Our client connected to this server, whose control stream starts with the frames `control`.
    pub(super) async fn serve(self, control: &str, config: ClientConfig) -> (Peer, Connection) {
        let connecting = self.dial("localhost", config);
        let mut peer = self.accept().await;
        peer.until("a handshake", |peer| {
            peer.quic.is_established().then_some(())
        })
        .await;
        peer.control(control).await;
        let connection = peer.run_until(connecting).await.expect("a connection");
        (peer, connection)
    }
}

/// A client that trusts whatever it meets.
pub(super) fn trusting() -> ClientConfig {
    ClientConfig {
        trust: Trust::AcceptAny,
        ..ClientConfig::default()
    }
}

/// Our client connected to a server that says `control` first.
pub(super) async fn serve(control: &str) -> (Peer, Connection) {
    Listening::new().serve(control, trusting()).await
}
