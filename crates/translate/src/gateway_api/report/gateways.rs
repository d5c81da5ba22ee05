//! GatewayClasses, Gateways and ListenerSets.

use heddle_api::gateway_api::{Gateway, GatewayClass, Listener, ListenerSet};
use heddle_api::{Object, Resource as AnyObject, Written};
use heddle_diag::Diagnostic;

use super::{condition, resolved};
use crate::codes;
use crate::engine::Reader;
use crate::gateway_api::attach::{AttachedKey, Attachments};
use crate::gateway_api::certificates::Unresolved;
use crate::gateway_api::class::{self, CONTROLLER, Ownership, SUPPORTED_FEATURES};
use crate::gateway_api::listener::{ListenerView, TERMINATE_MODE};
use crate::gateway_api::status::{GatewayApiStatus, ListenerStatus};
use crate::gateway_api::view::{self, View, ViewKey};
use crate::object::ObjectKey;
use crate::options::Enrolment;
use crate::report::Report;
use crate::status::Condition;

/// A GatewayClass.
pub(crate) fn gateway_class(
    reader: &Reader<'_>,
    object: &Object<GatewayClass>,
    report: &mut Report,
) {
    if class::ownership(reader, &object.meta.name) != Ownership::Ours {
        let message = format!("`{}` is another controller", object.spec.controller_name);
        let origin = object.origin_of(object.spec.at, "controllerName");
        report.info(codes::FOREIGN_CLASS, origin, message);
        return;
    }
    if object.spec.controller_name != CONTROLLER {
        let name = &object.spec.controller_name;
        let message = format!("in a cluster `{name}` is responsible; here heddle serves the class");
        let origin = object.origin_of(object.spec.at, "controllerName");
        report.info(codes::FOREIGN_CLASS, origin, message);
    }
    let accepted = match class::problem(object) {
        Some(message) => condition("Accepted", false, "InvalidParameters", message),
        None => condition("Accepted", true, "Accepted", ""),
    };
    let version = condition("SupportedVersion", true, "SupportedVersion", "");
    report.gateway_api = Some(GatewayApiStatus::GatewayClass {
        conditions: vec![accepted, version],
        supported_features: SUPPORTED_FEATURES,
    });
}

/// A Gateway.
pub(crate) fn gateway(reader: &Reader<'_>, object: &Object<Gateway>, report: &mut Report) {
    let spec = &object.spec;
    if let Ownership::Foreign(why) = class::ownership(reader, &spec.gateway_class_name) {
        let origin = object.origin_of(spec.at, "gatewayClassName");
        report.info(codes::FOREIGN_CLASS, origin, format!("not served by heddle: {why}"));
        return;
    }
    let key = super::super::gateway_key(&object.meta.namespace, &object.meta.name);
    let Some(view) = reader.read(&ViewKey(key.clone())) else { return };
    let attached = reader.read(&AttachedKey(key.clone()));
    let own: Vec<&ListenerView> = view.of(&key).map(|(_, listener)| listener).collect();
    let mut conditions = vec![accepted(&view, &own), programmed(&view)];
    if let Some(certificate) = &view.client_certificate {
        conditions.push(resolved(certificate.as_ref().err()));
    }
    if view.is_insecure() {
        let message = "clients without a valid certificate are let in";
        conditions.push(condition(
            "InsecureFrontendValidationMode",
            true,
            "ConfigurationChanged",
            message,
        ));
    }
    if let Some(Unresolved { message, .. }) = &view.refused {
        report.error(
            codes::NOT_SERVED,
            object.origin_at(spec.at),
            format!("not served: {message}"),
        );
    }
    if let Some(message) = &view.address_unusable {
        report.error(codes::NOT_SERVED, object.origin_of(spec.at, "addresses"), message.clone());
    }
    if let Some(Err(error)) = &view.client_certificate {
        let tls = spec.tls.as_ref().and_then(|tls| tls.backend.as_ref());
        let at = tls.map_or(spec.at, |backend| backend.at);
        report.error(codes::BACKEND, object.origin_at(at), error.message.clone());
    }
    infrastructure(reader, object, report);
    options(&spec.listeners, &object.written, report);
    listener_findings(&view, &key, report);
    let sets =
        view.sets.iter().filter(|set| view.of(set).any(|(_, listener)| listener.is_accepted()));
    report.gateway_api = Some(GatewayApiStatus::Gateway {
        addresses: view.addresses.clone(),
        attached_listener_sets: sets.count(),
        conditions,
        listeners: statuses(&view, &attached, &key),
    });
}

/// Options that are not known; one that is known is Istio's.
fn options(listeners: &[Listener], written: &Written, report: &mut Report) {
    let options = listeners.iter().filter_map(|listener| listener.tls.as_ref());
    for tls in options {
        for key in tls.options.keys().filter(|key| *key != TERMINATE_MODE) {
            let why = format!("heddle has no option `{key}`");
            report.unsupported(written.origin_of(tls.at, "options"), why);
        }
    }
}

/// Labels and annotations go to the workloads that are made for a Gateway; in a cluster none are made yet.
fn infrastructure(reader: &Reader<'_>, object: &Object<Gateway>, report: &mut Report) {
    let Some(written) = &object.spec.infrastructure else { return };
    if reader.options().enrolment == Enrolment::Standalone {
        return;
    }
    let why = "no workloads are made for Gateways in a cluster";
    for (field, entries) in [("labels", &written.labels), ("annotations", &written.annotations)] {
        if !entries.is_empty() {
            report.unsupported(object.origin_of(written.at, field), why);
        }
    }
}

fn accepted(view: &View, own: &[&ListenerView]) -> Condition {
    if let Some(Unresolved { reason, message }) = &view.refused {
        return condition("Accepted", false, reason, message);
    }
    let valid = own.iter().filter(|listener| listener.is_accepted()).count();
    match valid {
        0 => condition("Accepted", false, "ListenersNotValid", "no listener is valid"),
        some if some < own.len() => {
            condition("Accepted", true, "ListenersNotValid", "some listeners are not valid")
        }
        _ => condition("Accepted", true, "Accepted", ""),
    }
}

fn programmed(view: &View) -> Condition {
    if let Some(Unresolved { message, .. }) = &view.refused {
        return condition("Programmed", false, "Invalid", message);
    }
    if let Some(message) = &view.address_unusable {
        return condition("Programmed", false, "AddressNotUsable", message);
    }
    if view.listeners.iter().any(ListenerView::is_programmed) {
        condition("Programmed", true, "Programmed", "")
    } else {
        condition("Programmed", false, "Invalid", "no listener can be served")
    }
}

/// A ListenerSet.
pub(crate) fn listener_set(
    reader: &Reader<'_>,
    object: &Object<ListenerSet>,
    any: &AnyObject,
    report: &mut Report,
) {
    let key = ObjectKey::of(any);
    let parent = object.spec.parent_ref.at;
    let Some((gateway_key, gateway)) = view::gateway_of(reader, object) else {
        let message = "no Gateway of a class of heddle's has the name";
        report.warning(codes::NOT_ATTACHED, object.origin_at(parent), message);
        return;
    };
    let view = reader.read(&ViewKey(gateway_key.clone()));
    let Some(view) = view else { return };
    let refusal = if !view::takes_set(reader, &gateway, &object.meta.namespace) {
        Some(("NotAllowed", "the Gateway takes no ListenerSets from this namespace"))
    } else if view.refused.is_some() {
        Some(("ParentNotAccepted", "the Gateway is not accepted"))
    } else if !view.of(&key).any(|(_, listener)| listener.is_accepted()) {
        Some(("ListenersNotValid", "no listener of the set is valid"))
    } else {
        None
    };
    let conditions = if let Some((reason, message)) = refusal {
        report.error(codes::NOT_ATTACHED, object.origin_at(parent), message);
        ["Accepted", "Programmed"].map(|kind| condition(kind, false, reason, message))
    } else {
        let whole = view.of(&key).all(|(_, listener)| listener.is_accepted());
        let reason = if whole { "Accepted" } else { "ListenersNotValid" };
        [condition("Accepted", true, reason, ""), condition("Programmed", true, "Programmed", "")]
    };
    listener_findings(&view, &key, report);
    options(&object.spec.listeners, &object.written, report);
    let attached = reader.read(&AttachedKey(gateway_key));
    report.gateway_api = Some(GatewayApiStatus::ListenerSet {
        conditions: conditions.into(),
        listeners: statuses(&view, &attached, &key),
    });
}

fn statuses(view: &View, attached: &Attachments, owner: &ObjectKey) -> Vec<ListenerStatus> {
    let listeners = view.of(owner);
    listeners
        .map(|(index, listener)| ListenerStatus {
            name: listener.name.clone(),
            supported_kinds: listener.kinds.iter().map(|kind| kind.as_str()).collect(),
            attached_routes: attached.listeners.get(index).map_or(0, Vec::len),
            conditions: of_listener(view, listener),
        })
        .collect()
}

fn of_listener(view: &View, listener: &ListenerView) -> Vec<Condition> {
    let conflict = listener.conflict.map(|conflict| {
        (conflict.reason(), "another listener has the port, or the port and hostname")
    });
    let refused =
        listener.refused.as_ref().map(|refused| (refused.reason, refused.message.as_str()));
    let accepted = match conflict.or(refused) {
        Some((reason, message)) => condition("Accepted", false, reason, message),
        None => condition("Accepted", true, "Accepted", ""),
    };
    let programmed = match conflict {
        Some((reason, message)) => condition("Programmed", false, reason, message),
        None if view.refused.is_some() => {
            condition("Programmed", false, "Invalid", "the Gateway is not accepted")
        }
        None if listener.is_programmed() => condition("Programmed", true, "Programmed", ""),
        None => condition("Programmed", false, "Invalid", "it cannot be served as configured"),
    };
    let conflicted = match conflict {
        Some((reason, message)) => condition("Conflicted", true, reason, message),
        None => condition("Conflicted", false, "NoConflicts", ""),
    };
    let mut conditions =
        vec![accepted, programmed, resolved(listener.unresolved.as_ref()), conflicted];
    if listener.is_tls() && overlaps(view, listener) {
        let message = "another TLS listener of the port has a hostname in common: a client's \
                       connection for one may carry requests for the other";
        conditions.push(condition("OverlappingTLSConfig", true, "OverlappingHostnames", message));
    }
    conditions
}

/// Whether another TLS listener of the port has a host in common.
fn overlaps(view: &View, listener: &ListenerView) -> bool {
    view.listeners.iter().any(|other| {
        other.is_tls()
            && other.port == listener.port
            && (&other.owner, &other.name) != (&listener.owner, &listener.name)
            && (other.host.covers(&listener.host) || listener.host.covers(&other.host))
    })
}

fn listener_findings(view: &View, owner: &ObjectKey, report: &mut Report) {
    for (_, listener) in view.of(owner) {
        if let Some(conflict) = listener.conflict {
            let message = format!("not served: {}", conflict.reason());
            report.conflict(listener.origin.clone(), message.clone());
            let hint = "listeners of a port must speak the same protocol and differ in hostname";
            let finding = Diagnostic::error(codes::NOT_SERVED, listener.origin.clone(), message);
            report.push(finding.hint(hint));
        }
        if let Some(Unresolved { reason, message }) = &listener.refused {
            let told = format!("not served: {message}");
            if *reason == "UnsupportedProtocol" {
                report.unsupported(listener.origin.clone(), told);
            } else {
                report.error(codes::NOT_SERVED, listener.origin.clone(), told);
            }
        }
        if let Some(Unresolved { message, .. }) = &listener.unresolved {
            report.error(codes::BACKEND, listener.origin.clone(), message.clone());
        }
    }
}
