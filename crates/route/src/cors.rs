//! Cross-origin resource sharing (Fetch standard, section 3.3), answered as Envoy's filter does for Istio, and by
//! the Gateway API's rule for `*` with credentials.

use std::borrow::Cow;
use std::fmt::Write;

use heddle_ir::http_route::CorsPolicy;
use heddle_ir::matching::TextMatch;
use heddle_ir::request::RequestHead;
use heddle_pattern::PatternError;

use crate::matching::CompiledText;

/// What CORS asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CorsOutcome<'a> {
    /// Nothing: the request is not cross-origin, or its origin is not allowed.
    None,
    /// The request goes on; the response gets these headers.
    Add(CorsHeaders<'a>),
    /// The request is answered with 200, these headers and no body.
    Preflight(CorsHeaders<'a>),
    /// A preflight whose origin is not allowed, which is answered with 200 and no such header.
    PreflightUnmatched,
}

/// Headers of a response to an allowed origin. They replace what the upstream sent under the same names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CorsHeaders<'a> {
    /// `access-control-allow-origin`: the request's origin.
    pub allow_origin: Cow<'a, [u8]>,
    /// `access-control-allow-credentials: true`.
    pub allow_credentials: bool,
    /// `access-control-allow-methods`; none: not sent.
    pub allow_methods: Option<Cow<'a, [u8]>>,
    /// `access-control-allow-headers`; none: not sent.
    pub allow_headers: Option<Cow<'a, [u8]>>,
    /// `access-control-expose-headers`; none: not sent.
    pub expose_headers: Option<Cow<'a, [u8]>>,
    /// `access-control-max-age`; none: not sent.
    pub max_age: Option<&'a str>,
}

impl CorsHeaders<'_> {
    /// Names and values in the order in which they are sent.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &[u8])> {
        let credentials = self.allow_credentials.then_some(&b"true"[..]);
        [
            ("access-control-allow-origin", Some(&*self.allow_origin)),
            ("access-control-allow-credentials", credentials),
            ("access-control-allow-methods", self.allow_methods.as_deref()),
            ("access-control-allow-headers", self.allow_headers.as_deref()),
            ("access-control-expose-headers", self.expose_headers.as_deref()),
            ("access-control-max-age", self.max_age.map(str::as_bytes)),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
    }
}

/// A compiled [`CorsPolicy`].
#[derive(Debug)]
pub(crate) struct CompiledCors {
    /// `*` is among the origins.
    any_origin: bool,
    origins: Box<[CompiledText]>,
    credentials: bool,
    methods: HeaderList,
    headers: HeaderList,
    expose: HeaderList,
    max_age: Option<Box<str>>,
    forward_unmatched_preflights: bool,
}

impl CompiledCors {
    /// Compiles `policy`; an origin that does not compile matches nothing and is pushed to `errors`.
    pub(crate) fn compile(policy: &CorsPolicy, errors: &mut Vec<PatternError>) -> Self {
        let is_star =
            |origin: &TextMatch| matches!(origin, TextMatch::Exact(text) if &**text == "*");
        let origins = policy.allow_origins.iter();
        Self {
            any_origin: policy.allow_origins.iter().any(is_star),
            origins: origins.map(|origin| CompiledText::compile(origin, errors)).collect(),
            credentials: policy.allow_credentials,
            methods: HeaderList::new(&policy.allow_methods),
            headers: HeaderList::new(&policy.allow_headers),
            expose: HeaderList::new(&policy.expose_headers),
            max_age: policy.max_age.map(|age| age.as_secs().to_string().into()),
            forward_unmatched_preflights: policy.forward_unmatched_preflights,
        }
    }

    pub(crate) fn decide<'a>(&'a self, request: &'a impl RequestHead) -> CorsOutcome<'a> {
        let Some(origin) = request.header("origin").filter(|origin| !origin.is_empty()) else {
            return CorsOutcome::None;
        };
        let requested_method = request
            .header("access-control-request-method")
            .filter(|method| request.method() == "OPTIONS" && !method.is_empty());
        if !self.any_origin && !self.origins.iter().any(|allowed| allowed.matches(&origin)) {
            return if requested_method.is_some() && !self.forward_unmatched_preflights {
                CorsOutcome::PreflightUnmatched
            } else {
                CorsOutcome::None
            };
        }
        let mut headers = CorsHeaders {
            allow_origin: origin,
            allow_credentials: self.credentials,
            allow_methods: None,
            allow_headers: None,
            expose_headers: self.expose.as_written(),
            max_age: None,
        };
        if requested_method.is_none() {
            return CorsOutcome::Add(headers);
        }
        headers.allow_methods = self.methods.answer(self.credentials, requested_method);
        let requested_headers = request.header("access-control-request-headers");
        headers.allow_headers = self.headers.answer(self.credentials, requested_headers);
        headers.max_age = self.max_age.as_deref();
        CorsOutcome::Preflight(headers)
    }
}

/// A list that is sent as one header value.
#[derive(Debug)]
struct HeaderList {
    /// Joined with commas; empty: the header is not sent.
    joined: Box<str>,
    has_star: bool,
}

impl HeaderList {
    fn new(values: &[std::sync::Arc<str>]) -> Self {
        let mut joined = String::new();
        for value in values {
            let separator = if joined.is_empty() { "" } else { "," };
            // Writing to a string does not fail.
            let _ = write!(joined, "{separator}{value}");
        }
        Self { joined: joined.into(), has_star: values.iter().any(|value| &**value == "*") }
    }

    /// The list as it was written; none when it is empty.
    fn as_written(&self) -> Option<Cow<'_, [u8]>> {
        (!self.joined.is_empty()).then_some(Cow::Borrowed(self.joined.as_bytes()))
    }

    /// What to answer a preflight. A `*` that stands alone is answered with what was requested, as Envoy does; one among
    /// others is too where credentials are allowed, since browsers then take the star literally (Fetch standard,
    /// section 3.3.3).
    fn answer<'a>(
        &'a self,
        credentials: bool,
        requested: Option<Cow<'a, [u8]>>,
    ) -> Option<Cow<'a, [u8]>> {
        let echoes = self.has_star && (credentials || &*self.joined == "*");
        if echoes { requested } else { self.as_written() }
    }
}
