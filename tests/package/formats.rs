//! Reading and writing `meta.formats`, and its errors.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::fixture::{f2, parse, refusal};

fn with(formats: Value) -> Value {
    f2(json!({"bpf_skel": {}, "formats": formats}))
}

#[test]
fn formats_are_read_and_written() {
    let package = parse(&with(
        json!({"event": {"saddr": "ipv4", "args.at": "ktime"}, "key": {"a": "of later versions"}}),
    ));
    let read: Vec<_> = package
        .meta
        .formats
        .iter()
        .map(|told| (told.structure.as_str(), told.member.as_str(), told.format.as_str()))
        .collect();
    let expected =
        [("event", "args.at", "ktime"), ("event", "saddr", "ipv4"), ("key", "a", "of later versions")];
    assert_eq!(read, expected);
    let written: Value = serde_json::from_slice(&package.to_json()).unwrap();
    assert_eq!(written["meta"]["formats"]["event"]["saddr"], "ipv4");
    for nothing in [json!(null), json!({}), json!({"event": {}})] {
        assert!(parse(&with(nothing)).meta.formats.is_empty());
    }
}

#[test]
fn malformed_formats_are_refused_with_their_path() {
    assert_eq!(refusal(&with(json!([1]))), "meta.formats: expected an object, found an array");
    assert_eq!(
        refusal(&with(json!({"event": "ipv4"}))),
        "meta.formats.event: expected an object, found \"ipv4\""
    );
    assert_eq!(refusal(&with(json!({"event": {"a": 4}}))), "meta.formats.event.a: expected a name, found 4");
    assert_eq!(refusal(&with(json!({"event": {"a": null}}))), "meta.formats.event.a: missing");
    assert_eq!(refusal(&with(json!({"event": {"": "hex"}}))), "meta.formats.event: a name must not be empty");
}

#[test]
fn the_number_of_formats_is_limited() {
    let structs = |count: usize, members: usize| {
        let members: BTreeMap<String, &str> = (0..members).map(|at| (format!("m{at}"), "hex")).collect();
        with(json!((0..count).map(|at| (format!("s{at}"), &members)).collect::<BTreeMap<_, _>>()))
    };
    assert_eq!(parse(&structs(16, 16)).meta.formats.len(), 256);
    assert_eq!(refusal(&structs(257, 1)), "meta.formats: more than 256 members");
    assert_eq!(refusal(&structs(1, 257)), "meta.formats: more than 256 members");
}
