use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::client::Families;
use crate::client::host::fake::{FakeHost, uplink};
use crate::link::HostRoute;

const SERVER: &str = "192.0.2.1";

fn server() -> IpAddr {
    SERVER.parse().unwrap()
}

/// A client that runs `interface`.
fn client(folder: &Path, interface: &str) -> Bypass {
    Bypass::new(Ledger::at(folder.join("psq-client"), 7), interface)
}

/// What leads to `address` by another router.
fn by(router: &str, address: &str) -> HostRoute {
    HostRoute {
        gateway: Some(router.parse().unwrap()),
        ..uplink(address)
    }
}

#[tokio::test]
async fn ip_68_the_server_keeps_its_way_until_it_is_no_longer_needed() {
    let folder = TempDir::new().unwrap();
    let mut host = FakeHost::default();
    let mut bypass = client(folder.path(), "psq0");
    bypass.hold(server(), &mut host).await.unwrap();
    bypass.hold(server(), &mut host).await.unwrap();
    assert_eq!(
        host.log(),
        ["find 192.0.2.1", "seek 192.0.2.1", "add 192.0.2.1"]
    );
    assert!(host.has(&uplink(SERVER)));
    bypass.release(&mut host).await.unwrap();
    bypass.release(&mut host).await.unwrap();
    assert_eq!(host.log(), ["remove 192.0.2.1"]);
    assert!(!host.has(&uplink(SERVER)));
}

#[tokio::test]
async fn ip_68_in_another_network_the_way_to_the_server_is_another_one() {
    let folder = TempDir::new().unwrap();
    let mut host = FakeHost::default();
    let mut bypass = client(folder.path(), "psq0");
    // Nothing is held yet.
    bypass.renew(&mut host).await.unwrap();
    assert_eq!(host.log(), [""; 0]);
    bypass.hold(server(), &mut host).await.unwrap();
    host.log();
    // In the same network it is there, or comes back.
    bypass.renew(&mut host).await.unwrap();
    assert_eq!(host.log(), ["seek 192.0.2.1", "add 192.0.2.1"]);
    host.move_behind("192.168.1.1");
    bypass.renew(&mut host).await.unwrap();
    assert!(host.has(&uplink(SERVER)));

    host.move_behind("172.16.0.1");
    // Without a way out, what was the way stays.
    host.refuse("seek", io::ErrorKind::NetworkUnreachable);
    bypass.renew(&mut host).await.unwrap_err();
    host.refuse_nothing();
    bypass.renew(&mut host).await.unwrap();
    let moved = by("172.16.0.1", SERVER);
    assert!(host.has(&moved) && !host.has(&uplink(SERVER)));
    // What a killed client has left anywhere goes with the next one.
    drop(bypass);
    let next = client(folder.path(), "psq1");
    next.clean_up(&mut host).await.unwrap();
    assert!(!host.has(&moved));
}

#[tokio::test]
async fn ip_68_each_server_keeps_its_way() {
    let folder = TempDir::new().unwrap();
    let mut host = FakeHost::default();
    let mut bypass = client(folder.path(), "psq0");
    bypass.hold(server(), &mut host).await.unwrap();
    let other = "2001:db8::1";
    bypass
        .hold(other.parse().unwrap(), &mut host)
        .await
        .unwrap();
    assert!(host.has(&uplink(SERVER)) && host.has(&uplink(other)));
    bypass.release(&mut host).await.unwrap();
    assert!(!host.has(&uplink(SERVER)) && !host.has(&uplink(other)));
}

#[tokio::test]
async fn ip_68_a_way_to_one_address_of_the_server_is_enough() {
    let folder = TempDir::new().unwrap();
    let mut host = FakeHost::default();
    let mut bypass = client(folder.path(), "psq0");
    let (first, other) = ("2001:db8::1", SERVER);
    bypass
        .hold(first.parse().unwrap(), &mut host)
        .await
        .unwrap();
    bypass.hold_other(server(), &mut host).await.unwrap();
    assert!(host.has(&uplink(first)) && host.has(&uplink(other)));
    let [v4, v6] = [(true, false), (false, true)].map(|(v4, v6)| Families { v4, v6 });
    for (router, lacking, there) in [("172.16.0.1", v6, other), ("172.16.0.2", v4, first)] {
        host.move_behind(router);
        host.lack(lacking);
        bypass.renew(&mut host).await.unwrap();
        assert!(host.has(&by(router, there)));
    }
    host.lack(Families { v4: true, v6: true });
    bypass.renew(&mut host).await.unwrap_err();
}

#[tokio::test]
async fn ip_68_an_address_without_a_way_gets_one_where_there_is_one() {
    let folder = TempDir::new().unwrap();
    let mut host = FakeHost::default();
    let mut bypass = client(folder.path(), "psq0");
    let other = "2001:db8::1";
    host.lack(Families {
        v4: false,
        v6: true,
    });
    bypass.hold(server(), &mut host).await.unwrap();
    for _ in 0..2 {
        bypass
            .hold_other(other.parse().unwrap(), &mut host)
            .await
            .unwrap();
    }
    assert!(!host.has(&uplink(other)));
    host.lack(Families::default());
    bypass.renew(&mut host).await.unwrap();
    assert!(host.has(&uplink(other)));
    bypass.release(&mut host).await.unwrap();
    assert!(!host.has(&uplink(other)) && !host.has(&uplink(SERVER)));
}

#[tokio::test]
async fn ip_68_what_another_table_has_chosen_stays_while_the_network_does() {
    let folder = TempDir::new().unwrap();
    let mut host = FakeHost::default();
    host.use_other_tables();
    let mut bypass = client(folder.path(), "psq0");
    bypass.hold(server(), &mut host).await.unwrap();
    bypass.renew(&mut host).await.unwrap();
    assert!(host.has(&uplink(SERVER)));
    // It comes back as it was.
    host.move_behind("172.16.0.1");
    bypass.renew(&mut host).await.unwrap();
    assert!(host.has(&uplink(SERVER)));
}

#[tokio::test]
async fn ip_68_two_clients_of_one_server_move_its_route_together() {
    let folder = TempDir::new().unwrap();
    let mut host = FakeHost::default();
    let mut first = client(folder.path(), "psq0");
    let mut second = client(folder.path(), "psq1");
    first.hold(server(), &mut host).await.unwrap();
    second.hold(server(), &mut host).await.unwrap();
    host.log();
    // In the same network, nothing is taken from the other one.
    first.renew(&mut host).await.unwrap();
    assert_eq!(host.log(), ["seek 192.0.2.1", "add 192.0.2.1"]);
    host.reroute("172.16.0.1");
    let moved = by("172.16.0.1", SERVER);
    for bypass in [&mut first, &mut second] {
        bypass.renew(&mut host).await.unwrap();
        assert!(host.has(&moved) && !host.has(&uplink(SERVER)));
    }
    first.release(&mut host).await.unwrap();
    assert!(host.has(&moved));
    second.release(&mut host).await.unwrap();
    assert!(!host.has(&moved));
}

#[tokio::test]
async fn ip_72_a_killed_clients_route_goes_with_the_next_start() {
    let folder = TempDir::new().unwrap();
    let mut host = FakeHost::default();
    let mut killed = client(folder.path(), "psq0");
    killed.hold(server(), &mut host).await.unwrap();
    drop(killed);
    assert!(host.has(&uplink(SERVER)));

    let next = client(folder.path(), "psq0");
    next.clean_up(&mut host).await.unwrap();
    assert!(!host.has(&uplink(SERVER)));
    host.log();
    next.clean_up(&mut host).await.unwrap();
    assert_eq!(host.log(), [""; 0]);
}

#[tokio::test]
async fn ip_72_a_living_clients_route_stays() {
    let folder = TempDir::new().unwrap();
    let mut host = FakeHost::default();
    let mut first = client(folder.path(), "psq0");
    let mut second = client(folder.path(), "psq1");
    first.hold(server(), &mut host).await.unwrap();
    second.clean_up(&mut host).await.unwrap();
    assert!(host.has(&uplink(SERVER)));

    // Both are connected to one server: the last one takes the route away.
    second.hold(server(), &mut host).await.unwrap();
    first.release(&mut host).await.unwrap();
    assert!(host.has(&uplink(SERVER)));
    second.release(&mut host).await.unwrap();
    assert!(!host.has(&uplink(SERVER)));
}

#[tokio::test]
async fn ip_72_a_killed_clients_route_stays_for_one_that_shares_it() {
    let folder = TempDir::new().unwrap();
    let mut host = FakeHost::default();
    let mut killed = client(folder.path(), "psq0");
    let mut living = client(folder.path(), "psq1");
    killed.hold(server(), &mut host).await.unwrap();
    living.hold(server(), &mut host).await.unwrap();
    drop(killed);
    client(folder.path(), "psq2")
        .clean_up(&mut host)
        .await
        .unwrap();
    assert!(host.has(&uplink(SERVER)));
    living.release(&mut host).await.unwrap();
    assert!(!host.has(&uplink(SERVER)));
}

#[tokio::test]
async fn ip_72_a_route_of_the_users_own_does_the_same_service_and_stays() {
    let folder = TempDir::new().unwrap();
    let mut host = FakeHost::default();
    let own = HostRoute {
        protocol: 4,
        ..uplink(SERVER)
    };
    host.give(own.clone());
    let mut bypass = client(folder.path(), "psq0");
    bypass.hold(server(), &mut host).await.unwrap();
    bypass.release(&mut host).await.unwrap();
    assert!(host.has(&own));
}

#[tokio::test]
async fn what_cannot_be_removed_is_left_to_the_next_start() {
    let folder = TempDir::new().unwrap();
    let mut host = FakeHost::default();
    let mut bypass = client(folder.path(), "psq0");
    bypass.hold(server(), &mut host).await.unwrap();
    host.refuse("remove", io::ErrorKind::PermissionDenied);
    bypass.release(&mut host).await.unwrap_err();
    host.refuse_nothing();
    client(folder.path(), "psq1")
        .clean_up(&mut host)
        .await
        .unwrap();
    assert!(!host.has(&uplink(SERVER)));
}

#[tokio::test]
async fn a_server_on_this_host_needs_no_route_and_no_ledger() {
    let mut host = FakeHost::default();
    let mut bypass = client(Path::new("/nonexistent"), "psq0");
    bypass.clean_up(&mut host).await.unwrap();
    let here = "127.0.0.1".parse().unwrap();
    bypass.hold(here, &mut host).await.unwrap();
    assert_eq!(host.log(), ["find 127.0.0.1"]);

    let error = bypass.hold(server(), &mut host).await.unwrap_err();
    assert!(
        error.to_string().starts_with("/nonexistent/psq-client: "),
        "{error}"
    );
    assert_eq!(host.log(), ["find 192.0.2.1", "seek 192.0.2.1"]);
}
