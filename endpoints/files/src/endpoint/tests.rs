use std::fs;

use super::*;

async fn start_error(json: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    fs::create_dir(folder.path().join("public")).unwrap();
    let mut files: Files = serde_json::from_str(json).unwrap();
    files
        .start(&StartContext::new(folder.path()))
        .await
        .unwrap_err()
        .to_string()
}

#[tokio::test]
async fn a_root_that_cannot_be_served_stops_the_start_with_its_reason() {
    let missing = start_error(r#"{ "root": "missing" }"#).await;
    assert!(missing.contains("missing\" does not exist"), "{missing}");
    let file = start_error(r#"{ "root": "file" }"#).await;
    assert!(file.contains("file\" is not a folder"), "{file}");
    let empty = start_error(r#"{ "root": "public", "cache_control": "a\nb" }"#).await;
    assert!(
        empty.starts_with("cache_control \"a\\nb\" cannot be sent"),
        "{empty}"
    );
    for index in ["", ".", "..", "a/b", "../canary.txt", "/etc/passwd"] {
        let error = start_error(&format!(r#"{{ "root": "public", "index": "{index}" }}"#)).await;
        assert!(error.ends_with("must be the name of a file"), "{error}");
    }
}

#[test]
fn unknown_keys_are_refused_and_the_state_is_not_one() {
    for json in [
        r#"{ "root": "a", "roots": "b" }"#,
        r#"{ "root": "a", "opened": null }"#,
        "{}",
    ] {
        assert!(serde_json::from_str::<Files>(json).is_err(), "{json}");
    }
}

#[tokio::test]
async fn an_endpoint_that_was_not_started_serves_nothing() {
    let files: Files = serde_json::from_str(r#"{ "root": "/" }"#).unwrap();
    let error = files
        .handle(Request::get("/files/etc/passwd"))
        .await
        .unwrap_err();
    assert_eq!(error.status(), StatusCode::INTERNAL_SERVER_ERROR);
}
