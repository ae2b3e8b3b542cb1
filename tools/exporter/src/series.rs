//! The series of one metric: its values by labels, within a budget.
//!
//! The first series are kept. When the budget is used up, new label values are counted in one series `other`, so that sums are
//! exact and a series that was scraped never changes its meaning. A series that has been idle for long is
//! removed to make space for another one, but only after its total was scraped. If it returns, it begins at
//! 0, like any counter after a restart.

use std::collections::HashMap;

use crate::labels::Values;

/// The series of a metric, each with a value.
pub struct Series<V> {
    /// Series by the bytes of their labels. This map only saves formatting the labels, so it can be cleared.
    by_key: HashMap<Box<[u8]>, usize>,
    /// Series by their labels.
    by_values: HashMap<Values, usize>,
    list: Vec<Option<Entry<V>>>,
    /// Unused indices of the list.
    free: Vec<usize>,
    other: Option<Entry<V>>,
    budget: usize,
    idle: u32,
    /// The number of values that were counted in `other`.
    folded: u64,
    /// The time of the next search for idle series.
    next_search: u32,
    /// The time when all series were last scraped.
    scraped: Option<u32>,
}

/// One series.
pub struct Entry<V> {
    /// The values of its labels.
    pub values: Values,
    /// Its value.
    pub value: V,
    /// The time when it was last used, in seconds of an arbitrary clock.
    used: u32,
}

impl<V: Default> Series<V> {
    /// Creates an empty set of series. `idle` is the time in seconds after which an unused series can be removed to make space.
    pub fn new(budget: usize, idle: u32) -> Series<V> {
        Series {
            by_key: HashMap::new(),
            by_values: HashMap::new(),
            list: Vec::new(),
            free: Vec::new(),
            other: None,
            budget,
            idle,
            folded: 0,
            next_search: 0,
            scraped: None,
        }
    }

    /// The value of the series whose labels depend on `key`. `values` formats the labels; if it returns `None`, nothing is counted.
    /// `other` returns the labels of the series in which everything beyond the budget is counted.
    pub fn find(
        &mut self,
        key: &[u8],
        now: u32,
        values: impl FnOnce() -> Option<Values>,
        other: impl FnOnce() -> Values,
    ) -> Option<&mut V> {
        let index = match self.by_key.get(key) {
            Some(index) => *index,
            None => {
                let values = values()?;
                match self.index(values, now) {
                    Some(index) => {
                        self.remember(key, index);
                        index
                    }
                    None => {
                        self.folded += 1;
                        let new = || Entry { values: other(), value: V::default(), used: now };
                        return Some(&mut self.other.get_or_insert_with(new).value);
                    }
                }
            }
        };
        let entry = self.list[index].as_mut()?;
        entry.used = now;
        Some(&mut entry.value)
    }

    /// The index of the series with these labels, which may be new; `None` beyond the budget.
    fn index(&mut self, values: Values, now: u32) -> Option<usize> {
        if let Some(index) = self.by_values.get(&values) {
            return Some(*index);
        }
        if self.by_values.len() >= self.budget {
            self.remove_idle(now);
        }
        if self.by_values.len() >= self.budget {
            return None;
        }
        let index = self.free.pop().unwrap_or_else(|| {
            self.list.push(None);
            self.list.len() - 1
        });
        self.by_values.insert(values.clone(), index);
        self.list[index] = Some(Entry { values, value: V::default(), used: now });
        Some(index)
    }

    /// Many keys can have the same labels, so their number is limited too.
    fn remember(&mut self, key: &[u8], index: usize) {
        if self.by_key.len() >= self.budget.saturating_mul(4) {
            self.by_key.clear();
        }
        self.by_key.insert(key.into(), index);
    }

    /// Removes series that have been idle for long and were scraped since.
    fn remove_idle(&mut self, now: u32) {
        if now < self.next_search {
            return;
        }
        self.next_search = now + 1 + self.idle / 16;
        let (idle, scraped) = (self.idle, self.scraped);
        self.remove(|entry| {
            now.saturating_sub(entry.used) >= idle && scraped.is_none_or(|scraped| scraped > entry.used)
        });
    }

    /// Removes the series for which `is_over` returns true.
    fn remove(&mut self, is_over: impl Fn(&Entry<V>) -> bool) {
        let mut removed = false;
        for (index, slot) in self.list.iter_mut().enumerate() {
            if let Some(entry) = slot.take_if(|entry| is_over(entry)) {
                self.by_values.remove(&entry.values);
                self.free.push(index);
                removed = true;
            }
        }
        if removed {
            self.by_key.retain(|_, index| self.list[*index].is_some());
        }
    }

    /// Clears the keys, because the records have another type now and the bytes of labels have another meaning.
    pub fn forget_keys(&mut self) {
        self.by_key.clear();
    }

    /// Continues the series of an earlier version of the metric. Those beyond the budget stay.
    pub fn inherit(&mut self, old: Series<V>) {
        let Series { by_values, list, free, other, folded, scraped, .. } = old;
        (self.by_values, self.list, self.free, self.other) = (by_values, list, free, other);
        (self.folded, self.scraped) = (folded, scraped);
        self.forget_keys();
    }

    /// All series, with their labels. Those that were kept come first.
    pub fn iter(&self) -> impl Iterator<Item = &Entry<V>> {
        self.list.iter().flatten().chain(&self.other)
    }

    /// Records that all series were scraped.
    pub fn note_scrape(&mut self, now: u32) {
        self.scraped = Some(now);
    }

    /// The number of series.
    pub fn len(&self) -> usize {
        self.by_values.len() + usize::from(self.other.is_some())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of values that were counted in `other`.
    pub fn folded(&self) -> u64 {
        self.folded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str) -> Values {
        Box::new([text.into()])
    }

    fn count(series: &mut Series<u64>, text: &str, now: u32) {
        let found = series.find(text.as_bytes(), now, || Some(values(text)), || values("other"));
        *found.unwrap() += 1;
    }

    fn all(series: &Series<u64>) -> Vec<(String, u64)> {
        let mut all: Vec<_> = series.iter().map(|entry| (entry.values[0].to_string(), entry.value)).collect();
        all.sort();
        all
    }

    fn expected(list: &[(&str, u64)]) -> Vec<(String, u64)> {
        list.iter().map(|(text, count)| ((*text).to_owned(), *count)).collect()
    }

    #[test]
    fn beyond_the_budget_everything_is_counted_in_one_series() {
        let mut series = Series::new(2, 600);
        for text in ["a", "b", "c", "a", "d", "c"] {
            count(&mut series, text, 1);
        }
        assert_eq!(all(&series), expected(&[("a", 2), ("b", 1), ("other", 3)]));
        assert_eq!((series.len(), series.folded()), (3, 3));
    }

    #[test]
    fn only_a_series_that_was_idle_and_scraped_makes_space() {
        let mut series = Series::new(1, 10);
        count(&mut series, "a", 1);
        series.note_scrape(1);
        count(&mut series, "b", 11);
        assert_eq!(
            all(&series),
            expected(&[("a", 1), ("other", 1)]),
            "it was not scraped after its last use"
        );
        series.note_scrape(12);
        count(&mut series, "b", 13);
        assert_eq!(all(&series), expected(&[("b", 1), ("other", 1)]));
        count(&mut series, "a", 14);
        assert_eq!(all(&series), expected(&[("b", 1), ("other", 2)]), "b is not idle");
    }

    #[test]
    fn keys_with_the_same_labels_are_one_series() {
        let mut series: Series<u64> = Series::new(2, 600);
        for number in 0..1000_u32 {
            let found = series.find(&number.to_ne_bytes(), 1, || Some(values("same")), || values("other"));
            *found.unwrap() += 1;
        }
        assert_eq!(all(&series), expected(&[("same", 1000)]));
        assert!(series.by_key.len() <= 8, "{} keys are remembered", series.by_key.len());
    }

    #[test]
    fn a_record_without_labels_is_not_counted() {
        let mut series: Series<u64> = Series::new(2, 600);
        assert!(series.find(b"a", 1, || None, || values("other")).is_none());
        assert!(series.is_empty());
    }
}
