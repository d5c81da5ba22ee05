//! The `Location` of a redirection.

use std::fmt::Write;

use heddle_ir::http_route::{Redirect, RedirectPort};
use heddle_ir::request::RequestHead;

use crate::matching::{CompiledPath, split_port};
use crate::rewrite::CompiledRewrite;

/// Appends the location to `out`. `listener_port` is the port that the client connected to.
pub(crate) fn write_location(
    redirect: &Redirect,
    rewrite: Option<&CompiledRewrite>,
    matched: Option<&CompiledPath>,
    request: &impl RequestHead,
    listener_port: u16,
    out: &mut String,
) {
    let scheme = redirect.scheme.as_deref().unwrap_or(request.scheme());
    let (request_host, request_port) = split_port(request.authority());
    let host = redirect.host.as_deref().unwrap_or(request_host);
    let port = match redirect.port {
        RedirectPort::Fixed(port) => Some(port),
        RedirectPort::Listener => Some(listener_port),
        RedirectPort::FromScheme => None,
        RedirectPort::FromAuthority if redirect.host.is_some() => None,
        // As Envoy: a port that was only the old scheme's default goes with the scheme.
        RedirectPort::FromAuthority => {
            request_port.filter(|port| default_port(request.scheme()) != Some(*port))
        }
    };
    // A request without authority (HTTP/1.0) gets a reference relative to what it asked for.
    if !host.is_empty() {
        out.push_str(scheme);
        out.push_str("://");
        let bare_ipv6 = host.contains(':') && !host.starts_with('[');
        if bare_ipv6 {
            out.push('[');
        }
        out.push_str(host);
        if bare_ipv6 {
            out.push(']');
        }
        if let Some(port) = port.filter(|port| default_port(scheme) != Some(*port)) {
            // Writing to a string does not fail.
            let _ = write!(out, ":{port}");
        }
    }
    match rewrite {
        Some(rewrite) => rewrite.write(request.path(), matched, out),
        None => out.push_str(request.path()),
    }
    if let Some(query) =
        request.query().filter(|_| !rewrite.is_some_and(CompiledRewrite::has_query))
    {
        out.push('?');
        out.push_str(query);
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}
