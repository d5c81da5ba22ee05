//! The dialect of the Service Mesh Interface (API.md section 9): splits, and who may reach whom.

pub(crate) mod outcomes;
mod route_group;
pub(crate) mod traffic_split;
mod traffic_split_report;
pub(crate) mod traffic_target;

use heddle_api::Resource as AnyObject;

use crate::engine::Reader;
use crate::report::Report;

/// What there is to say about an object of SMI.
pub(crate) fn report(reader: &Reader<'_>, object: &AnyObject, report: &mut Report) {
    match object {
        AnyObject::HttpRouteGroup(object) => route_group::report(object, report),
        AnyObject::TrafficSplit(object) => traffic_split_report::report(reader, object, report),
        AnyObject::TrafficTarget(object) => traffic_target::report(reader, object, report),
        _ => {}
    }
}
