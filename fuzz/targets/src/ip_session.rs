//! Any capsules to both halves of a session: what is refused changes nothing, what is held is
//! bounded, and every address comes back at the end.
//!
//! Each capsule is a byte for its type and receiver, a byte for its length, and its value.

use std::iter;
use std::sync::LazyLock;
use std::time::Duration;

use pasque_ip::capsules::{self, AssignedAddress};
use pasque_ip::pool::{AddressPools, ClientKey};
use pasque_ip::scope::Scope;
use pasque_ip::session::{
    AddressClient, AddressServer, MAX_ACCEPTED, MAX_ASSIGNED, MAX_RANGES, MAX_REQUESTED, OutCapsule,
};

static POOLS: LazyLock<AddressPools> = LazyLock::new(|| {
    let prefixes = ["10.76.0.1/28", "fd76::1/124"].map(|prefix| prefix.parse().unwrap());
    AddressPools::new(&prefixes, Duration::ZERO, None).unwrap()
});

/// The first capsule of `input`, for the server or else for the client.
fn next<'a>(input: &mut &'a [u8]) -> Option<(bool, u64, &'a [u8])> {
    let [head, len, rest @ ..] = *input else {
        return None;
    };
    let (value, rest) = rest.split_at(rest.len().min(usize::from(*len)));
    *input = rest;
    Some((head & 4 == 0, u64::from(head & 3), value))
}

fn tell_server(server: &mut AddressServer, kind: u64, value: &[u8]) {
    let before = format!("{server:?}");
    let mut out = Vec::new();
    if server.on_capsule(kind, value, &mut out).is_err() {
        assert_eq!(format!("{server:?}"), before);
        assert!(out.is_empty());
    }
    assert!(server.assigned().len() <= MAX_ASSIGNED);
    assert!(server.client_routes().iter().len() <= MAX_RANGES + 2);
    for OutCapsule { value, .. } in out {
        let entries = capsules::decode_assign(&value).unwrap();
        let told = entries.iter().filter(|entry| !entry.is_refusal());
        assert!(
            told.map(|entry| entry.prefix)
                .eq(server.assigned().iter().copied())
        );
        assert!(entries.len() <= MAX_ASSIGNED + MAX_REQUESTED);
    }
}

fn tell_client(client: &mut AddressClient, kind: u64, value: &[u8]) {
    let before = format!("{client:?}");
    let mut out = Vec::new();
    if client.on_capsule(kind, value, &mut out).is_err() {
        assert_eq!(format!("{client:?}"), before);
        assert!(out.is_empty());
    }
    assert!(client.addresses().len() <= MAX_ACCEPTED);
    assert!(
        !client
            .addresses()
            .iter()
            .any(|prefix| prefix.ip().is_unspecified())
    );
    for OutCapsule { value, .. } in out {
        let entries = capsules::decode_assign(&value).unwrap();
        assert!(entries.iter().all(AssignedAddress::is_refusal));
    }
}

/// Runs the target on one input.
pub fn run(input: &[u8]) {
    let room = POOLS.free();
    let client_key = ClientKey::of_identity("fuzz");
    let lease = POOLS.lease(&client_key, &Scope::everything()).unwrap();
    let accepted = ["10.9.0.0/16", "fd09::/32"].map(|prefix| prefix.parse().unwrap());
    let mut server =
        AddressServer::new(lease, Default::default()).accept_client_routes(accepted.into());
    let mut client = AddressClient::new();
    client.request(&AddressClient::any_address());

    let mut input = input;
    let capsules = iter::from_fn(|| next(&mut input));
    // More of them would only make the search slow.
    for (is_for_server, kind, value) in capsules.take(64) {
        match is_for_server {
            true => tell_server(&mut server, kind, value),
            false => tell_client(&mut client, kind, value),
        }
    }
    drop(server);
    assert_eq!(POOLS.free(), room);
}
