//! The policy of an endpoint on the host as it is now.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::{EgressPolicy, LocalAddresses};
use crate::error::{Error, Result};

/// How old the list of this host's addresses may be when it is used.
const MAX_AGE: Duration = Duration::from_secs(5);

/// An [`EgressPolicy`] with this host's own addresses as they are now: interfaces come and go.
#[derive(Debug)]
pub struct HostPolicy {
    rules: EgressPolicy,
    listeners: Vec<SocketAddr>,
    for_clients: Vec<IpAddr>,
    detected: Mutex<(Instant, Arc<EgressPolicy>)>,
}

impl HostPolicy {
    /// `rules` on this host, whose server listens on `listeners` and has the addresses
    /// `for_clients` for the clients' sake.
    ///
    /// # Errors
    /// When the interfaces cannot be listed.
    pub fn new(
        rules: EgressPolicy,
        listeners: Vec<SocketAddr>,
        for_clients: Vec<IpAddr>,
    ) -> Result<Self> {
        let policy = detect(&rules, &listeners, &for_clients)?;
        Ok(Self {
            rules,
            listeners,
            for_clients,
            detected: Mutex::new((Instant::now(), policy)),
        })
    }

    /// The policy, at most five seconds old.
    ///
    /// # Errors
    /// When the interfaces cannot be listed: then nothing may be reached.
    pub fn current(&self) -> Result<Arc<EgressPolicy>> {
        // A pair that is replaced as a whole is never half written.
        let mut detected = self.detected.lock().unwrap_or_else(PoisonError::into_inner);
        if detected.0.elapsed() >= MAX_AGE {
            let policy = detect(&self.rules, &self.listeners, &self.for_clients)?;
            *detected = (Instant::now(), policy);
        }
        Ok(detected.1.clone())
    }
}

fn detect(
    rules: &EgressPolicy,
    listeners: &[SocketAddr],
    for_clients: &[IpAddr],
) -> Result<Arc<EgressPolicy>> {
    let mut local = LocalAddresses::detect(listeners.to_vec())
        .map_err(|error| Error::system("cannot list the interfaces", error))?;
    local.for_clients = for_clients.to_vec();
    Ok(Arc::new(rules.clone().with_local(local)))
}
