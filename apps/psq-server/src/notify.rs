//! What a service manager is told (`sd_notify(3)`), where one has started the server.

use std::time::Duration;

use sd_notify::NotifyState;
use tracing::debug;

/// The server serves, and `status` says what.
pub(crate) fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// A reload begins; it ends with [`ready`], whatever comes of it.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => debug!(%error, "no monotonic clock"),
    }
}

/// The server ends what is under way.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// The server is alive.
pub(crate) fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// Within what time the service manager wants to hear that the server is [`alive`], if it does.
pub(crate) fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        debug!(%error, "the service manager cannot be told");
    }
}
