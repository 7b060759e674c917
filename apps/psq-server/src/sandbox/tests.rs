use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::thread;

use pasque_files as _;
use pasque_ip as _;

use super::*;

/// A folder with what a configuration names, and a place outside.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        for folder in ["conf", "keys", "site", "state", "run", "outside", "extra"] {
            fs::create_dir(place.path(folder)).unwrap();
        }
        for file in [
            "conf/server.json",
            "conf/users.json",
            "keys/cert-1.pem",
            "site/page",
            "outside/secret",
            "extra/list",
        ] {
            fs::write(place.path(file), "text").unwrap();
        }
        symlink(place.path("keys/cert-1.pem"), place.path("conf/cert.pem")).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn config(&self, sandbox: &str) -> ServerConfig {
        let text = format!(
            r#"{{ "cert_file": "cert.pem", "key_file": "cert.pem", "control": "../run/control",
                "auth": {{ "users_file": "users.json" }}, "sandbox": {sandbox},
                "endpoints": [
                    {{ "path": "f", "type": "Files", "root": "../site" }},
                    {{ "path": "i", "type": "IpEndpoint", "ifprefix": "t",
                       "addresspools": ["10.1.0.1/24"], "lease_file": "../state/leases" }} ] }}"#
        );
        ServerConfig::parse(&text, &self.path("conf/server.json")).unwrap()
    }
}

/// Runs `look` on a thread that is confined, as the process is before it has others.
fn confined(grants: &[Grant], look: impl FnOnce() + Send) {
    thread::scope(|scope| {
        let look = move || {
            let status = restrict(grants).unwrap();
            // Whoever runs this on a kernel without Landlock has to know that nothing was tried.
            assert_ne!(
                status.ruleset,
                RulesetStatus::NotEnforced,
                "no Landlock here"
            );
            look();
        };
        scope.spawn(look).join().unwrap();
    });
}

#[test]
fn what_the_configuration_names_can_be_opened_and_nothing_else() {
    let place = Place::new();
    let grants = grants(&place.config("{}"), true);
    let is_denied = |result: io::Result<File>| {
        result.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
    };
    confined(&grants, || {
        for file in [
            "conf/server.json",
            "conf/cert.pem",
            "conf/users.json",
            "site/page",
        ] {
            File::open(place.path(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        }
        File::open("/proc/self/statm").unwrap();
        for file in ["outside/secret", "extra/list"] {
            assert!(is_denied(File::open(place.path(file))), "{file}");
        }
        for file in ["/etc/passwd", "/etc/shadow", "/root"] {
            assert!(is_denied(File::open(file)), "{file}");
        }
        // Leases are written, and a socket made and removed; nothing else is changed.
        let leases = place.path("state/leases");
        fs::write(&leases, "text").unwrap();
        let control = place.path("run/control");
        drop(UnixListener::bind(&control).unwrap());
        fs::remove_file(control).unwrap();
        for file in [
            "conf/server.json",
            "conf/new",
            "site/page",
            "site/new",
            "run/new",
        ] {
            assert!(is_denied(File::create(place.path(file))), "{file}");
        }
        assert!(fs::remove_file(place.path("site/page")).is_err());
        assert!(std::process::Command::new("/bin/true").status().is_err());
    });
}

#[test]
fn a_file_may_be_replaced_where_it_was_and_where_it_is() {
    let place = Place::new();
    let grants = grants(&place.config("{}"), true);
    fs::remove_file(place.path("conf/cert.pem")).unwrap();
    fs::write(place.path("keys/cert-2.pem"), "text").unwrap();
    symlink("../keys/cert-2.pem", place.path("conf/cert.pem")).unwrap();
    confined(&grants, || {
        drop(File::open(place.path("conf/cert.pem")).unwrap())
    });
}

#[test]
fn the_key_opens_more() {
    let place = Place::new();
    let config = place.config(r#"{ "read": ["../extra/list"], "write": ["../outside"] }"#);
    let grants = grants(&config, true);
    confined(&grants, || {
        File::open(place.path("extra/list")).unwrap();
        assert!(File::create(place.path("extra/list")).is_err());
        File::create(place.path("outside/new")).unwrap();
    });
}

#[test]
fn what_a_reload_may_name_is_what_can_be_opened() {
    let place = Place::new();
    let grants = grants(&place.config("{}"), true);
    let open = Some(grants.iter().filter_map(Grant::opened).collect());
    let sandbox = Sandbox { open };
    let reads = |path: &str| sandbox.allows(&FileUse::read(place.path(path)));
    for path in [
        "site",
        "site/new/below",
        "conf/server.json",
        "conf/cert.pem",
        "keys/other.pem",
    ] {
        assert!(reads(path), "{path}");
    }
    symlink(place.path("outside"), place.path("site/out")).unwrap();
    for path in [
        "outside",
        "outside/secret",
        "site/out",
        "site/../outside",
        "absent",
        "run/file",
    ] {
        assert!(!reads(path), "{path}");
    }
    let writes = |path: &str| sandbox.allows(&FileUse::write(place.path(path)));
    assert!(writes("state/other") && !writes("site/page") && !writes("run/file"));
    // A rule is about a folder, not about its name.
    fs::rename(place.path("site"), place.path("moved")).unwrap();
    fs::create_dir(place.path("site")).unwrap();
    assert!(reads("moved") && !reads("site"));
    assert!(Sandbox { open: None }.allows(&FileUse::write("/")));
}

#[test]
fn whoever_is_not_root_reads_all_of_etc() {
    let place = Place::new();
    let reads = |is_root| {
        let grants = grants(&place.config("{}"), is_root);
        grants.contains(&Grant::new("/etc", READ))
    };
    assert!(reads(false) && !reads(true));
}
