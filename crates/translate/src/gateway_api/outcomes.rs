//! What becomes of each field of the Gateway API's kinds; what depends on values is said by the objects' reports.

use crate::outcomes::Becomes::{self, Applied, Ignored, Unsupported};

type Table = &'static [(&'static str, Becomes)];

const NO_DEFAULT_GATEWAYS: &str = "routes attach to the Gateways that they name; default Gateways are experimental and not supported";
const NO_EXTENSION: &str = "there are no filters of heddle's own; requests get 500";
const NO_OPTIONS: &str = "heddle has no options of its own here";

const GATEWAY_CLASS: Table = &[
    ("controllerName", Applied),
    ("description", Ignored("for people")),
    (
        "parametersRef",
        Unsupported(
            "there are no parameters of heddle's; a class of its own with some is not accepted",
        ),
    ),
];

const GATEWAY: Table = &[
    ("gatewayClassName", Applied),
    ("listeners", Applied),
    ("addresses", Applied),
    ("allowedListeners", Applied),
    ("defaultScope", Unsupported(NO_DEFAULT_GATEWAYS)),
    ("infrastructure.labels", Applied),
    ("infrastructure.annotations", Applied),
    (
        "infrastructure.parametersRef",
        Unsupported("Gateways of heddle's take no parameters; the Gateway is not accepted"),
    ),
    ("tls", Applied),
];

const LISTENER_SET: Table = &[("listeners", Applied), ("parentRef", Applied)];

pub(crate) const HTTP_ROUTE: Table = &[
    ("hostnames", Applied),
    ("parentRefs", Applied),
    ("rules", Applied),
    ("rules[].filters[].extensionRef", Unsupported(NO_EXTENSION)),
    ("rules[].backendRefs[].filters[].extensionRef", Unsupported(NO_EXTENSION)),
    ("useDefaultGateways", Unsupported(NO_DEFAULT_GATEWAYS)),
];

const GRPC_ROUTE: Table = &[
    ("hostnames", Applied),
    ("parentRefs", Applied),
    ("rules", Applied),
    ("rules[].filters[].extensionRef", Unsupported(NO_EXTENSION)),
    ("rules[].backendRefs[].filters[].extensionRef", Unsupported(NO_EXTENSION)),
    ("useDefaultGateways", Unsupported(NO_DEFAULT_GATEWAYS)),
];

const TLS_ROUTE: Table = &[
    ("hostnames", Applied),
    ("parentRefs", Applied),
    ("rules", Applied),
    ("useDefaultGateways", Unsupported(NO_DEFAULT_GATEWAYS)),
];

const TCP_ROUTE: Table = &[
    ("parentRefs", Applied),
    ("rules", Applied),
    ("useDefaultGateways", Unsupported(NO_DEFAULT_GATEWAYS)),
];

const UDP_ROUTE: Table = &[
    ("parentRefs", Applied),
    ("rules", Applied),
    ("useDefaultGateways", Unsupported(NO_DEFAULT_GATEWAYS)),
];

const REFERENCE_GRANT: Table = &[("from", Applied), ("to", Applied)];

const BACKEND_TLS_POLICY: Table =
    &[("targetRefs", Applied), ("validation", Applied), ("options", Unsupported(NO_OPTIONS))];

/// The tables by kind.
pub(crate) const TABLES: &[(&str, Table)] = &[
    ("BackendTLSPolicy", BACKEND_TLS_POLICY),
    ("GRPCRoute", GRPC_ROUTE),
    ("Gateway", GATEWAY),
    ("GatewayClass", GATEWAY_CLASS),
    ("HTTPRoute", HTTP_ROUTE),
    ("ListenerSet", LISTENER_SET),
    ("ReferenceGrant", REFERENCE_GRANT),
    ("TCPRoute", TCP_ROUTE),
    ("TLSRoute", TLS_ROUTE),
    ("UDPRoute", UDP_ROUTE),
    ("XListenerSet", LISTENER_SET),
];
