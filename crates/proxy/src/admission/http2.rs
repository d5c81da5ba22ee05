//! HTTP/2 requests that need a token or somebody outside.

use std::rc::Rc;
use std::time::Duration;

use ::http::request::Parts;
use bytes::Bytes;
use h2::RecvStream;
use heddle_authz::CompiledAuthorization;
use heddle_ir::authorization::AuthorizerBody;

use super::asking::{Asked, Body, Parties};
use super::{Admission, Admitted, Party, Step, View};
use crate::forward::answer::Answer;
use crate::forward::http2::Head;
use crate::worker::Worker;

/// How long a body may take that an authoriser wants to see.
const BODY_MAX: Duration = Duration::from_mins(1);

/// A body of which the beginning may have been read.
pub(crate) struct Received {
    pub(crate) stream: RecvStream,
    /// What has been read.
    pub(crate) front: Vec<Bytes>,
}

impl From<RecvStream> for Received {
    fn from(stream: RecvStream) -> Self {
        Self { stream, front: Vec::new() }
    }
}

/// As [`super::http1::admit`]; what is read of the body is kept in front of it.
pub(crate) async fn admit(
    worker: &Rc<Worker>,
    party: Party<'_>,
    inbound: &CompiledAuthorization,
    parts: &Parts,
    body: &mut Received,
    normal: Option<&str>,
) -> Result<Admitted, Answer> {
    let head = Head::with_path(parts, normal);
    let head = if party.https { head.with_scheme(true) } else { head };
    let mut admission = Admission::begin(worker, party, inbound, &head).await?;
    loop {
        let question = match admission.step(&head)? {
            Step::Done(permit) => return Ok(admission.admitted(permit)),
            Step::Ask(question) => question,
        };
        let mut asked = asked(&admission, parts, &head);
        if let Some(limit) = question.authorizer.body {
            let read = body.read_in_time(limit).await?;
            asked = asked.with_body(read);
        }
        admission.ask(&question, asked, &head).await?;
    }
}

fn asked(admission: &Admission<'_>, parts: &Parts, head: &Head<'_>) -> Asked {
    asked_of(admission.worker, admission.party, &admission.view(head), parts)
}

/// A request as an authoriser is told of it.
pub(super) fn asked_of(
    worker: &Worker,
    party: Party<'_>,
    view: &View<'_, Head<'_>>,
    parts: &Parts,
) -> Asked {
    let headers = parts.headers.iter();
    let headers =
        headers.map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()));
    let parties = Parties::of(worker, party);
    let length = parts.headers.get("content-length").and_then(|value| value.to_str().ok());
    let size = length.and_then(|length| length.parse().ok()).unwrap_or(-1);
    Asked { size, ..Asked::of(view, "HTTP/2", headers.collect(), parties) }
}

impl Received {
    /// Reads the body, or its beginning, as long as that does not take too long.
    pub(super) async fn read_in_time(&mut self, limit: AuthorizerBody) -> Result<Body, Answer> {
        let reading = tokio::time::timeout(BODY_MAX, self.read(limit));
        reading.await.unwrap_or_else(|_| Err(Answer::bad_request(408)))
    }

    /// Reads the body, or its beginning.
    async fn read(&mut self, limit: AuthorizerBody) -> Result<Body, Answer> {
        let max = limit.body_bytes_max as usize;
        let mut bytes = self.front.concat();
        while bytes.len() <= max {
            let Some(piece) = self.stream.data().await else {
                return Ok(Body { bytes, partial: false });
            };
            let piece = piece.map_err(|_| Answer::bad_request(400))?;
            let _ = self.stream.flow_control().release_capacity(piece.len());
            bytes.extend_from_slice(&piece);
            if !piece.is_empty() {
                self.front.push(piece);
            }
            if limit.allow_partial && bytes.len() == max && !self.stream.is_end_stream() {
                break;
            }
        }
        if !limit.allow_partial {
            return Err(Answer::too_large());
        }
        bytes.truncate(max);
        Ok(Body { bytes, partial: true })
    }
}
