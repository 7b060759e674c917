//! Any file of client keys: it is read, and then has whole digests and names that are names; or it is
//! refused with one line. Colons in a digest change nothing.

use std::path::Path;

use pasque::auth::{contents, is_name};

/// Runs the target on one input.
pub fn run(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else {
        return;
    };
    match contents::roster(text, Path::new("keys.json")) {
        Ok(members) => {
            for (digest, name) in members {
                assert_eq!(digest.len(), 64, "{digest}");
                assert!(is_name(&name), "{name:?}");
                let spelled: Vec<&str> = (0..32).map(|at| &digest[2 * at..2 * at + 2]).collect();
                let alone = format!(r#"{{ "{}": {{ "name": "n" }} }}"#, spelled.join(":"));
                let read = contents::roster(
                    &alone.to_uppercase().replace("NAME", "name"),
                    Path::new("one.json"),
                );
                assert_eq!(read.expect("a digest"), [(digest, "N".to_owned())]);
            }
        }
        Err(error) => crate::assert_points_into(&error, text),
    }
}
