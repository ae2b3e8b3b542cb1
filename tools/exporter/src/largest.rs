//! The series of a gauge: those with the largest values of each reading. The values of the others are added up in one series `other`.

use std::collections::HashMap;

use crate::labels::Values;

/// The series of a gauge.
pub struct Largest {
    /// The values of the current reading.
    read: HashMap<Values, f64>,
    /// The result of the last reading, the largest values first.
    kept: Vec<(Values, f64)>,
    budget: usize,
    /// The number of values that were added to `other`.
    folded: u64,
}

impl Largest {
    /// Creates an empty set with at most `budget` series, and `other`.
    pub fn new(budget: usize) -> Largest {
        Largest { read: HashMap::new(), kept: Vec::new(), budget, folded: 0 }
    }

    /// Begins a reading. Until it is complete, there are no values.
    pub fn begin(&mut self) {
        self.kept.clear();
        self.read.clear();
    }

    /// Adds a value to the series with these labels.
    pub fn add(&mut self, values: Values, value: f64) {
        *self.read.entry(values).or_default() += value;
    }

    /// Completes a reading. `other` returns the labels of the series with the sum of the rest.
    pub fn end(&mut self, other: impl FnOnce() -> Values) {
        let mut all: Vec<_> = std::mem::take(&mut self.read).into_iter().collect();
        all.sort_unstable_by(|one, other| other.1.total_cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
        let rest = all.split_off(self.budget.min(all.len()));
        if !rest.is_empty() {
            self.folded += rest.len() as u64;
            all.push((other(), rest.iter().map(|(_, value)| value).sum()));
        }
        self.kept = all;
    }

    /// All series with their labels.
    pub fn iter(&self) -> impl Iterator<Item = &(Values, f64)> {
        self.kept.iter()
    }

    /// The number of series, and of values that were added to `other`.
    pub fn usage(&self) -> (usize, u64) {
        (self.kept.len(), self.folded)
    }

    /// Continues to count the folded values of an earlier version.
    pub fn inherit(&mut self, old: &Largest) {
        self.folded += old.folded;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_values_are_kept_and_the_sum_is_exact() {
        let mut gauge = Largest::new(2);
        for round in 1..=2 {
            gauge.begin();
            for (name, value) in [("a", 1.0), ("b", 5.0), ("c", -2.0), ("d", 3.0), ("a", 3.5)] {
                gauge.add(Box::new([name.into()]), value);
            }
            gauge.end(|| Box::new(["other".into()]));
            let all: Vec<_> = gauge.iter().map(|(values, value)| (&*values[0], *value)).collect();
            assert_eq!(all, [("b", 5.0), ("a", 4.5), ("other", 1.0)]);
            assert_eq!(gauge.usage(), (3, 2 * round));
        }
    }
}
