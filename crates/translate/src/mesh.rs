//! The mesh configuration: what holds for every proxy unless something nearer says otherwise.

use std::sync::Arc;
use std::time::Duration;

use heddle_api::istio::{
    AccessLogEncoding, DefaultTrafficPolicy, MeshConfig, MeshH2UpgradePolicy, MeshOutboundMode,
    Normalization,
};
use heddle_api::{Object, Resource as AnyObject};
use heddle_diag::Origin;
use heddle_ident::TrustDomain;
use heddle_ir::authorization::ExternalAuthorizer;
use heddle_ir::destination::TcpKeepalive;
use heddle_ir::http_route::RetryPolicy;
use heddle_ir::inbound::PathNormalization;
use heddle_ir::index::UnknownDestinations;
use heddle_ir::proxy::AccessLog;

use crate::codes;
use crate::engine::{Derivation, Kind, Reader, Topic};
use crate::istio::authorizer;
use crate::istio::locality::{self, OfMesh};
use crate::istio::retry::{self, Place};
use crate::istio::traffic_policy;
use crate::options::Options;
use crate::report::Report;

/// An authority of `MeshConfig.caCertificates`. Whether its text can be read is for whoever reads certificates to say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MeshAuthority {
    /// Certificates in PEM.
    pub pem: Arc<str>,
    /// Whose identities it vouches for; empty: those of the mesh's own trust domain and its aliases, and no others.
    pub trust_domains: Vec<TrustDomain>,
    /// Where it is written.
    pub origin: Origin,
}

/// Whom the mesh configuration trusts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TrustSettings {
    /// The mesh's own trust domain.
    pub trust_domain: TrustDomain,
    /// Its other names.
    pub aliases: Vec<TrustDomain>,
    /// Authorities beside the mesh's own.
    pub authorities: Vec<MeshAuthority>,
    /// The namespace whose objects hold everywhere.
    pub root_namespace: Arc<str>,
}

/// The settings of the mesh.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct MeshKey;

/// What holds for every proxy.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Mesh {
    pub(crate) origin: Origin,
    pub(crate) trust_domain: TrustDomain,
    pub(crate) trust_domain_aliases: Vec<TrustDomain>,
    /// Authorities that are trusted beside the mesh's own.
    pub(crate) authorities: Vec<MeshAuthority>,
    pub(crate) root_namespace: Arc<str>,
    pub(crate) auto_mtls: bool,
    pub(crate) unknown_destinations: UnknownDestinations,
    pub(crate) service_export: Vec<Arc<str>>,
    pub(crate) virtual_service_export: Vec<Arc<str>>,
    pub(crate) destination_rule_export: Vec<Arc<str>>,
    pub(crate) connect_timeout: Duration,
    pub(crate) keepalive: Option<TcpKeepalive>,
    pub(crate) upgrade_to_http2: bool,
    /// Of requests that Istio's routes speak for, or none.
    pub(crate) outbound_retry: RetryPolicy,
    /// Of requests that the rules of other APIs speak for.
    pub(crate) unnoticed_retry: RetryPolicy,
    pub(crate) inbound_retry: RetryPolicy,
    pub(crate) path_normalization: PathNormalization,
    pub(crate) access_log: AccessLog,
    /// As in [`heddle_ir::proxy::ProxySettings`].
    pub(crate) access_log_path: Arc<str>,
    pub(crate) access_log_format: Vec<(Arc<str>, Arc<str>)>,
    pub(crate) detection_timeout: Duration,
    pub(crate) drain_duration: Duration,
    /// Those that can be asked, of the extension providers.
    pub(crate) authorizers: Vec<Arc<ExternalAuthorizer>>,
    /// Proxies before a gateway that each append an address to `X-Forwarded-For`.
    pub(crate) trusted_proxies: u32,
    /// As it is written, for what is read where it is needed; none without an object.
    object: Option<MeshObject>,
}

/// A mesh configuration. Equal only to itself: an object that was put again is another one.
#[derive(Clone, Debug)]
struct MeshObject(Arc<Object<MeshConfig>>);

impl PartialEq for MeshObject {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Mesh {
    /// Limits and ejection for destinations whose rules say none.
    pub(crate) fn default_traffic_policy(
        &self,
    ) -> Option<(&Object<MeshConfig>, &DefaultTrafficPolicy)> {
        let object = &*self.object.as_ref()?.0;
        let policy = object.spec.default_traffic_policy.as_ref()?;
        (!object.is_broken(policy.at)).then_some((object, policy))
    }

    /// Preference of near endpoints where neither rule nor Service says any.
    pub(crate) fn locality(&self) -> OfMesh<'_> {
        let Some(MeshObject(object)) = &self.object else { return OfMesh::Nothing };
        let spec = &object.spec;
        match (&spec.zone_aware_lb_setting, &spec.locality_lb_setting) {
            (Some(setting), _) if !object.is_broken(setting.at) => OfMesh::ZoneAware(setting),
            (_, Some(setting)) if !object.is_broken(setting.at) => OfMesh::Locality(setting),
            _ => OfMesh::Nothing,
        }
    }
}

/// How long the proxy looks for a protocol where nothing is declared and nothing is said. Istio waits for ever, which
/// hangs protocols in which the server speaks first.
const DETECTION_TIMEOUT: Duration = Duration::from_millis(100);

impl Derivation for MeshKey {
    fn derive(&self, reader: &Reader<'_>) -> Arc<Mesh> {
        // What there is to say about the object is said by its own report.
        let mut unused = Report::default();
        Arc::new(match written(reader) {
            Some(object) => translate(reader.options(), &object, &mut unused),
            None => defaults(reader.options()),
        })
    }
}

/// The mesh configuration: of the ConfigMap `istio` in the root namespace, else the first one there is.
fn written(reader: &Reader<'_>) -> Option<Arc<Object<MeshConfig>>> {
    let mut found: Vec<_> = reader
        .objects(Topic::Kind(Kind::MeshConfig))
        .into_iter()
        .filter_map(|object| match object {
            AnyObject::MeshConfig(object) => Some(object),
            _ => None,
        })
        .collect();
    found.sort_by_key(|object| {
        let root = *object.meta.namespace == *reader.options().root_namespace;
        (
            !root,
            object.meta.name != "istio",
            object.meta.namespace.clone(),
            object.meta.name.clone(),
        )
    });
    found.into_iter().next()
}

fn defaults(options: &Options) -> Mesh {
    let all: Vec<Arc<str>> = vec!["*".into()];
    Mesh {
        origin: Origin::built_in("mesh configuration"),
        trust_domain: options.trust_domain.clone(),
        trust_domain_aliases: Vec::new(),
        authorities: Vec::new(),
        root_namespace: options.root_namespace.clone(),
        auto_mtls: true,
        unknown_destinations: UnknownDestinations::PassThrough,
        service_export: all.clone(),
        virtual_service_export: all.clone(),
        destination_rule_export: all,
        connect_timeout: Duration::from_secs(10),
        keepalive: None,
        upgrade_to_http2: false,
        outbound_retry: retry::outbound_default(options.profile),
        unnoticed_retry: retry::unnoticed(options.profile),
        inbound_retry: retry::inbound_default(),
        path_normalization: PathNormalization::Base,
        access_log: AccessLog::Off,
        access_log_path: "".into(),
        access_log_format: Vec::new(),
        detection_timeout: DETECTION_TIMEOUT,
        drain_duration: Duration::from_secs(45),
        authorizers: Vec::new(),
        trusted_proxies: 0,
        object: None,
    }
}

/// What a mesh configuration says, over the defaults.
pub(crate) fn translate(
    options: &Options,
    object: &Arc<Object<MeshConfig>>,
    report: &mut Report,
) -> Mesh {
    let spec = &object.spec;
    let of = |field: &str| object.origin_of(spec.at, field);
    let mut mesh = Mesh {
        origin: object.origin().clone(),
        object: Some(MeshObject(object.clone())),
        ..defaults(options)
    };
    if let Some(text) = spec.trust_domain.as_deref().filter(|text| !text.is_empty()) {
        match TrustDomain::parse(text) {
            Ok(domain) => mesh.trust_domain = domain,
            Err(error) => report.rejected(of("trustDomain"), error.to_string()),
        }
    }
    for (index, text) in spec.trust_domain_aliases.iter().enumerate() {
        match TrustDomain::parse(text) {
            Ok(domain) => mesh.trust_domain_aliases.push(domain),
            Err(error) => {
                let origin = object.origin_of_item(spec.at, "trustDomainAliases", index);
                report.rejected(origin, error.to_string());
            }
        }
    }
    authorities(object, &mut mesh, report);
    if let Some(root) = spec.root_namespace.as_deref().filter(|root| !root.is_empty()) {
        mesh.root_namespace = root.into();
    }
    mesh.auto_mtls = spec.enable_auto_mtls.unwrap_or(true);
    if let Some(policy) = &spec.outbound_traffic_policy {
        mesh.unknown_destinations = match policy.mode {
            // The enum's first value, which an empty mode is in Istio's encoding.
            Some(MeshOutboundMode::RegistryOnly) => UnknownDestinations::Refuse,
            Some(MeshOutboundMode::AllowAny) => UnknownDestinations::PassThrough,
            Some(MeshOutboundMode::AllowAnyDynamicDns) => {
                let why = "unknown names are passed through by address, not resolved anew";
                report.translated(object.origin_of(policy.at, "mode"), why);
                UnknownDestinations::PassThrough
            }
            None if object.is_broken(policy.at) => UnknownDestinations::Refuse,
            None => {
                let message = "a policy without mode means REGISTRY_ONLY";
                report.warning(codes::UPSTREAM_WARNING, object.origin_at(policy.at), message);
                UnknownDestinations::Refuse
            }
        };
    }
    for (list, target) in [
        (&spec.default_service_export_to, &mut mesh.service_export),
        (&spec.default_virtual_service_export_to, &mut mesh.virtual_service_export),
        (&spec.default_destination_rule_export_to, &mut mesh.destination_rule_export),
    ] {
        if !list.is_empty() {
            *target = list.iter().map(|text| text.as_str().into()).collect();
        }
    }
    connections(object, &mut mesh);
    retries(object, &mut mesh, report);
    telemetry(object, &mut mesh, report);
    let topology = spec.default_config.as_ref().and_then(|config| config.gateway_topology.as_ref());
    if let Some(hops) = topology.and_then(|topology| topology.num_trusted_proxies) {
        mesh.trusted_proxies = hops;
    }
    mesh.authorizers = authorizer::authorizers(object, report);
    destinations(object, &mesh, options, report);
    mesh
}

/// What cannot be taken as it is meant is left out, since an authority more is trust more.
fn authorities(object: &Object<MeshConfig>, mesh: &mut Mesh, report: &mut Report) {
    for authority in &object.spec.ca_certificates {
        let pem = authority.pem.as_deref().filter(|pem| !pem.is_empty());
        let url = authority.spiffe_bundle_url.as_deref().filter(|url| !url.is_empty());
        // Both at once was refused when it was read.
        if pem.is_some() && url.is_some() {
            continue;
        }
        if !authority.cert_signers.is_empty() {
            if pem.is_some() {
                let why = "an authority for signers of Kubernetes vouches for nobody here";
                report.unsupported(object.origin_of(authority.at, "pem"), why);
            }
            continue;
        }
        let mut trust_domains = Vec::new();
        let mut is_whole = true;
        for (index, text) in authority.trust_domains.iter().enumerate() {
            match TrustDomain::parse(text) {
                Ok(domain) => trust_domains.push(domain),
                Err(error) => {
                    is_whole = false;
                    let origin = object.origin_of_item(authority.at, "trustDomains", index);
                    report.rejected(origin, error.to_string());
                }
            }
        }
        // Without one of its domains none might be left, which would mean the mesh's own.
        if let Some(pem) = pem.filter(|_| is_whole) {
            let origin = object.origin_of(authority.at, "pem");
            mesh.authorities.push(MeshAuthority { pem: pem.into(), trust_domains, origin });
        }
    }
}

fn connections(object: &Object<MeshConfig>, mesh: &mut Mesh) {
    let spec = &object.spec;
    if let Some(timeout) = spec.connect_timeout.filter(|timeout| timeout.as_nanos() > 0) {
        mesh.connect_timeout = timeout.as_std();
    }
    mesh.keepalive = spec.tcp_keepalive.as_ref().map(|keepalive| TcpKeepalive {
        probes: keepalive.probes.filter(|probes| *probes > 0),
        time: keepalive.time.map(heddle_api::Duration::as_std),
        interval: keepalive.interval.map(heddle_api::Duration::as_std),
    });
    mesh.upgrade_to_http2 = spec.h2_upgrade_policy == Some(MeshH2UpgradePolicy::Upgrade);
    if let Some(timeout) = spec.protocol_detection_timeout.filter(|timeout| timeout.as_nanos() > 0)
    {
        mesh.detection_timeout = timeout.as_std();
    }
    let drain = spec.default_config.as_ref().and_then(|config| config.drain_duration);
    if let Some(drain) = drain.filter(|drain| drain.as_nanos() > 0) {
        mesh.drain_duration = drain.as_std();
    }
    if let Some(normalization) =
        spec.path_normalization.as_ref().and_then(|paths| paths.normalization)
    {
        mesh.path_normalization = match normalization {
            Normalization::None => PathNormalization::None,
            Normalization::Default | Normalization::Base => PathNormalization::Base,
            Normalization::MergeSlashes => PathNormalization::MergeSlashes,
            Normalization::DecodeAndMergeSlashes => PathNormalization::DecodeAndMergeSlashes,
        };
    }
}

fn retries(object: &Object<MeshConfig>, mesh: &mut Mesh, report: &mut Report) {
    let spec = &object.spec;
    for (written, policy) in [
        (&spec.default_http_retry_policy, &mut mesh.outbound_retry),
        (&spec.default_inbound_http_retry_policy, &mut mesh.inbound_retry),
    ] {
        let Some(written) = written else { continue };
        let place = Place {
            origin: object.origin_at(written.at),
            broken: object.is_broken(written.at),
            of: &|field| object.origin_of(written.at, field),
        };
        if written.per_try_timeout.is_some() {
            let message = "a default for the whole mesh has no time for one try";
            report.rejected((place.of)("perTryTimeout"), message);
        }
        let default = policy.clone();
        *policy = retry::policy(written, &default, &place, report);
        policy.per_try_timeout = None;
    }
    if spec.default_http_retry_policy.is_some() {
        mesh.unnoticed_retry = mesh.outbound_retry.clone();
    }
}

fn telemetry(object: &Object<MeshConfig>, mesh: &mut Mesh, report: &mut Report) {
    let spec = &object.spec;
    let of = |field: &str| object.origin_of(spec.at, field);
    if let Some(file) = spec.access_log_file.as_deref().filter(|file| !file.is_empty()) {
        mesh.access_log = match spec.access_log_encoding {
            Some(AccessLogEncoding::Json) => AccessLog::Json,
            Some(AccessLogEncoding::Text) | None => AccessLog::Text,
        };
        if file != "/dev/stdout" {
            mesh.access_log_path = file.into();
        }
    }
    let Some(format) = spec.access_log_format.as_deref().filter(|format| !format.is_empty()) else {
        return;
    };
    if spec.access_log_encoding == Some(AccessLogEncoding::Json) {
        match json_format(format) {
            Ok(keys) => mesh.access_log_format = keys,
            Err(why) => report.unsupported(of("accessLogFormat"), why),
        }
    } else {
        mesh.access_log_format = vec![("".into(), format.into())];
    }
}

/// Keys and the texts under them.
type LogKeys = Vec<(Arc<str>, Arc<str>)>;

/// The keys of a format in JSON and what stands under them.
fn json_format(text: &str) -> Result<LogKeys, String> {
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text)
        .map_err(|error| format!("no JSON object ({error}); the default format is used"))?;
    let entry = |(key, value): (String, serde_json::Value)| match value {
        serde_json::Value::String(value) => Ok((key.into(), value.into())),
        _ => Err(format!("`{key}` is not a text; the default format is used")),
    };
    object.into_iter().map(entry).collect()
}

/// What there is to say about settings that are read where destinations are made.
fn destinations(object: &Object<MeshConfig>, mesh: &Mesh, options: &Options, report: &mut Report) {
    let spec = &object.spec;
    if let Some(setting) = &spec.locality_lb_setting {
        locality::check_locality(&object.written, setting, report);
    }
    if let Some(policy) = &spec.default_traffic_policy {
        if let Some(pool) = &policy.connection_pool {
            traffic_policy::pool(&object.written, pool, mesh, report);
        }
        if let Some(outlier) = &policy.outlier_detection {
            traffic_policy::outlier(&object.written, outlier, options.profile, report);
        }
    }
}
