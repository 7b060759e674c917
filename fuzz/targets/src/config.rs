//! Any configuration, with every built-in type linked: it is read, or refused with one line that
//! points into the text.

use std::path::Path;

use pasque::config::ServerConfig;
use pasque_files as _;
use pasque_ip as _;
use pasque_udp as _;

/// Runs the target on one input.
pub fn run(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else {
        return;
    };
    match ServerConfig::parse(text, Path::new("fuzz.json")) {
        Ok(config) => assert!(!config.endpoints.is_empty()),
        Err(error) => crate::assert_points_into(&error, text),
    }
}
