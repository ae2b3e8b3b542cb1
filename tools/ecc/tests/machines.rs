//! Objects for other machines, and packages with several objects.
#![allow(missing_docs)]

mod support;

use eunomia::Status;
use eunomia::package::{Package, machine};
use serde_json::Value;
use support::Project;

/// The registers of three architectures. The offsets of the second argument differ.
const X86: &str =
    "struct pt_regs { unsigned long r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di; };";
const ARM64: &str = "struct user_pt_regs { unsigned long long regs[31], sp, pc, pstate; };\nstruct pt_regs { struct user_pt_regs user_regs; };";
const RISCV: &str = "struct user_regs_struct { unsigned long pc, ra, sp, gp, tp, t0, t1, t2, s0, s1, a0, a1, a2; };\nstruct pt_regs { unsigned long epc; };";

/// The types that libbpf's headers need from the vmlinux.h of every architecture.
const BASE: &str = "typedef unsigned char __u8; typedef unsigned short __u16; typedef unsigned int __u32;
typedef unsigned long long __u64; typedef short __s16; typedef int __s32; typedef long long __s64; typedef __u16 __be16;
typedef __u32 __be32; typedef __u32 __wsum;
enum bpf_map_type { BPF_MAP_TYPE_ARRAY = 2, BPF_MAP_TYPE_PERCPU_ARRAY = 6 };
struct base { __u8 a; __u16 b; __u32 c; __u64 d; __s16 e; __s32 f; __s64 g; __be16 h; __be32 i; __wsum j; enum bpf_map_type k; };
";

/// Stores the second argument of a function.
const PROBE: &str = r#"
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

unsigned long second = 0;

SEC("kprobe/do_unlinkat")
int probe(struct pt_regs *ctx)
{
    second = PT_REGS_PARM2(ctx);
    return 0;
}
char LICENSE[] SEC("license") = "GPL";
"#;

/// A project with the probe, and the types of three kernels: two as BTF in ELF files, like a `vmlinux`, one as a header.
fn project(name: &str) -> Project {
    let guard =
        |types: &str| format!("#ifndef __VMLINUX_H__\n#define __VMLINUX_H__\n{BASE}{types}\n#endif\n");
    let project = Project::new(name).file("probe.bpf.c", PROBE).file("riscv.h", &guard(RISCV));
    let kernel = |name: &str, types: &str| {
        let (source, object) = (project.path(&format!("{name}.c")), project.path(name));
        std::fs::write(&source, format!("{BASE}{types}\nstruct pt_regs *registers;\nstruct base *base;\n"))
            .unwrap();
        let mut clang = std::process::Command::new("clang");
        clang.args(["-target", "bpf", "-g", "-O2", "-c", "-o"]).arg(object).arg(source);
        assert!(clang.status().unwrap().success());
    };
    kernel("x86.btf", X86);
    kernel("arm64.btf", ARM64);
    project
}

fn package(project: &Project) -> Value {
    serde_json::from_slice(&std::fs::read(project.path("package.json")).unwrap()).unwrap()
}

/// The offset of the first load from the context, from which the program reads its argument.
fn offset(object: &[u8]) -> i16 {
    const LOAD_64_FROM_R1: u8 = 0x79;
    let from_context = |insn: &&[u8]| insn[0] == LOAD_64_FROM_R1 && insn[1] >> 4 == 1;
    let insn = object.chunks_exact(8).find(from_context).expect("the program loads from its context");
    i16::from_ne_bytes([insn[2], insn[3]])
}

#[test]
fn an_object_for_another_machine_uses_its_registers() {
    let project = project("an-object-for-another-machine");
    for (arch, file, expected) in [
        ("arm64", "arm64.btf", 8),
        ("aarch64", "arm64.btf", 8),
        ("riscv", "riscv.h", 11 * 8),
        ("riscv64", "riscv.h", 11 * 8),
        ("x86", "x86.btf", 13 * 8),
        ("x86_64", "x86.btf", 13 * 8),
    ] {
        project.compile(&["probe.bpf.c", "--arch", arch, "--vmlinux", file]);
        assert_eq!(offset(&project.object("probe")), expected, "{arch}");
        assert_eq!(package(&project)["arch"], machine::name(arch));
    }
}

#[test]
fn a_package_for_another_machine_names_it() {
    let project = project("a-package-for-another-machine");
    project.compile(&[
        "probe.bpf.c",
        "--arch=arm64,riscv64",
        "--vmlinux=arm64=arm64.btf",
        "--vmlinux=riscv64=riscv.h",
    ]);
    let refused = Package::parse(package(&project).to_string().as_bytes()).unwrap_err();
    assert_eq!(refused.status(), Status::Unsupported);
    let here = machine::native();
    assert_eq!(
        refused.message(),
        format!("the package has objects for arm64, riscv64, and none for this machine ({here})")
    );
}

#[test]
fn one_package_has_an_object_for_each_machine() {
    if machine::native() != "x86_64" {
        return;
    }
    let project = project("one-package-for-each-machine");
    let kernels =
        ["--vmlinux", "x86_64=x86.btf", "--vmlinux", "arm64=arm64.btf", "--vmlinux", "riscv64=riscv.h"];
    for archs in ["arm64,x86_64,riscv64", "x86_64,arm64,riscv64", "riscv64,arm64,x86_64,x86"] {
        project.compile(&[&["probe.bpf.c", "--arch", archs], &kernels[..]].concat());
        let document = package(&project);
        let first = archs.split(',').next().unwrap();
        assert_eq!(
            (&document["arch"], document["other_objects"].as_array().unwrap().len()),
            (&first.into(), 2)
        );

        let read = Package::parse(document.to_string().as_bytes()).unwrap();
        assert_eq!(offset(&read.object), 13 * 8, "{archs}");
        // Each object has its own metadata, and rewriting the package loses nothing.
        let of = |arch: &str| {
            let all = [&document].into_iter().chain(document["other_objects"].as_array().unwrap());
            all.into_iter().find(|object| object["arch"] == arch).unwrap()
        };
        assert_eq!(*read.meta_value(), of("x86_64")["meta"]);
        let again: Value = serde_json::from_slice(&read.to_json()).unwrap();
        assert_eq!(again["arch"], "x86_64");
        let mut archs: Vec<_> =
            again["other_objects"].as_array().unwrap().iter().map(|o| o["arch"].as_str().unwrap()).collect();
        archs.sort();
        assert_eq!(archs, ["arm64", "riscv64"]);
        assert_eq!(Package::parse(&read.to_json()).unwrap().object, read.object);
    }
    // Without --arch a package is for every machine.
    project.compile(&["probe.bpf.c", "--vmlinux", "x86.btf"]);
    assert!(package(&project)["arch"].is_null());
}

#[test]
fn unsuitable_machines_and_kernels_are_reported() {
    let project = project("machines-that-do-not-fit");
    let error = |arguments: &[&str]| project.error(&[&["probe.bpf.c"], arguments].concat());
    assert_eq!(error(&["--arch", "vax"]), "--arch vax: expected x86_64, arm64 or riscv64");
    assert_eq!(
        error(&["--arch", "arm64"]),
        "no vmlinux.h for arm64: the running kernel is for another machine; name a header, BTF or a vmlinux of such a \
         kernel with --vmlinux arm64=FILE"
    );
    assert_eq!(
        error(&["--arch", "arm64,riscv64", "--vmlinux", "arm64.btf"]),
        "--vmlinux arm64.btf: no machine given; name it, for example --vmlinux arm64=arm64.btf"
    );
    assert_eq!(
        error(&["--arch", "arm64", "--vmlinux", "riscv64=riscv.h"]),
        "--vmlinux riscv64=riscv.h: riscv64 is not in the list of --arch"
    );
    assert_eq!(
        error(&["--arch", "arm64", "--vmlinux", "arm64.btf", "--vmlinux", "arm64=x"]),
        "--vmlinux arm64=x: given twice for arm64"
    );
    assert!(!project.path("package.json").exists());
    // A program without kernel types needs no vmlinux.h of the machine.
    let project = project.source("plain.bpf.c", "SEC(\"xdp\") int pass(void *ctx) { return XDP_PASS; }");
    project.compile(&["plain.bpf.c", "--arch", "riscv64,arm64"]);
}
