//! Where things are in a JSON text: [`Index`] finds the line and column of every key and value.
//!
//! serde reports positions only while it reads text, and a configuration's endpoints are read from
//! values. So the text is walked once more, after it has parsed, and every path is written down.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

/// A way from the top of a JSON document to one of its values, like `endpoints[1].routes[0]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct JsonPath(pub(crate) Vec<Step>);

/// One step of a [`JsonPath`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    Key(String),
    Index(usize),
}

impl JsonPath {
    pub(crate) fn key(&self, key: &str) -> Self {
        self.step(Step::Key(key.into()))
    }

    pub(crate) fn index(&self, index: usize) -> Self {
        self.step(Step::Index(index))
    }

    pub(crate) fn step(&self, step: Step) -> Self {
        let mut path = self.clone();
        path.0.push(step);
        path
    }

    /// This path, continued by all of `rest`.
    pub(crate) fn join(&self, rest: &Self) -> Self {
        let mut path = self.clone();
        path.0.extend(rest.0.iter().cloned());
        path
    }

    fn parent(&self) -> Option<Self> {
        let (_, steps) = self.0.split_last()?;
        Some(Self(steps.to_vec()))
    }
}

impl fmt::Display for JsonPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(key) if !is_word(key) => write!(f, "[{key:?}]")?,
                Step::Key(key) if position == 0 => write!(f, "{key}")?,
                Step::Key(key) => write!(f, ".{key}")?,
            }
        }
        Ok(())
    }
}

fn is_word(key: &str) -> bool {
    let mut bytes = key.bytes();
    !key.is_empty() && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
}

/// A place in a text. Both count from 1; the column counts characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

impl Position {
    /// The position of the byte at `offset`, or of the end of the text.
    pub(crate) fn of(text: &str, offset: usize) -> Self {
        let text = text.as_bytes();
        let before = text.get(..offset).unwrap_or(text);
        let mut lines = before.rsplit(|&byte| byte == b'\n');
        let line = lines.next().unwrap_or_default();
        // Every byte but a continuation byte begins a character.
        let is_start = |byte: &&u8| **byte & 0xc0 != 0x80;
        Self {
            line: lines.count() + 1,
            column: line.iter().filter(is_start).count() + 1,
        }
    }
}

/// Which end of an object's entry an error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Key,
    Value,
}

/// Offsets of every key and value of a JSON document, in bytes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Index(BTreeMap<JsonPath, Place>);

#[derive(Clone, Copy, Debug)]
struct Place {
    /// The same as `value` where there is no key.
    key: usize,
    value: usize,
}

/// A key that one object has twice.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct DuplicateKey {
    pub(crate) path: JsonPath,
    pub(crate) first: usize,
    pub(crate) second: usize,
}

impl Index {
    /// Walks a text that serde_json has accepted, and nothing else: the grammar is not checked
    /// again, and the depth of the recursion is bounded only by serde_json's own limit.
    pub(crate) fn of(text: &str) -> Result<Self, DuplicateKey> {
        let mut scanner = Scanner {
            text,
            offset: 0,
            index: Self::default(),
        };
        scanner.value(JsonPath::default(), None)?;
        Ok(scanner.index)
    }

    /// The offset of what `path` leads to, or of the closest thing around it: a missing key is
    /// reported at the object that lacks it.
    pub(crate) fn locate(&self, path: &JsonPath, end: End) -> usize {
        match self.0.get(path) {
            Some(place) if end == End::Key => place.key,
            Some(place) => place.value,
            None => path
                .parent()
                .map_or(0, |parent| self.locate(&parent, End::Value)),
        }
    }
}

struct Scanner<'a> {
    text: &'a str,
    offset: usize,
    index: Index,
}

impl Scanner<'_> {
    /// Reads one value, which a key may name.
    fn value(&mut self, path: JsonPath, key: Option<usize>) -> Result<(), DuplicateKey> {
        self.skip_space();
        let place = Place {
            key: key.unwrap_or(self.offset),
            value: self.offset,
        };
        match self.index.0.entry(path.clone()) {
            Entry::Vacant(entry) => entry.insert(place),
            Entry::Occupied(entry) => {
                return Err(DuplicateKey {
                    path,
                    first: entry.get().key,
                    second: place.key,
                });
            }
        };
        match self.peek() {
            Some(b'{') => self.object(&path),
            Some(b'[') => self.array(&path),
            Some(b'"') => {
                self.string();
                Ok(())
            }
            _ => {
                self.skip_while(|byte| !b",]} \t\r\n".contains(&byte));
                Ok(())
            }
        }
    }

    fn object(&mut self, path: &JsonPath) -> Result<(), DuplicateKey> {
        self.offset += 1;
        loop {
            self.skip_while(|byte| byte == b',' || is_space(byte));
            if self.peek() != Some(b'"') {
                self.offset += 1;
                return Ok(());
            }
            let start = self.offset;
            let key = self.string();
            self.skip_while(|byte| byte == b':' || is_space(byte));
            self.value(path.key(&key), Some(start))?;
        }
    }

    fn array(&mut self, path: &JsonPath) -> Result<(), DuplicateKey> {
        self.offset += 1;
        for index in 0.. {
            self.skip_while(|byte| byte == b',' || is_space(byte));
            if matches!(self.peek(), None | Some(b']')) {
                break;
            }
            self.value(path.index(index), None)?;
        }
        self.offset += 1;
        Ok(())
    }

    /// Reads a string with its quotes and decodes it, so that escapes do not hide a duplicate.
    fn string(&mut self) -> String {
        let start = self.offset;
        self.offset += 1;
        while let Some(byte) = self.peek() {
            self.offset += if byte == b'\\' { 2 } else { 1 };
            if byte == b'"' {
                break;
            }
        }
        let literal = self.text.get(start..self.offset).unwrap_or_default();
        serde_json::from_str(literal).unwrap_or_default()
    }

    fn skip_space(&mut self) {
        self.skip_while(is_space);
    }

    fn skip_while(&mut self, skips: impl Fn(u8) -> bool) {
        while self.peek().is_some_and(&skips) {
            self.offset += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.offset).copied()
    }
}

fn is_space(byte: u8) -> bool {
    b" \t\r\n".contains(&byte)
}
