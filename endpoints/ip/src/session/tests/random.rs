//! Random capsules, legal and illegal, to both halves.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

/// Requests and lists of the kind that a peer may send.
fn legal() -> impl Strategy<Value = OutCapsule> {
    let prefix = select(vec![
        "0.0.0.0/32",
        "0.0.0.0/31",
        "::/128",
        "::/96",
        "::/64",
        "10.76.0.3/32",
        "10.76.0.1/32",
        "10.76.0.0/24",
        "fd76::7/128",
        "fd76::5:0:0/96",
        "192.0.2.1/32",
        "0.0.0.0/0",
        "127.0.0.1/32",
    ]);
    let entries = |len| vec((0..200u64, prefix.clone()), len);
    let route = select(vec![
        "0.0.0.0/0",
        "10.9.1.0/24",
        "10.9.2.0/23",
        "::/0",
        "fd09::/64",
    ]);
    prop_oneof![
        entries(0..6).prop_map(|entries| assign(&entries)),
        entries(0..70).prop_map(|entries| assign(&entries)),
        entries(1..6).prop_map(|entries| request(&entries)),
        entries(1..70).prop_map(|entries| request(&entries)),
        vec(route, 0..5).prop_map(|prefixes| OutCapsule::routes(&routes(&prefixes))),
    ]
}

fn any_capsule() -> impl Strategy<Value = OutCapsule> {
    let damage = (
        legal(),
        any::<prop::sample::Index>(),
        any::<u8>(),
        any::<bool>(),
    );
    let damaged = damage.prop_map(|(mut capsule, place, byte, is_cut)| {
        if !capsule.value.is_empty() {
            let place = place.index(capsule.value.len());
            capsule.value[place] = byte;
            if is_cut {
                capsule.value.truncate(place);
            }
        }
        capsule
    });
    let noise = (0..5u64, vec(any::<u8>(), 0..100));
    prop_oneof![
        4 => legal(),
        2 => damaged,
        1 => noise.prop_map(|(kind, value)| OutCapsule { kind, value }),
    ]
}

/// What holds for a server's half whatever it was told.
fn check_server(server: &AddressServer, out: &[OutCapsule], pools: &AddressPools) {
    let assigned = server.assigned();
    assert!(assigned.len() <= MAX_ASSIGNED);
    for (index, one) in assigned.iter().enumerate() {
        let own = pools.own_addresses();
        assert!(
            own.iter()
                .any(|pool| pool.contains(one.ip()) && pool.prefix() <= one.prefix())
        );
        assert!(
            own.iter().all(|pool| !one.contains(pool.ip())),
            "{one} is the server's own"
        );
        let overlaps = |other: &IpNetwork| one.contains(other.ip()) || other.contains(one.ip());
        assert!(!assigned[index + 1..].iter().any(overlaps));
    }
    for capsule in out {
        let entries = decode_assign(&capsule.value).unwrap();
        let told = entries.iter().filter(|entry| !entry.is_refusal());
        let mut told: Vec<_> = told.map(|entry| entry.prefix).collect();
        let mut known = assigned.to_vec();
        told.sort();
        known.sort();
        assert_eq!(told, known, "the list is whole");
        assert!(entries.len() <= MAX_ASSIGNED + MAX_REQUESTED);
    }
}

proptest! {
    #[test]
    fn ip_38_a_server_survives_whatever_a_client_says(
        capsules in vec(any_capsule(), 0..60),
        accepts: bool,
    ) {
        let pools = pools();
        let room = pools.free();
        let mut server = server(&pools);
        if accepts {
            server = server.accept_client_routes(networks(&["10.9.0.0/16", "fd09::/16"]));
        }
        for OutCapsule { kind, value } in capsules {
            let before = format!("{server:?}");
            let addresses = server.assigned().to_vec();
            let mut out = Vec::new();
            let result = server.on_capsule(kind, &value, &mut out);
            match result {
                Ok(event) => {
                    let has_changed = server.assigned() != addresses;
                    prop_assert_eq!(event == ServerEvent::AddressesChanged, has_changed);
                    prop_assert_eq!(out.len(), usize::from(kind == ADDRESS_REQUEST));
                }
                Err(_) => {
                    prop_assert_eq!(format!("{server:?}"), before);
                    prop_assert!(out.is_empty());
                }
            }
            check_server(&server, &out, &pools);
        }
        drop(server);
        prop_assert_eq!(pools.free(), room);
    }

    #[test]
    fn ip_17_a_client_survives_whatever_a_server_says(
        capsules in vec((any_capsule(), any::<bool>()), 0..60),
    ) {
        let mut client = AddressClient::new();
        let mut last_id = 0;
        for (OutCapsule { kind, value }, asks) in capsules {
            if asks {
                let request = client.request(&AddressClient::any_address()).unwrap();
                for entry in decode_request(&request.value).unwrap() {
                    prop_assert_eq!(entry.request_id, last_id + 1);
                    last_id = entry.request_id;
                }
            }
            let before = format!("{client:?}");
            let addresses = client.addresses().to_vec();
            let mut out = Vec::new();
            match client.on_capsule(kind, &value, &mut out) {
                Ok(event) => {
                    if client.addresses() != addresses {
                        let expected = [ClientEvent::Addresses, ClientEvent::Refused];
                        prop_assert!(expected.contains(&event));
                    }
                    if event == ClientEvent::Refused {
                        prop_assert!(client.addresses().is_empty() && !client.is_waiting());
                    }
                }
                Err(_) => {
                    prop_assert_eq!(format!("{client:?}"), before);
                    prop_assert!(out.is_empty());
                }
            }
            prop_assert!(client.addresses().len() <= MAX_ACCEPTED);
            prop_assert!(!client.addresses().iter().any(|prefix| prefix.ip().is_unspecified()));
            for capsule in out {
                let entries = decode_assign(&capsule.value).unwrap();
                prop_assert!(entries.iter().all(AssignedAddress::is_refusal));
            }
        }
    }

    /// Two halves of ours agree, however often and in which order the client asks.
    #[test]
    fn ip_25_both_halves_agree(
        requests in {
            let wanted = select(vec!["0.0.0.0/32", "::/128", "10.76.0.9/32", "::/96"]);
            vec(vec(wanted, 1..4), 0..10)
        },
    ) {
        let pools = pools();
        let mut server = server(&pools);
        let mut client = AddressClient::new();
        for OutCapsule { kind, value } in server.greeting() {
            client.on_capsule(kind, &value, &mut Vec::new()).unwrap();
        }
        for wanted in requests {
            let request = client.request(&networks(&wanted)).unwrap();
            converse(&mut client, &mut server, vec![request]);
            prop_assert_eq!(client.addresses(), server.assigned());
            prop_assert!(!client.is_waiting());
        }
    }
}
