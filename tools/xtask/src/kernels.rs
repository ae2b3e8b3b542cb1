//! Writes docs/kernels.md: features by kernel, from the output of tests/matrix.

use std::collections::BTreeMap;
use std::path::Path;

const TABLE: &str = "docs/kernels.md";
const KERNELS: [&str; 5] = ["5.10", "6.1", "6.12", "7.2", "running"];
/// The summary in the README: its rows, and the features that each one combines.
const README: &str = "README.md";
const GROUPS: [(&str, &[&str]); 9] = [
    (
        "tracepoint, raw_tp, tp_btf, perf_event, iter",
        &["tracepoint", "raw_tp", "tp_btf", "perf_event", "iter"],
    ),
    ("uprobe, uretprobe, USDT", &["uprobe", "uretprobe", "usdt"]),
    ("kprobe, kretprobe", &["kprobe", "kretprobe"]),
    ("fentry, fexit, fmod_ret, LSM, struct_ops", &["fentry", "fexit", "fmod_ret", "lsm", "struct_ops"]),
    ("XDP, tc, sockops, sk_lookup", &["xdp", "tc", "sockops", "sk_lookup"]),
    (
        "cgroup (sockets, addresses, options, sysctl, devices)",
        &[
            "cgroup_egress",
            "cgroup_bind",
            "cgroup_sock_create",
            "cgroup_setsockopt",
            "cgroup_sysctl",
            "cgroup_device",
        ],
    ),
    ("tcx, netkit, kprobe.multi, uprobe.multi", &["tcx", "netkit", "kprobe_multi", "uprobe_multi"]),
    ("ring buffer, perf buffer, global variables", &["ring buffer", "perf buffer", "global variables"]),
    ("types from the package where the kernel has none", &["types from the package, none in the kernel"]),
];
const HEAD: &str = "# Kernels

This table shows what works on which kernel. \"yes\" means that it was loaded, attached, and seen to run: a program counted events, an example
delivered what its README promises, and a map with plain keys was written and read. Other maps and the `syscall` program were only loaded;
`struct_ops` was registered. A number refers to a message of the library in the list below the table.

`make vm` boots Debian's kernels under QEMU. On each it runs `tests/matrix`, `tests/examples`, `tests/vm.rs` and the conformance suite in C and
Rust. It does the same on the running kernel, without emulation (the last column), and writes this table. `make vm KERNEL=6.1` runs one of them.
All programs of the attach tests are in one package, `tests/matrix/features.json`. It was compiled once and runs on all of these kernels; its
digest is committed, and checked on each kernel.

";
const RUNNER: &str = "
## The runner

`tests/kernels` is two hundred lines of shell: it fetches a kernel's package without installing it, packs the test programs into an initramfs
with busybox, and boots that in emulation. It does not use virtme-ng or vmtest, because both need more. virtme-ng mounts the host's files by
virtiofs or 9p, and Debian's kernels have no driver for these built in. vmtest needs QEMU's guest agent in the image, or a kernel with the
same drivers. Neither fetches kernels.
";

/// Writes the page from the results of all kernels.
pub fn write() -> Result<(), String> {
    let mut rows: Vec<String> = Vec::new();
    let mut answers: BTreeMap<(String, &str), String> = BTreeMap::new();
    for kernel in KERNELS {
        let file = format!("target/vm/{kernel}/matrix.txt");
        let Ok(text) = crate::read(Path::new(&file)) else {
            println!("{TABLE} stays as it is: there are no results of Linux {kernel} yet");
            return Ok(());
        };
        for (feature, answer) in text.lines().filter_map(|line| line.split_once(": ")) {
            if !rows.iter().any(|known| known == feature) {
                rows.push(feature.to_owned());
            }
            let known = answers.entry((feature.to_owned(), kernel)).or_default();
            // Several tests run an example; if it delivered events in one of them, the table has that result.
            if known != "works" {
                *known = answer.to_owned();
            }
        }
    }
    // The order of tests is not always the same.
    rows.sort_by_cached_key(|row| match row.split_once(' ') {
        Some(("map", _)) => (1, String::new()),
        Some(("conformance", _)) => (2, String::new()),
        Some(("example", name)) => (3, name.to_owned()),
        _ => (0, String::new()),
    });
    let mut reasons: Vec<&str> = Vec::new();
    let mut titles = KERNELS.map(|kernel| answers.remove(&("kernel".to_owned(), kernel)).unwrap_or_default());
    titles[KERNELS.len() - 1] += ", reference machine";
    let head =
        |first: &str| format!("| {first}| {} |\n|---|{}\n", titles.join(" | "), "---|".repeat(KERNELS.len()));
    let mut text = HEAD.to_owned() + &head("");
    for feature in rows.iter().filter(|row| *row != "kernel") {
        let cells = KERNELS.map(|kernel| match answers.get(&(feature.clone(), kernel)).map(String::as_str) {
            Some("works") => "yes".to_owned(),
            Some("attaches") => "attaches".to_owned(),
            Some(reason) => number(reason, &mut reasons).to_string(),
            None => "not asked".to_owned(),
        });
        text += &format!("| {feature} | {} |\n", cells.join(" | "));
    }
    text.push('\n');
    for (index, reason) in reasons.iter().enumerate() {
        text += &format!("{}. {reason}\n", index + 1);
    }
    crate::write(Path::new(TABLE), &(text + RUNNER))?;
    write_short(&head("Linux "), |feature, kernel| {
        answers.get(&(feature.to_owned(), kernel)).is_some_and(|answer| answer == "works")
    })
}

/// Puts one row for each group between the marks in the README.
fn write_short(head: &str, works: impl Fn(&str, &'static str) -> bool) -> Result<(), String> {
    const MARKS: [&str; 2] = ["<!-- written by make vm -->\n", "<!-- end -->"];
    let text = crate::read(Path::new(README))?;
    let parts =
        text.split_once(MARKS[0]).and_then(|(before, rest)| Some((before, rest.split_once(MARKS[1])?.1)));
    let (before, after) = parts.ok_or_else(|| format!("{README}: no place for the table"))?;
    let mut table = head.to_owned();
    for (name, features) in GROUPS {
        let cells =
            KERNELS.map(|kernel| match features.iter().filter(|feature| works(feature, kernel)).count() {
                0 => "no",
                count if count == features.len() => "yes",
                _ => "partly",
            });
        table += &format!("| {name} | {} |\n", cells.join(" | "));
    }
    crate::write(Path::new(README), &format!("{before}{}{table}{}{after}", MARKS[0], MARKS[1]))
}

/// The number of a reason, from 1.
fn number<'a>(reason: &'a str, reasons: &mut Vec<&'a str>) -> usize {
    let known = reasons.iter().position(|known| *known == reason);
    known.unwrap_or_else(|| {
        reasons.push(reason);
        reasons.len() - 1
    }) + 1
}
