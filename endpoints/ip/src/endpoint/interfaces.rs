//! [`Interfaces`]: one TUN interface per client.

use std::sync::Arc;

use http::StatusCode;
use ipnetwork::IpNetwork;
use pasque::proxy_status::ProxyError;
use pasque::{Error, Result};
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use super::keys::InterfacePrefix;
use super::numbers::{Number, Numbers};
use crate::device::{self, DeviceError, DeviceKind, Interface, PacketDevice};
use crate::flow::{ClientState, Seat};
use crate::link::{self, Link, LinkAddress, LinkState, follow};
use crate::mtu::MIN_MTU_V6;

/// How many names that others have taken are passed over.
const MAX_TAKEN: usize = 64;

/// Makes the clients' interfaces, named `PREFIX-i0`, `PREFIX-i1` and so on.
#[derive(Debug)]
pub(super) struct Interfaces {
    prefix: InterfacePrefix,
    kind: DeviceKind,
    /// The server's own addresses, with the length of their pools' prefixes.
    own: Vec<IpNetwork>,
    numbers: Numbers,
}

impl Interfaces {
    /// # Errors
    /// What keeps this process from making interfaces, or that another one makes interfaces of such
    /// names.
    pub(super) async fn new(
        prefix: InterfacePrefix,
        kind: DeviceKind,
        own: Vec<IpNetwork>,
    ) -> Result<Self> {
        device::check_access().map_err(unavailable)?;
        let names = link::interfaces().await.map_err(unusable)?;
        if let Some(name) = names.into_iter().find(|name| prefix.is_numbered(name)) {
            return Err(Error::internal(format!(
                "interface {name} exists already: another server has the ifprefix \"{prefix}\", or \
                 something else made it; remove it, or choose another ifprefix"
            )));
        }
        Ok(Self {
            prefix,
            kind,
            own,
            numbers: Numbers::default(),
        })
    }

    /// An interface for a client that has these addresses, up and ready.
    ///
    /// Everything is undone if the future is dropped.
    pub(super) async fn open(
        &self,
        addresses: &[IpNetwork],
    ) -> Result<(Arc<dyn PacketDevice>, Box<dyn Seat>)> {
        let (device, interface, number) = self.make().await?;
        let client = ClientState {
            addresses: addresses.to_vec(),
            routes: Vec::new(),
            mtu: MIN_MTU_V6,
        };
        let state = link_state(&self.own, &client);
        let mut link = Link::new(&interface).await.map_err(unusable)?;
        link.set_up().await.map_err(unusable)?;
        link.apply(&state).await.map_err(unusable)?;
        let (states, receiver) = watch::channel(state);
        tokio::spawn(follow(link, receiver));
        let seat = OwnInterface {
            own: self.own.clone(),
            states,
            _number: number,
        };
        Ok((device, Box::new(seat)))
    }

    /// An interface of the lowest number whose name nobody else has.
    async fn make(&self) -> Result<(Arc<dyn PacketDevice>, Interface, Number)> {
        let mut passed_over = Vec::new();
        loop {
            let number = self.numbers.take();
            let name = self.prefix.numbered(number.get()).ok_or_else(too_many)?;
            let kind = self.kind;
            // The kernel takes milliseconds, in which packets of others should pass. What comes out is
            // dropped there if nobody waits for it any more, and with it the interface.
            let made = spawn_blocking(move || (make(&name, kind), number)).await;
            let (made, number) = made.map_err(|error| unavailable_because(error.to_string()))?;
            match made {
                Ok((device, interface)) => return Ok((device, interface, number)),
                Err(DeviceError::NameTaken { .. }) if passed_over.len() < MAX_TAKEN => {
                    passed_over.push(number);
                }
                Err(error) => return Err(unavailable(error)),
            }
        }
    }
}

/// Makes an interface with one queue, on the runtime around.
fn make(name: &str, kind: DeviceKind) -> Result<(Arc<dyn PacketDevice>, Interface), DeviceError> {
    let (queues, interface) = device::open(name, kind, 1)?;
    let kernel = |source| DeviceError::Kernel {
        name: name.to_owned(),
        source,
    };
    let queue = queues
        .into_iter()
        .next()
        .ok_or_else(|| kernel(std::io::ErrorKind::NotFound.into()))?;
    Ok((queue.register().map_err(kernel)?, interface))
}

/// A client's interface, as the tunnel sees it. The interface itself goes with its device.
struct OwnInterface {
    own: Vec<IpNetwork>,
    states: watch::Sender<LinkState>,
    /// Free again once the interface is gone.
    _number: Number,
}

impl Seat for OwnInterface {
    fn update(&mut self, client: &ClientState) {
        let state = link_state(&self.own, client);
        self.states.send_if_modified(|known| {
            // The MTU is not known at the beginning: then it stays as it is.
            let state = LinkState {
                mtu: if state.mtu == 0 { known.mtu } else { state.mtu },
                ..state
            };
            let is_new = *known != state;
            *known = state;
            is_new
        });
    }

    fn is_slow_to_leave(&self) -> bool {
        true
    }
}

/// How the interface of `client` should be.
///
/// The server's end of it has the own address of the pool that the client's address is from, the same
/// one on all clients' interfaces.
fn link_state(own: &[IpNetwork], client: &ClientState) -> LinkState {
    let mut addresses: Vec<LinkAddress> = Vec::new();
    for network in &client.addresses {
        let Some(own) = own.iter().find(|own| own.contains(network.ip())) else {
            continue;
        };
        let address = match network {
            IpNetwork::V4(host) if host.prefix() == 32 => {
                LinkAddress::with_peer(own.ip(), host.ip().into())
            }
            _ => LinkAddress::new(own.ip().into()),
        };
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    let routes = client.addresses.iter().chain(&client.routes);
    LinkState {
        mtu: client.mtu,
        addresses,
        routes: routes.copied().collect(),
    }
}

fn too_many() -> Error {
    Error::proxy(
        ProxyError::ConnectionLimitReached,
        "there is no name left for another interface",
    )
}

/// What the log says, and the client nothing of.
pub(super) fn unavailable(error: DeviceError) -> Error {
    Error::proxy(ProxyError::ProxyInternalError, "no tunnel interface").with_source(error)
}

fn unavailable_because(message: String) -> Error {
    Error::proxy(ProxyError::ProxyInternalError, message)
}

fn unusable(error: std::io::Error) -> Error {
    Error::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "cannot set up the tunnel's interface",
    )
    .with_proxy_error(ProxyError::ProxyInternalError)
    .with_source(error)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn networks(texts: &[&str]) -> Vec<IpNetwork> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn each_end_of_an_interface_has_the_address_of_its_pool() {
        let own = networks(&["10.76.0.1/24", "10.77.0.1/24", "fd76::1/64"]);
        let client = ClientState {
            addresses: networks(&[
                "10.77.0.9/32",
                "10.76.0.2/32",
                "fd76::2/128",
                "fd76:0:0:0:8::/80",
            ]),
            routes: networks(&["192.168.7.0/24"]),
            mtu: 1319,
        };
        let state = link_state(&own, &client);
        assert_eq!(
            state.addresses,
            [
                LinkAddress::with_peer(address("10.77.0.1"), address("10.77.0.9")),
                LinkAddress::with_peer(address("10.76.0.1"), address("10.76.0.2")),
                LinkAddress::new(address("fd76::1").into()),
            ]
        );
        let routes = [&client.addresses[..], &client.routes].concat();
        assert_eq!((state.mtu, state.routes), (1319, routes));
    }

    #[test]
    fn ip_09_a_client_of_one_ip_version_leaves_no_trace_of_the_other() {
        let own = networks(&["10.76.0.1/24", "fd76::1/64"]);
        let client = ClientState {
            addresses: networks(&["10.76.0.2/32"]),
            ..ClientState::default()
        };
        let state = link_state(&own, &client);
        assert!(
            state
                .addresses
                .iter()
                .all(|address| address.local.is_ipv4())
        );
        assert!(state.routes.iter().all(IpNetwork::is_ipv4));
    }

    #[tokio::test]
    async fn the_mtu_stays_until_the_tunnels_is_known() {
        let (states, receiver) = watch::channel(LinkState {
            mtu: 1280,
            ..LinkState::default()
        });
        let mut seat = OwnInterface {
            own: networks(&["10.76.0.1/24"]),
            states,
            _number: Numbers::default().take(),
        };
        let mut client = ClientState::default();
        for (known, mtu) in [(0, 1280), (1319, 1319), (0, 1319)] {
            client.mtu = known;
            seat.update(&client);
            assert_eq!(receiver.borrow().mtu, mtu);
        }
    }
}
