//! Random use of pools against sets of single addresses.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use tokio::runtime::Builder;
use tokio::time::advance;

use super::*;

/// Operations in one run; the pools are small, so that they are exhausted again and again.
const OPERATIONS: usize = 10_000;
const POOLS: [&str; 3] = ["10.76.0.5/27", "10.77.3.1/22", "fd76::1/120"];
const RESERVED: [&str; 6] = [
    "10.76.0.0",
    "10.76.0.5",
    "10.77.0.0",
    "10.77.3.1",
    "fd76::",
    "fd76::1",
];

#[derive(Clone, Debug)]
enum Operation {
    Open {
        client: u8,
        scope: Option<&'static str>,
    },
    Request {
        tunnel: Index,
        wanted: IpNetwork,
    },
    Release {
        tunnel: Index,
        address: Index,
    },
    Replace {
        tunnel: Index,
        address: Index,
        wanted: IpNetwork,
    },
    Close {
        tunnel: Index,
    },
    Wait {
        hours: u64,
    },
}

fn wanted() -> impl Strategy<Value = IpNetwork> {
    let any = select(vec![
        "0.0.0.0/32",
        "0.0.0.0/31",
        "0.0.0.0/30",
        "0.0.0.0/29",
        "::/128",
        "::/127",
    ]);
    let around = |base: &'static str, len: u8, spread: u32| {
        (0..spread, len - 3..=len).prop_map(move |(offset, len)| {
            let address = match base.parse().unwrap() {
                IpAddr::V4(base) => IpAddr::V4((u32::from(base) + offset).into()),
                IpAddr::V6(base) => IpAddr::V6((u128::from(base) + u128::from(offset)).into()),
            };
            let network = IpNetwork::new(address, len).unwrap();
            IpNetwork::new(network.network(), len).unwrap()
        })
    };
    prop_oneof![
        any.prop_map(network),
        around("10.76.0.0", 32, 34),
        around("10.77.0.0", 32, 1030),
        around("fd76::", 128, 260),
    ]
}

fn operation() -> impl Strategy<Value = Operation> {
    let tunnel = any::<Index>;
    prop_oneof![
        6 => (0..40u8, select(vec![None, None, Some("192.0.2.0/24"), Some("2001:db8::/32")]))
            .prop_map(|(client, scope)| Operation::Open { client, scope }),
        4 => (tunnel(), wanted())
            .prop_map(|(tunnel, wanted)| Operation::Request { tunnel, wanted }),
        1 => (tunnel(), any::<Index>())
            .prop_map(|(tunnel, address)| Operation::Release { tunnel, address }),
        1 => (tunnel(), any::<Index>(), wanted())
            .prop_map(|(tunnel, address, wanted)| Operation::Replace { tunnel, address, wanted }),
        5 => tunnel().prop_map(|tunnel| Operation::Close { tunnel }),
        1 => (0..30u64).prop_map(|hours| Operation::Wait { hours }),
    ]
}

/// Every single address in use, and who may not have been given what.
struct Model {
    held: BTreeSet<IpAddr>,
    reserved: Vec<IpAddr>,
}

impl Model {
    fn take(&mut self, network: IpNetwork) {
        assert_eq!(network.ip(), network.network(), "{network} has host bits");
        let holds = |pool: &IpNetwork| {
            pool.contains(network.network()) && pool.contains(network.broadcast())
        };
        assert!(networks(&POOLS).iter().any(holds), "{network} is no pool's");
        for address in network.iter() {
            assert!(!self.reserved.contains(&address), "{address} is reserved");
            assert!(self.held.insert(address), "{address} is held twice");
        }
    }

    fn give_back(&mut self, network: IpNetwork) {
        for address in network.iter() {
            assert!(self.held.remove(&address), "{address} comes back twice");
        }
    }

    fn free(&self) -> Vec<(IpNetwork, u128)> {
        let free = |pool: &&str| {
            let pool = network(pool);
            let all = pool
                .iter()
                .filter(|address| !self.reserved.contains(address));
            let free = all.filter(|address| !self.held.contains(address)).count();
            (pool, free as u128)
        };
        POOLS.iter().map(free).collect()
    }
}

async fn run(operations: &[Operation]) {
    let pools = AddressPools::new(&networks(&POOLS), DAY, None).unwrap();
    let mut model = Model {
        held: BTreeSet::new(),
        reserved: RESERVED.map(|address| address.parse().unwrap()).into(),
    };
    let mut tunnels: Vec<Lease> = Vec::new();
    let (mut refused, mut requested) = (0, 0);
    for (step, operation) in operations.iter().enumerate() {
        match operation {
            Operation::Open {
                client,
                scope: limit,
            } => {
                let limit = limit.map_or_else(Scope::everything, scope);
                let all_have_room = model
                    .free()
                    .iter()
                    .all(|(pool, free)| *free > 0 || !limit.allows_family(pool.is_ipv6()));
                match pools.lease(&user(&client.to_string()), &limit) {
                    Ok(lease) => {
                        assert!(all_have_room);
                        lease
                            .addresses()
                            .iter()
                            .for_each(|address| model.take(*address));
                        tunnels.push(lease);
                    }
                    Err(_) => {
                        assert!(!all_have_room);
                        refused += 1;
                    }
                }
            }
            Operation::Request { tunnel, wanted } if !tunnels.is_empty() => {
                let index = tunnel.index(tunnels.len());
                if let Some(given) = tunnels[index].request(*wanted) {
                    assert_eq!(
                        (given.prefix(), given.is_ipv6()),
                        (wanted.prefix(), wanted.is_ipv6())
                    );
                    model.take(given);
                    requested += 1;
                }
            }
            Operation::Release { tunnel, address } if !tunnels.is_empty() => {
                let index = tunnel.index(tunnels.len());
                let addresses = tunnels[index].addresses();
                if !addresses.is_empty() {
                    let address = addresses[address.index(addresses.len())];
                    assert!(tunnels[index].release(address));
                    model.give_back(address);
                }
            }
            Operation::Replace {
                tunnel,
                address,
                wanted,
            } if !tunnels.is_empty() => {
                let index = tunnel.index(tunnels.len());
                let addresses = tunnels[index].addresses();
                if !addresses.is_empty() {
                    let old = addresses[address.index(addresses.len())];
                    if tunnels[index].replace(old, *wanted) {
                        model.take(*wanted);
                        model.give_back(old);
                    }
                }
            }
            Operation::Close { tunnel } if !tunnels.is_empty() => {
                let lease = tunnels.swap_remove(tunnel.index(tunnels.len()));
                lease
                    .addresses()
                    .iter()
                    .for_each(|address| model.give_back(*address));
            }
            Operation::Wait { hours } => advance(Duration::from_secs(hours * 3600)).await,
            _ => {}
        }
        if step % 100 == 0 {
            assert_eq!(pools.free(), model.free());
        }
    }
    assert!(refused > 0 && requested > 0, "the run went to the limits");
    while let Some(lease) = tunnels.pop() {
        lease
            .addresses()
            .iter()
            .for_each(|address| model.give_back(*address));
    }
    assert!(model.held.is_empty());
    assert_eq!(pools.free(), model.free(), "everything came back, once");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10))]

    #[test]
    fn ip_30_no_two_tunnels_share_an_address(operations in vec(operation(), OPERATIONS)) {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.unwrap().block_on(run(&operations));
    }
}
