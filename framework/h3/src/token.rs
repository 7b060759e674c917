//! Retry tokens (RFC 9000 §8.1): authenticated, bound to one client and one listener, and expiring.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use boring::hash::hmac_sha256;
use boring::memcmp;

/// How long a client has to come back with its token: a few round trips of a slow path.
const LIFETIME: Duration = Duration::from_secs(10);
/// Bytes of the authenticator: half of an HMAC-SHA-256.
const TAG_LEN: usize = 16;
/// Bytes of the issue time, in milliseconds since the key was made.
const TIME_LEN: usize = 8;

/// The key of this process's tokens. They die with it.
#[derive(Clone, Debug)]
pub(crate) struct TokenKey {
    key: [u8; 32],
    epoch: Instant,
}

impl TokenKey {
    pub(crate) fn random() -> Self {
        Self {
            key: rand::random(),
            epoch: Instant::now(),
        }
    }

    /// A token for the client at `peer` whose first Initial packet carried the destination
    /// connection ID `original`, and who is told to continue with `retry`.
    pub(crate) fn issue(
        &self,
        now: Instant,
        peer: SocketAddr,
        listener: SocketAddr,
        original: &[u8],
        retry: &[u8],
    ) -> Option<Vec<u8>> {
        let issued = now.saturating_duration_since(self.epoch).as_millis() as u64;
        let mut token = issued.to_be_bytes().to_vec();
        token.extend_from_slice(original);
        let tag = self.tag(&token, peer, listener, retry)?;
        token.extend_from_slice(&tag);
        Some(token)
    }

    /// The original destination connection ID, if the token is ours, for this client, listener and
    /// connection ID, and not too old.
    pub(crate) fn verify<'a>(
        &self,
        now: Instant,
        token: &'a [u8],
        peer: SocketAddr,
        listener: SocketAddr,
        retry: &[u8],
    ) -> Option<&'a [u8]> {
        let (body, tag) = token.split_at_checked(token.len().checked_sub(TAG_LEN)?)?;
        let (time, original) = body.split_at_checked(TIME_LEN)?;
        if !memcmp::eq(&self.tag(body, peer, listener, retry)?, tag) {
            return None;
        }
        let issued = Duration::from_millis(u64::from_be_bytes(time.try_into().ok()?));
        let age = now
            .saturating_duration_since(self.epoch)
            .checked_sub(issued)?;
        (age <= LIFETIME).then_some(original)
    }

    /// A token for a stateless reset of the connection ID `cid` (RFC 9000 §10.3.2).
    pub(crate) fn reset_token(&self, cid: &[u8]) -> u128 {
        let tag = hmac_sha256(&self.key, &[b"reset", cid].concat()).unwrap_or([0; 32]);
        let mut token = [0; 16];
        token.copy_from_slice(&tag[..16]);
        u128::from_be_bytes(token)
    }

    fn tag(
        &self,
        body: &[u8],
        peer: SocketAddr,
        listener: SocketAddr,
        retry: &[u8],
    ) -> Option<[u8; TAG_LEN]> {
        let mut input = Vec::with_capacity(128);
        // Lengths first, so that no two inputs look alike.
        input.extend_from_slice(&[body.len() as u8, retry.len() as u8]);
        input.extend_from_slice(body);
        input.extend_from_slice(retry);
        for address in [peer.ip(), listener.ip()] {
            match address {
                IpAddr::V4(v4) => input.extend_from_slice(&v4.to_ipv6_mapped().octets()),
                IpAddr::V6(v6) => input.extend_from_slice(&v6.octets()),
            }
        }
        input.extend_from_slice(&listener.port().to_be_bytes());
        hmac_sha256(&self.key, &input).ok()?[..TAG_LEN]
            .try_into()
            .ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGINAL: &[u8] = &[1; 16];
    const RETRY: &[u8] = &[2; 8];

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_token_is_good_for_its_client_listener_and_time_only() {
        let key = TokenKey::random();
        let (peer, listener) = (address("192.0.2.1:5000"), address("198.51.100.1:443"));
        let now = Instant::now() + Duration::from_secs(100);
        let token = key.issue(now, peer, listener, ORIGINAL, RETRY).unwrap();
        let good = key.verify(now, &token, peer, listener, RETRY);
        assert_eq!(good, Some(ORIGINAL));
        // A NAT may move the port between the two packets.
        assert!(
            key.verify(now, &token, address("192.0.2.1:6000"), listener, RETRY)
                .is_some()
        );

        let late = now + LIFETIME + Duration::from_millis(1);
        let early = now - Duration::from_secs(1);
        let other_key = TokenKey::random();
        let refused = [
            key.verify(late, &token, peer, listener, RETRY),
            key.verify(early, &token, peer, listener, RETRY),
            key.verify(now, &token, address("192.0.2.2:5000"), listener, RETRY),
            key.verify(now, &token, peer, address("198.51.100.2:443"), RETRY),
            key.verify(now, &token, peer, address("198.51.100.1:444"), RETRY),
            key.verify(now, &token, peer, listener, &[3; 8]),
            key.verify(now, &token[..token.len() - 1], peer, listener, RETRY),
            key.verify(now, &token[1..], peer, listener, RETRY),
            key.verify(now, &[], peer, listener, RETRY),
            other_key.verify(now, &token, peer, listener, RETRY),
        ];
        assert!(refused.iter().all(Option::is_none), "{refused:?}");
        for at in 0..token.len() {
            let mut forged = token.clone();
            forged[at] ^= 1;
            assert_eq!(
                key.verify(now, &forged, peer, listener, RETRY),
                None,
                "byte {at}"
            );
        }
    }
}
