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
        Err(error) => {
            let told = error.to_string();
            assert!(!told.contains(char::is_control), "{told:?}");
            let lines = text.split('\n').count();
            let (line, column) = (error.line(), error.column());
            assert!(line.is_none_or(|line| (1..=lines).contains(&line)));
            let len = line.and_then(|line| text.split('\n').nth(line - 1));
            let len = len.map_or(0, |line| line.chars().count());
            assert!(column.is_none_or(|column| (1..=len + 1).contains(&column)));
        }
    }
}
