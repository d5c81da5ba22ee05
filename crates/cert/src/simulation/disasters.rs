//! What happens to requests while the authority is away, and when clocks jump.
//!
//! A request is a handshake between two proxies: each needs a certificate that is valid on its own clock, and accepts
//! the other's by its own clock and its own bundle.

use super::*;

/// How often a proxy looks at the wall clock again, since its sleep does not follow it when it is set.
const CLOCK_CHECK: Duration = Duration::from_secs(5);

impl World {
    fn quiet(seed: u64) -> Self {
        let mut world = Self::new(seed);
        world.lifetime = LEAF_LIFETIME_DEFAULT;
        let root = fake_root("root", world.now, LEAF_LIFETIME_DEFAULT * 3_650);
        world.authority = Authority::new(world.authority.domain().clone(), root, world.now);
        world.delay_max = Duration::from_millis(100);
        world.loss_percent = 0;
        world.proxies.clear();
        for _ in 0..4 {
            world.start_proxy();
        }
        // Nobody waits for an answer of a day's certificate for minutes.
        for proxy in &mut world.proxies {
            let seed = world.seeded.next_u64();
            proxy.issuance = Issuance::new(proxy.identity.clone(), IssuancePolicy::default(), seed);
        }
        world.pass(Duration::from_mins(5), Duration::from_millis(200));
        assert_eq!(world.failed_requests(), 0, "everyone has a certificate");
        world
    }

    /// Lets time pass, in steps of at most so much, and returns how many requests failed of how many, one from each
    /// proxy to each other after every step.
    fn pass(&mut self, time: Duration, step: Duration) -> (usize, usize) {
        let (end, mut failed, mut made) = (self.now + time, 0, 0);
        while self.now < end {
            self.now += self.seeded.between(step / 2, step);
            let now = self.now;
            let network = std::mem::take(&mut self.network).into_iter();
            let (due, later): (Vec<_>, Vec<_>) = network.partition(|message| message.0 <= now);
            self.network = later;
            for (_, message) in due {
                self.deliver(message);
            }
            self.poll_proxies();
            self.check_the_clock();
            if !self.authority.advance(now).is_empty() {
                self.push_bundle();
            }
            failed += self.failed_requests();
            made += self.proxies.len() * (self.proxies.len() - 1);
        }
        (failed, made)
    }

    fn check_the_clock(&mut self) {
        let at_most = self.now + CLOCK_CHECK;
        self.proxies.iter_mut().for_each(|proxy| proxy.wake = proxy.wake.min(at_most));
    }

    fn failed_requests(&self) -> usize {
        let pairs = self.proxies.iter().enumerate().flat_map(|(from, client)| {
            let servers = self.proxies.iter().enumerate().filter(move |(to, _)| *to != from);
            servers.map(move |(_, server)| (client, server))
        });
        pairs
            .filter(|(client, server)| {
                !self.accepts(client, server) || !self.accepts(server, client)
            })
            .count()
    }

    fn accepts(&self, verifier: &Proxy, peer: &Proxy) -> bool {
        let now = verifier.clock(self.now);
        let Some(svid) = peer.issuance.current(peer.clock(self.now)) else { return false };
        let Some(bundle) = verifier.issuance.bundle() else { return false };
        let roots = bundle.roots(svid.identity.trust_domain());
        svid.validity.contains(now) && roots.iter().any(|root| root.id == svid.root)
    }

    /// Sets every clock of the machine; what is in flight stays in flight, and who sleeps sleeps on.
    fn jump(&mut self, forward: Duration, back: Duration) {
        let moved = |time: &mut SystemTime| *time = *time + forward - back;
        moved(&mut self.now);
        self.network.iter_mut().for_each(|(at, _)| moved(at));
        self.proxies.iter_mut().for_each(|proxy| moved(&mut proxy.wake));
    }
}

#[test]
fn an_authority_that_is_away_for_half_a_lifetime_costs_no_request() {
    let mut requests = 0;
    for seed in 0..64 {
        println!("seed {seed}");
        let mut world = World::quiet(seed);
        // Anywhere in the life of the certificates, the worst moment included: just before they are renewed.
        let before = world.lifetime / 64 * u32::try_from(seed).unwrap();
        let step = Duration::from_mins(2);
        let mut failed = 0;
        for (time, is_there) in
            [(before, true), (world.lifetime / 2, false), (world.lifetime, true)]
        {
            world.proxies.iter_mut().for_each(|proxy| proxy.connected = is_there);
            let (failed_now, made) = world.pass(time, step);
            failed += failed_now;
            requests += made;
        }
        assert_eq!(failed, 0);
        let status = |proxy: &Proxy| proxy.issuance.status(world.now);
        assert!(world.proxies.iter().all(|proxy| status(proxy).issued >= 2), "all have renewed");
    }
    println!("{requests} requests, 0 failed");
    assert!(requests > 500_000);
}

#[test]
fn a_machine_whose_clock_jumps_by_a_day_works_again_within_seconds() {
    let day = Duration::from_hours(24);
    for seed in 0..16 {
        for (forward, back) in [(day, Duration::ZERO), (Duration::ZERO, day)] {
            println!("seed {seed} forward {forward:?}");
            let mut world = World::quiet(seed);
            world.pass(world.lifetime / 20 * u32::try_from(seed).unwrap(), Duration::from_mins(5));
            world.jump(forward, back);
            world.check_the_clock();
            // Old certificates are not valid on the new clock: nothing is accepted that should not be.
            assert!(world.failed_requests() > 0);
            let mut gap = Duration::ZERO;
            while world.failed_requests() > 0 {
                world.pass(Duration::from_millis(100), Duration::from_millis(100));
                gap += Duration::from_millis(100);
                assert!(gap < Duration::from_mins(1), "still {} failures", world.failed_requests());
            }
            let (failed, _) = world.pass(world.lifetime, Duration::from_mins(5));
            assert_eq!(failed, 0, "after {gap:?}");
        }
    }
}

#[test]
fn a_single_clock_that_is_wrong_hurts_nobody_else_and_heals_when_it_is_set_right() {
    let day = Duration::from_hours(24);
    for seed in 0..16 {
        for skew in [(day, Duration::ZERO), (Duration::ZERO, day)] {
            let mut world = World::quiet(seed);
            world.proxies[0].skew = skew;
            for _ in 0..20 {
                world.pass(Duration::from_mins(10), Duration::from_secs(20));
                let others = &world.proxies[1..];
                let well = |a: &Proxy, b: &Proxy| world.accepts(a, b) && world.accepts(b, a);
                assert!(others.iter().all(|a| others.iter().all(|b| well(a, b))));
                assert!(!well(&world.proxies[0], &world.proxies[1]), "fails closed");
            }
            world.proxies[0].skew = (Duration::ZERO, Duration::ZERO);
            world.pass(Duration::from_mins(2), Duration::from_secs(1));
            assert_eq!(world.failed_requests(), 0);
        }
    }
}
