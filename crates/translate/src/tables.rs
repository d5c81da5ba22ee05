//! The list of derivations: what is computed once and kept.

use std::collections::HashMap;

use crate::destinations::EffectiveRuleKey;
use crate::endpoint::EndpointsKey;
use crate::engine::{Engine, Stored, Topic};
use crate::gateway::{GatewayKey, ListenersKey};
use crate::gateway_api::attach::AttachedKey;
use crate::gateway_api::report::shadows::MatchesKey;
use crate::gateway_api::view::ViewKey;
use crate::inbound::{ForwardersKey, InboundKey, PolicyKey};
use crate::index::IndexKey;
use crate::istio::request_authentication::JwtRulesKey;
use crate::istio::sidecar::SidecarKey;
use crate::istio::virtual_service::ClaimsKey;
use crate::mesh::MeshKey;
use crate::network::peers::{NamedPortKey, NamedPorts, PeersKey};
use crate::outbound::OutboundQuery;
use crate::proxy::ProxyKey;
use crate::rate_limits::CountedDomainsKey;
use crate::report::ObjectReportKey;
use crate::secret::SecretQuery;
use crate::service::{ServiceKey, VisibleKey};
use crate::workload::{AddressKey, MutualTlsKey, WorkloadKey};

macro_rules! derivations {
    ($($(#[$meta:meta])* $variant:ident $table:ident: $key:ty => $value:ty;)+) => {
        /// A node of the graph of dependencies: an input or a derivation.
        #[derive(Clone, PartialEq, Eq, Hash, Debug)]
        pub(crate) enum Node {
            /// Objects.
            Topic(Topic),
            $($(#[$meta])* $variant($key),)+
        }

        /// Everything derived, by what it is.
        #[derive(Default)]
        pub(crate) struct Tables {
            $($table: HashMap<$key, $value>,)+
        }

        impl Node {
            /// Brings the value up to date; inputs always are.
            pub(crate) fn refresh(&self, engine: &Engine) {
                match self {
                    Self::Topic(_) => {}
                    $(Self::$variant(key) => { engine.refresh(key); })+
                }
            }

            /// Drops the value.
            pub(crate) fn remove_from(&self, tables: &mut Tables) {
                match self {
                    Self::Topic(_) => {}
                    $(Self::$variant(key) => { tables.$table.remove(key); })+
                }
            }
        }

        $(
            impl From<$key> for Node {
                fn from(key: $key) -> Self {
                    Self::$variant(key)
                }
            }

            impl Stored for $key {
                type Value = $value;

                fn table(tables: &mut Tables) -> &mut HashMap<Self, $value> {
                    &mut tables.$table
                }
            }
        )+
    };
}

derivations! {
    /// Settings of the mesh.
    Mesh mesh: MeshKey => std::sync::Arc<crate::mesh::Mesh>;
    /// Limits that heddle counts itself.
    CountedDomains counted_domains: CountedDomainsKey => std::sync::Arc<[heddle_ir::rate_limit::CountedDomain]>;
    /// The service of a host.
    Service services: ServiceKey => Option<std::sync::Arc<crate::service::Service>>;
    /// Every service that a namespace sees.
    Visible visible: VisibleKey => std::sync::Arc<[std::sync::Arc<crate::service::Service>]>;
    /// Endpoints of a service port.
    Endpoints endpoints: EndpointsKey => Option<std::sync::Arc<heddle_ir::endpoint::EndpointSet>>;
    /// The DestinationRules that decide for a host in one namespace.
    EffectiveRule rules: EffectiveRuleKey => std::sync::Arc<crate::destinations::RuleSet>;
    /// The VirtualServices that may decide for a host.
    Claims claims: ClaimsKey => std::sync::Arc<[crate::istio::virtual_service::Claim]>;
    /// The Sidecar that decides for a scope.
    Sidecar sidecars: SidecarKey => Option<std::sync::Arc<crate::istio::sidecar::Scoping>>;
    /// What is known of a pod besides its condition.
    Workload workloads: WorkloadKey => Option<std::sync::Arc<crate::workload::Facts>>;
    /// Whose an address is.
    Address addresses: AddressKey => Option<std::sync::Arc<heddle_ir::workload::Workload>>;
    /// Mutual TLS at a workload.
    MutualTls mutual_tls: MutualTlsKey => Option<std::sync::Arc<crate::istio::peer_authentication::Effective>>;
    /// One authorisation policy.
    Policy policies: PolicyKey => Option<std::sync::Arc<heddle_ir::authorization::Policy>>;
    /// The token rules of one RequestAuthentication.
    JwtRules jwt_rules: JwtRulesKey => std::sync::Arc<[std::sync::Arc<heddle_ir::authentication::JwtRule>]>;
    /// Who is believed about where requests come from.
    Forwarders forwarders: ForwardersKey => std::sync::Arc<[heddle_ident::SpiffeId]>;
    /// Ports and policy of a workload.
    Inbound inbound: InboundKey => Option<std::sync::Arc<heddle_ir::inbound::Inbound>>;
    /// Routes to a host and port.
    Outbound outbound: OutboundQuery => Option<std::sync::Arc<heddle_ir::outbound::Outbound>>;
    /// What gateway workloads of a scope listen on.
    Listeners listeners: ListenersKey => std::sync::Arc<crate::gateway::Listeners>;
    /// The gateway of a workload.
    Gateway gateways: GatewayKey => Option<std::sync::Arc<heddle_ir::gateway::Gateway>>;
    /// A certificate, key or authority.
    Secret secrets: SecretQuery => Option<std::sync::Arc<heddle_ir::secret::Secret>>;
    /// Where workloads have a port of a name.
    NamedPort named_ports: NamedPortKey => NamedPorts;
    /// Addresses of workloads by their labels.
    Peers peers: PeersKey => std::sync::Arc<[std::net::IpAddr]>;
    /// Names of a scope.
    Index index: IndexKey => Option<std::sync::Arc<heddle_ir::index::Index>>;
    /// Settings of a proxy.
    Proxy proxies: ProxyKey => Option<std::sync::Arc<heddle_ir::proxy::ProxySettings>>;
    /// A Gateway of the Gateway API.
    GatewayView gateway_views: ViewKey => Option<std::sync::Arc<crate::gateway_api::view::View>>;
    /// The routes of a Gateway of the Gateway API.
    GatewayRoutes gateway_routes: AttachedKey => std::sync::Arc<crate::gateway_api::attach::Attachments>;
    /// What the matches of a route of the Gateway API say.
    RouteMatches route_matches: MatchesKey => std::sync::Arc<crate::gateway_api::report::shadows::Matches>;
    /// What there is to say about an object.
    Report reports: ObjectReportKey => std::sync::Arc<crate::report::Report>;
}
