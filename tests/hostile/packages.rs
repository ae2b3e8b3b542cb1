//! Damaged packages and objects.

use eunomia::{Kind, Options, Status, Vm};
use serde_json::json;

use crate::bomb::bomb;
use crate::fixture::{
    CALLS, Clean, edited, load_refused, object, open_refused, package, refused, with_object,
};
use crate::needs_root;
use crate::support::{child, elf, vm, vm_with};

const PACKAGE: Status = Status::Package;

/// A package around a changed object.
fn changed(change: impl FnOnce(Vec<u8>) -> Vec<u8>) -> Vec<u8> {
    let package = package(CALLS);
    with_object(&package, &change(object(&package)))
}

/// A package around an object with a changed BTF.
fn changed_btf(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    changed(|object| {
        let mut btf = elf::content(&object, ".BTF").to_vec();
        change(&mut btf);
        elf::with_section(&object, ".BTF", &btf)
    })
}

#[test]
fn a_package_truncated_anywhere_is_refused() {
    needs_root!();
    let whole = package(CALLS);
    for end in [1, 10, whole.len() / 2, whole.len() - 2, whole.len() - 1] {
        open_refused(&whole[..end], PACKAGE, &["truncated"]);
    }
    open_refused(b"", PACKAGE, &["empty"]);
}

#[test]
fn garbage_is_refused_by_its_name() {
    needs_root!();
    open_refused(b"{\"bpf_object\":tru}", PACKAGE, &["line 1, column 18"]);
    open_refused(&[0x80; 4096], PACKAGE, &["JSON"]);
    open_refused(b"{\"hello\":\"world\"}", PACKAGE, &["neither bpf_object nor data"]);
    open_refused("[".repeat(100_000).as_bytes(), PACKAGE, &["JSON"]);
    open_refused(format!("{{\"a\":{}", "[".repeat(100_000)).as_bytes(), PACKAGE, &["line 1", "recursion"]);
}

#[test]
fn invalid_base64_and_a_wrong_size_are_named() {
    needs_root!();
    let good = package(CALLS);
    let object_text = |text: &str| edited(&good, |document| document["bpf_object"] = text.into());
    open_refused(&object_text("ab!c"), PACKAGE, &["bpf_object", "base64", "offset 2"]);
    open_refused(&object_text(&"QUJD".repeat(1000)), PACKAGE, &["bpf_object", "zlib"]);
    let size = |size: u64| edited(&good, |document| document["bpf_object_size"] = size.into());
    let real = object(&good).len();
    open_refused(&size(real as u64 + 1), PACKAGE, &["bpf_object_size", &real.to_string()]);
    open_refused(&size(real as u64 - 1), PACKAGE, &["bpf_object_size", "inflates to more"]);
    open_refused(&size(1 << 63), PACKAGE, &["bpf_object_size", "9223372036854775808"]);
}

#[test]
fn a_zlib_bomb_costs_no_more_than_it_declares() {
    needs_root!();
    // The peak of memory is that of the whole process, so this test needs a process of its own.
    if child::folder().is_none() {
        let name = "packages::a_zlib_bomb_costs_no_more_than_it_declares";
        return child::run(name, &[], tempfile::tempdir().unwrap().path());
    }
    let bombed = |size: usize| {
        edited(&package(CALLS), |document| {
            document["bpf_object"] = bomb(512 << 20).into();
            document["bpf_object_size"] = size.into();
        })
    };
    let before = peak_memory();
    open_refused(&bombed(4096), PACKAGE, &["bpf_object_size", "inflates to more"]);
    open_refused(&bombed(512 << 20), PACKAGE, &["bpf_object_size", "at most 67108864"]);
    let grown = peak_memory() - before;
    assert!(grown < 64 << 20, "{grown} bytes for a bomb");
}

/// The most memory this process ever had, in bytes.
fn peak_memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<usize>().unwrap() << 10
}

#[test]
fn an_object_for_another_machine_is_refused() {
    needs_root!();
    open_refused(&changed(|_| b"hello, this is a text file".to_vec()), PACKAGE, &["not an ELF"]);
    let with = |at: usize, bytes: &'static [u8]| {
        changed(|mut object| {
            object[at..at + bytes.len()].copy_from_slice(bytes);
            object
        })
    };
    open_refused(&with(18, &[62, 0]), PACKAGE, &["machine 62", "BPF"]);
    open_refused(&with(5, &[2]), PACKAGE, &["big-endian"]);
    open_refused(&with(4, &[1]), PACKAGE, &["not a 64-bit"]);
}

#[test]
fn an_object_truncated_anywhere_is_refused() {
    needs_root!();
    let whole = object(&package(CALLS));
    for part in 1..64 {
        let end = whole.len() * part / 64;
        open_refused(&with_object(&package(CALLS), &whole[..end]), PACKAGE, &["object"]);
    }
}

#[test]
fn an_object_without_btf_is_refused_with_a_remedy() {
    needs_root!();
    let bare = changed(|object| {
        let object = elf::without_section(&object, ".BTF");
        elf::without_section(&object, ".BTF.ext")
    });
    open_refused(&bare, PACKAGE, &["BTF", "clang -g"]);
}

#[test]
fn damaged_btf_is_refused_before_libbpf_reads_it() {
    needs_root!();
    const TYPEDEF: u32 = 8;
    const STRUCT: u32 = 4;
    const FUNC: u32 = 12;
    let first = |btf: &[u8], wanted: u32| {
        let types = elf::btf_types(btf);
        let index = types.iter().position(|(_, kind)| *kind == wanted).unwrap();
        (index as u32 + 1, types[index].0)
    };
    open_refused(&changed_btf(|btf| btf.truncate(10)), PACKAGE, &["BTF", "10 bytes"]);
    open_refused(&changed_btf(|btf| btf[0] = 0), PACKAGE, &["BTF", "0xeb00"]);
    open_refused(&changed_btf(|btf| elf::put(btf, 8, 1 << 31)), PACKAGE, &["BTF", "exceed its end"]);
    open_refused(&changed_btf(|btf| elf::put(btf, 20, u32::MAX)), PACKAGE, &["BTF", "exceed its end"]);
    let far = changed_btf(|btf| {
        let (_, at) = first(btf, TYPEDEF);
        elf::put(btf, at + 8, 1 << 20);
    });
    open_refused(&far, PACKAGE, &["BTF", "refers to type 1048576"]);
    let own = changed_btf(|btf| {
        let (id, at) = first(btf, TYPEDEF);
        elf::put(btf, at + 8, id);
    });
    open_refused(&own, PACKAGE, &["BTF", "contains itself"]);
    let nested = changed_btf(|btf| {
        let (id, at) = first(btf, STRUCT);
        elf::put(btf, at + 16, id);
    });
    open_refused(&nested, PACKAGE, &["BTF", "contains itself"]);
    let name = changed_btf(|btf| {
        let (_, at) = first(btf, STRUCT);
        elf::put(btf, at, 1 << 30);
    });
    open_refused(&name, PACKAGE, &["BTF", "name offset 1073741824"]);
    let long = changed_btf(|btf| {
        let strings = u32::from_le_bytes(btf[20..24].try_into().unwrap());
        btf.extend(std::iter::repeat_n(b'n', 4000).chain([0]));
        elf::put(btf, 20, strings + 4001);
        let (_, at) = first(btf, FUNC);
        elf::put(btf, at, strings);
    });
    open_refused(&long, PACKAGE, &["BTF", "its name has 4000 bytes"]);
}

/// Runs in a process of its own, because libbpf reads the object in C and may crash.
#[test]
fn objects_with_flipped_bytes_crash_nothing() {
    needs_root!();
    let Some(folder) = child::folder() else {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("package.json"), package(CALLS)).unwrap();
        return child::run("packages::objects_with_flipped_bytes_crash_nothing", &[], folder.path());
    };
    let clean = Clean::new();
    let whole = object(&std::fs::read(folder.join("package.json")).unwrap());
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random as usize
    };
    let mut opened = 0;
    for _ in 0..3000 {
        let mut object = whole.clone();
        for _ in 0..1 + next() % 4 {
            let at = next() % object.len();
            object[at] = next() as u8;
        }
        std::fs::write(folder.join("last.o"), &object).unwrap();
        let vm = Vm::new(Options::new()).unwrap();
        opened += usize::from(vm.open_object(&object, None).is_ok());
    }
    assert!(opened > 300, "only {opened} of the objects could be opened");
    drop(clean);
}

#[test]
fn an_unknown_section_is_named_with_its_program() {
    needs_root!();
    const SOURCE: &str = r#"
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
SEC("perhaps/some_day")
int on_some_day(void *ctx)
{
    return 0;
}
char LICENSE[] SEC("license") = "GPL";
"#;
    let package = package(SOURCE);
    let clean = Clean::new();
    let vm = vm();
    vm.open(&package, Kind::Json).unwrap();
    load_refused(&vm, &clean, PACKAGE, &["on_some_day", "perhaps/some_day"]);
    vm.prog_set_autoload("on_some_day", false).unwrap();
    vm.attach().unwrap();
    drop(vm);
}

#[test]
fn repeated_names_are_refused() {
    needs_root!();
    let twice = edited(&package(CALLS), |document| {
        let progs = document["meta"]["bpf_skel"]["progs"].as_array_mut().unwrap();
        progs.push(progs[0].clone());
    });
    open_refused(&twice, PACKAGE, &["meta.bpf_skel.progs[2].name", "on_enter"]);
}

#[test]
fn a_byte_order_mark_and_numbers_in_any_form_are_read() {
    needs_root!();
    let clean = Clean::new();
    let text = String::from_utf8(package(CALLS)).unwrap();
    let size = format!("\"bpf_object_size\":{}", object(text.as_bytes()).len());
    let digits = size.rsplit(':').next().unwrap();
    let exponent = format!("\"bpf_object_size\":{}.{}e{}", &digits[..1], &digits[1..], digits.len() - 1);
    let changed =
        text.replace(&size, &exponent).replacen("\"meta\":{", "\"meta\":{\"perf_buffer_pages\":1.28e2,", 1);
    assert_eq!(
        changed.len(),
        text.len() + exponent.len() - size.len() + "\"perf_buffer_pages\":1.28e2,".len()
    );
    let vm = vm();
    vm.open(format!("\u{feff}{changed}").as_bytes(), Kind::Json).unwrap();
    vm.load().unwrap();
    drop(vm);
    drop(clean);
    let large =
        edited(&package(CALLS), |document| document["meta"]["perf_buffer_pages"] = json!(1_u64 << 63));
    open_refused(&large, PACKAGE, &["meta.perf_buffer_pages", "9223372036854775808"]);
}

#[test]
fn perf_pages_that_are_not_a_power_of_two_are_refused_with_their_source() {
    needs_root!();
    const SOURCE: &str = r#"
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
struct {
    __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
    __uint(key_size, 4);
    __uint(value_size, 4);
} events SEC(".maps");
SEC("tp/syscalls/sys_enter_getpgid")
int on_enter(void *ctx)
{
    u64 event = 1;
    return bpf_perf_event_output(ctx, &events, BPF_F_CURRENT_CPU, &event, sizeof(event));
}
char LICENSE[] SEC("license") = "GPL";
"#;
    let good = package(SOURCE);
    let with = |pages: u32| edited(&good, |document| document["meta"]["perf_buffer_pages"] = pages.into());
    let clean = Clean::new();
    refused(Vm::new(Options::new().perf_pages(3)).map(drop), Status::Inval, &["perf_pages", "3"]);
    drop(clean);
    for pages in [0, 3, 100] {
        let words = ["meta.perf_buffer_pages", &pages.to_string(), "power of two"];
        open_refused(&with(pages), PACKAGE, &words);
    }
    let clean = Clean::new();
    // The options of the command line take precedence.
    let (decided, _log) = vm_with(Options::new().perf_pages(8));
    decided.open(&with(1 << 31), Kind::Json).unwrap();
    decided.load().unwrap();
    drop(decided);
    let vm = vm();
    vm.open(&with(1 << 31), Kind::Json).unwrap();
    load_refused(&vm, &clean, Status::NoMem, &["events"]);
    drop(vm);
    drop(clean);
}

#[test]
fn an_endless_package_file_is_refused() {
    needs_root!();
    let clean = Clean::new();
    let vm = vm();
    let missing = refused(
        vm.open_file("/nowhere/package.json", Kind::Json),
        Status::NotFound,
        &["/nowhere/package.json"],
    );
    assert!(missing.message().ends_with("No such file or directory"), "{missing}");
    refused(vm.open_file("/tmp", Kind::Json), Status::System, &["/tmp"]);
    refused(vm.open_file("/dev/zero", Kind::Json), PACKAGE, &["/dev/zero"]);
    drop(vm);
    drop(clean);
}

#[test]
fn values_for_nothing_are_refused() {
    needs_root!();
    let with = |args: serde_json::Value| edited(&package(CALLS), |document| document["runtime_args"] = args);
    open_refused(&with(json!({"nobody": 1})), Status::NotFound, &["variable \"nobody\""]);
    open_refused(&with(json!({"only_tid": -1})), Status::Type, &["variable \"only_tid\"", "-1"]);
    open_refused(&with(json!({"only_tid": [1]})), Status::Type, &["variable \"only_tid\""]);
    open_refused(&with(json!(7)), PACKAGE, &["runtime_args"]);
}

/// libbpf would write the second half of the instruction beyond the memory it has for the function.
#[test]
fn a_function_that_ends_within_an_instruction_is_refused() {
    needs_root!();
    const SOURCE: &str = r#"
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
u64 sum;
SEC("raw_tp/sys_enter")
int on_enter(void *ctx)
{
    sum++;
    return 0;
}
char LICENSE[] SEC("license") = "GPL";
"#;
    const LOAD_64: u8 = 0x18;
    const FUNC: u8 = 2;
    let whole = package(SOURCE);
    let mut object = object(&whole);
    let code = elf::content(&object, "raw_tp/sys_enter");
    let load = code.chunks_exact(8).position(|instruction| instruction[0] == LOAD_64).unwrap();
    let symbols = elf::section(&object, ".symtab");
    let table = &mut object[symbols.offset..symbols.offset + symbols.len];
    let function = table.chunks_exact_mut(24).find(|symbol| symbol[4] & 15 == FUNC).unwrap();
    function[16..].copy_from_slice(&(8 * load as u64 + 8).to_le_bytes());
    open_refused(
        &with_object(&whole, &object),
        PACKAGE,
        &["a function ends in the middle of a 16-byte instruction"],
    );
}
