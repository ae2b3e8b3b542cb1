//! libbpf produces the same instructions with an excerpt of the kernel's types as with all of them.
#![allow(missing_docs)]

mod support;

use std::collections::BTreeSet;
use std::ffi::{CStr, CString};
use std::fs;

use eunomia::btf::{Btf, Hook, Index, relocations};
use eunomia::package::Package;
#[cfg(feature = "own-libbpf")]
use eunomia::{Kind, Level, Options};
use libbpf_sys as b;
use support::elf;

const KERNEL: &str = "/sys/kernel/btf/vmlinux";

/// Every kind of CO-RE relocation that the BPF_CORE_READ macros do not generate.
const QUESTIONS: &str = r#"
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

struct task_struct___short { int pid; struct { struct sched_avg avg; } se; } __attribute__((preserve_access_index));
struct mm_struct___same { struct { atomic_t mm_users; }; } __attribute__((preserve_access_index));
long answers[16];

SEC("raw_tp/sys_enter")
int ask(void *ctx)
{
    struct task_struct *task = (void *)bpf_get_current_task();
    struct task_struct___short *other = (void *)task;
    answers[0] = bpf_core_field_offset(other->se.avg.load_avg);
    answers[1] = bpf_core_field_exists(other->pid) + bpf_core_field_size(task->comm);
    answers[2] = bpf_core_type_size(struct task_struct) + bpf_core_type_exists(pid_t);
    answers[3] = bpf_core_enum_value(enum pid_type, PIDTYPE_SID);
    answers[4] = BPF_CORE_READ_BITFIELD_PROBED(task, sched_reset_on_fork);
    answers[5] = bpf_core_field_offset(((struct signal_struct *)0)->rlim[3].rlim_max);
    answers[6] = bpf_core_field_offset(((struct mm_struct___same *)0)->mm_users.counter);
    answers[7] = bpf_core_type_exists(work_func_t) + bpf_core_type_exists(struct list_head);
    answers[8] = bpf_core_field_offset(((struct sock *)0)->__sk_common.skc_dport);
    answers[10] = bpf_core_type_id_local(struct task_struct);
    return 0;
}
char LICENSE[] SEC("license") = "GPL";
"#;

#[test]
fn libbpf_produces_the_same_instructions_with_an_excerpt() {
    needs_root!();
    let kernel = fs::read(KERNEL).unwrap();
    let mut packages: Vec<_> = fs::read_dir(support::root().join("target/packages"))
        .expect("make packages")
        .map(|folder| folder.unwrap().path().join("package.json"))
        .filter(|path| path.exists())
        .map(|path| (path.display().to_string(), fs::read(&path).unwrap()))
        .collect();
    packages.push(("questions".into(), support::package(QUESTIONS)));
    let (mut compared, mut index) = (0, Index::new());
    for (name, package) in packages {
        let object = Package::parse(&package).unwrap().object;
        let Some(alone) = excerpt(&object, &kernel, &mut Index::new()) else { continue };
        for what in ["what was found for others", "what was found for it"] {
            assert!(
                excerpt(&object, &kernel, &mut index).as_ref() == Some(&alone),
                "{name}: {what} leads elsewhere"
            );
        }
        assert!(alone.len() < 100_000, "{name}: {} bytes", alone.len());
        let whole = instructions(&object, None);
        assert_eq!(instructions(&object, Some(&alone)), whole, "{name}");
        compared += 1;
    }
    assert!(compared > 10, "only {compared} packages ask for types of the kernel");
}

/// Some relocations depend on all types of the kernel; for those the excerpt is not used.
#[test]
fn relocations_that_an_excerpt_cannot_resolve_use_all_types() {
    needs_root!();
    let kernel = fs::read(KERNEL).unwrap();
    let asks_for = |question: &str| {
        let source = format!(
            "#include \"vmlinux.h\"\n#include <bpf/bpf_helpers.h>\n#include <bpf/bpf_core_read.h>\n
            struct no_such_struct {{ int member; }} __attribute__((preserve_access_index));
            long answer; SEC(\"raw_tp/sys_enter\") int ask(void *ctx) {{ answer = {question}; return 0; }}
            char LICENSE[] SEC(\"license\") = \"GPL\";"
        );
        support::package(&source)
    };
    for (question, suffices) in [
        ("bpf_core_type_id_kernel(struct task_struct)", false),
        ("bpf_core_type_exists(struct no_such_struct)", false),
        ("bpf_core_type_exists(struct task_struct)", true),
    ] {
        let package = asks_for(question);
        let object = Package::parse(&package).unwrap().object;
        assert_eq!(excerpt(&object, &kernel, &mut Index::new()).is_some(), suffices, "{question}");
        let before = memory_files();
        let vm = support::opened(&package);
        assert_eq!(memory_files().difference(&before).count(), usize::from(suffices), "{question}");
        vm.load().unwrap();
    }
}

#[test]
fn damaged_kernel_types_are_refused_or_read() {
    let object = Package::parse(&support::package(QUESTIONS)).unwrap().object;
    let local = Btf::parse(elf::content(&object, ".BTF")).unwrap();
    let mut relocations = relocations(elf::content(&object, ".BTF.ext")).unwrap();
    // An excerpt is small enough to be damaged at every offset.
    let sound =
        local.excerpt(&relocations, &mut [], &fs::read(KERNEL).unwrap(), &mut Index::new()).unwrap().btf;
    assert!(local.excerpt(&relocations, &mut [], &sound, &mut Index::new()).unwrap().is_sufficient);
    for len in 0..sound.len() {
        assert!(
            local.excerpt(&relocations, &mut [], &sound[..len], &mut Index::new()).is_err(),
            "{len} bytes"
        );
    }
    let mut read = 0;
    for at in 0..sound.len() {
        for value in [0, 1, 0x7f, 0xff] {
            let mut damaged = sound.clone();
            damaged[at] = value;
            read += usize::from(local.excerpt(&relocations, &mut [], &damaged, &mut Index::new()).is_ok());
        }
    }
    assert!(read > sound.len(), "only {read} could be read");
    // Only newer compilers generate relocations that match whole types.
    relocations.iter_mut().for_each(|relocation| relocation.kind = 12);
    let whole =
        local.excerpt(&relocations, &mut [], &fs::read(KERNEL).unwrap(), &mut Index::new()).unwrap().btf;
    assert!(whole.len() > 10 * sound.len(), "{} bytes, {} of them asked for", whole.len(), sound.len());
    Btf::parse(&whole).unwrap();
}

#[test]
fn hooks_have_the_ids_that_libbpf_finds() {
    let hook = |section: &str, name: &str, is_typedef| Hook {
        section: section.into(),
        name: name.into(),
        is_typedef,
        id: 1,
    };
    let mut hooks = [
        hook("fentry/do_unlinkat", "do_unlinkat", false),
        hook("iter/task", "bpf_iter_task", false),
        hook("tp_btf/sched_switch", "btf_trace_sched_switch", true),
        hook("fexit/vfs_read", "vfs_read", false),
        // A longer name does not match, nor does a name of another kind.
        hook("fentry/do_unlink", "do_unlink", false),
        hook("fentry/task_struct", "task_struct", false),
    ];
    let object = Package::parse(&support::package(QUESTIONS)).unwrap().object;
    let local = Btf::parse(elf::content(&object, ".BTF")).unwrap();
    let (kernel, mut index) = (fs::read(KERNEL).unwrap(), Index::new());
    local.excerpt(&[], &mut hooks, &kernel, &mut index).unwrap();
    let found = hooks.clone();
    hooks.reverse();
    local.excerpt(&[], &mut hooks, &kernel, &mut index).unwrap();
    hooks.reverse();
    assert_eq!(hooks, found, "asked again");
    for hook in &hooks {
        let (kind, name) = hook.section.split_once('/').unwrap();
        let kind = match kind {
            "fentry" => b::BPF_TRACE_FENTRY,
            "fexit" => b::BPF_TRACE_FEXIT,
            "iter" => b::BPF_TRACE_ITER,
            _ => b::BPF_TRACE_RAW_TP,
        };
        let name = CString::new(name).unwrap();
        // SAFETY: the name lives for the call.
        let id = unsafe { b::libbpf_find_vmlinux_btf_id(name.as_ptr(), kind) };
        assert_eq!(hook.id, u32::try_from(id).unwrap_or(0), "{}", hook.section);
    }
    assert_eq!(hooks.iter().filter(|hook| hook.id > 0).count(), 4, "{hooks:?}");
}

/// Loads a program of a section. Returns whether libbpf has read all types of the kernel, which it logs, and the result.
#[cfg(feature = "own-libbpf")]
fn load(section: &str, arguments: &str, libbpf_sections: bool) -> (bool, Result<(), String>) {
    let source = format!(
        "#include \"vmlinux.h\"\n#include <bpf/bpf_helpers.h>\n#include <bpf/bpf_tracing.h>\n
        SEC(\"{section}\") int hit({arguments}) {{ return 0; }} char LICENSE[] SEC(\"license\") = \"GPL\";"
    );
    let options = Options::new().log_level(Level::Debug).libbpf_sections(libbpf_sections);
    let (vm, log) = support::vm_with(options);
    vm.open(&support::package(&source), Kind::Json).unwrap();
    let loaded = vm.attach().map_err(|error| error.to_string());
    let log = log.lock().unwrap();
    (log.iter().any(|line| line.contains("loaded kernel BTF")), loaded)
}

#[cfg(feature = "own-libbpf")]
const HOOKS: [(&str, &str); 3] = [
    ("tp_btf/sched_switch", "void *ctx"),
    ("iter/task", "struct bpf_iter__task *ctx"),
    ("iter.s/task", "struct bpf_iter__task *ctx"),
];

#[test]
#[cfg(feature = "own-libbpf")]
fn a_hook_of_the_kernel_itself_is_found_without_reading_all_types() {
    needs_root!();
    if support::uses_libbpf_sections() {
        return;
    }
    for (section, arguments) in HOOKS {
        assert_eq!(load(section, arguments, false), (false, Ok(())), "{section}");
    }
    let (all, loaded) = load("?tp_btf/sched_switch", "void *ctx", false);
    assert!(!all && loaded.is_ok(), "a program that is not loaded: {loaded:?}");
    // A tracepoint that vmlinux lacks may be in a module, so all types are read, including those of modules.
    let (all, loaded) = load("tp_btf/no_such_tracepoint", "void *ctx", false);
    let told = "this kernel has no target for tp_btf/no_such_tracepoint";
    assert!(all && loaded.as_ref().unwrap_err().contains(told), "{loaded:?}");
}

/// The test runs in a process of its own, because section handlers stay registered for the process.
#[test]
#[cfg(feature = "own-libbpf")]
fn libbpf_finds_hooks_where_its_section_handlers_are_left_in_place() {
    needs_root!();
    if support::child::folder().is_none() {
        let folder = tempfile::tempdir().unwrap();
        let name = "libbpf_finds_hooks_where_its_section_handlers_are_left_in_place";
        return support::child::run(name, &[], folder.path());
    }
    for (section, arguments) in HOOKS {
        assert_eq!(load(section, arguments, true), (true, Ok(())), "{section}");
    }
    if !support::uses_libbpf_sections() {
        // A vm without the option registers the handlers of the library. A vm with the option still works.
        for libbpf_sections in [false, true] {
            for (section, arguments) in HOOKS {
                let expected = (libbpf_sections, Ok(()));
                assert_eq!(load(section, arguments, libbpf_sections), expected, "{section}");
            }
        }
    }
}

/// The excerpt for an object; `None` if it refers to no types, or if an excerpt does not suffice.
fn excerpt(object: &[u8], kernel: &[u8], index: &mut Index) -> Option<Vec<u8>> {
    let local = Btf::parse(elf::content(object, ".BTF")).unwrap();
    let relocations = relocations(elf::content(object, ".BTF.ext")).unwrap();
    let excerpt = local.excerpt(&relocations, &mut [], kernel, index).unwrap();
    (!relocations.is_empty() && excerpt.is_sufficient).then_some(excerpt.btf)
}

/// The instructions of each program as libbpf passes them to the kernel, without the descriptors of maps.
fn instructions(object: &[u8], btf: Option<&[u8]>) -> Vec<(String, Vec<u64>)> {
    let file = btf.map(|btf| {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut file, btf).unwrap();
        file
    });
    let path = file.as_ref().map(|file| CString::new(file.path().as_os_str().as_encoded_bytes()).unwrap());
    let opts = b::bpf_object_open_opts {
        sz: size_of::<b::bpf_object_open_opts>() as _,
        object_name: c"same".as_ptr(),
        btf_custom_path: path.as_ref().map_or(std::ptr::null(), |path| path.as_ptr()),
        ..Default::default()
    };
    let mut made = Vec::new();
    // SAFETY: all arguments live until the object is closed; libbpf returns the number of instructions.
    unsafe {
        let opened = b::bpf_object__open_mem(object.as_ptr().cast(), object.len() as _, &opts);
        assert!(!opened.is_null());
        assert_eq!(b::bpf_object__prepare(opened), 0);
        let mut prog = b::bpf_object__next_program(opened, std::ptr::null_mut());
        while !prog.is_null() {
            let name = CStr::from_ptr(b::bpf_program__name(prog)).to_string_lossy().into_owned();
            let count = b::bpf_program__insn_cnt(prog) as usize;
            let code = std::slice::from_raw_parts(b::bpf_program__insns(prog).cast::<u64>(), count);
            made.push((name, code.iter().map(|code| without_descriptor(*code)).collect()));
            prog = b::bpf_object__next_program(opened, prog);
        }
        b::bpf_object__close(opened);
    }
    made
}

/// Clears the map descriptor in the upper half of an instruction that loads a map's address.
fn without_descriptor(code: u64) -> u64 {
    const LOAD_64: u64 = 0x18;
    let loads_map = code & 0xff == LOAD_64 && code >> 12 & 0xf != 0;
    if loads_map { code & 0xffff_ffff } else { code }
}

fn memory_files() -> BTreeSet<i32> {
    let files = support::kernel::descriptors().into_iter();
    files.filter(|(_, target)| target.contains("memfd:eunomia")).map(|(fd, _)| fd).collect()
}
