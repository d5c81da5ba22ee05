//! What translating an object found and what became of its fields.
//!
//! Translating for a proxy and reporting on an object run the same code; a proxy's run throws its report away.

use std::sync::Arc;

use heddle_api::{Duration, Resource as AnyObject};
use heddle_diag::{Code, Diagnostic, Level, Origin, Outcome, OutcomeRecord};

use crate::engine::{Derivation, Reader};
use crate::gateway_api::report as gateway_api;
use crate::gateway_api::route::Route;
use crate::gateway_api::status::GatewayApiStatus;
use crate::istio::{
    authorization_policy, destination_rule_report, envoy_filter, gateway_report,
    peer_authentication, request_authentication, service_entry_report, sidecar_report,
    virtual_service_report, workload_group_report,
};
use crate::object::ObjectKey;
use crate::{cilium, kubernetes, linkerd, mesh, network, outcomes, rate_limits, smi};

/// Findings about an object, and outcomes of its fields that differ from what the table of fields says.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct Report {
    /// What is worth telling.
    pub findings: Vec<Diagnostic>,
    /// What became of fields.
    pub outcomes: Vec<OutcomeRecord>,
    /// The status in the Gateway API's form, for its objects that heddle is responsible for.
    pub gateway_api: Option<GatewayApiStatus>,
}

impl Report {
    pub(crate) fn push(&mut self, finding: Diagnostic) {
        self.findings.push(finding);
    }

    /// An error that the object's own project would reject the object for.
    pub(crate) fn rejected(&mut self, origin: Origin, message: impl Into<String>) {
        self.push(Diagnostic::error(crate::codes::REJECTED, origin, message));
    }

    pub(crate) fn error(
        &mut self,
        code: &'static Code,
        origin: Origin,
        message: impl Into<String>,
    ) {
        self.push(Diagnostic::error(code, origin, message));
    }

    pub(crate) fn warning(
        &mut self,
        code: &'static Code,
        origin: Origin,
        message: impl Into<String>,
    ) {
        self.push(Diagnostic::warning(code, origin, message));
    }

    pub(crate) fn info(&mut self, code: &'static Code, origin: Origin, message: impl Into<String>) {
        self.push(Diagnostic::info(code, origin, message));
    }

    /// A field means something else than upstream makes of it.
    pub(crate) fn translated(&mut self, origin: Origin, how: impl Into<String>) {
        self.outcome(origin, Outcome::Translated, how);
    }

    /// A field has no effect, as upstream gives it none.
    pub(crate) fn ignored(&mut self, origin: Origin, why: impl Into<String>) {
        self.outcome(origin, Outcome::Ignored, why);
    }

    /// Another object says otherwise.
    pub(crate) fn conflict(&mut self, origin: Origin, with: impl Into<String>) {
        self.outcome(origin, Outcome::Conflict, with);
    }

    /// A field that heddle does not act on: a warning and an outcome.
    pub(crate) fn unsupported(&mut self, origin: Origin, why: impl Into<String>) {
        let why = why.into();
        self.warning(crate::codes::UNSUPPORTED, origin.clone(), why.clone());
        self.outcome(origin, Outcome::Unsupported, why);
    }

    pub(crate) fn outcome(&mut self, origin: Origin, outcome: Outcome, detail: impl Into<String>) {
        self.outcomes.push(OutcomeRecord::new(origin, outcome, detail));
    }

    /// Istio's durations have no digits below a millisecond.
    pub(crate) fn precise(&mut self, duration: Option<Duration>, origin: impl FnOnce() -> Origin) {
        if let Some(duration) = duration.filter(|duration| duration.as_nanos() % 1_000_000 != 0) {
            self.rejected(origin(), format!("`{duration}` is finer than a millisecond"));
        }
    }

    /// Whether something is in error.
    pub fn has_errors(&self) -> bool {
        self.findings.iter().any(|finding| finding.level == Level::Error)
    }
}

/// What there is to say about an object.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct ObjectReportKey(pub(crate) ObjectKey);

impl Derivation for ObjectReportKey {
    fn derive(&self, reader: &Reader<'_>) -> Arc<Report> {
        let mut report = Report::default();
        let Some(object) = reader.object(&self.0) else { return Arc::new(report) };
        match &object {
            AnyObject::VirtualService(object) => {
                virtual_service_report::report(reader, object, &mut report);
            }
            AnyObject::DestinationRule(object) => {
                destination_rule_report::report(reader, object, &mut report);
            }
            AnyObject::EnvoyFilter(object) => envoy_filter::report(reader, object, &mut report),
            AnyObject::Gateway(object) => gateway_report::report(reader, object, &mut report),
            AnyObject::PeerAuthentication(object) => {
                peer_authentication::report(reader, object, &mut report);
            }
            AnyObject::AuthorizationPolicy(object) => {
                authorization_policy::report(reader, object, &mut report);
            }
            AnyObject::RequestAuthentication(object) => {
                request_authentication::report(reader, object, &mut report);
            }
            AnyObject::ServiceEntry(object) => {
                service_entry_report::report(reader, object, &mut report);
            }
            AnyObject::Sidecar(object) => sidecar_report::report(reader, object, &mut report),
            AnyObject::WorkloadEntry(object) => {
                let (written, spec) = (&object.written, &object.spec);
                service_entry_report::check_workload(written, spec, spec.at, true, &mut report);
            }
            AnyObject::WorkloadGroup(object) => {
                workload_group_report::report(reader, object, &mut report);
            }
            AnyObject::MeshConfig(object) => {
                mesh::translate(reader.options(), object, &mut report);
            }
            AnyObject::CiliumNetworkPolicy(object) => {
                cilium::report_namespaced(reader, object, &mut report);
            }
            AnyObject::CiliumClusterwideNetworkPolicy(object) => {
                cilium::report_clusterwide(reader, object, &mut report);
            }
            AnyObject::NetworkPolicy(object) => {
                network::kubernetes::report(reader, object, &mut report);
            }
            AnyObject::ConfigMap(object) => {
                kubernetes::config_map(object, &mut report);
                rate_limits::report(reader, object, &mut report);
            }
            AnyObject::Service(object) => kubernetes::report(reader, object, &mut report),
            AnyObject::GatewayClass(object) => {
                gateway_api::gateway_class(reader, object, &mut report);
            }
            AnyObject::GatewayApiGateway(object) => {
                gateway_api::gateway(reader, object, &mut report);
            }
            AnyObject::ListenerSet(set) | AnyObject::XListenerSet(set) => {
                gateway_api::listener_set(reader, set, &object, &mut report);
            }
            AnyObject::BackendTlsPolicy(object) => {
                gateway_api::backend_tls_policy(reader, object, &mut report);
            }
            AnyObject::ReferenceGrant(object) => {
                gateway_api::reference_grant(object, &mut report);
            }
            other => {
                if let Some(route) = Route::of(other) {
                    gateway_api::route(reader, &route, &mut report);
                }
            }
        }
        linkerd::report(reader, &object, &mut report);
        smi::report(reader, &object, &mut report);
        if let AnyObject::RequestAuthentication(object) = &object
            && object.meta.annotations.contains_key("istio.io/dry-run")
        {
            let message = "only authorisation policies can be tried without being enforced";
            report.rejected(object.origin().clone(), message);
        }
        outcomes::complete(&object, &mut report);
        Arc::new(report)
    }
}
