use pasque::StreamError;

use super::*;
use crate::capsules::decode_request;
use crate::session::AddressClient;

fn asking() -> ClientWants {
    ClientWants {
        request: AddressClient::any_address().to_vec(),
        ..ClientWants::default()
    }
}

#[tokio::test]
async fn ip_22_addresses_are_asked_for_unless_there_are_some() {
    let mut client = Client::new(asking());
    assert!(client.end.poll().is_pending());
    let capsules = client.end.sent_capsules();
    assert_eq!(capsules.len(), 1);
    assert_eq!(capsules[0].0, ADDRESS_REQUEST);
    let entries = decode_request(&capsules[0].1).unwrap();
    assert_eq!(
        entries
            .iter()
            .map(|entry| entry.request_id)
            .collect::<Vec<_>>(),
        [1, 2]
    );
    assert!(client.end.poll().is_pending());
    assert_eq!(client.end.sent_capsules(), []);

    let mut client = Client::new(ClientWants {
        addresses: networks(&["10.76.0.2/32"]),
        ..asking()
    });
    assert!(client.end.poll().is_pending());
    assert_eq!(client.end.sent_capsules(), []);
    assert_eq!(client.state().addresses, networks(&["10.76.0.2/32"]));
}

#[tokio::test]
async fn what_a_client_forwards_to_is_advertised() {
    let advertise = Routes::from_config(&networks(&["192.168.7.0/24"]));
    let mut client = Client::new(ClientWants {
        advertise: advertise.clone(),
        ..ClientWants::default()
    });
    assert!(client.end.poll().is_pending());
    let expected = (ROUTE_ADVERTISEMENT, encode_routes(&advertise));
    assert_eq!(client.end.sent_capsules(), [expected]);
    // Its hosts send and receive.
    let packet = udp("192.168.7.9", TARGET);
    client.end.host_sends(std::slice::from_ref(&packet));
    assert!(client.end.poll().is_pending());
    assert_eq!(client.end.sent(), [packet]);
    let packet = udp(TARGET, "192.168.7.9");
    client.end.deliver(std::slice::from_ref(&packet));
    assert_eq!(client.end.received(), [packet]);
}

#[tokio::test]
async fn ip_19_a_list_of_addresses_replaces_the_one_before() {
    let mut client = Client::ready(asking());
    assert_eq!(
        client.state().addresses,
        networks(&["10.76.0.2/32", "fd76::2/128"])
    );
    client.assign(&["fd76::2/128"]);
    assert_eq!(client.state().addresses, networks(&["fd76::2/128"]));
    client
        .end
        .deliver(&[udp(TARGET, CLIENT), udp(TARGET_V6, CLIENT_V6)]);
    assert_eq!(client.end.received(), [udp(TARGET_V6, CLIENT_V6)]);
    client.assign(&[]);
    assert_eq!(client.state().addresses, []);
}

#[tokio::test]
async fn ip_34_a_list_of_routes_replaces_the_one_before() {
    let mut client = Client::ready(asking());
    assert_eq!(client.state().routes, None);
    for routes in [vec!["0.0.0.0/0"], vec!["192.0.2.0/24"], vec![]] {
        client.advertise(&routes);
        let expected = Routes::from_config(&networks(&routes));
        assert_eq!(client.state().routes, Some(expected));
    }
    client.end.host_sends(&[udp(CLIENT, TARGET)]);
    assert!(client.end.poll().is_pending());
    assert_eq!(client.end.sent(), [[0u8; 0]; 0]);
    assert_eq!(icmp_kind(&client.end.received()[0]), (3, 0));
}

#[tokio::test]
async fn ip_34_that_there_is_no_route_is_an_answer_too() {
    let mut client = Client::ready(asking());
    client.advertise(&[]);
    assert_eq!(client.state().routes, Some(Routes::default()));
}

#[tokio::test]
async fn ip_28_a_refusal_of_everything_ends_the_tunnel_with_its_reason() {
    let mut client = Client::new(asking());
    assert!(client.end.poll().is_pending());
    let refusals: Vec<_> = AddressClient::any_address()
        .into_iter()
        .zip(1..)
        .map(|(asked, id)| AssignedAddress::refusal(id, asked))
        .collect();
    let refused = client
        .end
        .capsule(ADDRESS_ASSIGN, &encode_assign(&refusals));
    assert_eq!(
        refused.unwrap_err().stream_error(),
        StreamError::RequestCancelled
    );
    assert_eq!(client.state().failure, Some(TunnelFailure::Refused));
}

#[tokio::test]
async fn ip_18_a_malformed_capsule_ends_the_tunnel_and_changes_nothing() {
    let mut client = Client::ready(asking());
    let before = client.state();
    // V1: IP version 5.
    let malformed = client
        .end
        .capsule(ADDRESS_ASSIGN, &[0, 5, 192, 0, 2, 11, 32]);
    assert_eq!(malformed.unwrap_err().stream_error(), StreamError::Message);
    let after = client.state();
    assert_eq!(after.addresses, before.addresses);
    let Some(TunnelFailure::Malformed(text)) = after.failure else {
        panic!("{after:?}");
    };
    assert!(text.contains("version"), "{text}");
}

#[tokio::test]
async fn ip_43_only_packets_for_this_end_reach_the_host() {
    let mut client = Client::ready(asking());
    client.end.deliver(&[
        udp(TARGET, "10.76.0.3"),
        udp(TARGET, CLIENT),
        udp(TARGET_V6, "fd76::3"),
        udp("fe80::1", CLIENT_V6),
    ]);
    assert_eq!(client.end.received(), [udp(TARGET, CLIENT)]);
    assert_eq!(
        client.end.sent(),
        [[0u8; 0]; 0],
        "the proxy is told nothing"
    );
}

#[tokio::test]
async fn ip_51_a_client_answers_an_echo_to_all_nodes() {
    let mut client = Client::ready(asking());
    let echo = icmp::Echo { id: 1, sequence: 2 };
    let source = "fd76::1".parse().unwrap();
    let request = icmp::echo_request_v6(source, crate::filter::ALL_NODES, echo, 1232);
    client.end.deliver(&[request.to_vec()]);
    let sent = client.end.sent();
    let header = packet::parse(&sent[0]).unwrap();
    assert_eq!(icmp::parse_echo_reply(&sent[0], &header), Some(echo));
    assert_eq!(header.source, address(CLIENT_V6));
    assert_eq!(client.end.received(), [[0u8; 0]; 0]);
}

#[tokio::test]
async fn ip_66_what_the_kernel_says_to_its_link_stays_there() {
    let mut client = Client::ready(asking());
    let solicitation = v6(ICMP_V6, &[133, 0, 0, 0, 0, 0, 0, 0]);
    let report = v6(ICMP_V6, &[143, 0, 0, 0, 0, 0, 0, 0]);
    client.end.host_sends(&[
        readdressed(solicitation.clone(), "fe80::1", "ff02::2"),
        readdressed(solicitation, CLIENT_V6, "ff02::2"),
        readdressed(report, CLIENT_V6, "ff02::16"),
    ]);
    assert!(client.end.poll().is_pending());
    assert!(client.end.sent().is_empty() && client.end.received().is_empty());
}

#[tokio::test]
async fn the_host_is_told_of_sources_that_are_not_in_the_tunnel() {
    let mut client = Client::ready(asking());
    client
        .end
        .host_sends(&[udp("192.168.1.1", TARGET), udp("2001:db8::9", TARGET_V6)]);
    assert!(client.end.poll().is_pending());
    assert_eq!(client.end.sent(), [[0u8; 0]; 0]);
    let errors = client.end.received();
    assert_eq!(
        errors
            .iter()
            .map(|error| icmp_kind(error))
            .collect::<Vec<_>>(),
        [(3, 13), (1, 5)]
    );
    assert_eq!(packet::parse(&errors[0]).unwrap().source, address(TARGET));
}

#[tokio::test]
async fn a_client_without_an_interface_says_so() {
    let client = Client::ready(asking());
    let states = client.states.clone();
    let End { mut flow, host, .. } = client.end;
    drop(host);
    let mut outbox = Outbox::default();
    let mut cx = FlowCx::new(&mut outbox, Waker::noop(), BATCH_LEN, MAX_LEN);
    assert!(flow.poll_outbound(&mut cx).is_ready());
    assert!(matches!(
        states.borrow().failure,
        Some(TunnelFailure::Device(_))
    ));
}
