//! Who gets which address, and when there is none left.

use std::net::Ipv4Addr;
use std::time::Duration;

use pasque::connection::ClientError;
use serde_json::{Value, json};

use crate::lab::{Client, Lab, Mode, OWN, Setup};
use crate::probe::{Answer, Ping};
use crate::tunnel::RawTunnel;

/// How the client says that the server refused.
const REFUSED: i32 = 4;

/// Whether the server refuses a tunnel because it has no address.
async fn is_full(lab: &Lab) -> bool {
    match RawTunnel::open(&lab.connect(1), "%2A", "%2A").await {
        Ok(_) => false,
        Err(ClientError::Refused {
            status, headers, ..
        }) => {
            assert_eq!(status, 503);
            assert!(headers.contains_key("retry-after"), "{headers:?}");
            true
        }
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ip_12_14_a_pool_serves_as_many_as_it_has_places_and_a_place_comes_back() {
    // Eight addresses: the network's, the server's, and six for clients. The last of them would be a
    // broadcast address, were there a subnet.
    for mode in [Mode::AUTO_CLIENT, Mode::AUTO_SHARED] {
        let lab = Setup::new(mode)
            .endpoint("addresspools", json!(["10.76.0.1/29"]))
            .endpoint("routes", json!(["10.76.0.0/29"]))
            .start()
            .await;
        let connection = lab.connect(1);
        let mut others = Vec::new();
        for _ in 0..5 {
            others.push(RawTunnel::open(&connection, "%2A", "%2A").await.unwrap());
        }
        let sixth = lab.client(0, &[]).await;
        assert_eq!(sixth.v4, Some(Ipv4Addr::new(10, 76, 0, 7)));
        assert!(is_full(&lab).await);
        let mut seventh = lab.launch(0, &[]);
        let status = seventh.exit().await.unwrap();
        assert_eq!(status.code(), Some(REFUSED), "{}", seventh.output());
        // The others have not noticed.
        assert_eq!(
            Ping::to(OWN).send(lab.place(0)),
            Answer::Reply { from: OWN.into() }
        );
        // From the server, too, the last address is one host.
        let last = sixth.v4.unwrap();
        let answer = Ping::to(last).send(&lab.network.server);
        assert_eq!(answer, Answer::Reply { from: last.into() });
        for place in [&lab.network.server, lab.place(0)] {
            let broadcasts = place.show("route show table local type broadcast").unwrap();
            let in_pool = |route: &&Value| {
                let to = route["dst"].as_str().unwrap();
                to.starts_with("10.76.0.")
            };
            let found: Vec<_> = broadcasts.iter().filter(in_pool).collect();
            assert!(found.is_empty(), "{mode:?}: {found:?}");
        }

        // One leaves; another one is served, at once or very soon, and it is full again.
        drop(others.pop());
        tokio::time::sleep(Duration::from_secs(1)).await;
        let next = lab.client(0, &[]).await;
        assert_ne!(next.v4, sixth.v4);
        let answer = Ping::to(OWN).through(&next.interface).send(lab.place(0));
        assert_eq!(answer, Answer::Reply { from: OWN.into() });
        assert!(is_full(&lab).await);
        // And so it is when a program with an interface leaves.
        let address = sixth.v4;
        lab.leave(sixth).await;
        let last = lab.client(0, &[]).await;
        assert_eq!(last.v4, address);
    }
}

/// Both addresses of a client that comes and goes.
async fn visit(lab: &Lab, n: usize) -> [std::net::IpAddr; 2] {
    let client = lab.client(n, &[]).await;
    let addresses = client.addresses();
    let answer = Ping::to(OWN).send(lab.place(n));
    assert_eq!(answer, Answer::Reply { from: OWN.into() });
    lab.leave(client).await;
    addresses
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_comes_back_has_its_addresses_again_even_from_a_new_server() {
    let folder = tempfile::tempdir().unwrap();
    let leases = folder.path().join("leases.redb");
    let mut lab = Setup::new(Mode::AUTO_CLIENT)
        .endpoint("lease_file", json!(leases))
        .start()
        .await;
    let first = visit(&lab, 0).await;
    let second = visit(&lab, 1).await;
    assert!(first[0] != second[0] && first[1] != second[1]);
    // In the other order.
    assert_eq!(visit(&lab, 1).await, second);
    assert_eq!(visit(&lab, 0).await, first);
    lab.restart_server().await;
    assert_eq!(visit(&lab, 1).await, second);
    assert_eq!(visit(&lab, 0).await, first);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ip_29_a_version_that_is_refused_is_no_address_of_the_interface() {
    let lab = Setup::new(Mode::AUTO_CLIENT).ipv4_only().start().await;
    let client: Client = lab.open(0, &[]).await;
    assert!(client.v4.is_some() && client.v6.is_none());
    let found = crate::lab::addresses(lab.place(0), &client.interface);
    assert_eq!(found, [client.v4.unwrap()]);
    client.leave().await;
}
