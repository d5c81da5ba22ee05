//! The filter ExternalAuth: whom to ask, and what they get to see (docs/decisions/0104).

use std::sync::Arc;
use std::time::Duration;

use heddle_api::gateway_api::{ExternalAuthFilter, ExternalAuthProtocol, HttpAuth};
use heddle_diag::Origin;
use heddle_ident::HostPattern;
use heddle_ir::authorization::{
    AuthorizerBody, AuthorizerHttp, AuthorizerProtocol, ExternalAuthorizer,
};
use heddle_ir::http_route::RouteAuthorizer;
use heddle_ir::matching::TextMatch;

use crate::gateway_api::backend;
use crate::gateway_api::certificates::Unresolved;
use crate::gateway_api::rules::Context;

/// How long an answer may take: the specification says nothing, and nobody waits for ever.
const TIMEOUT: Duration = Duration::from_secs(10);
/// What a client gets when nobody answers: the filter must fail closed.
const STATUS_ON_ERROR: u16 = 403;

/// Reads the filter. One that leads to nobody is reported and told: its requests are refused.
pub(crate) fn authorizer(
    filter: &ExternalAuthFilter,
    origin: &Origin,
    context: &mut Context<'_, '_>,
) -> Result<RouteAuthorizer, Unresolved> {
    let asked = asked(filter, origin, context);
    asked.inspect_err(|error| context.unresolved(origin, error, "requests get 500"))
}

fn asked(
    filter: &ExternalAuthFilter,
    origin: &Origin,
    context: &Context<'_, '_>,
) -> Result<RouteAuthorizer, Unresolved> {
    let reference = (&filter.backend_ref).into();
    let (service, port) = backend::find(context.reader, context.referrer(), reference)?;
    let HostPattern::Exact(host) = &service.host else {
        let message = "a wildcard is nobody who could be asked";
        return Err(Unresolved::new("BackendNotFound", message));
    };
    let lower = |names: &[String]| -> Vec<Arc<str>> {
        names.iter().map(|name| name.to_ascii_lowercase().into()).collect()
    };
    let (protocol, request_headers) = match filter.protocol {
        Some(ExternalAuthProtocol::Http) => {
            (AuthorizerProtocol::Http(http(filter.http.as_ref())), Vec::new())
        }
        Some(ExternalAuthProtocol::Grpc) => {
            let allowed = filter.grpc.as_ref().map(|grpc| lower(&grpc.allowed_headers));
            (AuthorizerProtocol::Grpc, allowed.unwrap_or_default())
        }
        None => return Err(Unresolved::new("UnsupportedValue", "the filter names no protocol")),
    };
    let size = filter.forward_body.as_ref().and_then(|body| body.max_size);
    let body = size.filter(|size| *size > 0).map(|body_bytes_max| AuthorizerBody {
        body_bytes_max,
        allow_partial: false,
        as_bytes: true,
    });
    let authorizer = ExternalAuthorizer {
        origin: origin.clone(),
        name: format!("{}/{}", service.namespace, service.name).into(),
        host: host.clone(),
        port: port.number,
        protocol,
        timeout: TIMEOUT,
        fail_open: false,
        status_on_error: STATUS_ON_ERROR,
        clear_route_cache: false,
        body,
    };
    Ok(RouteAuthorizer { authorizer, request_headers })
}

fn http(settings: Option<&HttpAuth>) -> AuthorizerHttp {
    let exact = |names: &[String]| -> Vec<TextMatch> {
        names.iter().map(|name| TextMatch::Exact(name.to_ascii_lowercase().into())).collect()
    };
    let copied = settings.map(|own| exact(&own.allowed_response_headers)).unwrap_or_default();
    AuthorizerHttp {
        path_prefix: settings
            .and_then(|own| own.path.as_deref())
            .map(|path| path.trim_end_matches('/').into())
            .unwrap_or_default(),
        request_headers: settings.map(|own| exact(&own.allowed_headers)).unwrap_or_default(),
        added_headers: Vec::new(),
        upstream_headers_on_allow: if copied.is_empty() {
            vec![TextMatch::Present]
        } else {
            copied
        },
        downstream_headers_on_allow: Vec::new(),
        downstream_headers_on_deny: Vec::new(),
    }
}
