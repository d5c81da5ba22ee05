//! Rules of TCPRoutes and TLSRoutes.

use heddle_api::At;
use heddle_api::gateway_api::StreamRule;
use heddle_ir::outbound::TcpBackend;

use crate::gateway_api::route::Route;
use crate::gateway_api::rules::{Context, resolve};

/// Where the connections of a route go, by weight; empty: nowhere. Only the first rule counts: there is no second since
/// `v1`, and nothing could tell which connection is whose before.
pub(crate) fn backends(route: &Route, context: &mut Context<'_, '_>) -> Vec<TcpBackend> {
    let rules: &[StreamRule] = match route {
        Route::Tls(object) => &object.spec.rules,
        Route::Tcp(object) => &object.spec.rules,
        Route::Udp(object) => &object.spec.rules,
        Route::Grpc(_) | Route::Http(_) => &[],
    };
    for rule in rules.iter().skip(1) {
        let why = "a rule before it takes every connection";
        context.report.ignored(context.places.origin_at(rule.at), why);
    }
    let Some(rule) = rules.first() else { return Vec::new() };
    let mut backends = Vec::new();
    for written in &rule.backend_refs {
        let origin = context.places.origin_at(written.at);
        let broken = context.places.is_broken(written.at) || written.at == At::default();
        let destination =
            if broken { None } else { resolve(written.into(), &origin, context).ok() };
        backends.push(TcpBackend { origin, destination, weight: written.weight.unwrap_or(1) });
    }
    backends
}
