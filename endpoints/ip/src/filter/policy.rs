//! [`PolicyCache`]: what the egress policy said of the destinations that a tunnel uses.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pasque::policy::{EgressPolicy, HostPolicy};
use tracing::warn;

/// How long a policy is used before it is asked for again: interfaces come and go.
const MAX_AGE: Duration = Duration::from_secs(5);

/// Destinations remembered at a time; a power of two. A host talks to a few dozens at once.
const SLOTS: usize = 64;

/// The verdicts on the last destinations, so that a packet costs one comparison and not a walk over all
/// rules, ranges and interfaces.
pub(super) struct PolicyCache {
    policy: Option<Arc<EgressPolicy>>,
    asked: Option<Instant>,
    /// The key's hash names its place; a later key takes it over.
    slots: Box<[Option<Slot>; SLOTS]>,
}

#[derive(Clone, Copy)]
struct Slot {
    address: IpAddr,
    port: u16,
    is_allowed: bool,
}

impl PolicyCache {
    pub(super) fn new() -> Self {
        Self {
            policy: None,
            asked: None,
            slots: Box::new([None; SLOTS]),
        }
    }

    /// The last verdict on `address` and `port`, if it is still known; port 0 if the protocol has none.
    #[inline]
    pub(super) fn recall(
        &mut self,
        host: &HostPolicy,
        address: IpAddr,
        port: u16,
        now: Instant,
    ) -> Option<bool> {
        let is_fresh = self
            .asked
            .is_some_and(|asked| now.saturating_duration_since(asked) < MAX_AGE);
        if !is_fresh {
            self.ask(host, now);
        }
        match self.slots.get(place(address, port)) {
            Some(Some(known)) if (known.address, known.port) == (address, port) => {
                Some(known.is_allowed)
            }
            _ => None,
        }
    }

    /// The verdict on `address` and `port`, to be [recalled](Self::recall) later.
    pub(super) fn judge(&mut self, address: IpAddr, port: u16) -> bool {
        let is_allowed = self
            .policy
            .as_ref()
            .is_some_and(|policy| policy.check((address, port).into()).is_ok());
        if let Some(slot) = self.slots.get_mut(place(address, port)) {
            *slot = Some(Slot {
                address,
                port,
                is_allowed,
            });
        }
        is_allowed
    }

    #[cold]
    fn ask(&mut self, host: &HostPolicy, now: Instant) {
        self.asked = Some(now);
        let policy = match host.current() {
            Ok(policy) => Some(policy),
            Err(error) => {
                warn!("no IP packet may leave: {error}");
                None
            }
        };
        let is_same = match (&self.policy, &policy) {
            (Some(old), Some(new)) => Arc::ptr_eq(old, new),
            _ => false,
        };
        if !is_same {
            self.policy = policy;
            self.slots.fill(None);
        }
    }
}

impl std::fmt::Debug for PolicyCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let used = self.slots.iter().flatten().count();
        write!(f, "PolicyCache({used} of {SLOTS})")
    }
}

/// Mixes the key by one multiplication (Fibonacci hashing): whom a client floods is its own choice, and
/// what it then loses is its own cache.
#[inline]
fn place(address: IpAddr, port: u16) -> usize {
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    let bits = match address {
        IpAddr::V4(address) => u64::from(address.to_bits()),
        IpAddr::V6(address) => {
            let bits = address.to_bits();
            (bits >> 64) as u64 ^ bits as u64
        }
    };
    let mixed = (bits ^ u64::from(port) << 40).wrapping_mul(GOLDEN);
    (mixed >> (u64::BITS - SLOTS.ilog2())) as usize
}

#[cfg(test)]
mod tests {
    use pasque::policy::Rule;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_remembered_is_what_the_policy_says(
            asked in proptest::collection::vec((0u8..16, 20u16..30, any::<bool>()), 1..500),
        ) {
            let rules = |texts: &[&str]| -> Vec<Rule> {
                texts.iter().map(|text| text.parse().unwrap()).collect()
            };
            let policy = EgressPolicy::new(rules(&["10.0.0.0/29:25"]), rules(&["*:22", "9.9.9.5"]));
            let host = HostPolicy::new(policy.clone(), Vec::new(), Vec::new()).unwrap();
            let mut cache = PolicyCache::new();
            let now = Instant::now();
            for (last, port, is_private) in asked {
                let first = if is_private { [10, 0, 0] } else { [9, 9, 9] };
                let address = IpAddr::from([first[0], first[1], first[2], last]);
                let known = cache.recall(&host, address, port, now);
                let is_allowed = known.unwrap_or_else(|| cache.judge(address, port));
                prop_assert_eq!(is_allowed, policy.check((address, port).into()).is_ok());
                prop_assert_eq!(cache.recall(&host, address, port, now), Some(is_allowed));
            }
        }
    }
}
