//! Malformed BTF is refused or read, without a panic, a hang or gigabytes of memory.

use eunomia::btf::Btf;
use eunomia::error::Status;
use eunomia::render::Plan;
use eunomia::types::Type;
use serde_json::Value;

use crate::blob::{Blob, CONST, SIGNED, STRUCT, TYPEDEF, UNION};
use crate::{Random, clock};

fn parse_error(bytes: &[u8]) -> String {
    let error = Btf::parse(bytes).expect_err("it is malformed");
    assert_eq!(error.status(), Status::Package);
    error.message().to_owned()
}

/// Returns the error of building the last type.
fn layout_error(blob: &Blob) -> String {
    let btf = Btf::parse(&blob.bytes()).unwrap();
    let error = Type::from_btf(&btf, btf.len() - 1).expect_err("it has no layout");
    let limits = ["more than", "too large", "too many"];
    let is_beyond = limits.iter().any(|words| error.message().contains(words));
    assert_eq!(error.status(), if is_beyond { Status::Type } else { Status::Package }, "{error}");
    error.message().to_owned()
}

fn sample() -> Blob {
    let mut blob = Blob::new();
    let int = blob.int("int", 4, SIGNED);
    let color = blob.enumeration("color", 4, false, &[("RED", 0)]);
    let wide = blob.enumeration64("wide", false, &[("TOP", 1 << 40)]);
    let array = blob.array(int, 3);
    let pointer = blob.ptr(int);
    let function = blob.func("handle", &[("ctx", pointer)]);
    blob.decl_tag("tag", function);
    let event = blob.structure(
        STRUCT,
        "event",
        40,
        &[("a", array, 0), ("c", color, 96), ("w", wide, 128), ("p", pointer, 192)],
    );
    let alias = blob.alias(TYPEDEF, "event_t", event);
    let var = blob.var("last", alias);
    blob.datasec(".bss", &[var]);
    blob
}

#[test]
fn malformed_headers_are_refused() {
    let good = sample().bytes();
    let changed = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        parse_error(&bytes)
    };
    assert_eq!(parse_error(b""), "BTF: 0 bytes, less than a header");
    assert_eq!(changed(0, 0x7f), "BTF: starts with 0xeb7f instead of 0xeb9f");
    assert_eq!(changed(2, 2), "BTF: version 2, but only version 1 is supported");
    assert_eq!(changed(4, 23), "BTF: the header has 23 bytes, less than 24");
    assert_eq!(changed(7, 0xff), "BTF: the header is truncated");
    assert_eq!(changed(11, 0xff), "BTF: the types exceed its end");
    assert_eq!(changed(23, 0xff), "BTF: the strings exceed its end");
    let mut big_endian = good.clone();
    big_endian.swap(0, 1);
    assert_eq!(parse_error(&big_endian), "BTF: big-endian, but only little-endian is supported");
}

#[test]
fn truncated_btf_is_refused_unless_it_ends_with_a_whole_type() {
    let sample = sample();
    let bytes = sample.bytes();
    for len in 0..bytes.len() {
        parse_error(&bytes[..len]);
    }
    // The header says that the types end early. No type of the sample refers to a later one.
    for len in 0..sample.types_len() {
        let mut cut = bytes.clone();
        cut[12..16].copy_from_slice(&(len as u32).to_le_bytes());
        let whole = sample.ends.iter().filter(|end| **end <= len).count();
        if len == 0 || sample.ends.contains(&len) {
            assert_eq!(Btf::parse(&cut).unwrap().len() as usize, whole + 1, "types of {len} bytes");
        } else {
            let expected = format!("BTF: type {} is truncated or of unknown kind", whole + 1);
            assert_eq!(parse_error(&cut), expected, "types of {len} bytes");
        }
    }
}

#[test]
fn type_ids_and_names_out_of_range_are_refused() {
    let mut blob = Blob::new();
    blob.ptr(7);
    assert_eq!(parse_error(&blob.bytes()), "BTF: type 1 refers to type 7, but there are only 2");
    let mut blob = Blob::new();
    blob.structure(STRUCT, "s", 4, &[("m", 99, 0)]);
    assert_eq!(parse_error(&blob.bytes()), "BTF: type 1 refers to type 99, but there are only 2");
    let mut blob = Blob::new();
    blob.int(&"n".repeat(512), 4, 0);
    assert_eq!(parse_error(&blob.bytes()), "BTF: type 1: its name has 512 bytes, more than 511");
    let mut bytes = sample().bytes();
    bytes[24..28].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(parse_error(&bytes), "BTF: type 1: name offset 4294967295 is outside the strings");
    let mut blob = Blob::new();
    blob.int("int", 4, 0);
    let mut bytes = blob.bytes();
    let name = bytes.len() - 4;
    bytes[name] = 0xff;
    assert_eq!(parse_error(&bytes), "BTF: type 1: its name is not UTF-8");
    let mut blob = Blob::new();
    blob.entry("x", 31, 0, false, 0, &[]);
    assert_eq!(parse_error(&blob.bytes()), "BTF: type 1 is truncated or of unknown kind");
}

#[test]
fn a_type_that_contains_itself_is_refused() {
    let mut blob = Blob::new();
    blob.structure(STRUCT, "s", 8, &[("again", 1, 0), ("again", 1, 0)]);
    assert_eq!(layout_error(&blob), "BTF: type 1 (s): nested more than 32 levels deep, or contains itself");
    let mut blob = Blob::new();
    blob.array(1, 1);
    assert!(layout_error(&blob).contains("contains itself"));
    let mut blob = Blob::new();
    blob.alias(TYPEDEF, "t", 2);
    blob.alias(CONST, "", 1);
    assert!(layout_error(&blob).contains("a typedef of itself"));
    let mut blob = Blob::new();
    blob.structure(STRUCT, "a", 4, &[("b", 2, 0)]);
    blob.structure(UNION, "b", 4, &[("a", 3, 0)]);
    blob.alias(TYPEDEF, "a_t", 1);
    assert!(layout_error(&blob).contains("contains itself"));
}

#[test]
fn a_struct_may_point_to_itself() {
    let mut blob = Blob::new();
    blob.ptr(2);
    blob.structure(STRUCT, "node", 8, &[("next", 1, 0)]);
    assert_eq!(crate::json(&crate::last_type(&blob), &[0; 8]), "{\"next\":0}");
}

#[test]
fn impossible_sizes_are_refused() {
    let mut blob = Blob::new();
    let int = blob.int("int", 4, SIGNED);
    let big = blob.array(int, u32::MAX);
    blob.array(big, u32::MAX);
    assert!(layout_error(&blob).contains("are too large"));
    let mut blob = Blob::new();
    blob.structure(STRUCT, "huge", u32::MAX, &[]);
    assert!(layout_error(&blob).contains("4294967295 bytes, more than"));
    let mut blob = Blob::new();
    let int = blob.int("int", 4, SIGNED);
    blob.structure(STRUCT, "s", 4, &[("out", int, 8)]);
    assert!(layout_error(&blob).contains("member \"out\" exceeds its end"));
    for (size, bits, offset) in [(0, 8, 0), (17, 8, 0), (4, 0, 0), (4, 33, 0), (4, 32, 1), (4, 200, 255)] {
        let mut blob = Blob::new();
        blob.int_bits("int", size, 0, offset, bits);
        layout_error(&blob);
    }
    let mut blob = Blob::new();
    let pointer = blob.ptr(0);
    blob.bit_fields("s", 16, &[("p", pointer, (3, 7))]);
    assert!(layout_error(&blob).contains("7 bits at bit 3"));
    let mut blob = Blob::new();
    blob.enumeration("e", 3, false, &[]);
    assert!(layout_error(&blob).contains("an enum of 3 bytes"));
}

/// Returns nested unions that contain the next level twice: 40 levels would be 2^40 values.
fn doubling(levels: u32, size: u32, named: bool) -> Blob {
    let mut blob = Blob::new();
    let mut inner = blob.int("int", 4, SIGNED);
    let names = if named { ["a", "b"] } else { ["", ""] };
    for _ in 0..levels {
        inner = blob.structure(UNION, "u", size, &[(names[0], inner, 0), (names[1], inner, 0)]);
    }
    blob
}

#[test]
fn exponentially_growing_types_are_refused() {
    for named in [true, false] {
        assert!(layout_error(&doubling(31, 4, named)).contains("too many members in total"));
        let small = crate::last_type(&doubling(8, 4, named));
        assert!(crate::json(&small, &[0; 4]).len() < 10_000);
    }
    let mut blob = Blob::new();
    let mut empty = blob.structure(STRUCT, "", 0, &[]);
    for _ in 0..31 {
        empty = blob.array(empty, u32::MAX);
    }
    let btf = Btf::parse(&blob.bytes()).unwrap();
    let ty = Type::from_btf(&btf, empty).unwrap();
    assert!(Plan::new(&ty).unwrap_err().message().contains("bytes long"));
}

#[test]
fn many_typedefs_of_a_large_struct_are_cheap() {
    let mut blob = Blob::new();
    let byte = blob.int("unsigned char", 1, 0);
    let names: Vec<String> = (0..15_000).map(|i| format!("m{i}")).collect();
    let members: Vec<_> = (0..).zip(&names).map(|(i, name)| (name.as_str(), byte, 8 * i)).collect();
    let large = blob.structure(STRUCT, "large", 15_000, &members);
    let aliases: Vec<u32> = (0..15_000).map(|i| blob.alias(TYPEDEF, &names[i], large)).collect();
    let members: Vec<_> = aliases.iter().map(|id| ("m", *id, 0)).collect();
    blob.structure(UNION, "all", 15_000, &members);
    assert!(layout_error(&blob).contains("too many members in total"));
}

#[test]
fn an_enum_with_many_uses_is_compiled_once() {
    let mut blob = Blob::new();
    let names: Vec<String> = (0..20_000).map(|i| format!("CONSTANT_{i}")).collect();
    let constants: Vec<_> = (0..).zip(&names).map(|(i, name)| (name.as_str(), i)).collect();
    let large = blob.enumeration("large", 4, false, &constants);
    let members: Vec<_> = (0..10_000).map(|i| ("m", large, 32 * i)).collect();
    blob.structure(STRUCT, "s", 40_000, &members);
    let ty = crate::last_type(&blob);
    assert!(crate::json(&ty, &[]).starts_with("{\"m\":\"CONSTANT_0\","));
}

#[test]
fn the_output_of_a_flexible_array_is_limited() {
    let mut blob = Blob::new();
    let byte = blob.int("unsigned char", 1, 0);
    let long = "n".repeat(500);
    let element = blob.structure(STRUCT, "element", 1, &[(&long, byte, 0)]);
    let rest = blob.array(element, 0);
    blob.structure(STRUCT, "s", 1, &[("first", byte, 0), ("rest", rest, 8)]);
    assert_eq!(crate::json(&crate::last_type(&blob), &[7; 4000]), "{\"first\":7,\"rest\":[]}");
}

/// Reads and renders all types of a blob, as the library does.
fn exercise(bytes: &[u8], random: &mut Random) -> usize {
    let Ok(btf) = Btf::parse(bytes) else { return 0 };
    btf.event_candidates(None);
    let mut plans = 0;
    for id in 0..btf.len() {
        let Ok(ty) = Type::from_btf(&btf, id) else { continue };
        let Ok(plan) = Plan::new(&ty) else { continue };
        plans += 1;
        let len = random.below(ty.size.min(4096) + 64);
        let record = random.bytes(len);
        // Large arrays are limited, but too slow for this loop.
        if ty.size < 100_000 {
            let mut out = Vec::new();
            plan.json(&record, &clock(), &mut out);
            let value: Value = serde_json::from_slice(&out).unwrap_or_else(|error| panic!("{error}: {ty:?}"));
            let _ = eunomia::types::encode(&ty, &value, &mut vec![0; ty.size]);
            out.clear();
            plan.text_header(&mut out);
            plan.text_row(b"00:00:00", &record, &clock(), &mut out);
            assert!(std::str::from_utf8(&out).is_ok());
            plan.slots(&record);
        }
    }
    plans
}

#[test]
fn btf_with_changed_bytes_is_refused_or_read() {
    let sources = [sample().bytes(), crate::clang::object().btf];
    let mut random = Random(0x5eed);
    let mut plans = 0;
    for round in 0..4000 {
        let mut bytes = sources[round % 2].clone();
        for _ in 0..1 + random.below(4) {
            let at = random.below(bytes.len());
            bytes[at] = random.next() as u8;
        }
        plans += exercise(&bytes, &mut random);
    }
    assert!(plans > 1000, "only {plans} of the types could be read");
}

#[test]
fn random_types_are_refused_or_read() {
    let mut random = Random(0xbad);
    for _ in 0..2000 {
        let mut blob = Blob::new();
        for _ in 0..1 + random.below(8) {
            let words: Vec<u32> = (0..random.below(12)).map(|_| random.below(16) as u32).collect();
            let (kind, count) = (random.below(22) as u32, random.below(4));
            blob.entry("name", kind, count, random.below(2) == 1, random.below(12) as u32, &words);
        }
        exercise(&blob.bytes(), &mut random);
    }
}
