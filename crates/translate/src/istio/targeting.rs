//! Whom a security policy is for: a selector of workloads, or objects that it is attached to (API.md section 1).
//!
//! AuthorizationPolicy and RequestAuthentication say it the same way.

use std::sync::Arc;

use heddle_api::istio::{
    AuthorizationPolicy, PolicyTargetReference, RequestAuthentication, WorkloadSelector,
};
use heddle_api::{At, Meta, Object, Resource as AnyObject, Written};

use crate::client::selects;
use crate::codes;
use crate::engine::Reader;
use crate::istio::selector;
use crate::mesh::MeshKey;
use crate::object::ObjectKey;
use crate::options::Profile;
use crate::report::Report;
use crate::workload::Facts;

/// Whom an object is for.
pub(crate) struct Targeting<'a> {
    written: &'a Written,
    meta: &'a Meta,
    at: At,
    selector: Option<&'a WorkloadSelector>,
    references: Vec<&'a PolicyTargetReference>,
}

/// Whom an AuthorizationPolicy is for.
pub(crate) fn of_policy(object: &Object<AuthorizationPolicy>) -> Targeting<'_> {
    let spec = &object.spec;
    Targeting {
        written: &object.written,
        meta: &object.meta,
        at: spec.at,
        selector: spec.selector.as_ref(),
        references: spec.target_refs.iter().chain(&spec.target_ref).collect(),
    }
}

/// Whom a RequestAuthentication is for.
pub(crate) fn of_tokens(object: &Object<RequestAuthentication>) -> Targeting<'_> {
    let spec = &object.spec;
    Targeting {
        written: &object.written,
        meta: &object.meta,
        at: spec.at,
        selector: spec.selector.as_ref(),
        references: spec.target_refs.iter().chain(&spec.target_ref).collect(),
    }
}

impl Targeting<'_> {
    /// Whether nobody knows whom the object is for.
    pub(crate) fn is_broken(&self) -> bool {
        ["selector", "targetRef", "targetRefs"].iter().any(|field| {
            self.written.field(self.at, field).is_some_and(|at| self.written.is_broken(at))
        })
    }

    /// Whether it is for a workload. The namespace has been looked at: it is the workload's or the root. One that nobody
    /// can read is for everybody.
    pub(crate) fn applies(&self, reader: &Reader<'_>, facts: &Facts) -> bool {
        if self.is_broken() {
            return true;
        }
        if !self.references.is_empty() {
            return self.targets(reader, facts);
        }
        self.selector.is_none_or(|selector| selects(&selector.match_labels, &facts.labels))
    }

    /// Whether the workload is behind a Service that the object is attached to, or is a gateway that it is attached to.
    fn targets(&self, reader: &Reader<'_>, facts: &Facts) -> bool {
        if *facts.namespace != *self.meta.namespace {
            return false;
        }
        self.references.iter().any(|reference| match reference.kind.as_str() {
            // Only waypoints look at these in Istio; here it is the workloads themselves.
            "Service" if reader.options().profile == Profile::Heddle => {
                let key = ObjectKey::new("", "Service", &self.meta.namespace, &reference.name);
                match reader.object(&key) {
                    Some(AnyObject::Service(service)) => {
                        let selector = &service.spec.selector;
                        !selector.is_empty() && selects(selector, &facts.labels)
                    }
                    _ => false,
                }
            }
            // The workloads of a Gateway of the Gateway API carry its name.
            "Gateway" => facts
                .labels
                .get("gateway.networking.k8s.io/gateway-name")
                .is_some_and(|name| **name == *reference.name),
            _ => false,
        })
    }

    /// What there is to say about selector and targets.
    pub(crate) fn report(&self, reader: &Reader<'_>, report: &mut Report) {
        self.report_selector(reader, report);
        for reference in &self.references {
            self.report_reference(reader, reference, report);
        }
    }

    fn report_selector(&self, reader: &Reader<'_>, report: &mut Report) {
        let Some(own) = self.selector else { return };
        let namespace: Arc<str> = self.meta.namespace.as_str().into();
        let root = reader.read(&MeshKey).root_namespace.clone();
        if !own.match_labels.is_empty() && namespace != root {
            let workloads = selector::selected(reader, &namespace, &own.match_labels);
            selector::check_selects(self.written, self.at, &own.match_labels, &workloads, report);
        }
    }

    fn report_reference(
        &self,
        reader: &Reader<'_>,
        reference: &PolicyTargetReference,
        report: &mut Report,
    ) {
        let namespace = &self.meta.namespace;
        let origin = self.written.origin_at(reference.at);
        let own = reference.namespace.as_deref().unwrap_or_default();
        if !own.is_empty() && own != namespace {
            let origin = self.written.origin_of(reference.at, "namespace");
            report.rejected(origin, "targets are of the same namespace");
        }
        let group = reference.group.as_deref().unwrap_or_default();
        let is_heddle = reader.options().profile == Profile::Heddle;
        match (group, reference.kind.as_str()) {
            ("" | "core", "Service") => {
                let key = ObjectKey::new("", "Service", namespace, &reference.name);
                if is_heddle {
                    report.translated(origin.clone(), "enforced at the workloads of the Service");
                } else {
                    report.ignored(origin.clone(), "sidecars ignore policies with targets");
                }
                if reader.object(&key).is_none() {
                    let message = format!("no Service `{}` in the namespace", reference.name);
                    report.error(codes::UNKNOWN_HOST, origin, message);
                }
            }
            ("gateway.networking.k8s.io", "Gateway") => {}
            ("gateway.networking.k8s.io", "GatewayClass") => {
                let why = "there are no waypoints: every workload enforces its own policies, which a selector finds";
                report.unsupported(origin, why);
            }
            ("networking.istio.io", "ServiceEntry") => {
                let why = "what is outside of the mesh enforces nothing, and no waypoint stands before it";
                report.unsupported(origin, why);
            }
            (group, kind) => {
                report.rejected(origin, format!("`{group}` `{kind}` is no target of a policy"));
            }
        }
    }
}
