//! [`Source`]: a configuration's text, read strictly, and the errors that point into it.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::Segment;

use super::error::ConfigError;
use super::locate::{DuplicateKey, End, Index, JsonPath, Position, Step};
use super::wording;

/// An error of a type's own `Deserialize`, with the way to the value that it is about.
pub(crate) type ValueError = serde_path_to_error::Error<serde_json::Error>;

/// The text that a configuration was read from.
#[derive(Clone)]
pub(crate) struct Source {
    file: PathBuf,
    text: String,
    index: Index,
}

impl Source {
    /// Reads JSON in which no object has a key twice.
    pub(crate) fn parse(text: &str, file: &Path) -> Result<(Self, Value), ConfigError> {
        let value = serde_json::from_str(text).map_err(|error| syntax_error(text, file, &error))?;
        let index = Index::of(text).map_err(|duplicate| duplicate_error(text, file, &duplicate))?;
        Ok((
            Self {
                file: file.into(),
                text: text.into(),
                index,
            },
            value,
        ))
    }

    /// The configuration file.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// An error about what `path` leads to.
    pub(crate) fn error(
        &self,
        path: &JsonPath,
        end: End,
        message: impl Into<String>,
    ) -> ConfigError {
        ConfigError {
            file: self.file.clone(),
            position: Some(Position::of(&self.text, self.index.locate(path, end))),
            key: path.to_string(),
            message: message.into(),
        }
    }

    /// Gives the value at `path` its type.
    pub(crate) fn read<T: DeserializeOwned>(
        &self,
        value: &Value,
        path: &JsonPath,
    ) -> Result<T, ConfigError> {
        serde_path_to_error::deserialize(value)
            .map_err(|error: ValueError| self.explain(value, path, &error, &[]))
    }

    /// The error of a type about `value`, which is at `path`. `also` are keys that `value` may have
    /// and the type knows nothing of.
    pub(crate) fn explain(
        &self,
        value: &Value,
        path: &JsonPath,
        error: &ValueError,
        also: &[&str],
    ) -> ConfigError {
        let (inner, found) = follow(value, error.path());
        let also = if inner.0.len() == 1 { also } else { &[] };
        let (message, end) = wording::reword(&error.inner().to_string(), &inner, found, also);
        self.error(&path.join(&inner), end, message)
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Source({})", self.file.display())
    }
}

/// As far as `path` leads into `value`, and what is there.
fn follow<'v>(value: &'v Value, path: &serde_path_to_error::Path) -> (JsonPath, Option<&'v Value>) {
    let mut steps = Vec::new();
    let mut found = Some(value);
    for segment in path {
        match segment {
            Segment::Seq { index } => {
                found = found.and_then(|value| value.get(index));
                steps.push(Step::Index(*index));
            }
            // A variant without content is a string: there is nothing to step into.
            Segment::Enum { .. } if !matches!(found, Some(Value::Object(_))) => break,
            Segment::Map { key } | Segment::Enum { variant: key } => {
                found = found.and_then(|value| value.get(key));
                steps.push(Step::Key(key.clone()));
            }
            Segment::Unknown => break,
        }
    }
    (JsonPath(steps), found)
}

fn syntax_error(text: &str, file: &Path, error: &serde_json::Error) -> ConfigError {
    let offset = offset_of(text, error.line(), error.column());
    let place = format!(" at line {} column {}", error.line(), error.column());
    let message = error.to_string();
    let mut message = message.strip_suffix(&place).unwrap_or(&message).to_owned();
    if error.is_eof() {
        message.push_str("; is the end of the file missing?");
    } else if matches!(text.as_bytes().get(offset), Some(b'/' | b'#')) {
        message.push_str("; JSON has no comments");
    } else if text.starts_with('\u{feff}') {
        message.push_str("; the file must not begin with a byte order mark");
    }
    ConfigError {
        position: Some(Position::of(text, offset)),
        ..ConfigError::whole(file, message)
    }
}

/// The offset of a place that serde_json gives: its columns count bytes, and 0 is before the line.
fn offset_of(text: &str, line: usize, column: usize) -> usize {
    let before: usize = text
        .split_inclusive('\n')
        .take(line.saturating_sub(1))
        .map(str::len)
        .sum();
    before + column.saturating_sub(1)
}

fn duplicate_error(text: &str, file: &Path, duplicate: &DuplicateKey) -> ConfigError {
    let first = Position::of(text, duplicate.first).line;
    ConfigError {
        file: file.into(),
        position: Some(Position::of(text, duplicate.second)),
        key: duplicate.path.to_string(),
        message: format!("duplicate key, already on line {first}"),
    }
}
