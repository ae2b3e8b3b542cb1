//! All that is found out about a program, and the effects that follow from it.

use std::collections::BTreeSet;

use crate::code::{Code, Reference};
use crate::flow::{self, Chance};
use crate::{helpers, kfuncs, names, results, writes};

/// What a helper or a function of the kernel does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// It looks, computes, or changes what is the program's own.
    Harmless,
    /// It does this.
    Does(&'static str),
    /// It writes to memory that belongs to a packet where the program is one for packets.
    WritesDynptr,
    /// It goes on in another program.
    TailCalls,
}

pub(crate) const HARMLESS: Act = Act::Harmless;
pub(crate) const WRITES_PROCESSES: Act = Act::Does("writes memory of processes");
pub(crate) const READS_PROCESSES: Act = Act::Does("reads memory of processes");
pub(crate) const READS_KERNEL: Act = Act::Does("reads memory of the kernel");
pub(crate) const CHANGES_RESULTS: Act =
    Act::Does("makes functions of the kernel fail or return something else");
pub(crate) const SENDS_SIGNALS: Act = Act::Does("sends signals to processes");
pub(crate) const CHANGES_PACKETS: Act = Act::Does(writes::CHANGES_PACKETS);
pub(crate) const REDIRECTS: Act = Act::Does(results::REDIRECTS);
pub(crate) const CHANGES_SOCKETS: Act = Act::Does("changes sockets and settings of the network");
pub(crate) const CHANGES_SETTINGS: Act = Act::Does("changes settings (sysctl)");
pub(crate) const INPUT: Act = Act::Does("presses keys and moves pointers as a remote control");
pub(crate) const CHANGES_PROCESSES: Act = Act::Does("changes how processes start, run or are scheduled");
pub(crate) const CHANGES_FILES: Act = Act::Does("changes files");
pub(crate) const SYSTEM_CALLS: Act = Act::Does("makes bpf system calls");
pub(crate) const TRACE_LOG: Act = Act::Does("writes to the kernel's trace log");
pub(crate) const TAIL_CALLS: Act = Act::TailCalls;
pub(crate) const WRITES_DYNPTR: Act = Act::WritesDynptr;

/// What kind of program it is.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// BPF_PROG_TYPE_*.
    pub kind: u32,
    /// BPF_* of what it attaches to (`enum bpf_attach_type`); 0 where the type says all.
    pub attach_type: u32,
}

/// What has been found out about a program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Helpers that it calls, by number.
    pub helpers: BTreeSet<u32>,
    /// Functions of the kernel and its modules that it calls; `#` and a number for one that has no name here.
    pub kfuncs: BTreeSet<String>,
    /// Maps that it uses.
    pub maps: BTreeSet<String>,
    /// What it could do, a line each.
    pub effects: BTreeSet<String>,
    /// Instructions that were looked at to find this out.
    pub looks: usize,
}

impl Findings {
    /// Judges the code of a program. `pinned` says where a map is pinned, if it is.
    pub fn of(code: &Code, program: &Program, pinned: &dyn Fn(&str) -> Option<String>) -> Findings {
        let mut found =
            Findings { helpers: code.helpers(), looks: code.instructions.len(), ..Findings::default() };
        let mut has_number = false;
        for reference in code.references.values() {
            match reference {
                Reference::Map(maps) => found.maps.extend(maps.iter().cloned()),
                Reference::Kernel(name) => {
                    found.kfuncs.insert(name.clone());
                }
                Reference::Number => has_number = true,
            }
        }
        if has_number {
            found.add("other: uses a map or an object of the host by its number");
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
        let mut acts = Vec::new();
        for helper in &self.helpers {
            let unknown = || format!("other: helper {}", shown(*helper));
            acts.push(helpers::act(*helper).ok_or_else(unknown));
        }
        for kfunc in &self.kfuncs {
            acts.push(kfuncs::act(kfunc).ok_or_else(|| format!("other: kernel function {kfunc}")));
        }
        // Only such a function makes a dynptr of a packet.
        let of_packet = writes::has_packets(program.kind)
            && self.kfuncs.iter().any(|name| name.starts_with("bpf_dynptr_from_") || name.starts_with('#'));
        for act in acts {
            match act {
                Ok(Act::Harmless) => {}
                Ok(Act::Does(effect)) => self.add(effect),
                Ok(Act::WritesDynptr) if of_packet => self.add(writes::CHANGES_PACKETS),
                Ok(Act::WritesDynptr) => {}
                Ok(Act::TailCalls) => self.add("goes on in other programs (tail calls)"),
                Err(unknown) => self.add(unknown),
            }
        }
    }

    fn add_flow(&mut self, code: &Code, program: &Program) {
        let outcome = flow::follow(code, writes::foreign(program).is_some());
        self.looks += outcome.looks;
        let calls_on = self.helpers.iter().any(|helper| helpers::act(*helper) == Some(TAIL_CALLS));
        // What it goes on in decides.
        let results = outcome.results.filter(|_| !calls_on);
        self.effects.extend(results::effects(program, results.as_ref()));
        let written =
            [(outcome.context, writes::context(program)), (outcome.foreign, writes::foreign(program))];
        for (chance, effect) in written {
            match (chance, effect) {
                (Chance::No, _) | (_, None) => {}
                // No kernel takes it yet.
                (Chance::Perhaps, Some(effect)) if effect.starts_with("other") => {}
                (Chance::Perhaps, Some(effect)) => {
                    self.add(format!("{effect} (perhaps: a pointer could not be followed)"));
                }
                (Chance::Yes, Some(effect)) => self.add(effect),
            }
        }
        // Said without a doubt already.
        let is_known = |effect: &str| {
            effect.split_once(" (perhaps").is_some_and(|(known, _)| self.effects.contains(known))
        };
        let doubts: Vec<String> = self.effects.iter().filter(|effect| is_known(effect)).cloned().collect();
        doubts.iter().for_each(|doubt| {
            self.effects.remove(doubt);
        });
    }
}

fn shown(helper: u32) -> String {
    // Beyond the numbers of helpers a sign says more than a large number.
    if names::helper(helper).starts_with('#') { format!("#{}", helper as i32) } else { names::helper(helper) }
}
