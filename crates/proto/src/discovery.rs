//! `envoy.service.discovery.v3`: the delta transport of xDS.
//!
//! heddle carries its own resource types over it. A client subscribes to names of a type, the server answers with
//! what changed; `sync` holds the rules of the exchange.

use std::collections::BTreeMap;

/// The path of the one call, `DeltaAggregatedResources`.
pub const DELTA_PATH: &str =
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
/// The full name of the service.
pub const SERVICE_NAME: &str = "envoy.service.discovery.v3.AggregatedDiscoveryService";

/// From client to server: a change of subscriptions, an acknowledgement, or both.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DeltaDiscoveryRequest {
    /// Who asks; on the first message of a stream. Only for display: the channel says who asks.
    #[prost(message, optional, tag = "1")]
    pub node: Option<Node>,
    /// The type that all names below belong to.
    #[prost(string, tag = "2")]
    pub type_url: String,
    /// Names that the client wants from now on. The server must answer each.
    #[prost(string, repeated, tag = "3")]
    pub resource_names_subscribe: Vec<String>,
    /// Names that the client no longer wants.
    #[prost(string, repeated, tag = "4")]
    pub resource_names_unsubscribe: Vec<String>,
    /// On the first message of a type on a stream: what the client holds, name to version.
    #[prost(btree_map = "string, string", tag = "5")]
    pub initial_resource_versions: BTreeMap<String, String>,
    /// The response that this acknowledges or refuses; empty: none.
    #[prost(string, tag = "6")]
    pub response_nonce: String,
    /// Set: the response was refused, and why.
    #[prost(message, optional, tag = "7")]
    pub error_detail: Option<Status>,
}

/// From server to client: what changed.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DeltaDiscoveryResponse {
    /// The revision of the whole configuration; only for display.
    #[prost(string, tag = "1")]
    pub system_version_info: String,
    /// New and changed resources.
    #[prost(message, repeated, tag = "2")]
    pub resources: Vec<Resource>,
    /// The type of all resources.
    #[prost(string, tag = "4")]
    pub type_url: String,
    /// What an acknowledgement refers to; never empty, unique on its stream.
    #[prost(string, tag = "5")]
    pub nonce: String,
    /// Names that do not exist (any more).
    #[prost(string, repeated, tag = "6")]
    pub removed_resources: Vec<String>,
}

/// A named, versioned resource.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Resource {
    /// Equal versions mean equal content.
    #[prost(string, tag = "1")]
    pub version: String,
    /// The content.
    #[prost(message, optional, tag = "2")]
    pub resource: Option<Any>,
    /// The name within its type.
    #[prost(string, tag = "3")]
    pub name: String,
}

/// `envoy.config.core.v3.Node`, as far as it is used.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Node {
    /// The client's name.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The group it belongs to.
    #[prost(string, tag = "2")]
    pub cluster: String,
    /// The program.
    #[prost(string, tag = "6")]
    pub user_agent_name: String,
    /// Its version.
    #[prost(string, tag = "7")]
    pub user_agent_version: String,
}

/// `google.rpc.Status` without details.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Status {
    /// A gRPC status code.
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// What went wrong, for the operator.
    #[prost(string, tag = "2")]
    pub message: String,
}

/// `google.protobuf.Any`: an encoded message and its type.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Any {
    /// The type.
    #[prost(string, tag = "1")]
    pub type_url: String,
    /// The encoded message.
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}
