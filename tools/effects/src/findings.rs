//! Everything known about a program, and the effects that follow from it.

use std::collections::BTreeSet;

use crate::code::{Code, Reference};
use crate::data_flow::{self, Certainty};
use crate::{helpers, kfuncs, names, return_values, writes};

/// The effect of a helper or a kernel function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It reads, computes, or changes data of the program itself.
    Harmless,
    /// It has this effect.
    Named(&'static str),
    /// It writes through a dynptr, which is a packet in some types of programs.
    WritesDynptr,
    /// It continues in another program.
    TailCalls,
}

pub(crate) const HARMLESS: Effect = Effect::Harmless;
pub(crate) const WRITES_PROCESSES: Effect = Effect::Named("writes memory of processes");
pub(crate) const READS_PROCESSES: Effect = Effect::Named("reads memory of processes");
pub(crate) const READS_KERNEL: Effect = Effect::Named("reads memory of the kernel");
pub(crate) const CHANGES_RESULTS: Effect = Effect::Named("overrides results of kernel functions");
pub(crate) const SENDS_SIGNALS: Effect = Effect::Named("sends signals to processes");
pub(crate) const CHANGES_PACKETS: Effect = Effect::Named(writes::CHANGES_PACKETS);
pub(crate) const REDIRECTS: Effect = Effect::Named(return_values::REDIRECTS);
pub(crate) const CHANGES_SOCKETS: Effect = Effect::Named("changes sockets and network settings");
pub(crate) const CHANGES_SETTINGS: Effect = Effect::Named("changes settings (sysctl)");
pub(crate) const INPUT: Effect = Effect::Named("sends key presses and pointer moves (lirc)");
pub(crate) const CHANGES_PROCESSES: Effect =
    Effect::Named("changes how processes start, run or are scheduled");
pub(crate) const CHANGES_FILES: Effect = Effect::Named("changes files");
pub(crate) const SYSTEM_CALLS: Effect = Effect::Named("makes bpf system calls");
pub(crate) const TRACE_LOG: Effect = Effect::Named("writes to the kernel's trace log");
pub(crate) const TAIL_CALLS: Effect = Effect::TailCalls;
pub(crate) const WRITES_DYNPTR: Effect = Effect::WritesDynptr;

/// The type of a program.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// BPF_PROG_TYPE_*.
    pub kind: u32,
    /// `enum bpf_attach_type`, or 0 if the type does not have several.
    pub attach_type: u32,
}

/// The findings about a program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// The numbers of the helpers that it calls.
    pub helpers: BTreeSet<u32>,
    /// The kernel functions that it calls, including those of modules; `#` and a number if the name is unknown.
    pub kfuncs: BTreeSet<String>,
    /// The maps that it uses.
    pub maps: BTreeSet<String>,
    /// Its possible effects, one per line.
    pub effects: BTreeSet<String>,
    /// The number of instructions visited by the analysis.
    pub steps: usize,
}

impl Findings {
    /// Analyses the code of a program. `pinned` returns the path of a pinned map.
    pub fn of(code: &Code, program: &Program, pinned: &dyn Fn(&str) -> Option<String>) -> Findings {
        let mut found =
            Findings { helpers: code.helpers(), steps: code.instructions.len(), ..Findings::default() };
        let mut has_id = false;
        for reference in code.references.values() {
            match reference {
                Reference::Map(maps) => found.maps.extend(maps.iter().cloned()),
                Reference::Kernel(name) => {
                    found.kfuncs.insert(name.clone());
                }
                Reference::Number => has_id = true,
            }
        }
        if has_id {
            found.add("other: uses a map or an object of the host by its id");
        }
        if let Some(why) = &code.unknown {
            found.add(format!("other: anything ({why})"));
        }
        found.add_calls(program);
        for path in found.maps.iter().filter_map(|map| pinned(map)).collect::<Vec<_>>() {
            found.add(format!("shares the pinned map {path} with others"));
        }
        found.add_flow(code, program);
        found
    }

    fn add(&mut self, effect: impl Into<String>) {
        self.effects.insert(effect.into());
    }

    fn add_calls(&mut self, program: &Program) {
        let mut effects = Vec::new();
        for helper in &self.helpers {
            let unknown = || format!("other: helper {}", shown(*helper));
            effects.push(helpers::act(*helper).ok_or_else(unknown));
        }
        for kfunc in &self.kfuncs {
            effects.push(kfuncs::act(kfunc).ok_or_else(|| format!("other: kernel function {kfunc}")));
        }
        // A dynptr refers to a packet only if one of these functions, or an unnamed one, has created it.
        let of_packet = writes::has_packets(program.kind)
            && self.kfuncs.iter().any(|name| name.starts_with("bpf_dynptr_from_") || name.starts_with('#'));
        for effect in effects {
            match effect {
                Ok(Effect::Harmless) => {}
                Ok(Effect::Named(name)) => self.add(name),
                Ok(Effect::WritesDynptr) if of_packet => self.add(writes::CHANGES_PACKETS),
                Ok(Effect::WritesDynptr) => {}
                Ok(Effect::TailCalls) => self.add("runs other programs (tail calls)"),
                Err(unknown) => self.add(unknown),
            }
        }
    }

    fn add_flow(&mut self, code: &Code, program: &Program) {
        let analysis = data_flow::analyse(code, writes::foreign(program).is_some());
        self.steps += analysis.steps;
        let has_tail_calls = self.helpers.iter().any(|helper| helpers::act(*helper) == Some(TAIL_CALLS));
        // After a tail call, the other program decides the result.
        let results = analysis.results.filter(|_| !has_tail_calls);
        self.effects.extend(return_values::effects(program, results.as_ref()));
        let written =
            [(analysis.context, writes::context(program)), (analysis.foreign, writes::foreign(program))];
        for (certainty, effect) in written {
            match (certainty, effect) {
                (Certainty::No, _) | (_, None) => {}
                // The kernel does not allow such writes yet.
                (Certainty::Possible, Some(effect)) if effect.starts_with("other") => {}
                (Certainty::Possible, Some(effect)) => {
                    self.add(format!("{effect} (possibly: the analysis could not track a pointer)"));
                }
                (Certainty::Yes, Some(effect)) => self.add(effect),
            }
        }
        // If an effect is certain, remove the possible one.
        let is_known = |effect: &str| {
            effect.split_once(" (possibly").is_some_and(|(known, _)| self.effects.contains(known))
        };
        let doubts: Vec<String> = self.effects.iter().filter(|effect| is_known(effect)).cloned().collect();
        doubts.iter().for_each(|doubt| {
            self.effects.remove(doubt);
        });
    }
}

fn shown(helper: u32) -> String {
    // A negative number is printed with its sign.
    if names::helper(helper).starts_with('#') { format!("#{}", helper as i32) } else { names::helper(helper) }
}

/// The kind of an effect: without what is particular to one program. `other` is the kind of all that begin with it.
pub fn class(effect: &str) -> &str {
    match effect {
        _ if effect.starts_with("other:") => "other",
        _ if effect.starts_with("shares the pinned map") => "shares pinned maps",
        _ => effect.split(" (possibly").next().unwrap_or(effect),
    }
}
