//! Authorisers that are asked with a request like the one that is asked about: 200 is leave, a fault of theirs (5xx) is no
//! answer, everything else is the refusal that the client gets.

use std::borrow::Cow;
use std::rc::Rc;

use bytes::Bytes;
use heddle_ir::authorization::{AuthorizerHttp, ExternalAuthorizer};
use heddle_ir::matching::TextMatch;

use super::asking::{Answered, Asked, AuthorizerError, PARTIAL_BODY, is_of_message, takes};
use super::changes::{Change, Changes};
use crate::ask::{self, Asking, Reply};
use crate::forward::answer::Answer;
use crate::worker::Worker;

/// The longest answer in bytes.
const REPLY_BYTES_MAX: usize = 1 << 20;
/// An answer's list of headers that the request must lose.
const HEADERS_TO_REMOVE: &str = "x-envoy-auth-headers-to-remove";

pub(super) async fn ask(
    worker: &Rc<Worker>,
    authorizer: &ExternalAuthorizer,
    settings: &AuthorizerHttp,
    asked: Asked,
) -> Answered {
    let target = format!("{}{}", settings.path_prefix, asked.target);
    let headers = sent_headers(settings, asked.headers);
    let place = ask::service(worker, &authorizer.host, authorizer.port).await?;
    let asking = Asking {
        method: &asked.method,
        target: &target,
        authority: &asked.authority,
        headers,
        body: Bytes::from(asked.body.bytes),
        reply_bytes_max: REPLY_BYTES_MAX,
    };
    let reply = ask::over_http1(worker, &place, &asking, authorizer.timeout).await?;
    match reply.status {
        200 => Ok(Ok(leave(settings, reply))),
        500.. => Err(AuthorizerError::Status(reply.status)),
        _ => Ok(Err(Box::new(refusal(settings, reply)))),
    }
}

fn sent_headers(
    settings: &AuthorizerHttp,
    headers: Vec<(String, Vec<u8>)>,
) -> Vec<(String, Vec<u8>)> {
    let is_sent = |name: &str| {
        let always = matches!(name, "authorization" | PARTIAL_BODY);
        !is_of_message(name) && (always || takes(&settings.request_headers, name))
    };
    let mut sent: Vec<(String, Vec<u8>)> =
        headers.into_iter().filter(|(name, _)| is_sent(name)).collect();
    for (name, value) in &settings.added_headers {
        Change::Set(name.to_string(), value.as_bytes().to_vec()).apply(&mut sent);
    }
    sent
}

fn leave(settings: &AuthorizerHttp, reply: Reply) -> Changes {
    let mut changes = Changes::default();
    for (name, value) in reply.headers {
        if name == HEADERS_TO_REMOVE {
            let names = String::from_utf8_lossy(&value).to_ascii_lowercase();
            let names = names.split(',').map(str::trim).filter(|name| !name.is_empty());
            changes.request.extend(names.map(|name| Change::Remove(name.to_owned())));
            continue;
        }
        if is_of_message(&name) {
            continue;
        }
        if takes(&settings.downstream_headers_on_allow, &name) {
            changes.response.push(Change::Add(name.clone(), value.clone()));
        }
        // Where all are meant, what describes the answer's own body is not: it would say wrong things of the request's.
        let of_body = name.starts_with("content-")
            && settings.upstream_headers_on_allow.contains(&TextMatch::Present);
        if !of_body && takes(&settings.upstream_headers_on_allow, &name) {
            // Several values of one header stay together.
            let again = changes
                .request
                .iter()
                .any(|own| matches!(own, Change::Set(own, _) if *own == name));
            changes.request.push(if again {
                Change::Add(name, value)
            } else {
                Change::Set(name, value)
            });
        }
    }
    changes
}

fn refusal(settings: &AuthorizerHttp, reply: Reply) -> Answer {
    let chosen = &settings.downstream_headers_on_deny;
    let is_told = |name: &str| {
        let always = matches!(name, "www-authenticate" | "location");
        !is_of_message(name) && (chosen.is_empty() || always || takes(chosen, name))
    };
    let headers = reply.headers.into_iter().filter(|(name, _)| is_told(name));
    let headers = headers
        .map(|(name, value)| (Cow::Owned(name), String::from_utf8_lossy(&value).into_owned()))
        .collect();
    Answer::refused_outside(reply.status, headers, reply.body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, headers: &[(&str, &str)]) -> Reply {
        let headers = headers.iter();
        let headers = headers.map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()));
        Reply { status, headers: headers.collect(), body: b"no".to_vec() }
    }

    #[test]
    fn an_authoriser_sees_what_it_was_given() {
        let settings = AuthorizerHttp {
            request_headers: vec![
                TextMatch::Prefix("x-".into()),
                TextMatch::Exact("host".into()),
                TextMatch::Exact("transfer-encoding".into()),
            ],
            added_headers: vec![("x-b".into(), "ours".into())],
            ..AuthorizerHttp::default()
        };
        let sent = ["authorization", "cookie", "x-a", "x-b", "host", "transfer-encoding"];
        let sent = sent.iter().map(|name| ((*name).to_owned(), b"theirs".to_vec())).collect();
        let got = sent_headers(&settings, sent);
        let expected = [("authorization", "theirs"), ("x-a", "theirs"), ("x-b", "ours")];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()));
        assert_eq!(got, expected);
    }

    #[test]
    fn leave_changes_what_it_may_and_nothing_else() {
        let settings = AuthorizerHttp {
            upstream_headers_on_allow: vec![TextMatch::Exact("x-user".into())],
            downstream_headers_on_allow: vec![TextMatch::Suffix("-told".into())],
            ..AuthorizerHttp::default()
        };
        let headers = [
            ("x-user", "a"),
            ("x-user", "b"),
            ("x-other", "c"),
            ("x-told", "d"),
            (HEADERS_TO_REMOVE, "Cookie, x-secret"),
        ];
        let changes = leave(&settings, reply(200, &headers));
        assert_eq!(
            changes.request,
            [
                Change::Set("x-user".to_owned(), b"a".to_vec()),
                Change::Add("x-user".to_owned(), b"b".to_vec()),
                Change::Remove("cookie".to_owned()),
                Change::Remove("x-secret".to_owned()),
            ]
        );
        assert_eq!(changes.response, [Change::Add("x-told".to_owned(), b"d".to_vec())]);
    }

    #[test]
    fn a_refusal_tells_the_client_what_it_may() {
        let headers = [("location", "/login"), ("x-a", "1"), ("x-b", "2"), ("content-length", "2")];
        let names = |chosen: &[&str]| {
            let chosen = chosen.iter().map(|name| TextMatch::Exact((*name).into())).collect();
            let settings =
                AuthorizerHttp { downstream_headers_on_deny: chosen, ..AuthorizerHttp::default() };
            let answer = refusal(&settings, reply(302, &headers));
            assert_eq!((answer.status, &*answer.body), (302, &b"no"[..]));
            answer.headers.iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(names(&[]), ["location", "x-a", "x-b"]);
        assert_eq!(names(&["x-b"]), ["location", "x-b"]);
    }
}
