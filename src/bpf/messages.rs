//! Reads the reason of a failure from libbpf's messages. libbpf returns an errno and prints the reason: the texts that the
//! library relies on are all in this file.

use std::borrow::Cow;

use crate::os::{self, Errno};

/// Something that an object needs and that does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// A function of the kernel that programs may call (kfunc).
    Function,
    /// A variable of the kernel (ksym).
    Variable,
    /// A struct_ops type of the kernel; the name is that of the type.
    Operations,
    /// A member of a struct_ops type; the name is that of the map.
    Member,
    /// A map of the object that was not created.
    Map,
}

/// The text before a name in a message, the text after it, and what is missing. The order matters: the first match
/// is used.
const MISSING: [(&str, &str, Missing); 6] = [
    ("\nkfunc '", "'", Missing::Function),
    ("extern (func ksym) '", "'", Missing::Function),
    ("extern (var ksym) '", "'", Missing::Variable),
    ("struct_ops init_kern: struct ", " ", Missing::Operations),
    ("struct_ops init_kern ", ":", Missing::Member),
    ("\nBPF map '", "'", Missing::Map),
];

/// The kind of thing that is missing, and its name.
pub fn missing(printed: &str) -> Option<(Missing, &str)> {
    MISSING.iter().find_map(|(before, after, what)| Some((*what, between(printed, before, after)?)))
}

/// Whether an external function was not found. libbpf does not say which programs call it.
pub fn lacks_function(printed: &str) -> bool {
    has(printed, "extern (func ksym) '")
}

/// The program array that refers to a program that is not loaded, and that program.
pub fn empty_slot(printed: &str) -> Option<(&str, &str)> {
    between(printed, "failed to initialize slot [", "'")?;
    let program = between(printed, "] to prog '", "'")?;
    Some((between(printed, "map '", "'").unwrap_or_default(), program))
}

/// Whether libbpf looked for the kernel's BTF and did not find it.
pub fn lacks_kernel_btf(printed: &str) -> bool {
    has(printed, "kernel BTF") || has(printed, "vmlinux BTF")
}

/// Whether a BTF file could not be read.
pub fn is_bad_btf_file(printed: &str) -> bool {
    has(printed, "failed to parse target BTF")
}

/// The map that could not be created.
pub fn failed_map(printed: &str) -> Option<&str> {
    let before = &printed[..find(printed, "': failed to create")?];
    Some(&before[before.rfind('\'')? + 1..])
}

/// The path at which a map could not be pinned, and whether that is because no BPF file system is mounted there.
pub fn failed_pin<'a>(printed: &'a str, map: &str) -> Option<(&'a str, bool)> {
    let path = between(printed, &format!("map '{map}': failed to auto-pin at '"), "'")?;
    Some((path, has(printed, "is not on BPF FS")))
}

/// The path at which another kind of map is pinned.
pub fn other_pin(printed: &str) -> Option<&str> {
    between(printed, "couldn't reuse pinned map at '", "'")
}

/// The path and the function that is not in that file. libbpf has two messages for that; this is the one for a symbol
/// table that has 0 for the function.
pub fn missing_symbol(printed: &str) -> Option<(&str, &str)> {
    let name = between(printed, "elf: '", "' is 0 in symtab")?;
    Some((between(printed, "' is 0 in symtab for '", "'")?, name))
}

/// Whether attaching failed only because the program is not loaded.
pub fn is_unloaded(printed: &str) -> bool {
    has(printed, "(was it loaded?)") || has(printed, "before loaded")
}

/// The programs that libbpf reports as failed, in the order of its reports.
pub fn failed_programs(printed: &str) -> impl Iterator<Item = &str> {
    /// Maximum number of lines that are considered; a log can quote many.
    const MAX_LINES: usize = 16;
    let failures = ["failed", "BPF program load", "missing BPF prog type"];
    let is_report = move |line: &&str| has(line, "prog '") && failures.iter().any(|word| has(line, word));
    let reports = printed.lines().filter(is_report).take(MAX_LINES);
    reports.filter_map(|line| between(line, "prog '", "':"))
}

/// The verifier's log of the program that failed.
pub fn verifier_log(printed: &str) -> Option<&str> {
    between(printed, "-- BEGIN PROG LOAD LOG --", "-- END PROG LOAD LOG --")
}

/// The line of a verifier's log that says what is wrong: the last one before the statistics that does not show state. A
/// log without such a line means that the verifier did not run.
pub fn verdict(log: &str) -> Option<&str> {
    let statistics = ["processed ", "verification time", "stack depth", "arg#", "func#"];
    let counts = |line: &str| statistics.iter().any(|start| line.starts_with(start));
    let is_verdict = |line: &&str| !line.is_empty() && !counts(line) && !shows_state(line);
    log.lines().rev().map(str::trim).find(is_verdict).map(|line| line.trim_end_matches('.'))
}

/// Whether a line shows the contents of registers: `cur state: R0=1 R10=fp0`, `from 3 to 5: R1_w=ctx()`.
fn shows_state(line: &str) -> bool {
    let is_register = |word: &str| {
        let rest = word.strip_prefix('R').map(|rest| rest.trim_start_matches(|c: char| c.is_ascii_digit()));
        rest.is_some_and(|rest| rest.starts_with(['=', '_']))
    };
    let starts = ["cur state:", "old state:"];
    starts.iter().any(|start| line.starts_with(start)) || line.split(' ').any(is_register)
}

/// The first line that libbpf printed.
pub fn first(printed: &str) -> Option<&str> {
    printed.lines().next().map(without_prefix)
}

/// The last line that libbpf printed, or the meaning of the errno if it printed none.
pub fn reason(printed: &str, e: Errno) -> Cow<'_, str> {
    let last = printed.lines().rev().find(|line| !line.trim().is_empty());
    last.map_or_else(|| e.to_string().into(), |line| without_prefix(line).trim().into())
}

/// A line without libbpf's name at its start.
fn without_prefix(line: &str) -> &str {
    line.strip_prefix("libbpf: ").unwrap_or(line)
}

fn find(text: &str, part: &str) -> Option<usize> {
    os::find(text.as_bytes(), part.as_bytes())
}

fn has(text: &str, part: &str) -> bool {
    find(text, part).is_some()
}

/// The text after the first `begin`, up to the next `end` if there is one.
fn between<'a>(text: &'a str, begin: &str, end: &str) -> Option<&'a str> {
    let rest = &text[find(text, begin)? + begin.len()..];
    Some(rest[..find(rest, end).unwrap_or(rest.len())].trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message of libbpf 1.7 for each row of the table, with the name that it contains.
    #[test]
    fn each_missing_thing_is_recognized() {
        let cases = [
            (
                "libbpf: prog 'f': BPF program load failed: Invalid argument\n\
                 kfunc 'bpf_none' is referenced but wasn't resolved\n",
                (Missing::Function, "bpf_none"),
            ),
            (
                "libbpf: extern (func ksym) 'bpf_none': not found in kernel or module BTFs\n",
                (Missing::Function, "bpf_none"),
            ),
            ("libbpf: extern (var ksym) 'none': not found in kernel BTF\n", (Missing::Variable, "none")),
            (
                "libbpf: struct_ops init_kern: struct bpf_struct_ops_none is not found in kernel BTF\n",
                (Missing::Operations, "bpf_struct_ops_none"),
            ),
            (
                "libbpf: struct_ops init_kern ops: Cannot find member none in kernel BTF\n",
                (Missing::Member, "ops"),
            ),
            (
                "libbpf: prog 'f': BPF program load failed: Invalid argument\n\
                 BPF map 'none' is referenced but wasn't created\n",
                (Missing::Map, "none"),
            ),
        ];
        assert_eq!(cases.len(), MISSING.len());
        for (printed, expected) in cases {
            assert_eq!(missing(printed), Some(expected), "{printed}");
        }
        assert_eq!(missing("libbpf: failed to load object 'a'\n"), None);
    }

    #[test]
    fn only_an_external_function_is_one_that_libbpf_looked_for() {
        assert!(lacks_function("libbpf: extern (func ksym) 'f': not found in kernel or module BTFs\n"));
        assert!(!lacks_function("kfunc 'f' is referenced but wasn't resolved\n"));
    }

    #[test]
    fn an_empty_slot_names_map_and_program() {
        let printed = "libbpf: map 'calls': failed to initialize slot [2] to prog 'f' fd=-1: -EBADF\n";
        assert_eq!(empty_slot(printed), Some(("calls", "f")));
        assert_eq!(empty_slot("libbpf: map 'calls': created successfully, fd=5\n"), None);
    }

    #[test]
    fn missing_and_unreadable_btf_are_told_apart() {
        for printed in ["libbpf: kernel BTF is missing at '/x'\n", "libbpf: Error loading vmlinux BTF: -3\n"]
        {
            assert!(lacks_kernel_btf(printed) && !is_bad_btf_file(printed), "{printed}");
        }
        let printed = "libbpf: failed to parse target BTF: -EINVAL\n";
        assert!(is_bad_btf_file(printed) && !lacks_kernel_btf(printed));
    }

    #[test]
    fn the_map_that_failed_is_named_and_not_one_before_it() {
        let printed = "libbpf: map 'first': created successfully, fd=4\n\
                       libbpf: map 'second': failed to create: -EINVAL\n";
        assert_eq!(failed_map(printed), Some("second"));
        assert_eq!(failed_map("libbpf: map 'first': created successfully, fd=4\n"), None);
    }

    #[test]
    fn pins_are_recognized() {
        let not_mounted = "libbpf: specified path /tmp/m is not on BPF FS\n\
                           libbpf: map 'm': failed to auto-pin at '/tmp/m': -EINVAL\n";
        assert_eq!(failed_pin(not_mounted, "m"), Some(("/tmp/m", true)));
        assert_eq!(failed_pin(not_mounted, "other"), None);
        let denied = "libbpf: map 'm': failed to auto-pin at '/sys/fs/bpf/m': -EPERM\n";
        assert_eq!(failed_pin(denied, "m"), Some(("/sys/fs/bpf/m", false)));
        let other = "libbpf: couldn't reuse pinned map at '/sys/fs/bpf/m': parameter mismatch\n";
        assert_eq!(other_pin(other), Some("/sys/fs/bpf/m"));
    }

    #[test]
    fn a_symbol_without_an_address_is_a_missing_function() {
        let printed = "libbpf: elf: 'none' is 0 in symtab for '/bin/true': try shared library path instead\n";
        assert_eq!(missing_symbol(printed), Some(("/bin/true", "none")));
        assert_eq!(missing_symbol("libbpf: elf: failed to find symbol 'none' in '/bin/true'\n"), None);
    }

    #[test]
    fn a_program_that_is_not_loaded_is_recognized() {
        assert!(is_unloaded("libbpf: prog 'f': can't attach BPF program without FD (was it loaded?)\n"));
        assert!(is_unloaded("libbpf: prog 'f': can't attach before loaded\n"));
        assert!(!is_unloaded("libbpf: prog 'f': failed to attach: -EINVAL\n"));
    }

    #[test]
    fn only_lines_about_failures_name_a_failed_program() {
        let printed = "libbpf: prog 'good': relo #0: matched\n\
                       libbpf: prog 'bad': BPF program load failed: -EACCES\n\
                       libbpf: prog 'untyped': missing BPF prog type, check ELF section name 'none'\n";
        assert_eq!(failed_programs(printed).collect::<Vec<_>>(), ["bad", "untyped"]);
    }

    #[test]
    fn the_verdict_is_the_last_line_that_shows_no_state() {
        let log = verifier_log(
            "libbpf: prog 'f': -- BEGIN PROG LOAD LOG --\n\
             0: (79) r1 = *(u64 *)(r1 +0)\n\
             R1 invalid mem access 'scalar'.\n\
             from 3 to 5: R1_w=ctx() R10=fp0\n\
             cur state: R0=1\n\
             processed 1 insns (limit 1000000) max_states_per_insn 0\n\
             -- END PROG LOAD LOG --\n",
        );
        assert_eq!(log.and_then(verdict), Some("R1 invalid mem access 'scalar'"));
        assert_eq!(verdict("processed 0 insns (limit 1000000)\n"), None);
    }

    #[test]
    fn the_reason_is_the_last_line_or_the_errno() {
        let e = Errno(libc::ENOENT);
        assert_eq!(reason("libbpf: one\nlibbpf: two\n\n", e), "two");
        assert_eq!(reason("", e), "No such file or directory");
        assert_eq!(first("libbpf: one\nlibbpf: two\n"), Some("one"));
    }
}
