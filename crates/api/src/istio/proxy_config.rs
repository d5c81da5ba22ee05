//! TODO

use super::*;
use crate::{Duration, Free, check};
use std::collections::BTreeMap;
object! {
    /// TODO.
    ProxyConfig {
        "concurrency" => concurrency: Option<i32> [nullable, range(0.0, f64::INFINITY)],
        "environmentVariables" => environment_variables: BTreeMap<String, String> [item_len(0, 2048)],
        "image" => image: Option<ProxyImage>,
        "selector" => selector: Option<WorkloadSelector>,
    }
}

object! {
    /// TODO.
    ProxyImage {
        "imageType" => image_type: Option<String>,
    }
}
