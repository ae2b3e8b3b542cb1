//! docs/kernels.md: what works on which kernel, from the lines that tests/matrix printed on each.

use std::collections::BTreeMap;
use std::path::Path;

const TABLE: &str = "docs/kernels.md";
const KERNELS: [&str; 4] = ["5.10", "6.1", "6.12", "7.2"];
const HEAD: &str = "# Kernels

What works where: loaded, attached, and seen to run (a map: loaded with a program that refers to it). `make vm` boots Debian's kernels
under QEMU, runs `tests/matrix` on each and writes this table; `make vm KERNEL=6.1` asks one of them. All programs of a kind to
attach are in one package, `tests/matrix/features.json`, which was compiled once; the test checks its digest before it is run.
A number is the library's own message, below.

";
const RUNNER: &str = "
## The runner

`tests/vm` is a hundred lines of shell: it fetches a kernel's package without installing it, packs the test programs into an initramfs
with busybox, and boots that in emulation. virtme-ng and vmtest do more and need more: virtme-ng brings its own init and mounts the
host's files by virtiofs or 9p, of which Debian's kernels have no driver built in; vmtest needs QEMU's guest agent in the image or a
kernel with these drivers too. Neither fetches kernels.
";

/// Writes it from the answers of all kernels.
pub fn write() -> Result<(), String> {
    let mut rows: Vec<String> = Vec::new();
    let mut answers: BTreeMap<(String, &str), String> = BTreeMap::new();
    for kernel in KERNELS {
        let file = format!("target/vm/{kernel}/matrix.txt");
        let Ok(text) = crate::read(Path::new(&file)) else {
            println!("{TABLE} stays as it is: there are no answers of Linux {kernel} yet");
            return Ok(());
        };
        for (feature, answer) in text.lines().filter_map(|line| line.split_once(": ")) {
            if !rows.iter().any(|known| known == feature) {
                rows.push(feature.to_owned());
            }
            answers.insert((feature.to_owned(), kernel), answer.to_owned());
        }
    }
    let mut reasons: Vec<&str> = Vec::new();
    let mut text = format!("{HEAD}| | {} |\n|---|{}\n", KERNELS.join(" | "), "---|".repeat(KERNELS.len()));
    for feature in &rows {
        let cells = KERNELS.map(|kernel| match answers.get(&(feature.clone(), kernel)).map(String::as_str) {
            Some("works") => "yes".to_owned(),
            Some(reason) => number(reason, &mut reasons).to_string(),
            None => "not asked".to_owned(),
        });
        text += &format!("| {feature} | {} |\n", cells.join(" | "));
    }
    text.push('\n');
    for (index, reason) in reasons.iter().enumerate() {
        text += &format!("{}. {reason}\n", index + 1);
    }
    crate::write(Path::new(TABLE), &(text + RUNNER))
}

/// The number of a reason, from 1.
fn number<'a>(reason: &'a str, reasons: &mut Vec<&'a str>) -> usize {
    let known = reasons.iter().position(|known| *known == reason);
    known.unwrap_or_else(|| {
        reasons.push(reason);
        reasons.len() - 1
    }) + 1
}
