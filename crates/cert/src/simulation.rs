//! Proxies and an authority on a virtual clock and a faulty network, by seed.
//!
//! Checked after every step: no proxy uses a certificate that is not valid, and every proxy that has one can be
//! verified by every other. Checked at the end of a run: rotations that were begun have come to their end.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use heddle_ident::{SpiffeId, TrustDomain};

use crate::seed::Seeded;
use crate::*;

mod disasters;

/// Keys are numbers; a request is `identity|key`, a certificate `identity|key|not_before|not_after|root`.
pub(crate) struct FakeCrypto(std::cell::RefCell<Seeded>);

impl FakeCrypto {
    pub(crate) fn new(seed: u64) -> Self {
        Self(std::cell::RefCell::new(Seeded::new(seed)))
    }
}

fn ms(time: SystemTime) -> u128 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis()
}

fn time(ms: &str) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(ms.parse().unwrap())
}

/// What an authority's signing makes of a request.
pub(crate) fn sign(csr: &[u8], plan: &IssuePlan) -> Vec<Arc<[u8]>> {
    let csr = std::str::from_utf8(csr).unwrap();
    let (from, to) = (ms(plan.validity.not_before), ms(plan.validity.not_after));
    vec![format!("{csr}|{from}|{to}|{}", plan.root.as_str()).into_bytes().into()]
}

impl Crypto for FakeCrypto {
    type Key = u64;

    fn make_key(&self, identity: &SpiffeId) -> Result<(u64, Arc<[u8]>), CryptoError> {
        let key = self.0.borrow_mut().next_u64();
        Ok((key, format!("{identity}|{key}").into_bytes().into()))
    }

    fn check_chain(
        &self,
        key: &u64,
        identity: &SpiffeId,
        chain: &[Arc<[u8]>],
        bundle: &TrustBundle,
    ) -> Result<Validity, CryptoError> {
        let text = chain.first().and_then(|leaf| std::str::from_utf8(leaf).ok()).unwrap_or("");
        let parts: Vec<&str> = text.split('|').collect();
        let [id, of_key, from, to, root] = parts[..] else {
            return Err(CryptoError("not a certificate".into()));
        };
        if id != identity.to_string() || of_key != key.to_string() {
            return Err(CryptoError("not for this key and identity".into()));
        }
        if !bundle.roots(identity.trust_domain()).iter().any(|held| held.id.as_str() == root) {
            return Err(CryptoError("no root vouches for it".into()));
        }
        Ok(Validity { not_before: time(from), not_after: time(to) })
    }
}

pub(crate) fn fake_root(name: &str, from: SystemTime, life: Duration) -> Root {
    let validity = Validity { not_before: from, not_after: from + life };
    Root { id: RootId::new(name), der: name.as_bytes().into(), validity }
}

enum Message {
    Request { proxy: usize, attempt: u64, csr: Arc<[u8]> },
    Answer { proxy: usize, attempt: u64, issued: Issued, serial: Serial },
    Installed { proxy: usize, serial: Serial },
    Bundle { proxy: usize, bundle: Arc<TrustBundle> },
    Acknowledge { proxy: usize, generation: u64 },
}

impl Message {
    fn proxy(&self) -> usize {
        match self {
            Self::Request { proxy, .. }
            | Self::Answer { proxy, .. }
            | Self::Installed { proxy, .. }
            | Self::Bundle { proxy, .. }
            | Self::Acknowledge { proxy, .. } => *proxy,
        }
    }
}

struct Proxy {
    holder: HolderId,
    identity: SpiffeId,
    issuance: Issuance<u64>,
    wake: SystemTime,
    connected: bool,
    /// How far its clock is ahead of the authority's, and how far behind.
    skew: (Duration, Duration),
}

impl Proxy {
    fn clock(&self, now: SystemTime) -> SystemTime {
        now + self.skew.0 - self.skew.1
    }
}

struct World {
    seeded: Seeded,
    now: SystemTime,
    crypto: FakeCrypto,
    authority: Authority,
    proxies: Vec<Proxy>,
    network: Vec<(SystemTime, Message)>,
    lifetime: Duration,
    delay_max: Duration,
    loss_percent: u64,
    serials: u128,
    rotations: u32,
    retired: u32,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut seeded = Seeded::new(seed);
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let domain = TrustDomain::parse("td").unwrap();
        let lifetime = [Duration::from_secs(3), Duration::from_mins(1), LEAF_LIFETIME_DEFAULT]
            [usize::try_from(seeded.below(3)).unwrap()];
        let root = fake_root("root-0", now, lifetime * 10_000);
        let loss_percent = seeded.below(30);
        let mut world = Self {
            crypto: FakeCrypto::new(seeded.next_u64()),
            authority: Authority::new(domain, root, now),
            seeded,
            now,
            proxies: Vec::new(),
            network: Vec::new(),
            lifetime,
            delay_max: lifetime / 100,
            loss_percent,
            serials: 0,
            rotations: 0,
            retired: 0,
        };
        for _ in 0..2 + world.seeded.below(5) {
            world.start_proxy();
        }
        world
    }

    /// Units of time follow the leaves' lifetime, so that days are as quick to simulate as seconds.
    fn unit(&self) -> Duration {
        self.lifetime / 300
    }

    fn start_proxy(&mut self) {
        let index = self.proxies.len();
        let identity = SpiffeId::parse(&format!("spiffe://td/ns/n/sa/s{index}")).unwrap();
        let policy = IssuancePolicy {
            back_off_min: self.unit() / 2,
            back_off_max: self.unit() * 20,
            request_timeout: self.unit() * 10,
            signer_change_spread: self.unit() * 30,
        };
        self.proxies.push(Proxy {
            holder: HolderId::new(format!("proxy-{index}")),
            issuance: Issuance::new(identity.clone(), policy, self.seeded.next_u64()),
            identity,
            wake: self.now,
            connected: true,
            skew: (Duration::ZERO, Duration::ZERO),
        });
    }

    fn send(&mut self, message: Message) {
        let lost = self.seeded.below(100) < self.loss_percent;
        if !lost && self.proxies[message.proxy()].connected {
            let delay = self.seeded.between(Duration::ZERO, self.delay_max);
            self.network.push((self.now + delay, message));
        }
    }

    fn push_bundle(&mut self) {
        let bundle = Arc::new(self.authority.bundle().unwrap());
        for proxy in 0..self.proxies.len() {
            self.send(Message::Bundle { proxy, bundle: bundle.clone() });
        }
    }

    fn deliver(&mut self, message: Message) {
        match message {
            Message::Request { proxy, attempt, csr } => {
                self.serials += 1;
                let serial = Serial(self.serials.to_be_bytes());
                let Proxy { holder, identity, .. } = &self.proxies[proxy];
                let (now, lifetime) = (self.now, self.lifetime);
                let plan = self.authority.issue(now, holder, identity, lifetime, serial).unwrap();
                let issued = Issued {
                    chain: sign(&csr, &plan),
                    root: plan.root,
                    bundle: Arc::new(self.authority.bundle().unwrap()),
                };
                self.send(Message::Answer { proxy, attempt, issued, serial });
            }
            Message::Answer { proxy, attempt, issued, serial } => {
                let generation = issued.bundle.generation();
                let now = self.proxies[proxy].clock(self.now);
                let issuance = &mut self.proxies[proxy].issuance;
                let taken = issuance.handle_issued(now, &self.crypto, attempt, issued);
                self.proxies[proxy].wake = self.now;
                if taken.is_ok() {
                    self.send(Message::Installed { proxy, serial });
                    self.send(Message::Acknowledge { proxy, generation });
                }
            }
            Message::Installed { proxy, serial } => {
                let Proxy { holder, identity, .. } = &self.proxies[proxy];
                self.authority.handle_installed(holder, identity, serial);
            }
            Message::Bundle { proxy, bundle } => {
                let now = self.proxies[proxy].clock(self.now);
                self.proxies[proxy].issuance.handle_bundle(now, bundle);
                self.proxies[proxy].wake = self.now;
                let held = self.proxies[proxy].issuance.bundle().unwrap().generation();
                self.send(Message::Acknowledge { proxy, generation: held });
            }
            Message::Acknowledge { proxy, generation } => {
                let holder = &self.proxies[proxy].holder;
                self.authority.handle_acknowledged(self.now, holder, generation);
            }
        }
    }

    fn poll_proxies(&mut self) {
        for proxy in 0..self.proxies.len() {
            if self.proxies[proxy].wake > self.now {
                continue;
            }
            let now = self.proxies[proxy].clock(self.now);
            match self.proxies[proxy].issuance.poll(now, &self.crypto) {
                Step::Request { attempt, csr } => {
                    self.proxies[proxy].wake = self.now;
                    self.send(Message::Request { proxy, attempt, csr });
                }
                Step::Wait { until } => {
                    let wait = until.duration_since(now).unwrap_or_default();
                    assert!(!wait.is_zero(), "a wait must end later than it begins");
                    self.proxies[proxy].wake = self.now + wait;
                }
            }
        }
    }

    fn disturb(&mut self) {
        match self.seeded.below(400) {
            0 => self.start_proxy(),
            1..8 => {
                let proxy = usize::try_from(self.seeded.below(self.proxies.len() as u64)).unwrap();
                self.proxies[proxy].connected ^= true;
            }
            8..12 => self.begin_rotation(),
            12 => self.authority = Authority::restore(self.authority.record()),
            13..40 => self.push_bundle(),
            _ => {}
        }
    }

    fn begin_rotation(&mut self) {
        let name = format!("root-{}", self.rotations + 1);
        let root = fake_root(&name, self.now, self.lifetime * 10_000);
        if self.authority.begin_rotation(root).is_ok() {
            self.rotations += 1;
            self.push_bundle();
        }
    }

    fn step(&mut self) {
        self.now += self.seeded.between(Duration::from_millis(1), self.unit());
        let now = self.now;
        let (due, later) = std::mem::take(&mut self.network).into_iter().partition(|m| m.0 <= now);
        self.network = later;
        let due: Vec<(SystemTime, Message)> = due;
        for (_, message) in due {
            self.deliver(message);
            self.check();
        }
        self.poll_proxies();
        for change in self.authority.advance(now) {
            self.retired += u32::from(matches!(change, AuthorityChange::RootRetired { .. }));
            self.push_bundle();
        }
        self.check();
    }

    fn check(&self) {
        for peer in &self.proxies {
            let Some(svid) = peer.issuance.current(self.now) else { continue };
            assert!(svid.validity.contains(self.now));
            for verifier in &self.proxies {
                // One without a certificate can neither call nor be called.
                if verifier.issuance.current(self.now).is_none() {
                    continue;
                }
                let bundle = verifier.issuance.bundle().expect("a bundle comes with a certificate");
                let roots = bundle.roots(svid.identity.trust_domain());
                assert!(
                    roots.iter().any(|root| root.id == svid.root),
                    "{} cannot verify {} of {}, phase {:?}",
                    verifier.identity,
                    svid.identity,
                    svid.root,
                    self.authority.status(self.now).phase,
                );
            }
        }
    }
}

#[test]
fn certificates_stay_valid_and_verifiable_through_losses_cuts_restarts_and_rotations() {
    let (mut rotations, mut retired) = (0, 0);
    for seed in 0..128 {
        // The last line printed names the run that failed.
        println!("seed {seed}");
        let mut world = World::new(seed);
        for _ in 0..2_000 {
            world.disturb();
            world.step();
        }
        // Quiet: everything is connected and nothing is lost; what was begun must end.
        world.loss_percent = 0;
        world.proxies.iter_mut().for_each(|proxy| proxy.connected = true);
        world.push_bundle();
        for _ in 0..1_200 {
            world.step();
        }
        assert_eq!(world.authority.status(world.now).phase, RotationPhase::Steady);
        assert_eq!(world.authority.roots().len(), 1);
        assert!(world.proxies.iter().all(|proxy| proxy.issuance.current(world.now).is_some()));
        rotations += world.rotations;
        retired += world.retired;
    }
    assert!(rotations > 0, "no rotation was simulated");
    assert_eq!(rotations, retired);
}

#[test]
fn twenty_rotations_a_minute_leave_no_gap() {
    let mut world = World::new(1);
    world.lifetime = Duration::from_secs(6);
    world.delay_max = world.lifetime / 100;
    world.loss_percent = 0;
    world.proxies.clear();
    for _ in 0..3 {
        world.start_proxy();
    }
    while world.proxies.iter().any(|proxy| proxy.issuance.current(world.now).is_none()) {
        world.step();
    }
    let end = world.now + Duration::from_mins(1);
    let counts = |world: &World| -> Vec<u64> {
        world.proxies.iter().map(|proxy| proxy.issuance.status(world.now).issued).collect()
    };
    let before = counts(&world);
    while world.now < end {
        world.step();
        assert!(world.proxies.iter().all(|proxy| proxy.issuance.current(world.now).is_some()));
    }
    for (before, after) in before.iter().zip(counts(&world)) {
        assert!(after - before >= 18, "only {} renewals", after - before);
    }
}
