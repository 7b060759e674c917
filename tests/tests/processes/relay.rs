//! Nobody is served who was not let in, and nothing is opened for whoever asks.

use pasque_tests::Figures;
use serde_json::{Value, json};

use crate::common::{files, udp};
use crate::start::{complaint, run, write_config};

/// Addresses that others may reach, in every form.
const REACHABLE: [&str; 8] = [
    "0.0.0.0:0",
    "[::]:0",
    "[::ffff:0.0.0.0]:0",
    "192.0.2.1:443",
    "10.0.0.1:443",
    "[2001:db8::1]:443",
    "[fe80::1]:443",
    "[::ffff:192.0.2.1]:443",
];

/// Endpoints that open tunnels, each with some of its keys.
fn tunnel_endpoints() -> [Value; 4] {
    [
        udp(&[]),
        udp(&["10.0.0.0/8:53"]),
        json!({ "path": "ip", "type": "IpEndpoint", "ifprefix": "relay",
            "addresspools": ["10.79.0.1/24"], "routes": ["0.0.0.0/0"] }),
        json!({ "path": "ip", "type": "IpEndpoint", "ifprefix": "relay", "interface": "shared",
            "addresspools": ["fd79::1/64"], "deny": ["*:25"] }),
    ]
}

#[test]
fn relay_udp_32_no_configuration_without_authentication_serves_others() {
    let folder = tempfile::tempdir().unwrap();
    let (mut cases, mut refused) = (0, 0);
    for endpoint in tunnel_endpoints() {
        for anonymous in [None, Some(false)] {
            let mut endpoint = endpoint.clone();
            if let Some(anonymous) = anonymous {
                endpoint["anonymous"] = json!(anonymous);
            }
            // What needs no authentication opens nothing to what does.
            let config = write_config(folder.path(), &json!([files(folder.path()), endpoint]));
            for address in REACHABLE {
                cases += 1;
                let output = run(["-c", &config, "-a", address]);
                let is_refused = output.status.code() == Some(2)
                    && complaint(&output).contains("would be an open relay");
                refused += usize::from(is_refused);
                if !is_refused {
                    println!("{address}, {endpoint}: {output:?}");
                }
            }
        }
    }
    // Nothing was made by a start that was refused.
    assert!(!folder.path().join("key.pem").exists());
    let mut figures = Figures::default();
    figures.exactly("configurations that are refused", refused, cases);
    figures.check();
}
