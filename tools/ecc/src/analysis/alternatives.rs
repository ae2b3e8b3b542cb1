//! Programs that are there several times: once for each of two hooks at one place, or once for each name that a function
//! has had, as libbpf's tools have them for old and new kernels. The host of such a tool picks one, so all at once would
//! count everything twice, or fail for want of a function.

use std::cmp::Reverse;

use crate::object::libbpf::Program;

/// Hooks at the same place, the better one first.
const HOOKS: [[&str; 2]; 3] = [["fentry", "kprobe"], ["fexit", "kretprobe"], ["tp_btf", "raw_tp"]];

/// Programs of which one is used: the first one that works.
pub struct Chain<'a>(Vec<Twin<'a>>);

#[derive(Clone, Copy)]
struct Twin<'a> {
    program: &'a Program,
    /// Row and column in `HOOKS`.
    family: usize,
    rank: usize,
    place: &'a str,
}

/// The chains among `programs`. `same_code` tells of two programs whether they do the same.
pub fn chains<'a>(
    programs: impl Iterator<Item = &'a Program>,
    same_code: &dyn Fn(&str, &str) -> bool,
) -> Vec<Chain<'a>> {
    let mut left: Vec<Twin> = programs.filter_map(Twin::of).collect();
    let mut chains = Vec::new();
    while let Some(&first) = left.first() {
        let alike = |is_alike: &dyn Fn(&Twin) -> bool| {
            let alike = left.iter().filter(|twin| twin.family == first.family && is_alike(twin));
            alike.copied().collect::<Vec<_>>()
        };
        let mut group = alike(&|twin| twin.base() == first.base());
        if !is_chain(&group, same_code) {
            // What cannot be told of several names may still be told of one.
            group = alike(&|twin| twin.place == first.place);
        }
        left.retain(|twin| !group.iter().any(|taken| std::ptr::eq(taken.program, twin.program)));
        if group.len() > 1 && is_chain(&group, same_code) {
            // A function with underscores is behind the one without, and its callers are more.
            group.sort_by_key(|twin| (twin.rank, Reverse(twin.place.len())));
            chains.push(Chain(group));
        }
    }
    chains
}

/// Whether nothing else can be meant than that one of them is used: no hook has two programs at one place, and where
/// there are several places, a hook has a program at each, all with the same code.
fn is_chain(group: &[Twin], same_code: &dyn Fn(&str, &str) -> bool) -> bool {
    let mut places: Vec<&str> = group.iter().map(|twin| twin.place).collect();
    places.sort_unstable();
    places.dedup();
    let of_rank = |rank| group.iter().filter(move |twin| twin.rank == rank);
    let is_clear = |rank| {
        of_rank(rank).enumerate().all(|(index, one)| {
            let mut others = of_rank(rank).skip(index + 1);
            others.all(|other| one.place != other.place && same_code(&one.program.name, &other.program.name))
        })
    };
    (0..2).all(is_clear) && (0..2).any(|rank| of_rank(rank).count() == places.len())
}

impl<'a> Twin<'a> {
    /// Hook and place of a section: `fentry` and `vfs_read` of `fentry/vfs_read`. One that begins with `?` is chosen by
    /// the host on purpose.
    fn of(program: &'a Program) -> Option<Twin<'a>> {
        let (hook, place) = program.section.split_once('/')?;
        let hook = if hook == "raw_tracepoint" { "raw_tp" } else { hook };
        let family = HOOKS.iter().position(|hooks| hooks.contains(&hook))?;
        let rank = HOOKS[family].iter().position(|known| *known == hook)?;
        (!place.is_empty()).then_some(Twin { program, family, rank, place })
    }

    /// What the names of a function have in common that kernels know by several: `blk_account_io_start` became
    /// `__blk_account_io_start` in Linux 5.16, `kmem_cache_alloc` became `kmem_cache_alloc_noprof` in 6.10.
    fn base(&self) -> &'a str {
        if HOOKS[self.family][0] == "tp_btf" {
            return self.place;
        }
        let name = self.place.trim_start_matches('_');
        name.strip_suffix("_noprof").unwrap_or(name)
    }
}

impl Chain<'_> {
    /// The program to use where `name` does not work.
    pub fn instead_of(&self, name: &str) -> Option<&str> {
        let index = self.0.iter().position(|twin| twin.program.name == name)?;
        Some(&self.0.get(index + 1)?.program.name)
    }

    /// All but the first.
    pub fn stand_ins(&self) -> impl Iterator<Item = &str> {
        self.0.iter().skip(1).map(|twin| twin.program.name.as_str())
    }

    /// What the user should know, if the functions are only alike.
    pub fn note(&self) -> Option<String> {
        self.0.iter().find(|twin| twin.place != self.0[0].place)?;
        let programs = self.0.iter().map(|twin| format!("{} ({})", twin.program.name, twin.program.section));
        let programs = programs.collect::<Vec<_>>().join(", ");
        Some(format!(
            "of {programs}, the first that attaches is used; @autoload true at each if all are to be"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of each program the one that stands in for it, where all have the same code.
    fn twins(sections: &[&str]) -> Vec<Option<String>> {
        twins_where(sections, true)
    }

    fn twins_where(sections: &[&str], same: bool) -> Vec<Option<String>> {
        let program = |section: &&str| Program {
            name: section.replace('/', ":"),
            section: section.to_string(),
            is_known: true,
        };
        let programs: Vec<_> = sections.iter().map(program).collect();
        let chains = chains(programs.iter(), &|_, _| same);
        let next = |program: &Program| {
            let next = chains.iter().find_map(|chain| chain.instead_of(&program.name));
            next.map(|name| name.replace(':', "/"))
        };
        programs.iter().map(next).collect()
    }

    fn expect(twins: &[Option<String>], expected: &[&str]) {
        let found: Vec<&str> = twins.iter().map(|twin| twin.as_deref().unwrap_or("")).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn the_better_hook_of_a_place_names_the_other_one() {
        let sections =
            ["kprobe/f", "kretprobe/f", "fentry/f", "fexit/f", "fentry/g", "tp_btf/t", "raw_tracepoint/t"];
        expect(&twins(&sections), &["", "", "kprobe/f", "kretprobe/f", "", "raw_tracepoint/t", ""]);
    }

    #[test]
    fn nothing_is_guessed_of_more_than_two() {
        expect(&twins(&["fentry/f", "fentry/f", "kprobe/f"]), &["", "", ""]);
        expect(&twins(&["fentry/f", "kprobe/f", "kprobe/f"]), &["", "", ""]);
        expect(&twins(&["uprobe", "fentry", "kprobe"]), &["", "", ""]);
    }

    #[test]
    fn names_that_a_function_has_had_are_tried_if_the_code_is_the_same() {
        expect(&twins(&["kprobe/f", "kprobe/__f"]), &["", "kprobe/f"]);
        expect(&twins(&["kprobe/f_noprof", "kprobe/f"]), &["kprobe/f", ""]);
        expect(&twins_where(&["kprobe/f", "kprobe/__f"], false), &["", ""]);
        expect(&twins(&["kprobe/f", "kretprobe/__f", "kprobe/g"]), &["", "", ""]);
        let four = ["fentry/f", "fentry/__f", "kprobe/f", "kprobe/__f"];
        expect(&twins(&four), &["kprobe/__f", "fentry/f", "", "kprobe/f"]);
        expect(&twins_where(&four, false), &["kprobe/f", "kprobe/__f", "", ""]);
        // By names alone nothing is told.
        expect(&twins(&["fentry/__f", "kprobe/f"]), &["", ""]);
        expect(&twins(&["fentry/f", "kprobe/f", "kprobe/__f"]), &["kprobe/__f", "", "kprobe/f"]);
        expect(&twins(&["tp_btf/t", "tp_btf/_t"]), &["", ""]);
    }
}
