use std::time::{Duration, SystemTime};

use heddle_ident::{SpiffeId, TrustDomain};

use super::*;
use crate::simulation::fake_root;

const DAY: Duration = Duration::from_hours(24);

fn start() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000)
}

fn authority() -> Authority {
    let domain = TrustDomain::parse("td").unwrap();
    Authority::new(domain, fake_root("old", start(), DAY * 365), start())
}

fn id(name: &str) -> SpiffeId {
    SpiffeId::parse(&format!("spiffe://td/ns/n/sa/{name}")).unwrap()
}

fn holder(name: &str) -> HolderId {
    HolderId::new(name)
}

fn serial(number: u8) -> Serial {
    Serial([number; 16])
}

fn issue(authority: &mut Authority, now: SystemTime, name: &str, number: u8) -> RootId {
    authority.issue(now, &holder(name), &id(name), DAY, serial(number)).unwrap().root
}

fn acknowledge(authority: &mut Authority, name: &str) {
    let generation = authority.bundle().unwrap().generation();
    authority.handle_acknowledged(start(), &holder(name), generation);
}

#[test]
fn a_rotation_waits_for_every_acknowledgement_and_then_for_every_leaf() {
    let mut authority = authority();
    issue(&mut authority, start(), "a", 1);
    issue(&mut authority, start(), "b", 2);
    authority.begin_rotation(fake_root("new", start(), DAY * 365)).unwrap();
    assert!(authority.advance(start()).is_empty());
    acknowledge(&mut authority, "a");
    assert!(authority.advance(start()).is_empty());
    let status = authority.status(start());
    assert_eq!((status.waiting, status.sample), (1, vec![holder("b")]));
    assert_eq!(status.ends_by, Some(start() + DAY));
    assert_eq!(issue(&mut authority, start(), "b", 3).as_str(), "old", "the old root still signs");

    acknowledge(&mut authority, "b");
    let changes = authority.advance(start());
    assert_eq!(changes[0], AuthorityChange::SignerSwitched { root: RootId::new("new") });
    assert_eq!(authority.bundle().unwrap().roots(authority.domain()).len(), 2);
    assert_eq!(authority.bundle().unwrap().signer().as_str(), "new");

    assert_eq!(issue(&mut authority, start(), "a", 4).as_str(), "new");
    issue(&mut authority, start(), "b", 5);
    authority.handle_installed(&holder("a"), &id("a"), serial(4));
    let refused = authority.retire(start(), &RootId::new("old")).unwrap_err();
    assert_eq!(
        refused,
        AuthorityError::RetireRefused {
            root: RootId::new("old"),
            refusal: RetireRefusal::LiveLeaves {
                leaves: 2,
                holders: 1,
                until: start() + DAY,
                example: "b".into()
            }
        }
    );
    assert!(authority.advance(start()).is_empty());
    authority.handle_installed(&holder("b"), &id("b"), serial(5));
    let changes = authority.advance(start());
    assert_eq!(changes[0], AuthorityChange::RootRetired { root: RootId::new("old") });
    assert_eq!(authority.roots().len(), 1);
    assert_eq!(authority.status(start()).phase, RotationPhase::Steady);
}

#[test]
fn a_silent_holder_blocks_until_its_leaf_expires_or_it_is_gone() {
    for gone in [false, true] {
        let mut authority = authority();
        issue(&mut authority, start(), "silent", 1);
        authority.begin_rotation(fake_root("new", start(), DAY * 365)).unwrap();
        assert!(authority.advance(start() + DAY).is_empty(), "valid to the last moment");
        let later = if gone {
            authority.forget_holder(&holder("silent"));
            start()
        } else {
            start() + DAY + Duration::from_secs(1)
        };
        assert_eq!(authority.advance(later).len(), 4, "switched and retired");
        assert_eq!(authority.roots().len(), 1);
    }
}

#[test]
fn an_acknowledgement_before_the_first_leaf_counts_and_one_of_the_future_does_not() {
    let mut authority = authority();
    authority.begin_rotation(fake_root("new", start(), DAY * 365)).unwrap();
    acknowledge(&mut authority, "early");
    issue(&mut authority, start(), "early", 1);
    issue(&mut authority, start(), "liar", 2);
    authority.handle_acknowledged(start(), &holder("liar"), u64::MAX);
    assert!(authority.advance(start()).is_empty());
    assert_eq!(authority.status(start()).sample, vec![holder("liar")]);
}

#[test]
fn only_one_rotation_runs_and_it_can_be_given_up_before_the_switch() {
    let mut authority = authority();
    issue(&mut authority, start(), "a", 1);
    authority.begin_rotation(fake_root("new", start(), DAY * 365)).unwrap();
    let other = fake_root("other", start(), DAY);
    assert!(matches!(
        authority.begin_rotation(other.clone()),
        Err(AuthorityError::RotationRuns { .. })
    ));
    let refusal = |authority: &mut Authority, root: &str| {
        let Err(AuthorityError::RetireRefused { refusal, .. }) =
            authority.retire(start(), &RootId::new(root))
        else {
            panic!("{root} was retired")
        };
        refusal
    };
    assert_eq!(refusal(&mut authority, "old"), RetireRefusal::SuccessorNotDistributed);
    assert_eq!(refusal(&mut authority, "stranger"), RetireRefusal::Unknown);
    authority.retire(start(), &RootId::new("new")).unwrap();
    assert_eq!(authority.status(start()).phase, RotationPhase::Steady);
    assert_eq!(refusal(&mut authority, "old"), RetireRefusal::Signs);
    authority.begin_rotation(other).unwrap();
}

#[test]
fn leaves_never_outlive_their_root() {
    let mut authority = authority();
    let late = start() + DAY * 364 + DAY / 2;
    let plan = authority.issue(late, &holder("a"), &id("a"), DAY, serial(1)).unwrap();
    assert_eq!(plan.validity.not_after, start() + DAY * 365);
    assert_eq!(plan.validity.not_before, late - BACKDATE);
    assert!(authority.rotation_due(late));
    assert!(!authority.rotation_due(start()));
    assert!(matches!(
        authority.issue(start() + DAY * 366, &holder("a"), &id("a"), DAY, serial(2)),
        Err(AuthorityError::RootExpired { .. })
    ));
}

#[test]
fn foreign_identities_and_absurd_lifetimes_are_refused() {
    let mut authority = authority();
    let foreign = SpiffeId::parse("spiffe://other/ns/n/sa/a").unwrap();
    assert!(matches!(
        authority.issue(start(), &holder("a"), &foreign, DAY, serial(1)),
        Err(AuthorityError::ForeignIdentity { .. })
    ));
    assert!(matches!(
        authority.issue(start(), &holder("a"), &id("a"), Duration::from_secs(1), serial(1)),
        Err(AuthorityError::LifetimeTooShort { .. })
    ));
}

#[test]
fn a_restored_authority_goes_on_where_it_was() {
    let mut first = authority();
    issue(&mut first, start(), "a", 1);
    first.federate(TrustDomain::parse("x").unwrap(), vec![fake_root("x", start(), DAY)]).unwrap();
    first.begin_rotation(fake_root("new", start(), DAY * 365)).unwrap();
    let mut restored = Authority::restore(first.record());
    assert_eq!(restored.record(), first.record());
    assert!(restored.advance(start()).is_empty(), "still waits for the acknowledgement");
    acknowledge(&mut restored, "a");
    assert_eq!(restored.advance(start()).len(), 2);

    // A store that keeps only the time of the last expiry.
    let mut record = first.record();
    record.holders.clear();
    record.unlisted_until.insert(RootId::new("old"), start() + DAY);
    let mut restored = Authority::restore(record);
    acknowledge(&mut restored, "a");
    assert!(restored.advance(start()).is_empty(), "others may be out there");
    assert_eq!(restored.status(start()).ends_by, Some(start() + DAY));
    assert_eq!(restored.advance(start() + DAY + Duration::from_secs(1)).len(), 4);
}

#[test]
fn a_new_authority_is_ahead_of_one_that_was_lost() {
    let mut lost = authority();
    for round in 0..10 {
        lost.begin_rotation(fake_root(&format!("r{round}"), start(), DAY)).unwrap();
        lost.advance(start());
    }
    let domain = TrustDomain::parse("td").unwrap();
    let root = fake_root("fresh", start(), DAY);
    let anew = Authority::new(domain, root, start() + Duration::from_hours(1));
    assert!(anew.bundle().unwrap().generation() > lost.bundle().unwrap().generation());
}

#[test]
fn federation_changes_the_bundle_once_and_never_the_own_domain() {
    let mut authority = authority();
    let other = TrustDomain::parse("other").unwrap();
    let roots = vec![fake_root("o", start(), DAY)];
    assert!(authority.federate(other.clone(), roots.clone()).unwrap().is_some());
    assert!(authority.federate(other.clone(), roots).unwrap().is_none());
    let own = TrustDomain::parse("td").unwrap();
    assert!(authority.federate(own, vec![fake_root("evil", start(), DAY)]).is_err());
    assert!(authority.bundle().is_ok());
    assert!(authority.federate(other.clone(), vec![]).unwrap().is_some());
    assert!(authority.bundle().unwrap().roots(&other).is_empty());
}
