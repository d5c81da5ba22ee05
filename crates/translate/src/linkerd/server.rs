//! Servers: which port of which workload each is about (API.md 7.3).

use std::collections::BTreeMap;
use std::sync::Arc;

use heddle_api::linkerd::{Server, ServerProxyProtocol};
use heddle_api::{IntOrText, LabelSelector, Object, Resource as AnyObject};
use heddle_ir::protocol::Protocol;

use crate::engine::{Kind, Reader, Topic};
use crate::object::by_age;
use crate::workload::Facts;

pub(crate) type ServerObject = Arc<Object<Server>>;

/// The Servers of a namespace, the oldest first.
pub(crate) fn all(reader: &Reader<'_>, namespace: &Arc<str>) -> Vec<ServerObject> {
    let objects = reader.objects(Topic::KindIn(Kind::Server, namespace.clone()));
    let mut servers: Vec<ServerObject> = objects
        .into_iter()
        .filter_map(|object| match object {
            AnyObject::Server(server) => Some(server),
            _ => None,
        })
        .collect();
    servers.sort_by(|left, right| by_age(&left.meta, &right.meta));
    servers
}

/// The Server of each port of a workload; of several for one port the oldest.
pub(crate) fn of_workload(reader: &Reader<'_>, facts: &Facts) -> Vec<(u16, ServerObject)> {
    let mut found: BTreeMap<u16, ServerObject> = BTreeMap::new();
    for server in all(reader, &facts.namespace) {
        if let Some(port) = port_of(&server, facts) {
            found.entry(port).or_insert(server);
        }
    }
    found.into_iter().collect()
}

/// The port of a workload that a Server is about; none where it does not select the workload. A selector that cannot be
/// read takes every workload: a Server lets fewer in, not more.
pub(crate) fn port_of(server: &Object<Server>, facts: &Facts) -> Option<u16> {
    let spec = &server.spec;
    if spec.external_workload_selector.is_some() && spec.pod_selector.is_none() {
        return None;
    }
    let selected = server.is_field_broken(spec.at, "podSelector")
        || spec.pod_selector.as_ref().is_some_and(|selector| takes(selector, &facts.labels));
    if !selected {
        return None;
    }
    match spec.port.as_ref()? {
        IntOrText::Int(number) => u16::try_from(*number).ok().filter(|port| *port > 0),
        IntOrText::Text(name) => facts
            .ports
            .iter()
            .find(|(known, _)| **known == **name)
            .map(|(_, number)| *number)
            .or_else(|| name.parse().ok()),
    }
}

/// Whether a selector takes what has these labels.
pub(crate) fn takes(selector: &LabelSelector, labels: &BTreeMap<Arc<str>, Arc<str>>) -> bool {
    selector.matches_by(|key| labels.get(key).map(|value| &**value))
}

/// What is spoken on the port of a Server; none: as otherwise declared.
pub(crate) fn protocol(server: &Server) -> Option<Protocol> {
    Some(match server.proxy_protocol? {
        ServerProxyProtocol::Unknown => return None,
        ServerProxyProtocol::Http1 => Protocol::Http1,
        ServerProxyProtocol::Http2 => Protocol::Http2,
        ServerProxyProtocol::Grpc => Protocol::Grpc,
        ServerProxyProtocol::Opaque => Protocol::Tcp,
        ServerProxyProtocol::Tls => Protocol::Tls,
    })
}
