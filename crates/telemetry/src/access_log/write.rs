//! Writing lines. What a peer sent is escaped, so that no request can forge a line or break the JSON.

use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;

use super::format::{AccessLogFormat, Field, HeaderNames, Part, Shape};
use super::{AccessRecord, Headers};
use crate::calendar::Moment;

/// Bytes of one value that are printed; headers may be longer.
const VALUE_BYTES_MAX: usize = 8 * 1024;

/// What a field has to say.
enum Value<'a> {
    Absent,
    Bytes(&'a [u8]),
    Number(u64),
    /// Written into the scratch buffer.
    Scratch,
    Text(&'a str),
}

impl AccessLogFormat {
    /// Appends the line of `record` to `out`, with its line feed.
    pub fn write(&self, record: &AccessRecord<'_>, out: &mut String) {
        let mut scratch = String::new();
        match &self.0 {
            Shape::Text(parts) => {
                for part in parts {
                    write_part(part, record, &mut scratch, out);
                }
            }
            Shape::Json(keys) => {
                out.push('{');
                for (index, (key, parts)) in keys.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    write_json_text(key, out);
                    out.push(':');
                    write_json(parts, record, &mut scratch, out);
                }
                out.push_str("}\n");
            }
        }
    }
}

fn write_part(part: &Part, record: &AccessRecord<'_>, scratch: &mut String, out: &mut String) {
    let (field, chars_max) = match part {
        Part::Literal(text) => return out.push_str(text),
        Part::Field { field, chars_max } => (field, chars_max.unwrap_or(usize::MAX)),
    };
    scratch.clear();
    match value(field, record, scratch) {
        Value::Absent => out.push('-'),
        Value::Number(number) => push(out, format_args!("{number}")),
        Value::Bytes(bytes) => write_escaped(&text_of(bytes), chars_max, out),
        Value::Scratch => write_escaped(scratch, chars_max, out),
        Value::Text(text) => write_escaped(cut(text), chars_max, out),
    }
}

/// A single operator keeps its type: numbers are numbers and what is absent is null. Anything else is a text.
fn write_json(parts: &[Part], record: &AccessRecord<'_>, scratch: &mut String, out: &mut String) {
    if let [Part::Field { field, chars_max }] = parts {
        let chars_max = chars_max.unwrap_or(usize::MAX);
        scratch.clear();
        match value(field, record, scratch) {
            Value::Absent => return out.push_str("null"),
            Value::Number(number) => return push(out, format_args!("{number}")),
            Value::Bytes(bytes) => return write_json_text(first(&text_of(bytes), chars_max), out),
            Value::Scratch => return write_json_text(first(scratch, chars_max), out),
            Value::Text(text) => return write_json_text(first(cut(text), chars_max), out),
        }
    }
    let mut text = String::new();
    for part in parts {
        write_part(part, record, scratch, &mut text);
    }
    write_json_text(&text, out);
}

fn value<'a>(field: &'a Field, record: &AccessRecord<'a>, scratch: &mut String) -> Value<'a> {
    match field {
        Field::Absent => Value::Absent,
        Field::BytesReceived => Value::Number(record.bytes_received),
        Field::BytesSent => Value::Number(record.bytes_sent),
        Field::ConnectionTerminationDetails => text(record.connection_termination_details),
        Field::DownstreamLocalAddress { with_port } => {
            address(record.downstream_local_address, *with_port, scratch)
        }
        Field::DownstreamPeerUriSan => text(record.downstream_peer_uri_san),
        Field::DownstreamRemoteAddress { with_port } => {
            address(record.downstream_remote_address, *with_port, scratch)
        }
        Field::DownstreamTlsVersion => text(record.downstream_tls_version),
        Field::Duration => millis(Some(record.duration)),
        Field::GrpcStatus => number(record.grpc_status.map(u64::from)),
        Field::Hostname(name) if name.is_empty() => Value::Absent,
        Field::Hostname(name) => Value::Text(name),
        Field::Protocol => text(record.protocol),
        Field::Request(names) => header(record.request, names),
        Field::RequestDuration => millis(record.request_duration),
        Field::RequestedServerName => text(record.requested_server_name),
        Field::Response(names) => header(record.response, names),
        Field::ResponseCode => Value::Number(u64::from(record.response_code)),
        Field::ResponseCodeDetails => text(record.response_code_details),
        Field::ResponseDuration => millis(record.response_duration),
        Field::ResponseFlags => {
            push(scratch, format_args!("{}", record.flags));
            Value::Scratch
        }
        Field::RouteName => text(record.route_name),
        Field::StartTime { pattern } => {
            let moment = Moment::new(record.start);
            match pattern {
                Some(pattern) => moment.write_pattern(pattern, scratch),
                None => moment.write_iso(scratch),
            }
            Value::Scratch
        }
        Field::TraceId => text(record.trace_id),
        Field::Trailer(names) => header(record.trailers, names),
        Field::UpstreamCluster => text(record.upstream_cluster),
        Field::UpstreamHost { with_port } => address(record.upstream_host, *with_port, scratch),
        Field::UpstreamLocalAddress { with_port } => {
            address(record.upstream_local_address, *with_port, scratch)
        }
        Field::UpstreamTransportFailureReason => text(record.upstream_transport_failure_reason),
    }
}

fn text(value: Option<&str>) -> Value<'_> {
    value.filter(|text| !text.is_empty()).map_or(Value::Absent, Value::Text)
}

fn number<'a>(value: Option<u64>) -> Value<'a> {
    value.map_or(Value::Absent, Value::Number)
}

fn millis<'a>(duration: Option<Duration>) -> Value<'a> {
    number(duration.map(|duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
}

fn header<'a>(headers: &'a dyn Headers, names: &HeaderNames) -> Value<'a> {
    let otherwise = || names.otherwise.as_deref().and_then(|name| headers.value(name));
    let value = headers.value(&names.first).or_else(otherwise);
    value.filter(|value| !value.is_empty()).map_or(Value::Absent, Value::Bytes)
}

fn address<'a>(address: Option<SocketAddr>, with_port: bool, scratch: &mut String) -> Value<'a> {
    let Some(address) = address else { return Value::Absent };
    if with_port {
        push(scratch, format_args!("{address}"));
    } else {
        push(scratch, format_args!("{}", address.ip()));
    }
    Value::Scratch
}

fn text_of(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes.get(..VALUE_BYTES_MAX).unwrap_or(bytes))
}

fn cut(text: &str) -> &str {
    let mut end = text.len().min(VALUE_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or(text)
}

fn first(text: &str, chars_max: usize) -> &str {
    let end = text.char_indices().nth(chars_max).map_or(text.len(), |(index, _)| index);
    text.get(..end).unwrap_or(text)
}

/// Control characters would break lines or terminals; they print as `\xNN`.
fn write_escaped(text: &str, chars_max: usize, out: &mut String) {
    let text = first(text, chars_max);
    if !text.contains(char::is_control) {
        return out.push_str(text);
    }
    for character in text.chars() {
        if character.is_control() {
            push(out, format_args!("\\x{:02x}", u32::from(character)));
        } else {
            out.push(character);
        }
    }
}

/// RFC 8259 section 7.
fn write_json_text(text: &str, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            control if control.is_control() => {
                push(out, format_args!("\\u{:04x}", u32::from(control)));
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = out.write_fmt(text);
}
