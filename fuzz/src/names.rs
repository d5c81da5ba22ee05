//! Names: what is parsed prints as something that parses to the same.

use std::fmt::{Debug, Display};

use heddle_ident::{Cidr, Host, HostPattern, Locality, SpiffeId, TrustDomain};

pub(crate) const SEEDS: &[&[u8]] = &[
    b"spiffe://cluster.local/ns/default/sa/reviews",
    b"spiffe://td",
    b"*.example.com",
    b"reviews.default.svc.cluster.local",
    b"fd00::1",
    b"10.0.0.0/8",
    b"::/0",
    b"region/zone/subzone",
];

pub(crate) fn names(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    same(text, |text| SpiffeId::parse(text).ok());
    same(text, |text| TrustDomain::parse(text).ok());
    same(text, |text| Host::parse(text).ok());
    same(text, |text| HostPattern::parse(text).ok());
    same(text, |text| Cidr::parse(text).ok());
    same(text, |text| Some(Locality::parse(text)));
    if let (Ok(pattern), Ok(host)) = (HostPattern::parse(text), Host::parse(text)) {
        assert!(pattern.matches(host.as_str()), "a name does not match itself");
    }
}

fn same<T: PartialEq + Debug + Display>(text: &str, parse: impl Fn(&str) -> Option<T>) {
    let Some(first) = parse(text) else { return };
    let printed = first.to_string();
    assert_eq!(parse(&printed), Some(first), "{text:?} prints as {printed:?}");
}
