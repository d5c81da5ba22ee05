//! Kinds as people type them, and objects as YAML.

use anyhow::{Result, bail};
use heddle_api::Kind;
use heddle_api::kinds::all;
use serde_json::Value;

/// Short names that kubectl knows.
const SHORT_NAMES: [(&str, &str); 15] = [
    ("cm", "ConfigMap"),
    ("deploy", "Deployment"),
    ("dr", "DestinationRule"),
    ("ds", "DaemonSet"),
    ("gw", "Gateway"),
    ("ns", "Namespace"),
    ("pa", "PeerAuthentication"),
    ("po", "Pod"),
    ("rs", "ReplicaSet"),
    ("sa", "ServiceAccount"),
    ("se", "ServiceEntry"),
    ("sts", "StatefulSet"),
    ("svc", "Service"),
    ("vs", "VirtualService"),
    ("we", "WorkloadEntry"),
];

/// The kinds of that name, one for each group that has it: kind, plural, short name or `plural.group`, without regard to
/// case. At least one.
pub(crate) fn find(text: &str) -> Result<Vec<&'static Kind>> {
    let wanted = text.to_ascii_lowercase();
    let short = SHORT_NAMES.iter().find(|(short, _)| *short == wanted).map(|(_, kind)| *kind);
    let matches = |kind: &&'static Kind| {
        short == Some(kind.kind)
            || kind.kind.eq_ignore_ascii_case(&wanted)
            || kind.plural == wanted
            || format!("{}.{}", kind.plural, kind.group) == wanted
    };
    let kinds: Vec<&'static Kind> = all().filter(matches).collect();
    if kinds.is_empty() {
        bail!("{text:?} is no kind that heddle knows");
    }
    Ok(kinds)
}

/// An object of the control plane's list as YAML: as it was written, with its status below.
pub(crate) fn yaml_of(item: &Value) -> String {
    let mut text = String::from("---\n");
    write_yaml(&item["object"], 0, &mut text);
    text
}

/// Block style for mappings and lists, JSON for scalars: every JSON scalar is YAML.
fn write_yaml(value: &Value, indent: usize, text: &mut String) {
    let pad = " ".repeat(indent);
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                text.push_str(&format!("{pad}{}:", key(name)));
                nested(value, indent, text);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                text.push_str(&format!("{pad}-"));
                nested(item, indent, text);
            }
        }
        scalar => text.push_str(&format!("{pad}{scalar}\n")),
    }
}

fn nested(value: &Value, indent: usize, text: &mut String) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            text.push('\n');
            write_yaml(value, indent + 2, text);
        }
        Value::Array(items) if !items.is_empty() => {
            text.push('\n');
            write_yaml(value, indent + 2, text);
        }
        scalar => text.push_str(&format!(" {scalar}\n")),
    }
}

/// A key that needs no quotes is written without.
fn key(name: &str) -> String {
    let plain =
        name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/'));
    let word = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic());
    if plain && word { name.to_owned() } else { Value::from(name).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_found_by_every_name_people_use() {
        for text in
            ["vs", "VirtualService", "virtualservices", "virtualservices.networking.istio.io"]
        {
            let kinds: Vec<&str> = find(text).unwrap().iter().map(|kind| kind.kind).collect();
            assert_eq!(kinds, ["VirtualService"], "{text}");
        }
        assert!(find("nothing").is_err());
        let groups = |text| find(text).unwrap().iter().map(|kind| kind.group).collect::<Vec<_>>();
        assert_eq!(groups("gateways.gateway.networking.k8s.io"), ["gateway.networking.k8s.io"]);
        let mut both = groups("gateway");
        both.sort_unstable();
        assert_eq!(both, ["gateway.networking.k8s.io", "networking.istio.io"]);
        for (short, kind) in SHORT_NAMES {
            assert!(find(short).unwrap().iter().all(|found| found.kind == kind), "{short}");
        }
    }

    #[test]
    fn objects_are_written_as_yaml() {
        let value =
            serde_json::json!({"object": {"a": {"b": [1, {"c": "x: y"}], "80": {}}, "yes": true}});
        let expected =
            "---\na:\n  b:\n    - 1\n    -\n      c: \"x: y\"\n  \"80\": {}\nyes: true\n";
        assert_eq!(yaml_of(&value), expected);
        let read = heddle_api::Reader::default().read_file("x", expected.as_bytes());
        assert!(read.diagnostics.iter().all(|finding| finding.code.id != "HED0001"));
    }
}
