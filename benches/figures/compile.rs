//! What ecc costs: the time of a compilation beside that of the one run of clang in it, and the sizes of what it makes and is.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use super::{Result, Rounds, example, output, root, row, size};

/// Compilations of each; they alternate, so that other work on the machine meets both.
const ROUNDS: usize = 15;

/// The compiler as it is installed; `make bench` builds it.
fn ecc() -> PathBuf {
    root().join("target/release/ecc")
}

/// Prints the rows.
pub fn figures() -> Result<()> {
    time()?;
    const MOST: u64 = 60_000;
    let mut packages = Vec::new();
    for folder in std::fs::read_dir(root().join("examples/bpf")).map_err(|e| e.to_string())?.flatten() {
        if folder.path().is_dir() {
            let name = folder.file_name().to_string_lossy().into_owned();
            packages.push((size(&example(&name, "package.json"))?, name));
        }
    }
    let (largest, name) = packages.into_iter().max().ok_or("there are no examples")?;
    row("largest example package", &name, &format!("{largest} bytes"), "", "<= 60000 bytes", largest <= MOST);
    const MOST_ECC: u64 = 5_000_000;
    let size = size(&ecc())?;
    row("ecc, stripped", "", &format!("{size} bytes"), "", "<= 5000000 bytes", size <= MOST_ECC);
    Ok(())
}

fn time() -> Result<()> {
    let source = root().join("examples/bpf/opensnoop/opensnoop.bpf.c");
    let folder = root().join("target/bench");
    let mut ours = Command::new(ecc());
    ours.arg(&source).arg("-o").arg(&folder);
    // The first run makes vmlinux.h, the second tells what it has clang do.
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
    let (theirs, own) = (rounds(theirs), rounds(own));
    let ratio = format!("ratio {:.2}", own.best / theirs.best);
    let reached = own.best <= 1.2 * theirs.best + 100.0;
    let (theirs, own) = (theirs.shown("clang", "ms"), own.shown("ecc", "ms"));
    row("compile opensnoop", &theirs, &own, &ratio, "<= 1.2 * clang + 100 ms", reached);
    Ok(())
}

fn milliseconds(command: &mut Command) -> Result<f64> {
    let begin = Instant::now();
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status().map_err(|e| e.to_string())?;
    let took = begin.elapsed().as_secs_f64() * 1000.0;
    if status.success() { Ok(took) } else { Err(format!("{command:?}: {status}")) }
}

fn rounds(mut times: Vec<f64>) -> Rounds {
    times.sort_by(f64::total_cmp);
    Rounds { best: times[0], median: times[times.len() / 2] }
}
