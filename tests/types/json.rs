//! Records as JSON, by kind of type.

use std::sync::Arc;

use eunomia::btf::Btf;
use eunomia::render::{Plan, hex_json};
use eunomia::types::Type;

use crate::blob::{BOOL, Blob, SIGNED, STRUCT, TYPEDEF, UNION};
use crate::{Random, clock, json, last_type};

/// Returns the type that `make` appends last.
fn one(make: impl FnOnce(&mut Blob) -> u32) -> Arc<Type> {
    let mut blob = Blob::new();
    make(&mut blob);
    last_type(&blob)
}

#[test]
fn integers_of_every_width_are_exact() {
    for size in [1u32, 2, 4, 8] {
        let unsigned = one(|blob| blob.int("u", size, 0));
        let signed = one(|blob| blob.int("i", size, SIGNED));
        let bits = 8 * size;
        for value in [0, 1, 9, 10, 99, 100, 12_345_678, u64::MAX / 3, u64::MAX, 1 << (bits - 1)] {
            let record = value.to_le_bytes();
            let shift = 64 - bits;
            assert_eq!(json(&unsigned, &record), (value << shift >> shift).to_string());
            assert_eq!(json(&signed, &record), ((value << shift) as i64 >> shift).to_string());
        }
    }
}

#[test]
fn integers_of_128_bits_are_decimal_strings() {
    let unsigned = one(|blob| blob.int("unsigned __int128", 16, 0));
    let signed = one(|blob| blob.int("__int128", 16, SIGNED));
    for value in [0, 7, u128::from(u64::MAX), 1 << 64, 10u128.pow(38), u128::MAX, 1 << 127] {
        assert_eq!(json(&unsigned, &value.to_le_bytes()), format!("\"{value}\""));
        assert_eq!(json(&signed, &value.to_le_bytes()), format!("\"{}\"", value as i128));
    }
}

#[test]
fn bools_floats_and_pointers_are_written() {
    let boolean = one(|blob| blob.int("_Bool", 1, BOOL));
    assert_eq!([json(&boolean, &[0]), json(&boolean, &[1]), json(&boolean, &[2])], ["false", "true", "true"]);
    let wide_bool = one(|blob| blob.int("bool", 4, BOOL));
    assert_eq!([json(&wide_bool, &[0; 4]), json(&wide_bool, &[0, 1, 0, 0])], ["false", "true"]);
    let float = one(|blob| blob.float("float", 4));
    let double = one(|blob| blob.float("double", 8));
    assert_eq!(json(&float, &1.23f32.to_le_bytes()), "1.23");
    assert_eq!(json(&double, &0.1f64.to_le_bytes()), "0.1");
    assert_eq!(json(&double, &(-0.0f64).to_le_bytes()), "-0.0");
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert_eq!(json(&double, &value.to_le_bytes()), "null");
        assert_eq!(json(&float, &(value as f32).to_le_bytes()), "null");
    }
    let long_double = one(|blob| blob.float("long double", 16));
    assert_eq!(json(&long_double, &[1; 16]), "null");
    let pointer = one(|blob| blob.ptr(0));
    assert_eq!(json(&pointer, &u64::MAX.to_le_bytes()), u64::MAX.to_string());
}

#[test]
fn every_double_parses_to_the_same_value() {
    let double = one(|blob| blob.float("double", 8));
    let float = one(|blob| blob.float("float", 4));
    let mut random = Random(1);
    for _ in 0..20_000 {
        let bits = random.next();
        let (value, short) = (f64::from_bits(bits), f32::from_bits(bits as u32));
        if value.is_finite() {
            assert_eq!(json(&double, &value.to_le_bytes()).parse::<f64>().unwrap().to_bits(), bits);
        }
        if short.is_finite() {
            assert_eq!(json(&float, &short.to_le_bytes()).parse::<f32>().unwrap().to_bits(), bits as u32);
        }
    }
}

#[test]
fn bit_fields_of_any_offset_and_width_are_read() {
    let mut blob = Blob::new();
    let (u8, u64) = (blob.int("unsigned char", 1, 0), blob.int("unsigned long long", 8, 0));
    let (int, u128) = (blob.int("int", 4, SIGNED), blob.int("unsigned __int128", 16, 0));
    let (i128, boolean) = (blob.int("__int128", 16, SIGNED), blob.int("_Bool", 1, BOOL));
    let color = blob.enumeration("color", 4, true, &[("RED", 1), ("NONE", -1)]);
    let plain = blob.enumeration("plain", 4, false, &[("SEVEN", 7)]);
    let placed = [
        ("a", u8, (0, 3)),
        ("b", int, (3, 7)),
        ("c", u64, (10, 61)),
        ("d", boolean, (71, 1)),
        ("e", color, (72, 2)),
        ("f", color, (74, 2)),
        ("g", plain, (76, 3)),
        ("h", plain, (79, 3)),
        ("i", u128, (85, 124)),
        ("j", i128, (212, 128)),
        ("k", int, (352, 0)),
    ];
    blob.bit_fields("bits", 48, &placed);
    let ty = last_type(&blob);
    let values: [(u32, u32, u128); 11] = [
        (0, 3, 5),
        (3, 7, 0x7f),
        (10, 61, 0x1abc_def0_1234_5678),
        (71, 1, 1),
        (72, 2, 3),
        (74, 2, 2),
        (76, 3, 7),
        (79, 3, 6),
        (85, 124, (1 << 124) - 2),
        (212, 128, u128::MAX - 4),
        (352, 32, 77),
    ];
    let mut record = [0u8; 48];
    for (start, width, value) in values {
        for bit in (0..width).filter(|bit| value >> bit & 1 == 1) {
            record[(start + bit) as usize / 8] |= 1 << ((start + bit) % 8);
        }
    }
    let expected = format!(
        "{{\"a\":5,\"b\":-1,\"c\":{},\"d\":true,\"e\":\"NONE\",\"f\":-2,\"g\":\"SEVEN\",\"h\":6,\"i\":\"{}\",\
         \"j\":\"-5\",\"k\":77}}",
        0x1abc_def0_1234_5678u64,
        (1u128 << 124) - 2
    );
    assert_eq!(json(&ty, &record), expected);
}

#[test]
fn bit_fields_of_old_compilers_are_read() {
    let mut blob = Blob::new();
    let low = blob.int_bits("unsigned int", 4, 0, 0, 3);
    let high = blob.int_bits("int", 4, SIGNED, 3, 5);
    blob.structure(STRUCT, "bits", 4, &[("low", low, 0), ("high", high, 0)]);
    assert_eq!(json(&last_type(&blob), &[0b1111_1101, 0xff, 0xff, 0xff]), "{\"low\":5,\"high\":-1}");
}

#[test]
fn strings_end_at_a_nul_or_with_the_array() {
    let text = one(|blob| {
        let character = blob.int("char", 1, SIGNED);
        let alias = blob.alias(TYPEDEF, "letter", character);
        blob.array(alias, 8)
    });
    assert!(text.is_string());
    for (bytes, expected) in [
        (&b"bash\0xyz"[..], "bash"),
        (b"\0bcdefgh", ""),
        (b"12345678", "12345678"),
        (b"a\"b\\c\n\x01\0", "a\\\"b\\\\c\\n\\u0001"),
        (b"\t\r\x08\x0c\x7f/<\0", "\\t\\r\\b\\f\x7f/<"),
        ("Zoë€\0".as_bytes(), "Zoë€"),
        (b"ab\xff\xc3(\0\0\0", "ab\u{fffd}\u{fffd}("),
        // The array ends inside the euro sign.
        (b"123456\xe2\x82", "123456\u{fffd}"),
        (b"\xed\xa0\x80\0\0\0\0\0", "\u{fffd}\u{fffd}\u{fffd}"),
    ] {
        assert_eq!(json(&text, bytes), format!("\"{expected}\""), "{bytes:?}");
    }
}

#[test]
fn long_strings_of_any_bytes_are_valid_json() {
    let text = one(|blob| {
        let character = blob.int("char", 1, SIGNED);
        blob.array(character, 300)
    });
    let mut random = Random(2);
    for round in 0..2000 {
        let len = random.below(301);
        let mut record = vec![b'x'; len];
        // One byte is random, or nearly all bytes are.
        let odd = if round % 2 == 0 { 1 } else { len };
        for _ in 0..odd.min(len) {
            let at = random.below(len);
            record[at] = random.next() as u8;
        }
        let end = record.iter().position(|byte| *byte == 0).unwrap_or(len);
        let read: String = serde_json::from_str(&json(&text, &record)).unwrap();
        assert_eq!(read, String::from_utf8_lossy(&record[..end]));
    }
}

#[test]
fn only_plain_char_arrays_are_strings() {
    let bytes = one(|blob| {
        let byte = blob.int("unsigned char", 1, 0);
        let alias = blob.alias(TYPEDEF, "__u8", byte);
        blob.array(alias, 3)
    });
    assert_eq!(json(&bytes, b"a\0\xff"), "[97,0,255]");
    let signed = one(|blob| {
        let byte = blob.int("signed char", 1, SIGNED);
        blob.array(byte, 2)
    });
    assert_eq!(json(&signed, b"a\xff"), "[97,-1]");
    let single = one(|blob| blob.int("char", 1, SIGNED));
    assert_eq!(json(&single, b"a"), "97");
}

#[test]
fn enums_are_names_or_numbers() {
    let color = one(|blob| {
        let same = [("RED", 0), ("GREEN", 5), ("ALSO_GREEN", 5), ("NONE", -3)];
        blob.enumeration("color", 4, false, &same)
    });
    let shown = |value: i32| json(&color, &value.to_le_bytes());
    assert_eq!([shown(0), shown(5), shown(-3), shown(4)], ["\"RED\"", "\"GREEN\"", "\"NONE\"", "4"]);
    assert_eq!(shown(-1), "-1");
    let flags = one(|blob| blob.enumeration("flags", 4, false, &[("A", 1), ("B", 2)]));
    assert_eq!(json(&flags, &3u32.to_le_bytes()), "3");
    assert_eq!(json(&flags, &u32::MAX.to_le_bytes()), u32::MAX.to_string());
    let packed = one(|blob| blob.enumeration("tiny", 1, false, &[("NINE", 9)]));
    assert_eq!([json(&packed, &[9]), json(&packed, &[200])], ["\"NINE\"", "200"]);
    let packed_signed = one(|blob| blob.enumeration("tiny", 1, true, &[("MINUS", -2)]));
    assert_eq!([json(&packed_signed, &[254]), json(&packed_signed, &[255])], ["\"MINUS\"", "-1"]);
}

#[test]
fn wide_enums_are_names_or_numbers() {
    let unsigned = one(|blob| blob.enumeration64("big", false, &[("TOP", 1 << 63), ("TWO", 2)]));
    let shown = |value: u64| json(&unsigned, &value.to_le_bytes());
    assert_eq!([shown(1 << 63), shown(2)], ["\"TOP\"", "\"TWO\""]);
    assert_eq!(shown(u64::MAX), u64::MAX.to_string());
    let signed = one(|blob| blob.enumeration64("big", true, &[("MINUS", u64::MAX)]));
    assert_eq!(json(&signed, &u64::MAX.to_le_bytes()), "\"MINUS\"");
    assert_eq!(json(&signed, &(u64::MAX - 1).to_le_bytes()), "-2");
    // Before ENUM64, compilers truncated such constants to 32 bits, so their names would be wrong.
    let cut = one(|blob| blob.enumeration("cut", 8, false, &[("TOP", 0)]));
    assert_eq!([json(&cut, &[0; 8]), json(&cut, &(1u64 << 32).to_le_bytes())], ["0", "4294967296"]);
}

#[test]
fn nested_structs_are_objects_unless_they_are_anonymous() {
    let mut blob = Blob::new();
    let int = blob.int("int", 4, SIGNED);
    let float = blob.float("float", 4);
    let pair = blob.structure(STRUCT, "pair", 8, &[("x", int, 0), ("y", int, 32)]);
    let either = blob.structure(UNION, "either", 4, &[("i", int, 0), ("f", float, 0)]);
    let innermost = blob.structure(STRUCT, "", 4, &[("deep", int, 0)]);
    let nameless = blob.structure(UNION, "", 4, &[("u", int, 0), ("", innermost, 0)]);
    let empty = blob.structure(STRUCT, "", 0, &[]);
    let pairs = blob.array(pair, 2);
    let members = [
        ("", empty, 0),
        ("pair", pair, 0),
        ("either", either, 64),
        ("", nameless, 96),
        ("pairs", pairs, 128),
        ("none", empty, 256),
    ];
    blob.structure(STRUCT, "outer", 32, &members);
    let record = [1u32, 2, 1f32.to_bits(), 4, 5, 6, 7, 8].map(u32::to_le_bytes).concat();
    let expected = "{\"pair\":{\"x\":1,\"y\":2},\"either\":{\"i\":1065353216,\"f\":1.0},\"u\":4,\"deep\":4,\
                    \"pairs\":[{\"x\":5,\"y\":6},{\"x\":7,\"y\":8}],\"none\":{}}";
    assert_eq!(json(&last_type(&blob), &record), expected);
}

#[test]
fn arrays_keep_their_dimensions() {
    let mut blob = Blob::new();
    let short = blob.int("short", 2, SIGNED);
    let row = blob.array(short, 3);
    blob.array(row, 2);
    let record = [1i16, -2, 3, 4, 5, -6].map(i16::to_le_bytes).concat();
    assert_eq!(json(&last_type(&blob), &record), "[[1,-2,3],[4,5,-6]]");
    let mut blob = Blob::new();
    let character = blob.int("char", 1, SIGNED);
    let name = blob.array(character, 4);
    blob.array(name, 2);
    assert_eq!(json(&last_type(&blob), b"ab\0xcdef"), "[\"ab\",\"cdef\"]");
    let mut blob = Blob::new();
    let int = blob.int("int", 4, SIGNED);
    blob.array(int, 0);
    assert_eq!(json(&last_type(&blob), &[]), "[]");
}

/// Returns a struct with members of all kinds, with a flexible array at the end unless `fixed`.
fn everything(element: &str, fixed: bool) -> Arc<Type> {
    let mut blob = Blob::new();
    let (int, character) = (blob.int("int", 4, SIGNED), blob.int("char", 1, SIGNED));
    let (wide, double) = (blob.int("__int128", 16, SIGNED), blob.float("double", 8));
    let color = blob.enumeration("color", 4, true, &[("ZERO", 0)]);
    let comm = blob.array(character, 7);
    let pair = blob.structure(STRUCT, "pair", 8, &[("x", int, 0), ("y", int, 32)]);
    let pairs = blob.array(pair, 2);
    let rest = match element {
        "char" => blob.array(character, 0),
        "int" => blob.array(int, 0),
        "pair" => blob.array(pair, 0),
        _ => int,
    };
    let mut members = vec![
        ("wide", wide, (0, 0)),
        ("double", double, (128, 0)),
        ("color", color, (192, 0)),
        ("pairs", pairs, (224, 0)),
        ("bits", int, (352, 5)),
        ("comm", comm, (360, 0)),
    ];
    if !fixed {
        members.push(("rest", rest, (416, 0)));
    }
    blob.bit_fields("everything", 52, &members);
    last_type(&blob)
}

#[test]
fn a_short_record_reads_as_zero_beyond_its_end() {
    let ty = everything("", true);
    let record = Random(3).bytes(ty.size);
    let plan = Plan::new(&ty).unwrap();
    for len in 0..=record.len() {
        let mut padded = record[..len].to_vec();
        padded.resize(ty.size, 0);
        let (mut short, mut full) = (Vec::new(), Vec::new());
        plan.json(&record[..len], &clock(), &mut short);
        plan.json(&padded, &clock(), &mut full);
        assert_eq!(short, full, "{len} bytes");
        short.clear();
        full.clear();
        plan.text_row(b"00:00:00", &record[..len], &clock(), &mut short);
        plan.text_row(b"00:00:00", &padded, &clock(), &mut full);
        assert_eq!(short, full, "{len} bytes as text");
    }
}

#[test]
fn a_flexible_array_has_the_elements_of_the_record() {
    let rest = |element: &str, rest: &[u8]| {
        let mut record = vec![0; 52];
        record.extend(rest);
        let value: serde_json::Value =
            serde_json::from_str(&json(&everything(element, false), &record)).unwrap();
        value["rest"].to_string()
    };
    assert_eq!(rest("char", b"hello\0rest"), "\"hello\"");
    assert_eq!(rest("char", b""), "\"\"");
    assert_eq!(rest("int", &[1, 0, 0, 0, 2, 0, 0, 0, 3]), "[1,2]");
    assert_eq!(rest("int", &[]), "[]");
    assert_eq!(rest("pair", &[1, 0, 0, 0, 2, 0, 0, 0]), "[{\"x\":1,\"y\":2}]");
    assert_eq!(json(&everything("int", false), &[]).matches("\"rest\":[]").count(), 1);
}

#[test]
fn a_flexible_array_that_is_not_last_is_empty() {
    let mut blob = Blob::new();
    let (int, character) = (blob.int("int", 4, SIGNED), blob.int("char", 1, SIGNED));
    let (none, text) = (blob.array(int, 0), blob.array(character, 0));
    blob.structure(STRUCT, "s", 4, &[("none", none, 0), ("text", text, 0), ("x", int, 0)]);
    assert_eq!(json(&last_type(&blob), b"\x07\0\0\0more"), "{\"none\":[],\"text\":\"\",\"x\":7}");
}

#[test]
fn names_are_escaped_once() {
    let mut blob = Blob::new();
    let int = blob.int("int", 4, SIGNED);
    blob.structure(STRUCT, "s", 4, &[("a\"\\\n", int, 0)]);
    assert_eq!(json(&last_type(&blob), &[1, 0, 0, 0]), "{\"a\\\"\\\\\\n\":1}");
}

#[test]
fn long_names_and_many_members_fit() {
    let mut blob = Blob::new();
    let int = blob.int("int", 4, SIGNED);
    let names: Vec<String> = (0..500).map(|i| format!("{i}{}", "n".repeat(i))).collect();
    let members: Vec<_> = (0..).zip(&names).map(|(i, name)| (name.as_str(), int, 32 * i)).collect();
    blob.structure(STRUCT, "s", 2000, &members);
    let record: Vec<u8> = (0..500i32).flat_map(|i| (i * -4_000_000).to_le_bytes()).collect();
    let expected: Vec<String> =
        (0..500).map(|i| format!("\"{}\":{}", names[i], i as i32 * -4_000_000)).collect();
    assert_eq!(json(&last_type(&blob), &record), format!("{{{}}}", expected.join(",")));
}

#[test]
fn a_struct_can_be_built_from_members() {
    let mut blob = Blob::new();
    let int = blob.int("int", 4, SIGNED);
    let btf = Btf::parse(&blob.bytes()).unwrap();
    let int = Type::from_btf(&btf, int).unwrap();
    let members = vec![
        eunomia::types::Field::member("late", int.clone(), 8),
        eunomia::types::Field::member("early", int.clone(), 0),
        eunomia::types::Field::member("outside", int, u32::MAX),
    ];
    let ty = Type::structure("picked", 12, members).unwrap();
    assert_eq!(ty.name, "struct picked");
    let record = [1u32, 2, 3].map(u32::to_le_bytes).concat();
    assert_eq!(json(&ty, &record), "{\"late\":3,\"early\":1,\"outside\":0}");
}

#[test]
fn members_of_old_packages_are_parsed() {
    let members = [
        ("pid", "int", "i32", 0),
        ("size", "unsigned int", "i32", 32),
        ("ts", "unsigned long long", "i64", 64),
        ("ok", "bool", "i8", 128),
        ("mac", "unsigned char [3]", "[3 x i8]", 136),
        ("comm", "char [8]", "[8 x i8]", 160),
        ("uid", "uid_t", "i32", 224),
        ("off", "loff_t", "i64", 256),
        ("grid", "short [2][2]", "[2 x [2 x i16]]", 320),
        ("sk", "struct sock *", "%struct.sock*", 384),
        ("ratio", "double", "double", 448),
        ("key", "struct key", "%struct.key", 512),
        ("big", "unsigned __int128", "i128", 640),
    ];
    let ty = Type::from_c_members("event", 96, &members).unwrap();
    let names: Vec<_> = ty.fields.iter().map(|field| &*field.ty.name).collect();
    assert_eq!(names[4..9], ["unsigned char[3]", "char[8]", "uid_t", "loff_t", "short[2][2]"]);
    let mut record = vec![0xff; 96];
    record[16] = 1;
    record[20..28].copy_from_slice(b"bash\0\0\0\0");
    record[56..64].copy_from_slice(&0.5f64.to_le_bytes());
    let expected = "{\"pid\":-1,\"size\":4294967295,\"ts\":18446744073709551615,\"ok\":true,\"mac\":[255,255,255],\
                    \"comm\":\"bash\",\"uid\":4294967295,\"off\":-1,\"grid\":[[-1,-1],[-1,-1]],\
                    \"sk\":18446744073709551615,\"ratio\":0.5,\
                    \"key\":[255,255,255,255,255,255,255,255,255,255,255,255,255,255,255,255],\
                    \"big\":\"340282366920938463463374607431768211455\"}";
    assert_eq!(json(&ty, &record), expected);
    for bad in [("x", "int", "i32", 3), ("x", "int", "i32", 96 * 8), ("x", "char [200]", "[200 x i8]", 0)] {
        assert!(Type::from_c_members("event", 96, &[bad]).is_err(), "{bad:?}");
    }
}

#[test]
fn records_of_unknown_type_are_hexadecimal() {
    let mut out = Vec::new();
    hex_json(b"\x00\xff\x1a", &mut out);
    assert_eq!(out, b"{\"data\":\"00ff1a\"}");
    out.clear();
    hex_json(&[], &mut out);
    assert_eq!(out, b"{\"data\":\"\"}");
}
