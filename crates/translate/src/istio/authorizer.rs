//! External authorisers: `extensionProviders` of the mesh configuration that CUSTOM policies name (API.md 5.1).

use std::sync::Arc;
use std::time::Duration;

use heddle_api::istio::{
    ExtAuthzGrpc, ExtAuthzHttp, ExtAuthzRequestBody, ExtensionProvider, MeshConfig,
};
use heddle_api::{At, Object};
use heddle_ident::Host;
use heddle_ir::authorization::{
    AuthorizerBody, AuthorizerHttp, AuthorizerProtocol, ExternalAuthorizer,
};
use heddle_ir::matching::TextMatch;

use crate::report::Report;

/// How long an answer may take where nothing is said. Istio's 600 s are no limit; no request waits longer than a client does.
const TIMEOUT: Duration = Duration::from_mins(10);

/// What the two kinds have in common.
struct Common<'a> {
    at: At,
    service: Option<&'a str>,
    port: Option<u16>,
    timeout: Option<heddle_api::Duration>,
    fail_open: Option<bool>,
    status_on_error: Option<&'a str>,
    clear_route_cache: Option<bool>,
    body: Option<&'a ExtAuthzRequestBody>,
}

/// The authorisers that a mesh configuration defines. One that cannot be read is left out, so that whatever asks for it
/// is denied.
pub(crate) fn authorizers(
    object: &Object<MeshConfig>,
    report: &mut Report,
) -> Vec<Arc<ExternalAuthorizer>> {
    let mut authorizers: Vec<Arc<ExternalAuthorizer>> = Vec::new();
    for provider in &object.spec.extension_providers {
        let Some(authorizer) = authorizer(object, provider, report) else { continue };
        if authorizers.iter().any(|other| other.name == authorizer.name) {
            let message = format!("a second provider of the name `{}`", authorizer.name);
            report.rejected(object.origin_at(provider.at), message);
            continue;
        }
        authorizers.push(Arc::new(authorizer));
    }
    authorizers
}

fn authorizer(
    object: &Object<MeshConfig>,
    provider: &ExtensionProvider,
    report: &mut Report,
) -> Option<ExternalAuthorizer> {
    let (common, protocol) = match (&provider.envoy_ext_authz_http, &provider.envoy_ext_authz_grpc)
    {
        (Some(http), _) => {
            (of_http(http), AuthorizerProtocol::Http(http_settings(object, http, report)))
        }
        (None, Some(grpc)) => (of_grpc(grpc), AuthorizerProtocol::Grpc),
        (None, None) => return None,
    };
    let broken = object.is_broken(provider.at) || object.is_broken(common.at);
    let name = provider.name.as_deref().filter(|name| !name.is_empty());
    let Some(name) = name else {
        report.rejected(object.origin_at(provider.at), "a provider needs a name");
        return None;
    };
    let host = host(object, &common, report)?;
    let Some(port) = common.port.filter(|port| *port > 0) else {
        report.rejected(object.origin_of(common.at, "port"), "a provider needs a port");
        return None;
    };
    report.precise(common.timeout, || object.origin_of(common.at, "timeout"));
    let body = common.body.map(|body| AuthorizerBody {
        body_bytes_max: body.max_request_bytes.unwrap_or(0),
        allow_partial: body.allow_partial_message.unwrap_or(false),
        as_bytes: body.pack_as_bytes.unwrap_or(false),
    });
    if let (Some(written), Some(body)) = (common.body, &body)
        && body.body_bytes_max == 0
    {
        let message = "`maxRequestBytes` must be more than 0";
        report.rejected(object.origin_of(written.at, "maxRequestBytes"), message);
        return None;
    }
    Some(ExternalAuthorizer {
        origin: object.origin_at(provider.at),
        name: name.into(),
        host,
        port,
        protocol,
        timeout: common
            .timeout
            .filter(|timeout| timeout.as_nanos() > 0)
            .map_or(TIMEOUT, heddle_api::Duration::as_std),
        // What could not be read may have been the opposite.
        fail_open: common.fail_open.unwrap_or(false) && !broken,
        status_on_error: status(object, &common, report),
        clear_route_cache: common.clear_route_cache.unwrap_or(false),
        body,
    })
}

fn of_http(http: &ExtAuthzHttp) -> Common<'_> {
    Common {
        at: http.at,
        service: http.service.as_deref(),
        port: http.port,
        timeout: http.timeout,
        fail_open: http.fail_open,
        status_on_error: http.status_on_error.as_deref(),
        clear_route_cache: http.clear_route_cache,
        body: http.include_request_body_in_check.as_ref(),
    }
}

fn of_grpc(grpc: &ExtAuthzGrpc) -> Common<'_> {
    Common {
        at: grpc.at,
        service: grpc.service.as_deref(),
        port: grpc.port,
        timeout: grpc.timeout,
        fail_open: grpc.fail_open,
        status_on_error: grpc.status_on_error.as_deref(),
        clear_route_cache: grpc.clear_route_cache,
        body: grpc.include_request_body_in_check.as_ref(),
    }
}

/// `host` or `namespace/host`.
fn host(object: &Object<MeshConfig>, common: &Common<'_>, report: &mut Report) -> Option<Host> {
    let written = common.service.unwrap_or_default();
    let text = written.split_once('/').map_or(written, |(_, host)| host);
    let host = Host::parse(&text.to_ascii_lowercase());
    if host.is_err() {
        let message = format!("`{written}` is not the host of a service");
        report.rejected(object.origin_of(common.at, "service"), message);
    }
    host.ok()
}

fn status(object: &Object<MeshConfig>, common: &Common<'_>, report: &mut Report) -> u16 {
    let Some(text) = common.status_on_error.filter(|text| !text.is_empty()) else { return 403 };
    match text.parse::<u16>() {
        Ok(status) if (400..600).contains(&status) => status,
        _ => {
            let message = format!("`{text}` is not the status of a refusal: 403 is used");
            report.rejected(object.origin_of(common.at, "statusOnError"), message);
            403
        }
    }
}

fn http_settings(
    object: &Object<MeshConfig>,
    http: &ExtAuthzHttp,
    report: &mut Report,
) -> AuthorizerHttp {
    let path_prefix = http.path_prefix.as_deref().unwrap_or_default();
    if !path_prefix.is_empty() && !path_prefix.starts_with('/') {
        let message = "`pathPrefix` must begin with a slash";
        report.rejected(object.origin_of(http.at, "pathPrefix"), message);
    }
    let written = if http.include_request_headers_in_check.is_empty() {
        &http.include_headers_in_check
    } else {
        &http.include_request_headers_in_check
    };
    let headers = |texts: &[String]| texts.iter().map(|text| name_match(text)).collect();
    AuthorizerHttp {
        path_prefix: path_prefix.into(),
        request_headers: headers(written),
        added_headers: http
            .include_additional_headers_in_check
            .iter()
            .map(|(name, value)| (name.to_ascii_lowercase().into(), value.as_str().into()))
            .collect(),
        upstream_headers_on_allow: headers(&http.headers_to_upstream_on_allow),
        downstream_headers_on_allow: headers(&http.headers_to_downstream_on_allow),
        downstream_headers_on_deny: headers(&http.headers_to_downstream_on_deny),
    }
}

/// Names of headers: `v` exact, `v*` prefix, `*v` suffix, `*` all.
fn name_match(text: &str) -> TextMatch {
    let text = text.to_ascii_lowercase();
    match (text.strip_prefix('*'), text.strip_suffix('*')) {
        (Some(""), _) => TextMatch::Present,
        (Some(suffix), _) => TextMatch::Suffix(suffix.into()),
        (None, Some(prefix)) => TextMatch::Prefix(prefix.into()),
        (None, None) => TextMatch::Exact(text.into()),
    }
}
