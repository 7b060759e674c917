//! [`Register`]: what belongs to which of the clients that are there now.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use ipnetwork::IpNetwork;

use super::PrefixMap;

/// Clients' networks, each with a value of its client. Written when tunnels begin, change and end.
#[derive(Debug)]
pub(crate) struct Register<T>(RwLock<PrefixMap<T>>);

impl<T> Default for Register<T> {
    fn default() -> Self {
        Self(RwLock::default())
    }
}

impl<T: Clone> Register<T> {
    /// What is there now. Others wait to change it while this is held.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, PrefixMap<T>> {
        // Each change of the map is whole or not made at all.
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, PrefixMap<T>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for one more client, which has no networks yet.
    pub(crate) fn join(self: &Arc<Self>, value: T) -> Place<T> {
        Place {
            register: self.clone(),
            value,
            networks: Vec::new(),
        }
    }
}

/// One client's networks in a [`Register`]. Dropping it removes them.
#[derive(Debug)]
pub(crate) struct Place<T: Clone> {
    register: Arc<Register<T>>,
    value: T,
    networks: Vec<IpNetwork>,
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

    /// The networks that it really has.
    pub(crate) fn networks(&self) -> &[IpNetwork] {
        &self.networks
    }
}

impl<T: Clone> Drop for Place<T> {
    fn drop(&mut self) {
        self.set(&[]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(texts: &[&str]) -> Vec<IpNetwork> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
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
