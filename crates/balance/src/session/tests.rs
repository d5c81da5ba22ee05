use std::borrow::Cow;

use heddle_diag::Origin;
use heddle_ident::Host;
use proptest::prelude::*;

use super::*;

struct Head(&'static str, String);

impl RequestHead for Head {
    fn method(&self) -> &'static str {
        "GET"
    }
    fn path(&self) -> &'static str {
        "/"
    }
    fn query(&self) -> Option<&str> {
        None
    }
    fn authority(&self) -> &'static str {
        "reviews"
    }
    fn scheme(&self) -> &'static str {
        "http"
    }
    fn header(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        (name == self.0).then_some(Cow::Borrowed(self.1.as_bytes()))
    }
}

fn policy(location: SessionLocation) -> SessionPersistence {
    SessionPersistence {
        origin: Origin::built_in("session"),
        name: "stay".into(),
        location,
        absolute_timeout: Some(Duration::from_secs(100)),
        idle_timeout: None,
    }
}

fn cookie_policy(permanent: bool) -> SessionPersistence {
    policy(SessionLocation::Cookie { path: "".into(), permanent })
}

const SESSION: Session = Session { backend: 1, endpoint: u64::MAX, began_s: 1000, used_s: 1050 };

#[test]
fn a_token_goes_to_the_client_and_comes_back() {
    let (name, value) = SESSION.header(&policy(SessionLocation::Header), 1060);
    assert_eq!((&*name, value.len()), ("stay", DIGITS));
    let head = Head("stay", value.clone());
    assert_eq!(Session::of(&policy(SessionLocation::Header), &head, 1060), Some(SESSION));

    let (name, cookie) = SESSION.header(&cookie_policy(true), 1060);
    assert_eq!(name, "set-cookie");
    assert_eq!(cookie, format!("stay={value}; Max-Age=40; Path=/; HttpOnly"));
    let head = Head("cookie", format!("a=b; stay={value}; c=d"));
    assert_eq!(Session::of(&cookie_policy(true), &head, 1060), Some(SESSION));
    let (_, cookie) = SESSION.header(&cookie_policy(false), 1060);
    assert_eq!(cookie, format!("stay={value}; Path=/; HttpOnly"), "until the client is closed");
}

#[test]
fn sessions_end() {
    let head = || {
        let (_, value) = SESSION.header(&policy(SessionLocation::Header), 1000);
        Head("stay", value)
    };
    let mut policy = policy(SessionLocation::Header);
    assert!(Session::of(&policy, &head(), 1099).is_some());
    assert!(Session::of(&policy, &head(), 1100).is_none(), "absolute");
    policy.idle_timeout = Some(Duration::from_secs(10));
    assert!(Session::of(&policy, &head(), 1059).is_some());
    assert!(Session::of(&policy, &head(), 1060).is_none(), "idle");
    policy.absolute_timeout = None;
    policy.idle_timeout = None;
    assert!(Session::of(&policy, &head(), u32::MAX).is_some());
}

#[test]
fn the_client_is_told_only_what_it_does_not_know() {
    let mut policy = policy(SessionLocation::Header);
    let after = |policy: &_, backend, endpoint| {
        Session::after(policy, Some(SESSION), backend, endpoint, 1070)
    };
    assert_eq!(after(&policy, 1, u64::MAX), None);
    let new = Session { backend: 1, endpoint: 5, began_s: 1070, used_s: 1070 };
    assert_eq!(after(&policy, 1, 5), Some(new));
    assert_eq!(Session::after(&policy, None, 1, 5, 1070), Some(new));
    policy.idle_timeout = Some(Duration::from_secs(100));
    assert_eq!(after(&policy, 1, u64::MAX), Some(Session { used_s: 1070, ..SESSION }));
}

#[test]
fn backends_have_names_of_their_own() {
    let id = |port, subset: &str| {
        backend_of(&DestinationId {
            host: Host::parse("reviews").unwrap(),
            port,
            subset: subset.into(),
        })
    };
    assert_eq!(id(80, "v1"), id(80, "v1"));
    assert_ne!(id(80, "v1"), id(80, "v2"));
    assert_ne!(id(80, ""), id(81, ""));
}

proptest! {
    #[test]
    fn whatever_comes_is_a_session_or_not(token in "[0-9a-zA-Z+ -]{40,50}") {
        let _ = Session::parse(token.as_bytes());
    }

    #[test]
    fn every_session_survives(backend in any::<u64>(), endpoint in any::<u64>(), began_s in any::<u32>(), used_s in any::<u32>()) {
        let session = Session { backend, endpoint, began_s, used_s };
        let mut token = String::new();
        session.write(&mut token);
        prop_assert_eq!(Session::parse(token.as_bytes()), Some(session));
    }
}
