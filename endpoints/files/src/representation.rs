//! [`Representation`]: what is said about a file beside its bytes (RFC 9110 §8).

use std::fmt;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use httpdate::HttpDate;

/// A file younger than this may change again without another time of change.
const SETTLED_AGE: Duration = Duration::from_secs(2);

/// The year 10000, which no HTTP date can say, in seconds since 1970.
const END_OF_DATES: u64 = 253_402_300_800;

/// A file at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Representation {
    /// How many bytes are announced.
    pub(crate) len: u64,
    pub(crate) content_type: String,
    pub(crate) validators: Validators,
    /// The moment. `None` when the clock shows what no HTTP date can say.
    pub(crate) date: Option<HttpDate>,
}

impl Representation {
    /// Describes the file at `path` as `metadata` shows it at `now`.
    pub(crate) fn new(path: &Path, metadata: &Metadata, now: SystemTime) -> io::Result<Self> {
        Ok(Self {
            len: metadata.len(),
            content_type: content_type(path),
            validators: Validators::new(metadata.len(), metadata.modified()?, metadata.ino(), now),
            date: http_date(now),
        })
    }
}

/// What a client may compare with what it holds.
#[derive(Clone, Debug)]
pub(crate) struct Validators {
    pub(crate) etag: EntityTag,
    pub(crate) last_modified: Option<HttpDate>,
}

impl Validators {
    pub(crate) fn new(len: u64, modified: SystemTime, inode: u64, now: SystemTime) -> Self {
        let nanos = match modified.duration_since(UNIX_EPOCH) {
            Ok(after) => after.as_nanos().cast_signed(),
            Err(before) => -before.duration().as_nanos().cast_signed(),
        };
        // A time of change that is still to come has no age: such a file never settles.
        let is_settled = now
            .duration_since(modified)
            .is_ok_and(|age| age >= SETTLED_AGE);
        Self {
            etag: EntityTag {
                opaque: format!("{len:x}-{nanos:x}-{inode:x}"),
                is_weak: !is_settled,
            },
            // Never later than `date` (RFC 9110 §8.8.2.1).
            last_modified: http_date(modified.min(now)),
        }
    }
}

/// An entity tag (RFC 9110 §8.8.3). `opaque` is without the quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EntityTag {
    pub(crate) opaque: String,
    pub(crate) is_weak: bool,
}

impl fmt::Display for EntityTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}\"{}\"",
            if self.is_weak { "W/" } else { "" },
            self.opaque
        )
    }
}

fn http_date(time: SystemTime) -> Option<HttpDate> {
    // httpdate panics on what it cannot say.
    let is_sayable = time
        .duration_since(UNIX_EPOCH)
        .is_ok_and(|since| since.as_secs() < END_OF_DATES);
    is_sayable.then(|| HttpDate::from(time))
}

fn content_type(path: &Path) -> String {
    match mime_guess::from_path(path).first_raw() {
        Some(text) if text.starts_with("text/") => format!("{text}; charset=utf-8"),
        Some(other) => other.to_owned(),
        None => "application/octet-stream".to_owned(),
    }
}

#[cfg(test)]
mod tests;
