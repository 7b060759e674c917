//! What has to be done to come from one state to another.

use std::collections::HashSet;

use ipnetwork::IpNetwork;

use super::{LinkAddress, LinkState, MIN_MTU_V6};

/// One thing to ask of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Mtu(u32),
    AddAddress(LinkAddress),
    RemoveAddress(LinkAddress),
    AddRoute(IpNetwork),
    RemoveRoute(IpNetwork),
}

/// What leads from `applied` to `wanted`, in an order that the kernel takes and that never leaves the
/// interface without the addresses that both have in common.
pub(super) fn changes(applied: &LinkState, wanted: &LinkState) -> Vec<Change> {
    let mut changes = Vec::new();
    let mtu = mtu_of(wanted);
    let mtu = (mtu != 0 && mtu != applied.mtu).then_some(mtu);
    // IPv6 needs its MTU before its addresses, and no longer has it after them.
    if let Some(mtu) = mtu.filter(|&mtu| mtu > applied.mtu) {
        changes.push(Change::Mtu(mtu));
    }

    let new = missing(&wanted.addresses, &applied.addresses);
    let old = missing(&applied.addresses, &wanted.addresses);
    // The kernel does not take the same address a second time, with another length or peer.
    let is_in_the_way = |old: &LinkAddress| new.iter().any(|new| new.local.ip() == old.local.ip());
    let (first, last): (Vec<_>, Vec<_>) = old.into_iter().partition(is_in_the_way);
    changes.extend(first.into_iter().map(Change::RemoveAddress));
    changes.extend(new.into_iter().map(Change::AddAddress));
    changes.extend(last.into_iter().map(Change::RemoveAddress));

    let (routes, applied_routes) = (networks(&wanted.routes), networks(&applied.routes));
    let removed = missing(&applied_routes, &routes);
    changes.extend(removed.into_iter().map(Change::RemoveRoute));
    let added = missing(&routes, &applied_routes);
    changes.extend(added.into_iter().map(Change::AddRoute));

    if let Some(mtu) = mtu.filter(|&mtu| mtu < applied.mtu) {
        changes.push(Change::Mtu(mtu));
    }
    changes
}

/// Notes in `applied` that the kernel has made `change`, and what it did of its own accord.
pub(super) fn record(applied: &mut LinkState, change: &Change) {
    match change {
        Change::Mtu(mtu) => applied.mtu = *mtu,
        Change::AddAddress(address) => applied.addresses.push(*address),
        Change::RemoveAddress(address) => {
            applied.addresses.retain(|applied| applied != address);
            let has_v4 = applied.addresses.iter().any(|left| left.local.is_ipv4());
            if address.local.is_ipv4() && !has_v4 {
                applied.routes.retain(|route| !route.is_ipv4());
            }
        }
        Change::AddRoute(route) => applied.routes.push(*route),
        Change::RemoveRoute(route) => applied.routes.retain(|applied| applied != route),
    }
}

fn mtu_of(state: &LinkState) -> u32 {
    let has_v6 = state
        .addresses
        .iter()
        .any(|address| address.local.is_ipv6())
        || state.routes.iter().any(IpNetwork::is_ipv6);
    if has_v6 && state.mtu != 0 {
        state.mtu.max(MIN_MTU_V6)
    } else {
        state.mtu
    }
}

/// The kernel takes no route with bits behind its prefix.
fn networks(routes: &[IpNetwork]) -> Vec<IpNetwork> {
    let network = |route: &IpNetwork| IpNetwork::new(route.network(), route.prefix()).ok();
    routes.iter().filter_map(network).collect()
}

/// Those of `all` that are not in `present`, each once, in order.
fn missing<T: Copy + Eq + std::hash::Hash>(all: &[T], present: &[T]) -> Vec<T> {
    let mut seen: HashSet<T> = present.iter().copied().collect();
    let is_new = |item: &T| seen.insert(*item);
    all.iter().copied().filter(is_new).collect()
}

#[cfg(test)]
mod tests;
