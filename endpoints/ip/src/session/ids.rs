//! [`UsedIds`]: the Request IDs that a peer has used.

use super::SessionError;
use crate::capsules::RequestedAddress;
use crate::pool::ranges::Ranges;

/// The most runs of neighbouring numbers that are remembered. A peer that counts needs one.
const MAX_RUNS: usize = 64;

/// The Request IDs that a peer has used, none of which it may use again (RFC 9484 §4.7.2).
///
/// A peer that picks numbers at random makes it forget the lowest ones, and that it repeats one of
/// those goes unnoticed: it is the peer that would mix up the answers.
#[derive(Debug, Default)]
pub(super) struct UsedIds(Ranges);

impl UsedIds {
    /// Adds the Request IDs of one capsule; none of them, if one was used before.
    pub(super) fn add(&mut self, requested: &[RequestedAddress]) -> Result<(), SessionError> {
        let mut ids = requested.iter().map(|entry| entry.request_id);
        let is_used = |id: &u64| self.0.contains(u128::from(*id), u128::from(*id));
        if let Some(id) = ids.find(is_used) {
            return Err(SessionError::RepeatedRequestId(id));
        }
        for entry in requested {
            let id = entry.request_id.into();
            self.0.insert(id, id);
        }
        while self.0.len() > MAX_RUNS {
            self.0.pop_first();
        }
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn runs(&self) -> usize {
        self.0.len()
    }
}
