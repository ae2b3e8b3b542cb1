//! Input that exceeds a limit is refused early.

use eunomia::package::{MAX_DOCUMENT, MAX_OBJECT};
use serde_json::json;

use crate::bomb::bomb;
use crate::fixture::{f2, f2_skel, parse, refusal, refusal_of};

#[test]
fn a_zlib_bomb_stops_at_the_declared_size() {
    let mut document = f2_skel(json!({}));
    document["bpf_object"] = bomb(64 << 20).into();
    assert_eq!(refusal(&document), "bpf_object_size: 200, but the object inflates to more");
}

#[test]
fn a_zlib_bomb_that_declares_no_size_stops_at_the_limit() {
    let mut document = f2(json!({"bpf_skel":{},"export_types":{}}));
    document.as_object_mut().unwrap().remove("bpf_object_size");
    document["bpf_object"] = bomb(MAX_OBJECT + 1000).into();
    assert_eq!(refusal(&document), "bpf_object: inflates to more than 67108864 bytes");
}

#[test]
fn a_declared_size_beyond_the_limit_is_refused_before_inflating() {
    for size in [(MAX_OBJECT as u64) + 1, u64::MAX] {
        let mut document = f2_skel(json!({}));
        document["bpf_object_size"] = size.into();
        assert_eq!(
            refusal(&document),
            format!("bpf_object_size: {size} bytes, and at most 67108864 are read")
        );
    }
}

#[test]
fn a_raw_object_beyond_the_limit_is_refused() {
    let text = format!("{{\"data\":\"{}\"}}", "A".repeat(MAX_OBJECT / 2 * 3 + 1));
    assert_eq!(
        refusal_of(text.as_bytes()),
        "data: 100663297 bytes of base64, and at most 100663296 are read"
    );
}

#[test]
fn a_document_beyond_the_limit_is_refused() {
    let text = vec![b' '; MAX_DOCUMENT + 1];
    assert_eq!(refusal_of(&text), "134217729 bytes, and at most 134217728 are read");
}

#[test]
fn deep_nesting_is_refused() {
    let deep = format!("{{\"a\":{}", "[".repeat(100_000));
    assert_eq!(refusal_of(deep.as_bytes()), "line 1, column 132: recursion limit exceeded");
}

#[test]
fn too_many_json_values_are_refused() {
    let many = format!("{{\"a\":[{}0]}}", "0,".repeat(1 << 17));
    assert_eq!(refusal_of(many.as_bytes()), "more than 131072 JSON values");
    let objects = format!("{{\"a\":[{}0]}}", "{\"a\":0},".repeat(1 << 16));
    assert_eq!(refusal_of(objects.as_bytes()), "more than 131072 JSON values");
}

#[test]
fn the_length_of_every_list_is_limited() {
    let many = vec![json!({}); 4097];
    let reason = "4097 entries, and at most 4096 are read";
    let skel = |key: &str| refusal(&f2_skel(json!({key:many})));
    assert_eq!(skel("maps"), format!("meta.bpf_skel.maps: {reason}"));
    assert_eq!(skel("progs"), format!("meta.bpf_skel.progs: {reason}"));
    assert_eq!(skel("data_sections"), format!("meta.bpf_skel.data_sections: {reason}"));
    let types = |types| refusal(&f2(json!({"bpf_skel":{},"export_types":types})));
    assert_eq!(types(json!(many)), format!("meta.export_types: {reason}"));
    let members = json!([{"name":"e","size":1,"members":many}]);
    assert_eq!(types(members), format!("meta.export_types[0].members: {reason}"));
    let args: serde_json::Map<_, _> = (0..4097).map(|n| (format!("v{n}"), json!(1))).collect();
    let refused = refusal(&f2(json!({"bpf_skel":{},"runtime_args":args})));
    assert_eq!(refused, format!("meta.runtime_args: {reason}"));
}

#[test]
fn the_number_of_variables_is_limited_over_all_sections() {
    let section = |name: &str, count: usize| {
        let variable = |n| json!({"name":format!("{name}{n}"),"type":"int"});
        json!({"name":name,"variables":(0..count).map(variable).collect::<Vec<_>>()})
    };
    let skel = |count| f2_skel(json!({"data_sections":[section("a", 4000), section("b", count)]}));
    assert_eq!(parse(&skel(96)).meta.vars.len(), 4096);
    let message = "meta.bpf_skel.data_sections[1]: 4097 entries, and at most 4096 are read";
    assert_eq!(refusal(&skel(97)), message);
}

#[test]
fn names_are_limited_and_long_values_are_shortened() {
    let name = |name: String| refusal(&f2_skel(json!({"progs":[{"name":name}]})));
    let message = "meta.bpf_skel.progs[0].name: a name of 513 bytes, and at most 512 are read";
    assert_eq!(name("n".repeat(513)), message);
    let long = refusal(&f2(json!({"bpf_skel":{},"debug_verbose":"x\n".repeat(1000)})));
    let quoted = "x\\n".repeat(20);
    assert_eq!(long, format!("meta.debug_verbose: expected true or false, found \"{quoted}…\""));
}
