//! How single values are read: what each key takes, and what the error says that it expected.

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use http::uri::Authority;
use serde::Deserialize;
use serde::de::value::StringDeserializer;
use serde::de::{Deserializer, Error, IntoDeserializer, Unexpected, Visitor};

use crate::auth::Permission;

/// More workers than this cannot be told apart: one byte of a connection ID names the worker.
const MAX_THREADS: u64 = 256;

/// A whole number from `MIN` to `MAX`.
pub(super) fn within<'de, const MIN: u64, const MAX: u64, T, D>(from: D) -> Result<T, D::Error>
where
    T: TryFrom<u64>,
    D: Deserializer<'de>,
{
    let number = from.deserialize_u64(Whole(MIN..=MAX))?;
    T::try_from(number).map_err(|_| Error::custom("too large for this machine"))
}

/// A time of `MIN` to `MAX` milliseconds.
pub(super) fn milliseconds<'de, const MIN: u64, const MAX: u64, D>(
    from: D,
) -> Result<Duration, D::Error>
where
    D: Deserializer<'de>,
{
    within::<MIN, MAX, u64, D>(from).map(Duration::from_millis)
}

/// A number of worker threads.
pub(super) fn threads<'de, D>(from: D) -> Result<Option<NonZeroUsize>, D::Error>
where
    D: Deserializer<'de>,
{
    within::<1, MAX_THREADS, usize, D>(from).map(NonZeroUsize::new)
}

/// An IP address with a port.
pub(super) fn address<'de, D>(from: D) -> Result<Option<SocketAddr>, D::Error>
where
    D: Deserializer<'de>,
{
    let expected = r#"an IP address with a port, such as "[::]:443" or "127.0.0.1:4433""#;
    from.deserialize_str(Text {
        expected,
        parse: |text| text.parse().ok(),
    })
    .map(Some)
}

/// The path of a file.
pub(super) fn file<'de, D>(from: D) -> Result<PathBuf, D::Error>
where
    D: Deserializer<'de>,
{
    let parse = |text: &str| (!text.is_empty() && !text.contains('\0')).then(|| text.into());
    from.deserialize_str(Text {
        expected: "the path of a file",
        parse,
    })
}

/// The path of a file that may be left out.
pub(super) fn some_file<'de, D>(from: D) -> Result<Option<PathBuf>, D::Error>
where
    D: Deserializer<'de>,
{
    file(from).map(Some)
}

/// One path in a list of them.
#[derive(Debug, Deserialize)]
pub(super) struct File(#[serde(deserialize_with = "file")] pub(super) PathBuf);

/// Any value of a key that may be left out, `null` among them.
pub(super) fn some_value<'de, D>(from: D) -> Result<Option<serde_json::Value>, D::Error>
where
    D: Deserializer<'de>,
{
    serde_json::Value::deserialize(from).map(Some)
}

/// A user of the system, and after a colon a group. Whether there are such is not asked here.
pub(super) fn user<'de, D>(from: D) -> Result<Option<String>, D::Error>
where
    D: Deserializer<'de>,
{
    let parse = |text: &str| {
        let (user, group) = text.split_once(':').unwrap_or((text, text));
        let are_names = [user, group]
            .into_iter()
            .all(|name| !name.is_empty() && !name.contains([':', '\0', '/']));
        are_names.then(|| text.into())
    };
    from.deserialize_str(Text {
        expected: r#"the name of a user, such as "pasque" or "pasque:daemon""#,
        parse,
    })
    .map(Some)
}

/// A name for `proxy-status`, which RFC 9209 §2 makes a token or string of printable ASCII.
pub(super) fn proxy_name<'de, D>(from: D) -> Result<Option<String>, D::Error>
where
    D: Deserializer<'de>,
{
    let expected = "a name of 1 to 255 printable ASCII characters";
    let parse = |text: &str| is_proxy_name(text).then(|| text.into());
    from.deserialize_str(Text { expected, parse }).map(Some)
}

pub(super) fn is_proxy_name(text: &str) -> bool {
    (1..=255).contains(&text.len()) && text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

/// One of the names of an enum, as a string. serde alone would also take `{ "name": null }`.
pub(super) fn name<'de, T, D>(from: D) -> Result<T, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    let text: StringDeserializer<D::Error> = String::deserialize(from)?.into_deserializer();
    T::deserialize(text)
}

/// A host as it stands in a URI, without a port.
#[derive(Debug)]
pub(super) struct Host(pub(super) String);

impl<'de> Deserialize<'de> for Host {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let expected = r#"a host without a port, such as "proxy.example" or "[2001:db8::1]""#;
        let parse = |text: &str| {
            let authority: Authority = text.parse().ok()?;
            (authority.host() == text).then(|| Self(text.into()))
        };
        from.deserialize_str(Text { expected, parse })
    }
}

/// Where an endpoint is mounted: one path or a list of them.
#[derive(Debug)]
pub(super) enum Paths {
    One(String),
    Many(Vec<String>),
}

impl<'de> Deserialize<'de> for Paths {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct OneOrMany;

        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Paths;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a path, a URI template or a list of either")
            }

            fn visit_str<E: Error>(self, path: &str) -> Result<Paths, E> {
                Ok(Paths::One(path.into()))
            }

            fn visit_seq<A>(self, mut list: A) -> Result<Paths, A::Error>
            where
                A: serde::de::SeqAccess<'de>,
            {
                let mut paths = Vec::new();
                while let Some(path) = list.next_element()? {
                    paths.push(path);
                }
                match paths.is_empty() {
                    true => Err(Error::invalid_length(0, &"at least one path")),
                    false => Ok(Paths::Many(paths)),
                }
            }
        }

        from.deserialize_any(OneOrMany)
    }
}

/// What an identity must hold: one permission or several.
#[derive(Debug, Default)]
pub(super) struct Permissions(pub(super) Vec<String>);

impl<'de> Deserialize<'de> for Permissions {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct OneOrMany;

        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Permissions;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a permission or a list of permissions")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Permissions, E> {
                let text: StringDeserializer<E> = text.to_owned().into_deserializer();
                let Permission(name) = Permission::deserialize(text)?;
                Ok(Permissions(vec![name]))
            }

            fn visit_seq<A>(self, mut list: A) -> Result<Permissions, A::Error>
            where
                A: serde::de::SeqAccess<'de>,
            {
                let mut names = Vec::new();
                while let Some(Permission(name)) = list.next_element()? {
                    names.push(name);
                }
                match names.is_empty() {
                    true => Err(Error::invalid_length(0, &"at least one permission")),
                    false => Ok(Permissions(names)),
                }
            }
        }

        from.deserialize_any(OneOrMany)
    }
}

struct Whole(RangeInclusive<u64>);

impl Visitor<'_> for Whole {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a whole number from {} to {}",
            self.0.start(),
            self.0.end()
        )
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<u64, E> {
        match self.0.contains(&number) {
            true => Ok(number),
            false => Err(E::invalid_value(Unexpected::Unsigned(number), &self)),
        }
    }
}

struct Text<T> {
    expected: &'static str,
    parse: fn(&str) -> Option<T>,
}

impl<T> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        (self.parse)(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}
