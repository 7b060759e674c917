//! [`PrefixMap`]: what belongs to an address.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

/// Values by address prefix; the longest prefix that holds an address decides.
///
/// A look-up asks once for each length that some prefix has, however many there are of it: clients choose
/// how many prefixes they ask for, and others where they send.
#[derive(Clone, Debug)]
pub(crate) struct PrefixMap<T> {
    /// By IP version and length; the longest first. None is empty.
    lengths: Vec<(Length, HashMap<IpAddr, T>)>,
}

/// An IP version, true for IPv6, and the length of a prefix, in bits.
type Length = (bool, u8);

impl<T> PrefixMap<T> {
    /// Adds a prefix; false, and nothing changes, if it is there already.
    pub(crate) fn insert(&mut self, prefix: IpNetwork, value: T) -> bool {
        let length = length_of(&prefix);
        let at = match self.position(length) {
            Ok(at) => at,
            Err(at) => {
                self.lengths.insert(at, (length, HashMap::new()));
                at
            }
        };
        let Some((_, networks)) = self.lengths.get_mut(at) else {
            return false;
        };
        match networks.entry(prefix.network()) {
            Entry::Occupied(_) => false,
            Entry::Vacant(entry) => {
                entry.insert(value);
                true
            }
        }
    }

    pub(crate) fn remove(&mut self, prefix: &IpNetwork) {
        if let Ok(at) = self.position(length_of(prefix))
            && let Some((_, networks)) = self.lengths.get_mut(at)
        {
            networks.remove(&prefix.network());
            if networks.is_empty() {
                self.lengths.remove(at);
            }
        }
    }

    /// Every value, once per prefix.
    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.lengths
            .iter()
            .flat_map(|(_, networks)| networks.values())
    }

    #[inline]
    pub(crate) fn get(&self, address: IpAddr) -> Option<&T> {
        let is_v6 = address.is_ipv6();
        let mut lengths = self.lengths.iter().filter(|((v6, _), _)| *v6 == is_v6);
        lengths.find_map(|((_, bits), networks)| networks.get(&masked(address, *bits)))
    }

    fn position(&self, length: Length) -> Result<usize, usize> {
        let longest_first = |(other, _): &(Length, _)| length.cmp(other);
        self.lengths.binary_search_by(longest_first)
    }
}

fn length_of(prefix: &IpNetwork) -> Length {
    (prefix.is_ipv6(), prefix.prefix())
}

/// The first `bits` bits of `address`, and zeros.
fn masked(address: IpAddr, bits: u8) -> IpAddr {
    let bits = u32::from(bits);
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            IpAddr::V6((v6.to_bits() & mask).into())
        }
    }
}

impl<T> Default for PrefixMap<T> {
    fn default() -> Self {
        Self {
            lengths: Vec::new(),
        }
    }
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
    #[test]
    fn it_finds_what_a_search_through_all_prefixes_finds() {
        let mut map = PrefixMap::default();
        let mut all: Vec<IpNetwork> = Vec::new();
        let mut random = Xorshift(7);
        for _ in 0..400 {
            let bits = random.next();
            let prefix = match bits % 2 {
                0 => IpNetwork::new(
                    IpAddr::from((random.next() as u32 & 0x0f0f).to_be_bytes()),
                    (bits >> 8) as u8 % 33,
                ),
                _ => IpNetwork::new(
                    IpAddr::from((u128::from(random.next()) & 0x0f0f).to_be_bytes()),
                    (bits >> 8) as u8 % 129,
                ),
            };
            let prefix = prefix.unwrap();
            let prefix = IpNetwork::new(prefix.network(), prefix.prefix()).unwrap();
            assert_eq!(map.insert(prefix, prefix), !all.contains(&prefix));
            all.push(prefix);
        }
        all.sort();
        all.dedup();
        while all.len() > 1 {
            for _ in 0..50 {
                let bits = random.next() & 0x0f0f;
                for address in [
                    IpAddr::from((bits as u32).to_be_bytes()),
                    IpAddr::from(u128::from(bits).to_be_bytes()),
                ] {
                    let holds = all.iter().filter(|prefix| prefix.contains(address));
                    let longest = holds.max_by_key(|prefix| prefix.prefix());
                    assert_eq!(map.get(address), longest, "{address}");
                }
            }
            for prefix in all.split_off(all.len() / 2) {
                map.remove(&prefix);
            }
            assert_eq!(map.values().count(), all.len());
        }
        map.remove(&all[0]);
        assert!(map.lengths.is_empty());
    }

    struct Xorshift(u64);

    impl Xorshift {
        fn next(&mut self) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0
        }
    }
}
