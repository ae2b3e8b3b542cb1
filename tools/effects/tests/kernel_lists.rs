//! Compares the lists of the crate with those of the running kernel, so that new entries of the kernel are noticed.

mod support;

use eunomia_effects::{Findings, Program, is_harmless_helper, is_harmless_kfunc, names};
use support::types::Types;
use support::{RESULT_IN_REGISTER, call, code, exit, kfunc};

const XDP: u32 = 6;
const KPROBE: u32 = 2;

fn effects(program: u32, instructions: &[[u8; 8]]) -> Vec<String> {
    let program = Program { kind: program, attach_type: 0 };
    Findings::of(&code(instructions), &program, &|_| None).effects.into_iter().collect()
}

#[test]
fn each_helper_of_the_kernel_is_harmless_by_the_list_or_named() {
    let helpers = Types::of_kernel().constants("bpf_func_id");
    assert!(helpers.len() > 150, "the kernel's list is read: {}", helpers.len());
    for (name, number) in &helpers {
        let Some(name) = name.strip_prefix("BPF_FUNC_") else { continue };
        let number = *number as u32;
        if number == 0 {
            continue;
        }
        assert!(
            [name.to_owned(), format!("#{number}")].contains(&names::helper(number)),
            "helper {number} is {name}, not {}",
            names::helper(number)
        );
        let found = effects(KPROBE, &[call(number), exit()]);
        let is_named = !found.is_empty() || name == "dynptr_write";
        assert_eq!(is_named, !is_harmless_helper(number), "helper {name}: {found:?}");
        if names::helper(number).starts_with('#') {
            assert_eq!(found, [format!("other: helper #{number}")]);
        }
    }
}

#[test]
fn an_unlisted_helper_is_other() {
    for number in [0, 212, 213, 5000, u32::MAX] {
        let found = effects(KPROBE, &[call(number), exit()]);
        let other = found.iter().any(|effect| effect.starts_with("other: helper "));
        assert!(other && !is_harmless_helper(number), "{number}: {found:?}");
    }
}

/// Program types whose results have no effect outside of the program; return_values.rs has the reason for each.
const WITHOUT_RESULTS: [&str; 9] = [
    "kprobe",
    "tracepoint",
    "perf_event",
    "raw_tracepoint",
    "raw_tracepoint_writable",
    "lirc_mode2",
    "syscall",
    "sock_ops",
    "tracing",
];

#[test]
fn each_type_of_program_of_the_kernel_has_a_rule_for_its_results_or_is_other() {
    let types = Types::of_kernel().constants("bpf_prog_type");
    assert!(types.len() > 30, "the kernel's list is read: {}", types.len());
    for (name, number) in &types {
        let Some(name) = name.strip_prefix("BPF_PROG_TYPE_").map(str::to_lowercase) else { continue };
        let number = *number as u32;
        assert!(
            [name.clone(), format!("#{number}")].contains(&names::program(number)),
            "type {number} is {name}"
        );
        // The result of the program is computed, so it can be any number.
        let found = effects(number, &[RESULT_IN_REGISTER, exit()]);
        assert_eq!(found.is_empty(), WITHOUT_RESULTS.contains(&&*name), "{name}: {found:?}");
    }
    for number in [0, 33, 34, 1000, u32::MAX] {
        let found = effects(number, &[RESULT_IN_REGISTER, exit()]);
        assert!(found[0].starts_with("other: effects of program type "), "{number}: {found:?}");
    }
}

#[test]
fn each_type_of_map_of_the_kernel_has_its_name() {
    for (name, number) in Types::of_kernel().constants("bpf_map_type") {
        let Some(name) = name.strip_prefix("BPF_MAP_TYPE_").map(str::to_lowercase) else { continue };
        // Newer kernels have appended this word to some names.
        let name = name.trim_end_matches("_deprecated").to_owned();
        let known = names::map(number as u32);
        assert!(
            known == name || known == format!("#{number}") || name.starts_with("__"),
            "{number} is {name}: {known}"
        );
    }
}

#[test]
fn each_function_that_the_kernel_has_for_programs_is_harmless_by_the_list_or_named() {
    let functions = Types::of_kernel().tagged("bpf_kfunc");
    assert!(functions.len() > 20, "the kernel's list is read: {}", functions.len());
    for name in functions {
        let code = kfunc(&name);
        let found = Findings::of(&code, &Program { kind: XDP, attach_type: 0 }, &|_| None);
        assert!(found.kfuncs.contains(&name));
        // With a dynptr of a packet, a program can write to the packet by some of these functions.
        let of_packets = ["bpf_dynptr_copy", "bpf_dynptr_memset", "bpf_dynptr_slice_rdwr"].contains(&&*name);
        // The value that the function leaves in r0 is the result of the program, which can be any number.
        let is_named = found.effects.iter().any(|effect| !effect.contains("(possibly: its result"));
        assert_eq!(is_named || of_packets, !is_harmless_kfunc(&name), "{name}: {:?}", found.effects);
    }
}
