use std::sync::Arc;
use std::time::{Duration, SystemTime};

use heddle_ident::SpiffeId;

use super::*;
use crate::simulation::{FakeCrypto, fake_root, sign};
use crate::{Authority, HolderId, Serial};

const LIFETIME: Duration = Duration::from_hours(24);

fn start() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000)
}

fn identity() -> SpiffeId {
    SpiffeId::parse("spiffe://td/ns/n/sa/a").unwrap()
}

struct Fixture {
    crypto: FakeCrypto,
    authority: Authority,
    issuance: Issuance<u64>,
}

impl Fixture {
    fn new() -> Self {
        let root = fake_root("root-0", start(), LIFETIME * 1_000);
        let domain = identity().trust_domain().clone();
        Self {
            crypto: FakeCrypto::new(7),
            authority: Authority::new(domain, root, start()),
            issuance: Issuance::new(identity(), IssuancePolicy::default(), 7),
        }
    }

    fn request(&mut self, now: SystemTime) -> (u64, Arc<[u8]>) {
        match self.issuance.poll(now, &self.crypto) {
            Step::Request { attempt, csr } => (attempt, csr),
            Step::Wait { until } => panic!("waits until {until:?} instead of requesting"),
        }
    }

    fn wait(&mut self, now: SystemTime) -> SystemTime {
        match self.issuance.poll(now, &self.crypto) {
            Step::Wait { until } => until,
            Step::Request { .. } => panic!("requests instead of waiting"),
        }
    }

    fn issued(&mut self, now: SystemTime, csr: &[u8], lifetime: Duration) -> Issued {
        let holder = HolderId::new("h");
        let serial = Serial([1; 16]);
        let plan = self.authority.issue(now, &holder, &identity(), lifetime, serial).unwrap();
        let bundle = Arc::new(self.authority.bundle().unwrap());
        Issued { chain: sign(csr, &plan), root: plan.root, bundle }
    }

    fn obtain(&mut self, now: SystemTime, lifetime: Duration) {
        let (attempt, csr) = self.request(now);
        let issued = self.issued(now, &csr, lifetime);
        self.issuance.handle_issued(now, &self.crypto, attempt, issued).unwrap();
    }
}

#[test]
fn renewal_falls_before_half_life_and_differs_by_seed() {
    let mut waits = Vec::new();
    for seed in 0..50 {
        let mut fixture = Fixture::new();
        fixture.issuance = Issuance::new(identity(), IssuancePolicy::default(), seed);
        fixture.obtain(start(), LIFETIME);
        let wait = fixture.wait(start()).duration_since(start()).unwrap();
        assert!(wait >= LIFETIME * 40 / 100 && wait < LIFETIME * 46 / 100, "{wait:?}");
        waits.push(wait);
    }
    waits.sort_unstable();
    waits.dedup();
    assert!(waits.len() > 40, "jitter must spread renewals");
}

#[test]
fn a_lifetime_of_seconds_renews_before_half_of_what_is_left_not_of_the_backdated_span() {
    let mut fixture = Fixture::new();
    fixture.obtain(start(), Duration::from_secs(4));
    let wait = fixture.wait(start()).duration_since(start()).unwrap();
    assert!(wait > Duration::from_millis(1_500) && wait < Duration::from_millis(1_900), "{wait:?}");
}

#[test]
fn the_last_good_certificate_stays_until_it_expires_and_not_longer() {
    let mut fixture = Fixture::new();
    fixture.obtain(start(), Duration::from_mins(1));
    let mut now = start();
    let not_after = start() + Duration::from_mins(1);
    let mut requests = 0;
    loop {
        match fixture.issuance.poll(now, &fixture.crypto) {
            Step::Request { attempt, .. } => {
                requests += 1;
                fixture.issuance.handle_failure(now, attempt, "authority away");
            }
            Step::Wait { until } => {
                assert_eq!(fixture.issuance.current(now).is_some(), now <= not_after);
                now = until;
            }
        }
        if now > not_after + Duration::from_mins(5) {
            break;
        }
    }
    assert!(fixture.issuance.current(now).is_none());
    assert!(requests > 8, "only {requests} attempts before expiry");
    assert!(requests < 100, "{requests} attempts are a storm");
    assert_eq!(fixture.issuance.status(now).last_error.as_deref(), Some("authority away"));
    // It comes back as soon as the authority does.
    let (attempt, csr) = fixture.request(now + Duration::from_mins(1));
    let issued = fixture.issued(now, &csr, LIFETIME);
    fixture.issuance.handle_issued(now, &fixture.crypto, attempt, issued).unwrap();
    assert!(fixture.issuance.current(now).is_some());
    assert_eq!(fixture.issuance.status(now).last_error, None);
}

#[test]
fn back_off_doubles_up_to_its_bound_and_keeps_the_key() {
    let mut fixture = Fixture::new();
    let mut now = start();
    let mut first_csr = None;
    for failure in 0..20 {
        let (attempt, csr) = fixture.request(now);
        assert_eq!(&csr, first_csr.get_or_insert_with(|| csr.clone()));
        fixture.issuance.handle_failure(now, attempt, "no");
        let until = fixture.wait(now);
        let wait = until.duration_since(now).unwrap();
        let full = Duration::from_millis(100 << failure.min(12)).min(Duration::from_mins(1));
        assert!(wait >= full / 2 && wait <= full, "failure {failure}: {wait:?} of {full:?}");
        now = until;
    }
}

#[test]
fn a_late_answer_is_taken_and_its_successor_ignored() {
    let mut fixture = Fixture::new();
    let (first, csr) = fixture.request(start());
    let deadline = fixture.wait(start());
    assert_eq!(deadline, start() + Duration::from_secs(10));
    let retry = fixture.wait(deadline);
    let (second, same) = fixture.request(retry);
    assert_eq!((second, &same), (first + 1, &csr));
    let issued = fixture.issued(retry, &csr, LIFETIME);
    let issuance = &mut fixture.issuance;
    issuance.handle_issued(retry, &fixture.crypto, first, issued.clone()).unwrap();
    for attempt in [0, first, second, second + 1] {
        let answer = issuance.handle_issued(retry, &fixture.crypto, attempt, issued.clone());
        assert_eq!(answer, Err(IssuanceError::Stale { attempt }));
    }
    assert_eq!(issuance.status(retry).issued, 1);
}

#[test]
fn a_lost_request_is_repeated_while_a_short_certificate_still_lives() {
    let mut fixture = Fixture::new();
    fixture.obtain(start(), Duration::from_secs(3));
    let mut now = start();
    let mut lost = 0;
    while fixture.issuance.current(now).is_some() {
        match fixture.issuance.poll(now, &fixture.crypto) {
            Step::Request { .. } => lost += 1,
            Step::Wait { until } => now = until,
        }
    }
    assert!(lost >= 3, "only {lost} attempts");
}

#[test]
fn a_certificate_of_another_clock_or_another_key_is_not_taken() {
    let mut fixture = Fixture::new();
    let mut now = start();
    for shift in [Duration::from_mins(3), Duration::ZERO] {
        let (attempt, csr) = fixture.request(now);
        let issued = if shift.is_zero() {
            fixture.issued(now, b"spiffe://td/ns/n/sa/a|42", LIFETIME)
        } else {
            fixture.issued(now + shift, &csr, LIFETIME)
        };
        let error =
            fixture.issuance.handle_issued(now, &fixture.crypto, attempt, issued).unwrap_err();
        if shift.is_zero() {
            assert!(matches!(error, IssuanceError::Chain { .. }), "{error}");
        } else {
            assert!(matches!(error, IssuanceError::NotYetValid { .. }), "{error}");
        }
        assert!(fixture.issuance.current(now).is_none());
        now = fixture.wait(now);
    }
    let (attempt, csr) = fixture.request(now);
    let issued = fixture.issued(now - LIFETIME * 2, &csr, LIFETIME);
    let error = fixture.issuance.handle_issued(now, &fixture.crypto, attempt, issued).unwrap_err();
    assert!(matches!(error, IssuanceError::Expired { .. }), "{error}");
}

#[test]
fn a_clock_that_jumps_does_not_stall_renewal() {
    let mut fixture = Fixture::new();
    fixture.obtain(start(), LIFETIME);
    let past = start() - Duration::from_hours(72);
    assert!(fixture.issuance.current(past).is_none(), "not valid yet on the new clock");
    let (attempt, _) = fixture.request(past);
    fixture.issuance.handle_failure(past, attempt, "no");
    let further = past - Duration::from_hours(72);
    fixture.request(further);
    // And forward, past expiry.
    let mut fixture = Fixture::new();
    fixture.obtain(start(), LIFETIME);
    let future = start() + LIFETIME * 3;
    assert!(fixture.issuance.current(future).is_none());
    fixture.request(future);
}

#[test]
fn another_signer_renews_early_and_a_dropped_root_at_once() {
    let mut fixture = Fixture::new();
    fixture.obtain(start(), LIFETIME);
    let domain = identity().trust_domain().clone();
    let bundle = |generation: u64, signer: &str, roots: &[&str]| {
        let roots = roots.iter().map(|name| fake_root(name, start(), LIFETIME)).collect();
        TrustBundle::new(generation, domain.clone(), RootId::new(signer), roots).unwrap().into()
    };
    let held = fixture.issuance.bundle().unwrap().generation();
    assert!(!fixture.issuance.handle_bundle(start(), bundle(held, "x", &["x"])), "same generation");
    assert!(
        fixture.issuance.handle_bundle(start(), bundle(held + 1, "root-0", &["root-0", "root-1"]))
    );
    assert!(fixture.wait(start()) > start() + Duration::from_hours(10), "nothing to do yet");
    let both = bundle(held + 2, "root-1", &["root-0", "root-1"]);
    assert!(fixture.issuance.handle_bundle(start(), both));
    assert!(fixture.wait(start()) < start() + Duration::from_mins(1));
    assert!(fixture.issuance.handle_bundle(start(), bundle(held + 3, "root-1", &["root-1"])));
    fixture.request(start());
}

#[test]
fn a_key_that_cannot_be_made_is_a_failure_like_others() {
    struct Broken;
    impl Crypto for Broken {
        type Key = u64;
        fn make_key(&self, _: &SpiffeId) -> Result<(u64, Arc<[u8]>), CryptoError> {
            Err(CryptoError("no entropy".into()))
        }
        fn check_chain(
            &self,
            _: &u64,
            _: &SpiffeId,
            _: &[Arc<[u8]>],
            _: &TrustBundle,
        ) -> Result<Validity, CryptoError> {
            Err(CryptoError("unused".into()))
        }
    }
    let mut issuance = Issuance::new(identity(), IssuancePolicy::default(), 1);
    let Step::Wait { until } = issuance.poll(start(), &Broken) else {
        panic!("requested without a key")
    };
    assert!(until > start());
    let error = issuance.status(start()).last_error.unwrap();
    assert_eq!(error, "cannot make a key: no entropy");
}
