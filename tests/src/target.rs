//! [`EchoTarget`]: what UDP tunnels lead to.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// A UDP service that returns every datagram and counts it. Ends when dropped.
#[derive(Debug)]
pub struct EchoTarget {
    address: SocketAddr,
    count: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl EchoTarget {
    /// Starts one at `address`.
    ///
    /// # Errors
    /// What the operating system says.
    pub async fn start(address: SocketAddr) -> io::Result<Self> {
        Self::serve(UdpSocket::bind(address).await?)
    }

    /// Serves `socket`.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn serve(socket: UdpSocket) -> io::Result<Self> {
        let address = socket.local_addr()?;
        let count = Arc::<AtomicU64>::default();
        let counter = count.clone();
        let task = tokio::spawn(async move {
            let mut buffer = vec![0; 65_536];
            loop {
                // An error is about an answer that nobody waited for.
                if let Ok((len, from)) = socket.recv_from(&mut buffer).await {
                    counter.fetch_add(1, Ordering::Relaxed);
                    let _ = socket.send_to(&buffer[..len], from).await;
                }
            }
        });
        Ok(Self {
            address,
            count,
            task,
        })
    }

    /// Starts one on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// What the operating system says.
    pub async fn on_loopback() -> io::Result<Self> {
        Self::start(SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many datagrams have come.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

impl Drop for EchoTarget {
    fn drop(&mut self) {
        self.task.abort();
    }
}
