//! Formats of members: how values are written and read, and which members can have which format.

use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::{Command, Stdio};
use std::sync::Arc;

use eunomia::btf::Btf;
use eunomia::render::Plan;
use eunomia::types::{MemberFormats, Type, ValueFormat, encode, parse_text};
use serde_json::{Value, json};

use crate::blob::{BOOL, Blob, SIGNED, STRUCT, TYPEDEF, UNION};
use crate::{BOOT_TIME, Random, clock, json as json_text};

/// Returns the struct `event` with formats, all of which must fit.
fn event(blob: &Blob, members: &[(&str, &str)]) -> Arc<Type> {
    let mut complaints = Vec::new();
    let ty = event_with(blob, members, &mut complaints);
    assert_eq!(complaints, [""; 0]);
    ty
}

fn event_with(blob: &Blob, members: &[(&str, &str)], complaints: &mut Vec<String>) -> Arc<Type> {
    let btf = Btf::parse(&blob.bytes()).unwrap();
    let mut requested = members.iter().map(|(member, format)| ["event", member, format]);
    let formats = MemberFormats::new(&btf, &mut requested, &mut |[name, member, _], reason| {
        complaints.push(format!("{name}.{member}: {reason}"));
    });
    formats.type_from_btf(&btf, btf.find_struct("event").unwrap()).unwrap()
}

/// Returns a struct `event` with one member `m` of `size` bytes.
fn one(blob: &mut Blob, ty: u32, size: u32, format: &str) -> Arc<Type> {
    blob.structure(STRUCT, "event", size, &[("m", ty, 0)]);
    event(blob, &[("m", format)])
}

/// Returns the member `m` of a record as JSON.
fn value(ty: &Arc<Type>, record: &[u8]) -> Value {
    serde_json::from_str::<Value>(&json_text(ty, record)).unwrap()["m"].clone()
}

fn text(ty: &Arc<Type>, record: &[u8]) -> String {
    let mut out = Vec::new();
    Plan::new(ty).unwrap().text_row(b"12:34:56", record, &clock(), &mut out);
    String::from_utf8(out).unwrap().strip_prefix("12:34:56 ").unwrap().to_string()
}

fn unsigned(size: u32, format: &str) -> Arc<Type> {
    let mut blob = Blob::new();
    let int = blob.int("unsigned", size, 0);
    one(&mut blob, int, size, format)
}

fn signed(size: u32, format: &str) -> Arc<Type> {
    let mut blob = Blob::new();
    let int = blob.int("signed", size, SIGNED);
    one(&mut blob, int, size, format)
}

fn bytes(count: u32, format: &str) -> Arc<Type> {
    let mut blob = Blob::new();
    let byte = blob.int("unsigned char", 1, 0);
    let array = blob.array(byte, count);
    one(&mut blob, array, count, format)
}

#[test]
fn addresses_are_in_network_byte_order() {
    for ty in [unsigned(4, "ipv4"), signed(4, "ipv4"), bytes(4, "ipv4")] {
        assert_eq!(value(&ty, &[10, 0, 0, 1]), "10.0.0.1");
        assert_eq!(value(&ty, &[255; 4]), "255.255.255.255");
        assert_eq!(value(&ty, &[1]), "1.0.0.0", "a short record reads as zero");
        assert_eq!(text(&ty, &[192, 168, 100, 200]), "192.168.100.200");
    }
    let mac = bytes(6, "mac");
    assert_eq!(value(&mac, &[0x02, 0x42, 0xac, 0x11, 0x00, 0x0f]), "02:42:ac:11:00:0f");
    assert_eq!(text(&mac, &[0xff; 6]), "ff:ff:ff:ff:ff:ff");
}

#[test]
fn ipv6_addresses_are_written_as_in_rfc_5952() {
    let mut random = Random(0x6666);
    for ty in [unsigned(16, "ipv6"), bytes(16, "ipv6")] {
        for address in
            ["::", "::1", "1::", "2001:db8::1", "::ffff:10.0.0.1", "2001:db8:0:1:1:1:1:1", "1:0:0:2::3"]
        {
            let octets = address.parse::<Ipv6Addr>().unwrap().octets();
            assert_eq!(value(&ty, &octets), address);
            assert_eq!(text(&ty, &octets), address);
        }
        for _ in 0..5000 {
            let zeros = random.next();
            let octets: Vec<u8> = random
                .bytes(16)
                .iter()
                .enumerate()
                .map(|(at, byte)| if zeros >> (at / 2) & 3 < 2 { 0 } else { *byte })
                .collect();
            let address = Ipv6Addr::from(<[u8; 16]>::try_from(octets.as_slice()).unwrap());
            assert_eq!(value(&ty, &octets), address.to_string());
        }
    }
}

#[test]
fn errors_are_numbers_in_json_and_names_in_text() {
    let ret = signed(4, "errno");
    for (number, name) in
        [(-2, "ENOENT"), (-110, "ETIMEDOUT"), (-512, "ERESTARTSYS"), (0, "0"), (3, "3"), (-4000, "-4000")]
    {
        assert_eq!(value(&ret, &i32::to_le_bytes(number)), number);
        assert_eq!(text(&ret, &i32::to_le_bytes(number)), name);
    }
    let long = signed(8, "errno");
    assert_eq!(value(&long, &(-13i64).to_le_bytes()), -13);
    assert_eq!(text(&long, &(-13i64).to_le_bytes()), "EACCES");
    let error = unsigned(2, "errno");
    for (number, name) in [(2, "ENOENT"), (0, "0"), (4000, "4000")] {
        assert_eq!(value(&error, &u16::to_le_bytes(number)), number);
        assert_eq!(text(&error, &u16::to_le_bytes(number)), name);
    }
    // Structs and arrays in a table are JSON.
    let mut blob = Blob::new();
    let int = blob.int("int", 4, SIGNED);
    let array = blob.array(int, 2);
    let errors = one(&mut blob, array, 8, "errno");
    let record = [(-2i32).to_le_bytes(), 0i32.to_le_bytes()].concat();
    assert_eq!((value(&errors, &record), text(&errors, &record)), (json!([-2, 0]), "[-2,0]".to_owned()));
}

#[test]
fn signals_and_system_calls_are_names_and_always_strings() {
    for ty in [unsigned(4, "signal"), signed(4, "signal")] {
        for (number, name) in [(15u32, "SIGTERM"), (9, "SIGKILL"), (31, "SIGSYS"), (0, "0"), (34, "34")] {
            assert_eq!(value(&ty, &number.to_le_bytes()), name);
        }
    }
    let call = signed(8, "syscall");
    assert_eq!(value(&call, &462u64.to_le_bytes()), "mseal");
    assert_eq!(value(&call, &(-1i64).to_le_bytes()), "-1");
    assert_eq!(value(&call, &100_000u64.to_le_bytes()), "100000");
}

/// Returns the names and numbers that the C headers define with a prefix.
fn defined(header: &str, prefix: &str, flags: &[&str]) -> Vec<(String, i64)> {
    let clang = std::env::var("CLANG").unwrap_or_else(|_| "clang".to_string());
    let mut child = Command::new(clang)
        .args(["-E", "-dM", "-x", "c"])
        .args(flags)
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(format!("#include <{header}>\n").as_bytes()).unwrap();
    let output = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    let of_line = |line: &str| {
        let (name, number) = line.strip_prefix("#define ")?.split_once(' ')?;
        Some((name.strip_prefix(prefix)?.to_string(), number.parse().ok()?))
    };
    output.lines().filter_map(of_line).collect()
}

#[test]
fn names_match_the_headers_of_the_kernel() {
    let same = |ty: Arc<Type>, sign: i64, prefix: &str, numbers: Vec<(String, i64)>| {
        assert!(numbers.len() > 30, "{} names with {prefix}", numbers.len());
        for (name, number) in numbers {
            assert_eq!(text(&ty, &(sign * number).to_le_bytes()), format!("{prefix}{name}"), "{number}");
        }
    };
    same(signed(8, "errno"), -1, "E", defined("asm/errno.h", "E", &[]));
    #[cfg(target_arch = "x86_64")]
    same(signed(8, "syscall"), 1, "", defined("asm/unistd_64.h", "__NR_", &[]));
    let signals = defined("asm/signal.h", "SIG", &[]);
    let real = |(name, number): &(String, i64)| {
        (1..32).contains(number)
            && !name.starts_with('_')
            && !["IOT", "POLL", "UNUSED", "CLD"].contains(&name.as_str())
    };
    let signals: Vec<_> = signals.into_iter().filter(real).collect();
    same(signed(8, "signal"), 1, "SIG", signals.into_iter().chain([("HUP".into(), 1)]).collect());
}

#[test]
fn hexadecimal_digits_are_as_wide_as_the_number() {
    assert_eq!(value(&unsigned(4, "hex"), &[0xef, 0xbe, 0, 0]), "0xbeef");
    assert_eq!(value(&unsigned(8, "hex"), &[0; 8]), "0x0");
    assert_eq!(value(&unsigned(8, "hex"), &[0xff; 8]), "0xffffffffffffffff");
    assert_eq!(value(&signed(2, "hex"), &[0xfe, 0xff]), "0xfffe");
    assert_eq!(value(&unsigned(16, "hex"), &[0x11; 16]), format!("0x{}", "11".repeat(16)));
    assert_eq!(text(&unsigned(1, "hex"), &[7]), "0x7");
    let hash = bytes(20, "hex");
    assert_eq!(value(&hash, &[0xab; 20]), "ab".repeat(20));
    assert_eq!(value(&hash, &[1, 2]), format!("0102{}", "00".repeat(18)));
    let mut blob = Blob::new();
    let byte = blob.int("unsigned char", 1, 0);
    let flexible = blob.array(byte, 0);
    let ty = one(&mut blob, flexible, 0, "hex");
    assert_eq!(value(&ty, &[1, 2, 0xff]), "0102ff", "a flexible array has what the record has");
    let mut blob = Blob::new();
    let int = blob.int("int", 4, SIGNED);
    let pointer = blob.ptr(int);
    assert_eq!(value(&one(&mut blob, pointer, 8, "hex"), &[0, 0, 0, 0, 1]), "0x100000000");
}

#[test]
fn times_match_the_date_command() {
    let ty = unsigned(8, "ktime");
    assert_eq!(value(&ty, &1u64.to_le_bytes()), "2023-11-14T22:13:20.000000001Z");
    assert_eq!(text(&ty, &123_456_789_012u64.to_le_bytes()), "2023-11-14T22:15:23.456789012Z");
    let signed = signed(8, "ktime");
    let days: Vec<i64> = (19_676..106_751).step_by(13).collect();
    let input: String = days.iter().map(|day| format!("@{}\n", day * 86_400 + 80_000)).collect();
    let mut date = Command::new("date")
        .args(["-u", "-f", "-", "+%Y-%m-%dT%H:%M:%S.000000000Z"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = date.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()).unwrap());
    let expected = String::from_utf8(date.wait_with_output().unwrap().stdout).unwrap();
    writer.join().unwrap();
    assert_eq!(expected.lines().count(), days.len());
    for (day, expected) in days.iter().zip(expected.lines()) {
        let since_boot = (day * 86_400 + 80_000) * 1_000_000_000 - BOOT_TIME;
        assert_eq!(value(&signed, &since_boot.to_le_bytes()), expected);
    }
    assert_eq!(value(&ty, &[0xff; 8]), "2262-04-11T23:47:16.854775807Z", "the last time that can be written");
}

#[test]
fn durations_are_numbers_in_json_and_readable_in_text() {
    let ty = unsigned(8, "duration");
    for (ns, expected) in [
        (0u64, "0ns"),
        (999, "999ns"),
        (1_000, "1.000us"),
        (1_500_999, "1.500ms"),
        (999_999_999, "999.999ms"),
        (1_000_000_000, "1.000s"),
        (59_999_999_999, "59.999s"),
        (60_000_000_000, "1m00s"),
        (3_599_000_000_000, "59m59s"),
        (97_205_000_000_000, "27h00m05s"),
        (u64::MAX, "5124095h34m33s"),
    ] {
        assert_eq!(text(&ty, &ns.to_le_bytes()), expected);
        assert_eq!(value(&ty, &ns.to_le_bytes()), ns);
    }
}

#[test]
fn a_stack_ends_at_the_first_zero() {
    let mut blob = Blob::new();
    let long = blob.int("unsigned long long", 8, 0);
    let array = blob.array(long, 4);
    let ty = one(&mut blob, array, 32, "stack");
    let record = |frames: &[u64]| frames.iter().flat_map(|frame| frame.to_le_bytes()).collect::<Vec<u8>>();
    assert_eq!(
        value(&ty, &record(&[0xffff_ffff_8100_0000, 0x4000, 0, 7])),
        json!(["0xffffffff81000000", "0x4000"])
    );
    assert_eq!(value(&ty, &record(&[0, 1, 2, 3])), json!([]));
    assert_eq!(value(&ty, &record(&[1, 2, 3, 4, 5])), json!(["0x1", "0x2", "0x3", "0x4"]));
    assert_eq!(value(&ty, &record(&[1])), json!(["0x1"]), "and with the record");
    assert_eq!(value(&ty, &record(&[1, 0x1234])[..10]), json!(["0x1", "0x1234"]), "even within a frame");
    assert_eq!(text(&ty, &record(&[1, 2])), r#"["0x1","0x2"]"#);
}

#[test]
fn formats_apply_to_elements_nested_members_and_typedefs() {
    let mut blob = Blob::new();
    let int = blob.int("unsigned int", 4, 0);
    let byte = blob.int("unsigned char", 1, 0);
    let wide = blob.array(byte, 16);
    let four = blob.array(int, 2);
    let either = blob.structure(UNION, "", 16, &[("v4", int, 0), ("v6", wide, 0)]);
    let args = blob.structure(STRUCT, "", 8, &[("saddr", int, 0), ("port", int, 32)]);
    let pair = blob.array(args, 2);
    let untagged = blob.structure(STRUCT, "", 4, &[("addr", int, 0)]);
    let named = blob.entry("addr_t", TYPEDEF, 0, false, untagged, &[]);
    let members = [
        ("", either, 0),
        ("args", args, 128),
        ("pair", pair, 192),
        ("list", four, 320),
        ("named", named, 384),
    ];
    blob.structure(STRUCT, "event", 52, &members);
    let btf = Btf::parse(&blob.bytes()).unwrap();
    let wanted =
        [("v4", "ipv4"), ("v6", "ipv6"), ("args.saddr", "ipv4"), ("pair.saddr", "ipv4"), ("list", "ipv4")];
    let wanted = wanted.iter().map(|(member, format)| ["event", member, format]);
    let mut wanted = wanted.chain([["addr_t", "addr", "hex"]]);
    let mut complain = |[_, member, _]: [&str; 3], reason: &str| panic!("{member}: {reason}");
    let formats = MemberFormats::new(&btf, &mut wanted, &mut complain);
    let ty = formats.type_from_btf(&btf, btf.find_struct("event").unwrap()).unwrap();
    let record: Vec<u8> = (1..=52).collect();
    let expected = json!({
        "v4": "1.2.3.4", "v6": "102:304:506:708:90a:b0c:d0e:f10",
        "args": {"saddr": "17.18.19.20", "port": 0x1817_1615},
        "pair": [{"saddr": "25.26.27.28", "port": 0x201f_1e1d}, {"saddr": "33.34.35.36", "port": 0x2827_2625}],
        "list": ["41.42.43.44", "45.46.47.48"], "named": {"addr": "0x34333231"},
    });
    assert_eq!(serde_json::from_str::<Value>(&json_text(&ty, &record)).unwrap(), expected);
    let mut again = vec![0; 52];
    encode(&ty, &expected, &mut again).unwrap();
    assert_eq!(again, record, "what is written can be set");
}

#[test]
fn in_addr_is_an_address_and_be32_is_a_number() {
    let mut blob = Blob::new();
    let int = blob.int("unsigned int", 4, 0);
    let be32 = blob.entry("__be32", TYPEDEF, 0, false, int, &[]);
    let byte = blob.int("unsigned char", 1, 0);
    let wide = blob.array(byte, 16);
    let v4 = blob.structure(STRUCT, "in_addr", 4, &[("s_addr", be32, 0)]);
    let v6 = blob.structure(STRUCT, "in6_addr", 16, &[("in6_u", wide, 0)]);
    blob.structure(STRUCT, "event", 24, &[("from", v4, 0), ("to", v6, 32), ("raw", be32, 160)]);
    let ty = event(&blob, &[]);
    let mut record = vec![127, 0, 0, 1];
    record.extend(Ipv6Addr::LOCALHOST.octets());
    record.extend([1, 0, 0, 0]);
    assert_eq!(json_text(&ty, &record), r#"{"from":"127.0.0.1","to":"::1","raw":1}"#);
    assert_eq!(text(&ty, &record), "127.0.0.1 ::1 1");
    // An address outside of a struct is one column, and its members can still be set.
    let address = &ty.member("from").unwrap().ty;
    assert_eq!(text(address, &record), "127.0.0.1");
    for given in [json!("127.0.0.1"), json!({"s_addr": 0x0100_007f})] {
        let mut out = [0; 4];
        encode(address, &given, &mut out).unwrap();
        assert_eq!(out, [127, 0, 0, 1], "{given}");
    }
    assert_eq!(parse_text(address, "10.0.0.1").unwrap(), "10.0.0.1");
    assert_eq!(parse_text(address, r#"{"s_addr":1}"#).unwrap(), json!({"s_addr": 1}));
}

#[test]
fn formats_that_do_not_fit_are_ignored_and_reported() {
    let mut blob = Blob::new();
    let int = blob.int("unsigned int", 4, 0);
    let boolean = blob.int("bool", 1, BOOL);
    let float = blob.float("double", 8);
    let color = blob.enumeration("color", 4, true, &[("RED", 1)]);
    let members = [("i", int, 0), ("b", boolean, 32), ("f", float, 64), ("c", color, 128)];
    blob.structure(STRUCT, "event", 24, &members);
    let mut complaints = Vec::new();
    let wanted = [
        ("i", "mac"),
        ("b", "hex"),
        ("f", "duration"),
        ("c", "errno"),
        ("c.RED", "hex"),
        ("gone", "hex"),
        ("i.x", "hex"),
    ];
    let ty = event_with(&blob, &wanted, &mut complaints);
    complaints.sort();
    assert_eq!(
        complaints,
        [
            "event.b: the format requires an integer, a pointer or bytes",
            "event.c.RED: there is no such member",
            "event.c: the format requires an integer",
            "event.f: the format requires an integer of 64 bits",
            "event.gone: there is no such member",
            "event.i.x: there is no such member",
            "event.i: the format requires 6 bytes",
        ]
    );
    assert_eq!(json_text(&ty, &[0; 24]), r#"{"i":0,"b":false,"f":0.0,"c":0}"#);
    let btf = Btf::parse(&blob.bytes()).unwrap();
    complaints.clear();
    let mut requested = [["nothing", "a", "hex"], ["event", "i", "of later versions"]].into_iter();
    MemberFormats::new(&btf, &mut requested, &mut |[name, member, _], reason| {
        complaints.push(format!("{name}.{member}: {reason}"));
    });
    assert_eq!(complaints, ["event.i: there is no such format", "nothing.a: the object has no such struct"]);
    let mut blob = Blob::new();
    let int = blob.int("unsigned int", 4, 0);
    blob.bit_fields("event", 4, &[("bits", int, (0, 7))]);
    complaints.clear();
    event_with(&blob, &[("bits", "hex")], &mut complaints);
    assert_eq!(complaints, ["event.bits: the member is a bit-field"]);
}

#[test]
fn several_strings_in_one_array_are_all_written() {
    let args = bytes(16, "strings");
    let cases: [(&[u8], Value, &str); 9] = [
        (b"ls\0-l\0/tmp\0", json!(["ls", "-l", "/tmp"]), "ls -l /tmp"),
        (b"one", json!(["one"]), "one"),
        (b"", json!([]), ""),
        (&[0; 16], json!([]), ""),
        (b"a\0\0b\0", json!(["a", "", "b"]), "a  b"),
        (b"\0a", json!(["", "a"]), " a"),
        (b"sixteen characte", json!(["sixteen characte"]), "sixteen characte"),
        (b"a \"b\"\\\0\n\x1b", json!(["a \"b\"\\", "\n\u{1b}"]), "a \"b\"\\ \\n\\u001b"),
        (b"\xff\0\xc3", json!(["\u{fffd}", "\u{fffd}"]), "\u{fffd} \u{fffd}"),
    ];
    for (record, in_json, in_text) in cases {
        assert_eq!(value(&args, record), in_json, "{record:?}");
        assert_eq!(text(&args, record).trim_end(), in_text.trim_end(), "{record:?}");
    }
    let rest = bytes(0, "strings");
    assert_eq!(value(&rest, b"as\0many\0as\0there\0are\0"), json!(["as", "many", "as", "there", "are"]));
    assert_eq!(text(&rest, b"a\0b"), "a b");
    // The longest output fits the announced size.
    for record in [[1u8; 16], *b"\x01\0\x01\0\x01\0\x01\0\x01\0\x01\0\x01\0\x01\0", [0xff; 16]] {
        assert!(json_text(&args, &record).len() <= Plan::new(&args).unwrap().max_json_len());
    }
    // The announced size is not far above it: a byte takes six characters at most, or three as a hexadecimal number.
    assert!(Plan::new(&args).unwrap().max_json_len() < 6 * 16 + 100);
    assert!(Plan::new(&bytes(16, "hex")).unwrap().max_json_len() < 3 * 16 + 100);
    let mut out = vec![7; 16];
    encode(&args, &json!({"m": ["ls", "", "/tmp"]}), &mut out).unwrap();
    assert_eq!(out, b"ls\0\0/tmp\0\0\0\0\0\0\0\0");
    encode(&args, &json!({"m": [65, 0, 66]}), &mut out).unwrap();
    assert_eq!(out[..4], *b"A\0B\0");
    for wrong in [json!({"m": ["a", 1]}), json!({"m": ["seventeen", "letters"]}), json!({"m": ["a\0b"]})] {
        assert!(encode(&args, &wrong, &mut out).is_err(), "{wrong}");
    }
    let mut complaints = Vec::new();
    let mut blob = Blob::new();
    let int = blob.int("unsigned int", 4, 0);
    let array = blob.array(int, 4);
    blob.structure(STRUCT, "event", 16, &[("m", array, 0)]);
    event_with(&blob, &[("m", "strings")], &mut complaints);
    assert_eq!(complaints, ["event.m: the format requires an array of characters or bytes"]);
}

#[test]
fn values_are_accepted_in_their_format_and_as_numbers() {
    let set = |ty: &Arc<Type>, given: Value| {
        let mut out = vec![0; ty.size];
        encode(ty, &json!({ "m": given }), &mut out).map(|()| out).map_err(|error| error.message().to_owned())
    };
    assert_eq!(set(&unsigned(4, "ipv4"), json!("10.0.0.1")).unwrap(), Ipv4Addr::new(10, 0, 0, 1).octets());
    assert_eq!(set(&unsigned(4, "ipv4"), json!(1)).unwrap(), [1, 0, 0, 0]);
    assert_eq!(set(&bytes(4, "ipv4"), json!([1, 2, 3, 4])).unwrap(), [1, 2, 3, 4]);
    assert_eq!(set(&signed(4, "errno"), json!("ENOENT")).unwrap(), (-2i32).to_le_bytes());
    assert_eq!(set(&signed(4, "errno"), json!("17")).unwrap(), 17i32.to_le_bytes());
    assert_eq!(set(&unsigned(1, "signal"), json!("SIGTERM")).unwrap(), [15]);
    assert_eq!(set(&unsigned(8, "hex"), json!("0xff")).unwrap(), 255u64.to_le_bytes());
    assert_eq!(set(&signed(4, "hex"), json!("0xffffffff")).unwrap(), (-1i32).to_le_bytes());
    for (ty, given) in [
        (unsigned(4, "ipv4"), "10.0.0.256"),
        (unsigned(4, "ipv4"), ""),
        (bytes(16, "ipv6"), "1::2::3"),
        (bytes(6, "mac"), "1:2:3:4:5:6"),
        (bytes(6, "mac"), "01:02:03:04:05"),
        (bytes(3, "hex"), "01020"),
        (bytes(3, "hex"), "é1020"),
        (unsigned(1, "hex"), "0x100"),
        (unsigned(1, "hex"), "10"),
        (signed(4, "errno"), "ENOTHING"),
        (unsigned(1, "signal"), "300"),
        (unsigned(8, "ktime"), "2023-11-14T22:13:20Z"),
        (unsigned(8, "duration"), "1ms"),
    ] {
        let error = set(&ty, json!(given)).unwrap_err();
        assert!(error.starts_with("member \"m\": "), "{given}: {error}");
    }
}

#[test]
fn any_format_on_any_type_is_refused_or_writes_one_kind_of_value() {
    let names: Vec<&str> = ValueFormat::names().split(' ').collect();
    let mut random = Random(0xf0);
    let mut fitting = 0;
    for round in 0..2000 {
        let mut blob = Blob::new();
        let size = [1, 2, 3, 4, 6, 8, 16][random.below(7)];
        let mut ty = blob.int("int", size, [0, SIGNED][random.below(2)]);
        let mut total = size;
        for _ in 0..random.below(3) {
            let count = random.below(7) as u32;
            (ty, total) = match random.below(3) {
                0 => (blob.structure(STRUCT, "inner", total, &[("x", ty, 0)]), total),
                1 => (blob.structure(UNION, "", total, &[("x", ty, 0)]), total),
                _ => (blob.array(ty, count), total * count),
            };
        }
        blob.structure(STRUCT, "event", total, &[("m", ty, 0)]);
        let path = ["m", "m", "m.x", "x"][random.below(4)];
        let mut complaints = Vec::new();
        let ty = event_with(&blob, &[(path, names[round % names.len()])], &mut complaints);
        fitting += usize::from(complaints.is_empty());
        let kind_of = |record: &[u8]| {
            let text = json_text(&ty, record);
            let value: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
            let longest = Plan::new(&ty).unwrap().max_json_len();
            assert!(text.len() <= longest, "{} bytes, at most {longest}: {text}", text.len());
            // Invalid UTF-8, and strings that fill their array without a NUL, cannot be set again.
            if !["ktime", "strings"].contains(&names[round % names.len()]) {
                let mut again = vec![0; ty.size];
                encode(&ty, &value, &mut again).unwrap_or_else(|error| panic!("{error}: {text}"));
                assert_eq!(json_text(&ty, &again), text);
            }
            shape(&value)
        };
        let zero = kind_of(&vec![0; total as usize]);
        for _ in 0..3 {
            let record = random.bytes(total as usize);
            assert_eq!(kind_of(&record), zero, "{ty:?}");
            self::text(&ty, &record);
        }
    }
    assert!(fitting > 200, "only {fitting} fitted");
}

/// Returns the kinds of a value and of the values in it. Of a list only the first element is used, because a stack may be
/// empty.
fn shape(value: &Value) -> Vec<&'static str> {
    match value {
        Value::Object(members) => members.values().flat_map(shape).collect(),
        Value::Array(_) => vec!["array"],
        Value::String(_) => vec!["text"],
        Value::Number(_) => vec!["number"],
        _ => vec!["other"],
    }
}
