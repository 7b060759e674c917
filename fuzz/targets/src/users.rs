//! Any users file: it is read, and then has names only that a client can present; or it is refused with
//! one line.

use std::path::Path;

use pasque::auth::{contents, is_name};

/// Runs the target on one input.
pub fn run(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else {
        return;
    };
    match contents::users(text, Path::new("users.json")) {
        Ok(names) => {
            for name in names {
                assert!(is_name(&name) && !name.contains(':'), "{name:?}");
            }
        }
        Err(error) => crate::assert_points_into(&error, text),
    }
}
