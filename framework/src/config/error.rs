//! [`ConfigError`]: one mistake, where it is and what would be right.

use std::fmt;
use std::path::{Path, PathBuf};

use super::locate::Position;

/// A mistake in a configuration, which stops the start.
///
/// `Display` is one line that needs no context:
///
/// ```text
/// server.json:6:14: threads: found 0, expected a whole number from 1 to 256
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    pub(super) file: PathBuf,
    pub(super) position: Option<Position>,
    pub(super) key: String,
    pub(super) message: String,
}

impl ConfigError {
    /// A mistake that is in no particular place of `file`.
    pub(crate) fn whole(file: &Path, message: impl Into<String>) -> Self {
        Self {
            file: file.into(),
            position: None,
            key: String::new(),
            message: message.into(),
        }
    }

    /// The configuration file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The line of the mistake, from 1; `None` when the file could not be read.
    pub fn line(&self) -> Option<usize> {
        self.position.map(|position| position.line)
    }

    /// The column of the mistake, in characters from 1; `None` when the file could not be read.
    pub fn column(&self) -> Option<usize> {
        self.position.map(|position| position.column)
    }

    /// The key that is wrong, such as `endpoints[1].routes[0]`; empty at the top of the document.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// What is wrong with it.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(Position { line, column }) = self.position {
            write!(f, ":{line}:{column}")?;
        }
        f.write_str(": ")?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        // One mistake is one line, whatever an endpoint or the file has put into its text.
        f.write_str(&self.message.replace(char::is_control, " "))
    }
}

impl std::error::Error for ConfigError {}
