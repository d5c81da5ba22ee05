//! Which addresses a name of the mesh has: a pure function of the index.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use heddle_ident::{Host, HostPattern};
use heddle_ir::index::Index;

/// What is known of a name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Name {
    /// These addresses. Empty: the name exists and has none here; it is asked outside.
    Addresses(Arc<[IpAddr]>),
    /// The addresses of its endpoints on this port.
    Endpoints(Host, u16),
    /// The address of the endpoint on this port that has this own name there ([`heddle_ir::endpoint::Endpoint::hostname`]), if one has.
    Endpoint(Box<str>, Host, u16),
    /// It is the mesh's to know, and does not exist.
    Missing,
    /// Not the mesh's: asked outside.
    Outside,
}

/// All names of an index, ready to be asked.
#[derive(Default, Debug)]
pub struct NameTable {
    exact: HashMap<Host, Name>,
    /// Wildcards, most specific first.
    patterns: Vec<(HostPattern, Name)>,
}

/// Names below these are the mesh's alone. A search list appends them to every name that a client asks for,
/// and nobody outside must learn of it.
const OWN_SUFFIXES: [&str; 2] = ["cluster.local", "svc"];

impl NameTable {
    /// Takes the names of an index.
    pub fn new(index: &Index) -> Self {
        let mut table = Self::default();
        for frontend in &index.frontends {
            let name = match (frontend.headless, frontend.ports.first()) {
                (true, Some(port)) => frontend
                    .exact_host()
                    .map_or(Name::Outside, |host| Name::Endpoints(host.clone(), port.number)),
                _ if frontend.addresses.is_empty() => Name::Outside,
                _ => Name::Addresses(frontend.addresses.as_slice().into()),
            };
            match &frontend.host {
                HostPattern::Exact(host) => {
                    table.exact.insert(host.clone(), name);
                }
                pattern @ (HostPattern::Any | HostPattern::Suffix(_)) => {
                    table.patterns.push((pattern.clone(), name));
                }
            }
        }
        table.patterns.sort_by(|left, right| left.0.cmp_specificity(&right.0));
        table
    }

    /// What is known of a name; `name` is lower case, without trailing dot.
    pub fn find(&self, name: &str) -> Name {
        if let Some(found) = self.exact(name) {
            return found.clone();
        }
        // `web-0.web.default.svc.cluster.local` is one of those that `web` names.
        if let Some((own, service)) = name.split_once('.')
            && let Some(Name::Endpoints(host, port)) = self.exact(service)
        {
            return Name::Endpoint(own.into(), host.clone(), *port);
        }
        if let Some((_, found)) = self.patterns.iter().find(|(pattern, _)| pattern.matches(name)) {
            return found.clone();
        }
        let own = |suffix: &str| name.strip_suffix(suffix).is_some_and(|rest| rest.ends_with('.'));
        if OWN_SUFFIXES.into_iter().any(own) || !name.contains('.') {
            return Name::Missing;
        }
        Name::Outside
    }

    /// `reviews.default.svc` is the same as with the cluster's domain.
    fn exact(&self, name: &str) -> Option<&Name> {
        let found = self.exact.get(name);
        found.or_else(|| {
            name.strip_suffix(".svc")?;
            self.exact.get(format!("{name}.cluster.local").as_str())
        })
    }
}

#[cfg(test)]
mod tests {
    use heddle_ir::index::{Frontend, FrontendPort};
    use heddle_ir::protocol::Protocol;

    use super::*;

    fn frontend(host: &str, addresses: &[&str], headless: bool) -> Frontend {
        Frontend {
            host: HostPattern::parse(host).unwrap(),
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            ranges: Vec::new(),
            ports: vec![FrontendPort { number: 80, protocol: Protocol::Http1 }],
            headless,
        }
    }

    #[test]
    fn names_are_found_by_the_rules_of_the_mesh() {
        let table = NameTable::new(&Index {
            frontends: vec![
                frontend("a.default.svc.cluster.local", &["10.96.0.1", "fd00::1"], false),
                frontend("h.default.svc.cluster.local", &[], true),
                frontend("*.example.com", &["240.240.0.1"], false),
                frontend("*.deep.example.com", &["240.240.0.2"], false),
                frontend("plain.example.org", &[], false),
            ],
            ..Index::default()
        });
        let addresses = |texts: &[&str]| {
            Name::Addresses(texts.iter().map(|text| text.parse().unwrap()).collect())
        };
        let cases = [
            ("a.default.svc.cluster.local", addresses(&["10.96.0.1", "fd00::1"])),
            ("a.default.svc", addresses(&["10.96.0.1", "fd00::1"])),
            (
                "h.default.svc.cluster.local",
                Name::Endpoints(Host::parse("h.default.svc.cluster.local").unwrap(), 80),
            ),
            (
                "h-0.h.default.svc",
                Name::Endpoint(
                    "h-0".into(),
                    Host::parse("h.default.svc.cluster.local").unwrap(),
                    80,
                ),
            ),
            ("x.h-0.h.default.svc.cluster.local", Name::Missing),
            ("a-0.a.default.svc.cluster.local", Name::Missing),
            ("x.example.com", addresses(&["240.240.0.1"])),
            ("x.deep.example.com", addresses(&["240.240.0.2"])),
            ("example.com", Name::Outside),
            ("plain.example.org", Name::Outside),
            ("www.rust-lang.org", Name::Outside),
            ("www.rust-lang.org.default.svc.cluster.local", Name::Missing),
            ("www.rust-lang.org.cluster.local", Name::Missing),
            ("b.default.svc", Name::Missing),
            ("a", Name::Missing),
        ];
        for (name, expected) in cases {
            assert_eq!(table.find(name), expected, "{name}");
        }
    }
}
