use tempfile::TempDir;

use super::*;
use crate::client::host::fake::uplink;

const SERVER: &str = "192.0.2.1";

/// A ledger that every test begins with.
fn ledger(folder: &TempDir) -> Ledger {
    Ledger::at(folder.path().join(FOLDER), 7).unwrap()
}

fn files(folder: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(folder.path().join(FOLDER)).unwrap();
    let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<_> = entries.map(name).filter(|name| name != LOCK).collect();
    names.sort();
    names
}

#[tokio::test]
async fn ip_72_what_a_killed_client_noted_is_found_by_the_next() {
    let folder = TempDir::new().unwrap();
    let killed = ledger(&folder);
    let mut entry = killed.lock().await.unwrap().begin("psq0").unwrap();
    entry.note(&uplink(SERVER)).unwrap();
    assert_eq!(files(&folder), ["7-psq0"]);
    let abandoned = |locked: &Locked<'_>| locked.abandoned().unwrap();

    // While it lives it is nobody else's.
    let next = ledger(&folder);
    let locked = next.lock().await.unwrap();
    assert!(abandoned(&locked).is_empty());
    assert_eq!(locked.needed_by_others(None).unwrap(), [uplink(SERVER)]);
    assert!(locked.begin("psq0").is_err());

    drop(entry);
    assert_eq!(locked.needed_by_others(None).unwrap(), []);
    let mut found = abandoned(&locked);
    assert_eq!(found[0].routes(), [uplink(SERVER)]);
    // It belongs to the finder until it is finished.
    assert!(abandoned(&locked).is_empty());
    locked.finish(found.remove(0)).unwrap();
    assert_eq!(files(&folder), [""; 0]);
}

#[tokio::test]
async fn a_client_does_not_need_its_own_routes_besides() {
    let folder = TempDir::new().unwrap();
    let ledger = ledger(&folder);
    let locked = ledger.lock().await.unwrap();
    let mut own = locked.begin("psq0").unwrap();
    let mut other = locked.begin("psq1").unwrap();
    own.note(&uplink(SERVER)).unwrap();
    other.note(&uplink("192.0.2.2")).unwrap();
    let needed = locked.needed_by_others(Some(&own)).unwrap();
    assert_eq!(needed, [uplink("192.0.2.2")]);
}

#[tokio::test]
async fn other_network_namespaces_are_left_alone() {
    let folder = TempDir::new().unwrap();
    let here = ledger(&folder);
    let there = Ledger::at(folder.path().join(FOLDER), 77).unwrap();
    let mut entry = there.lock().await.unwrap().begin("psq0").unwrap();
    entry.note(&uplink(SERVER)).unwrap();
    {
        let locked = here.lock().await.unwrap();
        assert_eq!(locked.needed_by_others(None).unwrap(), []);
        // The same name is another interface here.
        locked.begin("psq0").unwrap();
    }
    drop(entry);
    let locked = here.lock().await.unwrap();
    let found: Vec<_> = locked.abandoned().unwrap();
    assert_eq!(found[0].routes(), []);
    assert_eq!(files(&folder), ["7-psq0", "77-psq0"]);
}

#[tokio::test]
async fn a_route_is_noted_once_and_half_a_line_is_none() {
    let folder = TempDir::new().unwrap();
    let ledger = ledger(&folder);
    let locked = ledger.lock().await.unwrap();
    let mut entry = locked.begin("psq0").unwrap();
    entry.note(&uplink(SERVER)).unwrap();
    entry.note(&uplink(SERVER)).unwrap();
    let path = folder.path().join(FOLDER).join("7-psq0");
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), 1);

    fs::write(&path, format!("{text}{}", &text[..text.len() / 2])).unwrap();
    drop(entry);
    assert_eq!(locked.abandoned().unwrap()[0].routes(), [uplink(SERVER)]);
}

#[tokio::test]
async fn an_interface_takes_over_what_was_left_under_its_name() {
    let folder = TempDir::new().unwrap();
    let ledger = ledger(&folder);
    let locked = ledger.lock().await.unwrap();
    let mut entry = locked.begin("psq0").unwrap();
    entry.note(&uplink(SERVER)).unwrap();
    drop(entry);
    assert_eq!(locked.begin("psq0").unwrap().routes(), [uplink(SERVER)]);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_the_ledger_does_not_wait_for_ever() {
    let folder = TempDir::new().unwrap();
    let ledger = ledger(&folder);
    let held = ledger.lock().await.unwrap();
    let error = ledger.lock().await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert!(
        error.to_string().contains("held by another client"),
        "{error}"
    );
    drop(held);
    ledger.lock().await.unwrap();
}

#[test]
fn a_folder_that_others_can_write_is_not_believed() {
    use std::os::unix::fs::PermissionsExt;

    let folder = TempDir::new().unwrap();
    let open = |name| Ledger::at(folder.path().join(name), 7);
    assert!(open("own").is_ok());
    let made = fs::metadata(folder.path().join("own")).unwrap();
    assert_eq!(made.permissions().mode() & 0o777, 0o700);

    let loose = folder.path().join("loose");
    fs::create_dir(&loose).unwrap();
    fs::set_permissions(&loose, fs::Permissions::from_mode(0o777)).unwrap();
    let error = open("loose").unwrap_err().to_string();
    assert!(error.contains("loose: others can write there"), "{error}");
    std::os::unix::fs::symlink(folder.path().join("own"), folder.path().join("link")).unwrap();
    assert!(open("link").is_err());
    assert!(open("missing/psq").is_err());
}
