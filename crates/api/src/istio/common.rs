//! What several Istio kinds share.

use std::collections::BTreeMap;

use crate::check;

object! {
    /// Which workloads are meant, by labels that must all be equal. Without labels every workload of the namespace is meant.
    WorkloadSelector {
        /// Labels a workload must have; wildcards are not supported.
        "matchLabels" => match_labels: BTreeMap<String, String> [key_check(check::selector_key), item_check(check::no_star), count(0, 4096), item_len(0, 63)],
    }
}

object! {
    /// The object a policy is attached to: a Gateway, GatewayClass, Service or ServiceEntry.
    PolicyTargetReference {
        /// Its API group; empty for the core group.
        "group" => group: Option<String> [len(0, 253), check(check::dns_name_or_empty)],
        /// Its kind.
        "kind" => kind: String [required, len(1, 63), check(check::kind_name)],
        /// Its name.
        "name" => name: String [required, len(1, 253)],
        /// Must be empty: references across namespaces are not supported.
        "namespace" => namespace: Option<String> [check(check::empty)],
    }
}

object! {
    /// A port of a service.
    PortSelector {
        /// Its number.
        "number" => number: Option<u16>,
    }
}

object! {
    /// Which workloads are meant, by labels that must all be equal.
    LabelsSelector {
        /// Labels a workload must have.
        "labels" => labels: BTreeMap<String, String> [item_check(check::no_star), count(0, 256), item_len(0, 63)],
    }
}

object! {
    /// A service, or a subset of it.
    Destination {
        /// Host in the registry; a short name is completed with the namespace of the rule.
        "host" => host: String [required],
        /// Port of the service; absent means its only port, or the one the client used.
        "port" => port: Option<PortSelector>,
        /// A subset of the DestinationRule of the host; absent means all endpoints.
        "subset" => subset: Option<String>,
    }
}

object! {
    /// How a text is compared, case-sensitively. With none of the fields set it means "present".
    StringMatch {
        /// The whole text.
        "exact" => exact: Option<String>,
        /// Its beginning, as raw text: `/foo` also matches `/foobar`.
        "prefix" => prefix: Option<String>,
        /// RE2 expression for the whole text.
        "regex" => regex: Option<String>,
    }
    at_most_one ["exact", "prefix", "regex"]
}

object! {
    /// A percentage.
    Percent {
        /// 0 to 100, with decimals.
        "value" => value: Option<f64>,
    }
}
