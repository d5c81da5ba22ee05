//! Showing a registry: Prometheus' text format 0.0.4, and samples for own readers.

use std::borrow::Cow;
use std::fmt::Write;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::{Buckets, GroupState, Kind, Metric, Registry, Series};

/// One metric of one series.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample<'a> {
    /// The metric.
    pub metric: &'static Metric,
    /// Its labels as shown; [`labels_of`] takes them apart.
    pub labels: &'a str,
    /// Its value.
    pub value: SampleValue,
}

/// The value of a sample.
#[derive(Debug, Clone, PartialEq)]
pub enum SampleValue {
    /// Of a counter.
    Counter(u64),
    /// Of a gauge.
    Gauge(i64),
    /// Of a histogram.
    Histogram {
        /// How many values fell into each bucket alone (not added up); the last is what is above all bounds.
        buckets: Vec<u64>,
        /// The sum of all values, in the small unit.
        sum: u64,
    },
}

impl Registry {
    /// The content type of [`Registry::encode`]'s text.
    pub const CONTENT_TYPE: &'static str = "text/plain; version=0.0.4; charset=utf-8";

    /// Appends all series to `out` in Prometheus' text format. `now` drives the expiry of idle series.
    pub fn encode(&self, now: Instant, out: &mut String) {
        for group in self.groups() {
            let shown = self.shown(&group, now);
            for (index, metric) in group.definition.metrics.iter().enumerate() {
                if shown.is_empty() {
                    continue;
                }
                encode_head(out, metric);
                for series in &shown {
                    let values = series.values().find(|(of, _)| *of == index);
                    encode_metric(out, metric, series.labels(), &values.unwrap_or_default().1);
                }
            }
        }
    }

    /// Gives every sample to `visit`, for readers within the process.
    pub fn visit(&self, now: Instant, mut visit: impl FnMut(Sample<'_>)) {
        for group in self.groups() {
            for series in self.shown(&group, now) {
                for (metric, (_, cells)) in group.definition.metrics.iter().zip(series.values()) {
                    let value = sample_value(metric.kind, cells);
                    visit(Sample { metric, labels: series.labels(), value });
                }
            }
        }
    }

    fn shown(&self, group: &GroupState, now: Instant) -> Vec<std::sync::Arc<Series>> {
        group.shown(now, self.0.settings.idle_after, &self.0.series)
    }
}

fn sample_value(kind: Kind, mut cells: Vec<u64>) -> SampleValue {
    match kind {
        Kind::Counter => SampleValue::Counter(cells.first().copied().unwrap_or(0)),
        Kind::Gauge => SampleValue::Gauge(cells.first().copied().unwrap_or(0).cast_signed()),
        Kind::Histogram(_) => {
            let sum = cells.pop().unwrap_or(0);
            SampleValue::Histogram { buckets: cells, sum }
        }
    }
}

/// Writes label pairs as they are shown, without braces.
pub(super) fn labels(names: &[&str], values: &[&str]) -> String {
    let mut text = String::new();
    for (name, value) in names.iter().zip(values) {
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(name);
        text.push_str("=\"");
        for character in value.chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                '"' => text.push_str("\\\""),
                '\n' => text.push_str("\\n"),
                other => text.push(other),
            }
        }
        text.push('"');
    }
    text
}

/// Takes the labels of a [`Sample`] apart.
pub fn labels_of(text: &str) -> impl Iterator<Item = (&str, Cow<'_, str>)> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (name, after) = rest.split_once("=\"")?;
        let mut escaped = false;
        let end = after.find(|character| {
            let ends = character == '"' && !escaped;
            escaped = character == '\\' && !escaped;
            ends
        })?;
        let (value, tail) = after.split_at(end);
        rest = tail.trim_start_matches(['"', ',']);
        Some((name, unescape(value)))
    })
}

fn unescape(value: &str) -> Cow<'_, str> {
    if !value.contains('\\') {
        return Cow::Borrowed(value);
    }
    let mut text = String::with_capacity(value.len());
    let mut characters = value.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some('n') => text.push('\n'),
                Some(other) => text.push(other),
                None => {}
            },
            other => text.push(other),
        }
    }
    Cow::Owned(text)
}

fn encode_head(out: &mut String, metric: &Metric) {
    let kind = match metric.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram(_) => "histogram",
    };
    push(out, format_args!("# HELP {} {}\n", metric.name, metric.help));
    push(out, format_args!("# TYPE {} {kind}\n", metric.name));
}

fn encode_metric(out: &mut String, metric: &Metric, labels: &str, cells: &[u64]) {
    let name = metric.name;
    let first = cells.first().copied().unwrap_or(0);
    match metric.kind {
        Kind::Counter => push(out, format_args!("{name}{} {first}\n", Braced(labels))),
        Kind::Gauge => {
            push(out, format_args!("{name}{} {}\n", Braced(labels), first.cast_signed()));
        }
        Kind::Histogram(buckets) => encode_histogram(out, name, labels, buckets, cells),
    }
}

fn encode_histogram(out: &mut String, name: &str, labels: &str, buckets: &Buckets, cells: &[u64]) {
    let comma = if labels.is_empty() { "" } else { "," };
    let mut count = 0_u64;
    for (bound, in_bucket) in buckets.bounds.iter().zip(cells) {
        count += in_bucket;
        let le = Scaled(*bound, buckets.per_unit);
        push(out, format_args!("{name}_bucket{{{labels}{comma}le=\"{le}\"}} {count}\n"));
    }
    let above = cells.get(buckets.bounds.len()).copied().unwrap_or(0);
    count += above;
    push(out, format_args!("{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {count}\n"));
    let sum = Scaled(cells.last().copied().unwrap_or(0), buckets.per_unit);
    push(out, format_args!("{name}_sum{} {sum}\n", Braced(labels)));
    push(out, format_args!("{name}_count{} {count}\n", Braced(labels)));
}

struct Braced<'a>(&'a str);

impl std::fmt::Display for Braced<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, "{{{}}}", self.0) }
    }
}

/// A number of small units, shown exactly in whole ones.
struct Scaled(u64, u32);

impl std::fmt::Display for Scaled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let per_unit = u64::from(self.1.max(1));
        let (whole, mut rest) = (self.0 / per_unit, self.0 % per_unit);
        write!(f, "{whole}")?;
        if rest > 0 {
            f.write_char('.')?;
        }
        // Ends, since units are powers of ten; nine digits bound it if one is not.
        for _ in 0..9 {
            if rest == 0 {
                break;
            }
            rest *= 10;
            write!(f, "{}", rest / per_unit)?;
            rest %= per_unit;
        }
        Ok(())
    }
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = out.write_fmt(text);
}

impl Registry {
    /// The registry's own state as text, for the end of an exposition: how full it is and what found no room.
    pub fn encode_self(&self, out: &mut String) {
        let (count, overflowed) = (self.series_count(), self.0.overflowed.load(Ordering::Relaxed));
        push(
            out,
            format_args!(
                "# HELP heddle_metric_series Label combinations held.\n\
                 # TYPE heddle_metric_series gauge\n\
                 heddle_metric_series {count}\n\
                 # HELP heddle_metric_series_overflow_total Label combinations that found no room.\n\
                 # TYPE heddle_metric_series_overflow_total counter\n\
                 heddle_metric_series_overflow_total {overflowed}\n"
            ),
        );
    }
}
