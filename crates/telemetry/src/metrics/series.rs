//! Series and the handles that record into them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Buckets, GroupDefinition, Kind};

/// One combination of label values, with the cells of every metric of its group.
pub struct Series {
    definition: &'static GroupDefinition,
    labels: Box<str>,
    /// A cell for a counter or gauge; for a histogram one per bucket, one for what is above the last, and the sum.
    cells: Box<[AtomicU64]>,
}

impl fmt::Debug for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{}}}", self.labels)
    }
}

impl Series {
    pub(super) fn new(definition: &'static GroupDefinition, labels: Box<str>) -> Self {
        let count = definition.metrics.iter().map(|metric| cells_of(metric.kind)).sum();
        Self { definition, labels, cells: (0..count).map(|_| AtomicU64::new(0)).collect() }
    }

    /// The labels as they are shown, without braces.
    pub fn labels(&self) -> &str {
        &self.labels
    }

    /// The handle of the counter at this place in the group; none when there is no counter.
    pub fn counter(self: &Arc<Self>, metric: usize) -> Option<Counter> {
        let cell = self.offset(metric, |kind| kind == Kind::Counter)?;
        Some(Counter { series: self.clone(), cell })
    }

    /// The handle of the gauge at this place in the group; none when there is no gauge.
    pub fn gauge(self: &Arc<Self>, metric: usize) -> Option<Gauge> {
        let cell = self.offset(metric, |kind| kind == Kind::Gauge)?;
        Some(Gauge { series: self.clone(), cell })
    }

    /// The handle of the histogram at this place in the group; none when there is no histogram.
    pub fn histogram(self: &Arc<Self>, metric: usize) -> Option<Histogram> {
        let cell = self.offset(metric, |kind| matches!(kind, Kind::Histogram(_)))?;
        let Kind::Histogram(buckets) = self.definition.metrics.get(metric)?.kind else {
            return None;
        };
        Some(Histogram { series: self.clone(), cell, buckets })
    }

    /// A number that changes whenever a cell does (short of exact cancellation, which only gauges can do).
    pub(super) fn change_mark(&self) -> u64 {
        self.cells.iter().fold(0, |sum: u64, cell| sum.wrapping_add(cell.load(Ordering::Relaxed)))
    }

    /// The values of the cells of every metric, in the group's order.
    pub(super) fn values(&self) -> impl Iterator<Item = (usize, Vec<u64>)> + '_ {
        let mut start = 0;
        self.definition.metrics.iter().enumerate().map(move |(index, metric)| {
            let end = start + cells_of(metric.kind);
            let cells = self.cells.get(start..end).unwrap_or_default();
            start = end;
            (index, cells.iter().map(|cell| cell.load(Ordering::Relaxed)).collect())
        })
    }

    fn offset(&self, metric: usize, is_right: impl Fn(Kind) -> bool) -> Option<usize> {
        let metrics = self.definition.metrics;
        let found = metrics.get(metric).is_some_and(|metric| is_right(metric.kind));
        debug_assert!(found, "metric {metric} of {:?} is of another kind", metrics.first());
        let before = metrics.get(..metric)?;
        found.then(|| before.iter().map(|metric| cells_of(metric.kind)).sum())
    }

    fn add(&self, cell: usize, amount: u64) {
        if let Some(cell) = self.cells.get(cell) {
            cell.fetch_add(amount, Ordering::Relaxed);
        }
    }
}

fn cells_of(kind: Kind) -> usize {
    match kind {
        Kind::Counter | Kind::Gauge => 1,
        Kind::Histogram(buckets) => buckets.bounds.len() + 2,
    }
}

/// A handle that counts.
#[derive(Debug, Clone)]
pub struct Counter {
    series: Arc<Series>,
    cell: usize,
}

impl Counter {
    /// Adds one.
    pub fn increment(&self) {
        self.series.add(self.cell, 1);
    }

    /// Adds.
    pub fn add(&self, amount: u64) {
        self.series.add(self.cell, amount);
    }

    /// The present value.
    pub fn value(&self) -> u64 {
        self.series.cells.get(self.cell).map_or(0, |cell| cell.load(Ordering::Relaxed))
    }
}

/// A handle that goes up and down. Its value is a signed whole number.
#[derive(Debug, Clone)]
pub struct Gauge {
    series: Arc<Series>,
    cell: usize,
}

impl Gauge {
    /// Sets it.
    pub fn set(&self, value: i64) {
        if let Some(cell) = self.series.cells.get(self.cell) {
            cell.store(value.cast_unsigned(), Ordering::Relaxed);
        }
    }

    /// Adds; a negative amount takes away.
    pub fn add(&self, amount: i64) {
        // Two's complement: wrapping addition is signed addition.
        self.series.add(self.cell, amount.cast_unsigned());
    }

    /// The present value.
    pub fn value(&self) -> i64 {
        let cell = self.series.cells.get(self.cell);
        cell.map_or(0, |cell| cell.load(Ordering::Relaxed)).cast_signed()
    }
}

/// A handle that records a distribution.
#[derive(Debug, Clone)]
pub struct Histogram {
    series: Arc<Series>,
    cell: usize,
    buckets: &'static Buckets,
}

impl Histogram {
    /// Records a value, in the small unit of the histogram's [`Buckets`].
    pub fn observe(&self, value: u64) {
        let bounds = self.buckets.bounds;
        // A scan beats a search here: most values fall into the first buckets, and there are few.
        let bucket = bounds.iter().position(|bound| value <= *bound).unwrap_or(bounds.len());
        self.series.add(self.cell + bucket, 1);
        self.series.add(self.cell + bounds.len() + 1, value);
    }
}
