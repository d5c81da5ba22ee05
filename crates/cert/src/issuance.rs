//! A proxy's side of issuance: request, receive, renew, back off, and never hand out what has expired.
//!
//! Sans-IO: [`Issuance::poll`] says what to do now, the `handle_*` methods take what came back. The driver
//! sends the request over the authenticated stream, sleeps until the step's time or an event, and after
//! every call gives [`Issuance::current`] to `tls`. One value serves one identity.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use heddle_ident::SpiffeId;

use crate::seed::Seeded;
use crate::{RootId, TrustBundle, Validity};

/// The last error is kept for people, not for machines; longer texts are cut.
const ERROR_CHARS_MAX: usize = 512;
/// Renewal falls into this part of what a certificate has left when it arrives, in thousandths: before half life, so
/// that an authority that goes away for half a lifetime at the worst moment is back before anything expires; spread so
/// that proxies that started together do not renew together.
const RENEW_PERMILLE: (u32, u32) = (400, 460);
/// While a good certificate remains, a retry waits at most this fraction of the rest of its life.
const RETRIES_IN_REMAINING: u32 = 8;
/// While a good certificate remains, an attempt waits at most this fraction of the rest of its life for an answer.
const ATTEMPTS_IN_REMAINING: u32 = 4;

/// What this crate needs done with keys and certificates, and must not do itself.
pub trait Crypto {
    /// A private key with its public half; cheap to clone.
    type Key: Clone;

    /// Makes a new key and a signing request (PKCS #10, DER) for `identity` signed with it.
    fn make_key(&self, identity: &SpiffeId) -> Result<(Self::Key, Arc<[u8]>), CryptoError>;

    /// Checks a chain (leaf first, DER) that an authority returned: it is for `key` and `identity`, and the
    /// roots of `bundle` vouch for it. Returns when the leaf may be used; whether that is now is not asked.
    fn check_chain(
        &self,
        key: &Self::Key,
        identity: &SpiffeId,
        chain: &[Arc<[u8]>],
        bundle: &TrustBundle,
    ) -> Result<Validity, CryptoError>;
}

/// Why a key could not be made or a chain is not what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CryptoError(pub String);

/// The waits of an [`Issuance`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuancePolicy {
    /// Wait after the first failure; it doubles with every further one.
    pub back_off_min: Duration,
    /// The longest wait between attempts.
    pub back_off_max: Duration,
    /// How long an answer may take; less while a certificate with a short rest of its life is in use. A late answer
    /// is still taken.
    pub request_timeout: Duration,
    /// When the authority signs with another root, leaves are renewed within this time, spread evenly.
    pub signer_change_spread: Duration,
}

impl Default for IssuancePolicy {
    fn default() -> Self {
        Self {
            back_off_min: Duration::from_millis(100),
            back_off_max: Duration::from_mins(1),
            request_timeout: Duration::from_secs(10),
            signer_change_spread: Duration::from_mins(1),
        }
    }
}

/// A certificate with its key, as it is used.
#[derive(Clone, PartialEq, Eq)]
pub struct Svid<K> {
    /// Whom it names.
    pub identity: SpiffeId,
    /// The key.
    pub key: K,
    /// The chain, leaf first, without the root, in DER.
    pub chain: Vec<Arc<[u8]>>,
    /// When the leaf may be used.
    pub validity: Validity,
    /// The root that vouches for it.
    pub root: RootId,
}

impl<K> fmt::Debug for Svid<K> {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Svid")
            .field("identity", &self.identity)
            .field("validity", &self.validity)
            .field("root", &self.root)
            .finish_non_exhaustive()
    }
}

/// What an authority answers. The bundle comes with the chain, so that a proxy never holds a certificate
/// without the roots its peers are verified with.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The chain, leaf first, without the root, in DER.
    pub chain: Vec<Arc<[u8]>>,
    /// The root that vouches for it.
    pub root: RootId,
    /// The bundle at the moment of signing.
    pub bundle: Arc<TrustBundle>,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Send this request; answer with [`Issuance::handle_issued`] or [`Issuance::handle_failure`], then poll.
    Request {
        /// Names the attempt in the answer.
        attempt: u64,
        /// The signing request, PKCS #10 in DER.
        csr: Arc<[u8]>,
    },
    /// Poll again at this time, or earlier when something came.
    Wait {
        /// When.
        until: SystemTime,
    },
}

/// Why an answer was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IssuanceError {
    /// The chain is not what was asked for.
    #[error("certificate for {identity} is not usable")]
    Chain {
        /// The identity asked for.
        identity: SpiffeId,
        /// What is wrong.
        #[source]
        source: CryptoError,
    },
    /// The certificate had expired when it arrived: the authority's clock is behind, or the answer was late.
    #[error("certificate for {identity} had expired {ago:?} before it arrived")]
    Expired {
        /// The identity asked for.
        identity: SpiffeId,
        /// How long ago.
        ago: Duration,
    },
    /// The certificate is not valid yet: this machine's clock is behind the authority's.
    #[error("certificate for {identity} becomes valid only in {ahead:?}: compare the clocks")]
    NotYetValid {
        /// The identity asked for.
        identity: SpiffeId,
        /// How far ahead.
        ahead: Duration,
    },
    /// The answer belongs to a renewal that is over; it is ignored.
    #[error("answer to attempt {attempt} of a renewal that is over")]
    Stale {
        /// The attempt.
        attempt: u64,
    },
}

/// Where an [`Issuance`] stands, for people and metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuanceStatus {
    /// Whose certificate it is.
    pub identity: SpiffeId,
    /// Validity of the present certificate; none when there is no usable one.
    pub validity: Option<Validity>,
    /// The root that vouches for the present certificate.
    pub root: Option<RootId>,
    /// When the next attempt is due; none while one runs.
    pub next_attempt: Option<SystemTime>,
    /// Failures since the last success.
    pub failures: u32,
    /// Certificates received so far.
    pub issued: u64,
    /// The last failure since the last success.
    pub last_error: Option<String>,
    /// Generation of the present bundle.
    pub bundle_generation: Option<u64>,
}

/// The state machine.
pub struct Issuance<K> {
    identity: SpiffeId,
    policy: IssuancePolicy,
    seeded: Seeded,
    state: State,
    pending: Option<Pending<K>>,
    current: Option<Arc<Svid<K>>>,
    bundle: Option<Arc<TrustBundle>>,
    attempts: u64,
    failures: u32,
    issued: u64,
    last_error: Option<String>,
}

/// Key and request of the renewal under way, kept across its attempts.
#[derive(Clone)]
struct Pending<K> {
    key: K,
    csr: Arc<[u8]>,
    first_attempt: u64,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// A certificate is there; renew at this time.
    Fresh { renew_at: SystemTime },
    /// The last attempt failed; try again at this time.
    BackOff { until: SystemTime },
    /// An attempt is due.
    Due,
    /// An attempt runs until this time.
    Requested { deadline: SystemTime },
}

impl<K: Clone> Issuance<K> {
    /// A state machine without a certificate; the first poll requests one.
    pub fn new(identity: SpiffeId, policy: IssuancePolicy, seed: u64) -> Self {
        Self {
            identity,
            policy,
            seeded: Seeded::new(seed),
            state: State::Due,
            pending: None,
            current: None,
            bundle: None,
            attempts: 0,
            failures: 0,
            issued: 0,
            last_error: None,
        }
    }

    /// The certificate to use at `now`, none when there is none or it is not valid: then no peer can be served.
    pub fn current(&self, now: SystemTime) -> Option<&Arc<Svid<K>>> {
        self.current.as_ref().filter(|svid| svid.validity.contains(now))
    }

    /// The newest bundle, none before the first answer.
    pub fn bundle(&self) -> Option<&Arc<TrustBundle>> {
        self.bundle.as_ref()
    }

    /// What to do at `now`.
    pub fn poll(&mut self, now: SystemTime, crypto: &dyn Crypto<Key = K>) -> Step {
        if let State::Requested { deadline } = self.state
            && (now >= deadline || too_far(deadline, now, self.policy.request_timeout))
        {
            self.fail(now, "no answer in time");
        }
        if self.is_due(now) {
            return self.request(now, crypto);
        }
        let until = match self.state {
            State::Fresh { renew_at } => renew_at,
            State::BackOff { until } => until,
            State::Due => now,
            State::Requested { deadline } => deadline,
        };
        // Wake just after the certificate expires, too, so that the driver withdraws it.
        let expiry =
            self.current(now).map(|svid| svid.validity.not_after + Duration::from_millis(1));
        Step::Wait { until: expiry.map_or(until, |expiry| expiry.min(until)) }
    }

    /// Takes the answer to `attempt`, also a late one while no other has come. On an error other than [`IssuanceError::Stale`] a new attempt follows
    /// after a wait, and the last good certificate stays.
    pub fn handle_issued(
        &mut self,
        now: SystemTime,
        crypto: &dyn Crypto<Key = K>,
        attempt: u64,
        issued: Issued,
    ) -> Result<Arc<Svid<K>>, IssuanceError> {
        let expected =
            |pending: &&Pending<K>| pending.first_attempt <= attempt && attempt <= self.attempts;
        let Some(pending) = self.pending.as_ref().filter(expected) else {
            return Err(IssuanceError::Stale { attempt });
        };
        let key = pending.key.clone();
        match self.accept(now, crypto, key, issued) {
            Ok(svid) => Ok(svid),
            Err(error) => {
                let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
                self.fail(now, &format!("{error}{}", cause.unwrap_or_default()));
                Err(error)
            }
        }
    }

    /// Notes that `attempt` failed; `reason` is for people. Ignored when the attempt was given up.
    pub fn handle_failure(&mut self, now: SystemTime, attempt: u64, reason: impl Into<String>) {
        if self.awaits(attempt) {
            self.fail(now, &reason.into());
        }
    }

    /// Takes a bundle from the stream; says whether it is news. An older one is ignored. When it names another
    /// signer than the leaf's root, the leaf is renewed early; when it drops the leaf's root, at once.
    pub fn handle_bundle(&mut self, now: SystemTime, bundle: Arc<TrustBundle>) -> bool {
        let held = self.bundle.as_ref().map(|held| held.generation());
        if held.is_some_and(|held| bundle.generation() <= held) {
            return false;
        }
        self.bundle = Some(bundle);
        self.compare_root(now);
        true
    }

    /// Brings the next renewal forward into `[now, now + spread)`; never puts it off.
    pub fn renew_within(&mut self, now: SystemTime, spread: Duration) {
        if let State::Fresh { renew_at } = self.state {
            let at = now + self.seeded.between(Duration::ZERO, spread);
            self.state = State::Fresh { renew_at: renew_at.min(at) };
        }
    }

    /// Where this issuance stands at `now`.
    pub fn status(&self, now: SystemTime) -> IssuanceStatus {
        let current = self.current(now);
        IssuanceStatus {
            identity: self.identity.clone(),
            validity: current.map(|svid| svid.validity),
            root: current.map(|svid| svid.root.clone()),
            next_attempt: match self.state {
                State::Fresh { renew_at } => Some(renew_at),
                State::BackOff { until } => Some(until),
                State::Due => Some(now),
                State::Requested { .. } => None,
            },
            failures: self.failures,
            issued: self.issued,
            last_error: self.last_error.clone(),
            bundle_generation: self.bundle.as_ref().map(|bundle| bundle.generation()),
        }
    }

    fn is_due(&self, now: SystemTime) -> bool {
        match self.state {
            State::Fresh { renew_at } => now >= renew_at || self.current(now).is_none(),
            State::BackOff { until } => {
                now >= until || too_far(until, now, self.policy.back_off_max)
            }
            State::Due => true,
            State::Requested { .. } => false,
        }
    }

    fn awaits(&self, attempt: u64) -> bool {
        matches!(self.state, State::Requested { .. }) && attempt == self.attempts
    }

    fn request(&mut self, now: SystemTime, crypto: &dyn Crypto<Key = K>) -> Step {
        let csr = match &self.pending {
            Some(pending) => pending.csr.clone(),
            None => match crypto.make_key(&self.identity) {
                Ok((key, csr)) => {
                    let first_attempt = self.attempts + 1;
                    self.pending = Some(Pending { key, csr: csr.clone(), first_attempt });
                    csr
                }
                Err(error) => {
                    let until = self.fail(now, &format!("cannot make a key: {error}"));
                    return Step::Wait { until };
                }
            },
        };
        self.attempts += 1;
        let timeout = self.remaining(now).map_or(self.policy.request_timeout, |remaining| {
            let share = (remaining / ATTEMPTS_IN_REMAINING).max(self.policy.back_off_min);
            share.min(self.policy.request_timeout)
        });
        self.state = State::Requested { deadline: now + timeout };
        Step::Request { attempt: self.attempts, csr }
    }

    fn accept(
        &mut self,
        now: SystemTime,
        crypto: &dyn Crypto<Key = K>,
        key: K,
        issued: Issued,
    ) -> Result<Arc<Svid<K>>, IssuanceError> {
        let identity = self.identity.clone();
        let validity = crypto
            .check_chain(&key, &identity, &issued.chain, &issued.bundle)
            .map_err(|source| IssuanceError::Chain { identity: identity.clone(), source })?;
        if let Ok(ahead) = validity.not_before.duration_since(now)
            && !ahead.is_zero()
        {
            return Err(IssuanceError::NotYetValid { identity, ahead });
        }
        let remaining = validity.not_after.duration_since(now).map_err(|error| {
            IssuanceError::Expired { identity: identity.clone(), ago: error.duration() }
        })?;
        let Issued { chain, root, bundle } = issued;
        let svid = Arc::new(Svid { identity, key, chain, validity, root });
        let (low, high) = RENEW_PERMILLE;
        let wait = self.seeded.between(remaining * low / 1000, remaining * high / 1000);
        self.current = Some(svid.clone());
        self.state = State::Fresh { renew_at: now + wait };
        self.pending = None;
        self.failures = 0;
        self.issued += 1;
        self.last_error = None;
        // After the certificate: the bundle held by now may already name another signer.
        if !self.handle_bundle(now, bundle) {
            self.compare_root(now);
        }
        Ok(svid)
    }

    /// Renews early when the bundle no longer agrees with the leaf's root.
    fn compare_root(&mut self, now: SystemTime) {
        let (Some(svid), Some(bundle)) = (&self.current, &self.bundle) else { return };
        let own = bundle.roots(self.identity.trust_domain());
        if !own.iter().any(|root| root.id == svid.root) {
            self.renew_within(now, Duration::ZERO);
        } else if *bundle.signer() != svid.root {
            self.renew_within(now, self.policy.signer_change_spread);
        }
    }

    /// What is left of the present certificate's life.
    fn remaining(&self, now: SystemTime) -> Option<Duration> {
        let not_after = self.current.as_ref()?.validity.not_after;
        not_after.duration_since(now).ok()
    }

    /// Notes a failure and returns when the next attempt is due.
    fn fail(&mut self, now: SystemTime, reason: &str) -> SystemTime {
        let policy = &self.policy;
        let doublings = self.failures.min(20);
        let mut wait = policy.back_off_min.saturating_mul(1 << doublings).min(policy.back_off_max);
        let remaining =
            self.current.as_ref().and_then(|svid| svid.validity.not_after.duration_since(now).ok());
        if let Some(remaining) = remaining {
            wait = wait.min((remaining / RETRIES_IN_REMAINING).max(policy.back_off_min));
        }
        let until = now + self.seeded.between(wait / 2, wait);
        self.state = State::BackOff { until };
        self.failures = self.failures.saturating_add(1);
        self.last_error = Some(reason.chars().take(ERROR_CHARS_MAX).collect());
        until
    }
}

impl<K> fmt::Debug for Issuance<K> {
    /// Without keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuance")
            .field("identity", &self.identity)
            .field("state", &self.state)
            .field("current", &self.current)
            .field("failures", &self.failures)
            .finish_non_exhaustive()
    }
}

/// Whether a wait that was at most `max` when it began now seems longer: the clock was set back.
fn too_far(until: SystemTime, now: SystemTime, max: Duration) -> bool {
    until.duration_since(now).is_ok_and(|wait| wait > max)
}

#[cfg(test)]
mod tests;
