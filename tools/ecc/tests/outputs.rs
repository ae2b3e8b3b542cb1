//! The other outputs: YAML, the event header, the executable.

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Lines};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal, getpgid, kill_process};
use serde_json::Value;
use support::{Project, may_load};
use yaml_rust2::{Yaml, YamlLoader};

const PASS: &str = "SEC(\"xdp\") int pass(void *ctx) { return XDP_PASS; }";

fn text(project: &Project, name: &str) -> String {
    fs::read_to_string(project.path(name)).unwrap()
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

// ---- YAML -----------------------------------------------------------------------------------------------------

/// Whether a YAML document has the same content as a JSON document, including types.
fn same(yaml: &Yaml, json: &Value) -> bool {
    match (yaml, json) {
        (Yaml::Null, Value::Null) => true,
        (Yaml::Boolean(one), Value::Bool(other)) => one == other,
        (Yaml::Integer(one), Value::Number(other)) => one.to_string() == other.to_string(),
        (Yaml::Real(one), Value::Number(other)) => *one == other.to_string(),
        (Yaml::String(one), Value::String(other)) => one == other,
        (Yaml::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Yaml::Hash(one), Value::Object(other)) => {
            let member = |(name, value): (&Yaml, &Yaml)| {
                other.get(name.as_str().unwrap()).is_some_and(|it| same(value, it))
            };
            one.len() == other.len() && one.iter().all(member)
        }
        _ => false,
    }
}

#[test]
fn yaml_has_the_same_content_as_json() {
    let values = "[true, null, 1, -2.5, 18446744073709551616, \"1.0\", \"yes\", \"null\", \"~\", \"0x10\", \"1e3\", \"\",
        \" a: b # c\", \"- x\", \"quote \\\" and \\\\ and é\", \"two\\nlines\", \"%\", \"@x\", \"2026-01-01\", {\"on\": []}]";
    let source = format!("/// @odd {}\nconst volatile int a = 1;\n{PASS}", values.replace('\n', " "));
    let project = Project::new("yaml").source("tool.bpf.c", &source);
    project.compile(&["tool.bpf.c", "-o", "json"]);
    project.compile(&["tool.bpf.c", "-o", "yaml", "--yaml"]);
    for name in ["tool.skel", "package"] {
        let json: Value = serde_json::from_str(&text(&project, &format!("json/{name}.json"))).unwrap();
        let yaml = YamlLoader::load_from_str(&text(&project, &format!("yaml/{name}.yaml"))).unwrap();
        assert_eq!(yaml.len(), 1);
        assert!(same(&yaml[0], &json), "{yaml:?}\n{json}");
    }
    let odd = project.meta("json/tool")["bpf_skel"]["data_sections"][0]["variables"][0]["odd"].clone();
    assert_eq!(odd.as_array().unwrap().len(), 20, "{odd}");
    assert_eq!(fs::read_dir(project.path("yaml")).unwrap().count(), 3, "no JSON beside it");
}

// ---- the command line of eunomia-bpf --------------------------------------------------------------------------

#[test]
fn options_of_eunomia_bpf_are_accepted() {
    let project = Project::new("before").source("tool.bpf.c", PASS);
    project.compile(&[
        "tool.bpf.c",
        "-v",
        "-w",
        "workspace",
        "-p",
        "-l",
        "llvm-strip",
        "-c",
        "clang",
        "-o",
        "out",
    ]);
    assert_eq!(fs::read_dir(project.path("out")).unwrap().count(), 3);
    let error = project.error(&["tool.bpf.c", "--header-only"]);
    assert!(error.starts_with("--header-only was removed: pass the header after the source"), "{error}");
}

// ---- the event header -------------------------------------------------------------------------------------------

#[test]
fn the_event_header_compiles_alone_in_c_and_cpp() {
    let event = "enum mode { SLOW, FAST };
        struct inner { char class; long value; };
        struct event { char first; struct inner namespace[2]; struct { int a; struct { short b; } deep; };
            union { long new; char bytes[3]; } u; unsigned low : 3, high : 13; enum mode mode; void *at; char comm[16]; };";
    let tool = format!(
        "{event}\nstruct {{ __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); }} events SEC(\".maps\");
        SEC(\"xdp\") int tool(void *ctx) {{ struct event event = {{}};
        bpf_ringbuf_output(&events, &event, sizeof(event), 0); return XDP_PASS; }}"
    );
    let project = Project::new("event-header").source("my-tool.bpf.c", &tool);
    project.compile(&["my-tool.bpf.c", "--event-header"]);
    let user = "#include \"my_tool.event.h\"\n#include \"my_tool.event.h\"\n#include <stddef.h>
        int main(void) { struct event event; event.namespace_[1].class_ = 'x'; event.u.new_ = 1; event.deep.b = 2;
        return event.namespace_[1].class_ != 'x' || offsetof(struct event, comm) != 72 || sizeof event != 88; }";
    let project = project.file("user.c", user).file("user.cpp", user);
    for (compiler, standard, source) in [
        ("gcc", "c99", "user.c"),
        ("clang", "c11", "user.c"),
        ("clang", "c17", "user.c"),
        ("g++", "c++11", "user.cpp"),
        ("clang++", "c++17", "user.cpp"),
    ] {
        let mut command = Command::new(compiler);
        command.args(["-Wall", "-Wextra", "-Werror", &format!("-std={standard}"), source, "-o", "user"]);
        run(command.current_dir(&project.dir));
        run(&mut Command::new(project.path("user")));
    }
    // A struct with another layout does not compile.
    let wrong = text(&project, "my_tool.event.h").replace("char comm[16]", "char comm[17]");
    let project = project.file("my_tool.event.h", &wrong);
    for (compiler, source) in [("cc", "user.c"), ("c++", "user.cpp")] {
        let output = Command::new(compiler).args(["-c", source]).current_dir(&project.dir).output().unwrap();
        assert!(String::from_utf8_lossy(&output.stderr).contains("as in the BPF program"));
    }
}

#[test]
fn a_package_without_events_has_no_event_header() {
    let project = Project::new("no-events").source("p.bpf.c", PASS);
    assert_eq!(
        project.error(&["p.bpf.c", "--event-header"]),
        "--event-header: the package has no event types"
    );
    assert!(!project.path("package.json").exists());
}

#[test]
fn an_event_without_a_tag_has_the_name_of_its_typedef() {
    let source = "typedef struct { int pid; struct { char a; short b; } pairs[2]; } event_t;
        struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } events SEC(\".maps\");
        SEC(\"xdp\") int send(void *ctx) {
            event_t *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
            if (event)
                bpf_ringbuf_submit(event, 0);
            return XDP_PASS; }";
    let project = Project::new("no-tag").source("p.bpf.c", source);
    project.compile(&["p.bpf.c", "--event-header"]);
    let user =
        "#include \"p.event.h\"\nint main(void) { event_t e; e.pairs[1].b = 2; return sizeof(e) != 12; }\n";
    let project = project.file("user.c", user).file("user.cpp", user);
    for (compiler, file) in [("cc", "user.c"), ("c++", "user.cpp")] {
        let mut command = Command::new(compiler);
        run(command.args(["-Wall", "-Wextra", "-Werror", file, "-o", "user"]).current_dir(&project.dir));
        run(&mut Command::new(project.path("user")));
    }
}

// ---- the executable ---------------------------------------------------------------------------------------------

/// Sends an event whenever the wanted process calls getpgid.
const GROUPS: &str = r#"
struct event { int pid; unsigned int number; };
/// the process to watch
const volatile int wanted = 0;
unsigned int number = 0;
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } events SEC(".maps");
SEC("tracepoint/syscalls/sys_enter_getpgid") int asked(void *ctx) {
    struct event *event;
    if (bpf_get_current_pid_tgid() >> 32 != wanted)
        return 0;
    event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
    if (!event)
        return 0;
    event->pid = wanted;
    event->number = number++;
    bpf_ringbuf_submit(event, 0);
    return 0;
}
/// @description Watches who asks
"#;

fn library() -> String {
    let library = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/dist/libeunomia.a");
    assert!(library.exists(), "{} is missing: run `make archive` first", library.display());
    library.to_str().unwrap().into()
}

/// A project with an executable linked from a source.
fn executable(name: &str, source: &str) -> Project {
    let project = Project::new(name).source("groups.bpf.c", source);
    project.compile(&["groups.bpf.c", "--standalone", "--libeunomia", &library()]);
    project
}

/// A running executable.
struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    errors: BufReader<ChildStderr>,
}

impl Running {
    fn start(project: &Project, arguments: &[&str]) -> Running {
        let mut command = Command::new(project.path("groups"));
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let errors = BufReader::new(child.stderr.take().unwrap());
        Running { child, lines, errors }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Ends it. Returns the remaining lines, and its stderr.
    fn end(mut self, signal: Signal) -> (Vec<String>, String) {
        self.signal(signal);
        let lines = self.lines.by_ref().map(Result::unwrap).collect();
        let errors = std::io::read_to_string(&mut self.errors).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0), "{errors}");
        (lines, errors)
    }
}

/// Calls getpgid until the returned guard is dropped.
fn ask() -> impl Drop {
    struct Asking(std::sync::mpsc::Sender<()>, Option<std::thread::JoinHandle<()>>);
    impl Drop for Asking {
        fn drop(&mut self) {
            self.0 = std::sync::mpsc::channel().0;
            self.1.take().unwrap().join().unwrap();
        }
    }
    let (sender, receiver) = std::sync::mpsc::channel();
    let pause = std::time::Duration::from_millis(1);
    let asker = std::thread::spawn(move || {
        while receiver.recv_timeout(pause) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            getpgid(None).unwrap();
        }
    });
    Asking(sender, Some(asker))
}

#[test]
fn the_executable_describes_itself() {
    let project = executable("describes", GROUPS);
    let program = || Command::new(project.path("groups"));
    let help = run(program().arg("-h"));
    for line in ["Watches who asks", "--wanted", "or as lines of JSON with -j or --json."] {
        assert!(help.contains(line), "{help}");
    }
    assert_eq!(run(program().arg("--version")), "groups_bpf 0.1.0\n");
    let output = program().arg("--nope").output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.starts_with("groups: unknown option \"--nope\"") && error.lines().count() == 1, "{error}");
    assert_eq!(output.status.code(), Some(2));
    let dynamic = run(Command::new("readelf").arg("-dW").arg(project.path("groups")));
    assert!(!dynamic.contains("libeunomia") && !dynamic.contains("libbpf"), "{dynamic}");
}

#[test]
fn the_executable_prints_events_until_a_signal() {
    if !may_load("the_executable_prints_events_until_a_signal") {
        return;
    }
    let project = executable("prints", GROUPS);
    let pid = std::process::id().to_string();
    for (format, signal) in [(None, Signal::INT), (Some("--json"), Signal::TERM), (Some("-j"), Signal::INT)] {
        let arguments: Vec<&str> = ["--wanted", &pid].into_iter().chain(format).collect();
        let mut running = Running::start(&project, &arguments);
        let asking = ask();
        let lines: Vec<String> = running.lines.by_ref().take(2).map(Result::unwrap).collect();
        drop(asking);
        if format.is_none() {
            assert!(lines[0].contains("PID") && lines[0].contains("NUMBER"), "{lines:?}");
            assert!(lines[1].split_whitespace().any(|word| word == pid), "{lines:?}");
        } else {
            assert_eq!(lines[0], format!("{{\"pid\":{pid},\"number\":0}}"));
        }
        let (rest, errors) = running.end(signal);
        assert_eq!(errors, "", "{rest:?}");
    }
}

#[test]
fn the_executable_skips_missing_hooks() {
    if !may_load("the_executable_skips_missing_hooks") {
        return;
    }
    let other = "SEC(\"tp/sched/no_such\") int other(void *ctx) { return 0; }\n";
    let project =
        executable("lacks", &GROUPS.replace("SEC(\"tracepoint", &format!("{other}SEC(\"tracepoint")));
    let pid = std::process::id().to_string();
    let mut running = Running::start(&project, &["--wanted", &pid, "-j"]);
    let asking = ask();
    running.lines.next().unwrap().unwrap();
    drop(asking);
    let (_, errors) = running.end(Signal::INT);
    assert!(errors.contains("groups: program \"other\" (tp/sched/no_such) is skipped: "), "{errors}");
}

#[test]
fn the_executable_reports_lost_events() {
    if !may_load("the_executable_reports_lost_events") {
        return;
    }
    let project = executable("loses", GROUPS);
    let pid = std::process::id().to_string();
    let mut running = Running::start(&project, &["--wanted", &pid, "-j"]);
    let asking = ask();
    running.lines.next().unwrap().unwrap();
    drop(asking);
    running.signal(Signal::STOP);
    (0..1000).for_each(|_| assert!(getpgid(None).is_ok()));
    running.signal(Signal::CONT);
    let (rest, errors) = running.end(Signal::INT);
    let lost: usize =
        errors.trim().strip_prefix("groups: ").unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(errors.ends_with(" events lost: buffers were full\n"), "{errors}");
    // A record takes 16 of the 4096 bytes, so at most 256 records fit. Those in the buffer are printed even after the signal.
    assert!((1000 - 256..1000).contains(&lost), "{lost}");
    assert!(rest.len() >= 1000 - lost, "{} lines, {lost} lost", rest.len());
}

#[test]
fn the_executable_ends_when_nobody_reads() {
    if !may_load("the_executable_ends_when_nobody_reads") {
        return;
    }
    let project = executable("unread", GROUPS);
    let pid = std::process::id().to_string();
    let mut running = Running::start(&project, &["--wanted", &pid]);
    let _asking = ask();
    running.lines.next().unwrap().unwrap();
    let Running { mut child, lines, errors } = running;
    drop(lines);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(std::io::read_to_string(errors).unwrap(), "");
    let mut command = Command::new(project.path("groups"));
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = command.args(["--wanted", &pid]).stdout(full).output().unwrap();
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "groups: cannot write the events: No space left on device\n"
    );
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn options_of_the_package_take_precedence_over_those_of_the_executable() {
    let source = GROUPS
        .replace("/// the process", "/// @cmdarg {\"short\": \"j\", \"long\": \"json\"}\n/// the process");
    let project = executable("own-options", &source);
    let help = run(Command::new(project.path("groups")).arg("--help"));
    assert!(help.contains("-j, --json <int>") && !help.contains("lines of JSON"), "{help}");
}

#[test]
fn missing_inputs_of_an_executable_are_reported() {
    let project = Project::new("lacking").source("groups.bpf.c", GROUPS).file("libeunomia.a", "no archive");
    let error = project.error(&["groups.bpf.c", "-s", "--libeunomia", "none/libeunomia.a"]);
    assert_eq!(error, "none/libeunomia.a: No such file or directory");
    let output = project.command(&["groups.bpf.c", "-s"]).env("PKG_CONFIG_LIBDIR", &project.dir).output();
    let how = "install libeunomia, or pass the file with --libeunomia";
    assert_eq!(support::one_error(&output.unwrap()), format!("--standalone: no libeunomia.a found: {how}"));
    let mut command = project.command(&["groups.bpf.c", "-s", "--libeunomia", "libeunomia.a"]);
    let output = command.env("CC", "no-cc -static").output().unwrap();
    let how = "--standalone needs a C compiler: install gcc or select one with $CC";
    assert_eq!(support::one_error(&output), format!("no-cc: No such file or directory: {how}"));
    // The linker reports the error.
    let output = project.run(&["groups.bpf.c", "-s", "--libeunomia", "libeunomia.a"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("libeunomia.a"));
    assert!(!project.path("package.json").exists());
}

#[test]
fn an_installed_library_is_found() {
    let project = Project::new("installed").source("groups.bpf.c", GROUPS).file("prefix/bin/x", "");
    let ecc = project.path("prefix/bin/ecc");
    fs::copy(env!("CARGO_BIN_EXE_ecc"), &ecc).unwrap();
    fs::create_dir(project.path("prefix/lib")).unwrap();
    fs::copy(library(), project.path("prefix/lib/libeunomia.a")).unwrap();
    run(Command::new(&ecc).args(["groups.bpf.c", "-s", "-o", "beside"]).current_dir(&project.dir));
    fs::rename(project.path("prefix/lib"), project.path("lib")).unwrap();
    let lib = project.path("lib");
    let pc = format!("Name: eunomia\nDescription: x\nVersion: 1\nlibdir={}\n", lib.display());
    let project = project.file("eunomia.pc", &pc);
    let mut command = Command::new(&ecc);
    command.args(["groups.bpf.c", "-s", "-o", "known"]).env("PKG_CONFIG_LIBDIR", &project.dir);
    run(command.current_dir(&project.dir));
    let read = |name: &str| fs::read(project.path(name)).unwrap();
    assert!(read("beside/groups") == read("known/groups"), "the same parts gave another executable");
}

/// Outputs do not depend on the directory of a source, or on its path on the command line.
#[test]
fn the_same_source_gives_the_same_bytes_in_every_directory() {
    const TEXT: &str = r#"
        #include "event.h"
        #include "include/more.h"
        struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } events SEC(".maps");
        SEC("xdp") int pass(void *ctx)
        {
            struct event event = { .ip = more(1) };
            bpf_printk("%s", __FILE__);
            bpf_ringbuf_output(&events, &event, sizeof(event), 0);
            return 2;
        }"#;
    let project = ["", "one/", "a dir/two/"].into_iter().fold(Project::new("wherever"), |project, dir| {
        project
            .source(&format!("{dir}pass.bpf.c"), TEXT)
            .file(&format!("{dir}event.h"), "struct event { unsigned ip; /**< @format ipv4 */ };\n")
            .file(&format!("{dir}include/more.h"), "static int more(int one) { return one + 1; }\n")
    });
    let made = |dir: &Path, source: &str, out: &str| {
        let header = source.replace("pass.bpf.c", "event.h");
        let out = project.path(out);
        let mut command = project.command(&[source, &header, "-o", out.to_str().unwrap()]);
        let output = command.current_dir(dir).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        fs::read(out.join("package.json")).unwrap()
    };
    let package = made(&project.dir, "pass.bpf.c", "out");
    let package_text = String::from_utf8_lossy(&package);
    assert!(package_text.contains("\"formats\""), "the comments are found: {package_text}");
    assert!(made(&project.dir, "one/pass.bpf.c", "out1") == package);
    assert!(made(&project.dir, "./one/pass.bpf.c", "out2") == package);
    assert!(made(&project.dir, "one/../a dir/two/pass.bpf.c", "out3") == package);
    assert!(made(&project.path("one"), "pass.bpf.c", "out4") == package);
    let absolute = project.path("a dir/two/pass.bpf.c");
    assert!(made(Path::new("/"), absolute.to_str().unwrap(), "out5") == package);
}
