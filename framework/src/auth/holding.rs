//! [`Holding`]: what a file or a token says that an identity has.

use std::fmt;
use std::time::SystemTime;

use serde::de::{Deserializer, Error, Unexpected, Visitor};
use serde::{Deserialize, Serialize};

use super::identity::IdentityLimits;

/// The longest name of an identity, in bytes.
const NAME_MAX_LEN: usize = 255;

/// The longest name of a permission, in bytes.
const PERMISSION_MAX_LEN: usize = 64;

/// Permissions, limits and the end of an identity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Holding {
    pub(super) permissions: Vec<String>,
    pub(super) limits: IdentityLimits,
    pub(super) expires: Option<SystemTime>,
}

/// The keys of a [`Holding`] in a file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HoldingKeys {
    #[serde(default)]
    permissions: Vec<Permission>,
    #[serde(default, deserialize_with = "some_quantity")]
    tunnels: Option<Quantity>,
    #[serde(default, deserialize_with = "some_quantity")]
    rate: Option<Quantity>,
    #[serde(default, deserialize_with = "some_quantity")]
    volume: Option<Quantity>,
    #[serde(default, deserialize_with = "some_time")]
    expires: Option<SystemTime>,
}

impl From<HoldingKeys> for Holding {
    fn from(keys: HoldingKeys) -> Self {
        let tunnels = keys.tunnels.map(|Quantity(count)| count);
        Self {
            permissions: keys.permissions.into_iter().map(|held| held.0).collect(),
            limits: IdentityLimits {
                tunnels: tunnels.map(|count| usize::try_from(count).unwrap_or(usize::MAX)),
                rate: keys.rate.map(|Quantity(rate)| rate),
                volume: keys.volume.map(|Quantity(volume)| volume),
            },
            expires: keys.expires,
        }
    }
}

/// The name of a permission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Permission(pub(crate) String);

/// Whether `text` can name a permission: 1 to 64 ASCII letters, digits, and `-`, `.`, `_` or `:`.
pub fn is_permission(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
    (1..=PERMISSION_MAX_LEN).contains(&text.len()) && text.bytes().all(is_allowed)
}

/// What a line of a list says: without white space around it, and without the byte order mark that some
/// editors put in front of a text.
pub(super) fn entry_of(line: &str) -> &str {
    line.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}')
}

/// Whether `text` can name an identity: 1 to 255 bytes without control characters, of which a line of
/// the revoked file can hold every one.
pub fn is_name(text: &str) -> bool {
    let is_whole_line = entry_of(text) == text && !text.starts_with('#');
    (1..=NAME_MAX_LEN).contains(&text.len()) && !text.contains(char::is_control) && is_whole_line
}

impl<'de> Deserialize<'de> for Permission {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Name;

        impl Visitor<'_> for Name {
            type Value = Permission;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a permission: 1 to 64 letters, digits, \"-\", \".\", \"_\" or \":\"")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Permission, E> {
                match is_permission(text) {
                    true => Ok(Permission(text.into())),
                    false => Err(E::invalid_value(Unexpected::Str(text), &self)),
                }
            }
        }

        from.deserialize_str(Name)
    }
}

/// A number above 0, or one in text with a unit: `"100M"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(super) struct Quantity(pub(super) u64);

/// Reads a whole number above 0, with `k`, `M`, `G` or `T` for thousands, millions and so on.
pub fn parse_quantity(text: &str) -> Option<u64> {
    const UNITS: [(&[char], u64); 4] = [
        (&['k', 'K'], 1_000),
        (&['M'], 1_000_000),
        (&['G'], 1_000_000_000),
        (&['T'], 1_000_000_000_000),
    ];
    let with_unit = |(unit, factor): (&[char], u64)| Some((text.strip_suffix(unit)?, factor));
    let (digits, factor) = UNITS.into_iter().find_map(with_unit).unwrap_or((text, 1));
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    number.checked_mul(factor).filter(|number| *number > 0)
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct NumberOrText;

        impl Visitor<'_> for NumberOrText {
            type Value = Quantity;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number above 0, such as 5000000 or \"5M\"")
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Quantity, E> {
                match number {
                    0 => Err(E::invalid_value(Unexpected::Unsigned(0), &self)),
                    _ => Ok(Quantity(number)),
                }
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Quantity, E> {
                let number = parse_quantity(text);
                let refuse = || E::invalid_value(Unexpected::Str(text), &self);
                number.map(Quantity).ok_or_else(refuse)
            }
        }

        from.deserialize_any(NumberOrText)
    }
}

/// A key that may be left out and may not be `null`.
fn some_quantity<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Quantity>, D::Error> {
    Quantity::deserialize(from).map(Some)
}

fn some_time<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SystemTime>, D::Error> {
    struct Time;

    impl Visitor<'_> for Time {
        type Value = SystemTime;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a time in UTC, such as \"2030-12-31T23:59:59Z\"")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<SystemTime, E> {
            let time = humantime::parse_rfc3339(text);
            time.map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
        }
    }

    from.deserialize_str(Time).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_have_units() {
        let table = [
            ("1", Some(1)),
            ("64k", Some(64_000)),
            ("64K", Some(64_000)),
            ("100M", Some(100_000_000)),
            ("10G", Some(10_000_000_000)),
            ("2T", Some(2_000_000_000_000)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("18446744073709552k", None),
            ("0", None),
            ("0M", None),
            ("", None),
            ("M", None),
            ("-1", None),
            ("+1", None),
            ("1.5G", None),
            ("1 G", None),
            ("1m", None),
            ("1GB", None),
            ("é", None),
        ];
        for (text, expected) in table {
            assert_eq!(parse_quantity(text), expected, "{text:?}");
        }
    }

    #[test]
    fn names_of_permissions_and_identities_are_bounded() {
        assert!(is_permission("vpn") && is_permission("a-b.c_d:E9"));
        for wrong in ["", "a b", "é", "a,b", "a\n", &"x".repeat(65)] {
            assert!(!is_permission(wrong), "{wrong:?}");
        }
        assert!(is_name("Zoë Müller <z@example.net>"));
        for wrong in [
            "",
            "a\u{1b}[2J",
            "a\nb",
            &"x".repeat(256),
            " a",
            "a\u{a0}",
            "\u{feff}a",
            "#a",
        ] {
            assert!(!is_name(wrong), "{wrong:?}");
        }
    }
}
