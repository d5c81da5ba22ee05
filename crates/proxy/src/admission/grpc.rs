//! Authorisers that are asked by `envoy.service.auth.v3.Authorization/Check`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::SystemTime;

use super::asking::{Answered, Asked, AuthorizerError, Parties, is_of_message};
use super::changes::{Change, Changes};
use crate::ask::{self, grpc};
use crate::forward::answer::Answer;
use crate::worker::Worker;
use heddle_ir::authorization::ExternalAuthorizer;
use heddle_proto::external_authorization::{
    Address, AppendAction, AskedRequest, AttributeContext, CHECK_PATH, CheckRequest, CheckResponse,
    DeniedHttpResponse, HeaderValueOption, HttpRequest, HttpResponse, OkHttpResponse, Peer,
    SocketAddress, Timestamp, TlsSession,
};

pub(super) async fn ask(
    worker: &Rc<Worker>,
    authorizer: &ExternalAuthorizer,
    asked: &Asked,
) -> Answered {
    let now = worker.shared.identity.clock().now();
    let as_bytes = authorizer.body.is_some_and(|body| body.as_bytes);
    let request = request_of(asked, as_bytes, now);
    let query = asked.target.split_once('?').map(|(_, query)| query);
    let response = call(worker, authorizer, attributes(&asked.parties, Some(request))).await?;
    Ok(understood(response, query))
}

/// Asks about a stream. Answers whether it may be.
pub(super) async fn ask_about_stream(
    worker: &Rc<Worker>,
    authorizer: &ExternalAuthorizer,
    parties: &Parties,
) -> Result<bool, AuthorizerError> {
    let response = call(worker, authorizer, attributes(parties, None)).await?;
    Ok(is_leave(&response))
}

async fn call(
    worker: &Rc<Worker>,
    authorizer: &ExternalAuthorizer,
    attributes: AttributeContext,
) -> Result<CheckResponse, AuthorizerError> {
    let (host, timeout) = (&authorizer.host, authorizer.timeout);
    let place = ask::service(worker, host, authorizer.port).await?;
    let message = CheckRequest { attributes: Some(attributes) };
    Ok(grpc::call(worker, &place, host, CHECK_PATH, &message, timeout).await?)
}

fn attributes(parties: &Parties, request: Option<AskedRequest>) -> AttributeContext {
    let peer = |address: SocketAddr, principal: &str| Peer {
        address: Some(Address {
            socket_address: Some(SocketAddress {
                address: address.ip().to_string(),
                port_value: u32::from(address.port()),
            }),
        }),
        principal: principal.to_owned(),
        ..Peer::default()
    };
    let sni = &parties.server_name;
    AttributeContext {
        source: Some(peer(parties.source, &parties.peer)),
        destination: Some(peer(parties.destination, &parties.own)),
        request,
        tls_session: (!sni.is_empty()).then(|| TlsSession { sni: sni.clone() }),
        ..AttributeContext::default()
    }
}

fn request_of(asked: &Asked, as_bytes: bool, now: SystemTime) -> AskedRequest {
    let mut headers: BTreeMap<String, String> = BTreeMap::new();
    let pseudo = [
        (":method", &asked.method),
        (":path", &asked.target),
        (":authority", &asked.authority),
        (":scheme", &asked.scheme),
    ];
    let pseudo = pseudo.map(|(name, value)| (name.to_owned(), value.clone().into_bytes()));
    for (name, value) in pseudo.iter().chain(&asked.headers) {
        let value = String::from_utf8_lossy(value);
        match headers.get_mut(name) {
            Some(joined) => {
                joined.push(',');
                joined.push_str(&value);
            }
            None => {
                headers.insert(name.clone(), value.into_owned());
            }
        }
    }
    // `:authority` says it.
    headers.remove("host");
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let time = Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(since.subsec_nanos()).unwrap_or(0),
    };
    let (body, raw_body) = if as_bytes {
        (String::new(), asked.body.bytes.clone())
    } else {
        (String::from_utf8_lossy(&asked.body.bytes).into_owned(), Vec::new())
    };
    let http = HttpRequest {
        id: headers.get("x-request-id").cloned().unwrap_or_default(),
        method: asked.method.clone(),
        headers,
        path: asked.target.clone(),
        host: asked.authority.clone(),
        scheme: asked.scheme.clone(),
        size: asked.size,
        protocol: asked.protocol.to_owned(),
        body,
        raw_body,
    };
    AskedRequest { time: Some(time), http: Some(http) }
}

fn is_leave(response: &CheckResponse) -> bool {
    response.status.as_ref().is_none_or(|status| status.code == 0)
}

fn understood(response: CheckResponse, query: Option<&str>) -> Result<Changes, Box<Answer>> {
    match (is_leave(&response), response.http_response) {
        (true, Some(HttpResponse::Ok(ok))) => Ok(leave(ok, query)),
        (true, _) => Ok(Changes::default()),
        (false, Some(HttpResponse::Denied(denied))) => Err(Box::new(refusal(denied))),
        (false, _) => Err(Box::new(Answer::refused_outside(403, Vec::new(), Vec::new()))),
    }
}

fn leave(ok: OkHttpResponse, query: Option<&str>) -> Changes {
    let mut changes = Changes::default();
    for option in ok.headers {
        let appends = option.append.is_some_and(|append| append.value);
        let Some((name, value)) = header(option) else { continue };
        let change = if appends { Change::Add(name, value) } else { Change::Set(name, value) };
        changes.request.push(change);
    }
    for name in ok.headers_to_remove {
        let name = name.to_ascii_lowercase();
        if !is_of_message(&name) && !name.starts_with(':') {
            changes.request.push(Change::Remove(name));
        }
    }
    for option in ok.response_headers_to_add {
        let replaces = match option.append {
            Some(append) => !append.value,
            None => matches!(
                AppendAction::try_from(option.append_action),
                Ok(AppendAction::OverwriteIfExists | AppendAction::OverwriteIfExistsOrAdd)
            ),
        };
        let Some((name, value)) = header(option) else { continue };
        let change = if replaces { Change::Set(name, value) } else { Change::Add(name, value) };
        changes.response.push(change);
    }
    if !ok.query_parameters_to_set.is_empty() || !ok.query_parameters_to_remove.is_empty() {
        let mut query = query.map(str::to_owned);
        let removed = ok.query_parameters_to_remove.iter();
        let set = ok.query_parameters_to_set.iter();
        for name in removed.chain(set.clone().map(|parameter| &parameter.key)) {
            let rest =
                query.as_deref().and_then(|query| heddle_tls::jwt::without_query(query, name));
            query = rest;
        }
        let is_safe = |text: &str| {
            text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'#' | b'&'))
        };
        let kept = query.into_iter();
        let added = set
            .filter(|parameter| is_safe(&parameter.key) && is_safe(&parameter.value))
            .map(|parameter| format!("{}={}", parameter.key, parameter.value));
        changes.query = Some(kept.chain(added).collect::<Vec<_>>().join("&"));
    }
    changes
}

/// What a header becomes; none for one that frames the message.
fn header(option: HeaderValueOption) -> Option<(String, Vec<u8>)> {
    let header = option.header?;
    let name = header.key.to_ascii_lowercase();
    let value =
        if header.raw_value.is_empty() { header.value.into_bytes() } else { header.raw_value };
    (!is_of_message(&name) && !name.starts_with(':')).then_some((name, value))
}

fn refusal(denied: DeniedHttpResponse) -> Answer {
    let status = denied.status.and_then(|status| u16::try_from(status.code).ok());
    let status = status.filter(|status| (200..600).contains(status)).unwrap_or(403);
    let headers = denied.headers.into_iter().filter_map(header);
    let headers = headers
        .map(|(name, value)| (Cow::Owned(name), String::from_utf8_lossy(&value).into_owned()))
        .collect();
    Answer::refused_outside(status, headers, denied.body.into_bytes())
}

#[cfg(test)]
mod tests;
