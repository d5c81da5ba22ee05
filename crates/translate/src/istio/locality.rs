//! Preference of near endpoints: `localityLbSetting` and `zoneAwareLbSetting` of DestinationRules and of the mesh, and
//! `trafficDistribution` of Services (API.md 2.2).

use std::sync::Arc;
use std::time::Duration;

use heddle_api::Written;
use heddle_api::istio::{
    LoadBalancerSettings, LocalityFailover, LocalityLoadBalancer, SimpleLoadBalancer,
    ZoneAwareLoadBalancer,
};
use heddle_ir::destination::{
    FailoverLabel, LocalityPattern, LocalityPolicy, LocalityShares, Warmup,
};

use crate::codes;
use crate::istio::traffic_policy::{Block, Policies};
use crate::mesh::Mesh;
use crate::report::Report;

const NETWORK: &str = "topology.istio.io/network";
const REGION: &str = "topology.kubernetes.io/region";
const ZONE: &str = "topology.kubernetes.io/zone";
const SUBZONE: &str = "topology.istio.io/subzone";
const HOSTNAME: &str = "kubernetes.io/hostname";

/// With fewer endpoints than this, zones do not matter, where nothing is said.
const ENDPOINTS_MIN: u32 = 6;

/// Where a Service wants its traffic to go.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Distribution {
    /// The same node, then as `SameZone`.
    SameNode,
    /// The same network, region and zone, then further.
    SameZone,
}

/// What a Service says; none where it says nothing or something unknown.
pub(crate) fn distribution(field: Option<&str>, annotation: Option<&str>) -> Option<Distribution> {
    match field.or(annotation)? {
        "PreferClose" | "PreferSameZone" => Some(Distribution::SameZone),
        "PreferSameNode" => Some(Distribution::SameNode),
        _ => None,
    }
}

/// Which of its settings the mesh says.
pub(crate) enum OfMesh<'a> {
    Locality(&'a LocalityLoadBalancer),
    ZoneAware(&'a ZoneAwareLoadBalancer),
    /// Nothing: failover is on.
    Nothing,
}

impl Policies<'_> {
    /// Which localities are preferred. The nearest setting counts as a whole: the rule's, then the Service's, then the
    /// mesh's; preference by priority needs a way to tell that endpoints fail (API.md hazard 11).
    pub(crate) fn locality(
        &self,
        mesh: &Mesh,
        service: Option<Distribution>,
        is_gateway: bool,
    ) -> LocalityPolicy {
        let watched = self.is_watched();
        if let Some(Block { written, value, .. }) = self.load_balancer {
            // Zones are counted for clients beside their workload only.
            if let Some(zone_aware) = &value.zone_aware_lb_setting
                && !is_gateway
                && !written.is_broken(zone_aware.at)
            {
                return by_zone(zone_aware, watched);
            }
            if let Some(setting) = &value.locality_lb_setting
                && !written.is_broken(setting.at)
            {
                return of_setting(setting, watched);
            }
        }
        match (service, mesh.locality()) {
            (Some(distribution), _) => by_service(distribution),
            (None, OfMesh::ZoneAware(setting)) if !is_gateway => by_zone(setting, watched),
            (None, OfMesh::Locality(setting)) => of_setting(setting, watched),
            (None, OfMesh::ZoneAware(_) | OfMesh::Nothing) if watched => {
                LocalityPolicy::Failover { priority: Vec::new(), regions: Vec::new() }
            }
            (None, OfMesh::ZoneAware(_) | OfMesh::Nothing) => LocalityPolicy::Ignore,
        }
    }

    /// How new endpoints get their share.
    pub(crate) fn warmup(&self, report: &mut Report) -> Option<Warmup> {
        let Block { written, value, .. } = self.load_balancer?;
        let of = |field: &str| written.origin_of(value.at, field);
        let (field, duration) = match (&value.warmup, value.warmup_duration_secs) {
            (Some(warmup), old) => {
                if old.is_some() {
                    report
                        .ignored(of("warmupDurationSecs"), "`warmup` stands beside it and counts");
                }
                ("warmup", warmup.duration)
            }
            (None, Some(duration)) => ("warmupDurationSecs", Some(duration)),
            (None, None) => return None,
        };
        let spread_evenly = value.consistent_hash.is_none()
            && !matches!(
                value.simple,
                Some(SimpleLoadBalancer::Random | SimpleLoadBalancer::Passthrough)
            );
        if !spread_evenly {
            report.ignored(of(field), "warm-up is for ROUND_ROBIN and LEAST_REQUEST");
            return None;
        }
        let duration = duration?.as_std();
        let percent = value.warmup.as_ref().and_then(|warmup| warmup.minimum_percent);
        let aggression = value.warmup.as_ref().and_then(|warmup| warmup.aggression);
        if aggression.is_some_and(|aggression| aggression < 1.0) {
            let at = value.warmup.as_ref().map_or(value.at, |warmup| warmup.at);
            report.rejected(written.origin_of(at, "aggression"), "`aggression` is at least 1");
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "both are clamped to a small positive range"
        )]
        Some(Warmup {
            duration: duration.max(Duration::from_millis(1)),
            share_percent_min: percent.unwrap_or(10.0).clamp(1.0, 100.0).round() as u8,
            aggression_thousandths: (aggression.unwrap_or(1.0).clamp(1.0, 1000.0) * 1000.0).round()
                as u32,
        })
    }
}

fn of_setting(setting: &LocalityLoadBalancer, watched: bool) -> LocalityPolicy {
    if setting.enabled == Some(false) {
        return LocalityPolicy::Ignore;
    }
    if !setting.distribute.is_empty() {
        let shares = setting.distribute.iter().filter_map(|distribute| {
            Some(LocalityShares {
                from: pattern(distribute.from.as_deref()?),
                to: distribute.to.iter().map(|(to, weight)| (pattern(to), *weight)).collect(),
            })
        });
        return LocalityPolicy::Distribute(shares.collect());
    }
    if !watched {
        return LocalityPolicy::Ignore;
    }
    LocalityPolicy::Failover {
        priority: labels(&setting.failover_priority),
        regions: regions(&setting.failover),
    }
}

fn by_zone(setting: &ZoneAwareLoadBalancer, watched: bool) -> LocalityPolicy {
    if setting.enabled == Some(false) {
        return LocalityPolicy::Ignore;
    }
    let (priority, regions) = if watched {
        (labels(&setting.failover_priority), regions(&setting.failover))
    } else {
        (Vec::new(), Vec::new())
    };
    LocalityPolicy::ZoneAware {
        endpoints_min: setting.min_cluster_size.unwrap_or(ENDPOINTS_MIN),
        priority,
        regions,
    }
}

/// What a Service wants holds whether endpoints are watched or not.
fn by_service(distribution: Distribution) -> LocalityPolicy {
    let names: &[&str] = match distribution {
        Distribution::SameNode => &[NETWORK, REGION, ZONE, SUBZONE, HOSTNAME],
        Distribution::SameZone => &[NETWORK, REGION, ZONE],
    };
    let label = |name: &&str| FailoverLabel { name: (*name).into(), value: None };
    LocalityPolicy::Failover { priority: names.iter().map(label).collect(), regions: Vec::new() }
}

/// `region/zone/subzone`; a star ends it and takes everything below.
fn pattern(text: &str) -> LocalityPattern {
    let mut parts = text.split('/').take_while(|part| *part != "*");
    let mut next = || -> Arc<str> { parts.next().unwrap_or_default().into() };
    LocalityPattern { region: next(), zone: next(), subzone: next() }
}

/// `key` is compared with the client's own label, `key=value` with the value.
fn labels(texts: &[String]) -> Vec<FailoverLabel> {
    texts
        .iter()
        .map(|text| match text.split_once('=') {
            Some((name, value)) => FailoverLabel { name: name.into(), value: Some(value.into()) },
            None => FailoverLabel { name: text.as_str().into(), value: None },
        })
        .collect()
}

fn regions(failover: &[LocalityFailover]) -> Vec<(Arc<str>, Arc<str>)> {
    failover
        .iter()
        .filter_map(|pair| Some((pair.from.as_deref()?.into(), pair.to.as_deref()?.into())))
        .collect()
}

/// Istio's rules for the settings of localities, in a rule or in the mesh configuration. `watched` says whether failing
/// endpoints are told.
pub(super) fn check(
    written: &Written,
    balancer: &LoadBalancerSettings,
    watched: bool,
    report: &mut Report,
) {
    let of = |field: &str| written.origin_of(balancer.at, field);
    if balancer.locality_lb_setting.is_some() && balancer.zone_aware_lb_setting.is_some() {
        let message = "`localityLbSetting` and `zoneAwareLbSetting` exclude each other";
        report.rejected(of("zoneAwareLbSetting"), message);
    }
    if let Some(setting) = &balancer.locality_lb_setting {
        check_locality(written, setting, report);
        let by_priority = setting.distribute.is_empty()
            && (!setting.failover.is_empty() || !setting.failover_priority.is_empty());
        if by_priority && !watched && setting.enabled != Some(false) {
            unwatched(of("localityLbSetting"), report);
        }
    }
    if let Some(setting) = &balancer.zone_aware_lb_setting {
        check_zone_aware(written, setting, report);
        let by_priority = !setting.failover.is_empty() || !setting.failover_priority.is_empty();
        if by_priority && !watched && setting.enabled != Some(false) {
            unwatched(of("zoneAwareLbSetting"), report);
        }
    }
}

fn unwatched(origin: heddle_diag::Origin, report: &mut Report) {
    let message =
        "failover needs `outlierDetection` beside it: nothing else says that endpoints fail";
    report.warning(codes::UNWATCHED_FAILOVER, origin.clone(), message);
    report.ignored(origin, message);
}

/// Istio's rules for a setting.
pub(crate) fn check_locality(
    written: &Written,
    setting: &LocalityLoadBalancer,
    report: &mut Report,
) {
    let of = |field: &str| written.origin_of(setting.at, field);
    let others = [
        ("failover", !setting.failover.is_empty()),
        ("failoverPriority", !setting.failover_priority.is_empty()),
    ];
    for (field, _) in others.iter().filter(|(_, set)| *set && !setting.distribute.is_empty()) {
        report.rejected(of(field), format!("`distribute` and `{field}` exclude each other"));
    }
    let by_place = setting.failover_priority.iter().position(|text| {
        let name = text.split('=').next().unwrap_or_default();
        matches!(name, REGION | ZONE | SUBZONE)
    });
    if let (Some(index), false) = (by_place, setting.failover.is_empty()) {
        let origin = written.origin_of_item(setting.at, "failoverPriority", index);
        report.rejected(origin, "with `failover`, priorities name no region, zone or subzone");
    }
    let mut sources: Vec<&str> = Vec::new();
    for distribute in &setting.distribute {
        let from = distribute.from.as_deref().unwrap_or_default();
        let of = |field: &str| written.origin_of(distribute.at, field);
        if let Some(problem) = bad_locality(from) {
            report.rejected(of("from"), problem);
        }
        if sources.iter().any(|known| overlaps(known, from)) {
            report.rejected(of("from"), format!("`{from}` overlaps with one before it"));
        }
        sources.push(from);
        let sum: u64 = distribute.to.values().map(|weight| u64::from(*weight)).sum();
        if sum != 100 {
            report.rejected(of("to"), format!("the weights add up to {sum}, not to 100"));
        }
        let targets: Vec<&str> = distribute.to.keys().map(String::as_str).collect();
        for (index, target) in targets.iter().enumerate() {
            let origin = || written.origin_of_entry(distribute.at, "to", target);
            if let Some(problem) = bad_locality(target) {
                report.rejected(origin(), problem);
            }
            if targets.iter().take(index).any(|known| overlaps(known, target)) {
                report.rejected(origin(), format!("`{target}` overlaps with another one"));
            }
            if distribute.to.get(*target) == Some(&0) {
                report.rejected(origin(), "a share is 1 to 100");
            }
        }
    }
    check_failover(written, &setting.failover, report);
}

fn check_zone_aware(written: &Written, setting: &ZoneAwareLoadBalancer, report: &mut Report) {
    for (index, text) in setting.failover_priority.iter().enumerate() {
        let name = text.split('=').next().unwrap_or_default();
        if matches!(name, REGION | ZONE | SUBZONE) {
            let origin = written.origin_of_item(setting.at, "failoverPriority", index);
            report.rejected(origin, "zones are balanced here, so priorities name none");
        }
    }
    check_failover(written, &setting.failover, report);
}

fn check_failover(written: &Written, failover: &[LocalityFailover], report: &mut Report) {
    for pair in failover {
        for (field, text) in [("from", &pair.from), ("to", &pair.to)] {
            if text.as_deref().is_some_and(|text| text.contains('/') || text.contains('*')) {
                let message = "failover is between regions, without zones and wildcards";
                report.rejected(written.origin_of(pair.at, field), message);
            }
        }
        if pair.from == pair.to {
            report.rejected(written.origin_at(pair.at), "failover into the same region");
        }
    }
}

/// What is wrong with the text of a locality.
fn bad_locality(text: &str) -> Option<String> {
    let parts: Vec<&str> = text.split('/').collect();
    let star = parts.iter().position(|part| part.contains('*'));
    if text.is_empty() || parts.len() > 3 || parts.iter().any(|part| part.is_empty()) {
        return Some(format!("`{text}` is not `region/zone/subzone`"));
    }
    let ends = star.is_none_or(|star| star + 1 == parts.len() && parts.get(star) == Some(&"*"));
    (!ends).then(|| format!("in `{text}` the star is not the last part"))
}

/// Whether some place is in both.
fn overlaps(left: &str, right: &str) -> bool {
    let trim = |text: &str| text.trim_end_matches("/*").trim_end_matches('*').to_owned();
    let (left, right) = (trim(left), trim(right));
    let within = |inner: &str, outer: &str| {
        outer.is_empty()
            || inner == outer
            || inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'))
    };
    within(&left, &right) || within(&right, &left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn localities_end_with_a_star_or_whole() {
        for (text, region, zone, subzone) in [
            ("us", "us", "", ""),
            ("us/*", "us", "", ""),
            ("us/a/*", "us", "a", ""),
            ("us/a/1", "us", "a", "1"),
            ("*", "", "", ""),
        ] {
            let pattern = pattern(text);
            let parts = (&*pattern.region, &*pattern.zone, &*pattern.subzone);
            assert_eq!(parts, (region, zone, subzone), "{text}");
            assert_eq!(bad_locality(text), None);
        }
        for text in ["", "a//b", "a/*/c", "a/b*/c", "a/b/c/d"] {
            assert!(bad_locality(text).is_some(), "{text}");
        }
        assert!(overlaps("us/*", "us/a") && overlaps("*", "eu") && !overlaps("us", "us2"));
    }
}
