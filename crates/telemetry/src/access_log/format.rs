//! Parsing formats: text with `%OPERATOR%`s into parts.

use crate::access_log::{DEFAULT_JSON_FORMAT, DEFAULT_TEXT_FORMAT};
use crate::calendar::check_pattern;

/// Bytes of a format; it is part of a user's object.
const FORMAT_BYTES_MAX: usize = 64 * 1024;

/// A parsed format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessLogFormat(pub(super) Shape);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shape {
    /// Parts one after the other, ending with a line feed.
    Text(Vec<Part>),
    /// An object with these keys, on one line.
    Json(Vec<(Box<str>, Vec<Part>)>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    Literal(Box<str>),
    Field { field: Field, chars_max: Option<usize> },
}

/// The headers an operator looks at, and the one it falls back to, lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HeaderNames {
    pub(super) first: Box<str>,
    pub(super) otherwise: Option<Box<str>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Field {
    /// Always absent: what other filters of Envoy would set.
    Absent,
    BytesReceived,
    BytesSent,
    ConnectionTerminationDetails,
    DownstreamLocalAddress {
        with_port: bool,
    },
    DownstreamPeerUriSan,
    DownstreamRemoteAddress {
        with_port: bool,
    },
    DownstreamTlsVersion,
    Duration,
    GrpcStatus,
    Hostname(Box<str>),
    Protocol,
    Request(HeaderNames),
    RequestDuration,
    RequestedServerName,
    Response(HeaderNames),
    ResponseCode,
    ResponseCodeDetails,
    ResponseDuration,
    ResponseFlags,
    RouteName,
    StartTime {
        pattern: Option<Box<str>>,
    },
    TraceId,
    Trailer(HeaderNames),
    UpstreamCluster,
    UpstreamHost {
        with_port: bool,
    },
    UpstreamLocalAddress {
        with_port: bool,
    },
    UpstreamTransportFailureReason,
}

/// Why a format cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// An operator needs an argument in parentheses.
    #[error("operator {operator} needs an argument, as in %{operator}(NAME)%")]
    ArgumentMissing {
        /// The operator.
        operator: String,
    },
    /// A length after a colon is not a number.
    #[error("{text:?} after the colon is not a length")]
    Length {
        /// What stands there.
        text: String,
    },
    /// A time pattern has a directive that is not supported.
    #[error("time directive {directive} is not supported")]
    TimeDirective {
        /// The directive.
        directive: String,
    },
    /// The format is too long.
    #[error("format of {bytes} bytes, at most {max} are accepted")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// An operator has no end.
    #[error("operator that begins with {text:?} has no closing %")]
    Unclosed {
        /// How it begins.
        text: String,
    },
    /// An operator is not known.
    #[error("operator %{operator}% is not supported")]
    UnknownOperator {
        /// The operator.
        operator: String,
    },
}

impl AccessLogFormat {
    /// Istio's default text format.
    pub fn default_text() -> Self {
        // A test parses the constant; without a line a reader sees at once that something is amiss.
        Self::text(DEFAULT_TEXT_FORMAT, "").unwrap_or(Self(Shape::Text(Vec::new())))
    }

    /// Istio's default JSON format.
    pub fn default_json() -> Self {
        let keys = DEFAULT_JSON_FORMAT.iter().copied();
        Self::json(keys, "").unwrap_or(Self(Shape::Json(Vec::new())))
    }

    /// A text format; a line feed is added when it lacks one. `hostname` is what `%HOSTNAME%` prints.
    pub fn text(format: &str, hostname: &str) -> Result<Self, FormatError> {
        let mut parts = parse(format, hostname)?;
        if !format.ends_with('\n') {
            parts.push(Part::Literal("\n".into()));
        }
        Ok(Self(Shape::Text(parts)))
    }

    /// The request's headers that lines hold, lower case.
    pub fn request_headers(&self) -> impl Iterator<Item = &str> {
        self.headers(|field| match field {
            Field::Request(names) => Some(names),
            _ => None,
        })
    }

    /// The response's headers that lines hold, lower case.
    pub fn response_headers(&self) -> impl Iterator<Item = &str> {
        self.headers(|field| match field {
            Field::Response(names) => Some(names),
            _ => None,
        })
    }

    fn headers(&self, of: impl Fn(&Field) -> Option<&HeaderNames>) -> impl Iterator<Item = &str> {
        let (text, json) = match &self.0 {
            Shape::Text(parts) => (Some(parts), None),
            Shape::Json(keys) => (None, Some(keys.iter().map(|(_, parts)| parts))),
        };
        let parts = text.into_iter().chain(json.into_iter().flatten()).flatten();
        let names = parts.filter_map(move |part| match part {
            Part::Field { field, .. } => of(field),
            Part::Literal(_) => None,
        });
        names.flat_map(|names| [Some(&*names.first), names.otherwise.as_deref()]).flatten()
    }

    /// A JSON format: what stands under each key.
    pub fn json<'a>(
        keys: impl IntoIterator<Item = (&'a str, &'a str)>,
        hostname: &str,
    ) -> Result<Self, FormatError> {
        let parse = |(key, format): (&str, &str)| Ok((key.into(), parse(format, hostname)?));
        keys.into_iter().map(parse).collect::<Result<_, _>>().map(|keys| Self(Shape::Json(keys)))
    }
}

fn parse(format: &str, hostname: &str) -> Result<Vec<Part>, FormatError> {
    if format.len() > FORMAT_BYTES_MAX {
        return Err(FormatError::TooLong { bytes: format.len(), max: FORMAT_BYTES_MAX });
    }
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut rest = format;
    while let Some((before, after)) = rest.split_once('%') {
        literal.push_str(before);
        if let Some(after) = after.strip_prefix('%') {
            literal.push('%');
            rest = after;
            continue;
        }
        let (operator, after) = take_operator(after)?;
        rest = after;
        if !literal.is_empty() {
            parts.push(Part::Literal(std::mem::take(&mut literal).into()));
        }
        parts.push(operator_part(operator, hostname)?);
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        parts.push(Part::Literal(literal.into()));
    }
    Ok(parts)
}

/// Splits at the closing percent sign; those within parentheses belong to the argument.
fn take_operator(text: &str) -> Result<(&str, &str), FormatError> {
    let mut depth = 0_u32;
    let end = text.find(|character| {
        match character {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        character == '%' && depth == 0
    });
    let end = end.ok_or_else(|| FormatError::Unclosed { text: text.chars().take(32).collect() })?;
    let (operator, after) = text.split_at(end);
    Ok((operator, after.strip_prefix('%').unwrap_or(after)))
}

fn operator_part(text: &str, hostname: &str) -> Result<Part, FormatError> {
    let name_end = text.find(['(', ':']).unwrap_or(text.len());
    let (name, rest) = text.split_at(name_end);
    let (argument, rest) = match rest.strip_prefix('(') {
        Some(rest) => match rest.rsplit_once(')') {
            Some((argument, rest)) => (Some(argument), rest),
            None => return Err(FormatError::Unclosed { text: text.to_owned() }),
        },
        None => (None, rest),
    };
    let chars_max = match rest.strip_prefix(':') {
        Some(length) => {
            let parsed =
                length.parse().map_err(|_| FormatError::Length { text: length.to_owned() });
            Some(parsed?)
        }
        None if rest.is_empty() => None,
        None => return Err(FormatError::UnknownOperator { operator: text.to_owned() }),
    };
    Ok(Part::Field { field: field(name, argument, hostname)?, chars_max })
}

fn field(name: &str, argument: Option<&str>, hostname: &str) -> Result<Field, FormatError> {
    let headers = || {
        let missing = || FormatError::ArgumentMissing { operator: name.to_owned() };
        let names = argument.filter(|names| !names.is_empty()).ok_or_else(missing)?.to_lowercase();
        let (first, otherwise) = match names.split_once('?') {
            Some((first, otherwise)) => (first, Some(otherwise.into())),
            None => (names.as_str(), None),
        };
        Ok(HeaderNames { first: first.into(), otherwise })
    };
    Ok(match name {
        "BYTES_RECEIVED" => Field::BytesReceived,
        "BYTES_SENT" => Field::BytesSent,
        "CONNECTION_TERMINATION_DETAILS" => Field::ConnectionTerminationDetails,
        "DOWNSTREAM_DIRECT_REMOTE_ADDRESS" | "DOWNSTREAM_REMOTE_ADDRESS" => {
            Field::DownstreamRemoteAddress { with_port: true }
        }
        "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT"
        | "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => {
            Field::DownstreamRemoteAddress { with_port: false }
        }
        "DOWNSTREAM_LOCAL_ADDRESS" => Field::DownstreamLocalAddress { with_port: true },
        "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" => {
            Field::DownstreamLocalAddress { with_port: false }
        }
        "DOWNSTREAM_PEER_URI_SAN" => Field::DownstreamPeerUriSan,
        "DOWNSTREAM_TLS_VERSION" => Field::DownstreamTlsVersion,
        "DURATION" => Field::Duration,
        "DYNAMIC_METADATA" | "ENVIRONMENT" | "FILTER_STATE" | "METADATA" | "UPSTREAM_METADATA" => {
            Field::Absent
        }
        "GRPC_STATUS" | "GRPC_STATUS_NUMBER" => Field::GrpcStatus,
        "HOSTNAME" => Field::Hostname(hostname.into()),
        "PROTOCOL" => Field::Protocol,
        "REQ" => Field::Request(headers()?),
        "REQUEST_DURATION" => Field::RequestDuration,
        "REQUESTED_SERVER_NAME" => Field::RequestedServerName,
        "RESP" => Field::Response(headers()?),
        "RESPONSE_CODE" => Field::ResponseCode,
        "RESPONSE_CODE_DETAILS" => Field::ResponseCodeDetails,
        "RESPONSE_DURATION" => Field::ResponseDuration,
        "RESPONSE_FLAGS" => Field::ResponseFlags,
        "ROUTE_NAME" => Field::RouteName,
        "START_TIME" => {
            if let Some(pattern) = argument {
                check_pattern(pattern)
                    .map_err(|directive| FormatError::TimeDirective { directive })?;
            }
            Field::StartTime { pattern: argument.map(Into::into) }
        }
        "TRACE_ID" => Field::TraceId,
        "TRAILER" => Field::Trailer(headers()?),
        "UPSTREAM_CLUSTER" | "UPSTREAM_CLUSTER_RAW" => Field::UpstreamCluster,
        "UPSTREAM_HOST" | "UPSTREAM_REMOTE_ADDRESS" => Field::UpstreamHost { with_port: true },
        "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => Field::UpstreamHost { with_port: false },
        "UPSTREAM_LOCAL_ADDRESS" => Field::UpstreamLocalAddress { with_port: true },
        "UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" => Field::UpstreamLocalAddress { with_port: false },
        "UPSTREAM_TRANSPORT_FAILURE_REASON" => Field::UpstreamTransportFailureReason,
        other => return Err(FormatError::UnknownOperator { operator: other.to_owned() }),
    })
}
