//! Programs that are there twice, once for each of two hooks at one place, as libbpf's tools have them for old and new
//! kernels: the host of such a tool picks one, so both at once would count everything twice.

use crate::sys::Program;

/// Hooks at the same place: the one that is better where it works, and what there is instead of it.
const PAIRS: [(&str, &str); 3] = [("fentry", "kprobe"), ("fexit", "kretprobe"), ("tp_btf", "raw_tp")];

/// The program to use where `program` does not work, if there is exactly one of each at the place.
pub fn instead_of<'a>(program: &Program, programs: &'a [Program]) -> Option<&'a str> {
    let (hook, place) = place(program)?;
    let other = PAIRS.iter().find(|(better, _)| *better == hook)?.1;
    let at = |wanted: &str| {
        let mut found = programs.iter().filter(|program| self::place(program) == Some((wanted, place)));
        found.next().filter(|_| found.next().is_none())
    };
    at(hook)?;
    Some(&at(other)?.name)
}

/// Hook and place of a section: `fentry` and `vfs_read` of `fentry/vfs_read`. One that begins with `?` is chosen by
/// the host on purpose.
fn place(program: &Program) -> Option<(&str, &str)> {
    let (hook, place) = program.section.split_once('/')?;
    let hook = if hook == "raw_tracepoint" { "raw_tp" } else { hook };
    (!place.is_empty()).then_some((hook, place))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn twins(sections: &[&str]) -> Vec<Option<String>> {
        let program =
            |section: &&str| Program { name: section.replace('/', "_"), section: section.to_string() };
        let programs: Vec<_> = sections.iter().map(program).collect();
        programs.iter().map(|program| instead_of(program, &programs).map(str::to_owned)).collect()
    }

    #[test]
    fn the_better_hook_of_a_place_names_the_other_one() {
        let sections =
            ["kprobe/f", "kretprobe/f", "fentry/f", "fexit/f", "fentry/g", "tp_btf/t", "raw_tracepoint/t"];
        let expected =
            [None, None, Some("kprobe_f"), Some("kretprobe_f"), None, Some("raw_tracepoint_t"), None];
        assert_eq!(twins(&sections), expected.map(|name| name.map(str::to_owned)));
    }

    #[test]
    fn nothing_is_guessed_of_more_than_two() {
        assert_eq!(twins(&["fentry/f", "fentry/f", "kprobe/f"]), [None, None, None]);
        assert_eq!(twins(&["fentry/f", "kprobe/f", "kprobe/f"]), [None, None, None]);
        assert_eq!(twins(&["uprobe", "fentry", "kprobe"]), [None, None, None]);
    }
}
