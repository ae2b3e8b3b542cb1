//! Sanitizers for hosts, and a check that they detect errors.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::path::Path;
use std::process::Command;

/// Memory errors and undefined behaviour; the first one ends the program.
pub const MEMORY: [&str; 2] = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"];
/// Data races. The program runs under `setarch --addr-no-randomize`, because this sanitizer fails with some random addresses.
pub const THREADS: [&str; 1] = ["-fsanitize=thread"];

/// Programs with an error, and a part of the sanitizer's report.
const WRONG: [(&[&str], &str, &str); 4] = [
    (
        &MEMORY,
        "#include <stdlib.h>\nint main(int argc, char **argv) { char *two = malloc(2);\n\
         return argv[0][0] = two[argc + 1]; }",
        "heap-buffer-overflow",
    ),
    (
        &MEMORY,
        "#include <stdlib.h>\nvoid *volatile kept; int main(void) { kept = malloc(100); kept = NULL; return 0; }",
        "detected memory leaks",
    ),
    (
        &MEMORY,
        "int main(int argc, char **argv) { return argv[0][0] = 0x7fffffff + argc; }",
        "signed integer overflow",
    ),
    (
        &THREADS,
        "#include <pthread.h>\nint shared;\nstatic void *add(void *none) { shared++; return none; }\n\
         int main(void) { pthread_t thread; pthread_create(&thread, 0, add, 0); shared++;\n\
         return pthread_join(thread, 0); }",
        "data race",
    ),
];

/// Fails if a program with an error runs without a report: then the sanitizer is not linked or not active.
pub fn finds_errors(flags: &[&str], folder: &Path) {
    for (index, (_, source, said)) in WRONG.iter().enumerate().filter(|(_, wrong)| wrong.0 == flags) {
        let (file, program) = (folder.join(format!("wrong{index}.c")), folder.join(format!("wrong{index}")));
        std::fs::write(&file, source).expect("the source can be written");
        let mut compiler = Command::new("cc");
        let compiled =
            compiler.args(flags).args(["-g", "-pthread"]).arg(&file).arg("-o").arg(&program).output();
        let compiled = compiled.expect("the compiler runs");
        assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
        let mut run = Command::new("setarch");
        let run = run.arg("--addr-no-randomize").arg(&program).output().expect("the program starts");
        let error = String::from_utf8_lossy(&run.stderr);
        assert!(!run.status.success() && error.contains(said), "{flags:?} did not find: {said}\n{error}");
    }
}
