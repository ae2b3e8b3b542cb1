//! Finds programs that are alternatives of each other: one for each of two hooks at the same place, or one for each name
//! that a kernel function has had. libbpf's tools contain them for old and new kernels, and their hosts pick one. If
//! all of them were attached, everything would be counted twice, or attaching would fail because a function is missing.

use std::cmp::Reverse;

use crate::object::libbpf::Program;

/// Pairs of hooks at the same place, the better one first.
const HOOKS: [[&str; 2]; 3] = [["fentry", "kprobe"], ["fexit", "kretprobe"], ["tp_btf", "raw_tp"]];

/// Programs of which the first one that works is used.
pub struct Group {
    members: Vec<Member>,
    /// Whether all have the same target. Otherwise their functions only have similar names.
    has_one_target: bool,
}

struct Member {
    name: String,
    section: String,
}

/// A program that may have alternatives.
#[derive(Clone, Copy)]
struct Candidate<'a> {
    program: &'a Program,
    /// Row and column in `HOOKS`.
    family: usize,
    rank: usize,
    /// The function or tracepoint.
    target: &'a str,
}

/// Finds the groups of alternatives among `programs`. `has_same_code` compares two programs by name.
pub fn find<'a>(
    programs: impl Iterator<Item = &'a Program>,
    has_same_code: &dyn Fn(&str, &str) -> bool,
) -> Vec<Group> {
    let mut remaining: Vec<Candidate> = programs.filter_map(Candidate::new).collect();
    let mut groups = Vec::new();
    while let Some(&first) = remaining.first() {
        let select = |is_alike: &dyn Fn(&Candidate) -> bool| {
            let alike = remaining.iter().filter(|other| other.family == first.family && is_alike(other));
            alike.copied().collect::<Vec<_>>()
        };
        let mut found = select(&|other| other.base_name() == first.base_name());
        if !are_alternatives(&found, has_same_code) {
            // The choice may be ambiguous among several names of the function, but not among programs for one name.
            found = select(&|other| other.target == first.target);
        }
        remaining.retain(|other| !found.iter().any(|taken| std::ptr::eq(taken.program, other.program)));
        if found.len() > 1 && are_alternatives(&found, has_same_code) {
            // The longest name comes first: the function with underscores has more callers, among them the one without.
            found.sort_by_key(|candidate| (candidate.rank, Reverse(candidate.target.len())));
            groups.push(Group::new(&found));
        }
    }
    groups
}

/// Whether exactly one of them is meant to be used. No hook may have two programs with the same target. If there are
/// several targets, one hook must have a program for each of them, all with the same code.
fn are_alternatives(candidates: &[Candidate], has_same_code: &dyn Fn(&str, &str) -> bool) -> bool {
    let mut targets: Vec<&str> = candidates.iter().map(|candidate| candidate.target).collect();
    targets.sort_unstable();
    targets.dedup();
    let with_rank = |rank| candidates.iter().filter(move |candidate| candidate.rank == rank);
    let is_clear = |rank| {
        with_rank(rank).enumerate().all(|(index, one)| {
            let mut others = with_rank(rank).skip(index + 1);
            others.all(|other| {
                one.target != other.target && has_same_code(&one.program.name, &other.program.name)
            })
        })
    };
    (0..2).all(is_clear) && (0..2).any(|rank| with_rank(rank).count() == targets.len())
}

impl<'a> Candidate<'a> {
    /// Splits the section into hook and target: `fentry` and `vfs_read` of `fentry/vfs_read`. Programs whose section
    /// begins with `?` are not candidates: the host chooses those.
    fn new(program: &'a Program) -> Option<Candidate<'a>> {
        let (hook, target) = program.section.split_once('/')?;
        let hook = if hook == "raw_tracepoint" { "raw_tp" } else { hook };
        let family = HOOKS.iter().position(|hooks| hooks.contains(&hook))?;
        let rank = HOOKS[family].iter().position(|known| *known == hook)?;
        (!target.is_empty()).then_some(Candidate { program, family, rank, target })
    }

    /// The part that all names of a function share: `blk_account_io_start` became `__blk_account_io_start` in Linux
    /// 5.16, `kmem_cache_alloc` became `kmem_cache_alloc_noprof` in 6.10.
    fn base_name(&self) -> &'a str {
        if HOOKS[self.family][0] == "tp_btf" {
            return self.target;
        }
        let name = self.target.trim_start_matches('_');
        name.strip_suffix("_noprof").unwrap_or(name)
    }
}

impl Group {
    fn new(candidates: &[Candidate]) -> Group {
        let member = |candidate: &Candidate| {
            let Program { name, section, .. } = candidate.program;
            Member { name: name.clone(), section: section.clone() }
        };
        Group {
            members: candidates.iter().map(member).collect(),
            has_one_target: candidates.iter().all(|candidate| candidate.target == candidates[0].target),
        }
    }

    /// The fallback for `name`: the next program of the group, which is used only if `name` does not work.
    pub fn instead_of(&self, name: &str) -> Option<&str> {
        let index = self.members.iter().position(|member| member.name == name)?;
        Some(&self.members.get(index + 1)?.name)
    }

    /// All programs but the first.
    pub fn fallbacks(&self) -> impl Iterator<Item = &str> {
        self.members.iter().skip(1).map(|member| member.name.as_str())
    }

    /// A note for the user if the functions only have similar names.
    pub fn note(&self) -> Option<String> {
        if self.has_one_target {
            return None;
        }
        let programs = self.members.iter().map(|member| format!("{} ({})", member.name, member.section));
        let programs = programs.collect::<Vec<_>>().join(", ");
        Some(format!(
            "{programs}: only the first that attaches is used; add @autoload true to each to use them all"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fallback of each program, if all have the same code.
    fn fallbacks(sections: &[&str]) -> Vec<Option<String>> {
        fallbacks_where(sections, true)
    }

    fn fallbacks_where(sections: &[&str], same: bool) -> Vec<Option<String>> {
        let program = |section: &&str| Program {
            name: section.replace('/', ":"),
            section: section.to_string(),
            is_known: true,
        };
        let programs: Vec<_> = sections.iter().map(program).collect();
        let groups = find(programs.iter(), &|_, _| same);
        let next = |program: &Program| {
            let next = groups.iter().find_map(|group| group.instead_of(&program.name));
            next.map(|name| name.replace(':', "/"))
        };
        programs.iter().map(next).collect()
    }

    fn expect(fallbacks: &[Option<String>], expected: &[&str]) {
        let found: Vec<&str> = fallbacks.iter().map(|name| name.as_deref().unwrap_or("")).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn the_better_hook_has_the_other_one_as_its_fallback() {
        let sections =
            ["kprobe/f", "kretprobe/f", "fentry/f", "fexit/f", "fentry/g", "tp_btf/t", "raw_tracepoint/t"];
        expect(&fallbacks(&sections), &["", "", "kprobe/f", "kretprobe/f", "", "raw_tracepoint/t", ""]);
    }

    #[test]
    fn ambiguous_programs_are_not_grouped() {
        expect(&fallbacks(&["fentry/f", "fentry/f", "kprobe/f"]), &["", "", ""]);
        expect(&fallbacks(&["fentry/f", "kprobe/f", "kprobe/f"]), &["", "", ""]);
        expect(&fallbacks(&["uprobe", "fentry", "kprobe"]), &["", "", ""]);
    }

    #[test]
    fn former_names_of_a_function_are_alternatives_if_the_code_is_the_same() {
        expect(&fallbacks(&["kprobe/f", "kprobe/__f"]), &["", "kprobe/f"]);
        expect(&fallbacks(&["kprobe/f_noprof", "kprobe/f"]), &["kprobe/f", ""]);
        expect(&fallbacks_where(&["kprobe/f", "kprobe/__f"], false), &["", ""]);
        expect(&fallbacks(&["kprobe/f", "kretprobe/__f", "kprobe/g"]), &["", "", ""]);
        let four = ["fentry/f", "fentry/__f", "kprobe/f", "kprobe/__f"];
        expect(&fallbacks(&four), &["kprobe/__f", "fentry/f", "", "kprobe/f"]);
        expect(&fallbacks_where(&four, false), &["kprobe/f", "kprobe/__f", "", ""]);
        // Similar names alone are not enough.
        expect(&fallbacks(&["fentry/__f", "kprobe/f"]), &["", ""]);
        expect(&fallbacks(&["fentry/f", "kprobe/f", "kprobe/__f"]), &["kprobe/__f", "", "kprobe/f"]);
        expect(&fallbacks(&["tp_btf/t", "tp_btf/_t"]), &["", ""]);
    }
}
