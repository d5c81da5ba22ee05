//! Addresses for pods, services and ServiceEntries where no cluster allocates them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Numbers given to names, kept from one expansion to the next, so that an address stays with its name.
///
/// The maps are plain so that whoever keeps them can write them down.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Allocation {
    /// By `namespace/name` of the pod.
    pub pods: Slots,
    /// By `namespace/name` of the Service.
    pub services: Slots,
    /// By `namespace/name/host` of the ServiceEntry.
    pub entries: Slots,
}

/// The numbers of one kind.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Slots {
    /// Who has which number.
    pub taken: BTreeMap<String, u32>,
    /// Where the search for a free number begins: behind the last one given, so that an address does not come to
    /// another owner while others still remember the old one.
    pub next: u32,
}

impl Slots {
    /// The number of a name, given now if it has none. Numbers in `reserved` are never given. None when all `size`
    /// numbers are taken.
    pub(super) fn number(
        &mut self,
        name: &str,
        size: u32,
        reserved: &BTreeSet<u32>,
    ) -> Option<u32> {
        if let Some(number) = self.taken.get(name).copied() {
            if number < size && !reserved.contains(&number) {
                return Some(number);
            }
            self.taken.remove(name);
        }
        let used: BTreeSet<u32> = self.taken.values().copied().collect();
        let start = if self.next < size { self.next } else { 0 };
        let number = (start..size)
            .chain(0..start)
            .find(|number| !used.contains(number) && !reserved.contains(number))?;
        self.taken.insert(name.to_owned(), number);
        self.next = number + 1;
        Some(number)
    }

    /// Forgets names that are not there any more.
    pub(super) fn keep(&mut self, is_there: impl Fn(&str) -> bool) {
        self.taken.retain(|name, _| is_there(name));
    }
}

/// A range of IPv4 addresses of which some at the beginning and the last one are never given.
#[derive(Clone, Copy, Debug)]
pub(super) struct RangeV4 {
    pub(super) base: Ipv4Addr,
    pub(super) prefix_bits: u8,
    /// The first of them that is given.
    pub(super) first: u32,
}

impl RangeV4 {
    /// How many numbers there are.
    pub(super) fn size(self) -> u32 {
        // The last address is the broadcast address.
        (1_u32 << (32 - u32::from(self.prefix_bits))) - 1 - self.first
    }

    pub(super) fn address(self, number: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from_bits(self.base.to_bits() + self.first + number))
    }

    /// The number of an address in the range.
    pub(super) fn number(self, address: Ipv4Addr) -> Option<u32> {
        let number = address.to_bits().checked_sub(self.base.to_bits() + self.first)?;
        (number < self.size()).then_some(number)
    }
}

/// The IPv6 address with that number below a base.
pub(super) fn address_v6(base: Ipv6Addr, first: u32, number: u32) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from_bits(base.to_bits() + u128::from(first) + u128::from(number)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_and_are_not_given_again_at_once() {
        let mut slots = Slots::default();
        let none = BTreeSet::new();
        assert_eq!(slots.number("a", 3, &none), Some(0));
        assert_eq!(slots.number("b", 3, &none), Some(1));
        assert_eq!(slots.number("a", 3, &none), Some(0));
        slots.keep(|name| name == "b");
        assert_eq!(slots.number("c", 3, &none), Some(2), "the number of `a` rests");
        assert_eq!(slots.number("d", 3, &none), Some(0));
        assert_eq!(slots.number("e", 3, &none), None);
    }

    #[test]
    fn a_number_that_was_reserved_since_is_given_up() {
        let mut slots = Slots::default();
        assert_eq!(slots.number("a", 3, &BTreeSet::new()), Some(0));
        assert_eq!(slots.number("a", 3, &[0].into()), Some(1));
    }

    #[test]
    fn addresses_and_numbers_correspond() {
        let range = RangeV4 { base: Ipv4Addr::new(10, 244, 0, 0), prefix_bits: 16, first: 10 };
        assert_eq!(range.address(0).to_string(), "10.244.0.10");
        assert_eq!(range.address(range.size() - 1).to_string(), "10.244.255.254");
        assert_eq!(range.number(Ipv4Addr::new(10, 244, 0, 10)), Some(0));
        assert_eq!(range.number(Ipv4Addr::new(10, 244, 0, 9)), None);
        assert_eq!(range.number(Ipv4Addr::new(10, 244, 255, 255)), None);
        let base: Ipv6Addr = "fd68:6564:646c:10::".parse().unwrap();
        assert_eq!(address_v6(base, 16, 1).to_string(), "fd68:6564:646c:10::11");
    }
}
