//! What becomes of each field of network policies. What depends on values is said by the objects' reports.

use crate::outcomes::{Becomes, Table};

use Becomes::{Applied, Ignored, Unsupported};

const NO_CLOUD: &str = "nobody asks a cloud for the addresses of its groups";
const NO_NODES: &str = "nodes are not told apart by their labels";
const REMOVED: &str = "removed from Cilium";

/// Paths below a rule: of `spec`, or of an item of `specs`.
const RULE: Table = &[
    ("description", Ignored("for people")),
    ("egress", Applied),
    ("egress[].toGroups", Unsupported(NO_CLOUD)),
    ("egress[].toNodes", Unsupported(NO_NODES)),
    ("egress[].toPorts[].listener", Unsupported("there is no Envoy")),
    ("egress[].toPorts[].originatingTLS", Unsupported(NO_TLS)),
    ("egress[].toPorts[].rules.kafka", Unsupported(NO_KAFKA)),
    ("egress[].toPorts[].rules.l7", Unsupported(NO_PLUG_INS)),
    ("egress[].toPorts[].rules.l7proto", Unsupported(NO_PLUG_INS)),
    ("egress[].toPorts[].terminatingTLS", Unsupported(NO_TLS)),
    ("egress[].toRequires", Ignored(REMOVED)),
    ("egressDeny", Applied),
    ("egressDeny[].toGroups", Unsupported(NO_CLOUD)),
    ("egressDeny[].toNodes", Unsupported(NO_NODES)),
    ("egressDeny[].toRequires", Ignored(REMOVED)),
    ("enableDefaultDeny", Applied),
    ("endpointSelector", Applied),
    ("ingress", Applied),
    ("ingress[].fromGroups", Unsupported(NO_CLOUD)),
    ("ingress[].fromNodes", Unsupported(NO_NODES)),
    ("ingress[].fromRequires", Ignored(REMOVED)),
    ("ingress[].toPorts[].listener", Unsupported("there is no Envoy")),
    ("ingress[].toPorts[].originatingTLS", Unsupported(NO_TLS)),
    ("ingress[].toPorts[].rules.kafka", Unsupported(NO_KAFKA)),
    ("ingress[].toPorts[].rules.l7", Unsupported(NO_PLUG_INS)),
    ("ingress[].toPorts[].rules.l7proto", Unsupported(NO_PLUG_INS)),
    ("ingress[].toPorts[].terminatingTLS", Unsupported(NO_TLS)),
    ("ingressDeny", Applied),
    ("ingressDeny[].fromGroups", Unsupported(NO_CLOUD)),
    ("ingressDeny[].fromNodes", Unsupported(NO_NODES)),
    ("ingressDeny[].fromRequires", Ignored(REMOVED)),
    ("labels", Ignored("labels of rules decide nothing")),
    ("log", Unsupported("flows are not marked")),
    (
        "nodeSelector",
        Unsupported("policies for nodes are not enforced: heddle decides for workloads"),
    ),
];

const NO_TLS: &str = "TLS of applications is not opened; rules on what is inside allow nothing";
const NO_KAFKA: &str = "requests of Kafka are not read; the rule allows nothing";
const NO_PLUG_INS: &str = "protocols of plug-ins are not read; the rule allows nothing";

const CIDR_GROUP: Table = &[("externalCIDRs", Applied)];

const NETWORK_POLICY: Table = &[
    ("podSelector", Applied),
    ("policyTypes", Applied),
    ("ingress", Applied),
    ("egress", Applied),
];

/// Cilium's kinds. The paths of the policies are those below a rule.
pub(crate) const CILIUM: &[(&str, Table)] = &[
    ("CiliumCIDRGroup", CIDR_GROUP),
    ("CiliumClusterwideNetworkPolicy", RULE),
    ("CiliumNetworkPolicy", RULE),
];

/// Kubernetes' kinds.
pub(crate) const KUBERNETES: &[(&str, Table)] = &[("NetworkPolicy", NETWORK_POLICY)];
