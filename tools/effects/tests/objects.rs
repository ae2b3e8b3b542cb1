//! Real objects with changes that could hide their effects: everything that libbpf would load is reported.

mod support;

use eunomia::error::Subject;
use eunomia::{Options, Status, Vm};
use support::objects::{Elf, codes, compile, effects, judged};

const SIGNALS: &str = "sends signals to processes";
const UNCLEAR: &str = "other: anything";

const EVIL: &str = r#"
SEC("tp/syscalls/sys_enter_getpgid") int evil(void *ctx) { bpf_send_signal(28); return 0; }
SEC("tp/syscalls/sys_enter_getsid") int idle(void *ctx) { return 0; }
"#;

#[test]
fn a_relocation_that_libbpf_ignores_hides_no_call() {
    let mut elf = Elf(compile(EVIL));
    let section = elf.section("tp/syscalls/sys_enter_getpgid");
    let (license, _) = elf.symbol("LICENSE");
    let (at, len) = elf.contents(section);
    let calls: Vec<u64> = (0..len as u64).step_by(8).filter(|it| elf.0[at + *it as usize] == 0x85).collect();
    let over: Vec<(u64, u32)> = calls.iter().map(|call| (*call, license)).collect();
    elf.add_relocations(4, section, &over);
    assert_eq!(effects(&elf.0, "evil"), SIGNALS);
    assert_eq!(effects(&elf.0, "idle"), "");
    // libbpf refuses such a relocation in a section that it reads.
    let mut elf = Elf(compile(EVIL));
    elf.add_relocations(9, section, &over);
    assert!(codes(&elf.0).is_err());
}

#[test]
fn the_same_in_a_function_that_the_program_calls() {
    let source = r#"
    static noinline int inner(int number) { return bpf_send_signal(number); }
    SEC("tp/syscalls/sys_enter_getpgid") int evil(void *ctx) { return inner(28) + inner(29); }
    "#;
    let mut elf = Elf(compile(source));
    assert_eq!(effects(&elf.0, "evil"), SIGNALS);
    let text = elf.section(".text");
    let (license, _) = elf.symbol("LICENSE");
    let (at, len) = elf.contents(text);
    let calls = (0..len as u64).step_by(8).filter(|it| elf.0[at + *it as usize] == 0x85);
    let over: Vec<(u64, u32)> = calls.map(|call| (call, license)).collect();
    assert!(!over.is_empty());
    elf.add_relocations(4, text, &over);
    // Relocations of the call of the function do not hide it either.
    let section = elf.section("tp/syscalls/sys_enter_getpgid");
    elf.add_relocations(4, section, &[(0, license), (8, license), (16, license)]);
    assert_eq!(effects(&elf.0, "evil"), SIGNALS);
}

#[test]
fn an_ignored_relocation_section_hides_no_function() {
    // The first of two functions is called without a relocation, by its offset in `.text`. A relocation that libbpf
    // skips refers to the second.
    let source = r#"
    static noinline int inner(int it) { return bpf_send_signal(it); }
    static noinline int other(int it) { return bpf_ktime_get_ns() + it; }
    SEC("tp/syscalls/sys_enter_getpgid") int evil(void *ctx) { return inner(28); }
    SEC("tp/syscalls/sys_enter_getsid") int idle(void *ctx) { return other(28); }
    "#;
    let mut elf = Elf(compile(source));
    let (section, names) =
        (elf.section("tp/syscalls/sys_enter_getpgid"), elf.section(".reltp/syscalls/sys_enter_getpgid"));
    let (at, len) = elf.contents(section);
    let call = (0..len).step_by(8).find(|it| elf.0[at + it] == 0x85).expect("a call");
    // The function that libbpf calls without a relocation: the offset in `.text` is relative to the call.
    let (_, inner) = elf.symbol("inner");
    let place = u64::from_ne_bytes(elf.0[inner + 8..inner + 16].try_into().expect("eight bytes")) as i32 / 8;
    let imm = place - call as i32 / 8 - 1;
    elf.0[at + call + 4..at + call + 8].copy_from_slice(&imm.to_ne_bytes());
    let (other, _) = elf.symbol("other");
    let (relocation, _) = elf.contents(names);
    elf.0[relocation + 12..relocation + 16].copy_from_slice(&other.to_ne_bytes());
    assert_eq!(effects(&elf.0, "idle"), "");
    for name in [".rel.BTF", ".rel.BTF.ext", ".rel.debug_info"] {
        let mut elf = Elf(elf.0.clone());
        let like = elf.section(name);
        elf.rename(names, like);
        assert_eq!(effects(&elf.0, "evil"), SIGNALS, "{name}");
    }
}

#[test]
fn duplicate_names_are_refused() {
    let refused = |object: &[u8]| {
        let vm = Vm::new(Options::new()).expect("a vm");
        let error = vm.open_object(object, None).expect_err("it has a name twice");
        assert_eq!(error.status(), Status::Package);
        (error.subject().cloned(), error.message().to_owned())
    };
    let mut elf = Elf(compile(EVIL));
    elf.replace(b"idle\0", b"evil\0");
    let (subject, message) = refused(&elf.0);
    assert!(matches!(subject, Some(Subject::Program { name, .. }) if name == "evil"), "{message}");
    assert_eq!(message, "program \"evil\": the object has several programs with this name");
    let maps = r#"
    struct { int (*type)[1]; int *key; u64 *value; int (*max_entries)[64]; } one SEC(".maps");
    struct { int (*type)[1]; int *key; u64 *value; int (*max_entries)[64]; } two SEC(".maps");
    SEC("tp/syscalls/sys_enter_getpgid") int p(void *ctx) {
        int key = 0;
        return !bpf_map_lookup_elem(&one, &key);
    }
    "#;
    let mut elf = Elf(compile(maps));
    assert_eq!(effects(&elf.0, "p"), "");
    elf.replace(b"two\0", b"one\0");
    let (subject, message) = refused(&elf.0);
    assert!(matches!(subject, Some(Subject::Map(name)) if name == "one"), "{message}");
    // Functions of `.text` may share a name with a program.
    let shared = r#"
    static noinline int helpr(void *ctx) { return bpf_send_signal(28); }
    SEC("tp/syscalls/sys_enter_getpgid") int evil(void *ctx) { return helpr(ctx); }
    SEC("tp/syscalls/sys_enter_getsid") int other(void *ctx) { return 0; }
    "#;
    let mut elf = Elf(compile(shared));
    elf.replace(b"helpr\0", b"other\0");
    assert_eq!((effects(&elf.0, "evil").as_str(), effects(&elf.0, "other").as_str()), (SIGNALS, ""));
}

#[test]
fn overlapping_functions_are_not_reported_as_harmless() {
    let source = r#"
    SEC("tp/sched/sched_switch") int first(void *ctx) { bpf_ktime_get_ns(); bpf_ktime_get_ns(); return 0; }
    SEC("tp/sched/sched_switch") int second(void *ctx) { bpf_send_signal(28); return 0; }
    "#;
    let mut elf = Elf(compile(source));
    assert_eq!((effects(&elf.0, "first").as_str(), effects(&elf.0, "second").as_str()), ("", SIGNALS));
    // The second function begins inside the first, or the first extends into the second.
    let (_, at) = elf.symbol("second");
    let mut moved = Elf(elf.0.clone());
    moved.set_long(at + 8, 8);
    for program in ["first", "second"] {
        assert!(effects(&moved.0, program).contains(UNCLEAR), "{}", effects(&moved.0, program));
    }
    let (_, at) = elf.symbol("first");
    let (_, len) = elf.contents(elf.section("tp/sched/sched_switch"));
    elf.set_long(at + 16, len as u64);
    for program in ["first", "second"] {
        assert!(effects(&elf.0, program).contains(UNCLEAR), "{}", effects(&elf.0, program));
    }
}

#[test]
fn callbacks_and_exception_handlers_are_followed() {
    let callback = r#"
    static int each(u32 index, void *data) { bpf_send_signal(28); return 0; }
    SEC("tp/syscalls/sys_enter_getpgid") int evil(void *ctx) { return bpf_loop(3, each, (void *)0, 0); }
    "#;
    assert_eq!(effects(&compile(callback), "evil"), SIGNALS);
    let thrown = r#"
    extern void bpf_throw(u64) ksym;
    noinline int caught(u64 cookie) { return bpf_send_signal(28); }
    static noinline int never(u64 cookie) { return 0; }
    SEC("tp/syscalls/sys_enter_getpgid") __attribute__((btf_decl_tag("exception_callback:caught")))
    int evil(void *ctx) { bpf_throw(1); return never(2); }
    SEC("tp/syscalls/sys_enter_getsid") int other(void *ctx) { return 0; }
    "#;
    let object = compile(thrown);
    let shown = effects(&object, "evil");
    assert!(shown.contains(SIGNALS) && shown.contains("bpf_throw"), "{shown}");
    assert_eq!(effects(&object, "other"), "");
    let drops = r#"
    extern void bpf_throw(u64) ksym;
    SEC("cgroup_skb/egress") int p(void *ctx) { bpf_throw(0); return 1; }
    "#;
    assert!(effects(&compile(drops), "p").contains("drops packets"));
}

#[test]
fn values_relocated_by_core_are_not_constants() {
    let ways = [
        (
            "whether a member exists",
            "__builtin_preserve_field_info(((struct task_struct___x *)0)->no_member, 2)",
        ),
        (
            "the size of a member",
            "__builtin_preserve_field_info(((struct task_struct___x *)0)->no_member, 1)",
        ),
        (
            "the place of a member",
            "__builtin_preserve_field_info(((struct task_struct___x *)0)->no_member, 0)",
        ),
        ("whether a type exists", "__builtin_preserve_type_info(*(struct task_struct___x *)0, 0)"),
        ("the size of a type", "__builtin_preserve_type_info(*(struct task_struct___x *)0, 1)"),
        ("the id of a type", "__builtin_btf_type_id(*(struct task_struct___x *)0, 1)"),
        (
            "a constant of an enum",
            "__builtin_preserve_enum_value(*(typeof(enum cgroup_bpf_attach_type___x) *)CGROUP_INET_EGRESS___x, 1)",
        ),
        (
            "whether a constant exists",
            "__builtin_preserve_enum_value(*(typeof(enum cgroup_bpf_attach_type___x) *)CGROUP_INET_EGRESS___x, 0)",
        ),
    ];
    for (what, value) in ways {
        let source = format!(
            r#"
            struct task_struct___x {{ int no_member; }} core;
            enum cgroup_bpf_attach_type___x {{ CGROUP_INET_EGRESS___x = 1 }};
            SEC("cgroup_skb/egress") int p(void *ctx) {{ return {value}; }}
            SEC("cgroup_skb/ingress") int q(void *ctx) {{ return 1; }}
            "#
        );
        let object = compile(&source);
        let shown = effects(&object, "p");
        assert!(shown.contains("drops packets (possibly"), "{what}: {shown}");
        assert_eq!(effects(&object, "q"), "", "{what}");
    }
}

#[test]
fn variables_are_not_constants() {
    let values = [
        ("a constant that arguments set", "const volatile int value = 1;"),
        ("a variable", "volatile int value = 1;"),
        ("one that begins as 0", "volatile int value;"),
        ("one in a section of its own", "volatile int value SEC(\".data.own\") = 1;"),
        ("the kernel's configuration", "extern int value __attribute__((section(\".kconfig\"), weak));"),
        ("a variable of the kernel", "extern const int value ksym __attribute__((weak));"),
    ];
    for (what, variable) in values {
        let source = format!("{variable}\nSEC(\"cgroup_skb/egress\") int p(void *ctx) {{ return value; }}");
        let shown = effects(&compile(&source), "p");
        assert!(shown.contains("drops packets (possibly"), "{what}: {shown}");
    }
    let weak = r#"
    extern void crash_kexec(void *) ksym __attribute__((weak));
    SEC("fentry/do_nanosleep") int p(void *ctx) { if (crash_kexec) crash_kexec(0); return 0; }
    "#;
    assert_eq!(effects(&compile(weak), "p"), "stops the whole machine");
}

#[test]
fn a_kernel_function_is_known_by_the_name_that_libbpf_looks_for() {
    let source = r#"
    extern void bpf_throw___harmless(u64) ksym;
    extern void bpf_rcu_read_lock___again(void) ksym;
    extern void bpf_rcu_read_lock_but_worse(void) ksym;
    SEC("fentry/do_nanosleep") int p(void *ctx) { bpf_throw___harmless(0); return 0; }
    SEC("fentry/do_nanosleep") int q(void *ctx) { bpf_rcu_read_lock___again(); return 0; }
    SEC("fentry/do_nanosleep") int r(void *ctx) { bpf_rcu_read_lock_but_worse(); return 0; }
    "#;
    let found = judged(&compile(source));
    assert!(found["p"].effects.iter().any(|effect| effect.contains("bpf_throw")), "{found:?}");
    assert!(found["q"].effects.is_empty() && found["q"].kfuncs.contains("bpf_rcu_read_lock"), "{found:?}");
    let other = "other: kernel function bpf_rcu_read_lock_but_worse";
    assert!(found["r"].effects.contains(other), "{found:?}");
}

#[test]
fn memory_allocated_at_run_time_is_named() {
    let source = r#"
    extern void *bpf_obj_new_impl(u64 type, void *meta) ksym;
    extern void *bpf_percpu_obj_new_impl(u64 type, void *meta) ksym;
    SEC("tp_btf/sys_enter") int p(void *ctx) { return bpf_obj_new_impl(1, 0) != 0; }
    SEC("tp_btf/sys_enter") int q(void *ctx) { return bpf_percpu_obj_new_impl(1, 0) != 0; }
    "#;
    let found = judged(&compile(source));
    for name in ["p", "q"] {
        assert!(found[name].effects.contains("takes kernel memory that no limit counts"), "{found:?}");
    }
}

#[test]
fn a_pinned_map_is_shown_whatever_its_symbol_is_called() {
    let source = r#"
    struct { int (*type)[1]; int *key; u64 *value; int (*max_entries)[64]; } plain SEC(".maps");
    struct { int (*type)[1]; int *key; u64 *value; int (*max_entries)[64]; int (*pinning)[1]; } other SEC(".maps");
    SEC("tp/syscalls/sys_enter_getpgid") int p(void *ctx) { int key = 0; return !bpf_map_lookup_elem(&plain, &key); }
    SEC("tp/syscalls/sys_enter_getsid") int q(void *ctx) { int key = 0; return !bpf_map_lookup_elem(&other, &key); }
    "#;
    let mut elf = Elf(compile(source));
    let shared = "shares the pinned map /sys/fs/bpf/other with others";
    assert_eq!((effects(&elf.0, "p").as_str(), effects(&elf.0, "q").as_str()), ("", shared));
    // The symbols of the two maps are swapped, so libbpf finds the pinned map under the name of the other one.
    let ((_, plain), (_, other)) = (elf.symbol("plain"), elf.symbol("other"));
    let values = [plain, other].map(|at| elf.0[at + 8..at + 16].to_vec());
    elf.0[plain + 8..plain + 16].copy_from_slice(&values[1]);
    elf.0[other + 8..other + 16].copy_from_slice(&values[0]);
    assert_eq!((effects(&elf.0, "p").as_str(), effects(&elf.0, "q").as_str()), ("", shared));
    // Another symbol at the offset of the pinned map has the name of the other map.
    let mut elf = Elf(compile(source));
    let ((_, plain), (_, other), (number, spare)) =
        (elf.symbol("plain"), elf.symbol("other"), elf.symbol("test.bpf.c"));
    elf.0.copy_within(plain..plain + 4, spare);
    elf.0[spare + 4] = 1;
    elf.0.copy_within(other + 6..other + 24, spare + 6);
    let (relocations, _) = elf.contents(elf.section(".reltp/syscalls/sys_enter_getsid"));
    elf.0[relocations + 12..relocations + 16].copy_from_slice(&number.to_ne_bytes());
    assert!(effects(&elf.0, "q").contains(shared), "{}", effects(&elf.0, "q"));
}

#[test]
fn programs_are_found_in_sections_of_any_kind() {
    let source = r#"
    SEC("?tp/syscalls/sys_enter_getpgid") int late(void *ctx) { bpf_send_signal(28); return 0; }
    SEC("xdp") int one(void *ctx) { return 2; }
    SEC("xdp") int two(void *ctx) { return 1; }
    SEC("xdp.frags/devmap") int three(void *ctx) { return 1; }
    SEC("freplace/other") int four(void *ctx) { return 0; }
    SEC("struct_ops/x") int five(void *ctx) { return 0; }
    SEC("lsm.s/file_open") int six(void *ctx) { return -1; }
    SEC("syscall") int seven(void *ctx) { return 0; }
    SEC("iter/task") int eight(void *ctx) { return 0; }
    SEC("fmod_ret/do_nanosleep") int nine(void *ctx) { return -1; }
    SEC("fexit/do_nanosleep") int ten(void *ctx) { return 1; }
    "#;
    let object = compile(source);
    for (program, expected) in [
        ("late", SIGNALS),
        ("one", ""),
        ("two", "drops packets"),
        ("three", "drops packets"),
        ("four", "replaces a function of another BPF program"),
        ("five", "replaces kernel operations"),
        ("six", "denies operations"),
        ("seven", ""),
        ("eight", ""),
        ("nine", "overrides results of kernel functions"),
        ("ten", ""),
    ] {
        assert_eq!(effects(&object, program), expected, "{program}");
    }
}

/// Programs that share one chain of functions. Each program calls the whole chain.
fn shared(count: usize) -> String {
    let mut source = String::from("static noinline int f0(int it) { return bpf_ktime_get_ns() + it; }\n");
    for index in 1..count {
        let before = index - 1;
        source +=
            &format!("static noinline int f{index}(int it) {{ return f{before}(it + {index}) * 3; }}\n");
    }
    for index in 0..count {
        let last = count - 1;
        source += &format!(
            "SEC(\"tp/sched/sched_switch\") int p{index}(void *ctx) {{ return f{last}({index}); }}\n"
        );
    }
    source
}

#[test]
fn work_is_bounded_by_the_object_size_and_excess_is_reported() {
    let steps = |count: usize| {
        let found = judged(&compile(&shared(count)));
        let is_said =
            |it: &eunomia_effects::Findings| it.effects.iter().any(|effect| effect.starts_with(UNCLEAR));
        (found.values().map(|it| it.steps).sum::<usize>(), found.values().filter(|it| is_said(it)).count())
    };
    let counts = [150, 300, 600].map(steps);
    let instructions = |count: usize| 8 * count;
    for (count, (steps, _)) in [150, 300, 600].into_iter().zip(counts) {
        assert!(steps <= (64 * 3 * instructions(count)).max(3 << 20) * 2, "{counts:?}");
    }
    assert!(counts[0].1 == 0 && counts[2].1 > 0, "{counts:?}");
}

#[test]
fn code_is_linked_as_libbpf_links_it() {
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "this test needs root, and CI must not skip it");
        eprintln!("SKIPPED: {} needs root", module_path!());
        return;
    }
    let source = r#"
    struct { int (*type)[1]; int *key; u64 *value; int (*max_entries)[64]; } plain SEC(".maps");
    struct task_struct { int pid; struct task_struct *real_parent; } core;
    static struct task_struct *(*const bpf_get_current_task)(void) = (void *)35;
    static long (*const bpf_probe_read_kernel)(void *, u32, const void *) = (void *)113;
    volatile int total;
    static noinline int shared(int it) { total += it; return bpf_ktime_get_ns() + it; }
    static noinline int outer(int it) { return shared(it) + shared(it + 1); }
    static int each(u32 index, void *data) { return shared(index) & 1; }
    noinline int global(int it) { return outer(it) * 3; }
    SEC("tp/syscalls/sys_enter_getpgid") int one(void *ctx) {
        int key = 0;
        u64 *value = bpf_map_lookup_elem(&plain, &key);
        if (value) *value += outer(7);
        return global(3);
    }
    SEC("tp/syscalls/sys_enter_getsid") int two(void *ctx) {
        int pid = 0;
        struct task_struct *task = bpf_get_current_task();
        bpf_probe_read_kernel(&pid, sizeof(pid), &task->pid);
        return bpf_loop(3, each, (void *)0, 0) + pid + outer(1);
    }
    "#;
    let mut objects = vec![compile(source)];
    let packages = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/packages");
    for folder in std::fs::read_dir(packages).expect("run `make packages` first").flatten() {
        let name = folder.file_name().into_string().expect("UTF-8");
        objects.extend(std::fs::read(folder.path().join(format!("{name}.bpf.o"))));
    }
    let mut compared = 0;
    for object in &objects {
        let codes = codes(object).expect("it opens");
        let vm = Vm::new(Options::new()).expect("a vm");
        vm.open_object(object, None).expect("it opens");
        if vm.load().is_err() {
            continue;
        }
        for index in 0..vm.prog_count().expect("programs") {
            let info = vm.prog_at(index).expect("a program");
            let (_, linked) = &codes[&*info.name.to_string_lossy()];
            let loaded = vm.prog_code_at(index).expect("its code").instructions;
            let loaded: Vec<_> = loaded.into_iter().map(eunomia_effects::Instruction::new).collect();
            assert_eq!(linked.instructions.len(), loaded.len(), "{:?}", info.name);
            for (place, (mine, libbpfs)) in linked.instructions.iter().zip(&loaded).enumerate() {
                let is_call = mine.code == 0x85;
                if linked.relocated.contains(&place) {
                    continue;
                }
                assert_eq!((mine.code, mine.dst), (libbpfs.code, libbpfs.dst), "{:?} at {place}", info.name);
                if is_call {
                    assert_eq!(mine.src, libbpfs.src, "{:?} at {place}", info.name);
                }
                if is_call && mine.src != 2 {
                    assert_eq!(mine.imm, libbpfs.imm, "{:?} at {place}", info.name);
                }
            }
            compared += 1;
        }
    }
    assert!(compared >= 20, "{compared} programs were compared");
}
