//! Many clients, one server, faulty links and restarts, by seed. `HEDDLE_SIM_SEED` replays one.

use std::collections::{BTreeMap, VecDeque};

use heddle_ir::resource::ResourceName;
use heddle_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node};
use heddle_sync::{Client, Effect, Holdings, ServerStream};

use crate::world::{Random, World, content, name};

const NAMES: usize = 12;
/// A resource with such a content is refused.
const POISON: u32 = 13;

struct Link {
    to_server: VecDeque<DeltaDiscoveryRequest>,
    to_client: VecDeque<DeltaDiscoveryResponse>,
    server: ServerStream,
}

struct Peer {
    client: Client,
    holdings: Holdings,
    /// What the data plane would use.
    applied: BTreeMap<ResourceName, u32>,
    link: Option<Link>,
}

struct Simulation {
    random: Random,
    world: World,
    peers: Vec<Peer>,
    sent: usize,
}

impl Peer {
    fn new() -> Self {
        let (client, holdings) = (Client::new(Node::default()), Holdings::new());
        Self { client, holdings, applied: BTreeMap::new(), link: None }
    }

    fn want(&mut self, name: &ResourceName, wanted: bool) {
        let effects = if wanted { self.holdings.want(name) } else { self.holdings.unwant(name) };
        self.follow(effects);
    }

    fn follow(&mut self, effects: heddle_sync::Effects) {
        effects.unwant.iter().for_each(|name| self.client.unwant(name));
        effects.want.iter().for_each(|name| self.client.want(name));
        for effect in effects.effects {
            match effect {
                Effect::Set(name, resource) => {
                    assert_ne!(content(&resource), POISON, "a refused resource took effect");
                    self.applied.insert(name, content(&resource));
                }
                Effect::Unset(name) => drop(self.applied.remove(&name)),
            }
        }
    }

    fn connect(&mut self) {
        let (to_server, to_client) = (VecDeque::new(), VecDeque::new());
        self.link = Some(Link { to_server, to_client, server: ServerStream::new() });
        self.client.handle_connect();
    }

    fn disconnect(&mut self) {
        self.link = None;
        self.client.handle_disconnect();
    }

    /// Moves one message, chosen by `choice`; false: there is none.
    fn step(&mut self, world: &mut World, choice: usize, sent: &mut usize) -> bool {
        let Some(link) = &mut self.link else { return false };
        for attempt in 0..4 {
            let mut effects = heddle_sync::Effects::default();
            let moved = match (choice + attempt) % 4 {
                0 => self.client.poll_transmit().map(|r| link.to_server.push_back(r)),
                1 => link.server.poll_transmit(world).map(|response| {
                    *sent += response.resources.len();
                    link.to_client.push_back(response);
                }),
                2 => link.to_server.pop_front().map(|request| {
                    link.server.handle_request(&request).unwrap();
                }),
                _ => link.to_client.pop_front().map(|response| {
                    let updates = self.client.handle_response(response, |_, resource| {
                        if content(resource) == POISON { Err("poison".into()) } else { Ok(()) }
                    });
                    effects = self.holdings.apply(updates.unwrap_or_default());
                }),
            };
            if moved.is_some() {
                self.follow(effects);
                return true;
            }
        }
        false
    }
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let peers = (0..=random.below(4)).map(|_| Peer::new()).collect();
        Self { random, world: World::default(), peers, sent: 0 }
    }

    fn changed(&mut self, index: usize) {
        for link in self.peers.iter_mut().filter_map(|peer| peer.link.as_mut()) {
            link.server.handle_change(&name(index));
        }
    }

    fn step(&mut self) {
        let index = self.random.below(NAMES);
        let peer = self.random.below(self.peers.len());
        match self.random.below(100) {
            0..10 => {
                let content = [2, 3, 5, POISON][self.random.below(4)];
                self.world.set(index, content);
                self.changed(index);
            }
            10..14 => {
                self.world.remove(index);
                self.changed(index);
            }
            14..24 => self.peers[peer].want(&name(index), true),
            24..30 => self.peers[peer].want(&name(index), false),
            30..33 => self.peers[peer].disconnect(),
            33..40 if self.peers[peer].link.is_none() => self.peers[peer].connect(),
            // The server is killed.
            40 => self.peers.iter_mut().for_each(Peer::disconnect),
            _ => {
                let choice = self.random.below(4);
                self.peers[peer].step(&mut self.world, choice, &mut self.sent);
            }
        }
    }

    /// Connects everyone and carries messages until all is quiet.
    fn settle(&mut self) {
        for peer in &mut self.peers {
            if peer.link.is_none() {
                peer.connect();
            }
            let mut steps = 0;
            while peer.step(&mut self.world, steps, &mut self.sent) {
                steps += 1;
                assert!(steps < 10_000, "never quiet");
            }
            assert!(peer.link.as_ref().is_some_and(|link| link.server.is_settled()));
        }
    }

    fn check_converged(&self) {
        for peer in &self.peers {
            for name in (0..NAMES).map(name) {
                let applied = peer.applied.get(&name);
                let wanted = peer.client.wants(&name);
                match self.world.numbers.get(&name) {
                    _ if !wanted => assert_eq!(applied, None, "{name} is held but not wanted"),
                    // Keeps whatever it had before.
                    Some(&POISON) => assert_ne!(applied, Some(&POISON)),
                    current => assert_eq!(applied, current, "{name}"),
                }
                let held = peer.holdings.effective(&name).map(content);
                assert_eq!(held.as_ref(), applied);
                assert!(applied.is_none() || peer.client.version(&name).is_some());
            }
        }
    }
}

fn run(seed: u64) {
    let mut simulation = Simulation::new(seed);
    for _ in 0..5 {
        for _ in 0..300 {
            simulation.step();
        }
        simulation.settle();
        simulation.check_converged();
    }
    // Everyone comes back: only what is refused is offered again, since the new stream cannot know of that.
    simulation.peers.iter_mut().for_each(Peer::disconnect);
    simulation.sent = 0;
    simulation.settle();
    simulation.check_converged();
    let poisoned = |peer: &Peer| {
        let poison = |index: &usize| simulation.world.numbers.get(&name(*index)) == Some(&POISON);
        (0..NAMES).filter(|i| peer.client.wants(&name(*i))).filter(poison).count()
    };
    let refused: usize = simulation.peers.iter().map(poisoned).sum();
    // Once together, once alone.
    assert!(simulation.sent <= 2 * refused, "{} sent for {refused} refused", simulation.sent);
}

#[test]
fn clients_converge_whatever_the_links_do() {
    if let Ok(seed) = std::env::var("HEDDLE_SIM_SEED") {
        return run(seed.parse().unwrap());
    }
    for seed in 0..300 {
        let outcome = std::panic::catch_unwind(|| run(seed));
        assert!(outcome.is_ok(), "replay with HEDDLE_SIM_SEED={seed}");
    }
}
