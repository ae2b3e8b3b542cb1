//! Objects with random changes: if libbpf still accepts one, the kernel gets nothing that was not reported.

mod support;

use std::collections::BTreeMap;

use eunomia::{Options, Vm};
use eunomia_effects::{Findings, KernelTypes, judge};
use support::objects::{Elf, compile, judged};

const SOURCE: &str = r#"
struct task_struct___x { int no_member; int pid; } core;
extern void bpf_rcu_read_lock(void) ksym;
extern void bpf_rcu_read_unlock(void) ksym;
struct { int (*type)[2]; int *key; u64 *value; int (*max_entries)[4]; } plain SEC(".maps");
volatile int total;
static noinline int quiet(int it) { total += it; return bpf_ktime_get_ns() + it; }
static noinline int loud(int it) { bpf_send_signal(it); return it; }
static noinline int inner(int it) { return quiet(it) + quiet(it + 1); }
static int each(u32 index, void *data) { return quiet(index) & 1; }
noinline int global(int it) { return inner(it) * 3; }
SEC("tp/syscalls/sys_enter_getpgid") int one(void *ctx) {
    int key = 0;
    u64 *value = bpf_map_lookup_elem(&plain, &key);
    if (value) *value += inner(7);
    return global(3);
}
SEC("tp/syscalls/sys_enter_getsid") int two(void *ctx) { return loud(28) + bpf_loop(3, each, (void *)0, 0); }
SEC("cgroup_skb/egress") int three(void *ctx) {
    return __builtin_preserve_field_info(((struct task_struct___x *)0)->pid, 2);
}
SEC("cgroup_skb/ingress") int four(void *ctx) { return 1; }
SEC("tp_btf/sched_switch") int five(void *ctx) { bpf_rcu_read_lock(); bpf_rcu_read_unlock(); return 0; }
"#;

/// A generator of pseudo-random numbers, the same in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

/// Makes a change after which the object is likely to be valid.
fn change(elf: &mut Elf, random: &mut Random) {
    let word = |elf: &Elf, at: usize| u32::from_ne_bytes(elf.0[at..at + 4].try_into().expect("four bytes"));
    let tables = elf.tables();
    let (kind, at, len) = tables[random.below(tables.len())];
    if len < 24 {
        return;
    }
    let (entry, fields): (usize, &[(usize, usize)]) = match kind {
        // Symbols: info, section, value, size, name.
        2 => (24, &[(4, 1), (6, 2), (8, 8), (16, 8), (0, 4)]),
        // Relocations: place, symbol.
        9 => (16, &[(0, 8), (12, 4)]),
        // Instructions: operation, registers, offset, constant.
        _ => (8, &[(0, 1), (1, 1), (2, 2), (4, 4)]),
    };
    let count = len / entry;
    let (from, to) = (random.below(count), random.below(count));
    let (field, size) = fields[random.below(fields.len())];
    let target = at + entry * to + field;
    match random.below(4) {
        // The value that another entry has in this field.
        0 | 1 => elf.0.copy_within(at + entry * from + field..at + entry * from + field + size, target),
        2 => {
            let near = word(elf, target & !3)
                .wrapping_add([1u32, 8, u32::MAX, 8u32.wrapping_neg()][random.below(4)]);
            elf.0[target..target + size.min(4)].copy_from_slice(&near.to_ne_bytes()[..size.min(4)]);
        }
        _ => elf.0[target] ^= 1 << random.below(8),
    }
}

#[test]
fn inspect_covers_what_the_kernel_gets_of_modified_objects() {
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "this test needs root, and CI must not skip it");
        eprintln!("SKIPPED: {} needs root", module_path!());
        return;
    }
    let (object, mut random) = (compile(SOURCE), Random(0x9e37_79b9_7f4a_7c15));
    let types = KernelTypes::default();
    let rounds = std::env::var("ROUNDS").map_or(300, |it| it.parse().expect("a number"));
    let (mut compared, mut changed) = (0, 0);
    for round in 0..rounds {
        let mut elf = Elf(object.clone());
        for _ in 0..=random.below(2) {
            change(&mut elf, &mut random);
        }
        let vm = Vm::new(Options::new()).expect("a vm");
        if vm.open_object(&elf.0, None).is_err() {
            continue;
        }
        let shown = judged(&elf.0);
        for name in shown.keys() {
            let vm = Vm::new(Options::new()).expect("a vm");
            vm.open_object(&elf.0, None).expect("it has opened before");
            for index in 0..vm.prog_count().expect("programs") {
                let other = vm.prog_at(index).expect("a program").name.to_string_lossy().into_owned();
                vm.prog_set_autoload(&other, other == *name).expect("before load");
            }
            if vm.load().is_err() {
                continue;
            }
            let loaded = judge(&vm.loaded_code().expect("it is loaded"), &types);
            let got = &loaded.iter().find(|program| program.name == *name).expect("the program").findings;
            compared += 1;
            changed += usize::from(got.effects.len() != 1);
            is_shown(&shown, name, got, &format!("round {round}, program {name}"));
        }
    }
    assert!(compared > rounds / 8 && changed > 0, "{compared} programs of {rounds} objects were compared");
}

/// Fails if something in `got` was not reported.
fn is_shown(shown: &BTreeMap<String, Findings>, name: &str, got: &Findings, what: &str) {
    let shown = &shown[name];
    if shown.effects.iter().any(|effect| effect.starts_with("other: anything")) {
        return;
    }
    let known = |effect: &str| effect.split(" (possibly").next().unwrap_or_default().to_owned();
    let effects: Vec<String> = shown.effects.iter().map(|effect| known(effect)).collect();
    assert!(got.helpers.is_subset(&shown.helpers), "{what}: {got:?} {shown:?}");
    for effect in got.effects.iter().map(|effect| known(effect)) {
        assert!(effects.contains(&effect), "{what}: {effect}\n{got:?}\n{shown:?}");
    }
}
