//! What there is to say about a WorkloadGroup.

use heddle_api::Object;
use heddle_api::istio::WorkloadGroup;

use crate::engine::Reader;
use crate::istio::workload_group;
use crate::report::Report;

/// What there is to say about an object.
pub(crate) fn report(reader: &Reader<'_>, object: &Object<WorkloadGroup>, report: &mut Report) {
    workload_group::report(reader, object, report);
    let Some(metadata) = &object.spec.metadata else { return };
    for (key, value) in &metadata.labels {
        let origin = object.written.origin_of_entry(metadata.at, "labels", key);
        if !is_label_key(key) {
            report.rejected(origin, format!("`{key}` is not the name of a label"));
        } else if !is_label_value(value) {
            report.rejected(origin, format!("`{value}` is not the value of a label"));
        }
    }
}

/// Kubernetes' syntax of a label's name: an optional domain and a slash, then a name.
fn is_label_key(text: &str) -> bool {
    let (domain, name) = match text.split_once('/') {
        Some((domain, name)) => (Some(domain), name),
        None => (None, text),
    };
    domain.is_none_or(|domain| heddle_ident::Host::parse(domain).is_ok())
        && !name.is_empty()
        && is_label_value(name)
}

/// Kubernetes' syntax of a label's value: empty, or at most 63 letters, digits, `-`, `_` and `.`, the first and the last
/// of them a letter or digit.
fn is_label_value(text: &str) -> bool {
    let ends = |byte: Option<&u8>| byte.is_none_or(u8::is_ascii_alphanumeric);
    text.len() <= 63
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && ends(text.as_bytes().first())
        && ends(text.as_bytes().last())
}

#[cfg(test)]
mod tests {
    use super::{is_label_key, is_label_value};

    #[test]
    fn labels_have_the_syntax_of_kubernetes() {
        for key in ["app", "a.b/c", "x_y-z.1"] {
            assert!(is_label_key(key), "{key}");
        }
        for key in ["", ".", "a/", "/a", "a b", "-a", "a/b/c"] {
            assert!(!is_label_key(key), "{key}");
        }
        assert!(is_label_value("") && is_label_value("v1") && !is_label_value("~"));
        assert!(!is_label_value(&"a".repeat(64)));
    }
}
