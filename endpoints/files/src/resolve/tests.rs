use super::*;

fn status(rest: &str) -> u16 {
    RelativePath::parse(&format!("/{rest}"))
        .unwrap_err()
        .status()
        .as_u16()
}

fn parsed(rest: &str) -> PathBuf {
    RelativePath::parse(&format!("/{rest}"))
        .unwrap()
        .as_path()
        .to_owned()
}

#[test]
fn fs_05_each_segment_is_decoded_once() {
    for (rest, path) in [
        ("", ""),
        ("a", "a"),
        ("a/", "a"),
        ("a%20b/c", "a b/c"),
        ("%2561", "%61"),
        ("%252e%252e/x", "%2e%2e/x"),
        ("a;b/c=d", "a;b/c=d"),
        ("+", "+"),
    ] {
        assert_eq!(parsed(rest), Path::new(path), "{rest}");
    }
    assert_eq!(parsed("%ff").as_os_str().as_bytes(), b"\xff");
    assert_eq!(RelativePath::parse("").unwrap().as_path(), Path::new(""));
    for rest in ["%zz", "%", "a%", "a%2", "a/%2/b", "%+a", "%u002e"] {
        assert_eq!(status(rest), 400, "{rest}");
    }
}

#[test]
fn fs_06_what_is_not_one_plain_name_is_refused() {
    for rest in [
        "../etc/passwd",
        "%2e%2e/x",
        ".%2e/x",
        "a%2f..%2fb",
        "a%5c..%5cb",
        "a\\b",
        "a%00.txt",
        "./a",
        "a/.",
        "a/..",
        "a/../b",
        "%2f",
        "%2fetc/passwd",
        "a%0a",
        "a%7f",
        "..",
        ".",
        ".hidden",
        "a/%2Egit/config",
    ] {
        assert_eq!(status(rest), 404, "{rest}");
    }
    for byte in (0..0x20).chain([0x7f]) {
        assert_eq!(status(&format!("a%{byte:02x}b")), 404);
    }
}

#[test]
fn fs_07_empty_segments_are_refused() {
    for rest in ["/", "/etc/passwd", "a//b", "a//", "//"] {
        assert_eq!(status(rest), 404, "{rest}");
    }
}

#[test]
fn fs_11_a_location_starts_with_one_slash_and_is_encoded() {
    for (path, location) in [
        ("/files", "/files/"),
        ("/files/a%20b", "/files/a%20b/"),
        ("/files/%61?q=//x", "/files/a/?q=//x"),
        ("/files/a?", "/files/a/?"),
        ("//evil.example", "/evil.example/"),
        ("//evil.example/%2e%2e", "/evil.example/../"),
        ("/\\evil.example", "/%5Cevil.example/"),
        ("/%5Cevil.example", "/%5Cevil.example/"),
        ("/%2Fevil.example", "/%2Fevil.example/"),
        ("/a;b=@:c", "/a;b=@:c/"),
        ("/a%0d%0ab", "/a%0D%0Ab/"),
        ("/%3Fx%23y", "/%3Fx%23y/"),
        ("/gr\u{f6}", "/gr%C3%B6/"),
        ("", "/"),
    ] {
        assert_eq!(with_slash(path), location, "{path}");
    }
}
