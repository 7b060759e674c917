use tempfile::TempDir;

use super::*;

const URL: &str = "https://p.example/a";

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn target(&self) -> PathBuf {
        self.0.path().join("a")
    }

    fn open(&self, url: &str) -> io::Result<Partial> {
        Partial::open(&self.target(), url)
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
        let mut names: Vec<_> = entries.map(|entry| name(entry.unwrap())).collect();
        names.sort();
        names
    }

    /// Leaves `content` of a file of ten bytes.
    fn leave(&self, tag: Option<&str>, content: &[u8]) {
        let mut partial = self.open(URL).unwrap();
        partial.restart(10, tag.map(str::to_owned)).unwrap();
        partial.write_all(content).unwrap();
    }
}

#[test]
fn fs_33_a_part_with_a_strong_tag_is_kept() {
    let folder = Folder::new();
    folder.leave(Some("\"v1\""), b"0123");
    assert_eq!(folder.names(), [".a.psq-part", ".a.psq-part.json"]);

    let mut partial = folder.open(URL).unwrap();
    let kept = Kept {
        tag: "\"v1\"".into(),
        offset: 4,
        len: 10,
    };
    assert_eq!(partial.kept(), Some(kept));
    let mut hash = Sha256::new();
    partial.resume(4, &mut hash).unwrap();
    assert_eq!(hash.finalize(), Sha256::digest(b"0123"));
    partial.write_all(b"456789").unwrap();
    partial.commit().unwrap();
    assert_eq!(folder.names(), ["a"]);
    assert_eq!(fs::read(folder.target()).unwrap(), b"0123456789");
}

#[test]
fn fs_33_a_part_that_cannot_be_resumed_is_not_kept() {
    let folder = Folder::new();
    folder.leave(None, b"0123");
    assert_eq!(folder.names(), [""; 0]);
    folder.leave(Some("\"v1\""), b"0123");
    folder.open(URL).unwrap().discard();
    assert_eq!(folder.names(), [""; 0]);
}

#[test]
fn fs_33_a_part_of_something_else_is_not_used() {
    let folder = Folder::new();
    folder.leave(Some("\"v1\""), b"0123");
    assert_eq!(folder.open("https://p.example/b").unwrap().kept(), None);
    folder.leave(Some("\"v1\""), b"0123");
    fs::write(folder.0.path().join(".a.psq-part.json"), "{").unwrap();
    assert_eq!(folder.open(URL).unwrap().kept(), None);
    assert_eq!(folder.names(), [""; 0]);
}

#[test]
fn fs_33_there_is_always_something_to_ask_for() {
    let folder = Folder::new();
    // Ended between the last byte and the renaming.
    folder.leave(Some("\"v1\""), b"0123456789");
    let partial = folder.open(URL).unwrap();
    assert_eq!(partial.kept().unwrap().offset, 9);
    drop(partial);
    folder.leave(Some("\"v1\""), b"");
    assert_eq!(folder.open(URL).unwrap().kept(), None);
}

#[test]
fn fs_33_a_new_version_replaces_the_note_and_the_content() {
    let folder = Folder::new();
    folder.leave(Some("\"v1\""), b"0123");
    folder.leave(Some("\"v2\""), b"x");
    let kept = folder.open(URL).unwrap().kept().unwrap();
    assert_eq!(
        kept,
        Kept {
            tag: "\"v2\"".into(),
            offset: 1,
            len: 10
        }
    );
}

#[test]
fn fs_32_one_download_at_a_time() {
    let folder = Folder::new();
    let first = folder.open(URL).unwrap();
    let error = folder.open(URL).unwrap_err();
    assert!(error.to_string().contains("another process"), "{error}");
    drop(first);
    folder.open(URL).unwrap();
}

#[test]
fn fs_32_only_regular_files_are_replaced() {
    let folder = Folder::new();
    fs::create_dir(folder.target()).unwrap();
    assert!(folder.open(URL).is_err());
    assert!(Partial::open(Path::new("/dev/null"), URL).is_err());
    assert!(Partial::open(Path::new("/"), URL).is_err());
    assert!(Partial::open(&folder.0.path().join("none/a"), URL).is_err());
}

#[test]
fn fs_32_a_link_in_place_of_the_part_is_not_followed() {
    let folder = Folder::new();
    let victim = folder.0.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    std::os::unix::fs::symlink(&victim, folder.0.path().join(".a.psq-part")).unwrap();
    assert!(folder.open(URL).is_err());
    assert_eq!(fs::read(&victim).unwrap(), b"precious");
}
