//! `--btfgen`: BTF for kernels that have none, from an archive with the BTF of the running kernel.
#![allow(missing_docs)]

mod support;

use std::fs;
use std::io::Read;
use std::process::Command;

use eunomia::package::machine;
use eunomia::{Kind, Options, Vm};
use serde_json::Value;
use support::{Project, bpftool, may_load};

/// Uses every kind of CO-RE relocation, and stores the results.
const QUESTIONS: &str = r#"
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#define CORE __attribute__((preserve_access_index))
struct task_struct___old { long state; } CORE;
struct task_struct___other { int pid; struct { int none; } no_such_member; } CORE;
struct no_such_struct { int member; } CORE;
enum pid_type___more { PIDTYPE_SID___more, PIDTYPE_NO_SUCH___more };

unsigned long answers[24] = {};
unsigned int only_tgid = 0;

SEC("raw_tp/sys_enter")
int ask(void *ctx)
{
    // Other processes have other parents.
    if (bpf_get_current_pid_tgid() >> 32 != only_tgid)
        return 0;
    struct task_struct *task = (void *)bpf_get_current_task();
    struct task_struct___old *old = (void *)task;
    struct task_struct___other *other = (void *)task;
    answers[0] = bpf_core_field_exists(old->state);
    answers[1] = bpf_core_field_exists(other->pid);
    answers[2] = bpf_core_field_exists(other->no_such_member.none);
    answers[3] = bpf_core_type_exists(struct no_such_struct);
    answers[4] = bpf_core_type_size(struct task_struct);
    answers[5] = bpf_core_type_exists(pid_t);
    answers[6] = bpf_core_type_exists(atomic_t);
    answers[7] = bpf_core_enum_value_exists(enum pid_type, PIDTYPE_SID);
    answers[8] = bpf_core_enum_value(enum pid_type, PIDTYPE_SID);
    answers[9] = bpf_core_enum_value_exists(enum pid_type___more, PIDTYPE_NO_SUCH___more);
    answers[10] = bpf_core_field_size(task->comm);
    answers[11] = (unsigned long)&task->se.avg.load_avg - (unsigned long)task;
    answers[12] = (unsigned long)&((struct signal_struct *)0)->rlim[3].rlim_max;
    answers[13] = (unsigned long)&((struct mm_struct *)0)->mm_users;
    answers[14] = (unsigned long)&((struct mm_struct *)0)->mm_users.counter;
    answers[15] = bpf_core_field_offset(task->sched_reset_on_fork);
    answers[16] = BPF_CORE_READ_BITFIELD_PROBED(task, in_execve);
    answers[17] = BPF_CORE_READ(task, real_parent, tgid);
    answers[18] = BPF_CORE_READ(task, nsproxy, pid_ns_for_children, level);
    answers[19] = BPF_CORE_READ(task, group_leader, cred, uid.val);
    answers[20] = bpf_core_field_exists(task->thread.sp);
    answers[21] = bpf_core_field_size(((struct sk_buff *)0)->cb);
    answers[22] = (unsigned long)&((struct sock *)0)->__sk_common.skc_dport;
    return 0;
}
char LICENSE[] SEC("license") = "GPL";
"#;

const KERNEL: &str = "/sys/kernel/btf/vmlinux";

/// A project whose archive has the running kernel's BTF in several directories, for this machine and another.
fn project(name: &str) -> Project {
    let project = Project::new(name).file("questions.bpf.c", QUESTIONS);
    for path in
        ["debian/12/x86_64/6.1.0-1-amd64", "debian/12/x86_64/6.1.0-2-amd64", "debian/12/arm64/6.1.0-1-arm64"]
    {
        let file = project.path(&format!("archive/{path}.btf"));
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::copy(KERNEL, file).unwrap();
    }
    // Packed as BTFHub publishes it.
    let dir = project.path("archive/ubuntu/20.04/x86_64");
    fs::create_dir_all(&dir).unwrap();
    fs::copy(KERNEL, project.path("5.4.0-1-generic.btf")).unwrap();
    let mut tar = Command::new("tar");
    tar.current_dir(&project.dir).env("XZ_OPT", "-0").arg("-cJf").arg(dir.join("5.4.0-1-generic.btf.tar.xz"));
    assert!(tar.arg("5.4.0-1-generic.btf").status().unwrap().success());
    project.file("archive/README.md", "no BTF")
}

const BTFGEN: [&str; 3] = ["--btfgen", "--btfhub-archive", "archive"];

/// The results of the program, with the kernel's types from a file or from the kernel.
fn answers(project: &Project, btf: Option<&str>) -> String {
    let options = btf.map_or(Options::new(), |path| Options::new().btf_path(project.path(path)));
    let vm = Vm::new(options).unwrap();
    vm.open(&fs::read(project.path("package.json")).unwrap(), Kind::Json).unwrap();
    vm.var_set_json("only_tgid", &std::process::id().to_string()).unwrap();
    vm.attach().unwrap_or_else(|e| panic!("{btf:?}: {e} {}", e.detail()));
    std::thread::yield_now();
    vm.detach().unwrap();
    vm.var_get_json("answers").unwrap()
}

#[test]
fn reduced_btf_gives_the_same_results_as_the_whole() {
    if machine::native() != "x86_64" || !may_load("reduced_btf_gives_the_same_results_as_the_whole") {
        return;
    }
    let project = project("the-least-btf");
    project.compile(&[&["questions.bpf.c", "--arch", "x86_64"], &BTFGEN[..]].concat());
    let package = project.package();
    let btf = package.kernel_btf("debian/12/x86_64", "6.1.0-1-amd64").unwrap().unwrap();
    fs::write(project.path("least.btf"), &btf).unwrap();
    assert!(btf.len() < 4096, "{} bytes", btf.len());

    let expected = answers(&project, None);
    let values: Vec<u64> = serde_json::from_str(&expected).unwrap();
    // Some exist, some do not.
    assert_eq!(values[..4], [0, 1, 0, 0], "{expected}");
    assert_eq!(values[5..11], [1, 1, 1, 3, 0, 16], "{expected}");
    assert!([4, 11, 12, 13, 14, 15, 20, 21].iter().all(|at| values[*at] != 0), "{expected}");
    assert_eq!(answers(&project, Some("least.btf")), expected);

    // bpftool writes the same types, and may add types that are not needed.
    let object = project.path("questions.bpf.o");
    let theirs = project.path("theirs.btf");
    bpftool(&["gen", "min_core_btf", KERNEL, theirs.to_str().unwrap(), object.to_str().unwrap()]);
    let (ours, theirs) = (btf.len() as u64, fs::metadata(&theirs).unwrap().len());
    assert!(ours <= theirs, "{ours} bytes, {theirs} of bpftool");
}

#[test]
fn a_package_stores_equal_btf_once_and_the_archive_stores_every_file() {
    let project = project("each-btf-once");
    let messages = project.compile(&[&["questions.bpf.c", "--arch", "x86_64"], &BTFGEN[..]].concat());
    assert_eq!(messages, "");
    let json = fs::read(project.path("package.json")).unwrap();
    let document: Value = serde_json::from_slice(&json).unwrap();
    let kernels = serde_json::json!({
        "debian/12/x86_64": {"6.1.0-1-amd64": 0, "6.1.0-2-amd64": 0},
        "ubuntu/20.04/x86_64": {"5.4.0-1-generic": 0},
    });
    assert_eq!(document["kernel_btf"]["kernels"], kernels);
    assert_eq!(document["kernel_btf"]["types"].as_array().unwrap().len(), 1);
    let package = project.package();
    let btf = package.kernel_btf("ubuntu/20.04/x86_64", "5.4.0-1-generic").unwrap().unwrap();
    assert!(package.kernel_btf("ubuntu/20.04/x86_64", "5.4.0-2-generic").unwrap().is_none());
    // In a container the distribution differs. If two kernels have that release, neither is chosen.
    assert_eq!(package.kernel_btf("alpine/3.20/x86_64", "5.4.0-1-generic").unwrap().as_ref(), Some(&btf));
    assert!(package.kernel_btf("alpine/3.20/arm64", "5.4.0-1-generic").unwrap().is_none());
    let mut package = package;
    package.add_kernel_btf("debian/11/x86_64", "5.4.0-1-generic", b"other types");
    assert!(package.kernel_btf("alpine/3.20/x86_64", "5.4.0-1-generic").unwrap().is_none());
    assert_eq!(package.kernel_btf("ubuntu/20.04/x86_64", "5.4.0-1-generic").unwrap(), Some(btf.clone()));

    let tar = fs::read(project.path("questions.tar")).unwrap();
    let mut archive = tar::Archive::new(&tar[..]);
    let files = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        (entry.path().unwrap().to_str().unwrap().to_owned(), content)
    });
    let expected = [
        ("package.json", &json),
        ("questions.bpf.o", &project.object("questions")),
        ("btfhub-archive/debian/12/x86_64/6.1.0-1-amd64.btf", &btf),
        ("btfhub-archive/debian/12/x86_64/6.1.0-2-amd64.btf", &btf),
        ("btfhub-archive/ubuntu/20.04/x86_64/5.4.0-1-generic.btf", &btf),
    ];
    assert_eq!(files.collect::<Vec<_>>(), expected.map(|(name, content)| (name.to_owned(), content.clone())));

    // A second run gives the same bytes.
    project.compile(&[&["questions.bpf.c", "--arch", "x86_64"], &BTFGEN[..]].concat());
    assert_eq!(fs::read(project.path("package.json")).unwrap(), json);
    assert_eq!(fs::read(project.path("questions.tar")).unwrap(), tar);
}

#[test]
fn unusable_archives_are_reported() {
    let project =
        project("archives-of-no-use").source("plain.bpf.c", "SEC(\"xdp\") int pass(void *c) { return 2; }");
    let error = |archive: &str| project.error(&["questions.bpf.c", "--btfgen", "--btfhub-archive", archive]);
    assert_eq!(error("nowhere"), "nowhere: No such file or directory");
    fs::create_dir(project.path("empty")).unwrap();
    let message = error("empty");
    assert!(
        message.starts_with(&format!("empty: no BTF for {} found; expected ", machine::native())),
        "{message}"
    );
    for (name, reason) in [("bad.btf", "BTF: "), ("bad.btf.tar.xz", "cannot unpack: ")] {
        let path = format!("bad/debian/12/{}/{name}", machine::native());
        let dir = project.path("bad");
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(project.path(&path).parent().unwrap()).unwrap();
        fs::write(project.path(&path), "no BTF").unwrap();
        let message = error("bad");
        assert!(message.starts_with(&format!("{path}: {reason}")), "{message}");
    }
    assert!(!project.path("questions.tar").exists());
    let messages = project.compile(&["plain.bpf.c", "--btfgen", "--btfhub-archive", "archive"]);
    assert!(messages.contains("needs no types of the kernel"), "{messages}");
    assert!(!project.path("plain.tar").exists());
}
