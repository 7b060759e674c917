//! Files that change while they are watched.

use tempfile::TempDir;

use super::*;

fn number(text: &str, file: &Path) -> Result<u32, ConfigError> {
    let number = text.trim().parse();
    number.map_err(|_| ConfigError::whole(file, "is no number"))
}

fn file(content: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("number");
    write(&path, content);
    (folder, path)
}

fn write(path: &Path, content: &str) {
    fs::write(path, content).unwrap();
    chmod(path, 0o600);
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_change_of_any_kind_is_seen() {
    let (folder, path) = file("1");
    let watched = Watched::open(&path, Privacy::Secret, number).unwrap();
    assert_eq!(*watched.get(), 1);
    watched.refresh();
    assert_eq!(*watched.get(), 1);
    // In place and as long as before, by renaming, and through a link to another file.
    write(&path, "2");
    watched.refresh();
    assert_eq!(*watched.get(), 2);
    let other = folder.path().join("other");
    write(&other, "3");
    fs::rename(&other, &path).unwrap();
    watched.refresh();
    assert_eq!(*watched.get(), 3);
    write(&other, "4");
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(&other, &path).unwrap();
    watched.refresh();
    assert_eq!(*watched.get(), 4);
}

#[test]
fn what_is_wrong_changes_nothing_until_it_is_right() {
    let (_folder, path) = file("1");
    let watched = Watched::open(&path, Privacy::Secret, number).unwrap();
    let still = |expected: u32| {
        watched.refresh();
        assert_eq!(*watched.get(), expected);
    };
    write(&path, "none");
    still(1);
    still(1);
    write(&path, "2");
    still(2);
    fs::remove_file(&path).unwrap();
    still(2);
    fs::create_dir(&path).unwrap();
    still(2);
    fs::remove_dir(&path).unwrap();
    write(&path, "3");
    chmod(&path, 0o640);
    still(2);
    chmod(&path, 0o600);
    still(3);
}

#[test]
fn a_file_of_no_use_is_refused_at_first() {
    let (folder, path) = file("1");
    let open = |privacy| Watched::open(&path, privacy, number).map(|watched| *watched.get());
    chmod(&path, 0o604);
    assert_eq!(open(Privacy::Public).unwrap(), 1);
    let Err(FileError::Unreadable(message)) = open(Privacy::Secret) else {
        panic!("a secret that others can read is taken")
    };
    assert!(
        message.contains("mode 0604, expected 0600: run `chmod 600"),
        "{message}"
    );
    write(&path, "none");
    assert!(matches!(open(Privacy::Secret), Err(FileError::Content(_))));
    fs::write(&path, b"\xff").unwrap();
    assert!(matches!(
        open(Privacy::Secret),
        Err(FileError::Unreadable(_))
    ));
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(MAX_LEN + 1)
        .unwrap();
    assert!(matches!(
        open(Privacy::Secret),
        Err(FileError::Unreadable(_))
    ));
    let absent = folder.path().join("absent");
    let absent = Watched::open(&absent, Privacy::Public, number);
    assert!(matches!(absent, Err(FileError::Unreadable(_))));
    assert!(matches!(
        Watched::open(folder.path(), Privacy::Public, number),
        Err(FileError::Unreadable(_))
    ));
}
