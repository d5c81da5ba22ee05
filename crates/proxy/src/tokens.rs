//! The key sets that tokens are checked with: fetched ahead, kept, fetched again.
//!
//! A set that was fetched once stays until a newer one has come, however long its server is away. A key id that no set
//! has makes the set be fetched again, at a limited rate. A request waits for a fetch that is under way, as a task that
//! holds nobody up, and for nothing else.

mod fetch;

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use heddle_ir::authentication::{JwtKeys, JwtRule};
use heddle_ir::request::RequestHead;
use heddle_tls::jwt::{Authenticated, JwtError, KeySet, KeySource, KeysNow, authenticate};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};

use crate::worker::Worker;

/// Between two fetches of a set, as in Istio.
const REFRESH: Duration = Duration::from_mins(20);
/// Between two fetches for the sake of an unknown key id.
const REFETCH_MIN: Duration = Duration::from_secs(5);
/// After a failure; doubled with each further one.
const RETRY_MIN: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_mins(1);

/// The key sets of a proxy, shared by its threads.
#[derive(Debug)]
pub struct TokenKeys {
    entries: RwLock<HashMap<JwtKeys, Arc<Entry>>>,
    /// Fetches under way or asked for.
    fetching: AtomicUsize,
    fetched: watch::Sender<u64>,
}

impl Default for TokenKeys {
    fn default() -> Self {
        let (fetched, _) = watch::channel(0);
        Self { entries: RwLock::default(), fetching: AtomicUsize::new(0), fetched }
    }
}

/// One key set.
#[derive(Debug)]
struct Entry {
    held: ArcSwapOption<KeySet>,
    /// Some thread's task looks after it.
    claimed: AtomicBool,
    /// No configuration names it any longer.
    retired: AtomicBool,
    /// May be asked to be fetched again.
    refetchable: AtomicBool,
    refetch: Notify,
}

impl TokenKeys {
    /// The entry of a key set; made where there is none.
    fn entry(&self, keys: &JwtKeys) -> Arc<Entry> {
        let read = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = read.get(keys) {
            return entry.clone();
        }
        drop(read);
        let held = match keys {
            JwtKeys::Inline(text) => KeySet::parse(text)
                .inspect_err(|error| warn!(%error, "a key set cannot be used"))
                .ok()
                .map(Arc::new),
            JwtKeys::Discovery(_) | JwtKeys::Unusable | JwtKeys::Url(_) => None,
        };
        let is_remote = matches!(keys, JwtKeys::Discovery(_) | JwtKeys::Url(_));
        let made = Arc::new(Entry {
            held: ArcSwapOption::new(held),
            claimed: AtomicBool::new(!is_remote),
            retired: AtomicBool::new(false),
            refetchable: AtomicBool::new(false),
            refetch: Notify::new(),
        });
        let mut write = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        write.entry(keys.clone()).or_insert(made).clone()
    }

    fn begin_fetch(&self) {
        self.fetching.fetch_add(1, Ordering::AcqRel);
    }

    fn end_fetch(&self) {
        self.fetching.fetch_sub(1, Ordering::AcqRel);
        self.fetched.send_modify(|count| *count = count.wrapping_add(1));
    }
}

/// Looks after the sets that the present configuration names, and lets go of others. Called by every thread for every
/// configuration; each set is looked after by one.
pub(crate) fn follow(worker: &Rc<Worker>) {
    let keys = &worker.shared.token_keys;
    let snapshot = worker.shared.configuration.snapshot();
    let rules: &[Arc<JwtRule>] =
        snapshot.inbound.as_ref().map_or(&[], |inbound| &inbound.inbound().jwt_rules);
    for rule in rules {
        let entry = keys.entry(&rule.keys);
        if !entry.claimed.swap(true, Ordering::AcqRel) {
            keys.begin_fetch();
            tokio::task::spawn_local(look_after(worker.clone(), rule.clone(), entry));
        }
    }
    let mut entries = keys.entries.write().unwrap_or_else(PoisonError::into_inner);
    entries.retain(|own, entry| {
        let named = rules.iter().any(|rule| rule.keys == *own);
        if !named {
            entry.retired.store(true, Ordering::Release);
            entry.refetch.notify_one();
        }
        named
    });
}

/// Fetches a set now and whenever it is due. A fetch has been begun when this is called.
async fn look_after(worker: Rc<Worker>, rule: Arc<JwtRule>, entry: Arc<Entry>) {
    let keys = worker.shared.token_keys.clone();
    let mut failures = 0_u32;
    loop {
        let fetched = fetch::fetch(&worker, &rule).await;
        let pause = match fetched {
            Ok(set) => {
                info!(issuer = &*rule.issuer, keys = set.len(), "key set fetched");
                entry.held.store(Some(Arc::new(set)));
                failures = 0;
                REFRESH
            }
            Err(error) => {
                let held = entry.held.load().is_some();
                let cause = fetch::chain(&error);
                warn!(issuer = &*rule.issuer, origin = %rule.origin, held, cause, "a key set cannot be fetched");
                failures = failures.saturating_add(1);
                let doubled = RETRY_MIN.saturating_mul(1 << failures.min(10).saturating_sub(1));
                doubled.min(RETRY_MAX)
            }
        };
        keys.end_fetch();
        let due = Instant::now() + pause;
        // For a moment nobody may ask for it again.
        let rest = (Instant::now() + REFETCH_MIN).min(due);
        let _ = timeout_at(rest, retired(&entry)).await;
        entry.refetchable.store(true, Ordering::Release);
        let asked = timeout_at(due, entry.refetch.notified()).await.is_ok();
        let was_begun = !entry.refetchable.swap(false, Ordering::AcqRel);
        if entry.retired.load(Ordering::Acquire) {
            if was_begun {
                keys.end_fetch();
            }
            return;
        }
        if !(asked && was_begun) {
            keys.begin_fetch();
        }
    }
}

/// Ready when no configuration names the set any longer.
async fn retired(entry: &Entry) {
    while !entry.retired.load(Ordering::Acquire) {
        entry.refetch.notified().await;
    }
}

/// The sets as verification asks for them.
struct Source<'a>(&'a TokenKeys);

impl KeySource for Source<'_> {
    fn keys(&self, rule: &JwtRule) -> KeysNow {
        match self.0.entry(&rule.keys).held.load_full() {
            Some(keys) => KeysNow::Held(keys),
            None => KeysNow::Missing,
        }
    }

    fn unknown_key(&self, rule: &JwtRule) {
        let entry = self.0.entry(&rule.keys);
        if entry.refetchable.swap(false, Ordering::AcqRel) {
            self.0.begin_fetch();
            entry.refetch.notify_one();
        }
    }
}

/// Verifies the tokens of a request. Waits for key sets that are being fetched.
pub(crate) async fn verify<H: RequestHead>(
    worker: &Worker,
    rules: &[Arc<JwtRule>],
    head: &H,
) -> Result<Authenticated, JwtError> {
    let keys = &*worker.shared.token_keys;
    let mut fetched = keys.fetched.subscribe();
    let wait_max = rules.iter().map(|rule| rule.fetch_timeout).max().unwrap_or_default();
    let due = Instant::now() + wait_max;
    loop {
        let now = worker.shared.identity.clock().now();
        fetched.mark_unchanged();
        let verified = authenticate(rules, &Source(keys), head, now);
        let Err(JwtError::NoKeySet | JwtError::NoKey) = verified else { return verified };
        if keys.fetching.load(Ordering::Acquire) == 0
            || !matches!(timeout_at(due, fetched.changed()).await, Ok(Ok(())))
        {
            return verified;
        }
    }
}
