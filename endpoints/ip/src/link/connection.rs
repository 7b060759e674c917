//! The netlink socket and its errors.

use std::io;

use futures_util::TryStreamExt;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::{Error, Handle, new_connection};

use super::changes::Change;

/// Connects to the network namespace of this thread; the task ends with the last of the handles.
pub(super) fn connect() -> io::Result<Handle> {
    let runtime = tokio::runtime::Handle::try_current().map_err(io::Error::other)?;
    let (connection, handle, _) = new_connection()?;
    runtime.spawn(connection);
    Ok(handle)
}

/// The kernel's error number where it sent one.
pub(super) fn to_io<T>(result: Result<T, Error>) -> io::Result<T> {
    result.map_err(|error| match error {
        Error::NetlinkError(message) => message.to_io(),
        error => io::Error::other(error),
    })
}

/// The error with what it is about.
pub(super) fn describe(change: &Change, error: io::Error) -> io::Error {
    let what = match change {
        Change::Mtu(mtu) => format!("setting the MTU to {mtu}"),
        Change::AddAddress(address) => format!("adding the address {}", address.local),
        Change::RemoveAddress(address) => format!("removing the address {}", address.local),
        Change::AddRoute(route) => format!("adding the route to {route}"),
        Change::RemoveRoute(route) => format!("removing the route to {route}"),
    };
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

/// The link-local addresses of IPv6 that an interface has.
pub(super) async fn link_local(handle: &Handle, index: u32) -> io::Result<Vec<AddressMessage>> {
    let is_link_local = |message: &AddressMessage| {
        message.attributes.iter().any(|attribute| {
            matches!(attribute, AddressAttribute::Address(std::net::IpAddr::V6(address))
                if address.is_unicast_link_local())
        })
    };
    let request = handle.address().get().set_link_index_filter(index);
    let mut addresses: Vec<AddressMessage> = to_io(request.execute().try_collect().await)?;
    addresses.retain(|message| message.header.index == index && is_link_local(message));
    Ok(addresses)
}
