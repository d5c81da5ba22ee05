//! Checks of texts that Cilium's schemas make.

use crate::check;

/// A label key with an optional source (`k8s:`, `any:`, `reserved:`, `cidr:` and others) before it.
pub(crate) fn label_key(text: &str) -> Result<(), &'static str> {
    let key = match text.split_once(':') {
        Some(("reserved" | "cidr", _)) => return Ok(()),
        Some((source, key)) if check::dns_label(source).is_ok() => key,
        Some(_) => return Err("a label key such as `app`, `k8s:app` or `reserved:host`"),
        None => text,
    };
    // Labels of namespaces come behind `io.cilium.k8s.namespace.labels.` and may have a slash of their own.
    let key = key.strip_prefix("io.cilium.k8s.namespace.labels.").unwrap_or(key);
    check::label_key(key).map_err(|_| "a label key such as `app`, `k8s:app` or `reserved:host`")
}

/// A name in DNS, as `matchName` takes it.
pub(crate) fn dns_match_name(text: &str) -> Result<(), &'static str> {
    dns_text(text, |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
        .ok_or("a DNS name")
}

/// A name in DNS with `*` in it, as `matchPattern` takes it.
pub(crate) fn dns_match_pattern(text: &str) -> Result<(), &'static str> {
    dns_text(text, |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'*'))
        .ok_or("a DNS name in which `*` stands for characters")
}

/// Labels with at most one dot between, each with at least one character.
fn dns_text(text: &str, takes: impl Fn(u8) -> bool) -> Option<()> {
    let dots = !text.starts_with('.') && !text.contains("..");
    (!text.is_empty() && text.len() <= 255 && dots && text.bytes().all(takes)).then_some(())
}

/// A server name, with `*.` or `**.` in front.
pub(crate) fn server_name(text: &str) -> Result<(), &'static str> {
    let name = text.strip_prefix("**.").or_else(|| text.strip_prefix("*.")).unwrap_or(text);
    dns_match_name(name).map_err(|_| "a server name such as `example.com` or `*.example.com`")
}

/// A port by number or name; `0` stands for all.
pub(crate) fn port(text: &str) -> Result<(), &'static str> {
    let number = text.bytes().all(|byte| byte.is_ascii_digit());
    let valid = if number {
        text.parse::<u16>().is_ok()
    } else {
        text.len() <= 15
            && text.bytes().any(|byte| byte.is_ascii_alphabetic())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !text.starts_with('-')
            && !text.ends_with('-')
            && !text.contains("--")
    };
    (!text.is_empty() && valid).then_some(()).ok_or("a port number from 0 to 65535 or a port name")
}

/// Up to 32 characters that can be printed.
pub(crate) fn log_value(text: &str) -> Result<(), &'static str> {
    (text.chars().count() <= 32 && !text.chars().any(char::is_control))
        .then_some(())
        .ok_or("at most 32 characters that can be printed")
}
