//! Errors are reported in one line or by clang, and nothing is written.

mod support;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use support::{HEAD, LICENSE, Project, may_load, one_error};

const PASS: &str = "SEC(\"xdp\") int pass(void *ctx) { return XDP_PASS; }";

/// A program of the project that replaces clang.
fn fake_clang(project: &Project, script: &str) {
    let path = project.path("clang");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn diagnostics_of_clang_are_printed_unchanged() {
    let text = "#include <linux/bpf.h>\nint f(void) { return missing; }\n#warning beware\n";
    let project = Project::new("diagnostics").file("wrong.bpf.c", text);
    let output = project.run(&["wrong.bpf.c", "-c", "clang"]);
    let direct =
        ["-target", "bpf", "-O2", "-idirafter", "/usr/include/x86_64-linux-gnu", "-c", "wrong.bpf.c"];
    let direct =
        Command::new("clang").args(direct).args(["-o", "/dev/null"]).current_dir(&project.dir).output();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&direct.unwrap().stderr));
    assert_eq!(fs::read_dir(&project.dir).unwrap().count(), 1);
}

#[test]
fn warnings_of_clang_are_printed() {
    let project = Project::new("warnings").source("w.bpf.c", &format!("{PASS}\n#warning beware"));
    assert!(project.compile(&["w.bpf.c"]).contains("w.bpf.c:4:2: warning: beware"));
    assert!(project.path("package.json").exists());
}

#[test]
fn additional_flags_are_passed_to_clang() {
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
    assert_eq!(project.error(&["f.bpf.c", "-a", "'"]), "--additional-cflags \"'\": unterminated quote");
}

#[test]
fn a_missing_clang_is_reported() {
    let project = Project::new("no-clang").source("p.bpf.c", PASS);
    let how = "install clang (Debian: apt install clang) or select one with --clang or $CLANG";
    assert_eq!(project.error(&["p.bpf.c", "--clang", "clang-0"]), format!("clang-0: no such program: {how}"));
    let output = project.command(&["p.bpf.c"]).env("CLANG", "/no/clang").output().unwrap();
    assert_eq!(one_error(&output), format!("/no/clang: no such program: {how}"));
    let output = project.command(&["p.bpf.c"]).env("PATH", &project.dir).output().unwrap();
    assert_eq!(one_error(&output), format!("no clang found: {how}"));
}

#[test]
fn the_newest_clang_is_used() {
    let project = Project::new("newest").source("p.bpf.c", PASS);
    for version in ["9", "1000", "17"] {
        fake_clang(&project, &format!("echo clang version 1.{version} >&2"));
        fs::rename(project.path("clang"), project.path(&format!("clang-{version}"))).unwrap();
    }
    let output = project.command(&["p.bpf.c"]).env("PATH", &project.dir).output().unwrap();
    let path = project.path("clang-1000");
    assert!(
        one_error(&output)
            .starts_with(&format!("{}: clang 1 is too old, need 11 or newer: ", path.display()))
    );
}

#[test]
fn an_unsuitable_clang_is_reported() {
    let project = Project::new("unfit").source("p.bpf.c", PASS);
    fake_clang(&project, "echo 'Debian clang version 9.0.1-16' >&2");
    let error = project.error(&["p.bpf.c", "--clang", "./clang"]);
    assert!(error.starts_with("./clang: clang 9 is too old, need 11 or newer: install clang"), "{error}");
    fake_clang(&project, "echo 'gcc version 12.2.0' >&2");
    assert!(project.error(&["p.bpf.c", "--clang", "./clang"]).starts_with("./clang: not clang: "));
    fake_clang(&project, "echo 'clang version 14.0.6' >&2; case $* in *-target*) exit 1;; esac");
    let error = project.error(&["p.bpf.c", "--clang", "./clang"]);
    assert!(error.starts_with("./clang: built without the target bpf: "), "{error}");
}

#[test]
fn invalid_sources_are_reported() {
    let project = Project::new("no-source").file("empty.bpf.c", " \n").file(".bpf.c", "int a;");
    assert_eq!(project.error(&["missing.bpf.c"]), "missing.bpf.c: No such file or directory");
    assert_eq!(project.error(&["."]), ".: Is a directory");
    assert_eq!(project.error(&["empty.bpf.c"]), "empty.bpf.c: the file is empty");
    assert_eq!(project.error(&[".bpf.c"]), ".bpf.c: the file name is empty before its first dot");
    assert_eq!(project.run(&[]).status.code(), Some(2));
    let project = project.source("p.bpf.c", PASS);
    project.compile(&["p.bpf.c"]);
    assert_eq!(project.error(&["p.bpf.o"]), "p.bpf.o: not a C source: its name must end in .c");
}

#[test]
fn endless_files_are_refused() {
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
fn a_missing_program_or_license_is_a_warning_with_a_fix() {
    let data = format!("{HEAD}int number = 1;\n");
    let project = Project::new("nothing").file("data.bpf.c", &data).source("licensed.bpf.c", "int number;");
    let program = "no program found; put SEC(\"...\") before a function";
    assert_eq!(project.compile(&["data.bpf.c"]), format!("ecc: warning: data.bpf.c: {program}\n"));
    assert_eq!(project.compile(&["licensed.bpf.c"]), format!("ecc: warning: licensed.bpf.c: {program}\n"));
    let project = project.file("free.bpf.c", &format!("{HEAD}{PASS}\n")).source("p.bpf.c", PASS);
    let license = "no license: the kernel refuses many helpers; \
                   add char LICENSE[] SEC(\"license\") = \"GPL\";";
    assert_eq!(project.compile(&["free.bpf.c"]), format!("ecc: warning: free.bpf.c: {license}\n"));
    let project = project.source("odd.bpf.c", "SEC(\"no-hook/x\") int odd(void *ctx) { return 0; }");
    let section = "odd: unknown SEC() name \"no-hook/x\"; libbpf will not load it";
    assert_eq!(project.compile(&["odd.bpf.c"]), format!("ecc: warning: odd.bpf.c: {section}\n"));
    assert_eq!(project.compile(&["p.bpf.c"]), "");
}

#[test]
fn a_source_of_five_megabytes_is_compiled() {
    // The whole source is one comment, the description.
    let line = "/// a line of text that goes on and on, as if somebody were paid for it\n";
    let text = format!("{}{}\n{PASS}", line.repeat(5_000_000 / line.len()), "/// @version 1");
    let project = Project::new("large").source("large.bpf.c", &format!("{text}\n{}", "\n".repeat(100_000)));
    assert!(fs::metadata(project.path("large.bpf.c")).unwrap().len() > 5_000_000);
    assert_eq!(project.compile(&["large.bpf.c"]), "");
    assert_eq!(support::names(&project.meta("large")["bpf_skel"]["progs"]), ["pass"]);
    assert_eq!(project.meta("large")["bpf_skel"]["progs"][0]["version"], "1");
}

#[test]
fn file_names_that_are_not_utf8_are_accepted() {
    let project = Project::new("bytes").source("p.bpf.c", PASS);
    let name = OsStr::from_bytes(b"pr\xf6be $(x)'\"\n;.bpf.c");
    fs::create_dir(project.path("out")).unwrap();
    fs::rename(project.path("p.bpf.c"), project.dir.join(name)).unwrap();
    let output = project.command(&["-o", "out"]).arg(name).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let package = fs::read(project.path("out/package.json")).unwrap();
    let package = eunomia::package::Package::parse(&package).unwrap();
    assert_eq!(package.meta.obj_name, "pr_be___x______bpf");
    assert!(project.path("out").join(OsStr::from_bytes(b"pr\xf6be $(x)'\"\n;.bpf.o")).exists());
}

#[test]
fn a_read_only_directory_is_reported() {
    if !may_load("a_read_only_directory_is_reported") {
        return;
    }
    let project = Project::new("read-only").source("p.bpf.c", PASS).file("out/x", "");
    // Even root cannot write to a read-only mount. This one exists for one command.
    let ecc = env!("CARGO_BIN_EXE_ecc");
    for (dir, what) in [("out", "write out/package.json"), ("out/new", "create the directory out/new")] {
        let mut command = Command::new("unshare");
        command.args([
            "-m",
            "sh",
            "-c",
            "mount -t tmpfs -o ro none out && exec \"$0\" p.bpf.c -o \"$1\"",
            ecc,
            dir,
        ]);
        let output = command.current_dir(&project.dir).env_remove("CLANG").output().unwrap();
        assert_eq!(one_error(&output), format!("cannot {what}: Read-only file system"));
    }
}

#[test]
fn invalid_headers_are_reported() {
    let project =
        Project::new("no-header").source("p.bpf.c", PASS).file("event.h", "struct event { int a; };");
    assert_eq!(project.error(&["p.bpf.c", "missing.h"]), "missing.h: No such file or directory");
    let messages = project.compile(&["p.bpf.c", "event.h"]);
    assert!(
        messages.ends_with("event.h: the program uses no struct of this header\n")
            && messages.lines().count() == 1,
        "{messages}"
    );
    let project = project.file("none.h", "#define NONE 1\n");
    assert!(
        project
            .compile(&["p.bpf.c", "none.h"])
            .ends_with("none.h: the program uses no struct of this header\n")
    );
}

#[test]
fn invalid_objects_are_reported() {
    let project =
        Project::new("no-object").file("void.bpf.c", "typedef int nothing;").source("p.bpf.c", PASS);
    let no_btf = "the object has no BTF: no program in it, or -g0 among the flags";
    assert_eq!(project.error(&["void.bpf.c"]), format!("void.bpf.c: {no_btf}"));
    assert_eq!(project.error(&["p.bpf.c", "-a", "-g0"]), format!("p.bpf.c: {no_btf}"));
    let other = project.error(&["p.bpf.c", "-a", "-target x86_64"]);
    assert_eq!(other, "clang wrote no BPF object: remove -target from the flags");
}

#[test]
fn objects_that_libbpf_refuses_are_reported() {
    let source = "SEC(\"xdp\") int pass(void *ctx) { return XDP_PASS; } int broken SEC(\".maps\");";
    let project = Project::new("refused").source("r.bpf.c", source);
    let error = project.error(&["r.bpf.c"]);
    assert!(error.starts_with("libbpf cannot open the object: "), "{error}");
    assert!(error.contains("broken"), "{error}");
}

#[test]
fn outputs_that_cannot_be_written_are_reported() {
    let project =
        Project::new("no-output").source("p.bpf.c", PASS).file("file", "").file("out/package.json/x", "");
    let error = project.error(&["p.bpf.c", "-o", "file/out"]);
    assert_eq!(error, "cannot create the directory file/out: Not a directory");
    // Even root cannot write here.
    let error = project.error(&["p.bpf.c", "-o", "/proc"]);
    assert_eq!(error, "cannot write /proc/package.json: No such file or directory");
    let error = project.error(&["p.bpf.c", "-o", "out"]);
    assert_eq!(error, "cannot write out/package.json: Is a directory");
    assert_eq!(fs::read_dir(project.path("out")).unwrap().count(), 1);
}

#[test]
fn kernel_types_are_read_from_a_given_file() {
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
    assert!(error.starts_with("garbage: invalid BTF"), "{error}");
    let project = project.file("zeros", "\0\0\0\0").file("empty", "");
    for wrong in ["zeros", "empty"] {
        let error = project.error(&["p.bpf.c", "--vmlinux", wrong]);
        assert_eq!(error, format!("{wrong}: not BTF, a vmlinux with BTF or a header"));
    }
    assert_eq!(project.error(&["p.bpf.c", "--vmlinux", "."]), ".: Is a directory");
    // A program instead of a kernel.
    let error = project.error(&["p.bpf.c", "--vmlinux", env!("CARGO_BIN_EXE_ecc")]);
    assert!(error.contains("/ecc: invalid BTF"), "{error}");
    // Truncated BTF.
    let btf = fs::read("/sys/kernel/btf/vmlinux").unwrap();
    fs::write(project.path("half"), &btf[..btf.len() / 2]).unwrap();
    let error = project.error(&["p.bpf.c", "--vmlinux", "half"]);
    assert!(error.starts_with("half: invalid BTF"), "{error}");
    // A text file is used as a header, and clang reports what is missing.
    let project = project.file("notes.txt", "/* no types here */\n");
    let output = project.run(&["p.bpf.c", "--vmlinux", "notes.txt", "-o", "out"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("error: "));
    assert!(!project.path("out").exists());
}

#[test]
fn a_kernel_without_btf_is_an_error_only_if_its_types_are_used() {
    if !may_load("a_kernel_without_btf_is_an_error_only_if_its_types_are_used") {
        return;
    }
    let text = format!("#include \"types.h\"\n#include <bpf/bpf_helpers.h>\n{PASS}\n{LICENSE}");
    let project = Project::new("no-btf").source("plain.bpf.c", PASS).file("p.bpf.c", &text);
    let project = project.file("types.h", "#include \"vmlinux.h\"\n");
    // Hides the BTF of the kernel from one command.
    let hidden = |source: &str| {
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", "mount -t tmpfs none /sys/kernel/btf && exec \"$0\" \"$1\""]);
        command.args([env!("CARGO_BIN_EXE_ecc"), source]).current_dir(&project.dir).output().unwrap()
    };
    assert!(hidden("plain.bpf.c").status.success());
    let error = one_error(&hidden("p.bpf.c"));
    assert_eq!(error, "no vmlinux.h: the running kernel has no BTF; name a header or BTF with --vmlinux");
}

#[test]
fn a_vmlinux_h_next_to_the_source_takes_precedence() {
    let text = format!("#include \"vmlinux.h\"\n#include <bpf/bpf_helpers.h>\n{PASS}\n{LICENSE}");
    let project = Project::new("beside")
        .file("p.bpf.c", &text.replace("XDP_PASS", "BESIDE"))
        .file("vmlinux.h", "#include <linux/bpf.h>\n#define BESIDE XDP_PASS\n");
    project.compile(&["p.bpf.c"]);
}

#[test]
fn without_a_home_directory_the_header_cache_is_temporary() {
    let text = format!("#include \"vmlinux.h\"\n#include <bpf/bpf_helpers.h>\n{PASS}\n{LICENSE}");
    let project = Project::new("homeless").file("p.bpf.c", &text).file("tmp/x", "");
    let mut command = project.command(&["p.bpf.c"]);
    command.env_remove("HOME").env_remove("XDG_CACHE_HOME").env("TMPDIR", project.path("tmp"));
    assert!(command.status().unwrap().success());
    assert_eq!(fs::read_dir(project.path("tmp")).unwrap().count(), 1);
}

#[test]
fn exceeded_package_limits_are_reported_with_the_number() {
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
        let expected = format!("{what}, at most 4096 fit a package{hint}");
        assert_eq!(project.error(&["a.bpf.c"]), expected);
    }
}

#[test]
fn an_annotation_that_the_library_refuses_is_reported_with_its_line() {
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

    // The values do not fit the variable. The library reports this when it sets them.
    for (comment, messages) in [
        ("@value {\"a\": 1}", "@value: an object is not a value of u8"),
        ("@value 256", "@value: 256 does not fit u8"),
        ("@cmdarg {\"default\": \"x\"}", "@cmdarg: \"x\" is not a value of u8"),
    ] {
        let source = format!(
            "typedef unsigned char u8;\n/// {comment}\nconst volatile u8 limit = 1;
            SEC(\"xdp\") int p(void *ctx) {{ return limit; }}"
        );
        let error = Project::new("refused-value").source("a.bpf.c", &source).error(&["a.bpf.c"]);
        assert!(error.ends_with(&format!("a.bpf.c:4: limit: {messages}")), "{error}");
    }
}

#[test]
fn an_option_whose_name_is_already_taken_is_a_warning() {
    let source = "/// @cmdarg {\"short\": \"p\"}\nconst volatile __u32 pid = 0;\n\
                  /// @cmdarg {\"short\": \"p\", \"long\": \"pid\"}\nconst volatile __u32 port = 0;\n\
                  /// @cmdarg {\"short\": \"h\"}\nconst volatile __u32 hops = 0;\n\
                  SEC(\"raw_tp/sys_enter\") int all(void *ctx) { return pid + port + hops; }";
    let project = Project::new("options").source("o.bpf.c", source);
    assert_eq!(
        project.compile(&["o.bpf.c"]),
        "ecc: warning: port: option -p is already taken\n\
         ecc: warning: port: option --pid is already taken, renamed to --port\n\
         ecc: warning: hops: option -h is already taken\n"
    );
}
