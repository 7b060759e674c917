//! What an identity may use, and how long: [`Ledger`] counts what each identity uses over all its
//! connections, and every tunnel of an identity runs inside a flow that holds it to that.

mod account;
mod bucket;
mod guarded;
#[cfg(test)]
mod tests;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use self::account::{Accounts, Seat};
use self::bucket::Clock;
use self::guarded::{Guarded, GuardedContent, Meter};
use crate::auth::{Authenticator, Identity};
use crate::error::{Error, Result, StreamError};
use crate::flow::Flow;
use crate::proxy_status::ProxyError;
use crate::response::BodyStream;

/// How often a running tunnel asks whether its client would still be let in.
const CHECK_INTERVAL: Duration = Duration::from_secs(3);

/// Who has running tunnels, and what they have used. It outlives a router: what takes the place of
/// one goes on with its accounts.
#[derive(Debug)]
pub(crate) struct Ledger {
    accounts: Accounts,
    authenticator: RwLock<Option<Arc<Authenticator>>>,
    clock: Clock,
    check_interval: Duration,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            accounts: Accounts::default(),
            authenticator: RwLock::default(),
            clock: Clock::start(),
            check_interval: CHECK_INTERVAL,
        }
    }
}

impl Ledger {
    /// From now on `authenticator` says which identities are still let in; `None`: all are, until
    /// they expire.
    pub(crate) fn set_authenticator(&self, authenticator: Option<Arc<Authenticator>>) {
        let current = self.authenticator.write();
        *current.unwrap_or_else(PoisonError::into_inner) = authenticator;
    }

    /// Whether `identity` would still be let in.
    fn is_valid(&self, identity: &Identity) -> bool {
        let current = self.authenticator.read();
        match &*current.unwrap_or_else(PoisonError::into_inner) {
            Some(authenticator) => authenticator.is_still_valid(identity),
            None => identity
                .expires()
                .is_none_or(|expires| SystemTime::now() < expires),
        }
    }

    /// Takes a place for one more tunnel of `identity`, before anything is opened for it.
    ///
    /// # Errors
    /// 403 when it has used up its volume, 503 when it has as many tunnels as it may.
    pub(crate) fn admit(&self, identity: &Identity) -> Result<Admission> {
        let limits = *identity.limits();
        let Some(name) = identity.name() else {
            return Ok(Admission::default());
        };
        if (limits.tunnels, limits.rate, limits.volume) == (None, None, None) {
            return Ok(Admission::default());
        }
        let account = self.accounts.of(name);
        if limits.volume.is_some_and(|volume| account.used() >= volume) {
            return Err(used_up());
        }
        let Some(seat) = Seat::take(account, limits.tunnels) else {
            let message = "the identity has as many tunnels as it may";
            return Err(Error::proxy(ProxyError::ConnectionLimitReached, message));
        };
        let clock = self.clock.clone();
        Ok(Admission {
            meter: Some(Meter::new(seat, limits, clock)),
        })
    }

    /// The same flow, held to what `identity` may use, and ended when it is not let in any more.
    pub(crate) fn guard(
        self: &Arc<Self>,
        flow: Box<dyn Flow>,
        identity: Identity,
        admission: Admission,
    ) -> Box<dyn Flow> {
        if identity.is_anonymous() {
            return flow;
        }
        Box::new(Guarded::new(flow, identity, admission.meter, self.clone()))
    }

    /// The same content, broken off when `identity` is not let in any more.
    pub(crate) fn guard_content(
        self: &Arc<Self>,
        content: BodyStream,
        identity: Identity,
    ) -> BodyStream {
        if identity.is_anonymous() {
            return content;
        }
        Box::pin(GuardedContent::new(content, identity, self.clone()))
    }
}

/// A place for a tunnel; free again when it is dropped.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    /// What counts the tunnel's bytes. `None`: nothing is limited.
    meter: Option<Meter>,
}

/// The identity has used up its volume.
fn used_up() -> Error {
    let message = "the identity has used up its volume";
    Error::proxy(ProxyError::HttpRequestDenied, message)
        .with_stream_error(StreamError::ExcessiveLoad)
}
