//! Targets of programs: keys, positions in a binary, names with commas.

use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::needs_root;
use crate::support::{Ran, compile, ecli, run};

/// Reports the address at which it was hit.
const PROBES: &str = r#"
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
struct event { u32 pid; u64 ip; };
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 65536); } events SEC(".maps");
static int tell(struct pt_regs *ctx)
{
    struct event event = { .pid = bpf_get_current_pid_tgid() >> 32, .ip = PT_REGS_IP(ctx) };
    bpf_ringbuf_output(&events, &event, sizeof(event), 0);
    return 0;
}
SEC("uprobe") int probe(struct pt_regs *ctx) { return tell(ctx); }
SEC("?uprobe") int unused(struct pt_regs *ctx) { return tell(ctx); }
char LICENSE[] SEC("license") = "GPL";
"#;

/// Functions to probe; one has a name in the style of Go. With an argument, it waits for the end of its input between
/// calls.
const TARGET: &str = r#"
#include <stdio.h>
#include <unistd.h>
__attribute__((noinline)) long target_fn(long a) {
    asm volatile("nop\n.globl target_mid\ntarget_mid: nop" : "+r"(a));
    return a;
}
void named(void);
asm(".text\n.globl named\n.globl \"main.f[go.shape.int,string]\"\n"
    ".type \"main.f[go.shape.int,string]\", @function\n"
    "named:\n\"main.f[go.shape.int,string]\":\nnop\nret\n"
    ".size \"main.f[go.shape.int,string]\", 2\n");
int main(int argc, char **argv) {
    (void)argv;
    do {
        if (target_fn(1) != 1) return 1;
        named();
    } while (argc > 1 && usleep(10000) == 0);
    return 0;
}
"#;

struct Place {
    package: TempDir,
    folder: TempDir,
}

impl Place {
    fn new() -> Place {
        let place = Place { package: compile(PROBES), folder: tempfile::tempdir().expect("a folder") };
        let (code, target) = (place.path("target.c"), place.path("target"));
        std::fs::write(&code, TARGET).expect("the source is written");
        let made = Command::new("gcc").args(["-O1", "-Wl,--build-id", "-o", &target, &code]).status();
        assert!(made.expect("gcc runs").success());
        place
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().expect("UTF-8").to_owned()
    }

    fn package(&self) -> String {
        self.package.path().join("package.json").to_str().expect("UTF-8").to_owned()
    }

    /// The address of a symbol.
    fn address(&self, name: &str) -> u64 {
        let output = Command::new("nm").arg(self.path("target")).output().expect("nm runs");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        let line = text.lines().find(|line| line.ends_with(&format!(" {name}"))).expect("a symbol");
        u64::from_str_radix(line.split(' ').next().expect("an address"), 16).expect("an address")
    }

    /// The first event of a program with this target, while the target runs repeatedly.
    fn hit(&self, attach: &str, target: &str) -> Value {
        let mut child = self.started(attach);
        while child.try_wait().expect("ecli runs").is_none() {
            assert!(Command::new(target).status().expect("the target runs").success());
        }
        event(child)
    }

    fn started(&self, attach: &str) -> Child {
        let package = self.package();
        let args = ["run", "-j", "-q", "--count", "1", "--duration", "20", "--attach", attach, &package];
        ecli(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("ecli starts")
    }

    fn refused(&self, attach: &str) -> Ran {
        run(&["run", "-j", "--duration", "1", "--attach", attach, &self.package()])
    }
}

fn event(child: Child) -> Value {
    let ran: Ran = child.wait_with_output().expect("it ends").into();
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{e}: {} {}", ran.out, ran.err))
}

/// The build id that readelf finds.
fn build_id(path: &str) -> String {
    let output = Command::new("readelf").args(["-n", path]).output().expect("readelf runs");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let (_, id) = text.split_once("Build ID: ").expect("a build id");
    id.lines().next().expect("a line").trim().to_owned()
}

/// The offset of an address in its page, which is the same in the file and in memory.
fn in_page(event: &Value) -> u64 {
    event["ip"].as_u64().expect("an address") & 0xfff
}

#[test]
fn a_probe_sits_at_a_function_an_offset_or_an_address() {
    needs_root!();
    let place = Place::new();
    let target = place.path("target");
    let (start, mid) = (place.address("target_fn"), place.address("target_mid"));
    let offset = mid - start;
    let hit = |keys: &str| in_page(&place.hit(&format!("probe=path:{target},{keys}"), &target));
    assert_eq!(hit("func:target_fn"), start & 0xfff);
    assert_eq!(hit(&format!("func:target_fn+{offset}")), mid & 0xfff);
    assert_eq!(hit(&format!("func:target_fn+{offset:#x}")), mid & 0xfff);
    assert_eq!(hit(&format!("func:target_fn,offset:{offset}")), mid & 0xfff);
    let named = place.address("main.f[go.shape.int,string]");
    assert_eq!(hit("func:main.f[go.shape.int,string]"), named & 0xfff);
    assert_eq!(hit("func:\"main.f[go.shape.int,string]\""), named & 0xfff);

    // Without symbols, only the address or the offset in the file can be used.
    let stripped = place.path("stripped");
    let made = Command::new("strip").args(["-s", "-o", &stripped, &target]).status();
    assert!(made.expect("strip runs").success());
    let ran = place.refused(&format!("probe=path:{stripped},func:target_fn"));
    assert_ne!(ran.code, Some(0));
    let hit = |keys: &str| in_page(&place.hit(&format!("probe=path:{stripped},{keys}"), &stripped));
    assert_eq!(hit(&format!("address:{mid:#x}")), mid & 0xfff);
    assert_eq!(hit(&format!("address:{start}")), start & 0xfff);
    // The code of a small program has the same offsets in the file and in memory.
    assert_eq!(hit(&format!("offset:{mid:#x}")), mid & 0xfff);
    let json = format!("probe={{\"path\":{stripped:?},\"address\":{mid}}}");
    assert_eq!(in_page(&place.hit(&json, &stripped)), mid & 0xfff);
}

#[test]
fn a_binary_is_known_by_its_build_id() {
    needs_root!();
    let place = Place::new();
    let target = place.path("target");
    let id = build_id(&target);
    let keys = format!("path:{target},func:target_fn,build_id:{id}");
    assert_eq!(in_page(&place.hit(&format!("probe={keys}"), &target)), place.address("target_fn") & 0xfff);
    let wrong = format!("probe=path:{target},func:target_fn,build_id:00{id}");
    let ran = place.refused(&wrong);
    assert_eq!(ran.code, Some(2), "{}", ran.err);
    assert!(ran.err.contains(&format!("{target}: its build id is {id:?}, not \"00{id}\"")), "{}", ran.err);

    // The target is the file that a process has mapped, even if the file was removed since.
    let mut process = Command::new(&target).arg("forever").spawn().expect("it starts");
    let pid = process.id();
    std::fs::remove_file(&target).expect("it is there");
    let other = place.refused(&format!("probe=pid:{pid},build_id:00,func:target_fn"));
    let event = event(place.started(&format!("probe=pid:{pid},build_id:{id},func:target_fn")));
    process.kill().expect("it runs");
    process.wait().expect("it ends");
    assert_eq!(event["pid"], pid);
    assert!(other.err.contains("no mapped file has the build id \"00\""), "{}", other.err);
    assert_eq!(other.code, Some(2), "{}", other.err);
}

#[test]
fn an_invalid_target_names_the_file_and_the_reason() {
    needs_root!();
    let place = Place::new();
    let target = place.path("target");
    let fifo = place.path("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().expect("mkfifo runs").success());
    for (attach, code, why) in [
        (format!("probe=path:{target},address:0x10"), 2, "has no code at address 0x10".to_owned()),
        (format!("probe=path:{target},address:0xffffffffffffffff"), 2, "has no code at address".to_owned()),
        (format!("probe=path:{fifo},address:1"), 2, format!("{fifo}: not a 64-bit ELF file")),
        (format!("probe=path:{fifo},func:f,build_id:00"), 2, format!("{fifo}: not a 64-bit ELF file")),
        ("probe=path:/nowhere,address:1".into(), 2, "/nowhere: No such file or directory".into()),
        ("probe=path:/proc/self/status,address:1".into(), 2, "not a 64-bit ELF file".into()),
        (format!("probe=path:{target},address:1,func:f"), 2, "func: cannot be combined with address".into()),
        (
            format!("probe=path:{target},func:target_fn,pidd:1"),
            2,
            "unknown key \"pidd\"; the keys are:".into(),
        ),
        (format!("probe=path:{target},func:target_fn,cgroup:/x"), 2, "\"cgroup\"".into()),
        ("probe=build_id:00,func:f".into(), 2, "needs \"path\" and \"func\"".into()),
        ("unused=path:/bin/sh,offset:0".into(), 2, "\"unused\" is not loaded".into()),
        ("nothing=func:f".into(), 2, "no such program".into()),
    ] {
        let ran = place.refused(&attach);
        assert!(ran.code == Some(code) && ran.err.contains(&why), "{attach}: {:?} {}", ran.code, ran.err);
    }
}

#[test]
fn a_key_that_says_nothing_of_a_program_is_refused() {
    needs_root!();
    for (section, keys, why) in [
        (
            "kprobe",
            "func:vfs_read,pid:1",
            "its target has \"pid\", which does not apply to such a program; keys that do: func, offset",
        ),
        ("usdt", "attach:usdt//bin/sh:a:b,func:f", "its target has \"func\""),
        ("tp/sched/sched_switch", "func:f", "its target has \"func\""),
        ("uretprobe", "path:/bin/sh,func:main+4", "a return probe cannot have an offset"),
    ] {
        let folder = compile(&PROBES.replace("SEC(\"uprobe\")", &format!("SEC({section:?})")));
        let package = folder.path().join("package.json");
        let attach = format!("probe={keys}");
        let ran = run(&["run", "--attach", &attach, package.to_str().expect("UTF-8")]);
        assert!(ran.code == Some(2) && ran.err.contains(why), "{section}: {:?} {}", ran.code, ran.err);
    }
}
