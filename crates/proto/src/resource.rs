//! Resources as the config stream carries them: type, name, version and content.

use std::fmt::Write as _;
use std::net::IpAddr;

use heddle_ident::{Host, NetworkName, WorkloadId};
use heddle_ir::endpoint::EndpointSetKey;
use heddle_ir::outbound::{OutboundKey, ScopeId};
use heddle_ir::resource::{Resource, ResourceName};
use heddle_ir::secret::{SecretKey, SecretKind};
use sha2::{Digest, Sha256};

use crate::wire::{Item, Malformed, Problem, RESOURCE_BYTES_MAX, Raw};

/// What all of heddle's type URLs begin with.
const TYPE_PREFIX: &str = "type.heddle.dev/heddle.v1.";
/// The only name of its type.
const TRUST_BUNDLE_NAME: &str = "mesh";
/// The longest name in bytes: three names of hosts or workloads, escaped.
pub const NAME_BYTES_MAX: usize = 4096;

/// A type of resource.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum ResourceType {
    // In the order in which a stream sends them, so that what is referred to comes first.
    /// [`heddle_ir::trust::TrustBundle`].
    TrustBundle,
    /// [`heddle_ir::proxy::ProxySettings`].
    Proxy,
    /// [`heddle_ir::workload::Workload`].
    Workload,
    /// [`heddle_ir::inbound::Inbound`].
    Inbound,
    /// [`heddle_ir::endpoint::EndpointSet`].
    Endpoints,
    /// [`heddle_ir::secret::Secret`].
    Secret,
    /// [`heddle_ir::outbound::Outbound`].
    Outbound,
    /// [`heddle_ir::gateway::Gateway`].
    Gateway,
    /// [`heddle_ir::index::Index`].
    Index,
}

impl ResourceType {
    /// All types, in the order in which a stream sends them.
    pub const ALL: [Self; 9] = [
        Self::TrustBundle,
        Self::Proxy,
        Self::Workload,
        Self::Inbound,
        Self::Endpoints,
        Self::Secret,
        Self::Outbound,
        Self::Gateway,
        Self::Index,
    ];

    /// The type of the resource of that name.
    pub fn of(name: &ResourceName) -> Self {
        match name {
            ResourceName::Endpoints(_) => Self::Endpoints,
            ResourceName::Gateway(_) => Self::Gateway,
            ResourceName::Inbound(_) => Self::Inbound,
            ResourceName::Index(_) => Self::Index,
            ResourceName::Outbound(_) => Self::Outbound,
            ResourceName::Proxy(_) => Self::Proxy,
            ResourceName::Secret(_) => Self::Secret,
            ResourceName::TrustBundle => Self::TrustBundle,
            ResourceName::Workload(..) => Self::Workload,
        }
    }

    /// `type.heddle.dev/heddle.v1.<Name>`.
    pub fn url(self) -> &'static str {
        match self {
            Self::Endpoints => "type.heddle.dev/heddle.v1.EndpointSet",
            Self::Gateway => "type.heddle.dev/heddle.v1.Gateway",
            Self::Inbound => "type.heddle.dev/heddle.v1.Inbound",
            Self::Index => "type.heddle.dev/heddle.v1.Index",
            Self::Outbound => "type.heddle.dev/heddle.v1.Outbound",
            Self::Proxy => "type.heddle.dev/heddle.v1.ProxySettings",
            Self::Secret => "type.heddle.dev/heddle.v1.Secret",
            Self::TrustBundle => "type.heddle.dev/heddle.v1.TrustBundle",
            Self::Workload => "type.heddle.dev/heddle.v1.Workload",
        }
    }

    /// The type of that URL; none for one that is not heddle's.
    pub fn parse(url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|each| each.url() == url)
    }

    /// The name without the type's prefix, for logs and status.
    pub fn short_name(self) -> &'static str {
        self.url().strip_prefix(TYPE_PREFIX).unwrap_or_else(|| self.url())
    }
}

/// An encoded resource with its version.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Encoded {
    /// Hash of the content: equal content, equal version, whichever process encoded it.
    pub version: String,
    /// The content.
    pub bytes: Vec<u8>,
}

/// Encodes a resource. Total: whatever the IR can say has an encoding.
pub fn encode(resource: &Resource) -> Encoded {
    let mut bytes = Vec::new();
    // Written as field 1 of an envelope, so that the content is a message like any other.
    match resource {
        Resource::Endpoints(endpoints) => endpoints.write(1, &mut bytes),
        Resource::Gateway(gateway) => gateway.write(1, &mut bytes),
        Resource::Inbound(inbound) => inbound.write(1, &mut bytes),
        Resource::Index(index) => index.write(1, &mut bytes),
        Resource::Outbound(outbound) => outbound.write(1, &mut bytes),
        Resource::Proxy(settings) => settings.write(1, &mut bytes),
        Resource::Secret(secret) => secret.write(1, &mut bytes),
        Resource::TrustBundle(bundle) => bundle.write(1, &mut bytes),
        Resource::Workload(workload) => workload.write(1, &mut bytes),
    }
    Encoded { version: version(&bytes), bytes }
}

/// Decodes the resource of that name. A content that speaks for another name is refused.
pub fn decode(name: &ResourceName, bytes: &[u8]) -> Result<Resource, Malformed> {
    if bytes.len() > RESOURCE_BYTES_MAX {
        return Err(Problem::TooMany(bytes.len()).into());
    }
    let mut envelope = Raw::Bytes(bytes).fields()?;
    let resource = match ResourceType::of(name) {
        ResourceType::Endpoints => Resource::Endpoints(envelope.take(1, "")?),
        ResourceType::Gateway => Resource::Gateway(envelope.take(1, "")?),
        ResourceType::Inbound => Resource::Inbound(envelope.take(1, "")?),
        ResourceType::Index => Resource::Index(envelope.take(1, "")?),
        ResourceType::Outbound => Resource::Outbound(envelope.take(1, "")?),
        ResourceType::Proxy => Resource::Proxy(envelope.take(1, "")?),
        ResourceType::Secret => Resource::Secret(envelope.take(1, "")?),
        ResourceType::TrustBundle => Resource::TrustBundle(envelope.take(1, "")?),
        ResourceType::Workload => Resource::Workload(envelope.take(1, "")?),
    };
    envelope.finish()?;
    if !speaks_for(&resource, name) {
        return Err(Problem::Invalid(format!("content is not that of {name}")).into());
    }
    Ok(resource)
}

/// Whether the content belongs under the name. An index does not name its scope.
fn speaks_for(resource: &Resource, name: &ResourceName) -> bool {
    match (resource, name) {
        (Resource::Endpoints(set), ResourceName::Endpoints(key)) => set.key == *key,
        (Resource::Gateway(gateway), ResourceName::Gateway(id)) => gateway.workload == *id,
        (Resource::Secret(secret), ResourceName::Secret(key)) => secret.key == *key,
        (Resource::Inbound(inbound), ResourceName::Inbound(id)) => inbound.workload == *id,
        (Resource::Outbound(outbound), ResourceName::Outbound(key)) => outbound.key == *key,
        (Resource::Proxy(settings), ResourceName::Proxy(id)) => settings.workload.id == *id,
        (Resource::Workload(workload), ResourceName::Workload(network, address)) => {
            workload.network == *network && workload.addresses.contains(address)
        }
        (Resource::Index(_), ResourceName::Index(_))
        | (Resource::TrustBundle(_), ResourceName::TrustBundle) => true,
        _ => false,
    }
}

/// The first half of SHA-256, in hexadecimal.
pub(crate) fn version(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().take(16).fold(String::with_capacity(32), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The name within its type, as text. Parts are separated by `/`; inside a part of several, `%` and `/` are escaped.
pub fn name_text(name: &ResourceName) -> String {
    match name {
        ResourceName::Endpoints(key) => format!("{}/{}", key.host, key.port),
        ResourceName::Gateway(id) | ResourceName::Inbound(id) | ResourceName::Proxy(id) => {
            id.to_string()
        }
        ResourceName::Index(scope) => scope.0.to_string(),
        ResourceName::Outbound(key) => {
            format!("{}/{}/{}", escape(&key.scope.0), escape(&key.host), key.port)
        }
        ResourceName::Secret(key) => {
            let kind = secret_kind_text(key.kind);
            format!("{kind}/{}/{}", escape(&key.namespace), escape(&key.name))
        }
        ResourceName::TrustBundle => TRUST_BUNDLE_NAME.to_owned(),
        ResourceName::Workload(network, address) => {
            format!("{}/{address}", escape(network.as_str()))
        }
    }
}

/// Parses what [`name_text`] wrote; anything that it would not have written is an error.
pub fn parse_name(resource_type: ResourceType, text: &str) -> Result<ResourceName, ParseNameError> {
    let name = if text.len() > NAME_BYTES_MAX { None } else { try_parse(resource_type, text) };
    name.filter(|name| name_text(name) == text)
        .ok_or_else(|| ParseNameError { resource_type, text: text.chars().take(200).collect() })
}

fn try_parse(resource_type: ResourceType, text: &str) -> Option<ResourceName> {
    let mut parts = text.split('/');
    Some(match resource_type {
        ResourceType::Endpoints => {
            let host = Host::parse(parts.next()?).ok()?;
            ResourceName::Endpoints(EndpointSetKey { host, port: parts.next()?.parse().ok()? })
        }
        ResourceType::Gateway => ResourceName::Gateway(WorkloadId::new(text)),
        ResourceType::Inbound => ResourceName::Inbound(WorkloadId::new(text)),
        ResourceType::Index => ResourceName::Index(ScopeId(text.into())),
        ResourceType::Outbound => {
            let scope = ScopeId(unescape(parts.next()?)?.into());
            let host = unescape(parts.next()?)?.into();
            ResourceName::Outbound(OutboundKey { scope, host, port: parts.next()?.parse().ok()? })
        }
        ResourceType::Proxy => ResourceName::Proxy(WorkloadId::new(text)),
        ResourceType::Secret => {
            let kind = parts.next()?;
            let kinds = [SecretKind::ConfigMap, SecretKind::Secret];
            let kind = kinds.into_iter().find(|each| secret_kind_text(*each) == kind)?;
            let namespace = unescape(parts.next()?)?.into();
            ResourceName::Secret(SecretKey {
                kind,
                namespace,
                name: unescape(parts.next()?)?.into(),
            })
        }
        ResourceType::TrustBundle => ResourceName::TrustBundle,
        ResourceType::Workload => {
            let network = NetworkName::new(unescape(parts.next()?)?);
            let address: IpAddr = parts.next()?.parse().ok()?;
            ResourceName::Workload(network, address)
        }
    })
}

fn secret_kind_text(kind: SecretKind) -> &'static str {
    match kind {
        SecretKind::ConfigMap => "ConfigMap",
        SecretKind::Secret => "Secret",
    }
}

fn escape(part: &str) -> String {
    part.replace('%', "%25").replace('/', "%2F")
}

fn unescape(part: &str) -> Option<String> {
    let mut pieces = part.split('%');
    let mut text = pieces.next()?.to_owned();
    for piece in pieces {
        if let Some(rest) = piece.strip_prefix("25") {
            text.push('%');
            text.push_str(rest);
        } else {
            text.push('/');
            text.push_str(piece.strip_prefix("2F")?);
        }
    }
    Some(text)
}

/// The text is not the name of a resource of the type.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParseNameError {
    /// The type.
    pub resource_type: ResourceType,
    /// The text, at most 200 characters of it.
    pub text: String,
}

impl std::fmt::Display for ParseNameError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} does not name a resource of type {}", self.text, self.resource_type.url())
    }
}

impl std::error::Error for ParseNameError {}

#[cfg(test)]
mod tests;
