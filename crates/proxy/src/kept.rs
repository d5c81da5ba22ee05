//! Tables of a thread that others can make grow by what they ask for, as the addresses that are connected to: what is out of
//! use goes when the table has grown, so that it is never much larger than what is in use.

use std::collections::HashMap;
use std::hash::Hash;

/// A table is not looked through before it has so many entries.
const SWEPT_MIN: usize = 64;

/// A table whose entries go some time after they are out of use.
#[derive(Debug)]
pub(crate) struct Kept<K, V> {
    entries: HashMap<K, V>,
    /// With so many entries it is looked through: twice as many as were in use the last time.
    sweep_at: usize,
}

impl<K, V> Default for Kept<K, V> {
    fn default() -> Self {
        Self { entries: HashMap::new(), sweep_at: SWEPT_MIN }
    }
}

impl<K: Eq + Hash, V> Kept<K, V> {
    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key)
    }

    /// Adds an entry, and drops what is not `in_use` if there are many.
    pub(crate) fn insert(&mut self, key: K, value: V, in_use: impl Fn(&V) -> bool) {
        if self.entries.len() >= self.sweep_at {
            self.retain(in_use);
        }
        self.entries.insert(key, value);
    }

    /// Drops what is not to be kept.
    pub(crate) fn retain(&mut self, keep: impl Fn(&V) -> bool) {
        self.entries.retain(|_, value| keep(value));
        self.sweep_at = (self.entries.len() * 2).max(SWEPT_MIN);
        self.entries.shrink_to(self.sweep_at);
    }
}

/// Adds an entry to a table that keeps at most `max`: a full one begins anew, which costs what it was kept for and nothing
/// else.
pub(crate) fn put<K: Eq + Hash, V>(table: &mut HashMap<K, V>, max: usize, key: K, value: V) {
    if table.len() >= max && !table.contains_key(&key) {
        table.clear();
    }
    table.insert(key, value);
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    #[test]
    fn a_full_table_begins_anew() {
        let mut table = HashMap::new();
        for key in [1, 2, 2, 1] {
            put(&mut table, 2, key, key);
            assert!(table.contains_key(&key) && table.len() <= 2);
        }
        assert_eq!(table.len(), 2);
        put(&mut table, 2, 3, 3);
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn what_is_out_of_use_goes_and_what_is_in_use_stays() {
        let in_use = |value: &Rc<usize>| Rc::strong_count(value) > 1;
        let mut kept: Kept<usize, Rc<usize>> = Kept::default();
        let mut used = Vec::new();
        for key in 0..100_000 {
            let value = Rc::new(key);
            if key % 1000 == 0 {
                used.push(value.clone());
            }
            kept.insert(key, value, in_use);
            assert!(kept.entries.len() <= (used.len() * 2 + 1).max(SWEPT_MIN), "{key}");
        }
        assert!(used.iter().all(|value| kept.get(value).is_some()));
        used.clear();
        kept.retain(in_use);
        assert_eq!(kept.entries.len(), 0);
    }
}
