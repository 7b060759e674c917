//! [`PrefixMap`]: what belongs to an address.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

/// Values by address prefix; the longest prefix that holds an address decides.
///
/// Made for many single addresses and few prefixes: those are searched one by one.
#[derive(Clone, Debug)]
pub(crate) struct PrefixMap<T> {
    hosts: HashMap<IpAddr, T>,
    /// The longest first.
    prefixes: Vec<(IpNetwork, T)>,
}

impl<T> PrefixMap<T> {
    /// Adds a prefix; false, and nothing changes, if it is there already.
    pub(crate) fn insert(&mut self, prefix: IpNetwork, value: T) -> bool {
        if is_host(&prefix) {
            return match self.hosts.entry(prefix.ip()) {
                Entry::Occupied(_) => false,
                Entry::Vacant(entry) => {
                    entry.insert(value);
                    true
                }
            };
        }
        if self.prefixes.iter().any(|(known, _)| *known == prefix) {
            return false;
        }
        let at = self
            .prefixes
            .partition_point(|(known, _)| known.prefix() >= prefix.prefix());
        self.prefixes.insert(at, (prefix, value));
        true
    }

    pub(crate) fn remove(&mut self, prefix: &IpNetwork) {
        match is_host(prefix) {
            true => drop(self.hosts.remove(&prefix.ip())),
            false => self.prefixes.retain(|(known, _)| known != prefix),
        }
    }

    /// Every value, once per prefix.
    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        let prefixes = self.prefixes.iter().map(|(_, value)| value);
        self.hosts.values().chain(prefixes)
    }

    #[inline]
    pub(crate) fn get(&self, address: IpAddr) -> Option<&T> {
        let host = self.hosts.get(&address);
        host.or_else(|| {
            let mut prefixes = self.prefixes.iter();
            let (_, value) = prefixes.find(|(prefix, _)| prefix.contains(address))?;
            Some(value)
        })
    }
}

impl<T> Default for PrefixMap<T> {
    fn default() -> Self {
        Self {
            hosts: HashMap::new(),
            prefixes: Vec::new(),
        }
    }
}

fn is_host(prefix: &IpNetwork) -> bool {
    prefix.prefix() == if prefix.is_ipv6() { 128 } else { 32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_decides_and_the_first_to_come_keeps_its_place() {
        let mut map = PrefixMap::default();
        for (prefix, value) in [
            ("10.0.0.0/8", "wide"),
            ("10.1.0.0/16", "narrow"),
            ("10.1.2.3/32", "host"),
            ("::/0", "v6"),
        ] {
            assert!(map.insert(prefix.parse().unwrap(), value));
            assert!(!map.insert(prefix.parse().unwrap(), "late"));
        }
        let get = |map: &PrefixMap<&'static str>, address: &str| {
            map.get(address.parse().unwrap()).copied()
        };
        assert_eq!(get(&map, "10.1.2.3"), Some("host"));
        assert_eq!(get(&map, "10.1.2.4"), Some("narrow"));
        assert_eq!(get(&map, "10.2.0.0"), Some("wide"));
        assert_eq!(get(&map, "11.0.0.0"), None);
        assert_eq!(get(&map, "2001:db8::1"), Some("v6"));

        map.remove(&"10.1.2.3/32".parse().unwrap());
        map.remove(&"10.1.0.0/16".parse().unwrap());
        assert_eq!(get(&map, "10.1.2.3"), Some("wide"));
    }
}
