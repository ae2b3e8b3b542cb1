//! Pairs the programs of two versions by their hooks.

/// A program on one of its hooks.
pub struct Attached<K> {
    /// The program's name.
    pub name: String,
    /// What identifies the hook.
    pub hook: K,
}

/// What happens to a program of the new version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It takes over the hook of this program of the running version.
    Swapped(usize),
    /// Its hook is new.
    Added,
    /// Its hook is new; the running version has the program elsewhere.
    Moved,
}

/// Finds for each program of the new version the one that has the same hook in the running version. If several have it,
/// the program's name decides, then the order.
pub fn pair<K: PartialEq>(old: &[Attached<K>], new: &[Attached<K>]) -> Vec<Change> {
    let mut taken = vec![false; old.len()];
    let mut take = |fits: &dyn Fn(&Attached<K>) -> bool| {
        let found = (0..old.len()).find(|&index| !taken[index] && fits(&old[index]))?;
        taken[found] = true;
        Some(found)
    };
    let same: Vec<Option<usize>> =
        new.iter().map(|new| take(&|old| old.hook == new.hook && old.name == new.name)).collect();
    let pairs = new.iter().zip(same).map(|(new, same)| same.or_else(|| take(&|old| old.hook == new.hook)));
    let pairs: Vec<Option<usize>> = pairs.collect();
    let change = |(new, pair): (&Attached<K>, &Option<usize>)| match pair {
        Some(old) => Change::Swapped(*old),
        None if old.iter().any(|old| old.name == new.name) => Change::Moved,
        None => Change::Added,
    };
    new.iter().zip(&pairs).map(change).collect()
}

/// Returns the programs of the running version whose hook the new version does not have.
pub fn dropped(old_count: usize, changes: &[Change]) -> Vec<usize> {
    (0..old_count).filter(|index| !changes.contains(&Change::Swapped(*index))).collect()
}

#[cfg(test)]
mod tests {
    use super::{Attached, Change, dropped, pair};

    fn version(programs: &[(&str, u32)]) -> Vec<Attached<u32>> {
        programs.iter().map(|&(name, hook)| Attached { name: name.to_owned(), hook }).collect()
    }

    #[test]
    fn a_program_takes_over_the_hook_whatever_its_name() {
        let (old, new) = (version(&[("a", 1), ("b", 2)]), version(&[("b2", 2), ("a", 1)]));
        assert_eq!(pair(&old, &new), [Change::Swapped(1), Change::Swapped(0)]);
        assert!(dropped(2, &pair(&old, &new)).is_empty());
    }

    #[test]
    fn the_name_decides_between_programs_on_one_hook() {
        let (old, new) = (version(&[("a", 1), ("b", 1)]), version(&[("c", 1), ("b", 1), ("a", 1)]));
        assert_eq!(pair(&old, &new), [Change::Added, Change::Swapped(1), Change::Swapped(0)]);
    }

    #[test]
    fn new_moved_and_dropped_hooks_differ() {
        let (old, new) = (version(&[("a", 1), ("b", 2)]), version(&[("a", 3), ("c", 4)]));
        let changes = pair(&old, &new);
        assert_eq!(changes, [Change::Moved, Change::Added]);
        assert_eq!(dropped(2, &changes), [0, 1]);
    }
}
