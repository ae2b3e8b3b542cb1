//! Examples for scheduling.

use std::process;
use std::thread::sleep;
use std::time::{Duration, Instant};

use eunomia::{Kind, Options, Vm};
use serde_json::{Value, json};

use super::{Example, package, shell};

#[test]
fn runqlat_counts_waits_in_a_histogram() {
    let Some(mut example) = Example::attach("runqlat", &[]) else { return };

    let entry = example.wait_for(json!({"key": 0, "value": {"comm": ""}}));
    let slots = entry["value"]["slots"].as_array().unwrap();
    assert_eq!(slots.len(), 26);
    assert!(slots.iter().any(|count| count.as_u64().unwrap() > 0));
}

#[test]
fn profile_samples_stacks() {
    let pid = process::id();
    let Some(mut example) = Example::attach("profile", &["--pid", &pid.to_string()]) else { return };
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(200) {}

    loop {
        let sample = example.next();
        assert_eq!(sample["pid"], pid);
        if sample["ustack_sz"].as_i64().unwrap() > 0 {
            assert!(sample["ustack"][0].as_str().unwrap().starts_with("0x"), "{sample}");
            break;
        }
    }
}

#[test]
fn offcputime_reports_the_stacks_of_threads_that_sleep() {
    let pid = process::id();
    let options = ["--pid", &pid.to_string(), "--min", "50000"];
    let Some(mut example) = Example::attach("offcputime", &options) else { return };
    sleep(Duration::from_millis(100));

    loop {
        let event = example.next();
        assert_eq!(event["pid"], pid);
        assert!(event["off_us"].as_u64().unwrap() >= 50_000);
        // SAFETY: no arguments.
        if event["tid"] == unsafe { libc::gettid() } && event["off_us"].as_u64().unwrap() >= 100_000 {
            let frames = |name: &str| event[name].as_array().unwrap().len();
            assert!(frames("kstack") > 1 && frames("ustack") > 1, "{event}");
            // Kernel addresses are above.
            assert!(event["kstack"][0].as_str().unwrap().starts_with("0xffff"), "{event}");
            assert!(!event["ustack"][0].as_str().unwrap().starts_with("0xffff"), "{event}");
            break;
        }
    }
}

#[test]
fn sleeps_uses_a_hook_that_this_kernel_has() {
    let Some(mut example) = Example::attach("sleeps", &[]) else { return };
    let pid = shell("exec sleep 0.01");
    example.wait_for(json!({"pid": pid, "comm": "sleep"}));
}

#[test]
#[ignore = "needs fentry: run by make vm"]
fn vm_sleeps_uses_the_best_hook_that_the_host_permits() {
    let sleeps = |off: &[&str], hook: &str| {
        let Some(mut example) = Example::open("sleeps", &[]) else { return };
        off.iter().for_each(|prog| example.vm.prog_set_autoload(prog, false).unwrap());
        example.vm.attach().unwrap();
        let pid = shell("exec sleep 0.01");
        example.wait_for(json!({"pid": pid, "hook": hook}));
        let description: Value = serde_json::from_str(&example.vm.describe().unwrap()).unwrap();
        let progs = description["programs"].as_array().unwrap();
        assert_eq!(progs.iter().filter(|prog| prog["attached"] == true).count(), 1, "{progs:?}");
    };
    sleeps(&[], "HOOK_FENTRY");
    sleeps(&["by_fentry"], "HOOK_KPROBE");
    sleeps(&["by_kprobe", "by_fentry"], "HOOK_TRACEPOINT");
}

#[test]
#[ignore = "needs kprobes: run by make vm"]
fn vm_slabrate_attaches_to_the_name_that_the_kernel_has() {
    let Some(mut example) = Example::attach("slabrate", &[]) else { return };
    let description: Value = serde_json::from_str(&example.vm.describe().unwrap()).unwrap();
    let progs = description["programs"].as_array().unwrap();
    let (used, other): (Vec<_>, Vec<_>) = progs.iter().partition(|prog| prog["attached"] == true);
    assert!(used.len() == 1 && other.len() == 1, "{progs:?}");
    shell("exec true");
    let entry = example.next();
    assert!(entry["value"]["count"].as_u64().unwrap() > 0, "{entry}");
    assert!(!entry["key"]["name"].as_str().unwrap().is_empty(), "{entry}");
    // The name with a suffix is tried first.
    let reason = other[0]["skipped"].as_str().unwrap_or_default();
    assert_eq!(used[0]["name"] == "on_alloc", reason.contains("kmem_cache_alloc_noprof"), "{progs:?}");

    // A check reports the same before attach.
    let open = || {
        let vm = Vm::new(Options::new())?;
        vm.open_file(package("slabrate"), Kind::Json)?;
        Ok(vm)
    };
    let checked = eunomia::vm::check(&open, &mut |_, _| Ok(())).unwrap();
    assert!(checked.refused.is_none());
    for verdict in &checked.verdicts {
        // The second program is not tried if the first one works.
        let is_skipped = matches!(verdict.outcome, eunomia::vm::Outcome::Skipped(_));
        assert!(!is_skipped || used[0]["name"] != verdict.name.as_str(), "{verdict}");
    }
}
