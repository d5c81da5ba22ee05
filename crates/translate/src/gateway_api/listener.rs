//! One listener, checked: what it serves, with which certificates, for which routes.

use std::sync::Arc;

use heddle_api::gateway_api::{
    AllowedRoutes, FrontendTls, FrontendValidation, FrontendValidationMode, GROUP, Listener,
    ListenerTls, ListenerTlsMode, RouteNamespacesFrom,
};
use heddle_api::{LabelSelector, Resource as AnyObject, Written};
use heddle_diag::Origin;
use heddle_ident::HostPattern;
use heddle_ir::gateway::{
    AuthoritySource, CertificateSource, ClientCertificate, ServerTls, TlsTermination, TlsVersion,
};
use heddle_ir::secret::SecretKey;

use crate::engine::Reader;
use crate::gateway_api::certificates::{self, Referrer, Unresolved};
use crate::gateway_api::route::RouteKind;
use crate::object::ObjectKey;
use crate::secret::SecretQuery;

/// What a listener speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Protocol {
    Http,
    Https,
    Tls,
    Tcp,
    Udp,
    /// Not served.
    Other,
}

/// Namespaces from which routes (or ListenerSets) may attach.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Namespaces {
    All,
    None,
    Same,
    Selector(Option<LabelSelector>),
}

impl Namespaces {
    /// Whether an object of `namespace` may attach to one of `own`.
    pub(crate) fn take(&self, reader: &Reader<'_>, own: &str, namespace: &str) -> bool {
        match self {
            Self::All => true,
            Self::None => false,
            Self::Same => own == namespace,
            // A selector that is not there selects nothing.
            Self::Selector(selector) => selector.as_ref().is_some_and(|selector| {
                let object = reader.object(&ObjectKey::new("", "Namespace", "", namespace));
                let mut labels = match &object {
                    Some(AnyObject::Namespace(object)) => object.meta.labels.clone(),
                    _ => std::collections::BTreeMap::new(),
                };
                // Kubernetes sets it on every namespace.
                labels.insert("kubernetes.io/metadata.name".to_owned(), namespace.to_owned());
                selector.matches(&labels)
            }),
        }
    }
}

/// Why two listeners cannot be both.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Conflict {
    Hostname,
    Protocol,
}

impl Conflict {
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Hostname => "HostnameConflict",
            Self::Protocol => "ProtocolConflict",
        }
    }
}

/// A listener with what is known of it.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct ListenerView {
    /// The Gateway or ListenerSet that writes it.
    pub(crate) owner: ObjectKey,
    pub(crate) origin: Origin,
    pub(crate) name: Arc<str>,
    pub(crate) host: HostPattern,
    pub(crate) port: u16,
    pub(crate) protocol: Protocol,
    /// TLS with whatever of it is valid; none for plaintext.
    pub(crate) tls: Option<ServerTls>,
    /// Kinds that may attach.
    pub(crate) kinds: Vec<RouteKind>,
    pub(crate) namespaces: Namespaces,
    pub(crate) conflict: Option<Conflict>,
    /// Why it is not accepted, conflicts apart.
    pub(crate) refused: Option<Unresolved>,
    /// The first reference that leads to nothing.
    pub(crate) unresolved: Option<Unresolved>,
}

impl ListenerView {
    pub(crate) fn is_accepted(&self) -> bool {
        self.conflict.is_none() && self.refused.is_none()
    }

    /// Whether connections to it are served.
    pub(crate) fn is_programmed(&self) -> bool {
        let certified = match &self.tls {
            Some(ServerTls::Terminate(termination)) => !termination.certificates.is_empty(),
            Some(ServerTls::Passthrough | ServerTls::AutoPassthrough) | None => true,
        };
        self.is_accepted() && certified
    }

    /// Whether its connections begin with a TLS handshake.
    pub(crate) fn is_tls(&self) -> bool {
        matches!(self.protocol, Protocol::Https | Protocol::Tls)
    }
}

/// What checking a listener needs to know of its Gateway.
pub(crate) struct Surroundings<'a> {
    pub(crate) reader: &'a Reader<'a>,
    pub(crate) owner: ObjectKey,
    pub(crate) owner_kind: &'static str,
    pub(crate) written: &'a Written,
    /// TLS towards clients, with the Gateway's namespace.
    pub(crate) frontend: Option<&'a FrontendTls>,
    pub(crate) gateway_namespace: &'a str,
}

/// Looks at a listener, conflicts with others apart.
pub(crate) fn view(listener: &Listener, surroundings: &Surroundings<'_>) -> ListenerView {
    let written = surroundings.written;
    let (protocol, fitting): (Protocol, &[RouteKind]) = match listener.protocol.as_str() {
        "HTTP" => (Protocol::Http, &[RouteKind::Http, RouteKind::Grpc]),
        "HTTPS" => (Protocol::Https, &[RouteKind::Http, RouteKind::Grpc]),
        "TLS" => (Protocol::Tls, &[RouteKind::Tls]),
        "TCP" => (Protocol::Tcp, &[RouteKind::Tcp]),
        "UDP" => (Protocol::Udp, &[RouteKind::Udp]),
        _ => (Protocol::Other, &[]),
    };
    let mut refused = (protocol == Protocol::Other).then(|| {
        let message = format!("the protocol `{}` is not supported", listener.protocol);
        Unresolved::new("UnsupportedProtocol", message)
    });
    if refused.is_none() && is_unreadable(listener, written) {
        refused = Some(Unresolved::new("Invalid", "the listener has an error, see `analyze`"));
    }
    let (kinds, invalid_kind) = kinds(listener.allowed_routes.as_ref(), fitting);
    let mut unresolved = invalid_kind;
    let tls = match protocol {
        Protocol::Https | Protocol::Tls => {
            Some(tls(listener, protocol, surroundings, &mut unresolved, &mut refused))
        }
        Protocol::Http | Protocol::Tcp | Protocol::Udp | Protocol::Other => None,
    };
    let host = listener.hostname.as_deref().filter(|host| !host.is_empty());
    ListenerView {
        owner: surroundings.owner.clone(),
        origin: written.origin_at(listener.at),
        name: listener.name.as_str().into(),
        host: host.and_then(|host| HostPattern::parse(host).ok()).unwrap_or(HostPattern::Any),
        port: listener.port,
        protocol,
        tls,
        kinds,
        namespaces: namespaces(listener.allowed_routes.as_ref(), written),
        conflict: None,
        refused,
        unresolved,
    }
}

/// Whether what it listens for, or on what, cannot be known.
fn is_unreadable(listener: &Listener, written: &Written) -> bool {
    ["name", "hostname", "port", "protocol"]
        .iter()
        .any(|field| written.field(listener.at, field).is_some_and(|at| written.is_broken(at)))
        || written.broken().contains(&listener.at)
}

/// The kinds that may attach, and what to say when others are listed.
fn kinds(
    allowed: Option<&AllowedRoutes>,
    fitting: &[RouteKind],
) -> (Vec<RouteKind>, Option<Unresolved>) {
    let listed = allowed.map(|allowed| allowed.kinds.as_slice()).unwrap_or_default();
    if listed.is_empty() || fitting.is_empty() {
        return (fitting.to_vec(), None);
    }
    let (mut kinds, mut invalid) = (Vec::new(), None);
    for one in listed {
        let group = one.group.as_deref().unwrap_or(GROUP);
        let known = fitting.iter().find(|kind| group == GROUP && kind.as_str() == one.kind);
        match known {
            Some(kind) if !kinds.contains(kind) => kinds.push(*kind),
            Some(_) => {}
            None => {
                let message = format!("the listener takes no `{}`", one.kind);
                invalid.get_or_insert(Unresolved::new("InvalidRouteKinds", message));
            }
        }
    }
    (kinds, invalid)
}

fn namespaces(allowed: Option<&AllowedRoutes>, written: &Written) -> Namespaces {
    let Some(namespaces) = allowed.and_then(|allowed| allowed.namespaces.as_ref()) else {
        // Which namespaces were meant cannot be known where the field has an error.
        let broken =
            allowed.is_some_and(|allowed| written.is_field_broken(allowed.at, "namespaces"));
        return if broken { Namespaces::None } else { Namespaces::Same };
    };
    if written.is_broken(namespaces.at) {
        return Namespaces::None;
    }
    match namespaces.from.unwrap_or(RouteNamespacesFrom::Same) {
        RouteNamespacesFrom::All => Namespaces::All,
        RouteNamespacesFrom::Same => Namespaces::Same,
        RouteNamespacesFrom::Selector => Namespaces::Selector(namespaces.selector.clone()),
    }
}

fn tls(
    listener: &Listener,
    protocol: Protocol,
    surroundings: &Surroundings<'_>,
    unresolved: &mut Option<Unresolved>,
    refused: &mut Option<Unresolved>,
) -> ServerTls {
    let mode = listener.tls.as_ref().map_or(ListenerTlsMode::Terminate, ListenerTls::mode);
    if mode == ListenerTlsMode::Passthrough {
        return ServerTls::Passthrough;
    }
    let mut termination = TlsTermination {
        certificates: Vec::new(),
        client_certificate: ClientCertificate::Ignore,
        client_authority: None,
        subject_alt_names: Vec::new(),
        certificate_pins: Vec::new(),
        version_min: TlsVersion::V1_2,
        version_max: TlsVersion::V1_3,
        revocations_path: None,
        cipher_suites: Vec::new(),
    };
    let references = listener.tls.as_ref().map(|tls| tls.certificate_refs.as_slice());
    let referrer =
        Referrer { kind: surroundings.owner_kind, namespace: &surroundings.owner.name.namespace };
    for reference in references.unwrap_or_default() {
        let reason = "InvalidCertificateRef";
        match certificates::key_pair(surroundings.reader, referrer, reference, reason) {
            Ok(key) => termination.certificates.push(CertificateSource::Secret(key)),
            Err(error) => {
                unresolved.get_or_insert(error);
            }
        }
    }
    let mode = listener.tls.as_ref().and_then(|tls| tls.options.get(TERMINATE_MODE));
    let is_mesh = mode.is_some_and(|mode| mode == "ISTIO_MUTUAL");
    if let Some(mode) = mode {
        terminate_mode(mode, surroundings.reader, &mut termination, refused);
    }
    if references.unwrap_or_default().is_empty() && !is_mesh {
        let message = "the listener names no certificate";
        unresolved.get_or_insert(Unresolved::new("InvalidCertificateRef", message));
    }
    let validation = (protocol == Protocol::Https)
        .then(|| frontend_validation(surroundings.frontend?, listener.port))
        .flatten();
    if let Some(validation) = validation {
        client(validation, surroundings, &mut termination, unresolved, refused);
    }
    ServerTls::Terminate(termination)
}

/// Istio's option for what is asked of clients, in the words of its own Gateway.
pub(crate) const TERMINATE_MODE: &str = "gateway.istio.io/tls-terminate-mode";

/// Asks of clients what the option says. A word that is not known refuses the listener: it may have meant to keep
/// somebody out.
fn terminate_mode(
    mode: &str,
    reader: &Reader<'_>,
    termination: &mut TlsTermination,
    refused: &mut Option<Unresolved>,
) {
    let certificate = match mode {
        "SIMPLE" => return,
        "ISTIO_MUTUAL" => {
            termination.certificates = vec![CertificateSource::Mesh];
            termination.client_authority = Some(AuthoritySource::Mesh);
            termination.client_certificate = ClientCertificate::Require;
            return;
        }
        "MUTUAL" => ClientCertificate::Require,
        "OPTIONAL_MUTUAL" => ClientCertificate::Optional,
        other => {
            let message = format!("`{other}` is no mode of `{TERMINATE_MODE}` that is supported");
            refused.get_or_insert(Unresolved::new("Invalid", message));
            return;
        }
    };
    // Who vouches for clients stands beside the certificate, or in a Secret of its own.
    let keys = termination.certificates.iter().filter_map(|source| match source {
        CertificateSource::Secret(key) => Some(key.clone()),
        _ => None,
    });
    let keys = keys.flat_map(|key| {
        let name = format!("{}-cacert", key.name).into();
        let beside = SecretKey { name, ..key.clone() };
        let is_there = reader.read(&SecretQuery(beside.clone())).is_some();
        [Some(beside).filter(|_| is_there), Some(key)]
    });
    termination.client_authority = Some(AuthoritySource::Secrets(keys.flatten().collect()));
    termination.client_certificate = certificate;
}

/// How clients of a port are checked: the port's settings go before the default, as a whole.
fn frontend_validation(frontend: &FrontendTls, port: u16) -> Option<&FrontendValidation> {
    let of_port = frontend.per_port.iter().find(|one| one.port == port);
    of_port.map_or(&frontend.default, |one| &one.tls).validation.as_ref()
}

fn client(
    validation: &FrontendValidation,
    surroundings: &Surroundings<'_>,
    termination: &mut TlsTermination,
    unresolved: &mut Option<Unresolved>,
    refused: &mut Option<Unresolved>,
) {
    let referrer = Referrer { kind: "Gateway", namespace: surroundings.gateway_namespace };
    let mut roots = Vec::new();
    for reference in &validation.ca_certificate_refs {
        let namespace = reference.namespace.as_deref().unwrap_or(referrer.namespace);
        let (group, kind) = (&reference.group, &reference.kind);
        let found = certificates::authority(
            surroundings.reader,
            referrer,
            group,
            kind,
            namespace,
            &reference.name,
        );
        match found {
            Ok(key) => roots.push(key),
            Err(Unresolved { reason, message }) => {
                let reason =
                    if reason == "InvalidKind" { "InvalidCACertificateKind" } else { reason };
                unresolved.get_or_insert(Unresolved { reason, message });
            }
        }
    }
    termination.client_certificate = match validation.mode {
        Some(FrontendValidationMode::AllowInsecureFallback) => ClientCertificate::Unverified,
        Some(FrontendValidationMode::AllowValidOnly) | None => ClientCertificate::Require,
    };
    if roots.is_empty() {
        let message = "no authority that vouches for clients is valid: every handshake fails";
        refused.get_or_insert(Unresolved::new("NoValidCACertificate", message));
    } else {
        termination.client_authority = Some(AuthoritySource::Secrets(roots));
    }
}
