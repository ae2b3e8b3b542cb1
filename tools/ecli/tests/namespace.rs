//! In a user namespace below the initial one, capabilities have no effect for BPF.
#![allow(missing_docs)]

mod support;

use std::process::{Command, Stdio};

use support::{Ran, module, package};

/// Runs ecli in a new user namespace.
fn unshared(mapping: &[&str], args: &[&str]) -> Ran {
    let mut command = Command::new("unshare");
    command.arg("--user").args(mapping).arg(env!("CARGO_BIN_EXE_ecli")).args(args);
    command.stdin(Stdio::null()).output().expect("unshare runs").into()
}

#[test]
fn root_of_another_user_namespace_gets_a_hint() {
    needs_root!();
    // ecli runs as root in the namespace, and then as nobody.
    for mapping in [&["--map-root-user"][..], &[]] {
        for command in ["run", "check"] {
            let ran = unshared(mapping, &[command, &package("opensnoop")]);
            assert_eq!((ran.code, ran.out.as_str()), (Some(4), ""), "{}", ran.err);
            let last = ran.err.lines().last().unwrap();
            assert!(
                last.contains(" in the initial user namespace, and this process is in another one; "),
                "{last}"
            );
            assert!(
                last.contains("; run ecli outside of user:[") && last.contains("] (a rootless container "),
                "{last}"
            );
            assert!(!last.contains("lockdown") && !last.contains("run ecli as root"), "{last}");
        }
        let ran = unshared(mapping, &["run", &module("sigsnoop")]);
        assert!(
            ran.err.contains("needs CAP_BPF and CAP_PERFMON in the initial user namespace"),
            "{}",
            ran.err
        );
    }
}

#[test]
fn doctor_names_the_namespace() {
    needs_root!();
    let ran = unshared(&["--map-root-user"], &["doctor"]);
    assert_eq!(ran.code, Some(1));
    let mut lines = ran.out.lines().skip_while(|line| !line.starts_with("FAIL  privileges: "));
    let found = lines.next().unwrap();
    assert!(found.starts_with("FAIL  privileges: none outside of user namespace user:["), "{found}");
    assert!(lines.next().unwrap().contains("in the initial user namespace: run ecli outside"), "{}", ran.out);
    // A namespace of another kind changes nothing.
    let mut command = Command::new("unshare");
    command.args(["--uts", "--ipc", env!("CARGO_BIN_EXE_ecli"), "doctor"]);
    let ran: Ran = command.stdin(Stdio::null()).output().expect("unshare runs").into();
    assert!(ran.out.contains("ok    privileges: CAP_SYS_ADMIN"), "{}", ran.out);
}

#[test]
fn doctor_reports_what_it_cannot_check() {
    needs_root!();
    let ran = support::without_privileges(&["doctor"], "");
    let line = ran.out.lines().find(|line| line.contains("fentry and fexit: ")).unwrap();
    let is_built_in =
        std::fs::read_to_string("/proc/kallsyms").unwrap().contains(" register_ftrace_direct\n");
    let unknown = "warn  fentry and fexit: built in; without privileges, ecli cannot check whether the kernel allows it";
    assert_eq!(line, if is_built_in { unknown } else { "warn  fentry and fexit: not built in" });
    // The kernel's list of mounts has the path of cgroup2.
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let path = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"));
    let line = ran.out.lines().find(|line| line.contains(" cgroup2: ")).unwrap();
    let expected = path.map_or("not mounted", |path| path.split(' ').nth(1).unwrap());
    assert!(line.contains(expected), "{line}");
}
