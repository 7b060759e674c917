mod client;
mod random;
mod server;

use std::time::Duration;

use ipnetwork::IpNetwork;
use pasque::wire::capsule::CapsuleDecoder;

use super::*;
use crate::capsules::{decode_assign, decode_request, decode_routes};
use crate::pool::{AddressPools, ClientKey};
use crate::scope::Scope;

/// A capsule type that is ignored (RFC 9297 §5.4).
pub(super) const RESERVED: u64 = 0x17;

/// V1 to V4 of `conformance.md`, as ADDRESS_ASSIGN and, without their type, as ADDRESS_REQUEST.
pub(super) const MALFORMED_ADDRESSES: [&str; 8] = [
    "01 07 00 05 c0 00 02 0b 20",
    "01 07 00 04 c0 00 02 0b 21",
    "01 13 00 06 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 01 81",
    "01 07 00 04 c0 00 02 0b 18",
    "01 13 00 06 20 01 0d b8 00 00 00 00 00 00 00 00 00 00 00 01 40",
    "01 08 00 04 c0 00 02 0b 20 00",
    "01 08 00 04 c0 00 02 0b 20 05",
    "01 06 00 04 c0 00 02 0b",
];

/// V5 and V6.
pub(super) const MALFORMED_REQUESTS: [&str; 3] = [
    "02 00",
    "02 07 00 04 00 00 00 00 20",
    "02 1a 01 04 00 00 00 00 20 01 06 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 80",
];

/// V7 to V13.
pub(super) const MALFORMED_ROUTES: [&str; 7] = [
    "03 0a 04 c0 00 02 09 c0 00 02 08 00",
    "03 2c 06 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 \
     00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 01 00 04 c0 00 02 00 c0 00 02 01 00",
    "03 14 04 c0 00 02 00 c0 00 02 01 11 04 c0 00 02 02 c0 00 02 03 06",
    "03 14 04 c0 00 02 00 c0 00 02 09 00 04 c0 00 02 09 c0 00 02 14 00",
    "03 14 04 c0 00 02 0a c0 00 02 14 00 04 c0 00 02 00 c0 00 02 09 00",
    "03 09 04 c0 00 02 00 c0 00 02 09",
    "03 14 04 c0 00 02 00 c0 00 02 09 00 04 c0 00 02 05 c0 00 02 05 11",
];

pub(super) fn network(text: &str) -> IpNetwork {
    text.parse().unwrap()
}

pub(super) fn networks(texts: &[&str]) -> Vec<IpNetwork> {
    texts.iter().map(|text| network(text)).collect()
}

pub(super) fn routes(prefixes: &[&str]) -> Routes {
    Routes::from_config(&networks(prefixes))
}

/// The one capsule that these bytes are.
pub(super) fn capsule(hex: &str) -> OutCapsule {
    let bytes: Vec<_> = hex
        .split_whitespace()
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect();
    let mut decoder = CapsuleDecoder::default();
    let mut rest = &bytes[..];
    let decoded = decoder.next(&mut rest, |_, _, _| pasque::wire::capsule::Admit::Buffer);
    let found = decoded.unwrap().unwrap();
    assert!(rest.is_empty(), "one capsule");
    OutCapsule {
        kind: found.kind,
        value: found.value.to_vec(),
    }
}

pub(super) fn assign(entries: &[(u64, &str)]) -> OutCapsule {
    let entry = |(request_id, prefix): &(u64, &str)| AssignedAddress {
        request_id: *request_id,
        prefix: network(prefix),
    };
    OutCapsule::assign(&entries.iter().map(entry).collect::<Vec<_>>())
}

pub(super) fn request(entries: &[(u64, &str)]) -> OutCapsule {
    let entry = |(request_id, prefix): &(u64, &str)| RequestedAddress {
        request_id: *request_id,
        prefix: network(prefix),
    };
    OutCapsule::request(&entries.iter().map(entry).collect::<Vec<_>>())
}

/// The entries of an ADDRESS_ASSIGN, to compare them.
pub(super) fn entries(capsule: &OutCapsule) -> Vec<(u64, String)> {
    assert_eq!(capsule.kind, ADDRESS_ASSIGN);
    let decoded = decode_assign(&capsule.value).unwrap();
    let pair = |entry: &AssignedAddress| (entry.request_id, entry.prefix.to_string());
    decoded.iter().map(pair).collect()
}

pub(super) fn pairs(entries: &[(u64, &str)]) -> Vec<(u64, String)> {
    let pair = |(request_id, prefix): &(u64, &str)| (*request_id, (*prefix).to_string());
    entries.iter().map(pair).collect()
}

/// The pools of most tests here.
pub(super) fn pools() -> AddressPools {
    let prefixes = networks(&["10.76.0.1/24", "fd76::1/64"]);
    AddressPools::new(&prefixes, Duration::from_secs(3600), None).unwrap()
}

/// A tunnel over `pools` with routes for everything.
pub(super) fn server(pools: &AddressPools) -> AddressServer {
    limited_server(pools, &Scope::everything())
}

pub(super) fn limited_server(pools: &AddressPools, scope: &Scope) -> AddressServer {
    let lease = pools.lease(&ClientKey::of_identity("a"), scope).unwrap();
    AddressServer::new(lease, routes(&["0.0.0.0/0", "::/0"]))
}

/// What the error does to the stream.
pub(super) fn stream_error(error: SessionError) -> StreamError {
    pasque::Error::from(error).stream_error()
}

/// Lets both halves talk until neither has anything more to say.
fn converse(client: &mut AddressClient, server: &mut AddressServer, to_server: Vec<OutCapsule>) {
    let (mut to_server, mut to_client) = (to_server, Vec::new());
    while !to_server.is_empty() || !to_client.is_empty() {
        for OutCapsule { kind, value } in std::mem::take(&mut to_server) {
            server.on_capsule(kind, &value, &mut to_client).unwrap();
        }
        for OutCapsule { kind, value } in std::mem::take(&mut to_client) {
            client.on_capsule(kind, &value, &mut to_server).unwrap();
        }
    }
}

#[test]
fn ip_17_a_hundred_alternating_capsules_each_way() {
    let pools = pools();
    let mut server = server(&pools).accept_client_routes(networks(&["10.9.0.0/16"]));
    let mut client = AddressClient::new();
    let mut out = Vec::new();
    for OutCapsule { kind, value } in server.greeting() {
        client.on_capsule(kind, &value, &mut out).unwrap();
    }
    for round in 0..100u64 {
        let third = round % 256;
        let to_server = match round % 4 {
            0 => client.request(&AddressClient::any_address()).unwrap(),
            1 => OutCapsule::routes(&routes(&[&format!("10.9.{third}.0/24")])),
            2 => assign(&[(0, "192.0.2.1/32")]),
            _ => OutCapsule {
                kind: RESERVED,
                value: vec![0xff],
            },
        };
        converse(&mut client, &mut server, vec![to_server]);
        let to_client = match round % 3 {
            0 => request(&[(round + 1, "0.0.0.0/32")]),
            1 => OutCapsule::routes(&routes(&[&format!("198.51.{third}.0/24")])),
            _ => OutCapsule {
                kind: RESERVED,
                value: vec![0xff],
            },
        };
        let event = client
            .on_capsule(to_client.kind, &to_client.value, &mut out)
            .unwrap();
        assert_eq!(event == ClientEvent::Routes, round % 3 == 1);
        assert_eq!(
            out.len(),
            usize::from(round % 3 == 0),
            "a request is answered"
        );
        for OutCapsule { kind, value } in out.drain(..) {
            server.on_capsule(kind, &value, &mut Vec::new()).unwrap();
        }
    }
    assert_eq!(server.assigned().len(), MAX_ASSIGNED);
    let mut known = [client.addresses().to_vec(), server.assigned().to_vec()];
    known.iter_mut().for_each(|addresses| addresses.sort());
    assert_eq!(known[0], known[1]);
    assert_eq!(server.client_routes(), &routes(&["10.9.97.0/24"]));
    assert_eq!(client.routes(), &routes(&["198.51.97.0/24"]));
}

#[test]
fn what_ends_a_tunnel_says_how() {
    let mut client = AddressClient::new();
    let OutCapsule { kind, value } = capsule("02 00");
    let error = client
        .on_capsule(kind, &value, &mut Vec::new())
        .unwrap_err();
    assert_eq!(stream_error(error), StreamError::Message);
    let error = SessionError::RepeatedRequestId(7);
    assert_eq!(
        error.to_string(),
        "malformed ADDRESS_REQUEST: Request ID 7 was used before"
    );
    assert_eq!(stream_error(error), StreamError::Message);
    let error = SessionError::check_len("ADDRESS_ASSIGN", 65, 64).unwrap_err();
    assert_eq!(
        error.to_string(),
        "an ADDRESS_ASSIGN capsule has 65 entries, expected at most 64"
    );
    assert_eq!(stream_error(error), StreamError::ExcessiveLoad);
}

#[test]
fn capsules_are_of_their_types() {
    assert_eq!(
        assign(&[(1, "192.0.2.11/32")]),
        capsule("01 07 01 04 c0 00 02 0b 20")
    );
    assert_eq!(
        request(&[(1, "0.0.0.0/32")]),
        capsule("02 07 01 04 00 00 00 00 20")
    );
    let routes = routes(&["192.0.2.0/24"]);
    assert_eq!(
        OutCapsule::routes(&routes),
        capsule("03 0a 04 c0 00 02 00 c0 00 02 ff 00")
    );
}
