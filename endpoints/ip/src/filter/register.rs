//! [`Register`]: what belongs to which of the clients that are there now.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use ipnetwork::IpNetwork;

use super::PrefixMap;

/// Clients' networks, each with a value of its client. Written when tunnels begin, change and end.
#[derive(Debug)]
pub(crate) struct Register<T> {
    networks: RwLock<PrefixMap<T>>,
    /// Those of them that clients have advertised, by their first address. No two overlap.
    advertised: Mutex<BTreeMap<IpAddr, IpNetwork>>,
}

impl<T> Default for Register<T> {
    fn default() -> Self {
        Self {
            networks: RwLock::default(),
            advertised: Mutex::default(),
        }
    }
}

impl<T: Clone> Register<T> {
    /// What is there now. Others wait to change it while this is held.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, PrefixMap<T>> {
        // Each change of the map is whole or not made at all.
        self.networks.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, PrefixMap<T>> {
        self.networks
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn advertised(&self) -> MutexGuard<'_, BTreeMap<IpAddr, IpNetwork>> {
        self.advertised
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for one more client, which has no networks yet.
    pub(crate) fn join(self: &Arc<Self>, value: T) -> Place<T> {
        Place {
            register: self.clone(),
            value,
            networks: Vec::new(),
            advertised: Vec::new(),
        }
    }
}

/// One client's networks in a [`Register`]. Dropping it removes them.
#[derive(Debug)]
pub(crate) struct Place<T: Clone> {
    register: Arc<Register<T>>,
    value: T,
    networks: Vec<IpNetwork>,
    advertised: Vec<IpNetwork>,
}

impl<T: Clone> Place<T> {
    /// The client has these networks now, and no others. What another client has already stays with
    /// that one.
    pub(crate) fn set(&mut self, networks: &[IpNetwork]) {
        let mut map = self.register.write();
        self.networks.retain(|network| {
            let stays = networks.contains(network);
            if !stays {
                map.remove(network);
            }
            stays
        });
        for network in networks {
            if !self.networks.contains(network) && map.insert(*network, self.value.clone()) {
                self.networks.push(*network);
            }
        }
    }

    /// The client has these addresses and has advertised these routes, which do not overlap each other.
    /// Returns those of its routes that count: a network that overlaps one of another client would take
    /// from that one what is its own.
    pub(crate) fn set_client(
        &mut self,
        addresses: &[IpNetwork],
        routes: &[IpNetwork],
    ) -> Vec<IpNetwork> {
        let register = self.register.clone();
        let mut advertised = register.advertised();
        for former in self.advertised.drain(..) {
            advertised.remove(&former.network());
        }
        for route in routes {
            if !overlaps(&advertised, route) {
                self.advertised.push(*route);
            }
        }
        let own = self
            .advertised
            .iter()
            .map(|route| (route.network(), *route));
        advertised.extend(own);
        let all = [addresses, &self.advertised].concat();
        self.set(&all);
        self.advertised.clone()
    }

    /// The networks that it really has.
    pub(crate) fn networks(&self) -> &[IpNetwork] {
        &self.networks
    }
}

impl<T: Clone> Drop for Place<T> {
    fn drop(&mut self) {
        self.set_client(&[], &[]);
    }
}

/// Whether `network` has an address in common with one of `advertised`, which are disjoint.
fn overlaps(advertised: &BTreeMap<IpAddr, IpNetwork>, network: &IpNetwork) -> bool {
    let (first, last) = (network.network(), network.broadcast());
    let mut up_to_last = advertised.range(..=last);
    // The last that begins before the end of the network is the one that reaches farthest.
    let nearest = up_to_last.next_back();
    nearest.is_some_and(|(start, other)| *start >= first || other.contains(first))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(texts: &[&str]) -> Vec<IpNetwork> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_route_inside_or_around_another_client_s_does_not_count() {
        let register = Arc::new(Register::default());
        let of = |address: &str| register.read().get(address.parse().unwrap()).copied();
        let mut one = register.join(1);
        let mut two = register.join(2);
        let own = networks(&["10.0.0.1/32"]);
        let first = networks(&["192.168.7.0/24", "fd00:7::/32"]);
        assert_eq!(one.set_client(&own, &first), first);
        let asked = networks(&[
            "192.168.6.0/24",
            "192.168.7.0/25",
            "192.168.8.0/24",
            "fd00::/16",
            "fd01::/16",
        ]);
        let counted = networks(&["192.168.6.0/24", "192.168.8.0/24", "fd01::/16"]);
        assert_eq!(two.set_client(&networks(&["10.0.0.2/32"]), &asked), counted);
        assert_eq!(
            two.set_client(&[], &networks(&["192.168.0.0/16", "192.168.7.255/32"])),
            []
        );
        assert_eq!(
            (of("192.168.7.1"), of("192.168.7.255"), of("fd00:7::1")),
            (Some(1), Some(1), Some(1))
        );
        assert_eq!((of("192.168.6.1"), of("10.0.0.2")), (None, None));
        // Its own it may cut and join as it likes.
        let other = networks(&["192.168.6.0/23"]);
        assert_eq!(one.set_client(&own, &other), other);
        assert_eq!(two.set_client(&[], &first), networks(&["fd00:7::/32"]));
        drop(one);
        assert_eq!(two.set_client(&[], &first), first);
        assert_eq!(of("192.168.7.1"), Some(2));
        drop(two);
        assert!(register.advertised().is_empty());
    }

    #[test]
    fn a_place_holds_what_it_was_first_to_take_until_it_goes() {
        let register = Arc::new(Register::default());
        let of = |address: &str| register.read().get(address.parse().unwrap()).copied();
        let mut one = register.join(1);
        let mut two = register.join(2);
        one.set(&networks(&["10.0.0.1/32", "192.168.7.0/24"]));
        two.set(&networks(&["10.0.0.2/32", "192.168.7.0/24"]));
        assert_eq!(of("10.0.0.2"), Some(2));
        assert_eq!(of("192.168.7.9"), Some(1));
        assert_eq!(two.networks(), networks(&["10.0.0.2/32"]));

        one.set(&networks(&["10.0.0.3/32"]));
        assert_eq!((of("10.0.0.1"), of("192.168.7.9")), (None, None));
        two.set(&networks(&["10.0.0.2/32", "192.168.7.0/24"]));
        assert_eq!(of("192.168.7.9"), Some(2));
        drop(two);
        assert_eq!((of("192.168.7.9"), of("10.0.0.3")), (None, Some(1)));
    }
}
