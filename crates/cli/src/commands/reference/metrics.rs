//! The page of metrics, out of their definitions, and of the short codes that stand in labels and logs.

use std::fmt::Write as _;

use heddle_telemetry::metrics::{Buckets, GroupDefinition, Kind};
use heddle_telemetry::{ResponseFlag, istio, mesh};

use super::{NOTE, cell};

/// Every group that proxies record, with its heading.
const GROUPS: [(&str, &GroupDefinition); 11] = [
    ("HTTP and gRPC requests", &istio::REQUESTS),
    ("gRPC messages", &istio::MESSAGES),
    ("TCP connections", &istio::TCP),
    ("Failures", &mesh::CONNECTIONS),
    ("Refused certificates", &mesh::PEERS),
    ("Rate limits", &mesh::LIMITS),
    ("Denied packets", &mesh::PACKETS),
    ("Certificates of the workload", &mesh::CERTIFICATES),
    ("Roots that peers are verified with", &mesh::ROOTS),
    ("Certificates that a gateway presents", &mesh::GATEWAY_CERTIFICATES),
    ("Versions", &istio::BUILDS),
];

pub(super) fn page() -> String {
    let mut page = format!(
        "{NOTE}# Metrics\n\n`heddle metrics WORKLOAD` prints what a workload's proxy counts, in Prometheus' text format. \
         Names, labels and buckets that begin with `istio_` are those of Istio's standard metrics. A value that is not \
         known is `unknown`.\n"
    );
    for (title, group) in GROUPS {
        let _ = write!(page, "\n## {title}\n\n| metric | type | counts |\n|---|---|---|\n");
        for metric in group.metrics {
            let _ = writeln!(
                page,
                "| `{}` | {} | {} |",
                metric.name,
                kind(metric.kind),
                cell(metric.help)
            );
        }
        let labels: Vec<String> = group.labels.iter().map(|label| format!("`{label}`")).collect();
        let _ = write!(page, "\nLabels: {}.\n", labels.join(", "));
    }
    page.push_str("\n## Response flags\n\nThe label `response_flags` and the access log use Envoy's short codes.\n\n| code | meaning |\n|---|---|\n");
    for flag in ResponseFlag::ALL {
        let _ = writeln!(page, "| `{}` | {} |", flag.code(), cell(flag.meaning()));
    }
    page.push_str(
        "\n## The registry itself\n\nA proxy holds at most so many label combinations; what finds no room is counted with labels that all say `overflow`: \
         `heddle_metric_series` is how many it holds, `heddle_metric_series_overflow_total` how often one found no room.\n",
    );
    page
}

fn kind(kind: Kind) -> String {
    match kind {
        Kind::Counter => "counter".to_owned(),
        Kind::Gauge => "gauge".to_owned(),
        Kind::Histogram(buckets) => format!("histogram with the bounds {}", bounds(buckets)),
    }
}

fn bounds(buckets: &Buckets) -> String {
    let per_unit = u64::from(buckets.per_unit.max(1));
    let shown = buckets.bounds.iter().map(|bound| match bound % per_unit {
        0 => (bound / per_unit).to_string(),
        rest => {
            let digits = (per_unit - 1).to_string().len();
            let fraction = format!("{rest:0digits$}");
            format!("{}.{}", bound / per_unit, fraction.trim_end_matches('0'))
        }
    });
    shown.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_shown_in_the_shown_unit() {
        assert_eq!(
            bounds(&Buckets { bounds: &[500, 1_000, 2_050], per_unit: 1_000 }),
            "0.5, 1, 2.05"
        );
    }
}
