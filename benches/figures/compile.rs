//! The time of a compilation by ecc, compared with its one clang run.

use std::process::{Command, Stdio};
use std::time::Instant;

use super::report::Report;
use super::{Result, median, output, root, tool};

/// Compilations of each. They alternate, so that other load affects both.
const ROUNDS: usize = 15;

pub fn figures(report: &mut Report) -> Result<()> {
    report.part("Compiling opensnoop, with an existing `vmlinux.h`");
    let source = root().join("examples/bpf/opensnoop/opensnoop.bpf.c");
    let folder = root().join("target/bench");
    let mut ours = Command::new(tool("ecc"));
    ours.arg(&source).arg("-o").arg(&folder);
    // The first run generates vmlinux.h; the second prints the clang command.
    output(&mut ours)?;
    let said = ours.arg("-v").output().map_err(|e| e.to_string())?.stderr;
    let said = String::from_utf8_lossy(&said);
    let line = said.lines().find(|line| line.contains("\"-c\"")).ok_or("ecc -v names no run of clang")?;
    let words: Vec<&str> = line.split('"').skip(1).step_by(2).collect();
    let mut clang = Command::new(words[0]);
    clang.args(&words[1..words.len() - 1]).arg(folder.join("opensnoop.o"));

    let (mut theirs, mut own) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        theirs.push(milliseconds(&mut clang)?);
        own.push(milliseconds(&mut ours)?);
    }
    let (theirs, own) = (median(theirs), median(own));
    let ratio = format!("{:.2}", own / theirs);
    let held = Some(("1.20 and 100 ms more", own <= 1.2 * theirs + 100.0));
    report.row(["one run", &format!("clang {theirs:.0} ms"), &format!("ecc {own:.0} ms"), &ratio], held);
    Ok(())
}

fn milliseconds(command: &mut Command) -> Result<f64> {
    let begin = Instant::now();
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status().map_err(|e| e.to_string())?;
    let took = begin.elapsed().as_secs_f64() * 1000.0;
    if status.success() { Ok(took) } else { Err(format!("{command:?}: {status}")) }
}
