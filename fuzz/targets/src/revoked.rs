//! Any file of those who are shut out: whatever stands on a line by itself is an entry, whichever way
//! lines end, and nothing else is.

use std::path::Path;

use pasque::auth::contents;

/// Runs the target on one input.
pub fn run(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else {
        return;
    };
    let read = |text: &str| {
        let mut entries = contents::revoked(text, Path::new("revoked.txt")).expect("always read");
        entries.sort();
        entries
    };
    let entries = read(text);
    for entry in &entries {
        assert!(!entry.is_empty() && entry.trim() == entry, "{entry:?}");
        assert!(!entry.starts_with('\u{feff}'), "{entry:?}");
        assert!(
            !entry.starts_with('#') && !entry.contains('\n'),
            "{entry:?}"
        );
    }
    assert_eq!(read(&entries.join("\n")), entries);
    assert_eq!(read(&entries.join(" \r\n\n")), entries);
    // A name that is shut out stays so, whatever else is written into the file behind it.
    let mut more = read(&format!("{text}\n#\nanother"));
    more.retain(|entry| entry != "another");
    let mut before = entries;
    before.retain(|entry| entry != "another");
    assert_eq!(more, before);
}
