//! `mirror` and `mirrors` of a rule: copies of requests that are sent elsewhere too.

use heddle_api::Object;
use heddle_api::istio::{Destination as Written, HttpRoute, Percent, VirtualService};
use heddle_diag::Origin;
use heddle_ir::http_route::{BackendTarget, Mirror};

use crate::destinations::{Destinations, Wanted};
use crate::istio::http_action;
use crate::istio::http_rule::BROKEN_STATUS;
use crate::report::Report;

/// Everything, in parts per million.
const ALL_PPM: u32 = 1_000_000;
/// What Istio appends to the host of a copy.
const SUFFIX: &str = "-shadow";

/// Whether a rule says anything about copies.
pub(super) fn says(route: &HttpRoute) -> bool {
    route.mirror.is_some() || !route.mirrors.is_empty()
}

/// The copies of a rule. A share that is not said is everything, an explicit 0 nothing; what is not valid is not sent.
pub(super) fn translate(
    object: &Object<VirtualService>,
    route: &HttpRoute,
    destinations: &mut Destinations<'_>,
    report: &mut Report,
) -> Vec<Mirror> {
    let of = |field: &str| object.origin_of(route.at, field);
    let mut mirrors = Vec::new();
    if let Some(destination) = &route.mirror {
        let share = single_share(object, route, report);
        let origin = object.origin_at(destination.at);
        mirrors.extend(mirror(object, destination, origin, share, destinations, report));
    }
    for written in &route.mirrors {
        let share = match &written.percentage {
            Some(percentage) => share(object, percentage, report),
            None if object.is_broken(written.at) => None,
            None => Some(ALL_PPM),
        };
        let origin = object.origin_at(written.at);
        mirrors.extend(mirror(object, &written.destination, origin, share, destinations, report));
    }
    if route.mirror.is_some() && !route.mirrors.is_empty() {
        report.rejected(of("mirrors"), "`mirror` and `mirrors` exclude each other");
    }
    if route.mirror.is_none() {
        let fields = [
            ("mirrorPercentage", route.mirror_percentage.is_some()),
            ("mirrorPercent", route.mirror_percent.is_some()),
            ("mirror_percent", route.mirror_percent_old.is_some()),
        ];
        for (field, _) in fields.iter().filter(|(_, set)| *set) {
            if let Some(percentage) = &route.mirror_percentage {
                share(object, percentage, report);
            }
            report.ignored(of(field), "it counts only beside `mirror`");
        }
    }
    mirrors
}

/// The share of the single mirror: `mirrorPercentage` counts before the two deprecated forms.
fn single_share(
    object: &Object<VirtualService>,
    route: &HttpRoute,
    report: &mut Report,
) -> Option<u32> {
    let of = |field: &str| object.origin_of(route.at, field);
    let deprecated =
        [("mirrorPercent", route.mirror_percent), ("mirror_percent", route.mirror_percent_old)];
    let mut old = None;
    for (field, percent) in deprecated {
        let Some(percent) = percent else { continue };
        if percent > 100 {
            report.rejected(of(field), "a percentage is 0 to 100");
        }
        if route.mirror_percentage.is_some() {
            report.ignored(of(field), "`mirrorPercentage` stands beside it and counts");
        }
        old.get_or_insert((percent <= 100).then_some(percent * 10_000));
    }
    match (&route.mirror_percentage, old) {
        (Some(percentage), _) => share(object, percentage, report),
        (None, Some(old)) => old,
        (None, None) if object.is_field_broken(route.at, "mirrorPercentage") => None,
        (None, None) => Some(ALL_PPM),
    }
}

fn share(
    object: &Object<VirtualService>,
    percentage: &Percent,
    report: &mut Report,
) -> Option<u32> {
    if object.is_broken(percentage.at) {
        return None;
    }
    http_action::share(object, percentage, report)
}

fn mirror(
    object: &Object<VirtualService>,
    destination: &Written,
    origin: Origin,
    share_ppm: Option<u32>,
    destinations: &mut Destinations<'_>,
    report: &mut Report,
) -> Option<Mirror> {
    if object.is_broken(destination.at) {
        return None;
    }
    let wanted = Wanted { object, destination };
    let share_ppm = share_ppm.filter(|share| *share > 0);
    if share_ppm.is_none() {
        destinations.fresh().resolve(&wanted, report).ok();
    }
    let share_ppm = share_ppm?;
    let target = match destinations.resolve(&wanted, report) {
        Ok(index) => BackendTarget::Destination(index),
        Err(reason) => BackendTarget::Invalid { status: BROKEN_STATUS, reason },
    };
    Some(Mirror { origin, target, share_ppm, authority_suffix: SUFFIX.into() })
}
