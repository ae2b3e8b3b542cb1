//! The entry point of the container, run in an ordinary directory without a container engine.

mod support;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Output};

use support::{Project, may_load};

const TOOL: &str = "struct event { int pid; };
struct other { int a; };
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } events SEC(\".maps\");
SEC(\"xdp\") int tool(void *ctx) {
    struct event event = {};
    struct other other = {ctx != 0};
    event.pid = other.a;
    bpf_ringbuf_output(&events, &event, sizeof(event), 0);
    return XDP_PASS;
}";

fn script() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../container/entrypoint.sh")
}

/// Runs the entry point in the project's directory.
fn run(project: &Project, arguments: &[&str]) -> Output {
    let mut command = Command::new(script());
    command.args(arguments).env("SRC", &project.dir).env("ECC", env!("CARGO_BIN_EXE_ecc"));
    command.current_dir("/").env_remove("CLANG").output().unwrap()
}

fn succeeds(project: &Project, arguments: &[&str]) -> String {
    let output = run(project, arguments);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{stderr}");
    stderr
}

fn fails(project: &Project, arguments: &[&str]) -> String {
    let output = run(project, arguments);
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).unwrap().replace(project.dir.to_str().unwrap(), "SRC")
}

#[test]
fn build_is_the_default_and_creates_a_package() {
    let source = TOOL.replace("struct other other", "int other[1]").replace("other.a", "other[0]");
    let source = source.replace("struct other { int a; };", "");
    let project = Project::new("container build").source("tool.bpf.c", &source);
    assert_eq!(succeeds(&project, &[]), "");
    assert_eq!(project.package().meta.obj_name, "tool_bpf");
    fs::remove_file(project.path("package.json")).unwrap();
    succeeds(&project, &["build", "--yaml"]);
    assert!(project.path("package.yaml").exists() && !project.path("package.json").exists());
    succeeds(&project, &["--event-header"]);
    assert!(project.path("tool.event.h").exists());
}

#[test]
fn the_header_in_the_directory_defines_the_events() {
    // Both have the same size, so that only the header selects one.
    let events = "struct event { int pid; };\n";
    let source = format!("#include \"event.h\"\n{}", TOOL.replace(events, ""));
    let project = Project::new("container-header").source("tool.bpf.c", &source).file("some.bpf.h", events);
    succeeds(&project, &["build"]);
    assert_eq!(support::names(&project.meta("tool")["export_types"]), ["event"]);
    assert_eq!(fs::read_dir(&project.dir).unwrap().count(), 5, "nothing else is left");

    let source = source.replace("event.h", "tool.h");
    let project = Project::new("container-name.h").source("tool.bpf.c", &source).file("tool.h", events);
    succeeds(&project, &["build"]);
    assert_eq!(support::names(&project.meta("tool")["export_types"]), ["event"]);
}

#[test]
fn modules_are_created_and_built() {
    let project = Project::new("container-wasm").source("tool.bpf.c", TOOL);
    succeeds(&project, &["gen-wasm-skel"]);
    assert!(project.path("app.c").exists() && project.path("ewasm-skel.h").exists());
    succeeds(&project, &["build-wasm"]);
    assert!(fs::read(project.path("app.wasm")).unwrap().starts_with(b"\0asm"));
}

#[test]
fn missing_files_in_the_directory_are_reported() {
    let project = Project::new("container-none");
    assert_eq!(fails(&project, &[]), "SRC: no file *.bpf.c found\n");
    assert_eq!(
        fails(&project, &["wash"]),
        "unknown target \"wash\"; expected build, gen-wasm-skel or build-wasm\n"
    );
    let project = project.source("a.bpf.c", TOOL).source("b.bpf.c", TOOL);
    assert_eq!(fails(&project, &[]), "SRC: expected one file *.bpf.c, found 2\n");
    fs::remove_file(project.path("b.bpf.c")).unwrap();
    let project = project.file("config.json", "{\"version\": \"1\"}");
    assert!(succeeds(&project, &[]).contains("config.json is ignored"));
    let output = Command::new(script()).env("SRC", project.path("gone")).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("mount the directory of the program"));
}

#[test]
fn outputs_belong_to_the_owner_of_the_directory() {
    if !may_load("outputs_belong_to_the_owner_of_the_directory") {
        return;
    }
    // A directory in which another user may run the compiler.
    let dir = std::env::temp_dir().join(format!("ecc-owner-{}", std::process::id()));
    let project = Project { dir };
    let project = project.source("src/tool.bpf.c", TOOL);
    for name in ["ecc", "entrypoint.sh"] {
        let original = if name == "ecc" { env!("CARGO_BIN_EXE_ecc").into() } else { script() };
        fs::copy(original, project.path(name)).unwrap();
    }
    for name in ["src", "src/tool.bpf.c"] {
        std::os::unix::fs::chown(project.path(name), Some(4711), Some(4712)).unwrap();
    }
    let mut command = Command::new(project.path("entrypoint.sh"));
    command.env("SRC", project.path("src")).env("ECC", project.path("ecc")).env_remove("HOME");
    let output = command.env_remove("XDG_CACHE_HOME").env_remove("CLANG").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let package = fs::metadata(project.path("src/package.json")).unwrap();
    assert_eq!((package.uid(), package.gid()), (4711, 4712));
}
