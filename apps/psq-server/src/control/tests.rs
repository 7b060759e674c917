use std::os::unix::net::UnixListener as Plain;

use super::*;

fn order(path: &Path) -> JoinHandle<io::Result<Result<String, String>>> {
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || order_reload(&path))
}

#[tokio::test]
async fn an_order_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control");
    let mut control = Control::bind(&path).unwrap();
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    for outcome in [Ok("it is done".to_owned()), Err("f:1:2: no".to_owned())] {
        let asked = order(&path);
        control.next().await.answer(outcome.clone());
        assert_eq!(asked.await.unwrap().unwrap(), outcome);
    }
    drop(control);
    assert!(!path.exists());
}

#[tokio::test]
async fn who_says_nothing_or_nonsense_keeps_nobody_from_being_heard() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control");
    let mut control = Control::bind(&path).unwrap();
    drop(Caller::connect(&path).unwrap());
    for nonsense in [&[b'x'; 100][..], b"reload now\n", b"\xff\n"] {
        let mut caller = Caller::connect(&path).unwrap();
        caller.write_all(nonsense).unwrap();
        // Kept open while the next one is heard.
        std::mem::forget(caller);
    }
    let asked = order(&path);
    control.next().await.answer(Ok("heard".into()));
    assert_eq!(asked.await.unwrap().unwrap(), Ok("heard".into()));
}

#[tokio::test]
async fn a_socket_in_use_is_not_taken_and_one_left_behind_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control");
    let first = Control::bind(&path).unwrap();
    let error = Control::bind(&path).unwrap_err();
    assert!(error.to_string().contains("another server"), "{error}");
    assert!(path.exists());
    drop(first);
    // What a server leaves that is killed.
    drop(Plain::bind(&path).unwrap());
    assert!(order_reload(&path).is_err());
    let second = Control::bind(&path).unwrap();
    // Not its own any more: it stays when the server ends.
    fs::remove_file(&path).unwrap();
    fs::write(&path, "a file").unwrap();
    drop(second);
    assert!(Control::bind(&path).is_err());
    assert_eq!(fs::read(&path).unwrap(), b"a file");
}
