//! Global variables of every kind, and values that do not fit them.

use eunomia::{Kind, Options, Status};

use crate::fixture::{Clean, call, edited, open_refused, package, refused, tid};
use crate::needs_root;
use crate::support::{self, opened, vm_with};

const SOURCE: &str = r#"
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

extern int LINUX_KERNEL_VERSION __kconfig;
extern bool CONFIG_BPF_SYSCALL __kconfig __weak;

enum color { RED = 1, GREEN = 2, BLUE = -3 };
enum wide { TOP = 0x8000000000000000ULL };
struct point { s16 x, y; };
struct shape { struct point corner[2]; enum color color; char name[8]; u32 low : 3; u32 high : 5; };

const volatile u32 only_tid = 0;
const volatile s8 tiny = -1;
const volatile u64 large = 0;
const volatile bool flag = true;
const volatile char text[8] = "abc";
const volatile double ratio = 0.5;
const volatile float half = 0.25;
const volatile enum color color = GREEN;
const volatile enum wide wide = 0;
const volatile u16 ports[4] = {1, 2};
const volatile u8 matrix[2][3] = {{1, 2, 3}, {4, 5, 6}};
const volatile struct shape shape = {.corner = {{1, 2}, {3, 4}}, .color = RED, .name = "box", .low = 5, .high = 17};
const volatile __int128 huge = 0;
const volatile void *pointer = 0;

u64 counts[8];
u64 seen = 0;
u32 version = 0;
bool configured = false;
int start = 40;
u32 apart SEC(".data.apart") = 7;
const volatile u32 fixed SEC(".rodata.fixed") = 9;
u32 sums[4] SEC(".bss.sums");
static u64 hidden = 3;

SEC("tp/syscalls/sys_enter_getpgid")
int on_enter(void *ctx)
{
    u32 tid = bpf_get_current_pid_tgid();
    if (tid != only_tid)
        return 0;
    u64 index = seen++ & 7;
    counts[index] += ports[1] + fixed;
    sums[1] += apart;
    version = LINUX_KERNEL_VERSION;
    configured = CONFIG_BPF_SYSCALL;
    start += shape.corner[1].y + matrix[1][2];
    hidden += large + flag + text[0] + color + wide + (u64)huge + tiny + (u64)pointer;
    hidden += *(volatile u64 *)&ratio + *(volatile u32 *)&half;
    return 0;
}

char LICENSE[] SEC("license") = "GPL";
"#;

#[test]
fn each_value_must_fit_its_variable() {
    needs_root!();
    let package = package(SOURCE);
    let clean = Clean::new();
    let vm = opened(&package);
    for (name, json, words) in [
        ("only_tid", "4294967296", vec!["4294967296 does not fit u32"]),
        ("only_tid", "-1", vec!["-1 does not fit u32"]),
        ("only_tid", "1.5", vec!["1.5 does not fit u32: not a whole number"]),
        ("only_tid", "1e10", vec!["1e", "does not fit u32"]),
        ("only_tid", "\"7x\"", vec!["\"7x\" is not a value of"]),
        ("only_tid", "true", vec!["true is not a value of"]),
        ("only_tid", "null", vec!["null is not a value of"]),
        ("only_tid", "{}", vec!["an object is not a value of"]),
        ("only_tid", "[1]", vec!["an array is not a value of"]),
        ("tiny", "128", vec!["128 does not fit i8"]),
        ("tiny", "-129", vec!["-129 does not fit i8"]),
        ("large", "18446744073709551616", vec!["18446744073709551616 does not fit u64"]),
        ("large", "-1", vec!["-1 does not fit u64"]),
        ("flag", "2", vec!["2 does not fit bool"]),
        ("flag", "\"perhaps\"", vec!["perhaps"]),
        ("text", "\"12345678\"", vec!["8 bytes and a NUL do not fit char[8]"]),
        ("text", "7", vec!["7 is not a value of char[8]"]),
        ("ratio", "\"much\"", vec!["much"]),
        ("ratio", "true", vec!["true is not a value of double"]),
        ("half", "1e300", vec!["1e", "does not fit float"]),
        ("color", "\"PINK\"", vec!["PINK", "enum color"]),
        ("color", "1e20", vec!["1e", "does not fit i32"]),
        ("ports", "[1,2,3,4,5]", vec!["5 values do not fit"]),
        ("ports", "[1,65536]", vec!["[1]", "65536 does not fit u16"]),
        ("ports", "1", vec!["1 is not a value of"]),
        ("matrix", "[[1,2,3],[4,5,600]]", vec!["[1]: [2]: 600 does not fit u8"]),
        ("shape", r#"{"corner":[{"x":40000}]}"#, vec!["x", "40000 does not fit i16"]),
        ("shape", r#"{"nothing":1}"#, vec!["nothing"]),
        ("shape", r#"{"low":8}"#, vec!["low", "8 does not fit u3"]),
        ("huge", "1e40", vec!["1e", "does not fit i128; write it as a string"]),
        ("pointer", "-1", vec!["-1 does not fit u64"]),
    ] {
        let words: Vec<String> =
            words.into_iter().map(String::from).chain([format!("variable {name:?}")]).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let before = vm.var_get(name).unwrap();
        refused(vm.var_set_json(name, json), Status::Type, &words);
        assert_eq!(vm.var_get(name).unwrap(), before, "{name} was changed by {json}");
    }
    for json in ["", "{", "7 7", "nonsense", "\"\u{1}\"", "01"] {
        refused(vm.var_set_json("only_tid", json), Status::Inval, &["variable \"only_tid\""]);
    }
    drop(vm);
    drop(clean);
}

#[test]
fn unknown_variables_are_refused_with_a_list_of_the_known_ones() {
    needs_root!();
    let package = package(SOURCE);
    let clean = Clean::new();
    let vm = opened(&package);
    for name in ["nobody", "", "hidden", "LICENSE ", "on_enter", "a\nb"] {
        let name_shown = format!("variable {name:?}");
        refused(vm.var_set_json(name, "1"), Status::NotFound, &[&name_shown, "only_tid"]);
        refused(vm.var_get_json(name), Status::NotFound, &[&name_shown]);
        refused(vm.var_set(name, &[0; 4]), Status::NotFound, &[&name_shown]);
        refused(vm.var_get(name), Status::NotFound, &[&name_shown]);
    }
    refused(vm.var_set("only_tid", &[0; 3]), Status::Type, &["variable \"only_tid\"", "3 bytes", "4"]);
    refused(vm.var_set("only_tid", &[]), Status::Type, &["variable \"only_tid\"", "0 bytes"]);
    drop(vm);
    drop(clean);
}

#[test]
fn values_of_every_kind_come_back_as_they_were_set() {
    needs_root!();
    let package = package(SOURCE);
    let clean = Clean::new();
    let vm = opened(&package);
    for (name, initial) in [
        ("tiny", "-1"),
        ("flag", "true"),
        ("text", "\"abc\""),
        ("ratio", "0.5"),
        ("half", "0.25"),
        ("color", "\"GREEN\""),
        ("ports", "[1,2,0,0]"),
        ("matrix", "[[1,2,3],[4,5,6]]"),
        ("shape", r#"{"corner":[{"x":1,"y":2},{"x":3,"y":4}],"color":"RED","name":"box","low":5,"high":17}"#),
        ("huge", "\"0\""),
        ("counts", "[0,0,0,0,0,0,0,0]"),
        ("apart", "7"),
        ("fixed", "9"),
        ("sums", "[0,0,0,0]"),
        ("start", "40"),
    ] {
        assert_eq!(vm.var_get_json(name).unwrap(), initial, "{name}");
        vm.var_set_json(name, initial).unwrap();
        assert_eq!(vm.var_get_json(name).unwrap(), initial, "{name} set to what it was");
    }
    for (name, set, got) in [
        ("only_tid", "1e3", "1000"),
        ("only_tid", "4294967295", "4294967295"),
        ("tiny", "-128", "-128"),
        ("large", "9223372036854775808", "9223372036854775808"),
        ("large", "18446744073709551615", "18446744073709551615"),
        ("flag", "false", "false"),
        ("text", "\"1234567\"", "\"1234567\""),
        ("text", "\"\"", "\"\""),
        ("text", "\"\u{e9}\u{1F600}\"", "\"\u{e9}\u{1F600}\""),
        ("ratio", "1e-3", "0.001"),
        ("ratio", "7", "7.0"),
        ("color", "\"BLUE\"", "\"BLUE\""),
        ("color", "77", "77"),
        ("wide", "9223372036854775807", "9223372036854775807"),
        ("ports", "[9]", "[9,0,0,0]"),
        (
            "huge",
            "\"170141183460469231731687303715884105727\"",
            "\"170141183460469231731687303715884105727\"",
        ),
        ("huge", "-1", "\"-1\""),
        ("pointer", "4096", "4096"),
    ] {
        vm.var_set_json(name, set).unwrap_or_else(|e| panic!("{set}: {e}"));
        assert_eq!(vm.var_get_json(name).unwrap(), got, "{name} set to {set}");
    }
    drop(vm);
    drop(clean);
}

#[test]
fn sections_of_every_name_contain_variables() {
    needs_root!();
    let package = package(SOURCE);
    let clean = Clean::new();
    let vm = opened(&package);
    vm.var_set_json("only_tid", &tid().to_string()).unwrap();
    vm.var_set_json("fixed", "100").unwrap();
    vm.var_set_json("apart", "5").unwrap();
    vm.var_set_json("counts", "[1000]").unwrap();
    refused(vm.var_set_json("LINUX_KERNEL_VERSION", "1"), Status::State, &["LINUX_KERNEL_VERSION", "kernel"]);
    vm.attach().unwrap();
    call(2);
    assert_eq!(vm.var_get_json("counts").unwrap(), "[1102,102,0,0,0,0,0,0]");
    assert_eq!(vm.var_get_json("sums").unwrap(), "[0,10,0,0]");
    assert_eq!(vm.var_get_json("start").unwrap(), "60");
    assert_ne!(vm.var_get_json("version").unwrap(), "0");
    assert_eq!(vm.var_get_json("LINUX_KERNEL_VERSION").unwrap(), vm.var_get_json("version").unwrap());

    // Constants cannot be changed any more; other variables can be changed while the program runs.
    refused(vm.var_set_json("fixed", "1"), Status::State, &["variable \"fixed\"", ".rodata.fixed"]);
    refused(vm.var_set("only_tid", &[0; 4]), Status::State, &["variable \"only_tid\""]);
    assert_eq!(vm.var_get_json("fixed").unwrap(), "100");
    vm.var_set_json("apart", "1").unwrap();
    vm.var_set_json("sums", "[1,2,3,4]").unwrap();
    call(1);
    assert_eq!(vm.var_get_json("sums").unwrap(), "[1,3,3,4]");
    drop(vm);
    drop(clean);
}

#[test]
fn values_in_a_package_are_checked_at_open() {
    needs_root!();
    let good = package(SOURCE);
    let with = |name: &str, value: serde_json::Value| {
        edited(&good, |document| {
            let sections = document["meta"]["bpf_skel"]["data_sections"].as_array_mut().unwrap();
            let vars = sections.iter_mut().flat_map(|section| section["variables"].as_array_mut().unwrap());
            let var =
                vars.into_iter().find(|var| var["name"] == name).expect("the metadata has the variable");
            var["value"] = value;
        })
    };
    open_refused(&with("tiny", 1000.into()), Status::Type, &["variable \"tiny\"", "1000"]);
    open_refused(&with("text", "much too long".into()), Status::Type, &["variable \"text\""]);
    open_refused(&with("ports", serde_json::json!({"a": 1})), Status::Type, &["variable \"ports\""]);
    let clean = Clean::new();
    let vm = opened(&with("tiny", (-7).into()));
    assert_eq!(vm.var_get_json("tiny").unwrap(), "-7");
    drop(vm);
    drop(clean);
}

/// A variable and a map whose types are nested too deep, and a variable whose text would be too long.
fn beyond_limits() -> String {
    let dimensions = "[1]".repeat(120);
    let structs: String = (1..60).map(|n| format!("struct s{n} {{ struct s{} x; }};\n", n - 1)).collect();
    format!(
        r#"
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

struct s0 {{ char a; }};
{structs}
struct s59 nested = {{}};
char dimensions{dimensions};
char large[60 << 20];
int number = 7;
struct {{
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, u32);
    __type(value, struct s59);
}} deep SEC(".maps");

SEC("raw_tp/sys_enter")
int on_call(void *ctx)
{{
    u32 key = 0;
    char *value = bpf_map_lookup_elem(&deep, &key);
    return value ? *value + *(char *)&nested + *(char *)&dimensions + large[7] : 0;
}}

char LICENSE[] SEC("license") = "GPL";
"#
    )
}

#[test]
fn a_type_beyond_the_limits_is_available_as_bytes() {
    needs_root!();
    let package = support::package(&beyond_limits());
    let clean = Clean::new();
    let (vm, log) = vm_with(Options::new());
    vm.open(&package, Kind::Json).unwrap();
    let one_line = |name: &str| {
        let words = [&format!("variable {name:?}"), "as bytes only"];
        refused(vm.var_get_json(name), Status::Type, &words);
        refused(vm.var_set_json(name, "[]"), Status::Type, &words);
    };
    ["nested", "dimensions", "large"].into_iter().for_each(one_line);
    vm.var_set("nested", &[9]).unwrap();
    vm.attach().unwrap();
    assert_eq!(vm.var_get("nested").unwrap(), [9]);
    assert_eq!(vm.var_get("dimensions").unwrap(), [0]);
    assert_eq!(vm.var_get("large").unwrap().len(), 60 << 20);
    assert_eq!(vm.var_get_json("number").unwrap(), "7");
    vm.map_set_json("deep", "0", r#"{"data":"05"}"#, 0).unwrap();
    assert_eq!(vm.map_get_json("deep", "0").unwrap(), r#"{"data":"05"}"#);
    assert!(log.lock().unwrap().iter().any(|line| line.contains("\"deep\"") && line.contains("raw bytes")));
    assert!(vm.describe().unwrap().len() < 1 << 20);
    drop(vm);
    drop(clean);
}
