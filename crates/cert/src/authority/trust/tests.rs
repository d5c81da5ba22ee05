use std::time::Duration;

use heddle_ident::SpiffeId;

use super::*;
use crate::simulation::fake_root;
use crate::{HolderId, RootId};

const DAY: Duration = Duration::from_hours(24);

fn start() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000)
}

fn domain(name: &str) -> TrustDomain {
    TrustDomain::parse(name).unwrap()
}

fn root(name: &str) -> Root {
    fake_root(name, start(), DAY * 365)
}

fn authority() -> Authority {
    Authority::new(domain("td"), root("own"), start())
}

fn names(authority: &Authority, of: &str) -> Vec<String> {
    let bundle = authority.bundle().unwrap();
    bundle.roots(&domain(of)).iter().map(|root| root.id.as_str().to_owned()).collect()
}

#[test]
fn each_domain_has_its_own_roots_and_an_alias_those_of_the_mesh_too() {
    let mut authority = authority();
    authority.federate(domain("partner"), vec![root("theirs")]).unwrap();
    authority.federate(domain("old"), vec![root("former")]).unwrap();
    authority.set_aliases(vec![domain("old"), domain("nick"), domain("td")]).unwrap();
    let trusted = [("td", vec![root("second"), root("own")]), ("partner", vec![root("more")])];
    let trusted = trusted.map(|(of, roots)| (domain(of), roots)).into();
    authority.set_trusted(trusted).unwrap();
    assert_eq!(names(&authority, "td"), ["own", "second"]);
    assert_eq!(names(&authority, "partner"), ["theirs", "more"]);
    assert_eq!(names(&authority, "old"), ["former", "own", "second"]);
    assert_eq!(names(&authority, "nick"), ["own", "second"]);
    assert!(names(&authority, "stranger").is_empty());
}

#[test]
fn a_change_is_a_generation_and_none_is_none() {
    let mut authority = authority();
    let before = authority.bundle().unwrap().generation();
    assert!(authority.set_aliases(vec![domain("a")]).unwrap().is_some());
    assert_eq!(authority.set_aliases(vec![domain("a")]).unwrap(), None);
    let trusted = || BTreeMap::from([(domain("td"), vec![root("x")])]);
    assert!(authority.set_trusted(trusted()).unwrap().is_some());
    assert_eq!(authority.set_trusted(trusted()).unwrap(), None);
    assert!(authority.set_revocation_lists(vec![Arc::from(*b"crl")]).unwrap().is_some());
    assert_eq!(authority.set_revocation_lists(vec![Arc::from(*b"crl")]).unwrap(), None);
    assert_eq!(authority.bundle().unwrap().generation(), before + 3);
    assert_eq!(authority.federate(domain("td"), vec![root("evil")]).unwrap_err().to_string(), {
        "roots cannot be distributed"
    });
    assert_eq!(
        authority.bundle().unwrap().generation(),
        before + 3,
        "what is refused changes nothing"
    );
    assert_eq!(names(&authority, "td"), ["own", "x"]);
}

#[test]
fn a_leaf_is_revoked_until_it_has_expired() {
    let mut authority = authority();
    let identity = SpiffeId::parse("spiffe://td/ns/n/sa/a").unwrap();
    let serial = Serial([7; 16]);
    let unknown = authority.revoke(start(), serial);
    assert_eq!(unknown, Err(AuthorityError::UnknownLeaf { serial }));
    authority.issue(start(), &HolderId::new("a"), &identity, DAY, serial).unwrap();
    assert!(authority.revoke(start(), serial).unwrap().is_some());
    assert_eq!(authority.revoke(start(), serial).unwrap(), None);
    assert_eq!(authority.bundle().unwrap().revoked(), [serial]);

    let mut restored = Authority::restore(authority.record());
    assert_eq!(restored.bundle().unwrap().revoked(), [serial], "a restart forgets nothing");
    assert!(restored.advance(start() + DAY).is_empty());
    assert_eq!(restored.bundle().unwrap().revoked(), [serial], "its last moment");
    let generation = restored.bundle().unwrap().generation();
    let changes = restored.advance(start() + DAY + Duration::from_secs(1));
    assert_eq!(changes, [AuthorityChange::Bundle { generation: generation + 1 }]);
    assert!(restored.bundle().unwrap().revoked().is_empty());
    assert_eq!(*restored.signer(), RootId::new("own"));
}

#[test]
fn a_serial_number_is_read_as_it_is_written() {
    let serial = Serial([0x0f; 16]);
    assert_eq!(serial.to_string().parse(), Ok(serial));
    let colons = "0f:".repeat(16);
    assert_eq!(colons.trim_end_matches(':').to_uppercase().parse(), Ok(serial));
    for text in ["", "0f", &"0".repeat(34), "xx0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f"] {
        assert!(text.parse::<Serial>().is_err(), "{text}");
    }
}
