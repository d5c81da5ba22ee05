//! TODO

use super::*;
use crate::{Duration, Free, check};
use std::collections::BTreeMap;
object! {
    /// TODO.
    EnvoyFilter {
        "configPatches" => config_patches: Vec<ConfigPatch>,
        "priority" => priority: Option<i32>,
        "targetRefs" => target_refs: Vec<PolicyTargetReference> [count(0, 16)],
        "workloadSelector" => workload_selector: Option<LabelsSelector>,
    }
    at_most_one ["workloadSelector", "targetRefs"]
}

object! {
    /// TODO.
    ConfigPatch {
        "applyTo" => apply_to: Option<ApplyTo>,
        "match" => matches: Option<PatchMatch>,
        "patch" => patch: Option<Patch>,
    }
}

object! {
    /// TODO.
    PatchMatch {
        "cluster" => cluster: Option<ClusterMatch>,
        "context" => context: Option<PatchContext>,
        "listener" => listener: Option<ListenerMatch>,
        "proxy" => proxy: Option<ProxyMatch>,
        "routeConfiguration" => route_configuration: Option<RouteConfigurationMatch>,
        "waypoint" => waypoint: Option<WaypointMatch>,
    }
    at_most_one ["listener", "routeConfiguration", "cluster", "waypoint"]
    // CEL has(self.context) ? ((self.context == "WAYPOINT") ? has(self.waypoint) : !has(self.waypoint)) : !has(self.waypoint)
}

object! {
    /// TODO.
    ClusterMatch {
        "name" => name: Option<String>,
        "portNumber" => port_number: Option<u16>,
        "service" => service: Option<String>,
        "subset" => subset: Option<String>,
    }
}

object! {
    /// TODO.
    ListenerMatch {
        "filterChain" => filter_chain: Option<FilterChainMatch>,
        "listenerFilter" => listener_filter: Option<String>,
        "name" => name: Option<String>,
        "portName" => port_name: Option<String>,
        "portNumber" => port_number: Option<u16>,
    }
}

object! {
    /// TODO.
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
    /// TODO.
    FilterMatch {
        "name" => name: Option<String>,
        "subFilter" => sub_filter: Option<NameMatch>,
    }
}

object! {
    /// TODO.
    NameMatch {
        "name" => name: Option<String>,
    }
}

object! {
    /// TODO.
    ProxyMatch {
        "metadata" => metadata: BTreeMap<String, String>,
        "proxyVersion" => proxy_version: Option<String>,
    }
}

object! {
    /// TODO.
    RouteConfigurationMatch {
        "gateway" => gateway: Option<String>,
        "name" => name: Option<String>,
        "portName" => port_name: Option<String>,
        "portNumber" => port_number: Option<u16>,
        "vhost" => vhost: Option<VirtualHostMatch>,
    }
}

object! {
    /// TODO.
    VirtualHostMatch {
        "domainName" => domain_name: Option<String>,
        "name" => name: Option<String>,
        "route" => route: Option<EnvoyRouteMatch>,
    }
}

object! {
    /// TODO.
    EnvoyRouteMatch {
        "action" => action: Option<EnvoyRouteAction>,
        "name" => name: Option<String>,
    }
}

object! {
    /// TODO.
    WaypointMatch {
        "filter" => filter: Option<FilterMatch>,
        "portNumber" => port_number: Option<u16> [port],
        "route" => route: Option<NameMatch>,
    }
}

object! {
    /// TODO.
    Patch {
        "filterClass" => filter_class: Option<ExtensionPhase>,
        "operation" => operation: Option<PatchOperation>,
        "value" => value: Option<Free>,
    }
}

choice! {
    /// TODO.
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
    /// TODO.
    PatchContext {
        "ANY" => Any,
        "SIDECAR_INBOUND" => SidecarInbound,
        "SIDECAR_OUTBOUND" => SidecarOutbound,
        "GATEWAY" => Gateway,
        "WAYPOINT" => Waypoint,
    }
}

choice! {
    /// TODO.
    EnvoyRouteAction {
        "ANY" => Any,
        "ROUTE" => Route,
        "REDIRECT" => Redirect,
        "DIRECT_RESPONSE" => DirectResponse,
    }
}

choice! {
    /// TODO.
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
