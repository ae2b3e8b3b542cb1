//! What programs return and write to, with instructions written by hand: each way to hide an effect, and the similar
//! program without the effect.

mod support;

use std::collections::BTreeSet;

use eunomia_effects::{Code, Findings, Loaded, Program};
use support::{call, call_function, code, copy, exit, insn, load, set, store};

const XDP: u32 = 6;
const CGROUP_SKB: u32 = 8;
const SCHED_CLS: u32 = 3;
const KPROBE: u32 = 2;
const TRACING: u32 = 26;
const LSM: u32 = 29;
const SOCK_ADDR: u32 = 18;

fn judged(kind: u32, attach_type: u32, code: &Code) -> BTreeSet<String> {
    Findings::of(code, &Program { kind, attach_type }, &|_| None).effects
}

fn effects(kind: u32, instructions: &[[u8; 8]]) -> Vec<String> {
    judged(kind, 0, &code(instructions)).into_iter().collect()
}

const DROPS: &str = "drops packets";
const MAY_DROP: &str = "drops packets (possibly: its result is computed)";
const MAY_REDIRECT: &str = "redirects packets (possibly: its result is computed)";
const CHANGES: &str = "changes packets";
const MAY_CHANGE: &str = "changes packets (possibly: the analysis could not track a pointer)";
const NOTHING: [&str; 0] = [];

const PASS: i32 = 2;
const DROP: i32 = 1;

#[test]
fn results_are_followed_through_branches_copies_and_calls() {
    // if r1 == 7: r0 = drop, else r0 = pass
    let branches = [insn(0x15, 1, 0, 2, 7), set(0, PASS), insn(0x05, 0, 0, 1, 0), set(0, DROP), exit()];
    assert_eq!(effects(XDP, &branches), [DROPS]);
    let copies = [set(6, DROP), call(5), copy(0, 6), exit()];
    assert_eq!(effects(XDP, &copies), [DROPS]);
    assert_eq!(effects(XDP, &[set(6, PASS), call(5), copy(0, 6), exit()]), NOTHING);
    // The result of the function that follows.
    assert_eq!(effects(XDP, &[call_function(1), exit(), set(0, DROP), exit()]), [DROPS]);
    assert_eq!(effects(XDP, &[call_function(1), exit(), set(0, PASS), exit()]), NOTHING);
    // The result passes through two functions, as an argument.
    let deep = [set(1, DROP), call_function(1), exit(), call_function(1), exit(), copy(0, 1), exit()];
    assert_eq!(effects(XDP, &deep), [DROPS]);
    // A comparison determines the value of a register.
    let compared = [call(5), insn(0x55, 0, 0, 1, PASS), exit(), set(0, PASS), exit()];
    assert_eq!(effects(XDP, &compared), NOTHING);
    let compared = [call(5), insn(0x15, 0, 0, 1, DROP), set(0, PASS), exit()];
    assert_eq!(effects(XDP, &compared), [DROPS]);
}

#[test]
fn a_result_that_cannot_be_known_can_be_anything() {
    let wide = insn(0x18, 0, 0, 0, PASS);
    for (what, instructions) in [
        ("a number of a helper", vec![call(5), exit()]),
        ("arithmetic", vec![set(0, PASS), insn(0x07, 0, 0, 0, 1), exit()]),
        ("a load of 64 bits", vec![wide, insn(0, 0, 0, 0, 0), exit()]),
        ("a variable", vec![insn(0x18, 1, 2, 0, 4), insn(0, 0, 0, 0, 0), load(0, 1, 0), exit()]),
        ("what a map holds", vec![call(1), load(0, 0, 0), exit()]),
        ("a slot that was written", vec![set(1, PASS), store(10, -8, 1), load(0, 10, -8), exit()]),
        ("the old value of an atomic exchange", vec![set(0, PASS), insn(0xdb, 10, 0, -8, 0xe1), exit()]),
        ("a compare and exchange", vec![set(0, PASS), insn(0xdb, 10, 1, -8, 0xf1), exit()]),
        ("an acquiring load", vec![insn(0xdb, 0, 10, -8, 0x100), exit()]),
        ("a swap of bytes", vec![set(0, PASS), insn(0xd4, 0, 0, 0, 16), exit()]),
        ("an extended sign", vec![set(1, PASS), insn(0xbf, 0, 1, 8, 0), exit()]),
        ("a function that returns nothing known", vec![call_function(1), exit(), exit()]),
        ("a jump to a register", vec![set(0, PASS), insn(0x0d, 1, 0, 0, 0), exit()]),
        ("a call of a register", vec![insn(0x8d, 1, 0, 0, 0), set(0, PASS), exit()]),
        ("another program", vec![set(0, PASS), call(12), set(0, PASS), exit()]),
    ] {
        let found = effects(XDP, &instructions);
        assert!(
            found.contains(&MAY_DROP.to_owned()) && found.contains(&MAY_REDIRECT.to_owned()),
            "{what}: {found:?}"
        );
    }
}

#[test]
fn values_relocated_by_core_can_be_anything() {
    let mut changed = code(&[set(0, PASS), exit()]);
    assert_eq!(judged(XDP, 0, &changed).len(), 0);
    changed.relocated.insert(0);
    assert!(judged(XDP, 0, &changed).contains(MAY_DROP));
    // A comparison with a constant that CO-RE can change determines nothing.
    let mut compared = code(&[call(5), insn(0x55, 0, 0, 1, PASS), exit(), set(0, PASS), exit()]);
    compared.relocated.insert(1);
    assert!(judged(XDP, 0, &compared).contains(MAY_DROP));
}

#[test]
fn reading_a_packet_the_old_way_can_end_the_program_with_0() {
    let reads = [copy(6, 1), insn(0x30, 0, 0, 0, 20), set(0, 1), exit()];
    assert_eq!(effects(CGROUP_SKB, &reads), [DROPS]);
    assert_eq!(effects(CGROUP_SKB, &[copy(6, 1), set(0, 1), exit()]), NOTHING);
    // In a function of its own.
    let within = [
        copy(6, 1),
        call_function(2),
        set(0, 1),
        exit(),
        copy(6, 1),
        insn(0x50, 0, 1, 0, 0),
        set(0, 1),
        exit(),
    ];
    assert_eq!(effects(CGROUP_SKB, &within), [DROPS]);
}

#[test]
fn effects_of_results_depend_on_the_program_type() {
    const MODIFY_RETURN: u32 = 26;
    const LSM_MAC: u32 = 27;
    const LSM_CGROUP: u32 = 43;
    const EGRESS: u32 = 1;
    let returned = |kind, attach, value| {
        let found = judged(kind, attach, &code(&[set(0, value), exit()]));
        found.into_iter().collect::<Vec<_>>().join(", ")
    };
    for (kind, attach, value, expected) in [
        (LSM, LSM_MAC, 0, ""),
        (LSM, LSM_MAC, -1, "denies operations"),
        (LSM, LSM_CGROUP, 1, ""),
        (LSM, LSM_CGROUP, 0, "denies operations"),
        (TRACING, MODIFY_RETURN, -22, "overrides results of kernel functions"),
        (TRACING, MODIFY_RETURN, 0, ""),
        (TRACING, 24, 1, ""),
        (SCHED_CLS, 0, 0, ""),
        (SCHED_CLS, 0, -1, ""),
        (SCHED_CLS, 0, 2, "drops packets"),
        (SCHED_CLS, 0, 4, "takes packets from the network stack"),
        (SCHED_CLS, 0, 5, "takes packets from the network stack"),
        (SCHED_CLS, 0, 8, "takes packets from the network stack"),
        (SCHED_CLS, 0, 7, "redirects packets"),
        (SCHED_CLS, 0, 99, "classifies packets"),
        (XDP, 0, 0, "drops packets"),
        (XDP, 0, 77, "drops packets"),
        (XDP, 0, 3, "redirects packets"),
        (CGROUP_SKB, EGRESS, 2, "drops packets"),
        (CGROUP_SKB, EGRESS, 3, "throttles senders"),
        (SOCK_ADDR, 8, 3, "allows binding to privileged ports"),
        (SOCK_ADDR, 8, 0, "refuses connections"),
        (10, 0, 2, "drops packets"),
        (10, 0, 128, "redirects packets"),
        (21, 0, 0, "refuses connections"),
        (22, 0, 0, "replaces the flow dissector of the kernel"),
        (32, 0, 0, "drops packets"),
        (14, 4, 0, "decides where messages in a socket stream end"),
        (14, 5, 0, "drops packets"),
    ] {
        assert_eq!(
            returned(kind, attach, value),
            expected,
            "type {kind}, attach type {attach}, result {value}"
        );
    }
}

#[test]
fn writes_to_packets_are_seen_wherever_the_pointer_was_kept() {
    let write = |pointer| insn(0x72, pointer, 0, 0, 1);
    let end = [set(0, PASS), exit()];
    let packet = insn(0x61, 2, 1, 0, 0);
    for (what, instructions) in [
        ("a register", vec![packet, write(2)]),
        ("a sum", vec![packet, set(3, 4), insn(0x0f, 3, 2, 0, 0), write(3)]),
        ("a slot of the stack", vec![packet, store(10, -8, 2), load(3, 10, -8), write(3)]),
        ("the pointer to its context, kept", vec![copy(6, 1), call(5), insn(0x61, 2, 6, 0, 0), write(2)]),
        ("what a kernel function gave", vec![insn(0x85, 0, 2, 0, 1), write(0)]),
        ("an atomic operation", vec![packet, insn(0xdb, 2, 3, 0, 0)]),
        ("a releasing store", vec![packet, insn(0xdb, 2, 3, 0, 0x110)]),
    ] {
        let found = effects(XDP, &[&instructions[..], &end].concat());
        assert!(found.contains(&CHANGES.to_owned()), "{what}: {found:?}");
    }
    // A helper or a kernel function writes to that memory.
    for (helper, register) in [(88, 2), (89, 2), (69, 2), (4, 1)] {
        let puts = [packet, copy(register, 2), call(helper), end[0], end[1]];
        assert!(effects(XDP, &puts).contains(&CHANGES.to_owned()), "helper {helper}");
        let own = [copy(register, 10), insn(0x07, register, 0, 0, -16), call(helper), end[0], end[1]];
        assert!(!effects(XDP, &own).iter().any(|effect| effect.contains(CHANGES)), "helper {helper}");
    }
    let time = |pointer: [u8; 8]| {
        let instructions = [packet, pointer, insn(0x85, 0, 2, 0, 1), end[0], end[1]];
        let kfunc = |_| Some("bpf_xdp_metadata_rx_timestamp".to_owned());
        let code = Code::of_loaded(&instructions, &Loaded { map: &|_| None, kfunc: &kfunc });
        judged(XDP, 0, &code).into_iter().collect::<Vec<_>>()
    };
    assert_eq!(time(copy(2, 2)), [MAY_CHANGE]);
    assert_eq!(time(copy(2, 10)), NOTHING);
    // The called function gets the pointer as an argument.
    let argument = [insn(0x61, 1, 1, 0, 0), call_function(2), set(0, PASS), exit(), write(1), exit()];
    assert_eq!(effects(XDP, &argument), [CHANGES]);
    // The function gets a pointer to the stack of its caller. It stores a pointer to the packet there, over the
    // caller's pointer to memory of the program.
    let planted = [
        copy(6, 1),
        call(1),
        store(10, -8, 0),
        insn(0x61, 2, 6, 0, 0),
        copy(1, 10),
        insn(0x07, 1, 0, 0, -8),
        call_function(4),
        load(3, 10, -8),
        write(3),
        set(0, PASS),
        exit(),
        store(1, 0, 2),
        exit(),
    ];
    assert_eq!(effects(XDP, &planted), [MAY_CHANGE]);
    // A pointer to one of two kinds of memory.
    let packet = insn(0x61, 6, 1, 0, 0);
    let either =
        [packet, copy(3, 6), insn(0x15, 6, 0, 2, 7), call(1), copy(3, 0), write(3), set(0, PASS), exit()];
    assert_eq!(effects(XDP, &either), [MAY_CHANGE]);
}

#[test]
fn writes_to_memory_of_its_own_are_harmless() {
    let write = |pointer| insn(0x72, pointer, 0, 0, 1);
    let end = [set(0, PASS), exit()];
    for (what, instructions) in [
        ("the stack", vec![copy(2, 10), insn(0x07, 2, 0, 0, -16), write(2), store(10, -8, 1)]),
        ("a value of a map", vec![call(1), insn(0x15, 0, 0, 1, 0), write(0)]),
        (
            "a value of a map, kept on the stack",
            vec![call(1), store(10, -8, 0), call(5), load(3, 10, -8), write(3)],
        ),
        ("a variable", vec![insn(0x18, 2, 2, 0, 4), insn(0, 0, 0, 0, 0), write(2)]),
        ("a record", vec![call(131), insn(0x07, 0, 0, 0, 8), write(0)]),
        ("memory for all programs (arena)", vec![insn(0xbf, 2, 2, 1, 1), write(2)]),
        ("storage of a socket", vec![call(107), write(0)]),
    ] {
        let found = effects(XDP, &[&instructions[..], &end].concat());
        // These programs refer to the map of a variable by its id, which is a finding of its own.
        let found: Vec<_> = found.iter().filter(|effect| !effect.contains("by its id")).collect();
        assert!(found.is_empty(), "{what}: {found:?}");
    }
    // A function gets a pointer to the stack, and a callback gets a pointer to a value.
    let given =
        [copy(1, 10), insn(0x07, 1, 0, 0, -8), call_function(2), set(0, PASS), exit(), write(1), exit()];
    assert_eq!(effects(XDP, &given), NOTHING);
    let callback = [
        insn(0x18, 2, 4, 0, 4),
        insn(0, 0, 0, 0, 0),
        call(164),
        set(0, PASS),
        exit(),
        write(3),
        set(0, 0),
        exit(),
    ];
    assert_eq!(effects(XDP, &callback), NOTHING);
}

#[test]
fn writes_to_the_context_act_by_the_type_of_the_program() {
    let writes = [insn(0x62, 1, 0, 4, 1), set(0, 1), exit()];
    for (kind, expected) in [
        (SOCK_ADDR, "changes addresses of connections"),
        (13, "changes how TCP connections work"),
        (25, "changes socket options"),
        (23, "changes settings (sysctl)"),
        (9, "changes sockets and network settings"),
        (KPROBE, "changes registers of the traced code"),
        (CGROUP_SKB, "changes packets"),
        (24, "changes arguments of tracepoints"),
        (20, "other: writes to its context"),
    ] {
        assert_eq!(effects(kind, &writes), [expected], "type {kind}");
    }
    // The pointer is stored on the stack, passed to a function, and passed by its address to a function.
    let kept = [store(10, -8, 1), load(2, 10, -8), insn(0x62, 2, 0, 4, 1), set(0, 1), exit()];
    assert_eq!(effects(SOCK_ADDR, &kept), ["changes addresses of connections"]);
    let given = [call_function(2), set(0, 1), exit(), insn(0x62, 1, 0, 4, 1), exit()];
    assert_eq!(effects(SOCK_ADDR, &given), ["changes addresses of connections"]);
    let behind = [
        store(10, -8, 1),
        copy(1, 10),
        insn(0x07, 1, 0, 0, -8),
        call_function(2),
        set(0, 1),
        exit(),
        load(2, 1, 0),
        insn(0x62, 2, 0, 4, 1),
        exit(),
    ];
    let may = "changes addresses of connections (possibly: the analysis could not track a pointer)";
    assert_eq!(effects(SOCK_ADDR, &behind), [may]);
    // Iterators over elements of maps can write to them, writable tracepoints to what they pass.
    let through = [load(2, 1, 8), insn(0x62, 2, 0, 0, 1), set(0, 0), exit()];
    let iterator = judged(TRACING, 28, &code(&through));
    assert!(iterator.contains("changes elements of maps of other programs"), "{iterator:?}");
    assert_eq!(effects(24, &through), ["changes arguments of tracepoints"]);
    assert_eq!(effects(KPROBE, &through), NOTHING);
}

#[test]
fn shared_objects_are_named() {
    // A map and a kernel function with unknown numbers.
    let map = [insn(0x18, 1, 1, 0, 5), insn(0, 0, 0, 0, 0), set(0, 0), exit()];
    assert_eq!(effects(KPROBE, &map), ["other: uses a map or an object of the host by its id"]);
    assert_eq!(effects(KPROBE, &[insn(0x85, 0, 2, 0, 99), exit()]), ["other: kernel function #99"]);
    // The id of a function of a module means another function in the kernel itself.
    let module = [insn(0x85, 0, 2, 3, 99), exit()];
    let named = |_| Some("bpf_rcu_read_lock".to_owned());
    let code = Code::of_loaded(&module, &Loaded { map: &|_| None, kfunc: &named });
    let found = Findings::of(&code, &Program { kind: KPROBE, attach_type: 0 }, &|_| None);
    assert_eq!(found.effects, BTreeSet::from(["other: kernel function #99".to_owned()]));
    let pinned = Code::of_loaded(&map, &Loaded { map: &|_| Some("shared".to_owned()), kfunc: &named });
    let at = |name: &str| (name == "shared").then(|| "/sys/fs/bpf/shared".to_owned());
    let found = Findings::of(&pinned, &Program { kind: KPROBE, attach_type: 0 }, &at);
    assert_eq!(
        found.effects,
        BTreeSet::from(["shares the pinned map /sys/fs/bpf/shared with others".to_owned()])
    );
    assert_eq!(effects(KPROBE, &[call(12), exit()]), ["runs other programs (tail calls)"]);
}

/// Makes instructions, more for a larger number.
type Maker<'a> = &'a dyn Fn(usize) -> Vec<[u8; 8]>;

#[test]
fn work_grows_with_the_instructions_and_not_with_their_square() {
    // Branches that meet, functions that call one another in a chain, and slots and registers that change in loops.
    let branches = |count: usize| {
        let mut all = Vec::new();
        for index in 0..count {
            all.extend([
                insn(0x15, 1, 0, 1, index as i32),
                set((index % 5 + 2) as u8, index as i32),
                store(10, -8, 3),
            ]);
        }
        all.extend([set(0, PASS), exit()]);
        all
    };
    let chain = |count: usize| {
        let mut all = Vec::new();
        for index in 0..count {
            all.extend([set(1, index as i32), call_function(1), exit()]);
        }
        all.extend([copy(0, 1), exit()]);
        all
    };
    let back = |count: usize| {
        let mut all = Vec::new();
        for index in 0..count {
            let over = -(3 * index as i32 + 1).min(30000) as i16;
            all.extend([
                insn(0x07, 10 - (index % 9) as u8 - 1, 0, 0, 1),
                insn(0x15, 1, 0, over, 7),
                set(2, index as i32),
            ]);
        }
        all.extend([set(0, PASS), exit()]);
        all
    };
    let makers: [(&str, Maker<'_>); 3] = [("branches", &branches), ("chain", &chain), ("back", &back)];
    for (what, make) in makers {
        let steps = |count: usize| {
            let code = code(&make(count));
            Findings::of(&code, &Program { kind: XDP, attach_type: 0 }, &|_| None).steps
        };
        let counts = [1000, 2000, 4000].map(steps);
        assert!(counts[0] > 1000, "{what}: {counts:?}");
        assert!(counts[1] <= counts[0] * 5 / 2 && counts[2] <= counts[1] * 5 / 2, "{what}: {counts:?}");
    }
}
