//! EnvoyFilter (`networking.istio.io`): read in full so that its findings have positions.

use std::collections::BTreeMap;

use super::common::{LabelsSelector, PolicyTargetReference};
use super::wasm::ExtensionPhase;
use crate::codes;
use crate::decode::Decoder;
use crate::value::Free;

object! {
    /// Changes of Envoy's configuration. heddle has no Envoy: all but a few shapes are reported as not supported.
    EnvoyFilter {
        /// The changes.
        "configPatches" => config_patches: Vec<ConfigPatch>,
        /// Order among EnvoyFilters.
        "priority" => priority: Option<i32>,
        /// Objects it is attached to, instead of a selector.
        "targetRefs" => target_refs: Vec<PolicyTargetReference> [count(0, 16)],
        /// Workloads it applies to.
        "workloadSelector" => workload_selector: Option<LabelsSelector>,
    }
    at_most_one ["workloadSelector", "targetRefs"]
}

object! {
    /// One change.
    ConfigPatch {
        /// What part of the configuration is changed.
        "applyTo" => apply_to: Option<ApplyTo>,
        /// Which ones of that part.
        "match" => matches: Option<PatchMatch>,
        /// The change.
        "patch" => patch: Option<Patch>,
    }
}

object! {
    /// Which parts are changed.
    PatchMatch {
        "cluster" => cluster: Option<ClusterMatch>,
        "context" => context: Option<PatchContext>,
        "listener" => listener: Option<ListenerMatch>,
        "proxy" => proxy: Option<ProxyMatch>,
        "routeConfiguration" => route_configuration: Option<RouteConfigurationMatch>,
        "waypoint" => waypoint: Option<WaypointMatch>,
    }
    at_most_one ["listener", "routeConfiguration", "cluster", "waypoint"]
    check waypoint_fits_context
}

object! {
    /// Which clusters.
    ClusterMatch {
        "name" => name: Option<String>,
        "portNumber" => port_number: Option<u16>,
        "service" => service: Option<String>,
        "subset" => subset: Option<String>,
    }
}

object! {
    /// Which listeners.
    ListenerMatch {
        "filterChain" => filter_chain: Option<FilterChainMatch>,
        "listenerFilter" => listener_filter: Option<String>,
        "name" => name: Option<String>,
        "portName" => port_name: Option<String>,
        "portNumber" => port_number: Option<u16>,
    }
}

object! {
    /// Which filter chains.
    FilterChainMatch {
        "applicationProtocols" => application_protocols: Option<String>,
        "destinationPort" => destination_port: Option<u16>,
        "filter" => filter: Option<FilterMatch>,
        "name" => name: Option<String>,
        "sni" => sni: Option<String>,
        "transportProtocol" => transport_protocol: Option<String>,
        "transportSocket" => transport_socket: Option<String>,
    }
}

object! {
    /// Which filters.
    FilterMatch {
        "name" => name: Option<String>,
        "subFilter" => sub_filter: Option<NameMatch>,
    }
}

object! {
    /// A name.
    NameMatch {
        "name" => name: Option<String>,
    }
}

object! {
    /// Which proxies.
    ProxyMatch {
        "metadata" => metadata: BTreeMap<String, String>,
        "proxyVersion" => proxy_version: Option<String>,
    }
}

object! {
    /// Which route tables.
    RouteConfigurationMatch {
        "gateway" => gateway: Option<String>,
        "name" => name: Option<String>,
        "portName" => port_name: Option<String>,
        "portNumber" => port_number: Option<u16>,
        "vhost" => vhost: Option<VirtualHostMatch>,
    }
}

object! {
    /// Which virtual hosts.
    VirtualHostMatch {
        "domainName" => domain_name: Option<String>,
        "name" => name: Option<String>,
        "route" => route: Option<EnvoyRouteMatch>,
    }
}

object! {
    /// Which routes.
    EnvoyRouteMatch {
        "action" => action: Option<EnvoyRouteAction>,
        "name" => name: Option<String>,
    }
}

object! {
    /// Which parts of a waypoint.
    WaypointMatch {
        "filter" => filter: Option<FilterMatch>,
        "portNumber" => port_number: Option<u16> [port],
        "route" => route: Option<NameMatch>,
    }
}

object! {
    /// A change.
    Patch {
        "filterClass" => filter_class: Option<ExtensionPhase>,
        "operation" => operation: Option<PatchOperation>,
        /// Envoy's own configuration.
        "value" => value: Option<Free>,
    }
}

choice! {
    /// Parts of Envoy's configuration.
    ApplyTo {
        "INVALID" => Invalid,
        "LISTENER" => Listener,
        "FILTER_CHAIN" => FilterChain,
        "NETWORK_FILTER" => NetworkFilter,
        "HTTP_FILTER" => HttpFilter,
        "ROUTE_CONFIGURATION" => RouteConfiguration,
        "VIRTUAL_HOST" => VirtualHost,
        "HTTP_ROUTE" => HttpRoute,
        "CLUSTER" => Cluster,
        "EXTENSION_CONFIG" => ExtensionConfig,
        "BOOTSTRAP" => Bootstrap,
        "LISTENER_FILTER" => ListenerFilter,
    }
}

choice! {
    /// Kinds of proxy.
    PatchContext {
        "ANY" => Any,
        "SIDECAR_INBOUND" => SidecarInbound,
        "SIDECAR_OUTBOUND" => SidecarOutbound,
        "GATEWAY" => Gateway,
        "WAYPOINT" => Waypoint,
    }
}

choice! {
    /// Kinds of route.
    EnvoyRouteAction {
        "ANY" => Any,
        "ROUTE" => Route,
        "REDIRECT" => Redirect,
        "DIRECT_RESPONSE" => DirectResponse,
    }
}

choice! {
    /// Kinds of change.
    PatchOperation {
        "INVALID" => Invalid,
        "MERGE" => Merge,
        "ADD" => Add,
        "REMOVE" => Remove,
        "INSERT_BEFORE" => InsertBefore,
        "INSERT_AFTER" => InsertAfter,
        "INSERT_FIRST" => InsertFirst,
        "REPLACE" => Replace,
        "MERGE_AND_REPLACE_LIST" => MergeAndReplaceList,
    }
}

/// `waypoint` is for the context `WAYPOINT` and for no other.
fn waypoint_fits_context(decoder: &mut Decoder<'_>, matches: &PatchMatch) {
    if (matches.context == Some(PatchContext::Waypoint)) != matches.waypoint.is_some() {
        let message = "`waypoint` and the context `WAYPOINT` need each other";
        decoder.error(codes::RULE, matches.at, message, None);
    }
}
