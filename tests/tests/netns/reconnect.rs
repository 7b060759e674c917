//! A tunnel whose server goes away and comes back.

use pasque_tests::netns::Network;
use rustix::process::Signal;

use crate::lab::{Lab, addresses, routes};
use crate::restore::{assert_no_leaks, count_leaks, full_tunnel, way};
use crate::transfer::{Transfer, echo, echo_service};

/// Ends the server with `signal`, and starts it again as it was.
async fn restart(lab: &mut Lab, signal: Signal) {
    lab.server.process().signal(signal).unwrap();
    lab.server.process().exit().await.unwrap();
    let started = lab.server.start_again(Some(&lab.network.server)).await;
    started.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tunnel_survives_its_server_and_nothing_leaves_beside_it() {
    let mut lab = full_tunnel().start().await;
    // One before it, so that its addresses are not those which anybody would get.
    let first = lab.client(1, &[]).await;
    let mut client = lab.client(0, &["--default-route"]).await;
    // From here on: before all routes are there, the answer to what the server asks may take the other way.
    count_leaks(lab.place(0));
    let before = (
        addresses(lab.place(0), &client.interface),
        routes(lab.place(0), &client.interface),
    );
    first.leave().await;
    let transfer = Transfer::start(lab.place(0), lab.target(), Network::TARGET.into(), None);
    transfer.wait_for(1_000_000);
    // It is told of the one end, and has to notice the other.
    for signal in [Signal::TERM, Signal::KILL] {
        restart(&mut lab, signal).await;
        // What was routed into the tunnel has no other way meanwhile.
        assert_eq!(way(lab.place(0), Network::TARGET), client.interface);
        assert_eq!(way(lab.place(0), Network::TARGET_V6), client.interface);
        assert_eq!(way(lab.place(0), Network::SERVER), "eth0");
        transfer.wait_for(1_000_000);
    }
    transfer.finish();
    let after = (
        addresses(lab.place(0), &client.interface),
        routes(lab.place(0), &client.interface),
    );
    assert_eq!(before, after);
    assert_no_leaks(lab.place(0));
    // A client that is ended while there is no server puts everything back as well.
    lab.server.process().signal(Signal::KILL).unwrap();
    client.process.line("reconnecting").await.unwrap();
    client.leave().await;
    assert_eq!(way(lab.place(0), Network::TARGET), "eth0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tunnel_survives_a_change_of_the_network_below_it() {
    let lab = full_tunnel().start().await;
    let place = lab.place(0);
    let service = echo_service(lab.target(), Network::TARGET.into());
    let client = lab.client(0, &["--default-route"]).await;
    echo(place, service.address(), b"before").await;
    // With the link its routes go, that to the server among them; what comes back knows nothing of it.
    place.ip("link set eth0 down\nlink set eth0 up").unwrap();
    count_leaks(place);
    place.ip("route add default via 10.9.1.1").unwrap();
    assert_eq!(way(place, Network::SERVER), client.interface);
    echo(place, service.address(), b"after").await;
    assert_eq!(way(place, Network::SERVER), "eth0");
    assert_no_leaks(place);
    client.leave().await;
    assert_eq!(way(place, Network::TARGET), "eth0");
    let left = place.show("route show 10.9.0.2").unwrap();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_tunnels_to_one_server_survive_it_and_do_not_lead_it_into_each_other() {
    let mut lab = full_tunnel().start().await;
    let service = echo_service(lab.target(), Network::TARGET.into());
    let mut first = lab.client(0, &["--default-route"]).await;
    let mut second = lab.open(0, &["--default-route"]).await;
    restart(&mut lab, Signal::KILL).await;
    for client in [&mut first, &mut second] {
        client.process.line(" again").await.unwrap();
        assert_eq!(way(lab.place(0), Network::SERVER), "eth0");
    }
    assert_eq!(way(lab.place(0), Network::TARGET), first.interface);
    echo(lab.place(0), service.address(), b"after").await;
    first.leave().await;
    assert_eq!(way(lab.place(0), Network::SERVER), "eth0");
    second.leave().await;
    let left = lab.place(0).show("route show 10.9.0.2").unwrap();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tunnel_survives_its_server_where_another_table_leads_there() {
    let mut lab = full_tunnel().start().await;
    let service = echo_service(lab.target(), Network::TARGET.into());
    // Asked when the main table knows no way.
    let commands = "route del default\nroute add default via 10.9.1.1 table 100\n\
        rule add pref 40000 lookup 100";
    lab.place(0).ip(commands).unwrap();
    let client = lab.client(0, &["--default-route"]).await;
    assert_eq!(way(lab.place(0), Network::SERVER), "eth0");
    restart(&mut lab, Signal::KILL).await;
    echo(lab.place(0), service.address(), b"after").await;
    assert_eq!(way(lab.place(0), Network::SERVER), "eth0");
    client.leave().await;
}
