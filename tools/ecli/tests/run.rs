//! `ecli run` on real packages, driven by real events.

mod support;

use support::{Activity, module, package, run, run_with_input};

#[test]
fn count_ends_a_run_and_json_comes_line_by_line() {
    needs_root!();
    let _activity = Activity::start();
    let ran = run(&["run", "-j", "--count", "3", &package("bootstrap")]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let lines: Vec<serde_json::Value> =
        ran.out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 3, "{}", ran.out);
    assert!(lines.iter().all(|line| line["pid"].as_u64().is_some_and(|pid| pid > 0)), "{}", ran.out);
    assert!(ran.err.starts_with("ecli: 3"), "{}", ran.err);
}

#[test]
fn a_program_without_a_command_is_run_as_text() {
    needs_root!();
    let _activity = Activity::start();
    let ran = run(&["--count", "2", &package("bootstrap")]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let lines: Vec<&str> = ran.out.lines().collect();
    assert!(lines[0].starts_with("TIME ") && lines[0].contains(" COMM "), "{}", ran.out);
    assert_eq!(lines.len(), 3, "{}", ran.out);
    assert!(!ran.out.contains('\u{1b}'), "no colour into a pipe: {}", ran.out);
}

#[test]
fn a_package_comes_from_stdin_too() {
    needs_root!();
    let _activity = Activity::start();
    let bytes = std::fs::read(package("bootstrap")).expect("a package");
    for dash in ["-", "--"] {
        let ran = run_with_input(&["run", "--count", "1", "-j", dash], &bytes);
        assert_eq!((ran.code, ran.out.lines().count()), (Some(0), 1), "{dash}: {}", ran.err);
    }
}

#[test]
fn help_of_a_program_is_printed_to_stdout() {
    for help in ["-h", "--help"] {
        let ran = run(&["run", &package("opensnoop"), help]);
        assert_eq!(ran.code, Some(0), "{}", ran.err);
        assert!(ran.out.contains("--pid"), "{}", ran.out);
        assert_eq!(ran.err, "");
    }
}

#[test]
fn arguments_after_the_program_belong_to_the_program() {
    needs_root!();
    let _activity = Activity::start();
    // The activity opens files in other processes; without the option they would be shown.
    let own = std::process::id().to_string();
    let all = run(&["run", "-j", "--count", "5", &package("opensnoop")]);
    assert_eq!((all.code, all.out.lines().count()), (Some(0), 5), "{}", all.err);
    assert!(all.out.lines().any(|line| !line.contains(&format!("\"pid\":{own},"))), "{}", all.out);
    let is_done = std::sync::atomic::AtomicBool::new(false);
    let ran = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(std::sync::atomic::Ordering::Relaxed) {
                drop(std::fs::File::open("/dev/null"));
            }
        });
        let ran = run(&["run", "-j", "--count", "5", &package("opensnoop"), "-p", &own]);
        is_done.store(true, std::sync::atomic::Ordering::Relaxed);
        ran
    });
    assert_eq!((ran.code, ran.out.lines().count()), (Some(0), 5), "{}", ran.err);
    assert!(ran.out.lines().all(|line| line.contains(&format!("\"pid\":{own},"))), "{}", ran.out);
    let ran = run(&["run", &package("opensnoop"), "--nonsense"]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.err.contains("\"--nonsense\"") && ran.err.contains("--pid"), "{}", ran.err);
}

#[test]
fn a_short_option_of_the_program_before_it_gets_a_hint() {
    let ran = run(&["run", "-p", "1641", &package("opensnoop")]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.err.contains("after PROG"), "{}", ran.err);
}

#[test]
fn a_module_gets_its_arguments_and_ends_with_its_code() {
    let ran = run(&["run", &module("sigsnoop"), "-h"]);
    assert!(ran.out.contains("--pid"), "{} {}", ran.out, ran.err);
    assert_eq!(ran.code, Some(0));
}

#[test]
fn a_closed_pipe_is_not_an_error() {
    needs_root!();
    let _activity = Activity::start();
    let script = format!("{} run -j {} | head -n 1", env!("CARGO_BIN_EXE_ecli"), package("bootstrap"));
    let ran: support::Ran = std::process::Command::new("bash")
        .args(["-o", "pipefail", "-c", &script])
        .output()
        .expect("bash")
        .into();
    assert_eq!((ran.code, ran.out.lines().count()), (Some(0), 1), "{}", ran.err);
    assert_eq!(ran.err, "");
}

#[test]
fn a_closed_stderr_is_not_an_error() {
    needs_root!();
    let _activity = Activity::start();
    let ecli = env!("CARGO_BIN_EXE_ecli");
    // The reader of stderr has closed the pipe when the summary is written.
    let script = format!(
        "{ecli} run -j --count 50 --stats {} 2> >(exec true) >/dev/null; echo $?",
        package("bootstrap")
    );
    let ran: support::Ran =
        std::process::Command::new("bash").args(["-c", &script]).output().expect("bash").into();
    assert_eq!(ran.out, "0\n", "{}", ran.err);
}

#[test]
fn a_full_disk_is_a_clear_error() {
    needs_root!();
    let _activity = Activity::start();
    let ran = run(&["run", "--output", "/dev/full", &package("bootstrap")]);
    assert_eq!(ran.code, Some(6));
    assert_eq!(ran.err, "ecli: /dev/full: No space left on device\n");
}

#[test]
fn filters_and_columns_choose() {
    needs_root!();
    let _activity = Activity::start();
    let filter = "comm == true && !(exit_event == false) && filename =~ \"^$\"";
    let ran = run(&[
        "run",
        "-j",
        "--count",
        "2",
        "--columns",
        "comm,pid",
        "--filter",
        filter,
        &package("bootstrap"),
    ]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(ran.out.lines().all(|line| line.starts_with("{\"comm\":\"true\",\"pid\":")), "{}", ran.out);
    assert_eq!(ran.out.lines().count(), 2);
    for (filter, what) in
        [("nonsense == 1", "nonsense"), ("pid ==", "value"), ("pid = 1", "=="), ("(pid", ")")]
    {
        let ran = run(&["run", "--filter", filter, &package("bootstrap")]);
        assert_eq!(ran.code, Some(2), "{filter}: {}", ran.err);
        assert!(ran.err.contains(what), "{filter}: {}", ran.err);
    }
}

/// A package that counts opens by process, in a map of this type.
fn sampled(sample: &str, kind: &str) -> tempfile::TempDir {
    let source = r#"#include "vmlinux.h"
        #include <bpf/bpf_helpers.h>
        struct who { u32 tgid; char comm[16]; };
        struct calls { u64 count; u32 slots[8]; };
        /// @sample SAMPLE
        struct {
            __uint(type, KIND);
            __uint(max_entries, 1024);
            __type(key, struct who);
            __type(value, struct calls);
        } opens SEC(".maps");
        SEC("tracepoint/syscalls/sys_enter_openat")
        int called(void *ctx) {
            static const struct calls none;
            struct who who = {.tgid = bpf_get_current_pid_tgid() >> 32};
            struct calls *calls;
            bpf_get_current_comm(who.comm, sizeof(who.comm));
            bpf_map_update_elem(&opens, &who, &none, BPF_NOEXIST);
            calls = bpf_map_lookup_elem(&opens, &who);
            if (calls) {
                calls->count++;
                calls->slots[3]++;
            }
            return 0;
        }
        char LICENSE[] SEC("license") = "GPL";"#;
    support::compile(&source.replace("SAMPLE", sample).replace("KIND", kind))
}

#[test]
fn entries_of_maps_are_chosen_as_records_are() {
    needs_root!();
    let _activity = Activity::start();
    let folder = sampled("{\"interval\": 200}", "BPF_MAP_TYPE_HASH");
    let path = folder.path().join("package.json");
    let wanted = ["--filter", "key.comm == true && value.count > 0", "--count", "1", "--duration", "10"];
    let ecli = |args: &[&str]| {
        let ran = run(&[&["run"], &wanted[..], args, &[path.to_str().expect("UTF-8")]].concat());
        assert_eq!(ran.code, Some(0), "{args:?}: {}", ran.err);
        ran.out
    };
    let csv = ecli(&["--format", "csv"]);
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!((lines[0], lines.len()), ("key.tgid,key.comm,value.count,value.slots", 2), "{csv}");
    assert!(lines[1].contains(",true,"), "{csv}");
    let columns = ecli(&["--columns", "value.count,key.comm"]);
    assert!(columns.starts_with("TIME     VALUE.COUNT KEY.COMM\n"), "{columns}");
    let json: serde_json::Value = serde_json::from_str(&ecli(&["-j"])).expect("JSON");
    assert!(json["key"]["comm"] == "true" && json["value"]["slots"].is_array(), "{json}");
    let text = ecli(&[]);
    assert!(text.contains("  {\"tgid\":") && text.contains("\"true\""), "{text}");
    let raw = run(&["run", "--format", "raw", "--count", "1", path.to_str().expect("UTF-8")]);
    assert_eq!((raw.code, raw.out.len() >= 60), (Some(0), true), "{}", raw.err);
    let unknown = run(&["run", "--filter", "count > 0", path.to_str().expect("UTF-8")]);
    assert!(unknown.code == Some(2) && unknown.err.contains("key, value"), "{}", unknown.err);
}

#[test]
fn a_value_for_each_cpu_is_a_record_for_each_cpu() {
    needs_root!();
    let _activity = Activity::start();
    let folder = sampled("{\"interval\": 200}", "BPF_MAP_TYPE_PERCPU_HASH");
    let path = folder.path().join("package.json");
    let path = path.to_str().expect("UTF-8");
    let ran = run(&["run", "--format", "csv", "--columns", "cpu,value.count", "--count", "4", path]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(ran.out.starts_with("cpu,value.count\n0,"), "{}", ran.out);
    let ran = run(&["run", "-j", "--filter", "cpu == 0 && value.count > 0", "--count", "1", path]);
    assert!(ran.out.contains("},\"cpu\":0,\"value\":{\"count\":"), "{} {}", ran.out, ran.err);
}

#[test]
fn histograms_that_were_chosen_are_still_drawn() {
    needs_root!();
    let _activity = Activity::start();
    let sample = "{\"interval\": 200, \"type\": \"log2_hist\", \"unit\": \"files\"}";
    let folder = sampled(sample, "BPF_MAP_TYPE_HASH");
    let path = folder.path().join("package.json");
    let path = path.to_str().expect("UTF-8");
    let ran = run(&["run", "--filter", "key.comm == true", "--count", "1", path]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(ran.out.starts_with("key = {\"tgid\":") && ran.out.contains("files"), "{}", ran.out);
}

#[test]
fn the_last_round_of_a_sampled_map_is_shown_before_its_time() {
    needs_root!();
    let _activity = Activity::start();
    let sample = "{\"interval\": 60000, \"type\": \"log2_hist\", \"unit\": \"files\"}";
    let folder = sampled(sample, "BPF_MAP_TYPE_HASH");
    let path = folder.path().join("package.json");
    let path = path.to_str().expect("UTF-8");
    let ran = run(&["run", "--duration", "1", path]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(ran.out.contains("\"comm\":\"true\"") && ran.out.contains("files"), "{} {}", ran.out, ran.err);
}

#[test]
fn invalid_programs_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    std::fs::write(path("empty.json"), "").expect("a file");
    std::fs::write(path("text"), "#!/bin/sh\n").expect("a file");
    std::fs::write(path("half.json"), "{\"meta\":").expect("a file");
    let cases = [
        (folder.path().to_str().expect("UTF-8").to_owned(), "is a directory"),
        ("/bin/true".into(), "not for BPF"),
        (path("missing.json"), "No such file"),
        (path("empty.json"), "empty"),
        (path("text"), "#!/bin/sh"),
        (path("half.json"), "half.json"),
        ("ftp://example.org/x".into(), "\"ftp\""),
        ("-".into(), "standard input: empty"),
    ];
    for (prog, what) in cases {
        let ran = run(&["run", &prog]);
        assert_eq!(ran.code, Some(3), "{prog}: {}", ran.err);
        assert!(ran.err.contains(what), "{prog}: {}", ran.err);
        assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
    }
    for time in ["0", "1e30", "-1", "soon"] {
        let ran = run(&["run", &format!("--duration={time}"), &package("opensnoop")]);
        assert!(ran.code == Some(2) && ran.err.contains("--duration"), "{time}: {}", ran.err);
    }
    let wrong = run(&["run", "-p", "wasm", &package("opensnoop")]);
    assert_eq!(wrong.code, Some(3));
    assert!(wrong.err.contains("a JSON package, not a WASM module"), "{}", wrong.err);
}

#[test]
fn an_archive_runs_unless_an_entry_is_outside() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("good.tar");
    let json = std::fs::read(package("opensnoop")).expect("a package");
    archive(&path, &[("package.json", &json), ("btfhub-archive/x/y/z/k.btf", b"")]);
    let ran = run(&["run", path.to_str().expect("UTF-8"), "-h"]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(ran.out.contains("--pid"), "{}", ran.out);
    for name in ["../out", "/tmp/ecli-out", "a/../../out"] {
        archive(&path, &[(name, b"x"), ("package.json", &json)]);
        let ran = run(&["run", path.to_str().expect("UTF-8"), "-h"]);
        assert_eq!(ran.code, Some(3), "{name}");
        assert!(ran.err.contains("is outside of the archive"), "{name}: {}", ran.err);
    }
    archive(&path, &[("other.json", &json)]);
    let ran = run(&["run", path.to_str().expect("UTF-8")]);
    assert!(ran.code == Some(3) && ran.err.contains("no package.json"), "{}", ran.err);
}

/// Writes a tar archive with exactly these names, some of which the functions of the crate refuse.
fn archive(path: &std::path::Path, files: &[(&str, &[u8])]) {
    let mut builder = tar::Builder::new(std::fs::File::create(path).expect("a file"));
    for (name, content) in files {
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, *content).expect("an entry");
    }
    builder.finish().expect("an archive");
}

#[test]
fn closed_stdin_is_an_error() {
    let script = format!("{} run - <&-", env!("CARGO_BIN_EXE_ecli"));
    let ran: support::Ran =
        std::process::Command::new("sh").args(["-c", &script]).output().expect("sh").into();
    assert_eq!(ran.code, Some(3));
    assert!(ran.err.contains("standard input"), "{}", ran.err);
}

#[test]
fn a_program_without_a_place_names_the_option_for_it() {
    needs_root!();
    let folder = support::compile(
        "#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\nchar LICENSE[] SEC(\"license\") = \"GPL\";\n\
         SEC(\"uprobe\") int here(void *ctx) { return 0; }\n",
    );
    let ran = run(&["run", "--duration", "1s", folder.path().join("package.json").to_str().unwrap()]);
    assert_eq!(ran.code, Some(2), "{}", ran.err);
    let option = "set the target: --attach here=KEY:VALUE,... with \"path\" and \"func\"";
    assert!(ran.err.contains(option), "{}", ran.err);
}
