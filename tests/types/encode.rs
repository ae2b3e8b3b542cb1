//! JSON and command-line arguments to bytes.

use std::sync::Arc;

use eunomia::error::Status;
use eunomia::types::{Type, encode, encode_over, parse_text};
use serde_json::{Value, json};

use crate::blob::{BOOL, Blob, CONST, SIGNED, STRUCT, TYPEDEF, UNION};
use crate::{Random, last_type};

/// Returns a struct with a member of each kind.
fn sample() -> Arc<Type> {
    let mut blob = Blob::new();
    let mut members: Vec<(&str, u32, (u32, u32))> = Vec::new();
    let mut bit = 0;
    let mut add = |blob: &mut Blob, name, ty, bits: u32, width| {
        let _ = blob;
        members.push((name, ty, (bit, width)));
        bit += bits;
    };
    let sized = [("u8", 1, 0), ("u16", 2, 0), ("u32", 4, 0), ("u64", 8, 0), ("u128", 16, 0)];
    let signed =
        [("i8", 1, SIGNED), ("i16", 2, SIGNED), ("i32", 4, SIGNED), ("i64", 8, SIGNED), ("i128", 16, SIGNED)];
    for (name, size, encoding) in sized.into_iter().chain(signed) {
        let int = blob.int(name, size, encoding);
        add(&mut blob, name, int, 8 * size, 0);
    }
    let int = blob.int("int", 4, SIGNED);
    let constant = blob.alias(CONST, "", int);
    let character = blob.int("char", 1, SIGNED);
    let text = blob.array(character, 8);
    let row = blob.array(int, 2);
    let grid = blob.array(row, 2);
    let color = blob.enumeration("color", 4, true, &[("RED", 1), ("NONE", -1)]);
    let wide = blob.enumeration64("wide", false, &[("TOP", 1 << 63)]);
    let pair = blob.structure(STRUCT, "pair", 8, &[("x", int, 0), ("y", int, 32)]);
    let either = blob.structure(UNION, "either", 8, &[("a", int, 0), ("b", pair, 0)]);
    let nameless = blob.structure(UNION, "", 4, &[("inner", int, 0)]);
    let alias = blob.alias(TYPEDEF, "alias_t", constant);
    let (boolean, pointer) = (blob.int("_Bool", 1, BOOL), blob.ptr(0));
    let (float, double) = (blob.float("float", 4), blob.float("double", 8));
    for (name, ty, bits, width) in [
        ("char", character, 8, 0),
        ("bool", boolean, 8, 0),
        ("text", text, 64, 0),
        ("grid", grid, 128, 0),
        ("color", color, 32, 0),
        ("wide", wide, 64, 0),
        ("pair", pair, 64, 0),
        ("either", either, 64, 0),
        ("", nameless, 32, 0),
        ("alias", alias, 32, 0),
        ("ptr", pointer, 64, 0),
        ("float", float, 32, 0),
        ("double", double, 64, 0),
        ("b3", int, 3, 3),
        ("b7", int, 7, 7),
        ("e2", color, 6, 2),
    ] {
        add(&mut blob, name, ty, bits, width);
    }
    let size = bit / 8;
    assert_eq!(bit % 8, 0);
    blob.bit_fields("sample", size, &members);
    last_type(&blob)
}

fn member(name: &str) -> Arc<Type> {
    sample().member(name).unwrap().ty
}

fn encoded(ty: &Type, value: &Value) -> eunomia::error::Result<Vec<u8>> {
    let mut out = vec![0xaa; ty.size];
    encode(ty, value, &mut out).map(|()| out)
}

/// Encodes a value and decodes it again.
fn round(ty: &Arc<Type>, value: &Value) -> Value {
    let record = encoded(ty, value).unwrap_or_else(|error| panic!("{value} as {}: {error}", ty.name));
    serde_json::from_str(&crate::json(ty, &record)).unwrap()
}

fn refusal(ty: &Type, value: &Value) -> String {
    let error = encoded(ty, value).expect_err(&format!("{value} as {}", ty.name));
    assert_eq!(error.status(), Status::Type);
    error.message().to_owned()
}

#[test]
fn integers_are_checked_against_their_range() {
    for bits in [8u32, 16, 32, 64] {
        let (unsigned, signed) = (member(&format!("u{bits}")), member(&format!("i{bits}")));
        let top = u64::MAX >> (64 - bits);
        for value in [0, 1, top / 2, top] {
            assert_eq!(round(&unsigned, &json!(value)), json!(value));
        }
        let (lowest, highest) = (i64::MIN >> (64 - bits), i64::MAX >> (64 - bits));
        for value in [0, -1, lowest, highest] {
            assert_eq!(round(&signed, &json!(value)), json!(value));
        }
        assert_eq!(refusal(&unsigned, &json!(-1)), format!("-1 does not fit u{bits}"));
        let above = highest as u64 + 1;
        assert_eq!(refusal(&signed, &json!(above)), format!("{above} does not fit i{bits}"));
        if bits < 64 {
            assert_eq!(refusal(&unsigned, &json!(top + 1)), format!("{} does not fit u{bits}", top + 1));
            assert_eq!(refusal(&signed, &json!(lowest - 1)), format!("{} does not fit i{bits}", lowest - 1));
        }
    }
    assert_eq!(refusal(&member("u16"), &json!(70000)), "70000 does not fit u16");
}

#[test]
fn numbers_with_exponents_are_accepted_if_they_are_exact_integers() {
    let parsed = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    assert_eq!(round(&member("i32"), &parsed("1e3")), json!(1000));
    assert_eq!(round(&member("i32"), &parsed("-2.0")), json!(-2));
    assert_eq!(refusal(&member("i32"), &parsed("1.5")), "1.5 does not fit i32: not a whole number");
    assert!(refusal(&member("i64"), &parsed("9223372036854775808")).contains("does not fit i64"));
    assert!(refusal(&member("u64"), &parsed("18446744073709551616")).contains("does not fit u64"));
    assert!(refusal(&member("u64"), &parsed("1e300")).contains("does not fit u64"));
    assert!(refusal(&member("u128"), &parsed("18446744073709551617")).contains("write it as a string"));
}

#[test]
fn integers_of_128_bits_are_accepted_as_strings() {
    for (name, value) in [
        ("u128", u128::MAX.to_string()),
        ("i128", i128::MIN.to_string()),
        ("i128", i128::MAX.to_string()),
        ("i128", "-1".to_string()),
    ] {
        assert_eq!(round(&member(name), &json!(value)), json!(value));
    }
    assert_eq!(round(&member("i128"), &json!(-7)), json!("-7"));
    assert_eq!(refusal(&member("u128"), &json!("-1")), "-1 does not fit u128");
    assert_eq!(
        refusal(&member("i128"), &json!(u128::MAX.to_string())),
        format!("{} does not fit i128", u128::MAX)
    );
    assert!(refusal(&member("u128"), &json!("12x")).contains("\"12x\""));
    assert!(refusal(&member("u64"), &json!("12")).contains("is not a value of u64"));
}

#[test]
fn bools_chars_floats_and_pointers_accept_values_that_fit() {
    assert_eq!(round(&member("bool"), &json!(true)), json!(true));
    assert_eq!(round(&member("bool"), &json!(1)), json!(true));
    assert_eq!(refusal(&member("bool"), &json!(2)), "2 does not fit bool");
    assert_eq!(round(&member("u8"), &json!(true)), json!(1));
    assert_eq!(refusal(&member("u16"), &json!(true)), "true is not a value of u16");
    assert_eq!(round(&member("float"), &json!(1.5)), json!(1.5));
    assert_eq!(encoded(&member("float"), &json!(1.23)).unwrap(), 1.23f32.to_le_bytes());
    assert_eq!(refusal(&member("float"), &json!(1e300)), "1e+300 does not fit float");
    assert_eq!(round(&member("double"), &json!(3)), json!(3.0));
    assert_eq!(refusal(&member("double"), &json!("x")), "\"x\" is not a value of double");
    assert_eq!(round(&member("ptr"), &json!(u64::MAX)), json!(u64::MAX));
    assert_eq!(round(&member("alias"), &json!(-4)), json!(-4));
    assert!(refusal(&member("alias"), &Value::Null).contains("null is not a value of alias_t"));
}

#[test]
fn enums_accept_names_and_numbers() {
    assert_eq!(round(&member("color"), &json!("NONE")), json!("NONE"));
    assert_eq!(round(&member("color"), &json!(1)), json!("RED"));
    assert_eq!(round(&member("color"), &json!(17)), json!(17));
    assert_eq!(refusal(&member("color"), &json!("PINK")), "\"PINK\" is not a constant of enum color");
    assert_eq!(refusal(&member("color"), &json!(1u64 << 40)), format!("{} does not fit i32", 1u64 << 40));
    assert_eq!(round(&member("wide"), &json!("TOP")), json!("TOP"));
    assert_eq!(encoded(&member("wide"), &json!("TOP")).unwrap(), (1u64 << 63).to_le_bytes());
}

#[test]
fn strings_must_fit_with_their_nul() {
    assert_eq!(encoded(&member("text"), &json!("abc")).unwrap(), b"abc\0\0\0\0\0");
    assert_eq!(encoded(&member("text"), &json!("1234567")).unwrap(), b"1234567\0");
    assert_eq!(refusal(&member("text"), &json!("12345678")), "8 bytes and a NUL do not fit char[8]");
    assert_eq!(encoded(&member("text"), &json!([65, 66])).unwrap(), b"AB\0\0\0\0\0\0");
    assert!(refusal(&member("text"), &json!("a\0b")).contains("NUL"));
}

#[test]
fn omitted_members_and_elements_are_zero() {
    assert_eq!(round(&member("grid"), &json!([[1, 2]])), json!([[1, 2], [0, 0]]));
    assert_eq!(round(&member("pair"), &json!({"y": 3})), json!({"x": 0, "y": 3}));
    assert_eq!(round(&member("pair"), &json!({})), json!({"x": 0, "y": 0}));
    assert_eq!(round(&member("either"), &json!({"b": {"x": 1, "y": 2}}))["b"]["y"], json!(2));
    assert_eq!(refusal(&member("grid"), &json!([[1, 2, 3]])), "[0]: 3 values do not fit int[2]");
    assert_eq!(refusal(&member("pair"), &json!({"z": 1})), "member \"z\": struct pair has no such member");
    assert_eq!(refusal(&member("pair"), &json!({"x": "a"})), "member \"x\": \"a\" is not a value of int");
    assert_eq!(refusal(&member("pair"), &json!([1, 2])), "an array is not a value of struct pair");
}

#[test]
fn an_update_keeps_omitted_members_and_replaces_everything_else() {
    let ty = sample();
    let mut bytes = vec![0; ty.size];
    let all =
        json!({"u32": 7, "text": "letters", "grid": [[1, 2], [3, 4]], "pair": {"x": 5, "y": 6}, "b3": 3});
    encode(&ty, &all, &mut bytes).unwrap();
    encode_over(&ty, &json!({"pair": {"y": 8}, "text": "ab", "grid": [[9]], "b7": 1}), &mut bytes).unwrap();
    let read: Value = serde_json::from_str(&crate::json(&ty, &bytes)).unwrap();
    let kept =
        json!({"u32": 7, "text": "ab", "grid": [[9, 0], [0, 0]], "pair": {"x": 5, "y": 8}, "b3": 3, "b7": 1});
    for (name, value) in kept.as_object().unwrap() {
        assert_eq!(&read[name], value, "{name}");
    }
}

#[test]
fn bit_fields_are_checked_and_keep_their_neighbours() {
    let ty = sample();
    let value = json!({"b3": -4, "b7": 63, "e2": "NONE", "inner": 5});
    let read = round(&ty, &value);
    for (name, value) in value.as_object().unwrap() {
        assert_eq!(&read[name], value, "{name}");
    }
    assert_eq!(refusal(&ty, &json!({"b3": 4})), "member \"b3\": 4 does not fit i3");
    assert_eq!(refusal(&ty, &json!({"b7": -65})), "member \"b7\": -65 does not fit i7");
}

#[test]
fn rendered_values_encode_to_the_same_bytes() {
    let ty = sample();
    let mut random = Random(5);
    let text = ty.member("text").unwrap().bit_offset as usize / 8;
    for _ in 0..500 {
        let mut record = random.bytes(ty.size);
        // JSON can only represent terminated UTF-8 strings, bools of 0 and 1, and finite floats.
        record[text..text + 8].copy_from_slice(b"letters\0");
        let boolean = ty.member("bool").unwrap().bit_offset as usize / 8;
        record[boolean] &= 1;
        for name in ["float", "double"] {
            let field = ty.member(name).unwrap();
            record[field.bit_offset as usize / 8 + field.ty.size - 1] &= 0xbf;
        }
        let spare = record.len() - 1;
        record[spare] &= 0x0f;
        let value = serde_json::from_str(&crate::json(&ty, &record)).unwrap();
        assert_eq!(encoded(&ty, &value).unwrap(), record);
    }
}

#[test]
fn a_buffer_of_another_size_is_refused() {
    for len in [0, 3, 5] {
        assert!(encode(&member("i32"), &json!(1), &mut vec![0; len]).is_err());
    }
}

#[test]
fn long_values_are_shortened_in_messages() {
    let message = refusal(&member("u32"), &json!("ä".repeat(10_000)));
    assert!(message.len() < 200, "{message}");
}

#[test]
fn command_line_arguments_become_values() {
    let value = |name: &str, text: &str| parse_text(&member(name), text).ok();
    assert_eq!(value("i32", "-12"), Some(json!(-12)));
    assert_eq!(value("u32", "0x1F"), Some(json!(31)));
    assert_eq!(value("i32", "-0x10"), Some(json!(-16)));
    assert_eq!(value("u64", "18446744073709551615"), Some(json!(u64::MAX)));
    assert_eq!(value("i64", "-9223372036854775808"), Some(json!(i64::MIN)));
    assert_eq!(value("u128", &u128::MAX.to_string()), Some(json!(u128::MAX.to_string())));
    for text in ["", "-", "0x", "+1", "--1", "1.5", "12a", "1 ", "0x-1"] {
        assert_eq!(value("i32", text), None, "{text:?}");
    }
    for (text, expected) in [("true", true), ("false", false), ("1", true), ("0", false)] {
        assert_eq!(value("bool", text), Some(json!(expected)));
    }
    assert_eq!(value("bool", "yes"), None);
    assert_eq!(value("double", "1.5"), Some(json!(1.5)));
    assert_eq!(value("double", "nan"), None);
    assert_eq!(value("text", "12"), Some(json!("12")));
    assert_eq!(value("text", ""), Some(json!("")));
    assert_eq!(value("char", "x"), Some(json!(120)));
    assert_eq!(value("char", "7"), Some(json!(7)));
    assert_eq!(value("color", "RED"), Some(json!("RED")));
    assert_eq!(value("color", "-1"), Some(json!(-1)));
    assert_eq!(value("color", "PINK"), None);
    assert_eq!(value("grid", "[[1]]"), Some(json!([[1]])));
    assert_eq!(value("pair", "{\"x\":1}"), Some(json!({"x": 1})));
    assert_eq!(value("pair", "{"), None);
    let error = parse_text(&member("i32"), "abc").unwrap_err();
    assert_eq!((error.status(), error.message()), (Status::Type, "\"abc\" is not a value of i32"));
}
