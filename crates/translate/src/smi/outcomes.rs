//! What becomes of each field of SMI's kinds.

use crate::outcomes::{Becomes, Table};

use Becomes::Applied;

const TRAFFIC_SPLIT: Table = &[("service", Applied), ("backends", Applied), ("matches", Applied)];

const TRAFFIC_TARGET: Table =
    &[("destination", Applied), ("sources", Applied), ("rules", Applied), ("specs", Applied)];

const PORTS_ROUTE: Table = &[("matches", Applied)];

const HTTP_ROUTE_GROUP: Table = &[("matches", Applied)];

/// Kinds of which nothing is done.
pub(crate) const NOT_ENFORCED: &[(&str, &str)] =
    &[("UDPRoute", "datagrams are not proxied: targets that refer to it allow nothing")];

/// The tables, by kind.
pub(crate) const TABLES: &[(&str, Table)] = &[
    ("HTTPRouteGroup", HTTP_ROUTE_GROUP),
    ("TCPRoute", PORTS_ROUTE),
    ("TrafficSplit", TRAFFIC_SPLIT),
    ("TrafficTarget", TRAFFIC_TARGET),
];
