//! [`Ground`]: what the tunnels of an endpoint stand on, and what a reload leaves alone.

use std::sync::Arc;
use std::time::Duration;

use pasque::{Error, Result, StartContext};

use super::claims::{Claim, overlap};
use super::interfaces::Interfaces;
use super::place::{self, Place};
use super::{InterfaceMode, IpEndpoint};
use crate::filter::Clients;
use crate::leases::LeaseFile;
use crate::pool::AddressPools;
use crate::shared::{Shared, SharedOptions};

/// Addresses, interfaces, and who has them. An endpoint that takes another one's place takes its ground
/// over.
pub(super) struct Ground {
    pub(super) pools: AddressPools,
    pub(super) place: Place,
    pub(super) clients: Arc<Clients>,
    _claim: Option<Claim>,
}

/// Takes no more packets, unless another endpoint stands there as well.
pub(super) fn leave(ground: &Arc<Ground>) {
    if Arc::strong_count(ground) == 1 {
        ground.place.stop();
    }
}

impl IpEndpoint {
    /// Opens what tunnels stand on.
    pub(super) async fn ground(&self, cx: &StartContext) -> Result<Ground> {
        let pools = self.pools(cx)?;
        // Memory may have the same addresses twice, a host may not.
        let claim = match self.devices {
            Some(_) => None,
            None => {
                place::check_host(&self.addresspools)?;
                Some(Claim::new(&self.addresspools)?)
            }
        };
        let space = [self.pool_networks(), self.accept_client_routes.clone()].concat();
        Ok(Ground {
            pools,
            place: self.place().await?,
            clients: Arc::new(Clients::new(space)),
            _claim: claim,
        })
    }

    /// The keys in which the ground of this endpoint is another one than that of `former`.
    pub(super) fn differences(&self, former: &Self) -> Vec<&'static str> {
        // A shared interface forwards between the clients itself.
        let is_shared = self.interface == InterfaceMode::Shared;
        let is_other = [
            ("ifprefix", self.ifprefix != former.ifprefix),
            ("addresspools", self.addresspools != former.addresspools),
            ("interface", self.interface != former.interface),
            ("device", self.device != former.device),
            (
                "client_to_client",
                is_shared && self.client_to_client != former.client_to_client,
            ),
            (
                "accept_client_routes",
                self.accept_client_routes != former.accept_client_routes,
            ),
            ("lease_s", self.lease_s != former.lease_s),
            ("lease_file", self.lease_file != former.lease_file),
        ];
        let keys = is_other.into_iter();
        keys.filter_map(|(key, is_other)| is_other.then_some(key))
            .collect()
    }

    /// Whether both can run at once.
    pub(super) fn is_elsewhere(&self, former: &Self) -> bool {
        let shares_file = self.lease_file.is_some() && self.lease_file == former.lease_file;
        let mut pools = self.addresspools.iter();
        let overlaps =
            pools.any(|pool| former.addresspools.iter().any(|other| overlap(pool, other)));
        self.ifprefix != former.ifprefix && !overlaps && !shares_file
    }

    fn pools(&self, cx: &StartContext) -> Result<AddressPools> {
        let path = self.lease_file.as_ref().map(|path| cx.resolve_path(path));
        let file = path.map(LeaseFile::open).transpose();
        let file = file.map_err(|error| Error::internal("lease_file").with_source(error))?;
        let reuse = Duration::from_secs(self.lease_s);
        AddressPools::new(&self.addresspools, reuse, file)
            .map_err(|error| Error::internal("addresspools").with_source(error))
    }

    async fn place(&self) -> Result<Place> {
        let options = SharedOptions {
            own: self.addresspools.clone(),
            client_to_client: self.client_to_client,
            counters: self.counters.clone(),
        };
        let own = self.addresspools.clone();
        Ok(match (&self.devices, self.interface) {
            (None, InterfaceMode::Client) => {
                Place::Own(Interfaces::new(self.ifprefix.clone(), self.device, own).await?)
            }
            (None, InterfaceMode::Shared) => {
                Place::Shared(Shared::open(&self.ifprefix.0, self.device, options).await?)
            }
            (Some(devices), InterfaceMode::Client) => Place::Given(devices.clone()),
            (Some(devices), InterfaceMode::Shared) => {
                Place::Shared(Shared::with_device(devices(&own)?, options))
            }
        })
    }
}
