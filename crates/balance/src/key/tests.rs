use std::borrow::Cow;
use std::sync::Arc;

use heddle_ir::destination::HashAlgorithm;

use super::*;

#[derive(Default)]
struct Request {
    query: Option<&'static str>,
    headers: Vec<(&'static str, &'static str)>,
}

impl RequestHead for Request {
    fn method(&self) -> &'static str {
        "GET"
    }
    fn path(&self) -> &'static str {
        "/"
    }
    fn query(&self) -> Option<&str> {
        self.query
    }
    fn authority(&self) -> &'static str {
        "a"
    }
    fn scheme(&self) -> &'static str {
        "http"
    }
    fn header(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        let found = self.headers.iter().find(|(own, _)| *own == name);
        found.map(|(_, value)| Cow::Borrowed(value.as_bytes()))
    }
}

fn by(key: HashKey) -> LoadBalancing {
    LoadBalancing::ConsistentHash { key, algorithm: HashAlgorithm::Ring { size_min: 1024 } }
}

fn cookie_policy(ttl: Option<Duration>) -> LoadBalancing {
    let attributes = Vec::new();
    by(HashKey::Cookie { name: "user".into(), path: "/shop".into(), ttl, attributes })
}

fn hash(policy: &LoadBalancing, request: &Request) -> Option<u64> {
    HashedRequest::new(policy, request, "10.0.0.1".parse().unwrap(), 1).hash
}

#[test]
fn each_key_takes_its_value_and_nothing_else() {
    let header = by(HashKey::Header("x-user".into()));
    let with_header = Request { headers: vec![("x-user", "jason")], ..Request::default() };
    assert_eq!(hash(&header, &with_header), Some(xxh64(b"jason", 0)));
    assert_eq!(hash(&header, &Request::default()), None);
    let query = by(HashKey::Query("k".into()));
    let with_query = |query| Request { query: Some(query), ..Request::default() };
    assert_eq!(hash(&query, &with_query("a=1&k=v&k=w")), Some(xxh64(b"v", 0)));
    assert_eq!(hash(&query, &with_query("a=1")), None);
    let source = by(HashKey::SourceAddress);
    let of = |address: &str| {
        HashedRequest::new(&source, &Request::default(), address.parse().unwrap(), 1).hash
    };
    assert_eq!(of("10.0.0.1"), of("::ffff:10.0.0.1"));
    assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
    assert_eq!(of("10.0.0.1"), HashedRequest::of_stream(&source, "10.0.0.1".parse().unwrap()));
    assert_eq!(HashedRequest::of_stream(&header, "10.0.0.1".parse().unwrap()), None);
    assert_eq!(hash(&LoadBalancing::Random, &with_header), None);
}

#[test]
fn cookies_are_found_among_others() {
    let policy = cookie_policy(None);
    let with = |value| Request { headers: vec![("cookie", value)], ..Request::default() };
    for value in [
        "user=jason",
        "a=b; user=jason; c=d",
        "a=b;user=\"jason\"",
        "a=b,user=jason",
        " user=jason ",
    ] {
        assert_eq!(hash(&policy, &with(value)), Some(xxh64(b"jason", 0)), "{value}");
    }
    for value in ["", "user", "xuser=jason", "User=jason", "a=user=jason"] {
        assert_eq!(hash(&policy, &with(value)), None, "{value}");
    }
    assert_eq!(hash(&policy, &with("user=a=b")), Some(xxh64(b"a=b", 0)));
}

#[test]
fn a_cookie_is_made_up_where_a_ttl_asks_for_it_and_leads_to_the_same_endpoint() {
    let policy = cookie_policy(Some(Duration::from_hours(1)));
    let source = "10.0.0.1".parse().unwrap();
    let first = HashedRequest::new(&policy, &Request::default(), source, 0x0123_4567_89ab_cdef);
    let cookie = first.set_cookie.unwrap().to_string();
    assert_eq!(cookie, "user=\"0123456789abcdef\"; Max-Age=3600; Path=/shop; HttpOnly");
    let headers = vec![("cookie", "user=\"0123456789abcdef\"")];
    let request = Request { headers, ..Request::default() };
    let second = HashedRequest::new(&policy, &request, source, 7);
    assert_eq!((second.hash, second.set_cookie), (first.hash, None));
    let session = cookie_policy(Some(Duration::ZERO));
    let first = HashedRequest::new(&session, &Request::default(), source, 0);
    let cookie = first.set_cookie.unwrap().to_string();
    assert_eq!(cookie, "user=\"0000000000000000\"; Path=/shop; HttpOnly");
    let name: Arc<str> = "u".into();
    let attributes = vec![("SameSite".into(), "Strict".into()), ("Secure".into(), "".into())];
    let ttl = Some(Duration::ZERO);
    let no_path = by(HashKey::Cookie { name, path: "".into(), ttl, attributes });
    let first = HashedRequest::new(&no_path, &Request::default(), source, 0);
    let cookie = first.set_cookie.unwrap().to_string();
    assert_eq!(cookie, "u=\"0000000000000000\"; SameSite=Strict; Secure; HttpOnly");
}
