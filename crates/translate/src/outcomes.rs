//! What became of each field: a table per kind, and over it what translating an object found out.
//!
//! The table names every field of the kinds that are enforced (a test compares it with their schemas), so that a field
//! that is new in `api` cannot be taken for applied by mistake.

use heddle_api::schema::TypeSchema;
use heddle_api::{At, Resource as AnyObject, Tree, kinds};
use heddle_diag::{Diagnostic, Dialect, Outcome, OutcomeRecord};

use crate::codes;
use crate::report::Report;
use crate::{linkerd, network, smi};

/// What becomes of a field and everything below it, unless a longer path says otherwise.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Becomes {
    /// In force. What depends on values or other objects is said by the object's report.
    Applied,
    /// Without effect, as upstream gives it none.
    Ignored(&'static str),
    /// Not done.
    Unsupported(&'static str),
}

use Becomes::{Applied, Ignored, Unsupported};

/// Tables by kind.
type Tables = &'static [(&'static str, Table)];
/// Reasons by kind.
type Reasons = &'static [(&'static str, &'static str)];

/// Paths below `spec`; `[]` stands for the items of a list, `*` for the entries of a mapping.
pub(crate) type Table = &'static [(&'static str, Becomes)];

const VIRTUAL_SERVICE: Table = &[
    ("hosts", Applied),
    ("gateways", Applied),
    ("exportTo", Applied),
    ("tls", Applied),
    ("tcp", Applied),
    ("http[].name", Applied),
    ("http[].match", Applied),
    ("http[].match[].statPrefix", Unsupported("metrics have no prefixes yet")),
    ("http[].route", Applied),
    ("http[].redirect", Applied),
    ("http[].directResponse", Applied),
    ("http[].delegate", Applied),
    ("http[].rewrite", Applied),
    ("http[].timeout", Applied),
    ("http[].retries", Applied),
    ("http[].fault", Applied),
    ("http[].mirror", Applied),
    ("http[].mirrors", Applied),
    ("http[].mirrorPercent", Applied),
    ("http[].mirror_percent", Applied),
    ("http[].mirrorPercentage", Applied),
    ("http[].corsPolicy", Applied),
    ("http[].headers", Applied),
];

const DESTINATION_RULE: Table = &[
    ("host", Applied),
    ("exportTo", Applied),
    ("workloadSelector", Applied),
    ("subsets", Applied),
    ("trafficPolicy", Applied),
];

const ENVOY_FILTER: Table = &[
    ("workloadSelector", Applied),
    ("targetRefs", Applied),
    ("priority", Applied),
    // Patches that are not understood are told by the object's report.
    ("configPatches", Applied),
];

const GATEWAY: Table = &[
    ("selector", Applied),
    ("servers", Applied),
    ("servers[].defaultEndpoint", Ignored("never implemented in any data plane")),
    ("servers[].port.targetPort", Ignored("deprecated: the Service in front says the port")),
];

const SERVICE_ENTRY: Table = &[
    ("hosts", Applied),
    ("addresses", Applied),
    ("ports", Applied),
    ("location", Applied),
    ("resolution", Applied),
    ("endpoints", Applied),
    ("workloadSelector", Applied),
    ("exportTo", Applied),
    ("subjectAltNames", Applied),
];

const SIDECAR: Table = &[
    ("workloadSelector", Applied),
    ("egress", Applied),
    ("egress[].port.targetPort", Ignored("deprecated")),
    ("ingress", Applied),
    ("ingress[].port.targetPort", Ignored("deprecated")),
    ("inboundConnectionPool", Applied),
    ("outboundTrafficPolicy", Applied),
];

const WORKLOAD_ENTRY: Table = &[
    ("address", Applied),
    ("ports", Applied),
    ("labels", Applied),
    ("network", Applied),
    ("locality", Applied),
    ("weight", Applied),
    ("serviceAccount", Applied),
];

const WORKLOAD_GROUP: Table = &[
    ("metadata", Applied),
    ("template", Applied),
    ("template.address", Ignored("each machine says its own address when it joins")),
    ("probe", Applied),
    (
        "probe.exec",
        Unsupported(
            "whoever writes objects runs nothing on a machine: it counts as ready when its application runs",
        ),
    ),
];

const PEER_AUTHENTICATION: Table =
    &[("selector", Applied), ("mtls", Applied), ("portLevelMtls", Applied)];

const AUTHORIZATION_POLICY: Table = &[
    ("selector", Applied),
    ("targetRef", Applied),
    ("targetRefs", Applied),
    ("action", Applied),
    ("provider", Applied),
    ("rules", Applied),
];

const REQUEST_AUTHENTICATION: Table = &[
    ("jwtRules", Applied),
    ("selector", Applied),
    ("targetRef", Applied),
    ("targetRefs", Applied),
];

const NO_BUNDLE_URL: &str = "bundles are not fetched: write its certificates as `pem`, or `heddle certs federate DOMAIN FILE`";
const NO_CERT_SIGNERS: &str =
    "the mesh's own authority signs, no signer of Kubernetes: this certificate is not trusted";

const MESH_CONFIG: Table = &[
    ("trustDomain", Applied),
    ("trustDomainAliases", Applied),
    ("caCertificates[].pem", Applied),
    ("caCertificates[].trustDomains", Applied),
    ("caCertificates[].spiffeBundleUrl", Unsupported(NO_BUNDLE_URL)),
    ("caCertificates[].certSigners", Unsupported(NO_CERT_SIGNERS)),
    ("rootNamespace", Applied),
    ("enableAutoMtls", Applied),
    ("outboundTrafficPolicy.mode", Applied),
    ("defaultServiceExportTo", Applied),
    ("defaultVirtualServiceExportTo", Applied),
    ("defaultDestinationRuleExportTo", Applied),
    ("connectTimeout", Applied),
    ("tcpKeepalive", Applied),
    ("h2UpgradePolicy", Applied),
    ("protocolDetectionTimeout", Applied),
    ("defaultConfig.drainDuration", Applied),
    ("pathNormalization", Applied),
    ("defaultHttpRetryPolicy", Applied),
    ("defaultInboundHttpRetryPolicy", Applied),
    ("accessLogFile", Applied),
    ("accessLogEncoding", Applied),
    ("accessLogFormat", Applied),
    ("defaultTrafficPolicy", Applied),
    ("extensionProviders[].name", Applied),
    ("extensionProviders[].envoyExtAuthzGrpc", Applied),
    ("extensionProviders[].envoyExtAuthzHttp", Applied),
    ("defaultConfig.gatewayTopology.numTrustedProxies", Applied),
    ("verifyCertificateAtClient", Ignored("deprecated: certificates of peers are always verified")),
    ("disableEnvoyListenerLog", Ignored("there is no such log")),
    ("certificates", Ignored("removed from Istio")),
    ("", Unsupported("this setting of the mesh is not read yet")),
];

/// The tables of the kinds that are enforced field by field.
const TABLES: &[(&str, Table)] = &[
    ("AuthorizationPolicy", AUTHORIZATION_POLICY),
    ("DestinationRule", DESTINATION_RULE),
    ("EnvoyFilter", ENVOY_FILTER),
    ("Gateway", GATEWAY),
    ("MeshConfig", MESH_CONFIG),
    ("PeerAuthentication", PEER_AUTHENTICATION),
    ("RequestAuthentication", REQUEST_AUTHENTICATION),
    ("ServiceEntry", SERVICE_ENTRY),
    ("Sidecar", SIDECAR),
    ("VirtualService", VIRTUAL_SERVICE),
    ("WorkloadEntry", WORKLOAD_ENTRY),
    ("WorkloadGroup", WORKLOAD_GROUP),
];

/// Istio's kinds that are decoded and not enforced yet, and what enforces them one day.
const NOT_ENFORCED: &[(&str, &str)] = &[
    ("MeshNetworks", "networks are not told apart yet"),
    ("ProxyConfig", "settings of single proxies are not read yet"),
    ("Telemetry", "telemetry settings are not read yet"),
    ("TrafficExtension", "extensions are not run"),
    ("WasmPlugin", "extensions are not run"),
];

/// What becomes of a field of a kind in general.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FieldRule {
    /// Whose kind it is.
    pub dialect: Dialect,
    /// The kind, of Istio or a workload of Kubernetes.
    pub kind: &'static str,
    /// The path below `spec`, with `[]` for the items of a list; empty for everything that no other path covers.
    pub path: &'static str,
    /// What becomes of it and of everything below it that has no rule of its own.
    pub outcome: Outcome,
    /// Why; empty where it is applied.
    pub why: &'static str,
}

/// Every rule, for reference pages, by dialect and kind.
pub fn field_rules() -> Vec<FieldRule> {
    let workloads = rules_of(Dialect::Kubernetes, crate::workloads::fields::TABLES, &[]);
    let dialects =
        [Dialect::Istio, Dialect::GatewayApi, Dialect::Linkerd, Dialect::Cilium, Dialect::Smi]
            .into_iter();
    let policies = rules_of(Dialect::Kubernetes, network::outcomes::KUBERNETES, &[]);
    let of = |dialect| {
        let (tables, reasons) = tables(dialect);
        rules_of(dialect, tables, reasons)
    };
    dialects.flat_map(of).chain(policies).chain(workloads).collect()
}

fn rules_of(dialect: Dialect, tables: Tables, reasons: Reasons) -> Vec<FieldRule> {
    let fields = tables.iter().flat_map(|(kind, table)| {
        table.iter().map(move |(path, becomes)| {
            let (outcome, why) = match becomes {
                Applied => (Outcome::Applied, ""),
                Ignored(why) => (Outcome::Ignored, *why),
                Unsupported(why) => (Outcome::Unsupported, *why),
            };
            FieldRule { dialect, kind, path, outcome, why }
        })
    });
    let kinds = reasons.iter().map(|(kind, why)| FieldRule {
        dialect,
        kind,
        path: "",
        outcome: Outcome::Unsupported,
        why,
    });
    fields.chain(kinds).collect()
}

/// The tables of a dialect, and its kinds that are not enforced.
fn tables(dialect: Dialect) -> (Tables, Reasons) {
    match dialect {
        Dialect::Istio => (TABLES, NOT_ENFORCED),
        Dialect::GatewayApi => (crate::gateway_api::outcomes::TABLES, &[]),
        Dialect::Linkerd => (linkerd::outcomes::TABLES, linkerd::outcomes::NOT_ENFORCED),
        Dialect::Smi => (smi::outcomes::TABLES, smi::outcomes::NOT_ENFORCED),
        Dialect::Cilium => (network::outcomes::CILIUM, &[]),
        Dialect::Kubernetes => (network::outcomes::KUBERNETES, &[]),
        _ => (&[], &[]),
    }
}

/// The dialect of an object and the name under which its tables have it; none for objects without a table.
fn named(object: &AnyObject) -> Option<(Dialect, &'static str)> {
    match object {
        AnyObject::MeshConfig(_) => Some((Dialect::Istio, "MeshConfig")),
        AnyObject::MeshNetworks(_) => Some((Dialect::Istio, "MeshNetworks")),
        AnyObject::Other(_) => None,
        other => other.kind().map(|kind| (kind.dialect, kind.kind)),
    }
}

/// The table of an object's kind; none for kinds that are not enforced field by field.
fn table(object: &AnyObject) -> Option<Table> {
    let (dialect, kind) = named(object)?;
    tables(dialect).0.iter().find(|(known, _)| *known == kind).map(|(_, table)| *table)
}

/// Why an object is not enforced; none where it is.
fn not_enforced(object: &AnyObject) -> Option<&'static str> {
    let (dialect, kind) = named(object)?;
    tables(dialect).1.iter().find(|(known, _)| *known == kind).map(|(_, why)| *why)
}

/// Adds the outcome of every field to what the report of an object says.
pub(crate) fn complete(object: &AnyObject, report: &mut Report) {
    let written = object.written();
    if let Some(why) = not_enforced(object) {
        report.push(Diagnostic::warning(codes::UNSUPPORTED, object.origin().clone(), why));
        report.outcome(object.origin().clone(), Outcome::Unsupported, why);
        return;
    }
    let Some(table) = table(object) else { return };
    let root = written.root();
    if let Some((Dialect::Cilium, "CiliumNetworkPolicy" | "CiliumClusterwideNetworkPolicy")) =
        named(object)
    {
        let schema = <heddle_api::cilium::PolicyRule as heddle_api::Decode>::SCHEMA;
        let tree = written.tree();
        let one = written.field(root, "spec");
        let several = written.field(root, "specs").map(|several| tree.children(several));
        let rules: Vec<At> = one.into_iter().chain(several.into_iter().flatten()).collect();
        for rule in rules {
            fill_below(object, rule, &schema, table, report);
        }
        return;
    }
    let schema = schema_of(object);
    let root = match object {
        AnyObject::MeshConfig(_) => Some(written.root()),
        _ => Some(written.field(written.root(), "spec").unwrap_or(written.root())),
    };
    let (Some(schema), Some(root)) = (schema, root) else { return };
    fill_below(object, root, &schema, table, report);
}

/// Adds the outcome of every field below `spec` by a table, but of those that the report has told already.
pub(crate) fn fill(object: &AnyObject, schema: &TypeSchema, table: Table, report: &mut Report) {
    let written = object.written();
    if let Some(root) = written.field(written.root(), "spec") {
        fill_below(object, root, schema, table, report);
    }
}

/// [`fill`] for the fields below a place.
pub(crate) fn fill_below(
    object: &AnyObject,
    root: At,
    schema: &TypeSchema,
    table: Table,
    report: &mut Report,
) {
    let told: Vec<String> =
        report.outcomes.iter().map(|record| record.origin.field.to_string()).collect();
    let mut walk = Walk { object, table, told: &told, records: Vec::new(), findings: Vec::new() };
    walk.node(object.written().tree(), root, schema, "");
    report.outcomes.append(&mut walk.records);
    report.findings.append(&mut walk.findings);
    report.outcomes.sort_by_key(position);
}

fn position(record: &OutcomeRecord) -> (u32, u32) {
    match &record.origin.source {
        heddle_diag::Source::File { position, .. } => (position.line, position.column),
        _ => (0, 0),
    }
}

fn schema_of(object: &AnyObject) -> Option<TypeSchema> {
    if let AnyObject::MeshConfig(_) = object {
        return Some(<heddle_api::istio::MeshConfig as heddle_api::Decode>::SCHEMA);
    }
    let kind = object.kind()?;
    kinds::schemas().into_iter().find(|(known, _)| *known == kind).map(|(_, schema)| schema)
}

struct Walk<'a> {
    object: &'a AnyObject,
    table: Table,
    told: &'a [String],
    records: Vec<OutcomeRecord>,
    findings: Vec<Diagnostic>,
}

impl Walk<'_> {
    fn node(&mut self, tree: &Tree, at: At, schema: &TypeSchema, path: &str) {
        let origin = self.object.written().origin_at(at);
        let field = &*origin.field;
        if self.told.iter().any(|told| told == field || told.is_empty()) {
            return;
        }
        // Only a path that the table names itself is told as one; all other fields are told by their leaves.
        if let Some((_, becomes)) =
            self.table.iter().find(|(known, _)| *known == path && !path.is_empty())
        {
            match becomes {
                Applied => {}
                Ignored(why) => {
                    self.records.push(OutcomeRecord::new(origin, Outcome::Ignored, *why));
                    return;
                }
                Unsupported(why) => return self.unsupported(origin, why),
            }
        }
        let mut below = false;
        for child in tree.children(at) {
            below = true;
            match schema {
                TypeSchema::Object(object) => {
                    let Some(key) = tree.key(child) else { continue };
                    // What is unknown or ignored was told when the object was read.
                    let Some(field) = object.fields.iter().find(|field| field.name == &**key)
                    else {
                        continue;
                    };
                    let dot = if path.is_empty() { "" } else { "." };
                    self.node(tree, child, field.takes, &format!("{path}{dot}{key}"));
                }
                TypeSchema::List(item) => self.node(tree, child, item, &format!("{path}[]")),
                TypeSchema::Map(entry) => self.node(tree, child, entry, &format!("{path}.*")),
                _ => {}
            }
        }
        // What is kept as it is written has one outcome, unless the report told those of its parts.
        let whole = matches!(schema, TypeSchema::Free)
            && !self.told.iter().any(|told| told.starts_with(&format!("{field}.")));
        if below && !whole {
            return;
        }
        match longest(self.table, path) {
            Some(Applied) => self.records.push(OutcomeRecord::new(origin, Outcome::Applied, "")),
            Some(Ignored(why)) => {
                self.records.push(OutcomeRecord::new(origin, Outcome::Ignored, why));
            }
            Some(Unsupported(why)) => self.unsupported(origin, why),
            None if path.is_empty() => {}
            None => self.unsupported(origin, "this field is not acted on"),
        }
    }

    fn unsupported(&mut self, origin: heddle_diag::Origin, why: &str) {
        self.findings.push(Diagnostic::warning(codes::UNSUPPORTED, origin.clone(), why));
        self.records.push(OutcomeRecord::new(origin, Outcome::Unsupported, why));
    }
}

/// What the table says of a path: its longest entry that the path begins with.
fn longest(table: Table, path: &str) -> Option<Becomes> {
    table
        .iter()
        .filter(|(known, _)| {
            path.strip_prefix(known).is_some_and(|rest| {
                known.is_empty() || rest.is_empty() || rest.starts_with(['.', '['])
            })
        })
        .max_by_key(|(known, _)| known.len())
        .map(|(_, becomes)| *becomes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fields that no table names: what is new in `api` must be decided on here.
    #[test]
    fn every_field_of_the_enforced_kinds_is_decided() {
        for (kind, schema) in kinds::schemas() {
            let ours = [
                Dialect::Cilium,
                Dialect::Istio,
                Dialect::GatewayApi,
                Dialect::Linkerd,
                Dialect::Smi,
            ];
            if !ours.contains(&kind.dialect) && kind.kind != "NetworkPolicy" {
                continue;
            }
            let is_of_rules = kind.dialect == Dialect::Cilium && kind.kind != "CiliumCIDRGroup";
            let schema = if is_of_rules {
                <heddle_api::cilium::PolicyRule as heddle_api::Decode>::SCHEMA
            } else {
                schema
            };
            let (tables, reasons) = tables(kind.dialect);
            let table = tables.iter().find(|(known, _)| *known == kind.kind);
            let Some((_, table)) = table else {
                let known = reasons.iter().any(|(known, _)| *known == kind.kind);
                assert!(known, "{} {}: nothing is said of it", kind.group, kind.kind);
                continue;
            };
            let mut paths = Vec::new();
            collect(&schema, String::new(), &mut paths);
            for path in paths {
                assert!(longest(table, &path).is_some(), "{}: {path}", kind.kind);
            }
        }
    }

    fn collect(schema: &TypeSchema, path: String, paths: &mut Vec<String>) {
        match schema {
            TypeSchema::Object(object) if !object.fields.is_empty() => {
                for field in object.fields {
                    let dot = if path.is_empty() { "" } else { "." };
                    collect(field.takes, format!("{path}{dot}{}", field.name), paths);
                }
            }
            TypeSchema::List(item) => collect(item, format!("{path}[]"), paths),
            TypeSchema::Map(entry) => collect(entry, format!("{path}.*"), paths),
            _ => paths.push(path),
        }
    }
}
