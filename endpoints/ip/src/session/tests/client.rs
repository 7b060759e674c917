use super::*;

fn tell(client: &mut AddressClient, capsule: &OutCapsule) -> ClientEvent {
    let mut out = Vec::new();
    let event = client
        .on_capsule(capsule.kind, &capsule.value, &mut out)
        .unwrap();
    assert_eq!(out, []);
    event
}

fn refuse(client: &mut AddressClient, capsule: &OutCapsule) -> SessionError {
    let before = format!("{client:?}");
    let mut out = Vec::new();
    let refused = client.on_capsule(capsule.kind, &capsule.value, &mut out);
    assert_eq!(out, []);
    assert_eq!(format!("{client:?}"), before, "the state is as before");
    refused.unwrap_err()
}

/// A client that has asked for an address of each IP version, with the IDs 1 and 2.
fn asking() -> AddressClient {
    let mut client = AddressClient::new();
    client.request(&AddressClient::any_address()).unwrap();
    client
}

#[test]
fn ip_22_a_client_without_addresses_asks_for_one_of_each_ip_version() {
    let mut client = AddressClient::new();
    let first = client.request(&AddressClient::any_address());
    let v6 = "02 06 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 80";
    assert_eq!(
        first,
        Some(capsule(&format!("02 1a 01 04 00 00 00 00 20 {v6}")))
    );
    assert!(client.is_waiting());
}

#[test]
fn ip_22_a_client_with_static_addresses_does_not_ask() {
    let own = networks(&["192.0.2.7/32"]);
    let mut client = AddressClient::with_addresses(own.clone());
    assert_eq!(client.request(&AddressClient::any_address()), None);
    assert!(!client.is_waiting());
    assert_eq!(
        tell(&mut client, &assign(&[(0, "10.76.0.2/32")])),
        ClientEvent::None
    );
    assert_eq!(client.addresses(), own);
    for hex in MALFORMED_ADDRESSES {
        refuse(&mut client, &capsule(hex));
    }
}

#[test]
fn ip_23_request_ids_start_at_one_and_are_not_used_again() {
    let mut client = AddressClient::new();
    let mut used = Vec::new();
    for round in 1..=50 {
        let wanted = networks(&["0.0.0.0/32", "::/128", "::/64"]);
        let request = client.request(&wanted[..round % 3 + 1]).unwrap();
        used.extend(
            decode_request(&request.value)
                .unwrap()
                .iter()
                .map(|entry| entry.request_id),
        );
        tell(
            &mut client,
            &assign(&[(used[used.len() - 1], "10.76.0.2/32")]),
        );
        tell(&mut client, &assign(&[]));
    }
    let expected: Vec<u64> = (1..=used.len() as u64).collect();
    assert_eq!(used, expected);
    assert_eq!(client.request(&[]), None, "a request has an entry");
}

#[test]
fn ip_19_a_list_is_whole() {
    let mut client = asking();
    let both = assign(&[(1, "192.0.2.1/32"), (2, "2001:db8::1/128")]);
    assert_eq!(tell(&mut client, &both), ClientEvent::Addresses);
    assert_eq!(
        client.addresses(),
        networks(&["192.0.2.1/32", "2001:db8::1/128"])
    );
    assert_eq!(tell(&mut client, &both), ClientEvent::None);
    let one = assign(&[(2, "2001:db8::1/128")]);
    assert_eq!(tell(&mut client, &one), ClientEvent::Addresses);
    assert_eq!(client.addresses(), networks(&["2001:db8::1/128"]));
    assert_eq!(tell(&mut client, &capsule("01 00")), ClientEvent::Addresses);
    assert_eq!(client.addresses(), []);
    assert_eq!(tell(&mut client, &capsule("01 00")), ClientEvent::None);
    assert!(!client.is_waiting(), "both requests were answered");
}

#[test]
fn ip_20_the_answer_to_what_was_given_unprompted_changes_nothing() {
    let mut client = asking();
    let greeting = assign(&[(0, "10.76.0.2/32"), (0, "fd76::2/128")]);
    assert_eq!(tell(&mut client, &greeting), ClientEvent::Addresses);
    let answer = assign(&[(1, "10.76.0.2/32"), (2, "fd76::2/128")]);
    assert_eq!(tell(&mut client, &answer), ClientEvent::None);
}

#[test]
fn ip_21_an_unprompted_address_ends_the_waiting() {
    let mut client = asking();
    assert_eq!(
        tell(&mut client, &capsule("01 07 00 04 c0 00 02 0b 20")),
        ClientEvent::Addresses
    );
    assert_eq!(client.addresses(), networks(&["192.0.2.11/32"]));
    assert!(!client.is_waiting());
}

#[test]
fn ip_21_an_id_that_was_never_sent_is_fine() {
    let mut client = AddressClient::new();
    let unknown = assign(&[(4_611_686_018_427_387_903, "192.0.2.0/24")]);
    assert_eq!(tell(&mut client, &unknown), ClientEvent::Addresses);
    assert_eq!(client.addresses(), networks(&["192.0.2.0/24"]));
}

#[test]
fn ip_21_an_empty_list_does_not_end_the_waiting() {
    let mut client = asking();
    assert_eq!(tell(&mut client, &capsule("01 00")), ClientEvent::None);
    assert!(client.is_waiting());
}

#[test]
fn ip_28_a_refusal_of_everything_ends_the_tunnel() {
    let mut client = asking();
    let both = assign(&[(1, "0.0.0.0/32"), (2, "::/128")]);
    assert_eq!(tell(&mut client, &both), ClientEvent::Refused);
    assert!(!client.is_waiting());
}

#[test]
fn ip_28_refusals_may_come_one_by_one() {
    let mut client = asking();
    assert_eq!(
        tell(&mut client, &assign(&[(2, "::/128")])),
        ClientEvent::None
    );
    assert!(client.is_waiting());
    // Shown once: it is not in the next list, and still stands.
    assert_eq!(
        tell(&mut client, &assign(&[(1, "0.0.0.0/32")])),
        ClientEvent::Refused
    );
}

#[test]
fn ip_28_one_ip_version_is_enough() {
    let mut client = asking();
    let v4 = assign(&[(1, "192.0.2.1/32"), (2, "::/128")]);
    assert_eq!(tell(&mut client, &v4), ClientEvent::Addresses);
    assert_eq!(client.addresses(), networks(&["192.0.2.1/32"]));
    let mut client = asking();
    let unprompted = assign(&[(0, "192.0.2.1/32"), (1, "0.0.0.0/32"), (2, "::/128")]);
    assert_eq!(tell(&mut client, &unprompted), ClientEvent::Addresses);
}

#[test]
fn ip_28_a_refusal_of_nothing_that_was_asked_for_is_none() {
    let mut client = asking();
    let others = assign(&[(0, "0.0.0.0/32"), (9, "::/128")]);
    assert_eq!(tell(&mut client, &others), ClientEvent::None);
    assert!(client.is_waiting());
    let mut silent = AddressClient::new();
    assert_eq!(tell(&mut silent, &others), ClientEvent::None);
}

#[test]
fn ip_28_a_client_that_has_an_address_may_be_refused_more() {
    let mut client = asking();
    tell(
        &mut client,
        &assign(&[(1, "192.0.2.1/32"), (2, "2001:db8::1/128")]),
    );
    client.request(&networks(&["::/64"])).unwrap();
    let refused = assign(&[(1, "192.0.2.1/32"), (2, "2001:db8::1/128"), (3, "::/128")]);
    assert_eq!(tell(&mut client, &refused), ClientEvent::None);
}

#[test]
fn ip_29_a_refusal_is_never_an_address() {
    let mut client = AddressClient::new();
    let refusals = assign(&[(0, "0.0.0.0/32"), (0, "::/128"), (5, "0.0.0.0/32")]);
    assert_eq!(tell(&mut client, &refusals), ClientEvent::None);
    assert_eq!(client.addresses(), []);
}

#[test]
fn ip_29_neither_is_what_no_host_may_use() {
    let mut client = asking();
    let odd = assign(&[
        (1, "127.0.0.1/32"),
        (2, "ff02::1/128"),
        (0, "0.0.0.0/0"),
        (0, "::1/128"),
    ]);
    assert_eq!(tell(&mut client, &odd), ClientEvent::Refused);
    assert_eq!(client.addresses(), []);
}

#[test]
fn ip_25_a_request_of_the_server_is_refused_entry_by_entry() {
    let mut client = asking();
    let mut out = Vec::new();
    let wanted = request(&[(3, "192.0.2.0/24"), (1, "::/64")]);
    let event = client
        .on_capsule(wanted.kind, &wanted.value, &mut out)
        .unwrap();
    assert_eq!(event, ClientEvent::None);
    assert_eq!(out, [assign(&[(3, "0.0.0.0/32"), (1, "::/128")])]);
    assert_eq!(
        refuse(&mut client, &request(&[(1, "::/64")])),
        SessionError::RepeatedRequestId(1)
    );
    let many: Vec<_> = (10..75).map(|id| (id, "::/128")).collect();
    let error = refuse(&mut client, &request(&many));
    assert_eq!(stream_error(error), StreamError::ExcessiveLoad);
}

#[test]
fn ip_18_malformed_addresses_change_nothing() {
    let mut client = asking();
    tell(&mut client, &assign(&[(0, "192.0.2.1/32")]));
    for hex in MALFORMED_ADDRESSES.iter().chain(&MALFORMED_REQUESTS) {
        let error = refuse(&mut client, &capsule(hex));
        assert_eq!(stream_error(error), StreamError::Message, "{hex}");
    }
    assert_eq!(client.addresses(), networks(&["192.0.2.1/32"]));
}

#[test]
fn ip_34_routes_are_replaced_as_a_whole() {
    let mut client = AddressClient::new();
    for prefixes in [&["0.0.0.0/0", "::/0"][..], &["192.0.2.0/24"], &[]] {
        let capsule = OutCapsule::routes(&routes(prefixes));
        assert_eq!(tell(&mut client, &capsule), ClientEvent::Routes);
        assert_eq!(client.routes(), &routes(prefixes));
        assert_eq!(tell(&mut client, &capsule), ClientEvent::None);
    }
}

#[test]
fn ip_34_malformed_routes_change_nothing() {
    let mut client = AddressClient::new();
    tell(&mut client, &OutCapsule::routes(&routes(&["192.0.2.0/24"])));
    for hex in MALFORMED_ROUTES {
        assert_eq!(
            stream_error(refuse(&mut client, &capsule(hex))),
            StreamError::Message,
            "{hex}"
        );
    }
    assert_eq!(client.routes(), &routes(&["192.0.2.0/24"]));
}

#[test]
fn too_much_from_the_server_is_excessive() {
    let mut client = AddressClient::new();
    let addresses: Vec<_> = (1..=65)
        .map(|last| (0, format!("192.0.2.{last}/32")))
        .collect();
    let addresses: Vec<_> = addresses
        .iter()
        .map(|(id, text)| (*id, text.as_str()))
        .collect();
    let error = refuse(&mut client, &assign(&addresses));
    assert_eq!(stream_error(error), StreamError::ExcessiveLoad);
    assert_eq!(
        tell(&mut client, &assign(&addresses[..64])),
        ClientEvent::Addresses
    );

    let every_other = |count: u32| {
        let prefix = |number| network(&format!("10.{}.{}.0/32", number / 256, number % 256));
        let prefixes: Vec<_> = (0..count).map(prefix).collect();
        OutCapsule::routes(&Routes::from_config(&prefixes))
    };
    let error = refuse(&mut client, &every_other(4097));
    assert_eq!(stream_error(error), StreamError::ExcessiveLoad);
    assert_eq!(tell(&mut client, &every_other(4096)), ClientEvent::Routes);
}

#[test]
fn an_address_told_twice_is_one() {
    let mut client = AddressClient::new();
    tell(
        &mut client,
        &assign(&[(0, "192.0.2.1/32"), (3, "192.0.2.1/32")]),
    );
    assert_eq!(client.addresses(), networks(&["192.0.2.1/32"]));
}
