use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::*;
use crate::tests::header_map;

const OLDER: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const NEWER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

/// A file of 1994, looked at `age` later. The sub-second part is not in the date.
fn validators(age: Duration) -> Validators {
    let modified = UNIX_EPOCH + Duration::from_millis(784_111_777_500);
    Validators::new(10, modified, 7, modified + age)
}

fn settled() -> Validators {
    validators(Duration::from_secs(60))
}

/// States of one field: its value, and whether what it asks holds. `None`: as if absent.
type States = [(Option<String>, Option<bool>)];

#[test]
fn fs_16_preconditions_are_evaluated_in_order() {
    for current in [settled(), validators(Duration::ZERO)] {
        let opaque = &current.etag.opaque;
        let (strong, weak) = (format!("\"{opaque}\""), format!("W/\"{opaque}\""));
        let text = |text: &str| Some(text.to_owned());
        let if_match: &States = &[
            (None, None),
            (text("*"), Some(true)),
            (text(&strong), Some(!current.etag.is_weak)),
            (
                Some(format!("\"a\" , {strong}")),
                Some(!current.etag.is_weak),
            ),
            (text(&weak), Some(false)),
            (text("\"other\""), Some(false)),
            (text(opaque), Some(false)),
        ];
        let if_unmodified_since: &States = &[
            (None, None),
            (text(OLDER), Some(false)),
            (text(MODIFIED), Some(true)),
            (text(NEWER), Some(true)),
            (text("yesterday"), None),
        ];
        let if_none_match: &States = &[
            (None, None),
            (text("*"), Some(false)),
            (text(&strong), Some(false)),
            (text(&weak), Some(false)),
            (Some(format!("\"a,\", W/\"b\",,\t{weak}")), Some(false)),
            (text("\"other\", \"another\""), Some(true)),
            (text(opaque), Some(true)),
        ];
        let if_modified_since: &States = &[
            (None, None),
            (text(OLDER), Some(true)),
            (text(MODIFIED), Some(false)),
            (text(NEWER), Some(false)),
            (text("tomorrow"), None),
        ];
        let mut combinations = 0;
        for (match_value, matches) in if_match {
            for (unmodified_value, unmodified) in if_unmodified_since {
                for (none_value, none_matches) in if_none_match {
                    for (modified_value, modified) in if_modified_since {
                        let fields: Vec<_> = [
                            ("if-match", match_value),
                            ("if-unmodified-since", unmodified_value),
                            ("if-none-match", none_value),
                            ("if-modified-since", modified_value),
                        ]
                        .into_iter()
                        .filter_map(|(name, value)| Some((name, value.as_deref()?)))
                        .collect();
                        // RFC 9110 §13.2.2, steps 1 to 4.
                        let expected = if !matches.or(*unmodified).unwrap_or(true) {
                            Verdict::Failed
                        } else if !none_matches.or(*modified).unwrap_or(true) {
                            Verdict::NotModified
                        } else {
                            Verdict::Proceed
                        };
                        let verdict = evaluate(&header_map(&fields), &current);
                        assert_eq!(verdict, expected, "{fields:?} against {current:?}");
                        combinations += 1;
                    }
                }
            }
        }
        assert_eq!(combinations, 7 * 5 * 7 * 5);
    }
}

#[test]
fn fs_16_lists_may_span_lines() {
    let tag = settled().etag.to_string();
    let fields = [("if-none-match", "\"a\""), ("if-none-match", &*tag)];
    assert_eq!(
        evaluate(&header_map(&fields), &settled()),
        Verdict::NotModified
    );
}

#[test]
fn fs_17_if_modified_since_is_ignored_beside_if_none_match_and_when_it_is_bad() {
    let verdict = |fields: &[(&str, &str)]| evaluate(&header_map(fields), &settled());
    assert_eq!(
        verdict(&[("if-modified-since", MODIFIED)]),
        Verdict::NotModified
    );
    for fields in [
        &[
            ("if-modified-since", MODIFIED),
            ("if-none-match", "\"other\""),
        ][..],
        &[("if-modified-since", "Sun, 06 Nov 1994 08:49:99 GMT")],
        &[("if-modified-since", "784111777")],
        &[("if-modified-since", "")],
        &[
            ("if-modified-since", MODIFIED),
            ("if-modified-since", MODIFIED),
        ],
    ] {
        assert_eq!(verdict(fields), Verdict::Proceed, "{fields:?}");
    }
}

#[test]
fn fs_17_all_three_forms_of_a_date_are_understood() {
    for date in [
        MODIFIED,
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
    ] {
        let fields = [("if-modified-since", date)];
        assert_eq!(
            evaluate(&header_map(&fields), &settled()),
            Verdict::NotModified,
            "{date}"
        );
    }
}

#[test]
fn a_file_without_a_date_is_not_compared_with_one() {
    let before_1970 = UNIX_EPOCH - Duration::from_secs(1);
    let current = Validators::new(1, before_1970, 1, SystemTime::now());
    assert_eq!(current.last_modified, None);
    for name in ["if-modified-since", "if-unmodified-since"] {
        assert_eq!(
            evaluate(&header_map(&[(name, OLDER)]), &current),
            Verdict::Proceed
        );
    }
    assert!(!range_applies(
        &header_map(&[("if-range", OLDER)]),
        &current
    ));
}

#[test]
fn fs_25_if_range_takes_a_strong_tag_or_an_exact_strong_date() {
    let applies = |current: &Validators, value: &str| {
        range_applies(&header_map(&[("if-range", value)]), current)
    };
    let current = settled();
    let tag = current.etag.to_string();
    assert!(range_applies(&HeaderMap::new(), &current));
    assert!(applies(&current, &tag));
    assert!(applies(&current, MODIFIED));
    let wrong = [
        &format!("W/{tag}"),
        &format!("{tag}, {tag}"),
        "*",
        "\"old\"",
        OLDER,
        NEWER,
        "",
    ];
    for value in wrong {
        assert!(!applies(&current, value), "{value}");
    }
    let twice = header_map(&[("if-range", &tag), ("if-range", &tag)]);
    assert!(!range_applies(&twice, &current));

    let fresh = validators(Duration::from_millis(1999));
    for value in [&*fresh.etag.to_string(), &tag, MODIFIED] {
        assert!(!applies(&fresh, value), "{value}");
    }
}
