//! A page with a picture, in Chromium.

use std::fs;
use std::path::Path;

use boring::base64;
use boring::sha::sha256;
use boring::x509::X509;
use pasque_tests::{Process, Server};
use serde_json::{Value, json};

use crate::common::{files, server};

/// Tells, once everything is there, which protocol has brought what.
const PAGE: &str = r#"<!doctype html>
<title>Over HTTP/3</title>
<img src="picture.png">
<pre id="report"></pre>
<script>
  addEventListener("load", () => {
    const entries = performance.getEntries().filter(entry => entry.nextHopProtocol !== undefined);
    const loaded = entries.map(entry => [new URL(entry.name).pathname, entry.nextHopProtocol]);
    const width = document.querySelector("img").naturalWidth;
    const report = document.querySelector("pre");
    report.textContent = JSON.stringify({ loaded: Object.fromEntries(loaded), width });
  });
</script>
"#;

/// A picture of two pixels, the second of which is white.
const PICTURE: [u8; 70] = [
    0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0x00, 0x00, 0x00, 0x0d, 0x49, 0x48, 0x44, 0x52,
    0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x01, 0x08, 0x02, 0x00, 0x00, 0x00, 0x7b, 0x40, 0xe8,
    0xdd, 0x00, 0x00, 0x00, 0x0d, 0x49, 0x44, 0x41, 0x54, 0x78, 0x9c, 0x63, 0x50, 0x68, 0xf8, 0x0f,
    0x04, 0x00, 0x0d, 0x3d, 0x04, 0x9d, 0x29, 0x10, 0xc2, 0xa0, 0x00, 0x00, 0x00, 0x00, 0x49, 0x45,
    0x4e, 0x44, 0xae, 0x42, 0x60, 0x82,
];

#[tokio::test]
async fn fs_01_chromium_shows_a_page_and_its_picture_over_h3() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("index.html"), PAGE).unwrap();
    fs::write(folder.path().join("picture.png"), PICTURE).unwrap();
    let server = server(json!({ "endpoints": [files(folder.path())] })).await;
    let page = render(&server, "/files/").await;
    let report = page
        .split_once("<pre id=\"report\">")
        .and_then(|(_, rest)| rest.split_once("</pre>"))
        .unwrap_or_else(|| panic!("no report in the page:\n{page}"));
    let report: Value = serde_json::from_str(report.0).unwrap_or_else(|_| panic!("{page}"));
    let expected = json!({
        "loaded": { "/files/": "h3", "/files/picture.png": "h3" },
        "width": 2,
    });
    assert_eq!(report, expected);
}

/// The page at `path`, as it is once its scripts have run.
async fn render(server: &Server, path: &str) -> String {
    let address = server.address();
    let profile = tempfile::tempdir().unwrap();
    let arguments = [
        "--headless".into(),
        // A test may run as root, and it shows no page of a stranger.
        "--no-sandbox".into(),
        "--disable-gpu".into(),
        "--disable-dev-shm-usage".into(),
        // Nothing but the page: no updates, no accounts, and no host but this one.
        "--no-first-run".into(),
        "--disable-background-networking".into(),
        "--disable-component-update".into(),
        "--disable-sync".into(),
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1".into(),
        format!("--user-data-dir={}", profile.path().display()),
        format!("--origin-to-force-quic-on={address}"),
        format!(
            "--ignore-certificate-errors-spki-list={}",
            key_digest(&server.certificate())
        ),
        // Time passes once all that was asked for is there.
        "--virtual-time-budget=10000".into(),
        "--dump-dom".into(),
        format!("https://{address}{path}"),
    ];
    let mut browser = Process::start(Path::new("chromium"), arguments)
        .expect("chromium: run tests/tools.sh --browser");
    let status = browser.exit().await.unwrap();
    assert!(status.success(), "{status}\n{}", browser.output());
    browser.output()
}

/// The digest of a certificate's key, as Chromium takes it.
fn key_digest(certificate: &Path) -> String {
    let certificate = X509::from_pem(&fs::read(certificate).unwrap()).unwrap();
    let key = certificate
        .public_key()
        .unwrap()
        .public_key_to_der()
        .unwrap();
    base64::encode_block(&sha256(&key))
}
