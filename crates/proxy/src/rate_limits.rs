//! Limits on the rate of requests, as a place of the proxy enforces them. Compiled with the policy that they belong to; the
//! buckets go on from one configuration to the next.

mod global;

use std::borrow::Cow;
use std::cell::OnceCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use heddle_balance::bucket::Bucket;
use heddle_balance::rate_limit::{Limited, LocalLimiter};
use heddle_ident::SpiffeId;
use heddle_ir::http_route::HeaderEdits;
use heddle_ir::rate_limit::RateLimits;
use heddle_ir::request::RequestHead;
use heddle_route::{CompiledFilter, CompiledTexts, DescriptorFacts};
use heddle_telemetry::Reason;
use heddle_telemetry::mesh::Direction;
use tokio::time::Instant;

use crate::admission::Admitted;
use crate::forward::answer::Answer;
use crate::worker::Worker;

use global::CompiledGlobal;
pub use global::ControlPlane;

/// The limits of one place.
#[derive(Debug)]
pub struct CompiledLimits {
    local: Box<[CompiledLocal]>,
    /// Those for which somebody must be asked.
    global: Box<[CompiledGlobal]>,
}

#[derive(Debug)]
struct CompiledLocal {
    filter: CompiledFilter,
    /// In the order of the overrides.
    overrides: Box<[CompiledTexts]>,
    limiter: Arc<LocalLimiter>,
}

/// The buckets of one connection, for limits that count by connection.
#[derive(Debug, Default)]
pub(crate) struct ConnectionBuckets(OnceCell<Box<[Bucket]>>);

/// Who asks, and on which port.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asking<'a> {
    pub(crate) port: u16,
    pub(crate) identity: Option<&'a SpiffeId>,
    pub(crate) buckets: &'a ConnectionBuckets,
}

impl CompiledLimits {
    /// Compiles limits; none where there are none. Buckets of `previous` go on where their limit is the same. The sentences
    /// say what could not be compiled.
    pub fn compile(
        limits: &RateLimits,
        previous: Option<&Self>,
        problems: &mut Vec<String>,
    ) -> Option<Arc<Self>> {
        if limits.is_empty() {
            return None;
        }
        let known: Vec<Arc<LocalLimiter>> = previous
            .into_iter()
            .flat_map(|previous| &previous.local)
            .map(|local| local.limiter.clone())
            .collect();
        let local = limits.local.iter().map(|limit| {
            let mut say = |found: Vec<String>| {
                problems.extend(found.iter().map(|found| format!("{}: {found}", limit.origin)));
            };
            let (filter, found) = CompiledFilter::compile(&limit.matches);
            say(found);
            let overrides = limit.overrides.iter().map(|own| {
                let (texts, found) = CompiledTexts::compile(&own.identities);
                say(found);
                texts
            });
            let overrides = overrides.collect();
            CompiledLocal { filter, overrides, limiter: LocalLimiter::new(limit, &known) }
        });
        let local = local.collect();
        let global = limits.global.iter().map(|limit| CompiledGlobal::compile(limit, problems));
        let global = global.collect();
        Some(Arc::new(Self { local, global }))
    }

    /// Whether somebody may have to be asked about a request.
    pub(crate) fn asks(&self) -> bool {
        !self.global.is_empty()
    }

    /// Whether the rule that takes a request must be known before somebody is asked.
    pub(crate) fn needs_route(&self) -> bool {
        self.global.iter().any(CompiledGlobal::needs_route)
    }

    /// Has a request counted by all that are to be asked, after it has passed [`CompiledLimits::check`].
    pub(crate) async fn ask(
        &self,
        worker: &Rc<Worker>,
        head: &impl RequestHead,
        facts: DescriptorFacts<'_>,
        direction: Direction,
        admitted: &mut Admitted,
    ) -> Result<(), Answer> {
        for global in &self.global {
            global.check(worker, head, facts, direction, admitted).await?;
        }
        Ok(())
    }

    /// Takes a token of each limit that counts the request. The error is what the client gets instead.
    pub(crate) fn check(
        &self,
        worker: &Worker,
        asking: Asking<'_>,
        head: &impl RequestHead,
    ) -> Result<(), Answer> {
        let now = worker.age(Instant::now());
        let connection =
            asking.buckets.0.get_or_init(|| self.local.iter().map(|_| Bucket::default()).collect());
        let identity = asking.identity.map(SpiffeId::to_string);
        let identity = identity.as_deref().map(|text| text.trim_start_matches("spiffe://"));
        let nowhere = Bucket::default();
        for (place, local) in self.local.iter().enumerate() {
            let limit = local.limiter.limit();
            if limit.port.is_some_and(|port| port != asking.port) || !local.filter.takes(head) {
                continue;
            }
            let overridden = identity.and_then(|identity| {
                local.overrides.iter().position(|texts| texts.match_any(identity))
            });
            // A connection that began under other limits begins anew with those that came later.
            let bucket = connection.get(place).unwrap_or(&nowhere);
            let random = worker.random();
            match local.limiter.check(identity, overridden, bucket, random, now) {
                Limited::No | Limited::Counted => {}
                Limited::Refused(_) => return Err(refusal(limit)),
            }
        }
        Ok(())
    }
}

/// As Envoy's local rate limit answers; Linkerd gives gRPC clients RESOURCE_EXHAUSTED, which says more than UNAVAILABLE.
fn refusal(limit: &heddle_ir::rate_limit::LocalRateLimit) -> Answer {
    let mut answer = Answer::text(limit.status, Reason::RateLimit, "local_rate_limited");
    answer.grpc_status = Some(8);
    answer.headers.push((Cow::Borrowed("x-envoy-ratelimited"), "true".to_owned()));
    refusal_headers(&mut answer, &limit.response_headers);
    answer
}

/// What the user adds to the head of a refusal.
fn refusal_headers(answer: &mut Answer, edits: &HeaderEdits) {
    for (name, value) in &edits.set {
        answer.headers.retain(|(own, _)| **own != **name);
        answer.headers.push((Cow::Owned(name.to_string()), value.to_string()));
    }
    for (name, value) in &edits.add {
        answer.headers.push((Cow::Owned(name.to_string()), value.to_string()));
    }
    answer.headers.retain(|(own, _)| !edits.remove.iter().any(|name| **name == **own));
}

impl Worker {
    /// The time on the proxy's clock.
    pub(crate) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.shared.started)
    }
}
