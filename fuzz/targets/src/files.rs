//! Any path and any fields to a small real folder, with links followed and not: nothing that lies
//! outside of it, or is hidden in it, is ever served, and no redirect leads away.
//!
//! The first line is the path below the mount; the others are `range`, `if-none-match`, `if-match`,
//! `if-range` and `if-modified-since`. The folder is `folder/public`; beside it lies what must not be
//! served.

use std::path::Path;

use http::header::{self, HeaderName, HeaderValue};
use pasque::config::EndpointConfig;
use pasque::prelude::*;
use pasque::{Router, StartContext};
use pasque_files as _;

/// What every file has in it that must not be served.
const CANARY: &[u8] = b"CANARY";

const FIELDS: [HeaderName; 5] = [
    header::RANGE,
    header::IF_NONE_MATCH,
    header::IF_MATCH,
    header::IF_RANGE,
    header::IF_MODIFIED_SINCE,
];

struct Server {
    router: Router,
}

thread_local! {
    static SERVER: Server = Server::start();
}

impl Server {
    fn start() -> Self {
        let mount = |path: &str, follow: bool| {
            let json = format!(
                r#"{{ "path": "{path}", "type": "Files", "root": "public", "follow_symlinks": {follow} }}"#
            );
            EndpointConfig::parse(&json).expect("a mount").into_mount()
        };
        let mounts = vec![mount("plain", false), mount("linked", true)];
        let mut router = Router::new(mounts, "fuzz").expect("mounts that can be reached");
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("folder");
        crate::block_on(router.start(&StartContext::new(folder))).expect("a folder");
        Self { router }
    }

    fn ask(&self, mount: &str, path: &str, fields: &[(HeaderName, &str)]) {
        let mut request = Request::get(format!("/{mount}/{path}"));
        for (name, value) in fields {
            if let Ok(value) = HeaderValue::from_str(value) {
                request.headers.insert(name, value);
            }
        }
        crate::block_on(async {
            let response = self.router.dispatch(request).await;
            let status = response.status.as_u16();
            assert!(
                matches!(status, 200 | 206 | 301 | 304 | 400 | 404 | 412 | 414 | 416),
                "{status}"
            );
            if let Some(location) = response.headers.get(header::LOCATION) {
                let location = location.to_str().expect("a URI");
                assert!(location.starts_with(&format!("/{mount}/")), "{location}");
            }
            let content = response.body.collect(1 << 16).await.expect("small files");
            assert!(!content.windows(CANARY.len()).any(|part| part == CANARY));
            assert!(
                content.is_empty() || matches!(status, 200 | 206),
                "{status}"
            );
        });
    }
}

/// Runs the target on one input.
pub fn run(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else {
        return;
    };
    let mut lines = text.split('\n');
    let path = lines.next().unwrap_or_default();
    let fields: Vec<_> = FIELDS.into_iter().zip(lines).collect();
    SERVER.with(|server| {
        server.ask("plain", path, &fields);
        server.ask("linked", path, &fields);
    });
}
