use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::config::locate::{End, Index, JsonPath, Position};

/// A JSON value, with the white space before each of its tokens.
#[derive(Clone, Debug)]
enum Tree {
    Leaf(String, String),
    List(String, Vec<Tree>, String),
    Object(String, BTreeMap<String, (String, String, Tree)>, String),
}

fn space() -> impl Strategy<Value = String> {
    "[ \t\r\n]{0,3}"
}

fn leaf() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("null".to_owned()),
        Just("-1.5e3".to_owned()),
        Just("true".to_owned()),
        // Strings with everything that could be taken for structure, and letters of two bytes.
        "[{}:,\"\\\\\\[\\]é]{0,6}".prop_map(|text| serde_json::to_string(&text).unwrap()),
    ]
}

fn tree() -> impl Strategy<Value = Tree> {
    let leaf = (space(), leaf()).prop_map(|(space, text)| Tree::Leaf(space, text));
    leaf.prop_recursive(4, 32, 4, |tree| {
        let key = "[a-c\"\\\\{é]{0,2}";
        let entry = (space(), space(), tree.clone());
        prop_oneof![
            (space(), prop::collection::vec(tree, 0..4), space())
                .prop_map(|(before, items, after)| Tree::List(before, items, after)),
            (
                space(),
                prop::collection::btree_map(key, entry, 0..4),
                space()
            )
                .prop_map(|(before, entries, after)| Tree::Object(before, entries, after)),
        ]
    })
}

/// Writes the tree and, for every path, where its key and its value begin.
fn write(
    tree: &Tree,
    path: JsonPath,
    text: &mut String,
    places: &mut Vec<(JsonPath, usize, usize)>,
    key: Option<usize>,
) {
    let (Tree::Leaf(before, _) | Tree::List(before, ..) | Tree::Object(before, ..)) = tree;
    text.push_str(before);
    places.push((path.clone(), key.unwrap_or(text.len()), text.len()));
    match tree {
        Tree::Leaf(_, leaf) => text.push_str(leaf),
        Tree::List(_, items, after) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                text.push_str(if index > 0 { "," } else { "" });
                write(item, path.index(index), text, places, None);
            }
            text.push_str(after);
            text.push(']');
        }
        Tree::Object(_, entries, after) => {
            text.push('{');
            for (index, (key, (before, colon, value))) in entries.iter().enumerate() {
                text.push_str(if index > 0 { "," } else { "" });
                text.push_str(before);
                let start = text.len();
                text.push_str(&serde_json::to_string(key).unwrap());
                text.push_str(colon);
                text.push(':');
                write(value, path.key(key), text, places, Some(start));
            }
            text.push_str(after);
            text.push('}');
        }
    }
}

/// Lines and columns, counted the slow way.
fn count(text: &str, offset: usize) -> Position {
    let mut position = Position { line: 1, column: 1 };
    for character in text[..offset].chars() {
        match character {
            '\n' => {
                position = Position {
                    line: position.line + 1,
                    column: 1,
                }
            }
            _ => position.column += 1,
        }
    }
    position
}

proptest! {
    #[test]
    fn every_key_and_value_is_found(tree in tree()) {
        let (mut text, mut places) = (String::new(), Vec::new());
        write(&tree, JsonPath::default(), &mut text, &mut places, None);
        prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{text}");

        let index = Index::of(&text).unwrap();
        for (path, key, value) in places {
            prop_assert_eq!(index.locate(&path, End::Key), key, "key of {} in {}", path, text);
            prop_assert_eq!(index.locate(&path, End::Value), value, "{} in {}", path, text);
            prop_assert_eq!(Position::of(&text, value), count(&text, value));
            // What is not there is reported where it is missed.
            prop_assert_eq!(index.locate(&path.key("no such"), End::Key), value);
        }
    }

    #[test]
    fn any_text_has_positions(text in any::<String>(), offset in 0..64_usize) {
        let position = Position::of(&text, offset);
        prop_assert!(position.line >= 1 && position.column >= 1);
    }
}

#[test]
fn a_key_that_escapes_hide_is_a_duplicate() {
    let text = r#"{ "a": { "b": 1, "\u0062": 2 } }"#;
    let duplicate = Index::of(text).unwrap_err();
    assert_eq!(duplicate.path.to_string(), "a.b");
    assert_eq!((duplicate.first, duplicate.second), (9, 17));
}

#[test]
fn paths_are_shown_as_a_programmer_writes_them() {
    let top = JsonPath::default();
    assert_eq!(top.to_string(), "");
    assert_eq!(
        top.key("endpoints")
            .index(1)
            .key("routes")
            .index(0)
            .to_string(),
        "endpoints[1].routes[0]"
    );
    assert_eq!(top.key("a b").key("c").to_string(), "[\"a b\"].c");
}
