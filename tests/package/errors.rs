//! Errors name the path and the reason.

use eunomia::error::Status;
use eunomia::package::Package;
use serde_json::{Value, json};

use crate::fixture::{elf, f1, f2, f2_skel, packed, parse, refusal, refusal_of};

fn skel_refusal(skel: Value) -> String {
    refusal(&f2_skel(skel))
}

#[test]
fn missing_and_invalid_members_are_named_by_their_path() {
    let map = |map: Value| skel_refusal(json!({"maps":[{"name":"a"},{"name":"b"},map]}));
    assert_eq!(map(json!({})), "meta.bpf_skel.maps[2].name: missing");
    assert_eq!(map(json!({"name":null})), "meta.bpf_skel.maps[2].name: missing");
    assert_eq!(map(json!({"name":7})), "meta.bpf_skel.maps[2].name: expected a name, found 7");
    assert_eq!(map(json!({"name":""})), "meta.bpf_skel.maps[2].name: a name must not be empty");
    assert_eq!(map(json!({"name":"a\0b"})), "meta.bpf_skel.maps[2].name: contains a NUL character");
    assert_eq!(map(json!(["name"])), "meta.bpf_skel.maps[2]: expected an object, found an array");
    assert_eq!(map(json!({"name":"c","sample":{}})), "meta.bpf_skel.maps[2].sample.interval: missing");
    assert_eq!(
        map(json!({"name":"c","sample":{"interval":"x"}})),
        "meta.bpf_skel.maps[2].sample.interval: expected a whole number of at least 1, found \"x\""
    );
    assert_eq!(
        map(json!({"name":"c","sample":{"interval":1,"type":"log10"}})),
        "meta.bpf_skel.maps[2].sample.type: expected default_kv, log2_hist or linear_hist, found \"log10\""
    );
    assert_eq!(
        map(json!({"name":"c","export_config":{"custom_members":[{"name":"x"}]}})),
        "meta.bpf_skel.maps[2].export_config.custom_members[0].offset: missing"
    );
    assert_eq!(
        map(json!({"name":"c","export_config":"yes"})),
        "meta.bpf_skel.maps[2].export_config: expected no_export, default, btf_type_id or custom_members, found \"yes\""
    );
}

#[test]
fn numbers_that_do_not_fit_are_quoted() {
    let pages = |value: Value| refusal(&f2(json!({"bpf_skel":{},"perf_buffer_pages":value})));
    assert_eq!(pages(json!(1.5)), "meta.perf_buffer_pages: expected a whole number, found 1.5");
    assert_eq!(pages(json!(-1)), "meta.perf_buffer_pages: expected a whole number, found -1");
    let too_large = "meta.perf_buffer_pages: expected a whole number of at most 4294967295, found ";
    assert_eq!(pages(json!(9223372036854775808_u64)), format!("{too_large}9223372036854775808"));
    assert_eq!(pages(json!(1e300)), "meta.perf_buffer_pages: expected a whole number, found 1e+300");
    for number in [0, 3, 100] {
        let message = format!("meta.perf_buffer_pages: expected a power of two, found {number}");
        assert_eq!(pages(json!(number)), message);
    }
    assert_eq!(pages(json!(true)), "meta.perf_buffer_pages: expected a whole number, found true");
}

#[test]
fn variables_options_and_event_types_are_checked() {
    let var = |var: Value| skel_refusal(json!({"data_sections":[{"name":".rodata","variables":[var]}]}));
    let at = "meta.bpf_skel.data_sections[0].variables[0]";
    assert_eq!(var(json!({"name":"v"})), format!("{at}.type: missing"));
    let option = |key: &str, value: Value| var(json!({"name":"v","type":"int","cmdarg":{key:value}}));
    assert_eq!(
        option("short", json!("ab")),
        format!("{at}.cmdarg.short: expected one character, found \"ab\"")
    );
    assert_eq!(
        option("short", json!("-")),
        format!("{at}.cmdarg.short: expected one character, found \"-\"")
    );
    let name = format!("{at}.cmdarg.long: expected the name of an option, found ");
    assert_eq!(option("long", json!("--x")), format!("{name}\"--x\""));
    assert_eq!(option("long", json!("a b")), format!("{name}\"a b\""));
    let export = |types: Value| refusal(&f2(json!({"bpf_skel":{},"export_types":types})));
    assert_eq!(export(json!([{"name":"e"}])), "meta.export_types[0].size: missing");
    assert_eq!(export(json!(7)), "meta.export_types: expected an array, found 7");
    assert_eq!(
        export(json!([{"name":"e","size":1,"members":[{"name":"m"}]}])),
        "meta.export_types[0].members[0].type: missing"
    );
}

#[test]
fn duplicate_names_are_refused_with_both_paths() {
    assert_eq!(
        skel_refusal(json!({"maps":[{"name":"events"},{"name":"x"},{"name":"events"}]})),
        "meta.bpf_skel.maps[2].name: \"events\" is already used at meta.bpf_skel.maps[0].name"
    );
    assert_eq!(
        skel_refusal(json!({"progs":[{"name":"p"},{"name":"p"}]})),
        "meta.bpf_skel.progs[1].name: \"p\" is already used at meta.bpf_skel.progs[0].name"
    );
    let variable = json!({"name":"v","type":"int"});
    assert_eq!(
        skel_refusal(json!({"data_sections":[{"name":".bss","variables":[variable]},
            {"name":".data","variables":[variable]}]})),
        "meta.bpf_skel.data_sections[1].variables[0].name: \"v\" is already used at \
         meta.bpf_skel.data_sections[0].variables[0].name"
    );
    assert_eq!(
        refusal(&f1(json!({"maps":[{"name":"rb","type":"t"},{"name":"rb","type":"t"}]}))),
        "maps[1].name: \"rb\" is already used at maps[0].name"
    );
}

#[test]
fn instead_of_must_form_chains_without_cycles() {
    let of = |progs: &[(&str, &str)]| {
        let progs: Vec<_> =
            progs.iter().map(|(name, next)| json!({"name": name, "instead_of": next})).collect();
        let mut all = progs;
        all.push(json!({"name": "last", "autoload": false}));
        json!({ "progs": all })
    };
    parse(&f2_skel(of(&[("a", "b"), ("b", "last"), ("d", "e"), ("e", "a")])));
    let place = |index: u32| format!("meta.bpf_skel.progs[{index}].instead_of: ");
    let refused = |progs: &[(&str, &str)]| skel_refusal(of(progs));
    assert_eq!(refused(&[("a", "x")]), place(0) + "there is no such program");
    assert_eq!(refused(&[("a", "a")]), place(0) + "forms a cycle");
    assert_eq!(refused(&[("x", "last"), ("a", "b"), ("b", "c"), ("c", "a")]), place(1) + "forms a cycle");
    assert_eq!(
        refused(&[("a", "last"), ("b", "last")]),
        place(1) + "another program already replaces it; name that program here"
    );
    let names: Vec<String> = (0..257).map(|index| format!("p{index}")).collect();
    let mut many: Vec<_> =
        names.windows(2).map(|pair| (pair[0].as_str(), pair[1].as_str())).chain([("p256", "last")]).collect();
    assert_eq!(refused(&many), place(256) + "more than 256 programs have instead_of");
    many.pop();
    many[255].1 = "last";
    assert_eq!(parse(&f2_skel(of(&many))).meta.progs.len(), 257, "256 alternatives are allowed");
    let wrong = |key: &str, value: Value| skel_refusal(json!({"progs": [{"name": "a", key: value}]}));
    assert_eq!(
        wrong("autoload", json!(1)),
        "meta.bpf_skel.progs[0].autoload: expected true or false, found 1"
    );
    assert_eq!(
        wrong("instead_of", json!([])),
        "meta.bpf_skel.progs[0].instead_of: expected a name, found an array"
    );
}

#[test]
fn shortened_section_names_may_be_equal() {
    let skel = json!({"maps":[{"name":".rodata.long_na"},{"name":".rodata.long_na"}]});
    assert_eq!(parse(&f2_skel(skel)).meta.maps.len(), 2);
}

#[test]
fn a_wrong_size_is_refused_with_both_sizes() {
    let mut document = f2_skel(json!({}));
    document["bpf_object_size"] = json!(250);
    assert_eq!(refusal(&document), "bpf_object_size: 250, but the object inflates to 200 bytes");
    document["bpf_object_size"] = json!(100);
    assert_eq!(refusal(&document), "bpf_object_size: 100, but the object inflates to more");
    document["bpf_object_size"] = json!("200");
    assert_eq!(refusal(&document), "bpf_object_size: expected a whole number, found \"200\"");
    document.as_object_mut().unwrap().remove("bpf_object_size");
    assert_eq!(refusal(&document), "bpf_object_size: missing");
    assert_eq!(refusal(&f1(json!({"data_sz":199}))), "data_sz: 199, but the object has 200 bytes");
}

#[test]
fn invalid_base64_and_invalid_zlib_have_different_errors() {
    let mut document = f2_skel(json!({}));
    let mut refuse = |text: Value| {
        document["bpf_object"] = text;
        refusal(&document)
    };
    assert_eq!(refuse(json!("eJz!AAAA")), "bpf_object: not base64: byte 0x21 at offset 3");
    assert_eq!(refuse(json!("eJzAA")), "bpf_object: not base64: probably truncated");
    assert_eq!(refuse(json!("")), "bpf_object: the zlib stream is truncated");
    assert_eq!(refuse(json!("AAAAAAAA")), "bpf_object: not a zlib stream");
    assert_eq!(refuse(json!(["x"])), "bpf_object: expected a base64 string, found an array");
    let whole = packed(&elf());
    assert_eq!(refuse(json!(whole[..whole.len() / 8 * 4])), "bpf_object: the zlib stream is truncated");
}

#[test]
fn a_wrong_checksum_is_refused() {
    let mut stream = miniz_oxide::deflate::compress_to_vec_zlib(&elf(), 6);
    *stream.last_mut().unwrap() ^= 1;
    let mut document = f2_skel(json!({}));
    document["bpf_object"] = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, stream).into();
    assert_eq!(refusal(&document), "bpf_object: the checksum of the zlib stream does not match");
}

#[test]
fn an_object_that_is_not_for_bpf_is_described() {
    let refuse = |change: fn(&mut Vec<u8>)| {
        let mut object = elf();
        change(&mut object);
        let package = Package::from_object(&object, None).unwrap_err().message().to_owned();
        let document =
            json!({"bpf_object":packed(&object),"bpf_object_size":object.len(),"meta":{"bpf_skel":{}}});
        assert_eq!(package.strip_prefix("object"), refusal(&document).strip_prefix("bpf_object"));
        package
    };
    assert_eq!(
        refuse(|object| object[0] = b'M'),
        "object: not an ELF object (it starts with [4d, 45, 4c, 46])"
    );
    assert_eq!(refuse(|object| object.truncate(40)), "object: an ELF object truncated after 40 bytes");
    assert_eq!(refuse(|object| object[4] = 1), "object: not a 64-bit ELF object");
    let foreign = refuse(|object| object[5] = 3 - object[5]);
    assert!(foreign.ends_with("-endian, unlike this machine"), "{foreign}");
    assert_eq!(
        refuse(|object| object[18..20].copy_from_slice(&62_u16.to_ne_bytes())),
        "object: an ELF object for machine 62, not for BPF (247)"
    );
    assert_eq!(
        Package::from_object(b"", None).unwrap_err().message(),
        "object: not an ELF object (it starts with [])"
    );
}

#[test]
fn other_file_types_are_named() {
    for (bytes, message) in [
        (&b""[..], "the package is empty"),
        (b"\xef\xbb\xbf \n", "the package is empty"),
        (b"\0asm\x01\0\0\0", "this is a WASM module, and this function reads only JSON packages"),
        (b"\x7fELF\x02\x01", "this is an ELF object without metadata; eunomia_open_object opens it"),
        (b"\x1f\x8b\x08\0", "this is a gzip file; unpack it first"),
        (b"PK\x03\x04\x14", "this is a zip archive; unpack it first"),
        (b"\n<!DOCTYPE html>", "this is HTML or XML, possibly the error page of a download"),
        (b"\xff\xfe{\0", "this is UTF-16 text; packages are UTF-8"),
        (b"404: Not Found", "not a package: expected a JSON object, which begins with {"),
        (b"[]", "not a package: expected a JSON object, which begins with {"),
        (b"{}", "not a package: it has neither bpf_object nor data"),
        (b"{\"a\":1,\n \"b\":x}", "line 2, column 6: expected value"),
        (b"{\"a\":1", "line 1, column 6: the JSON is truncated"),
        (b"{\"a\":\"\xff\"}", "line 1, column 7: invalid unicode code point"),
        (b"{\"a\":1} x", "line 1, column 9: trailing characters"),
    ] {
        assert_eq!(refusal_of(bytes), message);
    }
    let mut tar = vec![b'p'; 600];
    tar[257..262].copy_from_slice(b"ustar");
    assert_eq!(refusal_of(&tar), "this is a tar archive; open the package.json inside");
}

#[test]
fn metadata_without_object_and_whole_packages_name_the_right_function() {
    let alone = refusal(&json!({"bpf_skel":{"obj_name":"x"}}));
    assert_eq!(alone, "this is metadata without its object");
    let error = Package::parse(br#"{"bpf_skel":{"obj_name":"x"}}"#).unwrap_err();
    assert_eq!(error.hint(), Some(&eunomia::Hint::OpenObject));
    let whole = f2_skel(json!({})).to_string();
    let error = Package::from_object(&elf(), Some(&whole)).unwrap_err();
    assert_eq!(error.status(), Status::Package);
    assert_eq!(
        error.message(),
        "this is a whole package, not the metadata of an object; eunomia_open opens it"
    );
}

#[test]
fn paths_are_relative_to_the_document() {
    let separate = |meta: &str| Package::from_object(&elf(), Some(meta)).unwrap_err().message().to_owned();
    assert_eq!(separate("{}"), "bpf_skel: missing");
    assert_eq!(separate(r#"{"bpf_skel":{"progs":[{}]}}"#), "bpf_skel.progs[0].name: missing");
    assert_eq!(refusal(&f2(json!({}))), "meta.bpf_skel: missing");
    assert_eq!(refusal(&json!({"bpf_object":"eJw="})), "meta: missing");
    assert_eq!(refusal(&f1(json!({"maps":[{}]}))), "maps[0].name: missing");
    let section = json!([{"name":"x.bss","sec_data":[{"name":"v"}]}]);
    assert_eq!(refusal(&f1(json!({"maps":section}))), "maps[0].sec_data[0].type: missing");
    let event =
        json!([{"name":"rb","export_data_types":{"Struct Name":"e","Size":8,"Fields":[{"Name":"m"}]}}]);
    assert_eq!(refusal(&f1(json!({"maps":event}))), "maps[0].export_data_types.Fields[0].Type: missing");
    assert_eq!(refusal(&json!({"data":"AAAA"})), "data_sz: missing");
}

#[test]
fn every_truncation_is_refused() {
    let text = f2_skel(json!({"obj_name":"cut","maps":[{"name":"m","sample":{"interval":1}}]})).to_string();
    Package::parse(text.as_bytes()).unwrap();
    for end in 1..text.len() {
        let message = refusal_of(&text.as_bytes()[..end]);
        assert!(message.contains("truncated"), "{end}: {message}");
    }
}

#[test]
fn single_changed_bytes_do_not_panic() {
    for text in [
        f2_skel(json!({"maps":[{"name":"m","sample":{"interval":1e3}}],"progs":[{"name":"p","ifindex":1}]}))
            .to_string(),
        f1(json!({"maps":[{"name":"x.bss","sec_data":[{"name":"v","type":"int"}]}],"runtime_args":{"v":1}}))
            .to_string(),
    ] {
        let mut bytes = text.into_bytes();
        for at in 0..bytes.len() {
            let before = bytes[at];
            for value in [0, b'"', b'{', b'9', b'-', 0xff, before ^ 1, before ^ 0x20] {
                bytes[at] = value;
                if let Ok(package) = Package::parse(&bytes) {
                    assert_eq!(package.object.len(), elf().len());
                }
            }
            bytes[at] = before;
        }
    }
}
