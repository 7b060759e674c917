//! Folders, and names that need decoding.

use super::{Fixture, content, header};

#[tokio::test]
async fn fs_05_a_name_is_decoded_once() {
    let fixture = Fixture::new().await;
    for (name, path) in [
        ("a b", "/files/a%20b"),
        ("%61", "/files/%2561"),
        ("a;b=c", "/files/a;b=c"),
        ("a+b", "/files/a+b"),
        ("größe", "/files/gr%C3%B6%c3%9fe"),
        ("q?x", "/files/q%3Fx?y=/../z"),
    ] {
        fixture.write(name, name);
        assert_eq!(
            content(fixture.get(path).await).await,
            name.as_bytes(),
            "{path}"
        );
    }
    for path in [
        "/files/%zz",
        "/files/%",
        "/files/a%2",
        "/files/%+1/b",
        "/files/%u0041",
    ] {
        assert_eq!(fixture.status(path).await, 400, "{path}");
    }
}

#[tokio::test]
async fn fs_10_a_folder_is_its_index() {
    let fixture = Fixture::new().await;
    fixture.write("index.html", "home");
    fixture.write("a b/index.html", "inner");
    fixture.write("bare/file", "x");
    fixture.write("odd/index.html/file", "x");

    for (path, location) in [
        ("/files", "/files/"),
        ("/files?x=/&y", "/files/?x=/&y"),
        ("/files/a%20b", "/files/a%20b/"),
        ("/files/%61%20b?q=1?2", "/files/a%20b/?q=1?2"),
    ] {
        let response = fixture.get(path).await;
        assert_eq!(response.status, 301, "{path}");
        assert_eq!(header(&response, "location"), location);
        assert_eq!(header(&response, "content-length"), "0");
    }
    for (path, expected) in [
        ("/files/", "home"),
        ("/files/a%20b/", "inner"),
        ("/files/?x", "home"),
    ] {
        let response = fixture.get(path).await;
        assert_eq!(
            header(&response, "content-type"),
            "text/html; charset=utf-8"
        );
        assert_eq!(content(response).await, expected.as_bytes());
    }
    for path in [
        "/files/bare",
        "/files/bare/",
        "/files/odd",
        "/files/odd/",
        "/files/index.html/",
    ] {
        assert_eq!(fixture.status(path).await, 404, "{path}");
    }
}

#[tokio::test]
async fn fs_10_the_index_can_be_another_or_none() {
    let other = Fixture::with(r#", "index": "start.htm""#).await;
    other.write("index.html", "no");
    other.write("start.htm", "yes");
    assert_eq!(content(other.get("/files/").await).await, b"yes");

    let none = Fixture::with(r#", "index": null"#).await;
    none.write("a/index.html", "index");
    for path in ["/files", "/files/", "/files/a", "/files/a/"] {
        assert_eq!(none.status(path).await, 404, "{path}");
    }
    assert_eq!(none.status("/files/a/index.html").await, 200);
}

#[tokio::test]
async fn fs_11_no_redirect_leaves_the_site() {
    let fixture = Fixture::new().await;
    fixture.write("evil.example/index.html", "");
    fixture.write("x/index.html", "");
    for path in [
        "//evil.example/%2e%2e",
        "/files//evil.example",
        "/files//evil.example/%2e%2e",
        "//files/x",
        "/\\files/x",
        "/files/\\evil.example",
        "/files/%5cevil.example",
        "/files/%2fevil.example",
        "/files/evil.example",
    ] {
        let response = fixture.get(path).await;
        let location = header(&response, "location");
        assert_eq!(response.status == 301, !location.is_empty());
        assert!(
            location.is_empty() || location == "/files/evil.example/",
            "{path}: {location}"
        );
    }
}

#[tokio::test]
async fn ps_05_answers_about_files_carry_no_proxy_status() {
    let fixture = Fixture::new().await;
    for path in ["/files/missing", "/files/%zz", "/files/.hidden"] {
        assert!(!fixture.get(path).await.headers.contains_key("proxy-status"));
    }
}
