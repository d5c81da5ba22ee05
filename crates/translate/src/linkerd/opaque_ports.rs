//! Which ports are not looked into (API.md 7.1): annotations, ServiceProfiles, and Linkerd's own list.

use std::collections::BTreeMap;

use heddle_api::kubernetes;
use heddle_api::{Object, Resource as AnyObject};
use heddle_ir::protocol::Protocol;

use crate::engine::Reader;
use crate::linkerd::annotations::Annotated;
use crate::linkerd::{balancer, retry, service_profile};
use crate::object::ObjectKey;
use crate::report::Report;

/// The annotation of Services, workloads and namespaces.
pub(crate) const ANNOTATION: &str = "config.linkerd.io/opaque-ports";
/// Ports where the server speaks first, unless an annotation says otherwise.
const DEFAULT: [u16; 8] = [25, 587, 3306, 4444, 5432, 6379, 9300, 11211];

/// What is spoken on a port of a Service: opaque where Linkerd is told so, else as declared.
pub(crate) fn protocol(
    reader: &Reader<'_>,
    service: &Object<kubernetes::Service>,
    port: &kubernetes::ServicePort,
    declared: Protocol,
) -> Protocol {
    if declared == Protocol::Udp {
        return declared;
    }
    let names = |name: &str| port.name.as_deref() == Some(name);
    let own = Annotated::of(service).get(ANNOTATION);
    let namespace = namespace(reader, &service.meta.namespace);
    let of_namespace = namespace.as_ref().and_then(|object| Annotated::of(object).get(ANNOTATION));
    let listed = match own.or(of_namespace) {
        Some(text) => contains(text, port.port, names),
        // The list takes the place of what would be detected, never of what is declared.
        None => {
            declared == Protocol::Detect
                && DEFAULT.contains(&port.port)
                && balancer::is_linkerds(reader, service)
        }
    };
    let profile = service_profile::of_service(reader, service);
    let in_profile = profile.is_some_and(|profile| {
        profile.spec.opaque_ports.iter().any(|text| contains(text, port.port, names))
    });
    if listed || in_profile { Protocol::Tcp } else { declared }
}

/// The object of a namespace, where there is one.
pub(crate) fn namespace(
    reader: &Reader<'_>,
    name: &str,
) -> Option<std::sync::Arc<Object<kubernetes::Namespace>>> {
    match reader.object(&ObjectKey::new("", "Namespace", "", name)) {
        Some(AnyObject::Namespace(namespace)) => Some(namespace),
        _ => None,
    }
}

/// Whether a list of ports, ranges and names has a port.
pub(crate) fn contains(list: &str, port: u16, names: impl Fn(&str) -> bool) -> bool {
    list.split(',').map(str::trim).any(|entry| match range(entry) {
        Some((first, last)) => (first..=last).contains(&port),
        None => names(entry),
    })
}

/// The ports of a list; names are looked up.
pub(crate) fn numbers(list: &str, ports: &BTreeMap<&str, u16>) -> Vec<u16> {
    let mut numbers: Vec<u16> = list
        .split(',')
        .map(str::trim)
        .flat_map(|entry| match range(entry) {
            Some((first, last)) => (first..=last).collect(),
            None => ports.get(entry).copied().into_iter().collect::<Vec<_>>(),
        })
        .collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

fn range(entry: &str) -> Option<(u16, u16)> {
    let number = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port > 0);
    match entry.split_once('-') {
        Some((first, last)) => Some((number(first)?, number(last)?)),
        None => number(entry).map(|port| (port, port)),
    }
}

/// Says which entries of a list of ports are neither ports nor names.
pub(crate) fn check(object: Annotated<'_>, key: &str, report: &mut Report) {
    let Some(text) = object.get(key) else { return };
    for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        let ordered = range(entry).is_some_and(|(first, last)| first <= last);
        let name = entry.bytes().any(|byte| byte.is_ascii_alphabetic())
            && entry.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if !ordered && !name {
            retry::invalid(object, key, entry, "a port, a range of ports or a port's name", report);
        }
    }
}
