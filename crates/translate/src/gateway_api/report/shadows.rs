//! Older routes that take what a route asks for (API.md hazard 26): a second object is no replacement.

use std::collections::BTreeSet;
use std::sync::Arc;

use heddle_diag::{Diagnostic, Origin};
use heddle_ir::http_route::{HttpMatch, HttpRule};
use heddle_ir::matching::{PathMatch, TextMatch};

use crate::client::Client;
use crate::codes;
use crate::destinations::Destinations;
use crate::engine::{Derivation, Reader};
use crate::gateway_api::attach::{self, AttachedKey};
use crate::gateway_api::mesh;
use crate::gateway_api::route::{Route, RouteKind};
use crate::gateway_api::servers;
use crate::names::service_host;
use crate::object::ObjectKey;
use crate::report::Report;
use crate::service::ServiceKey;

/// A place where routes compete for requests: a host of a listener, or a port of a Service.
struct Place {
    /// For people.
    name: String,
    /// The older routes there, the oldest first.
    older: Vec<ObjectKey>,
}

/// Says which matches of a route older routes have too, so that those decide.
pub(crate) fn report(reader: &Reader<'_>, route: &Route, report: &mut Report) {
    let places = places(reader, route);
    if places.iter().all(|place| place.older.is_empty()) {
        return;
    }
    let own = reader.read(&MatchesKey(route.key()));
    let (mut shadowed, mut all) = (0, 0);
    let mut winner = None;
    for (origin, key) in own.iter() {
        let mut found: Vec<(&str, &ObjectKey)> = Vec::new();
        for place in &places {
            all += 1;
            let other = place.older.iter().find(|other| has(reader, other, key));
            found.extend(other.map(|other| (&*place.name, other)));
        }
        shadowed += found.len();
        let Some((_, other)) = found.first() else { continue };
        winner.get_or_insert_with(|| (*other).clone());
        let names: Vec<&str> = found.iter().map(|(name, _)| *name).collect();
        let message = format!("the older {other} takes these requests ({})", names.join(", "));
        let hint = "change or delete the older route: a second one does not replace it";
        report.push(Diagnostic::warning(codes::SHADOWED_MATCH, origin.clone(), message).hint(hint));
    }
    if let (true, Some(winner)) = (shadowed == all, winner) {
        let origin = route.written().origin_at(route.at());
        report.conflict(origin, format!("no request gets here: the older {winner} takes all"));
    }
}

/// Where the route acts.
fn places(reader: &Reader<'_>, route: &Route) -> Vec<Place> {
    let key = route.key();
    let mut places: Vec<Place> = Vec::new();
    for parent in route.parents() {
        if let Some(gateway) = attach::gateway_of(reader, parent, &route.meta().namespace) {
            let attached = reader.read(&AttachedKey(gateway.clone()));
            for listener in &attached.listeners {
                let Some(position) = listener.iter().position(|one| one.route == key) else {
                    continue;
                };
                let (older, rest) = listener.split_at(position);
                let Some(own) = rest.first() else { continue };
                for host in &own.hosts {
                    let older = older.iter().filter(|other| other.hosts.contains(host));
                    let older = older.map(|other| other.route.clone()).collect();
                    places.push(Place { name: host.to_string(), older });
                }
            }
        } else if let Some(found) = of_service(reader, route, &route.parent_key(parent)) {
            places.extend(found);
        }
    }
    places.dedup_by(|left, right| left.name == right.name && left.older == right.older);
    places
}

fn of_service(reader: &Reader<'_>, route: &Route, parent: &ObjectKey) -> Option<Vec<Place>> {
    let object = mesh::service_of(reader, parent)?;
    let (name, namespace) = (&object.meta.name, &object.meta.namespace);
    let host = service_host(name, namespace, &reader.options().cluster_domain)?;
    let service = reader.read(&ServiceKey(host.as_str().into()))?;
    let key = route.key();
    let mut places = Vec::new();
    for port in &service.ports {
        let acting = mesh::acting(reader, &service, port, &route.meta().namespace);
        let Some(acting) = acting else { continue };
        let position = acting.routes.iter().position(|other| other.key() == key);
        let Some(older) = position.and_then(|position| acting.routes.get(..position)) else {
            continue;
        };
        let older = older.iter().map(Route::key).collect();
        places.push(Place { name: format!("{name}:{}", port.number), older });
    }
    Some(places)
}

fn has(reader: &Reader<'_>, route: &ObjectKey, key: &Key) -> bool {
    reader.read(&MatchesKey(route.clone())).iter().any(|(_, own)| own == key)
}

/// What the matches of a route say.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct MatchesKey(ObjectKey);

/// Each match with its place.
pub(crate) type Matches = Vec<(Origin, Key)>;

impl Derivation for MatchesKey {
    fn derive(&self, reader: &Reader<'_>) -> Arc<Matches> {
        let route = reader.object(&self.0).and_then(|object| Route::of(&object));
        Arc::new(route.map(|route| matches_of(reader, &route)).unwrap_or_default())
    }
}

/// What each match of a route says, in a form that is equal for equal matches. Streams have no matches: where routes for
/// them share a place they say the same.
fn matches_of(reader: &Reader<'_>, route: &Route) -> Matches {
    if !matches!(route.kind(), RouteKind::Http | RouteKind::Grpc) {
        return vec![(route.written().origin_of_item(route.at(), "rules", 0), Key::default())];
    }
    let mut destinations = Destinations::new(reader, Client::any(&route.meta().namespace));
    let rules = servers::http_rules(reader, route, &[], &mut destinations);
    rules.iter().flat_map(of_rule).collect()
}

fn of_rule(rule: &HttpRule) -> Matches {
    if rule.matches.is_empty() {
        return vec![(rule.origin.clone(), Key::default())];
    }
    rule.matches.iter().map(|one| (one.origin.clone(), Key::of(one))).collect()
}

/// What a match says, equal for matches that take the same requests and are as specific. Empty: every request.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Key {
    path: Option<PathMatch>,
    method: Option<TextMatch>,
    /// Headers and parameters in any order.
    rest: BTreeSet<String>,
}

impl Key {
    fn of(one: &HttpMatch) -> Self {
        let path = one.path.clone().map(|path| match path {
            PathMatch::ElementPrefix(text) => {
                PathMatch::ElementPrefix(text.trim_end_matches('/').into())
            }
            other => other,
        });
        // Every path begins with a slash: a prefix of nothing more says nothing.
        let says =
            |path: &PathMatch| !matches!(path, PathMatch::ElementPrefix(text) if text.is_empty());
        let headers = one.headers.iter().map(|header| format!("{header:?}"));
        let query = one.query.iter().map(|parameter| format!("{parameter:?}"));
        Self {
            path: path.filter(says),
            method: one.method.clone(),
            rest: headers.chain(query).collect(),
        }
    }
}
