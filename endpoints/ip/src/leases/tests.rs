use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::sync::OnceLock;
use std::time::Instant;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::pool::{AddressPools, Lease};
use crate::scope::Scope;

const DAY: Duration = Duration::from_secs(86_400);
const PREFIXES: [&str; 2] = ["10.76.0.1/24", "fd76::1/64"];

struct Fixture {
    folder: TempDir,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("leases")
    }

    fn open(&self) -> LeaseFile {
        LeaseFile::open(self.path()).unwrap()
    }

    /// A server's pools over this file.
    fn pools(&self) -> AddressPools {
        self.pools_of(&PREFIXES, DAY)
    }

    fn pools_of(&self, prefixes: &[&str], reuse: Duration) -> AddressPools {
        let prefixes: Vec<_> = prefixes.iter().map(|text| network(text)).collect();
        AddressPools::new(&prefixes, reuse, Some(self.open())).unwrap()
    }

    /// What the file holds now, in the order of addresses.
    fn stored(&self) -> Vec<(String, String, bool)> {
        let database = open_database(&self.path()).unwrap();
        let mut stored = table::read(&database).unwrap();
        stored.sort_by_key(|entry| entry.network);
        let text = |entry: Stored| {
            (
                entry.network.to_string(),
                entry.client.to_string(),
                entry.ended.is_some(),
            )
        };
        stored.into_iter().map(text).collect()
    }

    /// Writes an entry that was given back `ago`, as an earlier server would have.
    fn store(&self, network: &str, client: &str, ago: Option<Duration>) {
        let change = Change::Put {
            client: ClientKey::of_identity(client),
            ended: ago.map(|ago| unix_time() - ago.as_secs()),
        };
        let database = open_database(&self.path()).unwrap();
        let changes = [(self::network(network), change)];
        table::write(&database, &changes.into_iter().collect()).unwrap();
    }
}

fn network(text: &str) -> IpNetwork {
    text.parse().unwrap()
}

fn lease(pools: &AddressPools, client: &str) -> Lease {
    let client = ClientKey::of_identity(client);
    pools.lease(&client, &Scope::everything()).unwrap()
}

fn addresses(pools: &AddressPools, client: &str) -> Vec<IpNetwork> {
    lease(pools, client).addresses().to_vec()
}

#[test]
fn a_client_gets_its_addresses_back_after_a_restart() {
    let fixture = Fixture::new();
    let first = fixture.pools();
    let before = ["a", "b", "c"].map(|client| addresses(&first, client));
    drop(first);

    let second = fixture.pools();
    let after = ["c", "b", "a"].map(|client| addresses(&second, client));
    assert_eq!(
        after,
        [before[2].clone(), before[1].clone(), before[0].clone()]
    );
    assert_ne!(addresses(&second, "d"), before[0]);
}

/// Threats, row 62: the server is killed while tunnels are open.
#[test]
fn a_client_gets_its_addresses_back_after_a_kill() {
    let fixture = Fixture::new();
    let killed = fixture.pools();
    let tunnels = ["a", "b"].map(|client| lease(&killed, client));
    let before = tunnels.each_ref().map(|lease| lease.addresses().to_vec());

    // What a killed process leaves is what is in the file at some moment.
    let copy = Fixture::new();
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(10) {
        fs::copy(fixture.path(), copy.path()).unwrap();
        if LeaseFile::open(copy.path()).is_ok() && copy.stored().len() == 4 {
            break;
        }
        thread::sleep(Duration::from_millis(20));
    }
    let is_in_use = |entry: &(String, String, bool)| !entry.2;
    assert!(copy.stored().iter().all(is_in_use));

    let restarted = copy.pools();
    let after = ["b", "a"].map(|client| addresses(&restarted, client));
    assert_eq!(after, [before[1].clone(), before[0].clone()]);
}

#[test]
fn the_file_says_who_had_what() {
    let fixture = Fixture::new();
    let pools = fixture.pools();
    let open = lease(&pools, "a");
    drop(lease(&pools, "b"));
    drop(pools);
    drop(open);
    let expected = [
        ("10.76.0.2/32", "id:a"),
        ("10.76.0.3/32", "id:b"),
        ("fd76::2/128", "id:a"),
        ("fd76::3/128", "id:b"),
    ];
    let expected = expected.map(|(network, client)| (network.into(), client.into(), true));
    assert_eq!(fixture.stored(), expected);
}

#[test]
fn ip_31_entries_that_are_too_old_are_removed() {
    let fixture = Fixture::new();
    fixture.store("10.76.0.9/32", "young", Some(DAY - Duration::from_secs(60)));
    fixture.store("10.76.0.8/32", "old", Some(DAY));
    let pools = fixture.pools();
    assert_eq!(addresses(&pools, "young")[0], network("10.76.0.9/32"));
    assert_eq!(addresses(&pools, "old")[0], network("10.76.0.2/32"));
    drop(pools);
    let networks: Vec<_> = fixture.stored().into_iter().map(|entry| entry.0).collect();
    assert!(!networks.contains(&"10.76.0.8/32".to_string()));
}

#[tokio::test(start_paused = true)]
async fn the_time_before_a_restart_counts() {
    let fixture = Fixture::new();
    fixture.store("10.76.0.9/32", "a", Some(DAY - Duration::from_secs(3600)));
    let pools = fixture.pools();
    tokio::time::advance(Duration::from_secs(3601)).await;
    assert_eq!(addresses(&pools, "a")[0], network("10.76.0.2/32"));
}

#[test]
fn the_order_of_use_survives_a_restart() {
    let fixture = Fixture::new();
    fixture.store("10.76.0.2/32", "a", Some(Duration::from_secs(10)));
    fixture.store("10.76.0.3/32", "b", Some(Duration::from_secs(30)));
    fixture.store("10.76.0.4/32", "c", None);
    fixture.store("10.76.0.5/32", "d", Some(Duration::from_secs(20)));
    let pools = fixture.pools_of(&["10.76.0.1/29"], DAY);
    let strangers = ["u", "v", "w", "x", "y", "z"].map(|client| lease(&pools, client));
    let order = strangers.map(|lease| lease.addresses()[0].to_string());
    assert_eq!(
        order,
        [
            "10.76.0.6/32",
            "10.76.0.7/32",
            "10.76.0.3/32",
            "10.76.0.5/32",
            "10.76.0.2/32",
            "10.76.0.4/32"
        ]
    );
}

#[test]
fn ip_31_a_time_of_zero_writes_nothing_and_forgets_all() {
    let fixture = Fixture::new();
    fixture.store("10.76.0.9/32", "a", None);
    let pools = fixture.pools_of(&PREFIXES, Duration::ZERO);
    assert_eq!(addresses(&pools, "a")[0], network("10.76.0.2/32"));
    drop(pools);
    assert_eq!(fixture.stored(), []);
}

/// The configuration changed since: the pool is smaller, or the address is the server's own now.
#[test]
fn entries_that_no_pool_gives_are_ignored() {
    let fixture = Fixture::new();
    for (network, client) in [
        ("10.99.0.9/32", "outside"),
        ("10.76.0.1/32", "own"),
        ("10.76.0.0/32", "network"),
        ("10.76.0.16/28", "prefix"),
        ("10.76.0.0/16", "all"),
        ("fd76::/64", "all6"),
    ] {
        fixture.store(network, client, None);
    }
    let pools = fixture.pools();
    assert_eq!(
        pools.free(),
        [
            (network("10.76.0.1/24"), 254),
            (network("fd76::1/64"), u128::from(u64::MAX) - 1)
        ]
    );
    assert_eq!(addresses(&pools, "outside")[0], network("10.76.0.2/32"));
}

/// The same pool is back after a start without it.
#[test]
fn entries_of_another_pool_stay_in_the_file() {
    let fixture = Fixture::new();
    fixture.store("10.76.0.9/32", "a", None);
    drop(fixture.pools_of(&["10.77.0.1/24"], DAY));
    assert_eq!(addresses(&fixture.pools(), "a")[0], network("10.76.0.9/32"));
}

#[test]
fn prefixes_are_kept_too() {
    let fixture = Fixture::new();
    let mut before = lease(&fixture.pools(), "a");
    let prefix = before.request(network("::/96")).unwrap();
    drop(before);
    let mut after = lease(&fixture.pools(), "a");
    assert_eq!(after.request(network("::/96")), Some(prefix));
}

#[test]
fn an_address_that_changed_hands_belongs_to_the_last() {
    let fixture = Fixture::new();
    let pools = fixture.pools_of(&["10.76.0.1/30"], DAY);
    for client in ["a", "b", "c"] {
        drop(lease(&pools, client));
    }
    drop(pools);
    let entry = |address: &str, client: &str| (address.to_string(), client.to_string(), true);
    assert_eq!(
        fixture.stored(),
        [entry("10.76.0.2/32", "id:c"), entry("10.76.0.3/32", "id:b")]
    );
}

#[test]
fn one_server_at_a_time_has_the_file() {
    let fixture = Fixture::new();
    let _first = fixture.open();
    let error = LeaseFile::open(fixture.path()).unwrap_err();
    assert!(matches!(error, LeaseFileError::InUse { .. }), "{error:?}");
    assert_eq!(
        error.to_string(),
        format!(
            "the lease file {} is in use by another server or endpoint, expected one for each",
            fixture.path().display()
        )
    );
}

#[test]
fn others_cannot_read_the_file() {
    let fixture = Fixture::new();
    drop(fixture.open());
    let mode = fs::metadata(fixture.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_path_that_cannot_be_opened_is_an_error_that_names_it() {
    let fixture = Fixture::new();
    let folder = fixture.folder.path();
    fs::set_permissions(folder, Permissions::from_mode(0o700)).unwrap();
    for path in [
        folder.to_path_buf(),
        folder.join("missing/leases"),
        "/proc/leases".into(),
    ] {
        let error = LeaseFile::open(&path).unwrap_err();
        assert!(matches!(error, LeaseFileError::Open { .. }), "{error:?}");
        let expected = format!("cannot open the lease file {}: ", path.display());
        assert!(error.to_string().starts_with(&expected), "{error}");
    }
}

#[test]
fn a_file_of_another_program_is_left_alone() {
    let fixture = Fixture::new();
    for content in [&b"{}"[..], &[0; 10_000], &b"# addresses\n".repeat(1000)] {
        fs::write(fixture.path(), content).unwrap();
        let error = LeaseFile::open(fixture.path()).unwrap_err();
        assert!(matches!(error, LeaseFileError::Damaged { .. }), "{error:?}");
        let text = error.to_string();
        assert!(
            text.contains("is damaged") && text.contains("move it away"),
            "{text}"
        );
        assert_eq!(fs::read(fixture.path()).unwrap(), content);
    }
}

#[test]
fn a_damaged_entry_is_an_error() {
    let fixture = Fixture::new();
    fixture.store("10.76.0.9/32", "a", None);
    let content = fs::read(fixture.path()).unwrap();
    let needle = b"10.76.0.9/32";
    let places = content.windows(needle.len()).enumerate();
    let places: Vec<_> = places
        .filter(|(_, window)| window == needle)
        .map(|(place, _)| place)
        .collect();
    assert!(!places.is_empty());
    let mut damaged = content;
    places.iter().for_each(|place| damaged[*place] = b'x');
    fs::write(fixture.path(), damaged).unwrap();
    let error = LeaseFile::open(fixture.path()).unwrap_err();
    assert!(matches!(error, LeaseFileError::Damaged { .. }), "{error:?}");
}

#[test]
fn a_table_of_other_entries_is_an_error() {
    let fixture = Fixture::new();
    let database = open_database(&fixture.path()).unwrap();
    let transaction = database.begin_write().unwrap();
    let definition = redb::TableDefinition::<&str, (&str, Option<u64>)>::new("leases-1");
    transaction
        .open_table(definition)
        .unwrap()
        .insert("nonsense", ("id:a", None))
        .unwrap();
    transaction.commit().unwrap();
    drop(database);
    let error = LeaseFile::open(fixture.path()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("found \"nonsense\", expected a prefix"),
        "{error}"
    );
}

/// Some 65,536 changes in the time of one write are the most that anybody has to wait for.
#[test]
fn the_queue_keeps_the_latest_of_each_and_is_bounded() {
    let queue = Queue::default();
    let put = |client: &str| Change::Put {
        client: ClientKey::of_identity(client),
        ended: None,
    };
    for number in 0..100_000u32 {
        let address = std::net::Ipv4Addr::from_bits(number);
        queue.push(IpNetwork::from(std::net::IpAddr::V4(address)), put("a"));
    }
    let zero = network("0.0.0.0/32");
    queue.push(zero, put("b"));
    let changes = queue.take(false).unwrap();
    assert_eq!(changes.len(), 65_536);
    assert_eq!(changes[&zero], put("b"));

    queue.push(zero, Change::Remove);
    queue.put_back([(zero, put("b")), (network("0.0.0.1/32"), put("a"))].into());
    queue.close();
    let changes = queue.take(true);
    assert_eq!(changes, None, "nothing more can be done");
    let changes = queue.take(false).unwrap();
    assert_eq!(
        changes,
        [(zero, Change::Remove), (network("0.0.0.1/32"), put("a"))].into()
    );
    assert_eq!(queue.take(false), None);
}

#[test]
fn a_write_that_fails_is_made_up_for() {
    let fixture = Fixture::new();
    let mut writer = Writer {
        path: fixture.folder.path().join("missing/leases"),
        database: None,
        queue: Arc::default(),
    };
    let change = Change::Put {
        client: ClientKey::of_identity("a"),
        ended: None,
    };
    let changes = [(network("10.76.0.9/32"), change)].into();
    assert!(writer.write(&changes).is_err());
    fs::create_dir(fixture.folder.path().join("missing")).unwrap();
    writer.write(&changes).unwrap();
    writer.write(&changes).unwrap();
}

/// A file of twenty entries.
fn sound_file() -> &'static [u8] {
    static CONTENT: OnceLock<Vec<u8>> = OnceLock::new();
    CONTENT.get_or_init(|| {
        let fixture = Fixture::new();
        let entry = |last: u8| {
            let client = ClientKey::of_identity(&last.to_string());
            let network = network(&format!("10.76.0.{last}/32"));
            (
                network,
                Change::Put {
                    client,
                    ended: None,
                },
            )
        };
        let database = open_database(&fixture.path()).unwrap();
        table::write(&database, &(2..22).map(entry).collect()).unwrap();
        drop(database);
        fs::read(fixture.path()).unwrap()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Whatever a disk makes of the file: a server starts with what it finds or says what is wrong.
    #[test]
    fn a_damaged_file_is_an_error_or_read(
        place: prop::sample::Index,
        bytes in prop::collection::vec(any::<u8>(), 1..64),
        is_cut: bool,
    ) {
        let mut content = sound_file().to_vec();
        let place = place.index(content.len());
        if is_cut {
            content.truncate(place);
        } else {
            let end = content.len().min(place + bytes.len());
            content[place..end].copy_from_slice(&bytes[..end - place]);
        }
        let fixture = Fixture::new();
        fs::write(fixture.path(), content).unwrap();
        match LeaseFile::open(fixture.path()) {
            Ok(file) => prop_assert!(file.take_entries(DAY).len() <= 20),
            Err(LeaseFileError::Damaged { .. }) => {}
            Err(error) => prop_assert!(false, "{error:?}"),
        }
    }
}
