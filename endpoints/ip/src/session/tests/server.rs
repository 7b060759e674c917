use super::*;

/// Gives the server a capsule that it answers with an ADDRESS_ASSIGN.
fn answer(server: &mut AddressServer, capsule: &OutCapsule) -> (ServerEvent, Vec<(u64, String)>) {
    let mut out = Vec::new();
    let event = server
        .on_capsule(capsule.kind, &capsule.value, &mut out)
        .unwrap();
    assert_eq!(out.len(), 1, "one list is the answer to all");
    (event, entries(&out[0]))
}

fn silence(server: &mut AddressServer, capsule: &OutCapsule) -> ServerEvent {
    let mut out = Vec::new();
    let event = server
        .on_capsule(capsule.kind, &capsule.value, &mut out)
        .unwrap();
    assert_eq!(out, []);
    event
}

fn refuse(server: &mut AddressServer, capsule: &OutCapsule) -> SessionError {
    let before = format!("{server:?}");
    let mut out = Vec::new();
    let refused = server.on_capsule(capsule.kind, &capsule.value, &mut out);
    assert_eq!(out, []);
    assert_eq!(format!("{server:?}"), before, "the state is as before");
    refused.unwrap_err()
}

fn any_of_both(first_id: u64) -> OutCapsule {
    request(&[(first_id, "0.0.0.0/32"), (first_id + 1, "::/128")])
}

#[test]
fn the_greeting_tells_addresses_and_routes() {
    let pools = pools();
    let greeting = server(&pools).greeting();
    assert_eq!(
        entries(&greeting[0]),
        pairs(&[(0, "10.76.0.2/32"), (0, "fd76::2/128")])
    );
    let told = decode_routes(&greeting[1].value).unwrap();
    assert_eq!(
        (greeting[1].kind, told),
        (ROUTE_ADVERTISEMENT, routes(&["0.0.0.0/0", "::/0"]))
    );
    assert_eq!(greeting.len(), 2);
}

#[test]
fn ip_09_a_limited_scope_is_given_one_ip_version() {
    let pools = pools();
    let scope = Scope::new(Some(networks(&["192.0.2.0/24"])), None);
    let mut server = limited_server(&pools, &scope);
    assert_eq!(
        entries(&server.greeting()[0]),
        pairs(&[(0, "10.76.0.2/32")])
    );
    let (_, answer) = answer(&mut server, &any_of_both(1));
    assert_eq!(answer, pairs(&[(1, "10.76.0.2/32"), (2, "::/128")]));
}

#[test]
fn ip_37_routes_are_of_the_assigned_ip_versions() {
    let v4_only = AddressPools::new(&networks(&["10.76.0.1/24"]), Duration::ZERO, None).unwrap();
    let greeting = server(&v4_only).greeting();
    let told = decode_routes(&greeting[1].value).unwrap();
    assert_eq!(told, routes(&["0.0.0.0/0"]));
    assert_eq!(server(&v4_only).routes(), &told);

    let v6_scope = Scope::new(Some(networks(&["2001:db8::/32"])), None);
    assert_eq!(
        limited_server(&pools(), &v6_scope).routes(),
        &routes(&["::/0"])
    );
    let nothing = limited_server(&v4_only, &v6_scope).greeting();
    assert_eq!(
        nothing,
        [OutCapsule::routes(&Routes::default())],
        "no address, no list of them"
    );
}

#[test]
fn ip_18_malformed_addresses_change_nothing() {
    let pools = pools();
    let mut server = server(&pools);
    answer(&mut server, &any_of_both(1));
    for hex in MALFORMED_ADDRESSES {
        let assign = capsule(hex);
        assert_eq!(
            stream_error(refuse(&mut server, &assign)),
            StreamError::Message,
            "{hex}"
        );
        // The same with an ID that a request may have.
        let mut request = OutCapsule {
            kind: ADDRESS_REQUEST,
            ..assign
        };
        request.value[0] = 9;
        assert_eq!(
            stream_error(refuse(&mut server, &request)),
            StreamError::Message,
            "{hex}"
        );
    }
}

#[test]
fn ip_24_requests_without_entries_or_with_wrong_ids_change_nothing() {
    let pools = pools();
    let mut server = server(&pools);
    for hex in MALFORMED_REQUESTS {
        let error = refuse(&mut server, &capsule(hex));
        assert_eq!(stream_error(error), StreamError::Message, "{hex}");
    }
}

#[test]
fn ip_24_an_id_of_an_earlier_request_is_malformed() {
    let pools = pools();
    let mut server = server(&pools);
    answer(&mut server, &request(&[(7, "0.0.0.0/32")]));
    answer(&mut server, &request(&[(9, "::/0")]));
    for ids in [[8, 7], [7, 8], [9, 10]] {
        let again = request(&[(ids[0], "0.0.0.0/32"), (ids[1], "::/128")]);
        let error = refuse(&mut server, &again);
        assert!(
            matches!(error, SessionError::RepeatedRequestId(7 | 9)),
            "{error}"
        );
    }
    // Neither 8 nor 10 was used by what was refused.
    answer(
        &mut server,
        &request(&[(8, "0.0.0.0/32"), (10, "0.0.0.0/32")]),
    );
}

#[test]
fn ip_25_every_entry_is_answered_in_one_list_of_all() {
    let pools = pools();
    let mut server = server(&pools);
    let (event, list) = answer(&mut server, &any_of_both(1));
    assert_eq!(list, pairs(&[(1, "10.76.0.2/32"), (2, "fd76::2/128")]));
    assert_eq!(
        event,
        ServerEvent::None,
        "the same addresses, by another number"
    );
    let (event, list) = answer(&mut server, &any_of_both(3));
    let expected = [
        (1, "10.76.0.2/32"),
        (2, "fd76::2/128"),
        (3, "10.76.0.3/32"),
        (4, "fd76::3/128"),
    ];
    assert_eq!(list, pairs(&expected));
    assert_eq!(event, ServerEvent::AddressesChanged);
    assert_eq!(
        server.assigned(),
        networks(&expected.map(|(_, prefix)| prefix))
    );
}

#[test]
fn ip_20_a_list_repeats_the_ids_of_those_before() {
    let pools = pools();
    let mut server = server(&pools);
    let (_, list) = answer(&mut server, &request(&[(7, "0.0.0.0/32")]));
    assert_eq!(list, pairs(&[(7, "10.76.0.2/32"), (0, "fd76::2/128")]));
    let (_, list) = answer(&mut server, &request(&[(300, "::/128")]));
    assert_eq!(list, pairs(&[(7, "10.76.0.2/32"), (300, "fd76::2/128")]));
    let (_, list) = answer(&mut server, &request(&[(8, "0.0.0.0/0")]));
    assert_eq!(
        list,
        pairs(&[(7, "10.76.0.2/32"), (300, "fd76::2/128"), (8, "0.0.0.0/32")])
    );
}

#[test]
fn ip_26_a_refusal_is_all_zero_and_shown_once() {
    let v4_only = AddressPools::new(&networks(&["10.76.0.1/24"]), Duration::ZERO, None).unwrap();
    let mut server = server(&v4_only);
    let mut out = Vec::new();
    let request = request(&[(8, "2001:db8::/64")]);
    server
        .on_capsule(request.kind, &request.value, &mut out)
        .unwrap();
    let refusal = "08 06 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 80";
    let expected = capsule(&format!("01 1a 00 04 0a 4c 00 02 20 {refusal}"));
    assert_eq!(out, [expected]);
    let (_, next) = answer(&mut server, &super::request(&[(9, "0.0.0.0/32")]));
    assert_eq!(next, pairs(&[(9, "10.76.0.2/32")]));
}

#[test]
fn ip_27_no_preference_adopts_what_was_given_unprompted() {
    let pools = pools();
    let room = pools.free();
    let mut server = server(&pools);
    answer(&mut server, &any_of_both(1));
    let used: Vec<_> = pools.free().iter().map(|(_, free)| *free).collect();
    assert_eq!(
        used,
        room.iter().map(|(_, free)| free - 1).collect::<Vec<_>>(),
        "not two of each"
    );
}

#[test]
fn ip_27_a_preference_takes_the_place_of_what_was_given_unprompted() {
    let pools = pools();
    let room = pools.free();
    let mut server = server(&pools);
    let wanted = request(&[(1, "10.76.0.9/32"), (2, "fd76::9/128")]);
    let (event, list) = answer(&mut server, &wanted);
    assert_eq!(list, pairs(&[(1, "10.76.0.9/32"), (2, "fd76::9/128")]));
    assert_eq!(event, ServerEvent::AddressesChanged);
    assert_eq!(
        server.assigned(),
        networks(&["10.76.0.9/32", "fd76::9/128"])
    );
    assert_eq!(pools.free()[0].1, room[0].1 - 1, "the other one went back");
}

#[test]
fn ip_27_a_preference_for_what_was_given_unprompted_is_met() {
    let prefixes = networks(&["10.76.0.1/24", "10.77.0.1/24"]);
    let pools = AddressPools::new(&prefixes, Duration::ZERO, None).unwrap();
    let mut server = server(&pools);
    let (event, list) = answer(&mut server, &request(&[(1, "10.77.0.2/32")]));
    assert_eq!(list, pairs(&[(0, "10.76.0.2/32"), (1, "10.77.0.2/32")]));
    assert_eq!(event, ServerEvent::None);
}

#[test]
fn ip_27_a_preference_that_cannot_be_met_is_given_another() {
    let pools = pools();
    let other = server(&pools);
    let mut server = server(&pools);
    let taken = other.assigned()[0].to_string();
    let wanted = request(&[(1, &taken), (2, "2001:db8::1/128"), (3, &taken)]);
    let (_, list) = answer(&mut server, &wanted);
    let expected = [(1, "10.76.0.3/32"), (2, "fd76::3/128"), (3, "10.76.0.4/32")];
    assert_eq!(list, pairs(&expected));
}

#[test]
fn ip_27_prefixes_are_given_beside_the_address() {
    let pools = pools();
    let mut server = server(&pools);
    let (_, list) = answer(
        &mut server,
        &request(&[(2, "::/96"), (3, "::/64"), (4, "fd76::5:0:0/96")]),
    );
    let expected = [
        (0, "10.76.0.2/32"),
        (0, "fd76::2/128"),
        (2, "fd76::1:0:0/96"),
        (4, "fd76::5:0:0/96"),
        (3, "::/128"),
    ];
    assert_eq!(list, pairs(&expected));
}

#[test]
fn ip_27_a_tunnel_has_sixteen_addresses_at_most() {
    let pools = pools();
    let mut server = server(&pools);
    let many: Vec<_> = (1..=60).map(|id| (id, "0.0.0.0/32")).collect();
    let (_, list) = answer(&mut server, &request(&many));
    assert_eq!(server.assigned().len(), MAX_ASSIGNED);
    assert_eq!(list.len(), 60 + 1, "all answered, and the IPv6 address");
    let refused = list
        .iter()
        .filter(|(_, prefix)| prefix == "0.0.0.0/32")
        .count();
    assert_eq!(refused, 60 - 15);
    // What is adopted is not one more.
    let (_, list) = answer(&mut server, &request(&[(100, "::/128"), (101, "::/128")]));
    assert_eq!(list.len(), MAX_ASSIGNED + 1);
    assert!(list.contains(&(100, "fd76::2/128".into())) && list.contains(&(101, "::/128".into())));
}

#[test]
fn a_request_of_too_many_entries_is_excessive() {
    let pools = pools();
    let mut server = server(&pools);
    let many: Vec<_> = (1..=65).map(|id| (id, "0.0.0.0/32")).collect();
    let error = refuse(&mut server, &request(&many));
    assert_eq!(stream_error(error), StreamError::ExcessiveLoad);
    answer(&mut server, &request(&many[..64]));
}

#[test]
fn ip_14_the_addresses_go_back_with_the_session() {
    let pools = pools();
    let room = pools.free();
    let mut server = server(&pools);
    answer(
        &mut server,
        &request(&[(1, "10.76.0.9/32"), (2, "::/96"), (3, "0.0.0.0/32")]),
    );
    drop(server);
    assert_eq!(pools.free(), room);
}

#[test]
fn ip_38_addresses_from_the_client_are_checked_and_not_used() {
    let pools = pools();
    let mut server = server(&pools);
    let before = server.assigned().to_vec();
    for legal in [
        "01 00",
        "01 07 01 04 c0 00 02 0b 20",
        "01 08 41 2c 04 c0 00 02 00 18",
    ] {
        assert_eq!(silence(&mut server, &capsule(legal)), ServerEvent::None);
    }
    assert_eq!(server.assigned(), before);
}

#[test]
fn ip_36_client_routes_are_checked_and_not_used() {
    let pools = pools();
    let mut server = server(&pools);
    let everything = OutCapsule::routes(&routes(&["0.0.0.0/0", "::/0"]));
    assert_eq!(silence(&mut server, &everything), ServerEvent::None);
    assert!(server.client_routes().is_empty());
    for hex in MALFORMED_ROUTES {
        assert_eq!(
            stream_error(refuse(&mut server, &capsule(hex))),
            StreamError::Message,
            "{hex}"
        );
    }
}

#[test]
fn ip_36_client_routes_count_as_far_as_they_are_accepted() {
    let pools = pools();
    let mut server = server(&pools).accept_client_routes(networks(&["10.9.0.0/16", "fd09::/32"]));
    let everything = OutCapsule::routes(&routes(&["0.0.0.0/0", "::/0"]));
    assert_eq!(
        silence(&mut server, &everything),
        ServerEvent::ClientRoutesChanged
    );
    assert_eq!(
        server.client_routes(),
        &routes(&["10.9.0.0/16", "fd09::/32"])
    );
    assert_eq!(silence(&mut server, &everything), ServerEvent::None);
    for hex in MALFORMED_ROUTES {
        assert_eq!(
            stream_error(refuse(&mut server, &capsule(hex))),
            StreamError::Message,
            "{hex}"
        );
    }
}

#[test]
fn ip_36_where_clients_have_their_addresses_no_client_has_a_network() {
    let pools = pools();
    let mut server = server(&pools)
        .accept_client_routes(networks(&["10.0.0.0/8", "fd00::/8"]))
        .reserve(networks(&["10.76.0.0/24", "fd76::/64"]));
    for inside in [
        "10.76.0.3/32",
        "10.76.0.0/24",
        "10.76.0.128/25",
        "fd76::/80",
    ] {
        let capsule = OutCapsule::routes(&routes(&[inside]));
        assert_eq!(
            silence(&mut server, &capsule),
            ServerEvent::None,
            "{inside}"
        );
    }
    let around = OutCapsule::routes(&routes(&["10.76.0.0/15", "fd76::/63"]));
    assert_eq!(
        silence(&mut server, &around),
        ServerEvent::ClientRoutesChanged
    );
    let all = server.client_routes();
    for (address, is_theirs) in [
        ("10.75.255.255", false),
        ("10.76.0.0", false),
        ("10.76.0.255", false),
        ("10.76.1.0", true),
        ("10.77.255.255", true),
        ("fd76::1", false),
        ("fd76:0:0:1::", true),
    ] {
        assert_eq!(
            all.admits(address.parse().unwrap(), 17),
            is_theirs,
            "{address}"
        );
    }
}

#[test]
fn ip_34_client_routes_are_replaced_as_a_whole() {
    let pools = pools();
    let mut server = server(&pools).accept_client_routes(networks(&["10.0.0.0/8"]));
    for prefixes in [&["10.1.0.0/16", "10.2.0.0/16"][..], &["10.2.0.0/16"], &[]] {
        let capsule = OutCapsule::routes(&routes(prefixes));
        assert_eq!(
            silence(&mut server, &capsule),
            ServerEvent::ClientRoutesChanged
        );
        assert_eq!(server.client_routes(), &routes(prefixes));
    }
}

#[test]
fn too_many_client_routes_are_excessive() {
    let pools = pools();
    let mut server = server(&pools).accept_client_routes(networks(&["10.0.0.0/8"]));
    let every_other = |count: u32| {
        let prefix = |number| format!("10.{}.{}.0/32", number / 256, number % 256);
        let prefixes: Vec<_> = (0..count).map(|number| network(&prefix(number))).collect();
        OutCapsule::routes(&Routes::from_config(&prefixes))
    };
    let error = refuse(&mut server, &every_other(4097));
    assert_eq!(stream_error(error), StreamError::ExcessiveLoad);
    assert_eq!(
        silence(&mut server, &every_other(4096)),
        ServerEvent::ClientRoutesChanged
    );
}

#[test]
fn other_capsules_are_ignored() {
    let pools = pools();
    let mut server = server(&pools);
    let unknown = OutCapsule {
        kind: RESERVED,
        value: vec![0xff; 100],
    };
    assert_eq!(silence(&mut server, &unknown), ServerEvent::None);
}

/// A peer that picks its numbers at random costs no more than one that counts.
#[test]
fn the_memory_of_ids_is_bounded() {
    let mut used = crate::session::ids::UsedIds::default();
    for id in 1..=100_000 {
        used.add(&[RequestedAddress::any_v4(id * 2)]).unwrap();
    }
    assert_eq!(used.runs(), 64);
    for id in [200_000, 199_998, 199_876] {
        let again = used.add(&[RequestedAddress::any_v4(id)]);
        assert_eq!(again, Err(SessionError::RepeatedRequestId(id)));
    }
}
