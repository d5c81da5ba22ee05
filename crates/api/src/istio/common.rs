//! TODO

use super::*;
use crate::{Duration, Free, check};
use std::collections::BTreeMap;
object! {
    /// TODO.
    WorkloadSelector {
        "matchLabels" => match_labels: BTreeMap<String, String> [key_check(check::selector_key), item_check(check::no_star), count(0, 4096), item_len(0, 63)],
    }
}

object! {
    /// TODO.
    PolicyTargetReference {
        "group" => group: Option<String> [len(0, 253), check(check::dns_name_or_empty)],
        "kind" => kind: String [required, len(1, 63), check(check::kind_name)],
        "name" => name: String [required, len(1, 253)],
        "namespace" => namespace: Option<String>,
    }
}

object! {
    /// TODO.
    PortSelector {
        "number" => number: Option<u16>,
    }
}

object! {
    /// TODO.
    LabelsSelector {
        "labels" => labels: BTreeMap<String, String> [item_check(check::no_star), count(0, 256), item_len(0, 63)],
    }
}

object! {
    /// TODO.
    Destination {
        "host" => host: String [required],
        "port" => port: Option<PortSelector>,
        "subset" => subset: Option<String>,
    }
}

object! {
    /// TODO.
    StringMatch {
        "exact" => exact: Option<String>,
        "prefix" => prefix: Option<String>,
        "regex" => regex: Option<String>,
    }
    at_most_one ["exact", "prefix", "regex"]
}

object! {
    /// TODO.
    Percent {
        "value" => value: Option<f64>,
    }
}
