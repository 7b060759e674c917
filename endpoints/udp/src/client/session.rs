//! One user's tunnels, one after the other.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pasque::{Connection, Request};
use tokio::time::Instant;

use super::ForwardLimits;
use super::event::ForwardEvent;
use super::flow::ClientFlow;
use super::user::User;
use crate::socket::BatchSocket;

/// A tunnel that ends sooner was no service: the next attempt waits as after a refusal.
const SHORT_LIFE: Duration = Duration::from_secs(1);

/// What the tunnels of a forward have in common.
#[derive(Clone)]
pub(super) struct Tunnels {
    pub(super) socket: Arc<BatchSocket>,
    pub(super) connection: Connection,
    pub(super) request: Arc<dyn Fn() -> Request + Send + Sync>,
    pub(super) on_event: Arc<dyn Fn(ForwardEvent<'_>) + Send + Sync>,
    pub(super) limits: ForwardLimits,
}

impl fmt::Debug for Tunnels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tunnels").field(&self.socket).finish()
    }
}

/// How a session was over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nothing waits any more.
    Ended,
    /// No tunnel, or none that lasted. What waited was dropped.
    Refused,
}

/// Opens tunnels for `user` while there is something to send. At the end the user is closed.
pub(super) async fn run(
    user: Arc<User>,
    tunnels: Arc<Tunnels>,
    is_first_attempt: bool,
) -> (SocketAddr, Outcome) {
    let address = user.address();
    let outcome = loop {
        let flow = ClientFlow::new(user.clone(), tunnels.clone());
        let tunnel = match tunnels.connection.open((tunnels.request)(), flow).await {
            Ok(tunnel) => tunnel,
            Err(error) => {
                if is_first_attempt {
                    let error = &error;
                    (tunnels.on_event)(ForwardEvent::Refused {
                        user: address,
                        error,
                    });
                }
                break Outcome::Refused;
            }
        };
        let opened = Instant::now();
        user.open();
        (tunnels.on_event)(ForwardEvent::Opened { user: address });
        let result = tunnel.ended().await;
        (tunnels.on_event)(ForwardEvent::Ended {
            user: address,
            error: result.as_ref().err(),
        });
        if opened.elapsed() < SHORT_LIFE {
            break Outcome::Refused;
        }
        if user.close_if_empty() {
            break Outcome::Ended;
        }
    };
    user.close();
    (address, outcome)
}
