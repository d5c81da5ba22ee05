//! Rules for requests at servers that pass TLS on: nothing decrypts it there, so no request is seen (API.md 11.2 row 18).

use std::sync::Arc;

use heddle_api::istio::{Gateway, VirtualService};
use heddle_api::{Object, Resource as AnyObject};
use heddle_diag::Diagnostic;
use heddle_ident::HostPattern;

use crate::client::MESH;
use crate::codes;
use crate::engine::Reader;
use crate::istio::gateway::{self, Spoken};
use crate::object::ObjectKey;
use crate::report::Report;

/// Says which matches of `http` rules are about such servers only.
pub(super) fn check(reader: &Reader<'_>, object: &Object<VirtualService>, report: &mut Report) {
    let spec = &object.spec;
    let bound: Vec<(&str, Arc<Object<Gateway>>)> = spec
        .gateways
        .iter()
        .filter_map(|name| Some((name.as_str(), find(reader, object, name)?)))
        .collect();
    if bound.is_empty() {
        return;
    }
    for rule in &spec.http {
        if rule.matches.is_empty() && !spec.gateways.iter().any(|name| name == MESH) {
            check_place(object, &bound, None, rule.at, report);
        }
        for one in &rule.matches {
            let own = &one.gateways;
            let names = if own.is_empty() { &spec.gateways } else { own };
            if names.iter().any(|name| name == MESH) {
                continue;
            }
            let here: Vec<_> = bound
                .iter()
                .filter(|(name, _)| names.iter().any(|own| own == name))
                .cloned()
                .collect();
            check_place(object, &here, one.port, one.at, report);
        }
    }
}

fn find(
    reader: &Reader<'_>,
    object: &Object<VirtualService>,
    name: &str,
) -> Option<Arc<Object<Gateway>>> {
    let own = object.meta.namespace.as_str();
    let (namespace, name) = name.split_once('/').unwrap_or((own, name));
    let namespace = if namespace == "." { own } else { namespace };
    let key = ObjectKey::new("networking.istio.io", "Gateway", namespace, name);
    match reader.object(&key) {
        Some(AnyObject::Gateway(gateway)) => Some(gateway),
        _ => None,
    }
}

/// Warns where every server that has a host of the object passes TLS on.
fn check_place(
    object: &Object<VirtualService>,
    gateways: &[(&str, Arc<Object<Gateway>>)],
    port: Option<u16>,
    at: heddle_api::At,
    report: &mut Report,
) {
    let hosts: Vec<HostPattern> =
        object.spec.hosts.iter().filter_map(|host| HostPattern::parse(host).ok()).collect();
    let mut passing = None;
    for (_, gateway) in gateways {
        for server in &gateway.spec.servers {
            let here = port.is_none_or(|port| port == server.port.number)
                && gateway::hosts(gateway, server).iter().any(|served| {
                    hosts
                        .iter()
                        .any(|host| served.pattern.covers(host) || host.covers(&served.pattern))
                });
            match gateway::spoken(server) {
                Some(Spoken::Tls) if here => passing = Some(gateway.origin_at(server.at)),
                _ if here => return,
                _ => {}
            }
        }
    }
    if let Some(place) = passing {
        let message = "the server passes TLS on as it is: no request is seen there, and the rule does nothing";
        let finding =
            Diagnostic::warning(codes::HTTP_ON_PASSTHROUGH, object.origin_at(at), message);
        let hint =
            "route by server name with `tls:` and `sniHosts`, or take TLS off with mode SIMPLE";
        report.push(finding.hint(hint).related("this server", place));
        report.ignored(object.origin_at(at), message);
    }
}
