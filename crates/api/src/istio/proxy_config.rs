//! ProxyConfig (`networking.istio.io`).

use std::collections::BTreeMap;

use super::common::WorkloadSelector;

object! {
    /// Settings of proxies that take effect when they start.
    ProxyConfig {
        /// Worker threads; 0 means one a core.
        "concurrency" => concurrency: Option<i32> [nullable, range(0.0, f64::INFINITY)],
        /// Environment of the proxy.
        "environmentVariables" => environment_variables: BTreeMap<String, String> [item_len(0, 2048)],
        /// Its image.
        "image" => image: Option<ProxyImage>,
        /// Workloads it applies to; absent means the whole namespace.
        "selector" => selector: Option<WorkloadSelector>,
    }
}

object! {
    /// The image of a proxy.
    ProxyImage {
        /// Its variant, for example `distroless`.
        "imageType" => image_type: Option<String>,
    }
}
