//! Records as table rows and histograms.

use eunomia::render::{Plan, hex_header, hex_text, linear_hist, log2_hist};
use eunomia::types::Type;

use crate::blob::{BOOL, Blob, SIGNED, STRUCT};
use crate::{clock, last_type};

fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = b"earlier\n".to_vec();
    write(&mut out);
    String::from_utf8(out).unwrap().strip_prefix("earlier\n").unwrap().to_string()
}

fn plan(members: &[(&str, &str, &str, u32)], size: usize) -> Plan {
    Plan::new(&Type::from_c_members("event", size, members).unwrap()).unwrap()
}

#[test]
fn headers_are_in_capitals_and_at_least_six_wide() {
    let members = [
        ("arr1", "int [2]", "[2 x i32]", 0),
        ("str", "char [8]", "[8 x i8]", 64),
        ("str_arr", "char [8]", "[8 x i8]", 128),
        ("e", "int", "i32", 192),
    ];
    let header = text(|out| plan(&members, 28).text_header(out));
    assert_eq!(header, "TIME     ARR1   STR    STR_ARR E      ");
}

#[test]
fn values_are_aligned_with_their_headers_or_shifted() {
    let plan = plan(
        &[("pid", "u32", "i32", 0), ("comm", "char [16]", "[16 x i8]", 32), ("ret", "int", "i32", 160)],
        24,
    );
    let row = |pid: u32, comm: &[u8], ret: i32| {
        let mut record = pid.to_le_bytes().to_vec();
        record.extend(comm);
        record.resize(20, 0);
        record.extend(ret.to_le_bytes());
        text(|out| plan.text_row(b"12:34:56", &record, &clock(), out))
    };
    assert_eq!(text(|out| plan.text_header(out)), "TIME     PID    COMM   RET    ");
    assert_eq!(row(1, b"sh", -1), "12:34:56 1      sh     -1");
    assert_eq!(row(123_456, b"bash", 0), "12:34:56 123456 bash   0");
    assert_eq!(row(1_234_567, b"a", 0), "12:34:56 1234567 a     0");
    assert_eq!(row(1, b"sixteen-letters!", 7), "12:34:56 1      sixteen-letters! 7");
    assert_eq!(row(1, b"", 7), "12:34:56 1             7");
    // The width is in characters, not bytes; control characters are escaped, quotes are not.
    assert_eq!(row(1, "Zoë".as_bytes(), 7), "12:34:56 1      Zoë    7");
    assert_eq!(row(1, b"a\xff", 7), "12:34:56 1      a\u{fffd}     7");
    assert_eq!(row(1, b"a\"\n\x1b[0m\\", 7), "12:34:56 1      a\"\\n\\u001b[0m\\ 7");
}

#[test]
fn values_are_written_without_quotes() {
    let mut blob = Blob::new();
    let (int, character) = (blob.int("int", 4, SIGNED), blob.int("char", 1, SIGNED));
    let (wide, boolean) = (blob.int("__int128", 16, SIGNED), blob.int("_Bool", 1, BOOL));
    let (float, double) = (blob.float("float", 4), blob.float("double", 8));
    let color = blob.enumeration("color", 4, true, &[("RED", 1)]);
    let name = blob.array(character, 4);
    let names = blob.array(name, 2);
    let pair = blob.structure(STRUCT, "pair", 8, &[("c", color, 0), ("n", name, 32)]);
    let nameless = blob.structure(STRUCT, "", 4, &[("inner", int, 0)]);
    let members = [
        ("wide", wide, 0),
        ("ok", boolean, 128),
        ("f", float, 160),
        ("d", double, 192),
        ("color", color, 256),
        ("names", names, 288),
        ("pair", pair, 352),
        ("", nameless, 416),
    ];
    blob.structure(STRUCT, "event", 56, &members);
    let mut record = (-5i128).to_le_bytes().to_vec();
    record.extend([1, 0, 0, 0]);
    record.extend(1.23f32.to_le_bytes());
    record.extend(f64::NAN.to_le_bytes());
    record.extend(1u32.to_le_bytes());
    record.extend(b"ab\0\0cd\"\0");
    record.extend(1u32.to_le_bytes());
    record.extend(b"x\0\0\0");
    record.extend(9u32.to_le_bytes());
    let plan = Plan::new(&last_type(&blob)).unwrap();
    let header = text(|out| plan.text_header(out));
    assert_eq!(header, "TIME     WIDE   OK     F      D      COLOR  NAMES  PAIR   INNER  ");
    let row = text(|out| plan.text_row(b"00:00:00", &record, &clock(), out));
    let expected = "00:00:00 -5     true   1.2300000190734863 null RED [\"ab\",\"cd\\\"\"] {\"c\":\"RED\",\"n\":\"x\"} 9";
    assert_eq!(row, expected);
    let lines = text(|out| plan.text_members(&record, "names", &clock(), out));
    assert!(lines.starts_with("wide = -5\nok = true\n"), "{lines}");
    assert!(lines.ends_with("color = RED\npair = {\"c\":\"RED\",\"n\":\"x\"}\ninner = 9\n"), "{lines}");
}

#[test]
fn a_value_that_is_not_a_struct_is_one_column() {
    let mut blob = Blob::new();
    let character = blob.int("char", 1, SIGNED);
    blob.array(character, 8);
    let plan = Plan::new(&last_type(&blob)).unwrap();
    assert_eq!(text(|out| plan.text_header(out)), "TIME     VALUE  ");
    assert_eq!(text(|out| plan.text_row(b"01:02:03", b"name", &clock(), out)), "01:02:03 name");
}

#[test]
fn the_row_of_an_empty_struct_is_the_time() {
    let mut blob = Blob::new();
    blob.structure(STRUCT, "empty", 0, &[]);
    let plan = Plan::new(&last_type(&blob)).unwrap();
    assert_eq!(text(|out| plan.text_row(b"01:02:03", &[], &clock(), out)), "01:02:03");
}

#[test]
fn records_of_unknown_type_are_one_column() {
    assert_eq!(text(hex_header), "TIME     DATA   ");
    assert_eq!(text(|out| hex_text(b"12:34:56", b"\x00\xfe", out)), "12:34:56 00fe");
}

#[test]
fn slots_are_a_member_or_the_whole_value() {
    let hist = plan(&[("slots", "u32 [3]", "[3 x i32]", 32), ("comm", "char [4]", "[4 x i8]", 128)], 20);
    let record = [9u32, 1, 2, 3].map(u32::to_le_bytes).concat();
    assert_eq!(hist.slots(&record), Some(vec![1, 2, 3]));
    assert_eq!(hist.slots(&record[..10]), Some(vec![1, 2, 0]));
    assert_eq!(text(|out| hist.text_members(b"", "slots", &clock(), out)), "comm = \n");
    let mut blob = Blob::new();
    let int = blob.int("unsigned long long", 8, 0);
    blob.array(int, 2);
    let bare = Plan::new(&last_type(&blob)).unwrap();
    assert_eq!(bare.slots(&[u64::MAX, 4].map(u64::to_le_bytes).concat()), Some(vec![u64::MAX, 4]));
    assert_eq!(plan(&[("slots", "char [4]", "[4 x i8]", 0)], 4).slots(b"abcd"), None);
    assert_eq!(plan(&[("x", "int", "i32", 0)], 4).slots(b"abcd"), None);
}

#[test]
fn log2_histograms_look_like_those_of_bcc() {
    let expected = "     usecs               : count    distribution\n         \
        0 -> 1          : 1        |**********                              |\n         \
        2 -> 3          : 0        |                                        |\n         \
        4 -> 7          : 4        |****************************************|";
    assert_eq!(text(|out| log2_hist(&[1, 0, 4, 0, 0], "usecs", out)), expected);
    assert_eq!(text(|out| log2_hist(&[0, 0], "usecs", out)), "");
    assert_eq!(text(|out| log2_hist(&[], "usecs", out)), "");
}

#[test]
fn log2_histograms_of_large_values_are_wider() {
    let mut slots = vec![0; 33];
    slots[32] = 1;
    let narrow = text(|out| log2_hist(&slots, "nsecs", out));
    assert!(
        narrow.ends_with("4294967296 -> 8589934591 : 1        |****************************************|")
    );
    slots.resize(64, 0);
    slots[63] = u64::MAX;
    let wide = text(|out| log2_hist(&slots, "nsecs", out));
    assert!(
        wide.starts_with("               nsecs                         : count    distribution\n"),
        "{wide}"
    );
    let last = " 9223372036854775808 -> 18446744073709551615 : 18446744073709551615 |********************|";
    assert!(wide.ends_with(last), "{wide}");
    // More slots than a 64-bit value needs are accepted.
    assert!(text(|out| log2_hist(&[1; 100], "", out)).lines().count() == 101);
}

#[test]
fn linear_histograms_have_a_row_per_slot() {
    let expected = "     cpus                : count    distribution\n         \
        0               : 2        |****************************************|\n         \
        1               : 1        |********************                    |";
    assert_eq!(text(|out| linear_hist(&[2, 1, 0], "cpus", out)), expected);
    assert_eq!(text(|out| linear_hist(&[0], "cpus", out)), "");
}
