//! Files over libcurl with ngtcp2.

use std::fs;

use serde_json::json;

use crate::common::{files, server};
use crate::python;

#[tokio::test]
async fn fs_21_libcurl_gets_files_and_ranges_of_them_over_http_3_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("alphabet.txt");
    fs::write(&file, "abcdefghijklmnopqrstuvwxyz\n").unwrap();
    fs::write(folder.path().join(".hidden"), "x").unwrap();
    let server = server(json!({ "endpoints": [files(folder.path())] })).await;
    let arguments = [
        server.url().into(),
        server.certificate().into(),
        file.into(),
    ];
    python("files.py", arguments).await;
}
