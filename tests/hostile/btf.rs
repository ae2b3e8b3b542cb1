//! BTF with valid lengths and invalid values, most of which libbpf uses without a check.

use eunomia::btf::Btf;
use eunomia::{Options, Status, Vm};

use crate::fixture::{Clean, object, open_refused, package, with_object};
use crate::needs_root;
use crate::support::{child, elf, opened};

/// Everything for which libbpf reads BTF: maps, an inner map, variables, both kinds of externs, every kind of
/// relocation.
const RICH: &str = r#"
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

struct value {
    u64 seen;
    u32 low : 3, high : 29;
    char comm[16];
};

struct inner {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 2);
    __type(key, u32);
    __type(value, struct value);
} first SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
    __uint(max_entries, 2);
    __type(key, u32);
    __array(values, struct inner);
} outer SEC(".maps") = { .values = { &first } };

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 16);
    __type(key, u32);
    __type(value, struct value);
} values SEC(".maps");

extern int LINUX_KERNEL_VERSION __kconfig;
extern enum libbpf_tristate CONFIG_BPF_SYSCALL __kconfig __weak;
extern char CONFIG_CC_VERSION_TEXT[32] __kconfig __weak;
extern const void init_pid_ns __ksym __weak;
extern void bpf_rcu_read_lock(void) __ksym __weak;
extern void bpf_rcu_read_unlock(void) __ksym __weak;

struct tcp_sock___own {
    u32 snd_cwnd;
    u32 repair : 1, frto : 1;
} __attribute__((preserve_access_index));

const volatile struct value limit = {};
u64 seen[2] = { 1, 2 };
u32 zero;

SEC("raw_tp/sys_enter")
int on_enter(void *ctx)
{
    struct task_struct *task = (void *)bpf_get_current_task();
    struct tcp_sock___own *sock = (void *)task;
    struct value value = { .low = 1 };
    u32 key = BPF_CORE_READ(task, real_parent, tgid) + LINUX_KERNEL_VERSION;

    seen[0] += limit.seen + CONFIG_BPF_SYSCALL + CONFIG_CC_VERSION_TEXT[zero & 15];
    if (bpf_core_field_exists(task->comm) && &init_pid_ns && bpf_core_type_exists(struct pid))
        seen[1] += bpf_core_field_size(task->comm) + bpf_core_type_size(struct task_struct);
    if (bpf_core_enum_value_exists(enum pid_type, PIDTYPE_PGID))
        seen[0] += bpf_core_enum_value(enum pid_type, PIDTYPE_PGID);
    if (bpf_rcu_read_lock && bpf_rcu_read_unlock) {
        bpf_rcu_read_lock();
        bpf_rcu_read_unlock();
    }
    value.high = zero ? BPF_CORE_READ_BITFIELD_PROBED(sock, frto) : 0;
    if (bpf_map_lookup_elem(&outer, &zero))
        bpf_map_update_elem(&values, &key, &value, BPF_ANY);
    return 0;
}
char LICENSE[] SEC("license") = "GPL";
"#;

/// A struct_ops map, which the kernel refuses because it does not have such operations.
const OPERATIONS: &str = r#"
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

struct tcp_congestion_ops___own {
    void (*init)(struct sock *sk);
    u32 flags;
    u64 unknown_to_the_kernel;
    char name[16];
};

SEC("struct_ops")
void on_init(struct sock *sk) {}

SEC(".struct_ops")
struct tcp_congestion_ops___own operations = { .init = (void *)on_init, .name = "own" };
char LICENSE[] SEC("license") = "GPL";
"#;

const SECTIONS: [&str; 2] = [".BTF", ".BTF.ext"];

/// Checks that a valid object is refused after `change`, which gets its `.BTF` and `.BTF.ext`.
#[track_caller]
fn changed_refused(source: &'static str, change: impl FnOnce(&mut Vec<u8>, &mut Vec<u8>), words: &[&str]) {
    let package = package(source);
    let object = object(&package);
    let [mut btf, mut ext] = SECTIONS.map(|name| elf::content(&object, name).to_vec());
    change(&mut btf, &mut ext);
    open_refused(&with_object(&package, &with_sections(&object, &btf, &ext)), Status::Package, words);
}

/// Does the same as `changed_refused`, for a change in the types.
#[track_caller]
fn btf_refused(source: &'static str, change: impl FnOnce(&mut Vec<u8>), words: &[&str]) {
    changed_refused(source, |btf, _| change(btf), words);
}

fn with_sections(object: &[u8], btf: &[u8], ext: &[u8]) -> Vec<u8> {
    elf::with_section(&elf::with_section(object, SECTIONS[0], btf), SECTIONS[1], ext)
}

/// The name at an offset.
fn name(btf: &[u8], offset: usize) -> &str {
    let rest = &btf[elf::word(btf, 4) + elf::word(btf, 16) + offset..];
    std::str::from_utf8(rest.split(|byte| *byte == 0).next().unwrap()).unwrap()
}

/// The id and the offset of the type of that kind and name.
fn find(btf: &[u8], kind: u32, wanted: &str) -> (u32, usize) {
    let types = elf::btf_types(btf);
    let mut entries = (1..).zip(types);
    let found = entries.find(|(_, (at, k))| *k == kind && name(btf, elf::word(btf, *at)) == wanted);
    let (id, (at, _)) = found.unwrap_or_else(|| panic!("no type {wanted} of kind {kind}"));
    (id, at)
}

/// Appends types and returns the id of the first.
fn append(btf: &mut Vec<u8>, words: &[u32]) -> u32 {
    let (id, len) = (elf::btf_types(btf).len() as u32 + 1, 4 * words.len());
    let end = elf::word(btf, 4) + elf::word(btf, 8) + elf::word(btf, 12);
    btf.splice(end..end, words.iter().flat_map(|word| word.to_le_bytes()));
    for at in [12, 16] {
        let value = elf::word(btf, at) + len;
        elf::put(btf, at, value as u32);
    }
    id
}

/// Appends a string and returns its offset.
fn append_string(btf: &mut Vec<u8>, text: &str) -> u32 {
    let len = elf::word(btf, 20);
    btf.extend(text.bytes().chain([0]));
    elf::put(btf, 20, (len + text.len() + 1) as u32);
    len as u32
}

/// The offset of the CO-RE relocations of the first section.
fn relocations(ext: &[u8]) -> Vec<usize> {
    let (start, len) = (elf::word(ext, 4) + elf::word(ext, 24), elf::word(ext, 28));
    let count = if len == 0 { 0 } else { elf::word(ext, start + 8) };
    (0..count).map(|index| start + 12 + 16 * index).collect()
}

const INT: u32 = 1;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const VAR: u32 = 14;
const DATASEC: u32 = 15;
/// The members of a struct follow its first three words, in three words each: name, type, offset.
const fn member(at: usize, index: usize) -> usize {
    at + 12 + 12 * index
}

#[test]
fn kernel_types_are_accepted() {
    needs_root!();
    let kernel = std::fs::read("/sys/kernel/btf/vmlinux").unwrap();
    Btf::parse(&kernel).unwrap().check_for_libbpf().unwrap();
}

#[test]
fn configuration_values_are_small_numbers_and_strings() {
    needs_root!();
    let of_type = |make: fn(&mut Vec<u8>, u32) -> u32| {
        move |btf: &mut Vec<u8>| {
            let (char, _) = find(btf, INT, "char");
            let id = make(btf, char);
            let (_, var) = find(btf, VAR, "CONFIG_CC_VERSION_TEXT");
            elf::put(btf, var + 8, id);
        }
    };
    // libbpf returns a size above i32::MAX as an error code, and then uses that as a pointer.
    let huge = of_type(|btf, char| append(btf, &[0, ARRAY << 24, 0, char, char, 1 << 31]));
    btf_refused(RICH, huge, &["CONFIG_CC_VERSION_TEXT", "bytes of .kconfig"]);
    // Each struct contains the struct before twice; libbpf visits every member to compute the alignment.
    let doubled = of_type(|btf, char| {
        (0..40).fold(char, |id, _| append(btf, &[0, STRUCT << 24 | 2, 2, 0, id, 0, 0, id, 8]))
    });
    btf_refused(RICH, doubled, &["CONFIG_CC_VERSION_TEXT", "variable in .kconfig"]);
    // libbpf writes four bytes to any enum.
    const ENUM64: u32 = 19;
    let small = of_type(|btf, _| append(btf, &[0, ENUM64 << 24, 1]));
    btf_refused(RICH, small, &["CONFIG_CC_VERSION_TEXT", "variable in .kconfig"]);
}

#[test]
fn sections_hold_variables() {
    needs_root!();
    let with_array = |btf: &mut Vec<u8>| {
        let (_, section) = find(btf, DATASEC, ".ksyms");
        let array = append(btf, &[0, ARRAY << 24, 0, 1, 1, 1]);
        elf::put(btf, member(section, 0), array);
    };
    btf_refused(RICH, with_array, &[".ksyms", "not a variable"]);
}

#[test]
fn bit_fields_are_integers() {
    needs_root!();
    // Elements of the type `void`, and of an integer with size 0, by which libbpf divides.
    for words in [&[][..], &[0, INT << 24, 0, 32]] {
        let change = |btf: &mut Vec<u8>| {
            let id = if words.is_empty() { 0 } else { append(btf, words) };
            let (_, at) = find(btf, STRUCT, "tcp_sock___own");
            elf::put(btf, member(at, 2) + 4, id);
        };
        btf_refused(RICH, change, &["tcp_sock___own", "\"frto\"", "not an integer"]);
    }
}

#[test]
fn operations_lie_within_their_section() {
    needs_root!();
    const NAME: &str = "tcp_congestion_ops___own";
    let wrapped = |btf: &mut Vec<u8>| {
        let (_, section) = find(btf, DATASEC, ".struct_ops");
        elf::put(btf, section + 8, 40); // a size: otherwise libbpf reads the position from the symbol
        elf::put(btf, member(section, 0) + 4, u32::MAX - 15);
    };
    btf_refused(OPERATIONS, wrapped, &["operations", "offset 4294967280"]);
    let pointer = |btf: &mut Vec<u8>| {
        let (_, at) = find(btf, STRUCT, NAME);
        elf::put(btf, at + 8, 4);
    };
    btf_refused(OPERATIONS, pointer, &[NAME, "\"init\"", "beyond its end"]);
    let unknown = |place: u32| {
        move |btf: &mut Vec<u8>| {
            let (_, at) = find(btf, STRUCT, NAME);
            btf[at + 7] |= 0x80; // the kind_flag: there are bit-fields
            elf::put(btf, member(at, 2) + 8, place);
        }
    };
    btf_refused(OPERATIONS, unknown(3 << 24 | 128), &[NAME, "\"unknown_to_the_kernel\"", "bit-field"]);
    btf_refused(OPERATIONS, unknown(0xff_ff00), &[NAME, "\"unknown_to_the_kernel\"", "exceeds its end"]);
}

#[test]
fn relocations_stay_in_their_type() {
    needs_root!();
    const BYTE_OFFSET: usize = 0;
    const ENUM_VALUE: usize = 11;
    let leads = |kind: usize, text: &'static str| {
        move |btf: &mut Vec<u8>, ext: &mut Vec<u8>| {
            let found = relocations(ext).into_iter().find(|at| elf::word(ext, at + 12) == kind).unwrap();
            elf::put(ext, found + 8, append_string(btf, text));
        }
    };
    changed_refused(RICH, leads(BYTE_OFFSET, "0:-2000000"), &["task_struct", "\"0:-2000000\""]);
    changed_refused(RICH, leads(BYTE_OFFSET, "0:4292967296"), &["task_struct", "\"0:4292967296\""]);
    changed_refused(RICH, leads(BYTE_OFFSET, "0-2000000"), &["task_struct", "\"0-2000000\""]);
    changed_refused(RICH, leads(ENUM_VALUE, "-2000000000"), &["pid_type", "\"-2000000000\""]);
    let long = format!("0{}", ":0".repeat(128)).leak();
    changed_refused(RICH, leads(BYTE_OFFSET, long), &["an access string of 257 bytes"]);
    let inside = |_: &mut Vec<u8>, ext: &mut Vec<u8>| {
        let first = relocations(ext)[0];
        elf::put(ext, first, 4);
    };
    changed_refused(RICH, inside, &["relocation at offset 4", "instruction"]);
}

/// libbpf converts the other byte order in place. If records overlap, it reads other values than it has checked.
#[test]
fn relocations_of_the_other_byte_order_are_refused() {
    needs_root!();
    let foreign = |_: &mut Vec<u8>, ext: &mut Vec<u8>| {
        let header = [0xeb9f_0100, 32, 0, 28, 12, 28, 0, 0];
        let records = [8, 0, 2, 16, 0, 1, 0, 0, 0, 0];
        *ext = header.into_iter().chain(records).flat_map(u32::to_be_bytes).collect();
    };
    changed_refused(RICH, foreign, &[".BTF.ext", "byte order"]);
}

/// A negative index must not lead out of the type.
#[test]
fn relocations_of_members_before_a_pointer_load() {
    needs_root!();
    const SOURCE: &str = r#"
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
u64 sum;
SEC("raw_tp/sys_enter")
int on_enter(void *ctx)
{
    struct task_struct *task = (void *)bpf_get_current_task();
    sum = bpf_core_field_size(task[-1].pid);
    return 0;
}
char LICENSE[] SEC("license") = "GPL";
"#;
    let clean = Clean::new();
    let vm = opened(&package(SOURCE));
    vm.load().unwrap();
    drop(vm);
    drop(clean);
}

/// Runs in a process of its own, because libbpf reads the objects in C and may crash. `FUZZ_SEED` and `FUZZ_ROUNDS` set
/// the seed and the number of rounds.
#[test]
fn objects_with_changed_types_crash_nothing() {
    needs_root!();
    const TEST: &str = "btf::objects_with_changed_types_crash_nothing";
    const LOADED: u64 = 32; // one object in 32 is also loaded, because loading is slow
    let Some(folder) = child::folder() else {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("rich"), object(&package(RICH))).unwrap();
        std::fs::write(folder.path().join("operations"), object(&package(OPERATIONS))).unwrap();
        return child::run(TEST, &[], folder.path());
    };
    let number = |name: &str, or: u64| std::env::var(name).map_or(or, |text| text.parse().unwrap());
    let (seed, rounds) = (number("FUZZ_SEED", 1), number("FUZZ_ROUNDS", 600));
    let targets = ["rich", "operations"].map(|name| Target::new(std::fs::read(folder.join(name)).unwrap()));
    let clean = Clean::new();
    let (mut opened, mut loads, mut loaded) = (0, 0, 0);
    for round in 0..rounds {
        eprintln!("seed {seed}, round {round}");
        // SAFETY: no pointers. A round that does not end ends the process.
        unsafe { libc::alarm(60) };
        let mut random = Random::new(seed, round);
        let object = targets[random.below(4) / 3].changed(&mut random);
        std::fs::write(folder.join("last.o"), &object).unwrap();
        let vm = Vm::new(Options::new()).unwrap();
        if vm.open_object(&object, None).is_ok() {
            opened += 1;
            if opened % LOADED == 0 {
                loads += 1;
                loaded += u64::from(vm.load().is_ok());
            }
        }
    }
    println!("{rounds} rounds, {opened} opened, {loaded} of {loads} loaded");
    assert!(opened * 8 > rounds && loaded > 0, "{opened} opened, {loaded} loaded of {rounds}");
    drop(clean);
}

/// A generator of pseudo-random numbers, the same in each run (xorshift).
struct Random(u64);

impl Random {
    fn new(seed: u64, round: u64) -> Random {
        Random((seed << 32 | round).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `limit`.
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % limit
    }
}

/// An object, and the offsets of the values in its BTF.
struct Target {
    object: Vec<u8>,
    btf: Vec<u8>,
    ext: Vec<u8>,
    /// Offset, length and kind of each type.
    types: Vec<(usize, usize, u8)>,
    /// Offsets of the letters of access strings.
    access: Vec<usize>,
}

impl Target {
    fn new(object: Vec<u8>) -> Target {
        let [btf, ext] = SECTIONS.map(|name| elf::content(&object, name).to_vec());
        let starts = elf::btf_types(&btf);
        let end = elf::word(&btf, 4) + elf::word(&btf, 8) + elf::word(&btf, 12);
        let ends = starts.iter().skip(1).map(|next| next.0).chain([end]);
        let types = starts.iter().zip(ends).map(|((at, kind), end)| (*at, end - at, *kind as u8)).collect();
        let strings = elf::word(&btf, 4) + elf::word(&btf, 16);
        let letters = |relocation: usize| {
            let offset = elf::word(&ext, relocation + 8);
            (strings + offset..).take(name(&btf, offset).len())
        };
        let access = relocations(&ext).into_iter().flat_map(letters).collect();
        Target { object, btf, ext, types, access }
    }

    /// The object with a few values changed.
    fn changed(&self, random: &mut Random) -> Vec<u8> {
        let (mut btf, mut ext) = (self.btf.clone(), self.ext.clone());
        for _ in 0..1 + random.below(3) {
            match random.below(4) {
                0 => self.change_word(&mut ext, 0, self.ext.len(), random),
                _ => self.change_btf(&mut btf, random),
            }
        }
        with_sections(&self.object, &btf, &ext)
    }

    /// Changes the kind of a type to one of the same length, its kind_flag, the access string of a relocation, or any
    /// word. Variables and sections are the last types.
    fn change_btf(&self, btf: &mut [u8], random: &mut Random) {
        const KINDS: [&[u8]; 4] =
            [&[2, 7, 8, 9, 10, 11, 12, 16, 18], &[1, 14, 17], &[4, 5, 15, 19], &[6, 13]];
        let some = if random.below(2) == 0 { self.types.len() } else { 64 };
        let (at, len, kind) = self.types[self.types.len() - 1 - random.below(some)];
        match random.below(10) {
            0 => {
                let alike = KINDS.iter().find(|kinds| kinds.contains(&kind)).unwrap_or(&KINDS[0]);
                btf[at + 7] = btf[at + 7] & 0xe0 | alike[random.below(alike.len())];
            }
            1 => btf[at + 7] ^= 0x80,
            2 if !self.access.is_empty() => {
                let letter = self.access[random.below(self.access.len())];
                btf[letter] = b"\0-:0159"[random.below(7)];
            }
            3 => self.change_word(btf, 0, 24, random),
            _ => self.change_word(btf, at, len, random),
        }
    }

    /// Replaces a word with a number at the boundary of a range.
    fn change_word(&self, section: &mut [u8], start: usize, len: usize, random: &mut Random) {
        let at = start + 4 * random.below(len / 4);
        let (old, types) = (elf::word(section, at) as u32, self.types.len());
        let (any, bit) = (random.below(types) as u32, 1 << random.below(32));
        let types = types as u32;
        let edges = [
            [0, 1, types, types + 1, u32::MAX],
            [any; 5],
            [bit, bit - 1, i32::MAX as u32, 1 << 31, old ^ bit],
            [old.wrapping_add(1), old.wrapping_sub(1), old.wrapping_mul(2), old | 1 << 31, old | 1 << 24],
        ];
        elf::put(section, at, edges[random.below(4)][random.below(5)]);
    }
}
