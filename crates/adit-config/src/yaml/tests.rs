#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

fn root(text: &str) -> Arc<Node> {
    let (root, problems) = parse(text);
    assert!(problems.is_empty(), "{problems:?}");
    root.unwrap()
}

fn problem(text: &str) -> (u32, String) {
    let (_, problems) = parse(text);
    let first = problems.first().unwrap();
    (first.line, first.message.clone())
}

fn entry<'a>(node: &'a Node, key: &str) -> &'a Entry {
    let Data::Mapping(entries) = &node.data else { panic!("{node:?}") };
    entries.iter().find(|entry| entry.key == key).unwrap()
}

#[test]
fn each_node_knows_its_line() {
    let root = root("a: 1\nb:\n  - x\n  - y: 2\n");
    assert_eq!(entry(&root, "a").line, 1);
    assert_eq!(entry(&root, "b").line, 2);
    let Data::Sequence(items) = &entry(&root, "b").value.data else { panic!() };
    assert_eq!((items[0].line, items[1].line), (3, 4));
}

#[test]
fn quotes_blocks_and_tags_make_strings() {
    for text in ["'1'", "\"1\"", "!!str 1", "! 1"] {
        let root = root(&format!("a: {text}\n"));
        assert!(matches!(&entry(&root, "a").value.data, Data::Scalar { text, plain: false } if text == "1"), "{text}");
    }
    let root = root("a: |\n  yes\n");
    assert!(matches!(&entry(&root, "a").value.data, Data::Scalar { text, plain: false } if text == "yes\n"));
}

#[test]
fn own_keys_come_before_merged_ones() {
    let root = root("a: &a {x: 1, y: 1}\nb: {x: 2, <<: *a}\n");
    let Data::Scalar { text, .. } = &entry(&entry(&root, "b").value, "x").value.data else { panic!() };
    assert_eq!(text, "2");
    let Data::Mapping(entries) = &entry(&root, "b").value.data else { panic!() };
    assert_eq!(entries.len(), 2);
}

#[test]
fn what_is_wrong_with_a_text() {
    assert_eq!(problem("a: 1\nb: 2\na: 3\n"), (3, "duplicate key 'a'".to_owned()));
    assert_eq!(problem("? [a]\n: 1\n"), (1, "a key must be a string".to_owned()));
    assert_eq!(problem("a:\n  <<: 5\n"), (2, "'<<' takes a mapping or a list of mappings".to_owned()));
    assert!(problem("a: b: c\n").1.starts_with("not YAML"));
}

#[test]
fn an_alias_counts_for_what_it_names() {
    let mut text = "a: &a [1, 2, 3]\nb: [".to_owned();
    text.push_str(&"*a,".repeat(MAX_NODES / 4 + 1));
    text.push_str("]\n");
    assert_eq!(problem(&text).1, format!("more than {MAX_NODES} values, aliases followed"));
}
