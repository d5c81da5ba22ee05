//! Checks of texts: names, labels, and the patterns of the CRDs.
//!
//! Each returns what was expected, to be read after "is not".

fn alphanumeric(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
}

/// Bytes of `inner` between bytes of `edge`.
fn framed(text: &str, edge: fn(u8) -> bool, inner: fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    matches!((bytes.first(), bytes.last()), (Some(first), Some(last)) if edge(*first) && edge(*last))
        && bytes.iter().all(|byte| inner(*byte))
}

fn lower(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

/// RFC 1123 label: lower-case letters, digits and dashes, at most 63.
pub(crate) fn dns_label(text: &str) -> Result<(), &'static str> {
    (text.len() <= 63 && framed(text, lower, |b| lower(b) || b == b'-'))
        .then_some(())
        .ok_or("a name of lower-case letters, digits and dashes (at most 63)")
}

/// RFC 1123 subdomain: labels with dots between, at most 253.
pub(crate) fn dns_name(text: &str) -> Result<(), &'static str> {
    (text.len() <= 253
        && text.split('.').all(|label| framed(label, lower, |b| lower(b) || b == b'-')))
    .then_some(())
    .ok_or("a name of lower-case letters, digits, dashes and dots (at most 253)")
}

/// As [`dns_name`], or nothing.
pub(crate) fn dns_name_or_empty(text: &str) -> Result<(), &'static str> {
    if text.is_empty() { Ok(()) } else { dns_name(text) }
}

/// A range of addresses.
pub(crate) fn cidr(text: &str) -> Result<(), &'static str> {
    heddle_ident::Cidr::parse(text).map(|_| ()).map_err(|_| "an address range such as `10.0.0.0/8`")
}

/// What a kind may look like.
pub(crate) fn kind_name(text: &str) -> Result<(), &'static str> {
    (framed(text, alphanumeric, |b| alphanumeric(b) || b == b'-')
        && text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic()))
    .then_some(())
    .ok_or("the name of a kind")
}

/// 64 hexadecimal digits in lower case, or nothing.
pub(crate) fn sha256_or_empty(text: &str) -> Result<(), &'static str> {
    (text.is_empty()
        || text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
    .then_some(())
    .ok_or("a SHA-256 digest of 64 lower-case hexadecimal digits")
}

/// Letters, digits, dashes and underscores.
pub(crate) fn header_name(text: &str) -> Result<(), &'static str> {
    (!text.is_empty() && text.bytes().all(|b| alphanumeric(b) || matches!(b, b'-' | b'_')))
        .then_some(())
        .ok_or("a header name of letters, digits, dashes and underscores")
}

/// A label or annotation key: a name of at most 63, with an optional DNS prefix before a slash.
pub(crate) fn label_key(text: &str) -> Result<(), &'static str> {
    let (prefix, name) = match text.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, text),
    };
    let named = name.len() <= 63 && framed(name, alphanumeric, label_byte);
    (named && prefix.is_none_or(|prefix| dns_name(prefix).is_ok()))
        .then_some(())
        .ok_or("a label key such as `app` or `example.com/name`")
}

/// An annotation key is a label key that may have upper case in its prefix.
pub(crate) fn annotation_key(text: &str) -> Result<(), &'static str> {
    label_key(&text.to_ascii_lowercase())
        .map_err(|_| "an annotation key such as `example.com/name`")
}

/// A label value: at most 63 letters, digits, dashes, underscores and dots; may be empty.
pub(crate) fn label_value(text: &str) -> Result<(), &'static str> {
    (text.is_empty() || text.len() <= 63 && framed(text, alphanumeric, label_byte))
        .then_some(())
        .ok_or("a label value (at most 63 letters, digits, `-`, `_` and `.`, with a letter or digit at both ends)")
}

fn label_byte(byte: u8) -> bool {
    alphanumeric(byte) || matches!(byte, b'-' | b'_' | b'.')
}

/// A key of a selector: not empty and without star.
pub(crate) fn selector_key(text: &str) -> Result<(), &'static str> {
    (!text.is_empty() && !text.contains('*'))
        .then_some(())
        .ok_or("a label key; wildcards are not supported")
}

/// A value of a selector: without star.
pub(crate) fn no_star(text: &str) -> Result<(), &'static str> {
    (!text.contains('*')).then_some(()).ok_or("a label value; wildcards are not supported")
}

/// The number of a port, as a key.
pub(crate) fn port_number(text: &str) -> Result<(), &'static str> {
    text.parse::<u16>().is_ok_and(|port| port > 0).then_some(()).ok_or("a port number, 1 to 65535")
}

/// The name of a port: letters, digits and dashes, fewer than 63.
pub(crate) fn port_name(text: &str) -> Result<(), &'static str> {
    (text.len() < 63 && framed(text, alphanumeric, |b| alphanumeric(b) || b == b'-'))
        .then_some(())
        .ok_or("the name of a port (letters, digits and dashes)")
}

/// `HTTP`, `HTTPS` or nothing.
pub(crate) fn http_scheme(text: &str) -> Result<(), &'static str> {
    matches!(text, "" | "HTTP" | "HTTPS").then_some(()).ok_or("`HTTP` or `HTTPS`")
}

/// A URL of http or https with a host.
pub(crate) fn http_url(text: &str) -> Result<(), &'static str> {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let authority = rest.and_then(|rest| rest.split(['/', '?', '#']).next()).unwrap_or_default();
    let host = match authority.rsplit_once(':') {
        // The colons of an IPv6 address stand within brackets.
        Some((host, port)) if !port.ends_with(']') => port.parse::<u16>().ok().and(Some(host)),
        _ => Some(authority),
    };
    host.is_some_and(|host| !host.is_empty())
        .then_some(())
        .ok_or("a URL that begins with `http://` or `https://`")
}

/// Nothing.
pub(crate) fn empty(text: &str) -> Result<(), &'static str> {
    text.is_empty().then_some(()).ok_or("empty; references across namespaces are not supported")
}

/// A URL of a module; without scheme it is one of a registry.
pub(crate) fn module_url(text: &str) -> Result<(), &'static str> {
    text.split_once("://")
        .is_none_or(|(scheme, _)| matches!(scheme, "" | "http" | "https" | "file" | "oci"))
        .then_some(())
        .ok_or("a URL of `http`, `https`, `file` or `oci`")
}

/// A host other than `*`.
pub(crate) fn not_every_host(text: &str) -> Result<(), &'static str> {
    (text != "*").then_some(()).ok_or("a host; `*` alone is not allowed here")
}

/// An address, or a Unix socket that is absolute (or abstract) and no folder.
pub(crate) fn endpoint_address(text: &str) -> Result<(), &'static str> {
    text.strip_prefix("unix://")
        .is_none_or(|path| path.starts_with(['/', '@']) && !path.ends_with('/'))
        .then_some(())
        .ok_or("an absolute path of a socket")
}
