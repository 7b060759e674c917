use tokio::time::advance;

use super::*;

fn addresses(pools: &AddressPools, client: &str) -> Vec<IpNetwork> {
    lease(pools, client).addresses().to_vec()
}

#[test]
fn a_client_that_comes_back_gets_its_former_addresses() {
    let pools = pools(&["10.76.0.1/24", "fd76::1/64"]);
    let before = addresses(&pools, "a");
    let _others = ["b", "c"].map(|client| lease(&pools, client));
    assert_eq!(addresses(&pools, "a"), before);
}

#[tokio::test(start_paused = true)]
async fn ip_31_addresses_are_forgotten_after_a_while() {
    let pools = pools(&["10.76.0.1/24"]);
    let before = addresses(&pools, "a");
    advance(DAY - Duration::from_secs(1)).await;
    assert_eq!(
        addresses(&pools, "a"),
        before,
        "used again, so remembered for another day"
    );
    advance(DAY - Duration::from_secs(1)).await;
    assert_eq!(addresses(&pools, "a"), before);
    advance(DAY).await;
    assert_ne!(addresses(&pools, "a"), before);
}

#[test]
fn ip_31_nothing_is_remembered_for_a_time_of_zero() {
    let pools = AddressPools::new(&networks(&["10.76.0.1/29"]), Duration::ZERO, None).unwrap();
    let first = addresses(&pools, "a");
    let second = addresses(&pools, "a");
    assert_ne!(first, second);
}

#[test]
fn a_former_address_in_use_by_another_is_not_given() {
    let pools = pools(&["10.76.0.1/30"]);
    let before = addresses(&pools, "a");
    let others = ["b", "c"].map(|client| lease(&pools, client));
    assert_eq!(others[1].addresses(), before, "there is no other left");
    assert!(pools.lease(&user("a"), &Scope::everything()).is_err());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_comes_back_at_once_waits_until_its_address_is_free() {
    let pools = pools(&["10.76.0.1/24"]);
    let (one, other) = (user("a"), user("b"));
    let is_settled = async |client| {
        let minute = Duration::from_secs(60);
        let settled = tokio::time::timeout(minute, pools.settle(client));
        settled.await.is_ok()
    };
    let mut held = lease(&pools, "a");
    let before = held.addresses().to_vec();
    assert!(is_settled(&one).await, "nothing is about to end");
    held.begin_end();
    assert!(!is_settled(&one).await);
    assert!(is_settled(&other).await);
    drop(held);
    assert!(is_settled(&one).await);
    assert_eq!(addresses(&pools, "a"), before);
}

#[test]
fn clients_of_one_key_get_one_of_its_former_addresses_each() {
    let pools = pools(&["10.76.0.1/24", "fd76::1/64"]);
    let nat = ClientKey::of_address("198.51.100.7".parse().unwrap());
    let connect = || pools.lease(&nat, &Scope::everything()).unwrap();
    let sorted = |leases: &[Lease]| {
        let mut all: Vec<_> = leases
            .iter()
            .map(|lease| lease.addresses().to_vec())
            .collect();
        all.sort();
        all
    };
    let first: Vec<_> = (0..5).map(|_| connect()).collect();
    let before = sorted(&first);
    drop(first);
    let _strangers = [lease(&pools, "a"), lease(&pools, "b")];
    let again: Vec<_> = (0..5).map(|_| connect()).collect();
    assert_eq!(
        sorted(&again),
        before,
        "and each client a pair that was a pair before"
    );
}

#[test]
fn the_address_used_last_comes_first() {
    let pools = pools(&["10.76.0.1/24"]);
    let (one, two) = (lease(&pools, "a"), lease(&pools, "a"));
    let (early, late) = (one.addresses().to_vec(), two.addresses().to_vec());
    drop(one);
    drop(two);
    let again = lease(&pools, "a");
    assert_eq!(again.addresses(), late);
    assert_eq!(lease(&pools, "a").addresses(), early);
}

#[test]
fn a_freed_address_goes_to_a_stranger_last_of_all() {
    let pools = pools(&["10.76.0.1/29"]);
    let order: Vec<_> = ["a", "b", "c", "d", "e", "f", "g", "h"]
        .map(|client| addresses(&pools, client)[0].to_string())
        .into();
    assert_eq!(
        order,
        [
            "10.76.0.2/32",
            "10.76.0.3/32",
            "10.76.0.4/32",
            "10.76.0.5/32",
            "10.76.0.6/32",
            "10.76.0.7/32",
            // Nothing is new any more: the one that has been free for the longest time.
            "10.76.0.2/32",
            "10.76.0.3/32",
        ]
    );
}

#[test]
fn a_freed_address_goes_to_a_stranger_last_of_all_without_memory_too() {
    let pools = AddressPools::new(&networks(&["10.76.0.1/29"]), Duration::ZERO, None).unwrap();
    let _first = lease(&pools, "a");
    let freed = addresses(&pools, "b");
    for client in ["c", "d", "e", "f"] {
        assert_ne!(addresses(&pools, client), freed, "others were never used");
    }
    assert_eq!(addresses(&pools, "g"), freed);
}

/// Its last holder's peers still send there, and the last holder may come back for it.
#[test]
fn an_address_kept_in_mind_for_another_cannot_be_asked_for() {
    let pools = pools(&["10.76.0.1/24"]);
    let former = addresses(&pools, "a")[0];
    let mut stranger = lease(&pools, "b");
    assert_ne!(stranger.request(former), Some(former));
    assert!(!stranger.replace(stranger.addresses()[0], former));

    let mut owner = pools.lease(&user("a"), &scope("2001:db8::/32")).unwrap();
    assert_eq!(owner.request(former), None, "out of scope");
    let mut owner = lease(&pools, "a");
    assert_eq!(owner.addresses(), [former]);
    assert!(owner.release(former));
    assert_eq!(owner.request(former), Some(former));
}

#[tokio::test(start_paused = true)]
async fn an_address_that_was_forgotten_can_be_asked_for() {
    let pools = pools(&["10.76.0.1/24"]);
    let former = addresses(&pools, "a")[0];
    advance(DAY).await;
    assert_eq!(lease(&pools, "b").request(former), Some(former));
}

#[test]
fn prefixes_are_remembered_too() {
    let pools = pools(&["fd76::1/48"]);
    let wanted = network("::/64");
    let mut first = lease(&pools, "a");
    let prefix = first.request(wanted).unwrap();
    drop(first);
    let mut other = lease(&pools, "b");
    assert_ne!(other.request(wanted), Some(prefix));
    let mut again = lease(&pools, "a");
    assert_eq!(again.request(wanted), Some(prefix));
}

#[test]
fn a_prefix_that_was_given_back_can_be_split_into_addresses() {
    let pools = pools(&["10.76.0.1/22"]);
    let mut held = lease(&pools, "a");
    let prefix = held.request(network("0.0.0.0/30")).unwrap();
    assert!(held.release(prefix));
    while held.request(network("0.0.0.0/32")).is_some() {}
    assert_eq!(pools.free(), [(network("10.76.0.1/22"), 0)]);
    assert_eq!(held.addresses().len(), 1024 - 2);
    assert!(
        held.addresses()
            .iter()
            .any(|address| prefix.contains(address.ip()))
    );
}

#[test]
fn the_memory_is_bounded() {
    const CLIENTS: usize = addresses::MAX_FORMER + 100;
    let pools = pools(&["fd76::1/64"]);
    let first = addresses(&pools, "0");
    for client in 1..CLIENTS {
        addresses(&pools, &client.to_string());
    }
    assert_eq!(pools.lock()[0].remembered(), addresses::MAX_FORMER);
    assert_ne!(addresses(&pools, "0"), first, "the oldest was forgotten");
    let last = addresses(&pools, &(CLIENTS - 1).to_string());
    assert_eq!(addresses(&pools, &(CLIENTS - 1).to_string()), last);
    assert_eq!(pools.lock()[0].remembered(), addresses::MAX_FORMER);
}

#[test]
fn a_household_behind_a_nat_is_one_key() {
    let mapped = ClientKey::of_address("::ffff:198.51.100.7".parse().unwrap());
    let plain = ClientKey::new(
        &pasque::auth::Identity::anonymous(),
        "198.51.100.7".parse().unwrap(),
    );
    assert_eq!(mapped, plain);
    assert_ne!(plain, user("198.51.100.7"), "nobody can take it by name");
    assert_eq!(plain.to_string(), "ip:198.51.100.7");
}
