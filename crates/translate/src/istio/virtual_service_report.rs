//! What there is to say about a VirtualService: what its project rejects, and where it does not do what it seems to.

use heddle_api::istio::{HttpMatch, StringMatch, VirtualService};
use heddle_api::{Object, Resource as AnyObject};
use heddle_diag::Diagnostic;
use heddle_ident::HostPattern;

use crate::client::{Client, MESH, is_mesh};
use crate::codes;
use crate::destinations::Destinations;
use crate::engine::Reader;
use crate::istio::virtual_service::{Vs, shadowed_by, shadows};
use crate::istio::{export_to, http_rule, l4_rule};
use crate::mesh::MeshKey;
use crate::names::full_name;
use crate::object::ObjectKey;
use crate::report::Report;

/// What there is to say about an object.
pub(crate) fn report(reader: &Reader<'_>, object: &Vs, report: &mut Report) {
    let client = Client::any(&object.meta.namespace);
    let retry = reader.read(&MeshKey).outbound_retry.clone();
    let mut destinations = Destinations::new(reader, client);
    http_rule::translate(object, &client, &retry, &mut destinations, report);
    l4_rule::tls(object, &client, &mut destinations, report);
    l4_rule::tcp(object, &client, &mut destinations, report);
    check_shape(object, report);
    check_hosts(reader, object, report);
    check_gateways(reader, object, report);
    check_reach(object, report);
    export_to::check(&object.written, object.spec.at, &object.spec.export_to, false, report);
}

fn check_shape(object: &Object<VirtualService>, report: &mut Report) {
    let spec = &object.spec;
    let has = |field: &str| object.written.has(spec.at, field);
    if spec.http.is_empty()
        && spec.tls.is_empty()
        && spec.tcp.is_empty()
        && object.written.is_sound()
    {
        let message = "the VirtualService needs `http`, `tls` or `tcp`";
        report.rejected(object.origin().clone(), message);
    }
    if spec.hosts.is_empty() {
        for field in ["gateways", "tls", "tcp"] {
            if has(field) {
                let message =
                    format!("a VirtualService without hosts is a delegate, which has no `{field}`");
                report.rejected(object.origin_of(spec.at, field), message);
            }
        }
        let why = "a delegate is included by others; delegates come with the routing issue";
        report.unsupported(object.origin().clone(), why);
    }
}

fn check_hosts(reader: &Reader<'_>, object: &Vs, report: &mut Report) {
    let spec = &object.spec;
    let domain = reader.options().cluster_domain.clone();
    let mesh = is_mesh(&spec.gateways);
    let mut patterns: Vec<HostPattern> = Vec::new();
    for (index, host) in spec.hosts.iter().enumerate() {
        let origin = || object.origin_of_item(spec.at, "hosts", index);
        let full = full_name(host, &object.meta.namespace, &domain);
        let Ok(pattern) = HostPattern::parse(&full) else {
            report.rejected(origin(), format!("`{host}` is not a host"));
            continue;
        };
        let is_address = matches!(&pattern, HostPattern::Exact(host) if host.as_ip().is_some());
        if mesh && pattern == HostPattern::Any {
            report.rejected(origin(), "the host `*` is for gateways only");
            continue;
        }
        if mesh && is_address && spec.gateways.is_empty() {
            report.warning(codes::MESH_ONLY, origin(), "an address is a host at gateways only");
        }
        if let Some(other) =
            patterns.iter().find(|other| other.covers(&pattern) || pattern.covers(other))
        {
            report.rejected(
                origin(),
                format!("the hosts `{pattern}` and `{other}` cover each other"),
            );
        }
        if mesh {
            check_contest(reader, object, host, index, report);
            let destinations = Destinations::new(reader, Client::any(&object.meta.namespace));
            if spec.gateways.is_empty()
                && matches!(pattern, HostPattern::Exact(_))
                && destinations.visible_service(&full).is_none()
            {
                let message = format!(
                    "no service has the host `{full}`, and without `gateways` only clients inside the mesh are concerned"
                );
                report.push(
                    Diagnostic::warning(codes::MESH_ONLY, origin(), message)
                        .hint("for requests from outside name the Gateway under `gateways`"),
                );
            }
        }
        patterns.push(pattern);
    }
}

/// Several objects for one host: only one of them decides.
fn check_contest(reader: &Reader<'_>, object: &Vs, host: &str, index: usize, report: &mut Report) {
    let origin = || object.origin_of_item(object.spec.at, "hosts", index);
    if let Some((winner, namespace)) = shadowed_by(reader, object, host) {
        let name = format!("{}/{}", winner.meta.namespace, winner.meta.name);
        let message = format!(
            "has no effect for clients in `{namespace}`: `{name}` has the host `{host}` already"
        );
        report.push(
            Diagnostic::error(codes::SHADOWED, origin(), message)
                .hint(format!(
                    "change or delete `{name}`, or give this object its name to replace it"
                ))
                .related("this one decides", winner.origin().clone()),
        );
        report.conflict(origin(), format!("VirtualService {name} decides for this host"));
    }
    if let Some((loser, _)) = shadows(reader, object, host) {
        let name = format!("{}/{}", loser.meta.namespace, loser.meta.name);
        let message = format!("`{name}` has the host `{host}` too, where this object decides");
        report.push(
            Diagnostic::warning(codes::SHADOWED, origin(), message)
                .related("this one has no effect", loser.origin().clone()),
        );
    }
}

fn check_gateways(reader: &Reader<'_>, object: &Vs, report: &mut Report) {
    let spec = &object.spec;
    for (index, gateway) in spec.gateways.iter().enumerate() {
        let origin = || object.origin_of_item(spec.at, "gateways", index);
        if gateway == MESH {
            continue;
        }
        let (namespace, name) = match gateway.split_once('/') {
            Some(parts) => parts,
            None => (object.meta.namespace.as_str(), gateway.as_str()),
        };
        let valid = |text: &str| {
            !text.is_empty()
                && text.bytes().all(|b| {
                    b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.')
                })
        };
        let fine = valid(name) && (namespace == "." || valid(namespace));
        if !fine {
            report.rejected(
                origin(),
                format!("`{gateway}` is not a gateway (`namespace/name` or `name`)"),
            );
            continue;
        }
        if !gateway.contains('/') && gateway.contains('.') {
            let message = format!("`{gateway}` is read as a name in the namespace `{namespace}`");
            report.push(
                Diagnostic::warning(codes::UPSTREAM_WARNING, origin(), message)
                    .hint("write `namespace/name`"),
            );
        }
        let namespace = if namespace == "." { object.meta.namespace.as_str() } else { namespace };
        let key = ObjectKey::new("networking.istio.io", "Gateway", namespace, name);
        let Some(AnyObject::Gateway(found)) = reader.object(&key) else {
            let message = format!("no Gateway `{namespace}/{name}`");
            report.error(codes::UNKNOWN_GATEWAY, origin(), message);
            continue;
        };
        check_gateway_hosts(object, &found, report);
    }
}

/// A gateway routes a host only when one of its servers lists a host that covers it.
fn check_gateway_hosts(
    object: &Vs,
    gateway: &Object<heddle_api::istio::Gateway>,
    report: &mut Report,
) {
    let served: Vec<HostPattern> = gateway
        .spec
        .servers
        .iter()
        .flat_map(|server| &server.hosts)
        .filter(|host| {
            let namespace = host.split_once('/').map_or("*", |(namespace, _)| namespace);
            match namespace {
                "*" => true,
                "." => gateway.meta.namespace == object.meta.namespace,
                name => name == object.meta.namespace,
            }
        })
        .filter_map(|host| {
            HostPattern::parse(host.split_once('/').map_or(host, |(_, host)| host)).ok()
        })
        .collect();
    for (index, host) in object.spec.hosts.iter().enumerate() {
        let Ok(pattern) = HostPattern::parse(host) else { continue };
        if !served.iter().any(|server| server.covers(&pattern) || pattern.covers(server)) {
            let origin = object.origin_of_item(object.spec.at, "hosts", index);
            let message =
                format!("no server of the Gateway `{}` lists the host `{host}`", gateway.meta.name);
            report.warning(codes::GATEWAY_HOST, origin, message);
        }
    }
}

/// Rules and matches that no request reaches.
fn check_reach(object: &Object<VirtualService>, report: &mut Report) {
    let mut catch_all: Option<usize> = None;
    let mut earlier: Vec<(usize, &HttpMatch)> = Vec::new();
    for (index, rule) in object.spec.http.iter().enumerate() {
        let origin = || object.origin_at(rule.at);
        if let Some(first) = catch_all {
            let message = format!("never reached: `http[{first}]` takes every request");
            let other = object.spec.http.get(first).map(|rule| object.origin_at(rule.at));
            let mut finding = Diagnostic::warning(codes::UNREACHABLE_RULE, origin(), message);
            if let Some(other) = other {
                finding = finding.related("this rule takes every request", other);
            }
            report.push(finding);
            report.ignored(origin(), "a rule before it takes every request");
            continue;
        }
        let mut useless = Vec::new();
        for one in &rule.matches {
            if let Some((first, _)) = earlier.iter().find(|(_, wider)| covers(wider, one)) {
                useless.push((one, *first));
            }
        }
        if !useless.is_empty() && useless.len() == rule.matches.len() {
            let first = useless.first().map_or(0, |(_, first)| *first);
            let message =
                format!("never reached: `http[{first}]` takes the requests of all its matches");
            report.warning(codes::UNREACHABLE_RULE, origin(), message);
        } else {
            for (one, first) in &useless {
                let message =
                    format!("takes no request: `http[{first}]` has the same or a wider match");
                report.info(codes::INEFFECTIVE_MATCH, object.origin_at(one.at), message);
            }
        }
        earlier.extend(rule.matches.iter().map(|one| (index, one)));
        let broken = object.is_field_broken(rule.at, "match");
        if rule.matches.is_empty() && !broken && rule.delegate.is_none() {
            catch_all = Some(index);
        }
    }
}

/// Whether every request of `narrow` is one of `wide`, as far as that can be told without looking into expressions.
fn covers(wide: &HttpMatch, narrow: &HttpMatch) -> bool {
    let same_but_path = |left: &HttpMatch, right: &HttpMatch| {
        let plain = |one: &HttpMatch| {
            let mut one = one.clone();
            one.at = heddle_api::At::default();
            one.name = None;
            one.stat_prefix = None;
            one.uri = None;
            strip(&mut one);
            one
        };
        plain(left) == plain(right)
    };
    if same_but_path(wide, narrow) && path_covers(wide.uri.as_ref(), narrow.uri.as_ref()) {
        return true;
    }
    // A match by path alone takes whatever else the other asks for, for the same clients.
    let only_path = HttpMatch {
        uri: wide.uri.clone(),
        at: wide.at,
        name: wide.name.clone(),
        ..HttpMatch::default()
    };
    wide.uri.is_some()
        && *wide == only_path
        && narrow.ignore_uri_case != Some(true)
        && path_covers(wide.uri.as_ref(), narrow.uri.as_ref())
}

/// Removes the places of texts, so that equal ones compare as equal.
fn strip(one: &mut HttpMatch) {
    let texts = [&mut one.authority, &mut one.method, &mut one.scheme];
    let single = texts.into_iter().flatten();
    let many = one
        .headers
        .values_mut()
        .chain(one.without_headers.values_mut())
        .chain(one.query_params.values_mut());
    for text in single.chain(many) {
        text.at = heddle_api::At::default();
    }
}

fn path_covers(wide: Option<&StringMatch>, narrow: Option<&StringMatch>) -> bool {
    let (Some(wide), Some(narrow)) = (wide, narrow) else { return wide.is_none() };
    if let Some(prefix) = &wide.prefix {
        let text = narrow.exact.as_ref().or(narrow.prefix.as_ref());
        return text.is_some_and(|text| text.starts_with(prefix.as_str()));
    }
    wide.exact == narrow.exact && wide.regex == narrow.regex && narrow.prefix.is_none()
}
