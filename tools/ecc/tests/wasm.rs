//! `gen-wasm-skel` and `build-wasm`: the files that they write, and the content of the modules.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use eunomia::package::Package;
use eunomia::{Event, Flow, Kind, Options, Vm};
use support::{Project, one_error};
use wasmparser::{KnownCustom, Name, Parser, Payload};

/// The limit for the size of a module, in bytes.
const MAX_MODULE: usize = 200_000;

const TOOL: &str = "struct event { int pid; long count; };
const volatile int wanted = 0;
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } events SEC(\".maps\");
SEC(\"xdp\") int tool(void *ctx) {
    struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
    if (!event)
        return XDP_PASS;
    event->pid = wanted;
    event->count = 1;
    bpf_ringbuf_submit(event, 0);
    return XDP_PASS;
}";

/// The smallest guest.
const GUEST: &str = "#include \"eunomia-include/native-ewasm.h\"\n
int bpf_main(char *arguments, int len) { return arguments[len]; }\n";

fn text(project: &Project, name: &str) -> String {
    fs::read_to_string(project.path(name)).unwrap()
}

fn files(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn run(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Compiles C for this machine and runs it in the project's directory. Returns its output.
fn print(project: &Project, source: &str) -> Vec<u8> {
    fs::write(project.path("print.native"), source).unwrap();
    let flags = ["-std=gnu11", "-Wall", "-Werror", "-I.", "-x", "c", "print.native", "-o", "print"];
    run(Command::new("clang").args(flags).current_dir(&project.dir));
    run(&mut Command::new(project.path("print")))
}

/// The imports and exports of a module.
#[derive(Debug, Default)]
struct Module {
    size: usize,
    imports: BTreeSet<String>,
    exports: BTreeSet<String>,
    functions: BTreeSet<String>,
    has_debug_information: bool,
}

impl Module {
    fn read(path: &Path) -> Module {
        let bytes = fs::read(path).unwrap();
        let mut module = Module { size: bytes.len(), ..Module::default() };
        for payload in Parser::new(0).parse_all(&bytes) {
            match payload.unwrap() {
                Payload::ImportSection(section) => {
                    let imports = section.into_imports().map(Result::unwrap);
                    module.imports.extend(imports.map(|import| format!("{}.{}", import.module, import.name)));
                }
                Payload::ExportSection(section) => {
                    module.exports.extend(section.into_iter().map(|export| export.unwrap().name.to_string()));
                }
                Payload::CustomSection(section) => {
                    module.has_debug_information |= section.name().starts_with(".debug");
                    if let KnownCustom::Name(names) = section.as_known() {
                        module.name(names);
                    }
                }
                _ => {}
            }
        }
        module
    }

    fn name(&mut self, names: wasmparser::NameSectionReader) {
        for name in names {
            if let Name::Function(functions) = name.unwrap() {
                self.functions
                    .extend(functions.into_iter().map(|function| function.unwrap().name.to_string()));
            }
        }
    }

    /// The imports that do not come from WASI.
    fn own_imports(&self) -> Vec<&str> {
        let own = self.imports.iter().filter(|name| !name.starts_with("wasi_snapshot_preview1."));
        own.map(String::as_str).collect()
    }

    fn exports(&self) -> Vec<&str> {
        self.exports.iter().map(String::as_str).collect()
    }
}

const ABI_A: [&str; 3] = ["env.create_bpf", "env.run_bpf", "env.wait_and_poll_bpf"];

#[test]
fn gen_wasm_skel_writes_everything_that_a_module_needs() {
    let project = Project::new("skeleton").source("tool.bpf.c", TOOL);
    assert_eq!(project.compile(&["gen-wasm-skel"]), "");
    let written = ["app.c", "eunomia-include", "ewasm-skel.h", "package.json", "tool.bpf.c", "tool.wasm.h"];
    assert_eq!(files(&project.dir), written);
    let headers = [
        "argparse",
        "batch.h",
        "cJSON",
        "entry.h",
        "helpers.h",
        "libbpf-wasm.h",
        "native-ewasm.h",
        "wasm-app.h",
    ];
    assert_eq!(files(&project.path("eunomia-include")), headers);
    assert_eq!(project.package().meta.obj_name, "tool_bpf");

    // The file of the user is kept; the others are updated.
    fs::write(project.path("app.c"), GUEST).unwrap();
    fs::write(project.path("ewasm-skel.h"), "old").unwrap();
    project.compile(&["gen-wasm-skel", "tool.bpf.c"]);
    assert_eq!(text(&project, "app.c"), GUEST);
    assert!(text(&project, "ewasm-skel.h").contains("char *program_data = "));
}

#[test]
fn the_generated_module_builds_with_one_command() {
    let project = Project::new("template").source("tool.bpf.c", TOOL);
    project.compile(&["gen-wasm-skel"]);
    assert_eq!(project.compile(&["build-wasm", ".", "--wasm-cflags", "-Wall -Wextra -Werror"]), "");
    let module = Module::read(&project.path("app.wasm"));
    assert_eq!(module.own_imports(), ABI_A);
    assert_eq!(module.exports(), ["_initialize", "bpf_main", "free", "malloc", "memory", "process_event"]);
    assert!(module.size < MAX_MODULE, "{} bytes", module.size);
    assert!(module.functions.contains("process_event") && !module.has_debug_information, "{module:?}");
    // The copy of the headers in the guest's directory takes precedence.
    fs::write(project.path("eunomia-include/wasm-app.h"), "#error mine\n").unwrap();
    assert!(String::from_utf8_lossy(&project.run(&["build-wasm"]).stderr).contains("error: mine"));
}

#[test]
fn the_examples_compile_to_modules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let guests = [
        ("activity", &["opensnoop", "sigsnoop"][..], &["process_event"][..]),
        ("bootstrap", &["bootstrap"], &["process_events"]),
        ("opensnoop", &["opensnoop"], &["eunomia_event_format", "process_event"]),
        ("sigsnoop", &["sigsnoop"], &["process_event"]),
    ];
    assert_eq!(
        files(&root.join("examples/wasm")).iter().filter(|name| !name.contains('.')).count(),
        guests.len()
    );
    for (name, programs, handlers) in guests {
        let project = Project::new(&format!("example-{name}"));
        let guest = root.join(format!("examples/wasm/{name}"));
        let mut build = ["build-wasm", guest.to_str().unwrap(), "-o", "."].map(String::from).to_vec();
        for program in programs {
            let source = root.join(format!("examples/bpf/{program}/{program}.bpf.c"));
            project.compile(&[source.to_str().unwrap(), "-o", program]);
            build.push(format!("--package={program}/package.json"));
        }
        let build: Vec<&str> = build.iter().map(String::as_str).collect();
        project.compile(&[&build[..], &["--wasm-cflags", "-Wall -Wextra -Werror"]].concat());
        let module = Module::read(&project.path("app.wasm"));
        let usual = ["_initialize", "bpf_main", "free", "malloc", "memory"];
        let expected: BTreeSet<_> = usual.iter().chain(handlers).copied().collect();
        assert_eq!(module.exports(), Vec::from_iter(expected), "{name}");
        assert_eq!(module.own_imports(), ABI_A, "{name}");
        assert!(module.size < MAX_MODULE, "{name}: {} bytes", module.size);
        assert!(!guest.join("ewasm-skel.h").exists(), "{name}: written beside the source");
    }
}

#[test]
fn the_module_contains_the_exact_package() {
    let odd = "/// @description quotes \" and \\\\ and ??/ and é and \\t\nconst volatile int odd = 0;\n";
    let project = Project::new("embedded").source("tool.bpf.c", &format!("{odd}{TOOL}"));
    project.compile(&["tool.bpf.c", "--wasm-header"]);
    let source =
        "#include <stdio.h>\n#include \"ewasm-skel.h\"\nint main(void) { fputs(program_data, stdout); }";
    let printed = print(&project, source);
    assert_eq!(printed, fs::read(project.path("package.json")).unwrap());
    assert!(String::from_utf8(printed).unwrap().contains("??/ and é"));
}

#[test]
fn build_wasm_uses_the_program_or_the_package_of_the_directory() {
    let guest = "#include \"ewasm-skel.h\"\n#include \"eunomia-include/native-ewasm.h\"\n
        int bpf_main(char *arguments, int len) { return program_data[len] + arguments[len]; }\n";
    let project = Project::new("sources").source("tool.bpf.c", TOOL).file("app.c", guest);
    let wanted = |project: &Project| project.package().meta.vars.iter().any(|it| it.name == "other");
    project.compile(&["build-wasm"]);
    assert!(!wanted(&project));
    let first = fs::read(project.path("app.wasm")).unwrap();
    project.compile(&["build-wasm"]);
    assert!(first == fs::read(project.path("app.wasm")).unwrap(), "the same sources gave another module");

    // A changed program is recompiled.
    fs::rename(project.path("package.json"), project.path("first.json")).unwrap();
    let project = project.source("tool.bpf.c", &TOOL.replace("wanted", "other"));
    project.compile(&["build-wasm"]);
    assert!(wanted(&project));
    let second = fs::read(project.path("app.wasm")).unwrap();
    assert!(first != second);

    // Without the program, the package is used. An explicit package takes precedence over both.
    fs::remove_file(project.path("tool.bpf.c")).unwrap();
    fs::remove_file(project.path("ewasm-skel.h")).unwrap();
    project.compile(&["build-wasm"]);
    assert!(second == fs::read(project.path("app.wasm")).unwrap());
    project.compile(&["build-wasm", ".", "--package", "first.json", "-o", "out"]);
    assert!(first == fs::read(project.path("out/app.wasm")).unwrap());
    assert_eq!(files(&project.path("out")), ["app.wasm"], "headers beside the source are renewed there");
}

#[test]
fn every_c_and_cpp_file_is_compiled_to_a_module() {
    let cpp = "#include \"eunomia-include/wasm-app.h\"\n#include \"eunomia-include/entry.h\"\n
        struct Counter { int count = 0; int next() { return ++count; } };
        int main(int argc, const char **) { Counter counter; return counter.next() + argc; }";
    let project = Project::new("several").file("one.c", GUEST).file("two.cpp", cpp).file("notes.txt", "");
    project.compile(&["build-wasm", ".", "-o", "out", "--wasm-cflags", "-Wall -Wextra -Werror"]);
    assert_eq!(files(&project.path("out")), ["one.wasm", "two.wasm"]);
    assert!(Module::read(&project.path("out/two.wasm")).exports.contains("bpf_main"));
    assert_eq!(Module::read(&project.path("out/one.wasm")).imports.len(), 0);
    project.compile(&["build-wasm", "one.c"]);
    assert!(project.path("one.wasm").exists() && !project.path("two.wasm").exists());
}

#[test]
fn guests_with_their_own_main_use_the_wasm_bpf_interface() {
    let source = "#include \"eunomia-include/libbpf-wasm.h\"
        static int on_event(void *ctx, void *data, size_t size) { return ctx == data ? (int)size : 0; }
        int main(void) {
            static struct bpf_map *map;
            static struct bpf_program *program;
            static struct bpf_map_skeleton maps[] = {{\"events\", &map, 0}};
            static struct bpf_prog_skeleton programs[] = {{\"tool\", &program, 0}};
            static struct bpf_object_skeleton s = {
                .data = \"object\", .data_sz = 6, .map_cnt = 1, .maps = maps, .prog_cnt = 1, .progs = programs};
            int key = 0, value = 0;
            if (bpf_object__open_skeleton(&s, NULL) || bpf_object__load_skeleton(&s))
                return 1;
            bpf_set_prog_attach_target(program, \"lo\");
            if (bpf_object__attach_skeleton(&s) || bpf_map_lookup_elem(bpf_map__fd(map), &key, &value))
                return 2;
            struct bpf_buffer *buffer = bpf_buffer__open(map, on_event, NULL);
            while (buffer && bpf_buffer__poll(buffer, 100) >= 0)
                value++;
            bpf_buffer__free(buffer);
            return wasm_close_bpf_object(s.obj) + value;
        }";
    let project = Project::new("abi-b").file("app.c", source);
    let flags = "-mexec-model=command -Wl,--export-table -Wall -Wextra -Werror";
    project.compile(&["build-wasm", ".", "--wasm-cflags", flags]);
    let module = Module::read(&project.path("app.wasm"));
    let imports = [
        "wasm_bpf.wasm_attach_bpf_program",
        "wasm_bpf.wasm_bpf_buffer_poll",
        "wasm_bpf.wasm_bpf_map_fd_by_name",
        "wasm_bpf.wasm_bpf_map_operate",
        "wasm_bpf.wasm_close_bpf_object",
        "wasm_bpf.wasm_load_bpf_object",
    ];
    assert_eq!(module.own_imports(), imports);
    assert_eq!(module.exports(), ["__indirect_function_table", "_start", "free", "malloc", "memory"]);
}

/// An event with everything that has another layout in C for WASM, or is hard to declare.
const EVENT: &str = "
enum mode { SLOW, FAST = 70000 };
struct inner_s { char tag; long value; };
typedef struct { short a; unsigned long long b; } pair_t;
union either_u { int number; char text[6]; };
struct __attribute__((packed)) tight_s { char c; int i; short s; };
union padded_u { short s; } __attribute__((aligned(16)));
struct event {
    char first;
    void *pointer;
    long size;
    unsigned long sizes[2][3];
    struct inner_s inner, more[2];
    pair_t pair;
    struct { char x; struct { int deep; char deeper; }; };
    union { unsigned char byte; double real; } value;
    union either_u either;
    struct tight_s tight;
    union padded_u padded;
    unsigned low : 3, middle : 13, : 4, high : 9;
    _Bool flag : 1;
    enum mode mode;
    unsigned rest : 3;
    unsigned __int128 wide;
    _Bool truth;
    float ratio;
    int (*function)(void);
    char comm[5];
} __attribute__((aligned(8)));
";

/// The members of `EVENT` and values for them.
const MEMBERS: [(&str, &str); 25] = [
    ("first", "'f'"),
    ("size", "-2"),
    ("sizes[1][2]", "1ull << 63"),
    ("sizes[0][1]", "77"),
    ("inner.tag", "'t'"),
    ("inner.value", "-3"),
    ("more[1].value", "1ll << 40"),
    ("pair.a", "-4"),
    ("pair.b", "5"),
    ("x", "'x'"),
    ("deep", "-6"),
    ("deeper", "'d'"),
    ("value.real", "0.25"),
    ("either.number", "123456789"),
    ("either.text[5]", "'e'"),
    ("tight.i", "-7"),
    ("tight.s", "-8"),
    ("padded.s", "11"),
    ("wide", "(unsigned __int128)9 << 100"),
    ("truth", "1"),
    ("ratio", "1.5f"),
    ("comm[4]", "'m'"),
    ("mode", "FAST"),
    ("pointer", "0"),
    ("function", "0"),
];
const BIT_FIELDS: [(&str, &str); 5] =
    [("low", "5"), ("middle", "8191"), ("high", "300"), ("flag", "1"), ("rest", "6")];

#[test]
fn guests_see_events_with_the_layout_of_the_program() {
    let source =
        "#include \"event.h\"\n".to_string() + &TOOL.replace("struct event { int pid; long count; };", "");
    let source = source.replace("event->pid = wanted;\n    event->count = 1;", "event->first = wanted;");
    let project = Project::new("layout").file("event.h", EVENT).source("tool.bpf.c", &source);
    project.compile(&["gen-wasm-skel"]);

    // One program for this machine contains both structs. On this machine, the first one has the layout of the BPF program.
    let all = || MEMBERS.iter().chain(&BIT_FIELDS);
    let sets: String = all().map(|(member, value)| format!("original.{member} = {value};\n")).collect();
    let compares: String = all()
        .map(|(member, value)| format!("if (copy.{member} != {value}) {{ puts(\"{member}\"); return 1; }}\n"))
        .collect();
    let offsets: String = MEMBERS
        .iter()
        .map(|(member, _)| {
            format!("printf(\"{member} %zu\\n\", offsetof(struct original_event, {member}));\n")
        })
        .collect();
    let tags = ["event", "inner_s", "either_u", "tight_s", "padded_u"];
    let rename: String = tags.map(|tag| format!("#define {tag} original_{tag}\n")).concat();
    let restore: String = tags.map(|tag| format!("#undef {tag}\n")).concat();
    let native = format!(
        "#include <stddef.h>\n#include <stdio.h>\n#include <string.h>\n
        {rename}#include \"event.h\"\n{restore}#include \"tool.wasm.h\"\n
        struct original_event original;\nstruct event copy;\nint main(void) {{\n{sets}
        memcpy(&copy, &original, sizeof(copy));\n{compares}{offsets}
        printf(\"%zu\\n\", sizeof(original));\nreturn 0; }}"
    );
    let printed = String::from_utf8(print(&project, &native)).unwrap();
    let (offsets, size) = printed.trim().rsplit_once('\n').unwrap();

    let asserts: String = offsets
        .lines()
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(member, offset)| {
            format!("_Static_assert(__builtin_offsetof(struct event, {member}) == {offset}, \"{member}\");\n")
        })
        .collect();
    let guest = format!(
        "#include \"tool.wasm.h\"\n{asserts}_Static_assert(sizeof(struct event) == {size}, \"size\");\n{GUEST}"
    );
    let project = project.file("app.c", &guest);
    project.compile(&["build-wasm", "app.c", "--wasm-cflags", "-Wall -Wextra -Werror"]);
    fs::write(project.path("app.cpp"), guest).unwrap();
    project.compile(&["build-wasm", "app.cpp", "--wasm-cflags", "-Wall -Wextra -Werror"]);
}

#[test]
fn names_from_a_package_cannot_inject_code() {
    let project = Project::new("foreign").source("tool.bpf.c", TOOL).file("app.c", GUEST);
    project.compile(&["tool.bpf.c"]);
    let mut package: serde_json::Value = serde_json::from_str(&text(&project, "package.json")).unwrap();
    package["meta"]["bpf_skel"]["obj_name"] = "../x\n#error".into();
    package["meta"]["export_types"][0]["type_id"] = 1.into();
    let project = project.file("odd.json", &package.to_string());
    project.compile(&["build-wasm", "app.c", "-p", "odd.json", "-o", "out"]);
    assert_eq!(files(&project.path("out")), ["app.wasm", "event___x__error.wasm.h", "ewasm-skel.h"]);
    assert!(text(&project, "out/event___x__error.wasm.h").contains("struct event {\n    int32_t pid;"));

    package["meta"]["export_types"] = serde_json::json!([]);
    let project = project.file("none.json", &package.to_string());
    project.compile(&["build-wasm", "app.c", "-p", "none.json", "-o", "none"]);
    assert_eq!(files(&project.path("none")), ["app.wasm", "ewasm-skel.h"]);

    // A member name that is not a C identifier.
    let mut object = project.object("tool");
    let at = object.windows(7).position(|bytes| bytes == b"\0count\0").unwrap();
    object[at + 3] = b';';
    let package = Package::from_object(&object, Some(&text(&project, "tool.skel.json"))).unwrap();
    fs::write(project.path("bad.json"), package.to_json()).unwrap();
    let error = project.error(&["build-wasm", "app.c", "-p", "bad.json", "-o", "bad"]);
    assert_eq!(error, "event type: \"co;nt\" is not a C identifier");
    assert!(!project.path("bad").exists());
}

#[test]
fn wrong_inputs_of_module_commands_are_reported() {
    let project =
        Project::new("mistaken").file("empty/x", "").file("broken.json", "{").source("a.bpf.c", TOOL);
    let none = "no .c or .cpp file found; create one with ecc gen-wasm-skel";
    assert_eq!(project.error(&["build-wasm", "empty"]), format!("empty: {none}"));
    assert_eq!(project.error(&["build-wasm"]), format!(".: {none}"));
    assert_eq!(project.error(&["build-wasm", "none"]), "none: No such file or directory");
    assert_eq!(project.error(&["gen-wasm-skel", "none.bpf.c"]), "none.bpf.c: No such file or directory");
    assert_eq!(project.error(&["gen-wasm-skel", "empty"]), "empty: no .bpf.c file found");
    let project = project.source("b.bpf.c", TOOL).file("app.c", GUEST);
    assert_eq!(project.error(&["gen-wasm-skel"]), ".: found 2 .bpf.c files; pass one of them");
    let error = project.error(&["build-wasm", "a.bpf.c", "--wasm-cflags", "\""]);
    assert_eq!(error, "--wasm-cflags \"\\\"\": unterminated quote");
    assert_eq!(project.error(&["build-wasm"]), ".: found 2 .bpf.c files; pass one of them");
    let error = project.error(&["build-wasm", "app.c", "--package", "none.json"]);
    assert_eq!(error, "none.json: No such file or directory");
    let error = project.error(&["build-wasm", "app.c", "--package", "broken.json"]);
    assert!(error.starts_with("broken.json: "), "{error}");
    assert!(!project.path("app.wasm").exists());
}

#[test]
fn diagnostics_of_the_module_are_printed() {
    let project = Project::new("guest-errors").file("app.c", GUEST);
    project.compile(&["build-wasm"]);
    let before = fs::read(project.path("app.wasm")).unwrap();
    for (wrong, messages) in [
        ("int f(void) { return missing; }\n", "app.c:4:"),
        (
            "int missing(void); int f(void) { return missing(); }\n__attribute__((used)) int (*keep)(void) = f;",
            "undefined symbol: missing",
        ),
    ] {
        fs::write(project.path("app.c"), format!("{GUEST}{wrong}")).unwrap();
        let output = project.run(&["build-wasm"]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && stderr.contains(messages), "{stderr}");
        assert!(!stderr.contains("ecc:"), "{stderr}");
        assert!(before == fs::read(project.path("app.wasm")).unwrap(), "the old module is damaged");
        assert_eq!(files(&project.dir), ["app.c", "app.wasm"]);
    }
}

#[test]
fn a_missing_part_of_the_toolchain_is_reported_with_its_package() {
    let project = Project::new("toolchain").file("app.c", GUEST).file("there", "");
    let there = project.path("there");
    let version = String::from_utf8(run(Command::new("clang").arg("-dumpversion"))).unwrap();
    let version = version.trim();
    let script = |missing: &str| {
        let answer = |question: &str| if question == missing { Path::new("missing.o") } else { &there };
        let cases: String = ["-print-prog-name", "-print-file-name", "-print-libgcc-file-name"]
            .iter()
            .map(|question| format!("*{question}*) echo {};;\n", answer(question).display()))
            .collect();
        format!(
            "#!/bin/sh\ncase \"$*\" in\n{cases}*-v*) echo 'clang version {version}' >&2;;\n*) exit 1;;\nesac\n"
        )
    };
    let error = |missing: &str| {
        fs::write(project.path("clang"), script(missing)).unwrap();
        fs::set_permissions(project.path("clang"), fs::Permissions::from_mode(0o755)).unwrap();
        one_error(&project.run(&["build-wasm", ".", "--clang", "./clang"]))
    };
    let parts = [
        ("linker", "-print-prog-name=wasm-ld"),
        ("C library", "-print-file-name=crt1-reactor.o"),
        ("compiler runtime", "-print-libgcc-file-name"),
    ];
    for (part, question) in parts {
        let package = owner(question);
        let line = format!(
            "./clang: no {part} for WASM found: install {package} (Debian: apt install {package}) or select another \
             clang with --clang or $CLANG"
        );
        assert_eq!(error(question.split('=').next().unwrap()), line);
    }
    let error = error("");
    assert!(error.starts_with("./clang: built without the target wasm32-wasi: "), "{error}");
}

/// The Debian package of the file that clang prints for a flag.
fn owner(question: &str) -> String {
    let path = run(Command::new("clang").args(["-target", "wasm32-wasi", question]));
    let path = String::from_utf8(path).unwrap();
    let owner = String::from_utf8(run(Command::new("dpkg").args(["-S", path.trim()]))).unwrap();
    owner.split([':', ',']).next().unwrap().to_string()
}

/// The headers that eunomia-bpf wrote to the directories of its users. They declare no imports and exports.
const FORMER_HEADERS: [(&str, &str); 4] = [
    (
        "native-ewasm.h",
        "#ifndef NATIVE_H_\n#define NATIVE_H_\nint create_bpf(char *json, int len);\nint run_bpf(int id);\n\
         int wait_and_poll_bpf(int id);\nint bpf_main(char *env, int len);\n\
         int process_event(int ctx, char *e, int len);\n#endif\n",
    ),
    (
        "helpers.h",
        "#ifndef HELPERS_H_\n#define HELPERS_H_\n#include <string.h>\n#include \"native-ewasm.h\"\n\
         int start_bpf_program(char *data) { return wait_and_poll_bpf(run_bpf(create_bpf(data, strlen(data)))); }\n\
         #endif\n",
    ),
    ("wasm-app.h", "#ifndef APP_H_\n#define APP_H_\n#include \"helpers.h\"\n#endif\n"),
    (
        "entry.h",
        "#ifndef ENTRY_H_\n#define ENTRY_H_\n#include \"helpers.h\"\nint main(int argc, const char **argv);\n\
         int bpf_main(char *env, int len) { const char *argv[1]; argv[0] = env; return main(len > 0, argv); }\n#endif\n",
    ),
];

fn with_headers_of_eunomia_bpf(mut project: Project) -> Project {
    for (name, text) in FORMER_HEADERS {
        project = project.file(&format!("eunomia-include/{name}"), text);
    }
    project
}

#[test]
fn a_project_of_eunomia_bpf_compiles_to_a_module() {
    let app = "#include <stdio.h>\n#include \"eunomia-include/wasm-app.h\"\n#include \"eunomia-include/entry.h\"\n
        #include \"ewasm-skel.h\"\n
        int main(int argc, const char **argv) { puts(argv[argc - 1]); return start_bpf_program(program_data); }\n
        int process_event(int ctx, char *e, int str_len) { printf(\"%s\\n\", e); return 0; }\n";
    let project = Project::new("former").source("tool.bpf.c", TOOL).file("app.c", app);
    let project = with_headers_of_eunomia_bpf(project);
    project.compile(&["build-wasm"]);
    let module = Module::read(&project.path("app.wasm"));
    assert_eq!(module.own_imports(), ABI_A);
    assert_eq!(module.exports(), ["_initialize", "bpf_main", "free", "malloc", "memory", "process_event"]);
    // Other undefined functions are still errors.
    let project = project.file("app.c", &app.replace("puts(", "run_bpf_program("));
    let stderr = String::from_utf8_lossy(&project.run(&["build-wasm"]).stderr).into_owned();
    assert!(stderr.contains("undefined symbol: run_bpf_program"), "{stderr}");
    let advice = "ecc: ./eunomia-include: these headers are of another version of ecc; update them with ecc gen-wasm-skel";
    assert_eq!(stderr.lines().last().unwrap(), advice);
}

#[test]
fn a_main_of_every_type_is_called() {
    let mains = [
        ("c", "int main(void) { return 0; }"),
        ("c", "int main(int argc, char **argv) { return !argv[argc - 1]; }"),
        ("c", "int main(int argc, const char **argv) { return !argv[argc - 1]; }"),
        ("c", "int main(int argc, const char *const *argv) { return !argv[argc - 1]; }"),
        ("cpp", "int main() { return 0; }"),
        ("cpp", "int main(int argc, char *argv[]) { return !argv[argc - 1]; }"),
        ("cpp", "int main(int argc, const char **argv) { return !argv[argc - 1]; }"),
    ];
    let mut project = Project::new("mains");
    for (number, (ending, main)) in mains.iter().enumerate() {
        project = project.file(
            &format!("app{number}.{ending}"),
            &format!("#include \"eunomia-include/entry.h\"\n{main}\n"),
        );
    }
    project.compile(&["build-wasm", ".", "--wasm-cflags", "-Wall -Wextra -Werror"]);
    for number in 0..mains.len() {
        let path = project.path(&format!("app{number}.wasm"));
        let vm = Vm::new(Options::new()).unwrap();
        vm.open(&fs::read(path).unwrap(), Kind::Wasm).unwrap();
        let code = vm.wasm_run(&["app", "more"], eunomia::Format::Json, |_: &Event| Flow::Continue);
        assert_eq!(code.unwrap(), 0, "{number}");
    }
}

#[test]
fn a_module_without_entry_point_is_refused() {
    let none =
        "module: exports neither bpf_main nor _start; eunomia-include/entry.h has a bpf_main that calls main";
    for source in
        ["int main(int argc, const char **argv) { return argc + !argv; }", "int helper(void) { return 1; }"]
    {
        let project = Project::new("no-entry").file("app.c", source);
        assert_eq!(project.error(&["build-wasm"]), format!("./app.c: {none}"));
        assert_eq!(files(&project.dir), ["app.c"]);
    }
    let wrong = "__attribute__((export_name(\"process_event\"))) void process_event(float e) { (void)e; }\n";
    let project = Project::new("wrong-entry")
        .file("app.c", &format!("{GUEST}{wrong}").replace("native-ewasm", "batch"));
    let error = project.run(&["build-wasm"]);
    assert!(
        String::from_utf8_lossy(&error.stderr).contains("process_event")
            && !project.path("app.wasm").exists()
    );
}

#[test]
fn sources_with_interfaces_that_guests_lack_get_a_hint() {
    let argp = "#include <argp.h>\n#include \"eunomia-include/entry.h\"\n
        static error_t parse(int key, char *arg, struct argp_state *state) { return 0; }\n
        int main(int argc, const char **argv) {\n struct argp argp = {.parser = parse};\n
        return argp_parse(&argp, argc, (char **)argv, 0, 0, 0); }\n";
    let perf = "#include \"eunomia-include/entry.h\"\nstruct perf_buffer;\n
        int perf_buffer__poll(struct perf_buffer *, int);\n
        int main(void) { return perf_buffer__poll(0, 100); }\n";
    for (source, messages) in [
        (argp, "ecc: ./app.c: wasi-libc has no argp: use argparse from eunomia-include/wasm-app.h"),
        (
            perf,
            "ecc: ./app.c: guests cannot use libbpf's perf_buffer: use bpf_buffer from eunomia-include/libbpf-wasm.h",
        ),
    ] {
        let project = Project::new("replaced").file("app.c", source);
        let output = project.run(&["build-wasm"]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), stderr.lines().last().unwrap()), (Some(1), messages), "{stderr}");
        assert!(!project.path("app.wasm").exists());
    }
}

#[test]
fn several_packages_can_be_embedded_in_one_module() {
    let project =
        Project::new("both").source("one.bpf.c", TOOL).source("two.bpf.c", &TOOL.replace("wanted", "other"));
    project.compile(&["one.bpf.c", "-o", "one", "--wasm-header"]);
    project.compile(&["two.bpf.c", "-o", "two", "--wasm-header"]);
    let print_both = "fputs(one_package, stdout); fputs(two_package, stdout);
        return program_data != one_package; }";
    let printed = |includes: &str| {
        print(&project, &format!("#include <stdio.h>\n{includes}\nint main(void) {{ {print_both}"))
    };
    let expected =
        ["one", "two"].map(|name| fs::read(project.path(&format!("{name}/package.json"))).unwrap()).concat();
    assert!(
        printed(
            "#include \"one/ewasm-skel.h\"\n#include \"two/ewasm-skel.h\"\n#include \"one/ewasm-skel.h\""
        ) == expected
    );

    // build-wasm embeds the same two packages.
    let guest = "#include \"eunomia-include/helpers.h\"\n#include \"one.ewasm-skel.h\"\n#include \"two.ewasm-skel.h\"\n
        int bpf_main(char *arguments, int len) { (void)arguments; (void)len;
            return load_bpf_program(one_package) < 0 || load_bpf_program(two_package) < 0 ||
                poll_bpf_program(EWASM_ALL_PROGRAMS); }\n#include \"eunomia-include/cJSON/cJSON.c\"\n";
    let project = project.file("app.c", guest);
    let both = ["build-wasm", "app.c", "-p", "one/package.json", "-p", "two/package.json", "-o", "out"];
    project.compile(&[&both[..], &["--wasm-cflags", "-Wall -Wextra -Werror"]].concat());
    assert_eq!(
        files(&project.path("out")),
        ["app.wasm", "one.ewasm-skel.h", "one.wasm.h", "two.ewasm-skel.h", "two.wasm.h"]
    );
    let error = project.error(&["build-wasm", "app.c", "-p", "one/package.json", "-p", "one/package.json"]);
    assert_eq!(error, "one/package.json: two packages have an object with the same name, \"one\"");
}
