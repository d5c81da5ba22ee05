//! Names that the workload has found addresses under: what its own name server answered it, and nothing else.
//!
//! Policies that allow by name (Cilium's `toFQDNs`) look here. An answer counts for as long as it may be kept, at least
//! five minutes, since programs keep addresses longer than they may, and at most a day. All names can be written down and
//! read again, so that a proxy that is started again knows what its workload goes on using (decision 80). Bounded; when it
//! is full, what ends first makes room.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

/// How long an answer counts at least and at most.
const LIFE_MIN: Duration = Duration::from_mins(5);
const LIFE_MAX: Duration = Duration::from_hours(24);
/// Addresses that are remembered.
const ADDRESSES_MAX: usize = 4096;
/// Names of one address.
const NAMES_MAX: usize = 32;
/// A name in its text form (RFC 1035 section 2.3.4).
const NAME_BYTES_MAX: usize = 253;
/// The longest text that is read.
pub(crate) const TEXT_BYTES_MAX: usize = 4 << 20;

/// What a proxy's name server answered; shared by its threads.
#[derive(Debug, Default)]
pub struct LearnedNames {
    by_address: RwLock<HashMap<IpAddr, Vec<Learned>>>,
    changed: watch::Sender<u64>,
}

/// A name of an address.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Learned {
    /// Lower case, without trailing dot.
    name: Arc<str>,
    /// When it ends to count, in seconds since 1970.
    until_s: u64,
}

/// Seconds since 1970: what is written down outlives the process, so that its own clock would not do.
pub(crate) fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl LearnedNames {
    /// Notes that the workload asked for a name and was answered with these addresses, to be kept for `ttl`.
    pub fn learn(&self, name: &str, addresses: &[IpAddr], ttl: Duration, now_s: u64) {
        if addresses.is_empty() || name.is_empty() || name.len() > NAME_BYTES_MAX {
            return;
        }
        let until_s = now_s + ttl.clamp(LIFE_MIN, LIFE_MAX).as_secs();
        let mut is_news = false;
        {
            let mut known = self.by_address.write().unwrap_or_else(PoisonError::into_inner);
            for address in addresses {
                is_news |= note(&mut known, address.to_canonical(), name, until_s, now_s);
            }
        }
        if is_news {
            self.changed.send_modify(|count| *count += 1);
        }
    }

    /// The names that an address was found under and that still count.
    pub(crate) fn of(&self, address: IpAddr, now_s: u64) -> Vec<String> {
        let known = self.by_address.read().unwrap_or_else(PoisonError::into_inner);
        let names = known.get(&address.to_canonical()).into_iter().flatten();
        names.filter(|own| own.until_s > now_s).map(|own| own.name.to_string()).collect()
    }

    /// Tells when something has been learned.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Every address and the names that it was found under and that still count, in order.
    pub(crate) fn all(&self, now_s: u64) -> Vec<(IpAddr, Vec<String>)> {
        let known = self.by_address.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<(IpAddr, Vec<String>)> = known
            .iter()
            .map(|(address, names)| {
                let names = names.iter().filter(|own| own.until_s > now_s);
                (*address, names.map(|own| own.name.to_string()).collect())
            })
            .collect();
        all.retain(|(_, names)| !names.is_empty());
        all.sort_unstable();
        all
    }

    /// Everything that counts, to be read again by [`LearnedNames::read`]: a line for each name and address.
    pub(crate) fn write(&self, now_s: u64) -> String {
        let known = self.by_address.read().unwrap_or_else(PoisonError::into_inner);
        let mut lines: Vec<(IpAddr, &Learned)> = known
            .iter()
            .flat_map(|(address, names)| names.iter().map(|own| (*address, own)))
            .filter(|(_, own)| own.until_s > now_s)
            .collect();
        lines.sort_unstable_by(|one, other| (one.0, &one.1.name).cmp(&(other.0, &other.1.name)));
        let mut text = String::new();
        for (address, Learned { name, until_s }) in lines {
            // Writing to a text cannot fail.
            let _ = writeln!(text, "{until_s} {address} {name}");
        }
        text
    }

    /// Takes what was written; lines that say nothing, or no longer count, are passed over.
    pub(crate) fn read(&self, text: &str, now_s: u64) {
        let mut known = self.by_address.write().unwrap_or_else(PoisonError::into_inner);
        // What was cut off in writing has no end.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        for line in whole.lines() {
            let mut parts = line.split(' ');
            let (Some(until_s), Some(address), Some(name), None) = (
                parts.next().and_then(|text| text.parse::<u64>().ok()),
                parts.next().and_then(|text| text.parse::<IpAddr>().ok()),
                parts.next().filter(|name| !name.is_empty() && name.len() <= NAME_BYTES_MAX),
                parts.next(),
            ) else {
                continue;
            };
            let until_s = until_s.min(now_s + LIFE_MAX.as_secs());
            if until_s > now_s {
                note(&mut known, address.to_canonical(), name, until_s, now_s);
            }
        }
    }
}

/// Answers whether it is worth being written down: new, or counting for longer by a fair part of its life.
fn note(
    known: &mut HashMap<IpAddr, Vec<Learned>>,
    address: IpAddr,
    name: &str,
    until_s: u64,
    now_s: u64,
) -> bool {
    if known.len() >= ADDRESSES_MAX && !known.contains_key(&address) {
        make_room(known, now_s);
    }
    let names = known.entry(address).or_default();
    if let Some(own) = names.iter_mut().find(|own| *own.name == *name) {
        let gained = until_s.saturating_sub(own.until_s);
        own.until_s = own.until_s.max(until_s);
        return gained > LIFE_MIN.as_secs() / 4;
    }
    names.retain(|own| own.until_s > now_s);
    if names.len() >= NAMES_MAX
        && let Some(first) = (0..names.len()).min_by_key(|place| names[*place].until_s)
    {
        names.swap_remove(first);
    }
    names.push(Learned { name: name.into(), until_s });
    true
}

/// Drops what no longer counts, else the address that ends first.
fn make_room(known: &mut HashMap<IpAddr, Vec<Learned>>, now_s: u64) {
    let until = |names: &[Learned]| names.iter().map(|own| own.until_s).max().unwrap_or(0);
    known.retain(|_, names| until(names) > now_s);
    if known.len() >= ADDRESSES_MAX {
        let first = known.iter().min_by_key(|(_, names)| until(names)).map(|(address, _)| *address);
        first.map(|address| known.remove(&address));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_answer_counts_for_its_time_within_bounds() {
        let names = LearnedNames::default();
        let (one, two) = (address("1.1.1.1"), address("::ffff:1.1.1.2"));
        names.learn("a.example", &[one, two], Duration::from_secs(1), 1000);
        names.learn("b.example", &[one], Duration::from_secs(100_000), 1000);
        assert_eq!(names.of(one, 1299), ["a.example", "b.example"]);
        assert_eq!(names.of(address("1.1.1.2"), 1299), ["a.example"]);
        assert_eq!(names.of(one, 1300), ["b.example"]);
        assert_eq!(names.of(one, 1000 + 86_400), Vec::<String>::new());
        assert_eq!(names.of(address("1.1.1.3"), 1000), Vec::<String>::new());
    }

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        let names = LearnedNames::default();
        names.learn("a.example", &[address("1.1.1.1")], Duration::ZERO, 1000);
        names.learn("b.example", &[address("2001:db8::1")], Duration::ZERO, 1100);
        let text = names.write(1200);
        assert_eq!(text, "1300 1.1.1.1 a.example\n1400 2001:db8::1 b.example\n");
        let again = LearnedNames::default();
        again.read(
            &format!("junk\n9 1.1.1.1\n1300 x y\n{text}9999999999 2.2.2.2 c\n1400 3.3.3.3 cut"),
            1350,
        );
        assert_eq!(again.of(address("1.1.1.1"), 1350), Vec::<String>::new());
        assert_eq!(again.of(address("2001:db8::1"), 1350), ["b.example"]);
        assert_eq!(again.of(address("3.3.3.3"), 1350), Vec::<String>::new());
        // Nobody keeps a name for longer than a day by writing it down.
        assert_eq!(again.of(address("2.2.2.2"), 1350 + 86_399), ["c"]);
        assert_eq!(again.of(address("2.2.2.2"), 1350 + 86_400), Vec::<String>::new());
    }

    #[test]
    fn full_of_addresses_what_ends_first_makes_room() {
        let names = LearnedNames::default();
        let of = |number: u32| IpAddr::from(std::net::Ipv4Addr::from(number));
        for number in 0..=u32::try_from(ADDRESSES_MAX).unwrap() {
            names.learn("a", &[of(number)], Duration::ZERO, 1000 + u64::from(number == 0));
        }
        assert_eq!(names.by_address.read().unwrap().len(), ADDRESSES_MAX);
        assert_eq!(names.of(of(0), 1000), ["a"]);
        for number in 0..=NAMES_MAX {
            names.learn(&format!("n{number}"), &[of(0)], Duration::ZERO, 1002);
        }
        assert_eq!(names.of(of(0), 1000).len(), NAMES_MAX);
    }
}
