//! Limits on the rate of requests that are counted for many proxies: what a rate limit service answers. The numbers are
//! those of Envoy's reference service (`envoyproxy/ratelimit`): fixed windows that begin at multiples of their length, a
//! counter for each descriptor, and a request counts for all of its descriptors, over the limit or not.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use heddle_ir::rate_limit::{CountedDescriptor, CountedDomain, CountedLimit, RateLimitUnit};

/// Counters at a time; further descriptors of a limit share one.
const COUNTERS_MAX: usize = 100_000;

/// Longer keys are kept by their beginning and a hash.
const KEY_BYTES_MAX: usize = 256;

/// One thing that is asked about.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AskedDescriptor {
    /// Keys and values, in order.
    pub entries: Vec<(String, String)>,
    /// A limit that whoever asks sets itself.
    pub limit: Option<(u32, RateLimitUnit)>,
    /// How much the request counts; none: as the whole request does.
    pub hits: Option<u32>,
}

/// What is said about one descriptor.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DescriptorVerdict {
    /// It is over its limit, which is enforced.
    pub is_over: bool,
    /// The limit; none: it has none, or an unlimited one.
    pub limit: Option<VerdictLimit>,
    /// Requests that are left in the window; all there are where it is unlimited.
    pub remaining: u32,
    /// Until the window ends.
    pub reset_seconds: u64,
}

/// The limit of a descriptor.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerdictLimit {
    /// Its name; may be empty.
    pub name: Arc<str>,
    /// Requests in a window.
    pub requests: u32,
    /// The window.
    pub unit: RateLimitUnit,
}

/// Counters, under the descriptors that they are for. They go on when the configuration changes.
#[derive(Debug, Default)]
pub struct Counters {
    counters: HashMap<Box<str>, Counter>,
}

#[derive(Clone, Copy, Debug)]
struct Counter {
    /// The end of its window, in seconds since 1970.
    end: u64,
    hits: u64,
}

/// A limit that a descriptor has found.
struct Found<'a> {
    limit: &'a CountedLimit,
    /// What it is counted under.
    key: String,
}

impl Counters {
    /// Counts a request and says whether it is over a limit. A domain or descriptor that is not configured has no limit.
    /// `hits`: how much the request counts. `now`: seconds since 1970.
    pub fn count(
        &mut self,
        domains: &[CountedDomain],
        domain: &str,
        asked: &[AskedDescriptor],
        hits: u32,
        now: u64,
    ) -> Vec<DescriptorVerdict> {
        let config = domains.iter().find(|own| *own.domain == *domain);
        let found: Vec<Option<Found<'_>>> =
            asked.iter().map(|one| find(domain, &config?.descriptors, &one.entries)).collect();
        let replaced: Vec<&Arc<str>> =
            found.iter().flatten().flat_map(|found| &found.limit.replaces).collect();
        let verdict = |(one, found): (&AskedDescriptor, &Option<Found<'_>>)| {
            let hits = one.hits.unwrap_or(hits);
            if let Some((requests, unit)) = one.limit {
                let key = key_of(domain, one.entries.iter().map(|(key, value)| (&**key, &**value)));
                let limit = VerdictLimit { name: Arc::default(), requests, unit };
                return self.take(&key, limit, false, hits, now);
            }
            let Some(Found { limit, key }) = found else { return DescriptorVerdict::default() };
            if !limit.name.is_empty() && replaced.contains(&&limit.name) {
                return DescriptorVerdict::default();
            }
            let Some((requests, unit)) = limit.rate else {
                return DescriptorVerdict { remaining: u32::MAX, ..DescriptorVerdict::default() };
            };
            let told = VerdictLimit { name: limit.name.clone(), requests, unit };
            self.take(key, told, limit.is_shadow, hits, now)
        };
        asked.iter().zip(&found).map(verdict).collect()
    }

    fn take(
        &mut self,
        key: &str,
        limit: VerdictLimit,
        is_shadow: bool,
        hits: u32,
        now: u64,
    ) -> DescriptorVerdict {
        let length = limit.unit.seconds();
        let end = (now / length + 1) * length;
        let counter = self.counter(key, limit.unit, end, now);
        if counter.end != end {
            *counter = Counter { end, hits: 0 };
        }
        counter.hits = counter.hits.saturating_add(hits.into());
        let remaining = u64::from(limit.requests).saturating_sub(counter.hits);
        DescriptorVerdict {
            is_over: counter.hits > limit.requests.into() && !is_shadow,
            limit: Some(limit),
            remaining: u32::try_from(remaining).unwrap_or(u32::MAX),
            reset_seconds: end - now,
        }
    }

    fn counter(&mut self, key: &str, unit: RateLimitUnit, end: u64, now: u64) -> &mut Counter {
        // Windows of other lengths are others, should the unit of a limit change.
        let mut own = format!("{} {}", unit.seconds(), short(key));
        if self.counters.len() >= COUNTERS_MAX && !self.counters.contains_key(&*own) {
            self.counters.retain(|_, counter| counter.end > now);
            if self.counters.len() >= COUNTERS_MAX {
                own = format!("{} others", unit.seconds());
            }
        }
        self.counters.entry(own.into()).or_insert(Counter { end, hits: 0 })
    }

    /// How many counters are held.
    pub fn len(&self) -> usize {
        self.counters.len()
    }

    /// Whether nothing has been counted.
    pub fn is_empty(&self) -> bool {
        self.counters.is_empty()
    }
}

/// A text of bounded length that stands for a key: two long keys are taken for one only where both of their hashes are.
fn short(key: &str) -> Cow<'_, str> {
    if key.len() <= KEY_BYTES_MAX {
        return Cow::Borrowed(key);
    }
    let hash = |seed: u8| {
        let mut hasher = DefaultHasher::new();
        (seed, key).hash(&mut hasher);
        hasher.finish()
    };
    let begin = &key[..key.floor_char_boundary(KEY_BYTES_MAX / 2)];
    Cow::Owned(format!("{begin} #{:016x}{:016x}", hash(0), hash(1)))
}

/// The limit of a descriptor: entry by entry, key and value before values that begin so before the key alone. A descriptor
/// that goes on where the configuration ends, or ends where it goes on, has none.
fn find<'a>(
    domain: &str,
    mut level: &'a [CountedDescriptor],
    entries: &[(String, String)],
) -> Option<Found<'a>> {
    let mut counted: Vec<(&str, &str)> = Vec::with_capacity(entries.len());
    let (last, before) = entries.split_last()?;
    for (key, value) in before {
        let next = step(level, key, value)?;
        counted.push((key, counted_value(next, value)));
        level = &next.descriptors;
    }
    let (key, value) = last;
    let next = step(level, key, value)?;
    counted.push((key, counted_value(next, value)));
    let limit = next.limit.as_ref()?;
    Some(Found { limit, key: key_of(domain, counted.into_iter()) })
}

fn step<'a>(
    level: &'a [CountedDescriptor],
    key: &str,
    value: &str,
) -> Option<&'a CountedDescriptor> {
    let own = || level.iter().filter(|own| *own.key == *key);
    let exact = own().find(|own| own.value.as_deref() == Some(value));
    let begins = || {
        own().find(|own| {
            let prefix = own.value.as_deref().and_then(|value| value.strip_suffix('*'));
            prefix.is_some_and(|prefix| value.starts_with(prefix))
        })
    };
    exact.or_else(begins).or_else(|| own().find(|own| own.value.is_none()))
}

/// The value under which it is counted.
fn counted_value<'v>(own: &'v CountedDescriptor, value: &'v str) -> &'v str {
    match &own.value {
        Some(pattern) if own.shares_threshold => pattern,
        _ => value,
    }
}

/// Unambiguous whatever is in keys and values.
fn key_of<'e>(domain: &str, entries: impl Iterator<Item = (&'e str, &'e str)>) -> String {
    use std::fmt::Write as _;
    let mut text = format!("{}:{domain}", domain.len());
    for (key, value) in entries {
        // Writing to a text cannot fail.
        let _ = write!(text, " {}:{key} {}:{value}", key.len(), value.len());
    }
    text
}

#[cfg(test)]
mod tests;
