//! What becomes of each field of SMI's kinds.

use crate::outcomes::{Becomes, Table};

use Becomes::Applied;

const TRAFFIC_SPLIT: Table = &[("service", Applied), ("backends", Applied), ("matches", Applied)];

const HTTP_ROUTE_GROUP: Table = &[("matches", Applied)];

/// The tables, by kind.
pub(crate) const TABLES: &[(&str, Table)] =
    &[("HTTPRouteGroup", HTTP_ROUTE_GROUP), ("TrafficSplit", TRAFFIC_SPLIT)];
