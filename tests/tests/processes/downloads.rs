//! `psq-client get`: a file is there when it is whole, and only then.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use pasque_tests::{PATIENCE, Process, Server};
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use rustix::process::Signal;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::time::{sleep, timeout};

use crate::common::{client, files, server};

const LARGE: usize = 64 << 20;

/// The exit codes that scripts depend on.
const REFUSED: i32 = 4;
const LOST: i32 = 5;
const INCOMPLETE: i32 = 6;

/// A server with a large file of random bytes, and the bytes.
async fn server_with_large_file(folder: &Path) -> (Server, Vec<u8>) {
    let mut content = vec![0; LARGE];
    StdRng::seed_from_u64(1).fill_bytes(&mut content);
    fs::write(folder.join("large.bin"), &content).unwrap();
    // A file that has just been written may be written again: its tag would be a weak one, and of
    // no use to resume with.
    let yesterday = SystemTime::now() - Duration::from_secs(24 * 3600);
    let file = fs::File::options()
        .write(true)
        .open(folder.join("large.bin"))
        .unwrap();
    file.set_modified(yesterday).unwrap();
    (
        server(json!({ "endpoints": [files(folder)] })).await,
        content,
    )
}

fn get(server: &Server, path: &str, output: &Path) -> Process {
    client(server, ["get", path, "-o", output.to_str().unwrap()])
}

/// The names in a folder.
fn listing(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

/// Waits until a part of the download is on the disk.
async fn under_way(part: &Path) {
    let grown = async {
        while fs::metadata(part).map_or(0, |part| part.len()) < 1 << 20 {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, grown).await.expect("a part of the file");
}

#[tokio::test]
async fn fs_32_a_file_arrives_whole_with_its_digest() {
    let (source, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (server, content) = server_with_large_file(source.path()).await;
    let output = place.path().join("copy.bin");
    let mut client = get(&server, "/files/large.bin", &output);
    assert_eq!(
        client.exit().await.unwrap().code(),
        Some(0),
        "{}",
        client.output()
    );
    assert!(fs::read(&output).unwrap() == content);
    let digest: String = Sha256::digest(&content)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    assert!(client.output().contains(&digest), "{}", client.output());
    assert_eq!(listing(place.path()), ["copy.bin"]);
}

#[tokio::test]
async fn fs_32_a_file_that_is_missing_leaves_nothing_and_ends_with_its_own_code() {
    let (source, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(source.path().join("there.txt"), "there").unwrap();
    let server = server(json!({ "endpoints": [files(source.path())] })).await;
    for path in ["/files/missing", "/elsewhere/x", "/files/"] {
        let output = place.path().join("copy");
        let mut client = get(&server, path, &output);
        assert_eq!(
            client.exit().await.unwrap().code(),
            Some(REFUSED),
            "{}",
            client.output()
        );
        let said = client.output();
        assert_eq!(
            said.lines()
                .filter(|line| line.starts_with("psq-client: "))
                .count(),
            1
        );
        assert!(said.contains("404"), "{said}");
        assert_eq!(listing(place.path()), [""; 0]);
    }
    // One that is missing does not keep the others.
    let output = place.path().join("there.txt");
    let mut client = get(&server, "/files/there.txt", &output);
    assert!(client.exit().await.unwrap().success());
    assert_eq!(fs::read(output).unwrap(), b"there");
}

#[tokio::test]
async fn fs_32_an_unusable_place_is_said_before_anything_is_fetched() {
    let source = tempfile::tempdir().unwrap();
    fs::write(source.path().join("a"), "a").unwrap();
    let server = server(json!({ "endpoints": [files(source.path())] })).await;
    let nowhere = source.path().join("no such folder/copy");
    for place in [source.path(), &nowhere] {
        let mut client = get(&server, "/files/a", place);
        assert_eq!(
            client.exit().await.unwrap().code(),
            Some(1),
            "{}",
            client.output()
        );
    }
}

#[tokio::test]
async fn fs_33_what_a_killed_client_has_left_is_not_fetched_again() {
    let (source, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (server, mut content) = server_with_large_file(source.path()).await;
    let output = place.path().join("copy.bin");
    let part = place.path().join(".copy.bin.psq-part");
    let mut client = get(&server, "/files/large.bin", &output);
    under_way(&part).await;
    client.signal(Signal::KILL).unwrap();
    client.exit().await.unwrap();
    assert!(!output.exists(), "a part has the name of the whole");
    let had = fs::metadata(&part).unwrap().len();
    assert!(had < LARGE as u64, "the file was there before the signal");

    // A mark in what is there shows that it is not fetched a second time.
    let mut marked = fs::read(&part).unwrap();
    marked[0] ^= 0xff;
    content[0] ^= 0xff;
    fs::write(&part, marked).unwrap();
    let mut client = get(&server, "/files/large.bin", &output);
    assert_eq!(
        client.exit().await.unwrap().code(),
        Some(0),
        "{}",
        client.output()
    );
    assert!(fs::read(&output).unwrap() == content);
    assert_eq!(listing(place.path()), ["copy.bin"]);
}

#[tokio::test]
async fn fs_33_a_part_of_another_version_is_fetched_again() {
    let (source, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (server, _) = server_with_large_file(source.path()).await;
    let output = place.path().join("copy.bin");
    let mut client = get(&server, "/files/large.bin", &output);
    under_way(&place.path().join(".copy.bin.psq-part")).await;
    client.signal(Signal::KILL).unwrap();
    client.exit().await.unwrap();

    let mut other = vec![0; LARGE + 1];
    StdRng::seed_from_u64(2).fill_bytes(&mut other);
    fs::write(source.path().join("large.bin"), &other).unwrap();
    let mut client = get(&server, "/files/large.bin", &output);
    assert_eq!(
        client.exit().await.unwrap().code(),
        Some(0),
        "{}",
        client.output()
    );
    assert!(
        fs::read(&output).unwrap() == other,
        "a mixture of two versions"
    );
}

#[tokio::test]
async fn fs_32_a_download_ends_with_its_server_and_goes_on_with_the_next() {
    let (source, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (mut server, _) = server_with_large_file(source.path()).await;
    let output = place.path().join("copy.bin");
    let mut client = get(&server, "/files/large.bin", &output);
    under_way(&place.path().join(".copy.bin.psq-part")).await;
    server.process().signal(Signal::KILL).unwrap();
    let code = client.exit().await.unwrap().code();
    assert!(
        [Some(LOST), Some(INCOMPLETE)].contains(&code),
        "{code:?} {}",
        client.output()
    );
    assert!(!output.exists());
}

#[tokio::test]
async fn fs_32_an_interrupted_download_says_how_to_go_on() {
    let (source, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (server, content) = server_with_large_file(source.path()).await;
    let output = place.path().join("copy.bin");
    let mut client = get(&server, "/files/large.bin", &output);
    under_way(&place.path().join(".copy.bin.psq-part")).await;
    client.signal(Signal::INT).unwrap();
    assert_eq!(
        client.exit().await.unwrap().code(),
        Some(INCOMPLETE),
        "{}",
        client.output()
    );
    assert!(
        client.output().contains("run the same command again"),
        "{}",
        client.output()
    );
    assert!(!output.exists());
    let mut client = get(&server, "/files/large.bin", &output);
    assert_eq!(
        client.exit().await.unwrap().code(),
        Some(0),
        "{}",
        client.output()
    );
    assert!(fs::read(&output).unwrap() == content);
}
