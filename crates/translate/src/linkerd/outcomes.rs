//! What becomes of each field of Linkerd's kinds.

use crate::outcomes::{Becomes, Table};

use Becomes::{Applied, Unsupported};

const SERVICE_PROFILE: Table = &[
    ("routes", Applied),
    ("retryBudget", Applied),
    ("dstOverrides", Applied),
    ("opaquePorts", Applied),
];

const SERVER: Table = &[
    ("accessPolicy", Applied),
    ("podSelector", Applied),
    (
        "externalWorkloadSelector",
        Unsupported("what runs outside has no proxy of this mesh, so nothing is enforced there"),
    ),
    ("port", Applied),
    ("proxyProtocol", Applied),
];

const SERVER_AUTHORIZATION: Table = &[("server", Applied), ("client", Applied)];

const AUTHORIZATION_POLICY: Table =
    &[("targetRef", Applied), ("requiredAuthenticationRefs", Applied)];

const MESH_TLS_AUTHENTICATION: Table = &[("identities", Applied), ("identityRefs", Applied)];

const NETWORK_AUTHENTICATION: Table = &[("networks", Applied)];

const EGRESS_NETWORK: Table = &[("trafficPolicy", Applied), ("networks", Applied)];

const RATE_LIMIT: Table =
    &[("targetRef", Applied), ("total", Applied), ("identity", Applied), ("overrides", Applied)];

/// The tables, by kind.
pub(crate) const TABLES: &[(&str, Table)] = &[
    ("AuthorizationPolicy", AUTHORIZATION_POLICY),
    ("EgressNetwork", EGRESS_NETWORK),
    ("HTTPLocalRateLimitPolicy", RATE_LIMIT),
    ("HTTPRoute", crate::gateway_api::outcomes::HTTP_ROUTE),
    ("MeshTLSAuthentication", MESH_TLS_AUTHENTICATION),
    ("NetworkAuthentication", NETWORK_AUTHENTICATION),
    ("Server", SERVER),
    ("ServerAuthorization", SERVER_AUTHORIZATION),
    ("ServiceProfile", SERVICE_PROFILE),
];

/// Kinds of which nothing is done.
pub(crate) const NOT_ENFORCED: &[(&str, &str)] = &[
    (
        "ExternalWorkload",
        "machines outside are not endpoints of Services yet; write a ServiceEntry with the address",
    ),
    ("Link", "other clusters are not linked yet: nothing is mirrored"),
];
