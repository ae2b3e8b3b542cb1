//! What goes wrong is said in one line, or by clang, and nothing is written.

mod support;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use support::{HEAD, LICENSE, Project, may_load, one_error};

const PASS: &str = "SEC(\"xdp\") int pass(void *ctx) { return XDP_PASS; }";

/// A program of the project that stands in for clang.
fn fake_clang(project: &Project, script: &str) {
    let path = project.path("clang");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn diagnostics_of_clang_come_through_unchanged() {
    let text = "#include <linux/bpf.h>\nint f(void) { return missing; }\n#warning beware\n";
    let project = Project::new("diagnostics").file("wrong.bpf.c", text);
    let output = project.run(&["wrong.bpf.c", "-c", "clang"]);
    let direct =
        ["-target", "bpf", "-O2", "-idirafter", "/usr/include/x86_64-linux-gnu", "-c", "wrong.bpf.c"];
    let direct =
        Command::new("clang").args(direct).args(["-o", "/dev/null"]).current_dir(&project.folder).output();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&direct.unwrap().stderr));
    assert_eq!(fs::read_dir(&project.folder).unwrap().count(), 1);
}

#[test]
fn warnings_of_clang_come_through() {
    let project = Project::new("warnings").source("w.bpf.c", &format!("{PASS}\n#warning beware"));
    assert!(project.compile(&["w.bpf.c"]).contains("w.bpf.c:4:2: warning: beware"));
    assert!(project.path("package.json").exists());
}

#[test]
fn flags_of_the_user_reach_clang() {
    let project =
        Project::new("flags").source("f.bpf.c", "SEC(TEXT) int pass(void *ctx) { return ONE TWO; }");
    project.compile(&[
        "f.bpf.c",
        "-a",
        "-DTEXT='\"xdp\"' -DONE=1",
        "--additional-cflags",
        "-DTWO=+2",
        "-l",
        "none",
    ]);
    assert_eq!(project.meta("f")["bpf_skel"]["progs"][0]["attach"], "xdp");
    assert_eq!(project.error(&["f.bpf.c", "-a", "'"]), "--additional-cflags \"'\": a quote is not closed");
}

#[test]
fn a_missing_clang_is_named() {
    let project = Project::new("no-clang").source("p.bpf.c", PASS);
    let how = "install clang (Debian: apt install clang) or name it with --clang or $CLANG";
    assert_eq!(project.error(&["p.bpf.c", "--clang", "clang-0"]), format!("clang-0: no such program: {how}"));
    let output = project.command(&["p.bpf.c"]).env("CLANG", "/no/clang").output().unwrap();
    assert_eq!(one_error(&output), format!("/no/clang: no such program: {how}"));
    let output = project.command(&["p.bpf.c"]).env("PATH", &project.folder).output().unwrap();
    assert_eq!(one_error(&output), format!("no clang found: {how}"));
}

#[test]
fn the_newest_clang_is_taken() {
    let project = Project::new("newest").source("p.bpf.c", PASS);
    for version in ["9", "1000", "17"] {
        fake_clang(&project, &format!("echo clang version 1.{version} >&2"));
        fs::rename(project.path("clang"), project.path(&format!("clang-{version}"))).unwrap();
    }
    let output = project.command(&["p.bpf.c"]).env("PATH", &project.folder).output().unwrap();
    let path = project.path("clang-1000");
    assert!(
        one_error(&output).starts_with(&format!("{}: clang 1 is too old, 11 is needed: ", path.display()))
    );
}

#[test]
fn an_unfit_clang_is_named() {
    let project = Project::new("unfit").source("p.bpf.c", PASS);
    fake_clang(&project, "echo 'Debian clang version 9.0.1-16' >&2");
    let error = project.error(&["p.bpf.c", "--clang", "./clang"]);
    assert!(error.starts_with("./clang: clang 9 is too old, 11 is needed: install clang"), "{error}");
    fake_clang(&project, "echo 'gcc version 12.2.0' >&2");
    assert!(project.error(&["p.bpf.c", "--clang", "./clang"]).starts_with("./clang: is no clang: "));
    fake_clang(&project, "echo 'clang version 14.0.6' >&2; case $* in *-target*) exit 1;; esac");
    let error = project.error(&["p.bpf.c", "--clang", "./clang"]);
    assert!(error.starts_with("./clang: was built without the target bpf: "), "{error}");
}

#[test]
fn sources_that_are_none_are_named() {
    let project = Project::new("no-source").file("empty.bpf.c", " \n").file(".bpf.c", "int a;");
    assert_eq!(project.error(&["missing.bpf.c"]), "missing.bpf.c: No such file or directory");
    assert_eq!(project.error(&["."]), ".: Is a directory");
    assert_eq!(project.error(&["empty.bpf.c"]), "empty.bpf.c: the file is empty");
    assert_eq!(project.error(&[".bpf.c"]), ".bpf.c: there is no name before the first dot");
    assert_eq!(project.run(&[]).status.code(), Some(2));
    let project = project.source("p.bpf.c", PASS);
    project.compile(&["p.bpf.c"]);
    assert_eq!(project.error(&["p.bpf.o"]), "p.bpf.o: not a C source, whose name ends in .c");
}

#[test]
fn files_without_an_end_are_refused() {
    let project = Project::new("endless").file("app.c", "int main(void) { return 0; }\n");
    std::os::unix::fs::symlink("/dev/zero", project.path("z.bpf.c")).unwrap();
    let guest = ["build-wasm", "app.c", "--package", "/dev/zero"];
    for (arguments, name, most) in [
        (&["z.bpf.c"][..], "z.bpf.c", 64 << 20),
        (&["check", "/dev/zero"], "/dev/zero", 128 << 20),
        (&guest, "/dev/zero", 128 << 20),
    ] {
        assert_eq!(project.error(arguments), format!("{name}: more than {most} bytes"));
    }
}

#[test]
fn a_source_without_program_or_license_is_told_what_to_add() {
    let data = format!("{HEAD}int number = 1;\n");
    let project = Project::new("nothing").file("data.bpf.c", &data).source("licensed.bpf.c", "int number;");
    let program = "no program in it; SEC(\"...\") before a function makes it one";
    assert_eq!(project.compile(&["data.bpf.c"]), format!("ecc: warning: data.bpf.c: {program}\n"));
    assert_eq!(project.compile(&["licensed.bpf.c"]), format!("ecc: warning: licensed.bpf.c: {program}\n"));
    let project = project.file("free.bpf.c", &format!("{HEAD}{PASS}\n")).source("p.bpf.c", PASS);
    let license = "no license, without which the kernel refuses many helpers; \
                   add char LICENSE[] SEC(\"license\") = \"GPL\";";
    assert_eq!(project.compile(&["free.bpf.c"]), format!("ecc: warning: free.bpf.c: {license}\n"));
    let project = project.source("odd.bpf.c", "SEC(\"no-hook/x\") int odd(void *ctx) { return 0; }");
    let section = "odd is in the section \"no-hook/x\", which libbpf does not know and will not load";
    assert_eq!(project.compile(&["odd.bpf.c"]), format!("ecc: warning: odd.bpf.c: {section}\n"));
    assert_eq!(project.compile(&["p.bpf.c"]), "");
}

#[test]
fn a_source_of_five_megabytes_is_compiled() {
    // All of it is one comment, which is the description.
    let line = "/// a line of text that goes on and on, as if somebody were paid for it\n";
    let text = format!("{}{}\n{PASS}", line.repeat(5_000_000 / line.len()), "/// @version 1");
    let project = Project::new("large").source("large.bpf.c", &format!("{text}\n{}", "\n".repeat(100_000)));
    assert!(fs::metadata(project.path("large.bpf.c")).unwrap().len() > 5_000_000);
    assert_eq!(project.compile(&["large.bpf.c"]), "");
    assert_eq!(support::names(&project.meta("large")["bpf_skel"]["progs"]), ["pass"]);
    assert_eq!(project.meta("large")["bpf_skel"]["progs"][0]["version"], "1");
}

#[test]
fn names_that_are_no_text_are_taken_as_they_are() {
    let project = Project::new("bytes").source("p.bpf.c", PASS);
    let name = OsStr::from_bytes(b"pr\xf6be $(x)'\"\n;.bpf.c");
    fs::create_dir(project.path("out")).unwrap();
    fs::rename(project.path("p.bpf.c"), project.folder.join(name)).unwrap();
    let output = project.command(&["-o", "out"]).arg(name).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let package = fs::read(project.path("out/package.json")).unwrap();
    let package = eunomia::package::Package::parse(&package).unwrap();
    assert_eq!(package.meta.obj_name, "pr_be___x______bpf");
    assert!(project.path("out").join(OsStr::from_bytes(b"pr\xf6be $(x)'\"\n;.bpf.o")).exists());
}

#[test]
fn a_folder_that_cannot_be_written_to_is_named() {
    if !may_load("a_folder_that_cannot_be_written_to_is_named") {
        return;
    }
    let project = Project::new("read-only").source("p.bpf.c", PASS).file("out/x", "");
    // Even root may not write to a mount that is read-only; this one is there for one command.
    let ecc = env!("CARGO_BIN_EXE_ecc");
    for (folder, what) in [("out", "write out/package.json"), ("out/new", "make the folder out/new")] {
        let mut command = Command::new("unshare");
        command.args([
            "-m",
            "sh",
            "-c",
            "mount -t tmpfs -o ro none out && exec \"$0\" p.bpf.c -o \"$1\"",
            ecc,
            folder,
        ]);
        let output = command.current_dir(&project.folder).env_remove("CLANG").output().unwrap();
        assert_eq!(one_error(&output), format!("cannot {what}: Read-only file system"));
    }
}

#[test]
fn headers_that_are_none_are_named() {
    let project =
        Project::new("no-header").source("p.bpf.c", PASS).file("event.h", "struct event { int a; };");
    assert_eq!(project.error(&["p.bpf.c", "missing.h"]), "missing.h: No such file or directory");
    let said = project.compile(&["p.bpf.c", "event.h"]);
    assert!(
        said.ends_with("event.h: the program uses no struct of it\n") && said.lines().count() == 1,
        "{said}"
    );
    let project = project.file("none.h", "#define NONE 1\n");
    assert!(project.compile(&["p.bpf.c", "none.h"]).ends_with("none.h: the program uses no struct of it\n"));
}

#[test]
fn objects_that_are_none_are_named() {
    let project =
        Project::new("no-object").file("void.bpf.c", "typedef int nothing;").source("p.bpf.c", PASS);
    let no_btf = "the object has no BTF: there is no program in it, or -g0 is among the flags";
    assert_eq!(project.error(&["void.bpf.c"]), format!("void.bpf.c: {no_btf}"));
    assert_eq!(project.error(&["p.bpf.c", "-a", "-g0"]), format!("p.bpf.c: {no_btf}"));
    let other = project.error(&["p.bpf.c", "-a", "-target x86_64"]);
    assert_eq!(other, "clang made no BPF object: is another -target among the flags?");
}

#[test]
fn objects_that_libbpf_refuses_are_named() {
    let source = "SEC(\"xdp\") int pass(void *ctx) { return XDP_PASS; } int broken SEC(\".maps\");";
    let project = Project::new("refused").source("r.bpf.c", source);
    let error = project.error(&["r.bpf.c"]);
    assert!(error.starts_with("libbpf refuses the compiled object: "), "{error}");
    assert!(error.contains("broken"), "{error}");
}

#[test]
fn outputs_that_cannot_be_written_are_named() {
    let project =
        Project::new("no-output").source("p.bpf.c", PASS).file("file", "").file("out/package.json/x", "");
    let error = project.error(&["p.bpf.c", "-o", "file/out"]);
    assert_eq!(error, "cannot make the folder file/out: Not a directory");
    // Even root may not write here.
    let error = project.error(&["p.bpf.c", "-o", "/proc"]);
    assert_eq!(error, "cannot write /proc/package.json: No such file or directory");
    let error = project.error(&["p.bpf.c", "-o", "out"]);
    assert_eq!(error, "cannot write out/package.json: Is a directory");
    assert_eq!(fs::read_dir(project.path("out")).unwrap().count(), 1);
}

#[test]
fn types_of_the_kernel_come_from_a_given_file() {
    let text = format!(
        "#include \"vmlinux.h\"\n#include <bpf/bpf_helpers.h>\n{}\n{LICENSE}",
        "SEC(\"xdp\") int pass(struct xdp_md *ctx) { return (long)ctx->data; }"
    );
    let header = "#ifndef __VMLINUX_H__\n#define __VMLINUX_H__\ntypedef unsigned int __u32, __be32, __wsum;
        typedef unsigned long long __u64; typedef unsigned short __u16, __be16; typedef long long __s64; typedef int __s32;
        struct xdp_md { __u32 data; };\n#endif\n";
    let project =
        Project::new("given").file("p.bpf.c", &text).file("given.h", header).file("garbage", "\x7fELF");
    project.compile(&["p.bpf.c", "--vmlinux", "given.h", "-a", "-Werror"]);
    project.compile(&["p.bpf.c", "--vmlinux", "/sys/kernel/btf/vmlinux"]);
    assert_eq!(project.error(&["p.bpf.c", "--vmlinux", "missing.h"]), "missing.h: No such file or directory");
    let error = project.error(&["p.bpf.c", "--vmlinux", "garbage"]);
    assert!(error.starts_with("garbage: not readable as BTF"), "{error}");
    let project = project.file("zeros", "\0\0\0\0").file("empty", "");
    for wrong in ["zeros", "empty"] {
        let error = project.error(&["p.bpf.c", "--vmlinux", wrong]);
        assert_eq!(error, format!("{wrong}: neither BTF, nor a vmlinux with BTF, nor a header"));
    }
    assert_eq!(project.error(&["p.bpf.c", "--vmlinux", "."]), ".: Is a directory");
    // A program that is not a kernel.
    let error = project.error(&["p.bpf.c", "--vmlinux", env!("CARGO_BIN_EXE_ecc")]);
    assert!(error.contains("/ecc: not readable as BTF"), "{error}");
    // BTF that ends in the middle.
    let btf = fs::read("/sys/kernel/btf/vmlinux").unwrap();
    fs::write(project.path("half"), &btf[..btf.len() / 2]).unwrap();
    let error = project.error(&["p.bpf.c", "--vmlinux", "half"]);
    assert!(error.starts_with("half: not readable as BTF"), "{error}");
    // What is text is taken for a header, and clang says what it lacks.
    let project = project.file("notes.txt", "/* no types here */\n");
    let output = project.run(&["p.bpf.c", "--vmlinux", "notes.txt", "-o", "out"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("error: "));
    assert!(!project.path("out").exists());
}

#[test]
fn a_kernel_without_btf_is_no_obstacle_unless_its_types_are_wanted() {
    if !may_load("a_kernel_without_btf_is_no_obstacle_unless_its_types_are_wanted") {
        return;
    }
    let text = format!("#include \"types.h\"\n#include <bpf/bpf_helpers.h>\n{PASS}\n{LICENSE}");
    let project = Project::new("no-btf").source("plain.bpf.c", PASS).file("p.bpf.c", &text);
    let project = project.file("types.h", "#include \"vmlinux.h\"\n");
    // A kernel without BTF, for one command.
    let hidden = |source: &str| {
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", "mount -t tmpfs none /sys/kernel/btf && exec \"$0\" \"$1\""]);
        command.args([env!("CARGO_BIN_EXE_ecc"), source]).current_dir(&project.folder).output().unwrap()
    };
    assert!(hidden("plain.bpf.c").status.success());
    let error = one_error(&hidden("p.bpf.c"));
    assert_eq!(error, "no vmlinux.h: this kernel has no BTF to make it from; give one with --vmlinux");
}

#[test]
fn a_vmlinux_h_beside_the_source_is_the_one_that_is_meant() {
    let text = format!("#include \"vmlinux.h\"\n#include <bpf/bpf_helpers.h>\n{PASS}\n{LICENSE}");
    let project = Project::new("beside")
        .file("p.bpf.c", &text.replace("XDP_PASS", "BESIDE"))
        .file("vmlinux.h", "#include <linux/bpf.h>\n#define BESIDE XDP_PASS\n");
    project.compile(&["p.bpf.c"]);
}

#[test]
fn without_a_home_headers_are_private_to_the_run() {
    let text = format!("#include \"vmlinux.h\"\n#include <bpf/bpf_helpers.h>\n{PASS}\n{LICENSE}");
    let project = Project::new("homeless").file("p.bpf.c", &text).file("tmp/x", "");
    let mut command = project.command(&["p.bpf.c"]);
    command.env_remove("HOME").env_remove("XDG_CACHE_HOME").env("TMPDIR", project.path("tmp"));
    assert!(command.status().unwrap().success());
    assert_eq!(fs::read_dir(project.path("tmp")).unwrap().count(), 1);
}

#[test]
fn what_no_package_can_hold_is_named_with_its_number() {
    let program = "SEC(\"xdp\") int p(void *ctx) { return 2; }\n";
    let repeated = |count: usize, one: &dyn Fn(usize) -> String| (0..count).map(one).collect::<String>();
    let map = |i| {
        format!(
            "struct {{ __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, int);
            __type(value, int); }} m{i} SEC(\".maps\");\n"
        )
    };
    let members = repeated(4097, &|i| format!("int m{i};"));
    let sent = format!(
        "struct event {{ {members} }};
        struct {{ __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 65536); }} ring SEC(\".maps\");
        SEC(\"xdp\") int send(void *ctx) {{
            struct event *event = bpf_ringbuf_reserve(&ring, sizeof(*event), 0);
            if (event)
                bpf_ringbuf_submit(event, 0);
            return 2; }}"
    );
    let array = "; an array counts as one";
    for (source, what, hint) in [
        (repeated(4097, &|i| format!("int v{i};\n")), "a.bpf.c: 4097 variables in .bss", array),
        (repeated(4097, &map), "a.bpf.c: 4097 maps", array),
        (repeated(4096, &|i| program.replace("p(", &format!("p{i}("))), "a.bpf.c: 4097 programs", ""),
        (sent, "struct event: 4097 members", array),
    ] {
        let project = Project::new("too-many").source("a.bpf.c", &(source + program));
        let expected = format!("{what}, and a package has at most 4096{hint}");
        assert_eq!(project.error(&["a.bpf.c"]), expected);
    }
}

#[test]
fn an_annotation_that_the_library_refuses_is_named_with_its_place() {
    let source = "/// How long.\n/// @cmdarg {\"short\": \"l\",\n///   \"long\": 5}\nconst volatile int limit = 1;
        struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 1); __type(key, int); __type(value, int); } m SEC(\".maps\");
        SEC(\"xdp\") int p(void *ctx) { return limit; }";
    let project = Project::new("refused").source("a.bpf.c", source);
    let error = project.error(&["a.bpf.c"]);
    assert!(error.ends_with("a.bpf.c:4: limit: @cmdarg: long: expected a name, found 5"), "{error}");
    let source =
        source.replace("5}", "\"limit\"}").replace("struct {", "/// @sample {\"interval\": \"x\"}\nstruct {");
    let project = Project::new("refused-map").source("a.bpf.c", &source);
    let error = project.error(&["a.bpf.c"]);
    assert!(error.contains("a.bpf.c:7: m: @sample: interval: expected "), "{error}");

    // Values that fit no variable, of which the library learns when it sets them.
    for (comment, said) in [
        ("@value {\"a\": 1}", "@value: an object is not a value of u8"),
        ("@value 256", "@value: 256 does not fit u8"),
        ("@cmdarg {\"default\": \"x\"}", "@cmdarg: \"x\" is not a value of u8"),
    ] {
        let source = format!(
            "typedef unsigned char u8;\n/// {comment}\nconst volatile u8 limit = 1;
            SEC(\"xdp\") int p(void *ctx) {{ return limit; }}"
        );
        let error = Project::new("refused-value").source("a.bpf.c", &source).error(&["a.bpf.c"]);
        assert!(error.ends_with(&format!("a.bpf.c:4: limit: {said}")), "{error}");
    }
}

#[test]
fn an_option_that_loses_its_name_to_another_is_told_of() {
    let source = "/// @cmdarg {\"short\": \"p\"}\nconst volatile __u32 pid = 0;\n\
                  /// @cmdarg {\"short\": \"p\", \"long\": \"pid\"}\nconst volatile __u32 port = 0;\n\
                  /// @cmdarg {\"short\": \"h\"}\nconst volatile __u32 hops = 0;\n\
                  SEC(\"raw_tp/sys_enter\") int all(void *ctx) { return pid + port + hops; }";
    let project = Project::new("options").source("o.bpf.c", source);
    assert_eq!(
        project.compile(&["o.bpf.c"]),
        "ecc: warning: port: -p is another option already\n\
         ecc: warning: port: --pid is another option already; it is --port\n\
         ecc: warning: hops: -h is another option already\n"
    );
}
