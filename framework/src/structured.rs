//! Structured Field values (RFC 9651) that are not a module of their own.

use sfv::{Item, Parser};

/// Whether a `capsule-protocol` field says that the stream carries capsules (RFC 9297 §3.4).
///
/// `values` are the field's lines. Whatever is not the one boolean `?1` counts as absent;
/// parameters are ignored.
pub fn capsule_protocol<'a>(mut values: impl Iterator<Item = &'a [u8]>) -> bool {
    let (Some(value), None) = (values.next(), values.next()) else {
        return false;
    };
    Parser::new(value)
        .parse::<Item>()
        .is_ok_and(|item| item.bare_item.as_boolean() == Some(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hdg_29_capsule_protocol_is_one_true_boolean() {
        let table: &[(&[&str], bool)] = &[
            (&["?1"], true),
            (&["?1;a=b"], true),
            (&[" ?1 "], true),
            (&[], false),
            (&["?0"], false),
            (&["1"], false),
            (&["\"?1\""], false),
            (&["?2"], false),
            (&["true"], false),
            (&["?1, ?1"], false),
            (&["?1;"], false),
            (&["(?1)"], false),
            (&[""], false),
            (&["\u{e9}"], false),
            (&["?1", "?1"], false),
        ];
        for (lines, expected) in table {
            let values = lines.iter().map(|line| line.as_bytes());
            assert_eq!(capsule_protocol(values), *expected, "{lines:?}");
        }
    }
}
