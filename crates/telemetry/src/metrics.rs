//! The metrics registry of the forwarding path.
//!
//! A [`Group`] is a set of metrics with the same labels; a [`Series`] is one combination of label values with a
//! cell for each of them. The owner of a route resolves its series once, which locks and allocates; recording
//! is an addition to an atomic, without a lock, an allocation or a look at the clock.
//!
//! Bounds: a registry holds at most so many series; further label combinations share the group's overflow
//! series, whose labels all say `overflow`. A series that has not changed for a while is not shown any more, and
//! goes when nobody holds it; if its holder records again, it shows again with its count.
//!
//! Own code because the registries at hand append `_total` to names that others rely on and expire nothing.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

mod encode;
mod series;

pub use encode::{Sample, SampleValue, labels_of};
pub use series::{Counter, Gauge, Histogram, Series};

/// What a metric is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A sum that only grows.
    Counter,
    /// A value that goes up and down.
    Gauge,
    /// A distribution over these buckets.
    Histogram(&'static Buckets),
}

/// Buckets of a histogram. Values are recorded as whole numbers of a small unit, so that sums are exact and
/// adding is one instruction, and shown divided by `per_unit`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Buckets {
    /// Upper bounds in the small unit, ascending.
    pub bounds: &'static [u64],
    /// Small units in a shown one, for example 1,000 when microseconds are shown as milliseconds.
    pub per_unit: u32,
}

/// One metric of a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Metric {
    /// Its name, shown exactly so.
    pub name: &'static str,
    /// What it counts, one sentence.
    pub help: &'static str,
    /// What it is.
    pub kind: Kind,
}

/// Metrics that share labels. A static of the crate that records them.
#[derive(PartialEq, Eq, Debug)]
pub struct GroupDefinition {
    /// Label names, in order of showing.
    pub labels: &'static [&'static str],
    /// The metrics.
    pub metrics: &'static [Metric],
    /// Whether series disappear when they have not changed for the registry's idle time. Not for gauges that
    /// state something for good, such as a build.
    pub expires: bool,
}

/// Bounds of a registry.
#[derive(Debug, Clone)]
pub struct RegistrySettings {
    /// Series of all groups together, overflow series excepted.
    pub series_max: usize,
    /// After how long without a change a series is no longer shown.
    pub idle_after: Duration,
}

impl Default for RegistrySettings {
    fn default() -> Self {
        Self { series_max: 5_000, idle_after: Duration::from_mins(10) }
    }
}

/// All metrics of a process; cheap to clone.
#[derive(Clone)]
pub struct Registry(Arc<Shared>);

struct Shared {
    settings: RegistrySettings,
    groups: Mutex<Vec<Arc<GroupState>>>,
    series: AtomicU64,
    overflowed: AtomicU64,
}

struct GroupState {
    definition: &'static GroupDefinition,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    series: HashMap<Box<str>, Entry>,
    overflow: Option<Arc<Series>>,
}

struct Entry {
    series: Arc<Series>,
    /// The sum of all cells when it was last looked at, and since when it has been that.
    seen: Option<(u64, Instant)>,
}

/// A group of a registry; cheap to clone.
#[derive(Clone)]
pub struct Group {
    registry: Registry,
    state: Arc<GroupState>,
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let metrics = self.state.definition.metrics.iter().map(|metric| metric.name);
        f.debug_list().entries(metrics).finish()
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("series", &self.series_count()).finish_non_exhaustive()
    }
}

impl Default for Registry {
    fn default() -> Self {
        Self::new(RegistrySettings::default())
    }
}

impl Registry {
    /// An empty registry.
    pub fn new(settings: RegistrySettings) -> Self {
        Self(Arc::new(Shared {
            settings,
            groups: Mutex::default(),
            series: AtomicU64::new(0),
            overflowed: AtomicU64::new(0),
        }))
    }

    /// The group of this definition, made when it is first asked for.
    pub fn group(&self, definition: &'static GroupDefinition) -> Group {
        let mut groups = lock(&self.0.groups);
        let held = groups.iter().find(|group| std::ptr::eq(group.definition, definition));
        let state = held.cloned().unwrap_or_else(|| {
            let state = Arc::new(GroupState { definition, table: Mutex::default() });
            groups.push(state.clone());
            state
        });
        Group { registry: self.clone(), state }
    }

    /// Series held, overflow series excepted.
    pub fn series_count(&self) -> u64 {
        self.0.series.load(Ordering::Relaxed)
    }

    /// How often a label combination found no room and was given the overflow series.
    pub fn overflowed(&self) -> u64 {
        self.0.overflowed.load(Ordering::Relaxed)
    }

    fn groups(&self) -> Vec<Arc<GroupState>> {
        let mut groups = lock(&self.0.groups).clone();
        groups.sort_by_key(|group| group.definition.metrics.first().map(|metric| metric.name));
        groups
    }
}

impl Group {
    /// The series of these label values, in the order of the definition; an empty one is left empty. Locks and
    /// may allocate: for when a route is made, not for when it is used.
    pub fn series(&self, values: &[&str]) -> Arc<Series> {
        let definition = self.state.definition;
        debug_assert_eq!(values.len(), definition.labels.len());
        let labels = encode::labels(definition.labels, values);
        let mut table = lock(&self.state.table);
        if let Some(entry) = table.series.get(labels.as_str()) {
            return entry.series.clone();
        }
        let shared = &self.registry.0;
        let count = shared.series.load(Ordering::Relaxed);
        if usize::try_from(count).unwrap_or(usize::MAX) >= shared.settings.series_max {
            shared.overflowed.fetch_add(1, Ordering::Relaxed);
            return table.overflow(definition);
        }
        shared.series.fetch_add(1, Ordering::Relaxed);
        let labels: Box<str> = labels.into();
        let series = Arc::new(Series::new(definition, labels.clone()));
        table.series.insert(labels, Entry { series: series.clone(), seen: None });
        series
    }

    /// The one series of a group without labels.
    pub fn only(&self) -> Arc<Series> {
        self.series(&[])
    }

    /// The series that takes what has no room.
    pub fn overflow(&self) -> Arc<Series> {
        lock(&self.state.table).overflow(self.state.definition)
    }
}

impl Table {
    fn overflow(&mut self, definition: &'static GroupDefinition) -> Arc<Series> {
        let make = || {
            let values = vec!["overflow"; definition.labels.len()];
            let labels = encode::labels(definition.labels, &values);
            Arc::new(Series::new(definition, labels.into()))
        };
        self.overflow.get_or_insert_with(make).clone()
    }
}

impl GroupState {
    /// The series to show at `now`, in order of labels. Notes changes and lets go of what is idle and unheld.
    fn shown(&self, now: Instant, idle_after: Duration, count: &AtomicU64) -> Vec<Arc<Series>> {
        let mut table = lock(&self.table);
        let mut shown: Vec<Arc<Series>> = Vec::with_capacity(table.series.len());
        table.series.retain(|_, entry| {
            let sum = entry.series.change_mark();
            let since = match entry.seen {
                Some((seen, since)) if seen == sum => since,
                Some(_) | None => now,
            };
            entry.seen = Some((sum, since));
            let idle =
                self.definition.expires && now.saturating_duration_since(since) >= idle_after;
            if !idle {
                shown.push(entry.series.clone());
                return true;
            }
            // Nobody can come to hold it meanwhile: that needs the table.
            let held = Arc::strong_count(&entry.series) > 1;
            if !held {
                count.fetch_sub(1, Ordering::Relaxed);
            }
            held
        });
        shown.sort_by(|one, other| one.labels().cmp(other.labels()));
        shown.extend(table.overflow.iter().filter(|series| series.change_mark() > 0).cloned());
        shown
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
