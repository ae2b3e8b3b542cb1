//! Changes while the exporter runs: of the configuration, of packages, of the loader.

use rustix::process::{Pid, Signal, kill_process};

use super::*;

impl Exporter {
    /// Writes another configuration and makes the exporter apply it. Returns the line that it prints about that.
    fn reload(&self, config: &str) -> String {
        let before = self.log().len();
        std::fs::write(self.folder.path().join("config.yaml"), config).expect("a file");
        kill_process(Pid::from_child(&self.child), Signal::HUP).expect("it runs");
        let mut line = None;
        wait_for("the reload", || {
            let log = self.log()[before..].to_owned();
            let is_about = |line: &&str| line.starts_with("the configuration ");
            line = log.lines().find(is_about).map(str::to_owned);
            line.is_some() && log.ends_with('\n')
        });
        line.expect("a line")
    }

    /// The loader, and the process that keeps one running.
    fn loader(&self) -> (Pid, Pid) {
        let found = std::fs::read_dir("/proc").expect("proc").flatten().find_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let line = std::fs::read_to_string(entry.path().join("cmdline")).ok()?;
            let status = std::fs::read_to_string(entry.path().join("stat")).ok()?;
            let parent: i32 = status.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()?;
            let above = std::fs::read_to_string(format!("/proc/{parent}/stat")).ok()?;
            let above: u32 = above.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()?;
            let is_own = line.contains("--load-packages") && above == self.child.id();
            is_own.then_some((Pid::from_raw(pid)?, Pid::from_raw(parent)?))
        });
        found.expect("a loader")
    }

    fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).expect("it runs").count()
    }

    fn memory(&self) -> f64 {
        value(&self.metrics(), "process_resident_memory_bytes").expect("a value")
    }
}

/// The package with another layout of its events, or with more maps.
fn variant(name: &str, define: &str) -> PathBuf {
    let exe = std::env::current_exe().expect("a test knows where it is");
    let target = exe.ancestors().nth(2).expect("tests are in target/PROFILE/deps");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/exporter/calls.bpf.c");
    let folder = target.join("exporter-test").join(name);
    let mut command = Command::new(target.join("ecc"));
    command.arg(source).arg("-o").arg(&folder).arg(format!("--additional-cflags=-D{define}"));
    let compiled = command.output().expect("ecc runs");
    assert!(compiled.status.success(), "ecc: {}", String::from_utf8_lossy(&compiled.stderr));
    folder.join("package.json")
}

const METRICS: &str = "    counters:
    - {name: events_total, labels: [name]}
    - {name: entries_total, map: totals, value: count, labels: [name]}
    histograms:
    - {name: values, observe: value, buckets: [10]}
    - {name: slots, map: hists, slots: slots, sum: sum}
";

#[test]
fn a_new_configuration_keeps_what_was_counted() {
    needs_root!();
    let option = option();
    let config = program(option, METRICS);
    let exporter = Exporter::start(&config);
    call(option, &[(1, b"a"), (2, b"a")]);
    exporter.metrics_after(2);
    let more =
        config.clone() + "    gauges:\n    - {name: last_value, map: totals, value: last, labels: [name]}\n";
    let more = more.replace(
        "entries_total, map",
        "new_total, map: totals, value: bytes}\n    - {name: entries_total, map",
    );
    assert_eq!(
        exporter.reload(&more),
        "the configuration was applied: 0 programs started, 0 stopped, 0 replaced, 1 kept"
    );
    call(option, &[(3, b"a")]);
    let text = exporter.metrics_after(3);
    for (series, expected) in [
        ("events_total{name=\"a\"}", 3.0),
        ("entries_total{name=\"a\"}", 3.0),
        ("new_total", 6.0),
        ("values_count", 3.0),
        ("slots_count", 3.0),
        ("slots_sum", 6.0),
        ("last_value{name=\"a\"}", 3.0),
    ] {
        assert_eq!(value(&text, series), Some(expected), "{series}\n{text}");
    }
}

#[test]
fn a_wrong_configuration_changes_nothing() {
    needs_root!();
    let option = option();
    let config = program(option, METRICS);
    let exporter = Exporter::start(&config);
    call(option, &[(1, b"a")]);
    exporter.metrics_after(1);
    let more = format!(
        "- name: more\n  compiled_ebpf_filename: {}\n  metrics: {{counters: [{{name: more_total}}]}}\n",
        package().display()
    );
    for (wrong, expected) in [
        ("programs: [".to_owned(), "line 1"),
        (config.replace("labels: [name]", "labels: [nam]"), "struct event has no \"nam\""),
        // The second program is started before the mistake in the third one is found.
        (
            format!("{config}{more}- name: last\n  compiled_ebpf_filename: /nonexistent\n  metrics: {{}}\n"),
            "/nonexistent: No such file",
        ),
    ] {
        let line = exporter.reload(&wrong);
        assert!(
            line.starts_with("the configuration cannot be applied: ") && line.contains(expected),
            "{line}"
        );
    }
    call(option, &[(1, b"a")]);
    let text = exporter.metrics_after(2);
    assert_eq!(value(&text, "events_total{name=\"a\"}"), Some(2.0));
    assert!(!text.contains("more"), "{text}");
}

#[test]
fn programs_come_and_go_with_the_configuration() {
    needs_root!();
    let option = option();
    let config = program(option, METRICS);
    let exporter = Exporter::start_with(&config, &["--insecure-no-auth"]);
    let (one, other) = (package(), option);
    let second = format!(
        "- name: more\n  compiled_ebpf_filename: {}\n  variables: {{option: {other}}}\n  metrics: {{counters: [{{name: more_total}}]}}\n",
        one.display()
    );
    let body = format!("{config}{second}");
    let json = "Content-Type: application/json\r\n";
    let (status, text) = exporter.request("POST", "/v1/config", json, &body);
    assert_eq!((status, &*text), (200, r#"{"kept":1,"replaced":0,"started":1,"stopped":0}"#));
    call(option, &[(1, b"a")]);
    exporter.metrics_after(1);
    wait_for("both programs", || value(&exporter.metrics(), "more_total") == Some(1.0));
    let (status, text) = exporter.request("POST", "/v1/config", json, &config);
    assert_eq!((status, &*text), (200, r#"{"kept":1,"replaced":0,"started":0,"stopped":1}"#));
    assert!(!exporter.metrics().contains("more_total"));
}

#[test]
fn no_event_is_lost_or_counted_twice_while_packages_are_replaced() {
    needs_root!();
    let option = option();
    let config = program(option, METRICS);
    let exporter = Exporter::start(&config);
    let packages = [variant("moved", "MOVED"), package(), variant("larger", "LARGER")];
    let calls: Vec<(u64, &[u8])> = (0..40_000).map(|number| (number % 20, &b"name"[..])).collect();
    std::thread::scope(|scope| {
        let caller = scope.spawn(|| call(option, &calls));
        for path in packages.iter().cycle().take(6) {
            let line = exporter
                .reload(&config.replace(package().to_str().expect("UTF-8"), path.to_str().expect("UTF-8")));
            assert_eq!(
                line,
                "the configuration was applied: 0 programs started, 0 stopped, 1 replaced, 0 kept"
            );
        }
        caller.join().expect("the caller does not panic");
    });
    let text = exporter.metrics_after(40_000);
    for series in
        ["events_total{name=\"name\"}", "entries_total{name=\"name\"}", "values_count", "slots_count"]
    {
        assert_eq!(value(&text, series), Some(40_000.0), "{series}\n{text}");
    }
    assert_eq!(
        value(&text, "values_bucket{le=\"10\"}"),
        Some(22_000.0),
        "the field was found in each layout"
    );
}

#[test]
fn counters_go_on_after_the_loader_was_killed() {
    needs_root!();
    let option = option();
    let exporter = Exporter::start(&program(option, METRICS));
    call(option, &[(1, b"a"), (1, b"a")]);
    exporter.metrics_after(2);
    kill_process(exporter.loader().0, Signal::KILL).expect("it runs");
    wait_for("another loader", || {
        call(option, &[(1, b"b")]);
        value(&exporter.metrics(), "events_total{name=\"b\"}").is_some()
    });
    let text = exporter.metrics();
    assert_eq!(value(&text, "events_total{name=\"a\"}"), Some(2.0), "{text}");
    assert_eq!(value(&text, "entries_total{name=\"a\"}"), Some(2.0), "{text}");
    assert_eq!(value(&text, "events_total{name=\"b\"}"), value(&text, "entries_total{name=\"b\"}"), "{text}");
}

#[test]
fn it_is_not_ready_while_there_is_no_loader() {
    needs_root!();
    let exporter = Exporter::start(&program(option(), METRICS));
    let ready = || exporter.request("GET", "/-/ready", "", "").0;
    assert_eq!(ready(), 200);
    let (loader, keeper) = exporter.loader();
    kill_process(keeper, Signal::STOP).expect("it runs");
    kill_process(loader, Signal::KILL).expect("it runs");
    wait_for("the end of the loader", || ready() == 503);
    assert_eq!(exporter.request("GET", "/-/healthy", "", "").0, 200);
    kill_process(keeper, Signal::CONT).expect("it runs");
    wait_for("another loader", || ready() == 200);
}

#[test]
fn programs_that_were_replaced_return_if_a_later_one_fails() {
    needs_root!();
    let option = option();
    let metrics = |prefix: &str, more: &str| {
        METRICS.replace("{name: ", &format!("{{name: {prefix}_")).replacen("[name]", more, 1)
    };
    let part = |name: &str, path: &Path, metrics: &str| {
        format!(
            "- name: {name}\n  compiled_ebpf_filename: {}\n  variables: {{option: {option}}}\n  metrics:\n{metrics}",
            path.display()
        )
    };
    let (old, moved) = (package(), variant("moved", "MOVED"));
    let first = metrics("one", "[name]");
    let config = format!(
        "programs:\n{}{}",
        part("calls", &old, &first),
        part("more", &old, &metrics("two", "[name]"))
    );
    let exporter = Exporter::start(&config);
    call(option, &[(1, b"a"), (2, b"a")]);
    exporter.metrics_after(2);
    // The first program is replaced and loses two metrics; the second one does not fit its package.
    let fewer = first.replace("one_slots, map: hists, slots: slots, sum: sum", "one_other, observe: value");
    let fewer = fewer.replace("one_entries_total", "one_renamed_total");
    let wrong = format!(
        "programs:\n{}{}",
        part("calls", &moved, &fewer),
        part("more", &moved, &metrics("two", "[last]"))
    );
    let calls: Vec<(u64, &[u8])> = (0..20_000).map(|number| (number % 20, &b"a"[..])).collect();
    std::thread::scope(|scope| {
        let caller = scope.spawn(|| call(option, &calls));
        for _ in 0..3 {
            let line = exporter.reload(&wrong);
            assert!(line.starts_with("the configuration cannot be applied: "), "{line}");
            assert!(
                line.contains("program \"more\"") || line.contains("counter \"two_events_total\""),
                "{line}"
            );
        }
        caller.join().expect("the caller does not panic");
    });
    let text = exporter.metrics_after(20_002);
    for series in [
        "one_events_total{name=\"a\"}",
        "one_entries_total{name=\"a\"}",
        "one_values_count",
        "one_slots_count",
        "two_values_count",
    ] {
        assert_eq!(value(&text, series), Some(20_002.0), "{series}\n{text}");
    }
    assert!(!text.contains("one_other") && !text.contains("one_renamed"), "{text}");
    let line = exporter.reload(&config.replace(old.to_str().expect("UTF-8"), moved.to_str().expect("UTF-8")));
    assert_eq!(line, "the configuration was applied: 0 programs started, 0 stopped, 2 replaced, 0 kept");
    call(option, &[(1, b"a")]);
    let text = exporter.metrics_after(20_003);
    assert_eq!(value(&text, "one_entries_total{name=\"a\"}"), Some(20_003.0), "{text}");
}

#[test]
fn reloads_leave_memory_and_descriptors_as_they_were() {
    needs_root!();
    let option = option();
    let config = program(option, METRICS);
    let exporter = Exporter::start(&config);
    let moved = config
        .replace(package().to_str().expect("UTF-8"), variant("moved", "MOVED").to_str().expect("UTF-8"));
    let rounds = if std::env::var_os("EUNOMIA_ENDURANCE").is_some() { 50 } else { 5 };
    let twice = || {
        exporter.reload(&moved);
        exporter.reload(&config);
    };
    (0..3).for_each(|_| twice());
    exporter.metrics();
    let (descriptors, memory) = (exporter.descriptors(), exporter.memory());
    (0..rounds).for_each(|_| twice());
    exporter.metrics();
    // Connections of requests are closed a little later.
    wait_for("the descriptors", || exporter.descriptors() <= descriptors);
    assert!(exporter.memory() < memory + 2e6, "{memory} -> {}", exporter.memory());
}

#[test]
fn changed_files_are_noticed() {
    needs_root!();
    let config = program(option(), METRICS);
    let exporter = Exporter::start_with(&config, &["--watch"]);
    std::fs::write(exporter.folder.path().join("config.yaml"), config.replace("events_total", "other_total"))
        .expect("a file");
    wait_for("the new name", || exporter.metrics().contains("# TYPE other_total counter"));
}

#[test]
fn a_configuration_is_checked_without_running_it() {
    needs_root!();
    let folder = folder();
    let check = |config: &str| {
        std::fs::write(folder.path().join("config.yaml"), config).expect("a file");
        let output = exporter(folder.path()).arg("--check").output().expect("it runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(check(&program(1, METRICS)), (Some(0), String::new()));
    let (code, text) = check(&program(1, &METRICS.replace("[name]", "[nam]")));
    assert!(
        code == Some(1) && text.contains("line 7, column 37: counter \"events_total\": label \"nam\""),
        "{text}"
    );
}
