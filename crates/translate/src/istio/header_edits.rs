//! `headers` of routes and destinations: what is set, added and removed.

use std::collections::BTreeMap;
use std::sync::Arc;

use heddle_api::Object;
use heddle_api::istio::{HeaderOperations, VirtualService};
use heddle_ir::http_route::HeaderEdits;

use crate::codes;
use crate::istio::http_match::is_token_byte;
use crate::report::Report;

/// Edits of a request head: headers, and the authority where `host` or `:authority` is set.
#[derive(Default)]
pub(super) struct RequestEdits {
    pub(super) headers: HeaderEdits,
    /// What is set beats what is added; `rewrite.authority` beats both.
    pub(super) authority: Option<Arc<str>>,
}

pub(super) fn request(
    object: &Object<VirtualService>,
    operations: Option<&HeaderOperations>,
    report: &mut Report,
) -> RequestEdits {
    let Some(operations) = operations else { return RequestEdits::default() };
    let mut added = None;
    let mut set = None;
    let headers = HeaderEdits {
        set: pairs(object, operations, "set", &operations.set, Some(&mut set), report),
        add: pairs(object, operations, "add", &operations.add, Some(&mut added), report),
        remove: removed(object, operations, report),
    };
    RequestEdits { headers, authority: set.or(added) }
}

pub(super) fn response(
    object: &Object<VirtualService>,
    operations: Option<&HeaderOperations>,
    report: &mut Report,
) -> HeaderEdits {
    let Some(operations) = operations else { return HeaderEdits::default() };
    HeaderEdits {
        set: pairs(object, operations, "set", &operations.set, None, report),
        add: pairs(object, operations, "add", &operations.add, None, report),
        remove: removed(object, operations, report),
    }
}

fn pairs(
    object: &Object<VirtualService>,
    operations: &HeaderOperations,
    field: &str,
    entries: &BTreeMap<String, String>,
    mut authority: Option<&mut Option<Arc<str>>>,
    report: &mut Report,
) -> Vec<(Arc<str>, Arc<str>)> {
    let mut edits = Vec::new();
    for (name, value) in entries {
        let origin = || object.written.origin_of_entry(operations.at, field, name);
        let value: Arc<str> = match literal(value) {
            Ok(value) => value.into(),
            Err(Unreadable::Variable(variable)) => {
                let message = format!("`{variable}` in the value of `{name}` is not filled in");
                report.warning(codes::HEADER_VARIABLE, origin(), message.clone());
                report.outcome(origin(), heddle_diag::Outcome::Unsupported, message);
                continue;
            }
            Err(Unreadable::Percent) => {
                report
                    .rejected(origin(), format!("the value of `{name}` has a single percent sign"));
                continue;
            }
        };
        let lower = name.to_ascii_lowercase();
        if lower == "host" || lower == ":authority" {
            match &mut authority {
                Some(authority) => **authority = Some(value),
                None => report.ignored(origin(), "a response has no authority"),
            }
        } else if lower.starts_with(':') {
            report.ignored(origin(), "of the pseudo headers only `:authority` can be changed");
        } else if lower.is_empty() || !lower.bytes().all(is_token_byte) {
            report.rejected(origin(), format!("`{name}` is not a header name"));
        } else if value.bytes().any(|b| matches!(b, b'\r' | b'\n' | 0)) {
            report.rejected(origin(), format!("the value of `{name}` has a line break"));
        } else {
            edits.push((lower.into(), value));
        }
    }
    edits
}

fn removed(
    object: &Object<VirtualService>,
    operations: &HeaderOperations,
    report: &mut Report,
) -> Vec<Arc<str>> {
    let mut names = Vec::new();
    for (index, name) in operations.remove.iter().enumerate() {
        let origin = || object.origin_of_item(operations.at, "remove", index);
        let lower = name.to_ascii_lowercase();
        if lower == "host" || lower.starts_with(':') {
            report.ignored(origin(), "the authority and pseudo headers cannot be removed");
        } else if lower.is_empty() || !lower.bytes().all(is_token_byte) {
            report.rejected(origin(), format!("`{name}` is not a header name"));
        } else {
            names.push(lower.into());
        }
    }
    names
}

/// Why a value is not plain text.
enum Unreadable {
    /// It has this variable of Envoy's.
    Variable(String),
    /// It has a percent sign that begins nothing.
    Percent,
}

/// The text that a value means: `%%` is a percent sign, `%NAME%` and `%NAME(argument)%` are variables.
fn literal(value: &str) -> Result<String, Unreadable> {
    let mut text = String::with_capacity(value.len());
    let mut variable = None;
    let mut rest = value;
    while let Some((before, after)) = rest.split_once('%') {
        text.push_str(before);
        let (name, behind) = after.split_once('%').ok_or(Unreadable::Percent)?;
        if name.is_empty() {
            text.push('%');
        } else {
            let head = name.split_once('(').map_or(name, |(head, _)| head);
            if head.is_empty()
                || !head.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
            {
                return Err(Unreadable::Percent);
            }
            variable.get_or_insert_with(|| format!("%{name}%"));
        }
        rest = behind;
    }
    if let Some(variable) = variable {
        Err(Unreadable::Variable(variable))
    } else {
        text.push_str(rest);
        Ok(text)
    }
}
