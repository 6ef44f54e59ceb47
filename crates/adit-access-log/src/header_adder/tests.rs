#![allow(clippy::unwrap_used)]
use super::*;
use crate::testing::{full, request};

fn option(key: &str, value: &str, action: Action) -> pb::HeaderValueOption {
    pb::HeaderValueOption {
        header: Some(pb::HeaderValue { key: key.into(), value: value.into(), raw_value: Vec::new() }),
        append_action: action as i32,
        ..Default::default()
    }
}

#[test]
fn every_action_on_a_field_that_is_there_and_one_that_is_not() {
    for (action, there, absent) in [
        (Action::AppendIfExistsOrAdd, vec!["old", "new"], vec!["new"]),
        (Action::AddIfAbsent, vec!["old"], vec!["new"]),
        (Action::OverwriteIfExistsOrAdd, vec!["new"], vec!["new"]),
        (Action::OverwriteIfExists, vec!["new"], vec![]),
    ] {
        let options = [option("X-There", "new", action), option("x-absent", "new", action)];
        let adder = HeaderAdder::from_proto(&options, "a", &[], "r").unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("x-there", HeaderValue::from_static("old"));
        adder.apply(&mut headers, &LogContext::new(&full()));
        assert_eq!(headers.get_all("x-there").iter().collect::<Vec<_>>(), there, "{action:?}");
        assert_eq!(headers.get_all("x-absent").iter().collect::<Vec<_>>(), absent, "{action:?}");
    }
}

#[test]
fn formats_see_the_head_before_it_changes_and_removal_comes_first() {
    let options = [
        option("user-agent", "%REQ(user-agent)%/2 %PROTOCOL%", Action::OverwriteIfExistsOrAdd),
        option("x-gone", "back", Action::AppendIfExistsOrAdd),
        option("x-empty", "%REQ(none)%", Action::AppendIfExistsOrAdd),
        pb::HeaderValueOption {
            keep_empty_value: true,
            ..option("x-kept", "%REQ(none)%", Action::AppendIfExistsOrAdd)
        },
    ];
    let adder = HeaderAdder::from_proto(&options, "a", &["X-Gone".to_owned()], "r").unwrap();
    let mut head = request();
    head.headers.insert("x-gone", HeaderValue::from_static("old"));
    adder.apply_request(&mut head, &full());
    assert_eq!(head.headers["user-agent"], "nsq2http/2 HTTP/2");
    assert_eq!(head.headers.get_all("x-gone").iter().collect::<Vec<_>>(), ["back"]);
    assert!(!head.headers.contains_key("x-empty"));
    assert_eq!(head.headers["x-kept"], "");
}

#[test]
fn a_value_that_cannot_be_sent_is_left_out() {
    let mut info = full();
    info.state.set("evil", adit_io::FilterValue::Text("a\r\nb: c".into()), adit_io::Sharing::None);
    let options = [option("x-a", "%FILTER_STATE(evil:PLAIN)%", Action::AppendIfExistsOrAdd)];
    let adder = HeaderAdder::from_proto(&options, "a", &[], "r").unwrap();
    let mut headers = HeaderMap::new();
    adder.apply(&mut headers, &LogContext::new(&info));
    assert!(headers.is_empty());
}

#[test]
fn bad_names_and_values_are_refused_with_their_path() {
    let error = |key: &str, value: &str| {
        HeaderAdder::from_proto(&[option(key, value, Action::AddIfAbsent)], "a", &[], "r").unwrap_err()
    };
    assert_eq!(error(":path", "x").to_string(), "a[0].header.key: :-prefixed or host headers may not be modified");
    assert_eq!(error("Host", "x").path, "a[0].header.key");
    assert_eq!(error("a b", "x").path, "a[0].header.key");
    assert_eq!(error("a", "%FOO%").to_string(), "a[0].header.value: Not supported field in StreamInfo: FOO");
    assert_eq!(error("a", "x\ny").path, "a[0].header.value");
    let removal = HeaderAdder::from_proto(&[], "a", &["b".into(), ":path".into()], "r").unwrap_err();
    assert_eq!(removal.path, "r[1]");
}

#[test]
#[expect(deprecated)]
fn the_deprecated_append_still_counts() {
    let with = |append| pb::HeaderValueOption { append: Some(append), ..option("a", "new", Action::AddIfAbsent) };
    for (append, expected) in [(true, vec!["old", "new"]), (false, vec!["new"])] {
        let adder = HeaderAdder::from_proto(&[with(append)], "a", &[], "r").unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("a", HeaderValue::from_static("old"));
        adder.apply(&mut headers, &LogContext::new(&full()));
        assert_eq!(headers.get_all("a").iter().collect::<Vec<_>>(), expected);
    }
}
