//! Recognises pieces of objects, as they stand in books and tickets, so that they can be explained.

use crate::kinds;
use crate::schema::{ObjectSchema, TypeSchema};

/// Keys that say nothing about where they belong.
const EVERYWHERE: [&str; 10] = [
    "apiVersion",
    "group",
    "kind",
    "labels",
    "metadata",
    "name",
    "namespace",
    "spec",
    "type",
    "value",
];

/// The kind and the type within it whose fields these keys are; the type with the fewest fields where several fit.
pub(crate) fn part_of(keys: &[&str]) -> Option<(&'static str, &'static str)> {
    if keys.iter().all(|key| EVERYWHERE.contains(key)) {
        return None;
    }
    let mut best: Option<(usize, &'static str, &'static str)> = None;
    for (kind, schema) in kinds::schemas() {
        // Envoy's names (`proxy`, `listener`, `cluster`) are everybody's names.
        if kind.kind == "EnvoyFilter" {
            continue;
        }
        let mut open = vec![schema];
        let mut seen: Vec<&ObjectSchema> = Vec::new();
        while let Some(schema) = open.pop() {
            match schema {
                TypeSchema::List(of) | TypeSchema::Map(of) => open.push(*of),
                TypeSchema::Object(object) => {
                    if seen.iter().any(|known| known.name == object.name) {
                        continue;
                    }
                    seen.push(object);
                    open.extend(object.fields.iter().map(|field| *field.takes));
                    let fits =
                        keys.iter().all(|key| object.fields.iter().any(|field| field.name == *key));
                    let size = object.fields.len();
                    if fits && best.is_none_or(|(least, ..)| size < least) {
                        best = Some((size, kind.kind, object.name));
                    }
                }
                _ => {}
            }
        }
    }
    best.map(|(_, kind, name)| (kind, name))
}

#[cfg(test)]
mod tests {
    use super::part_of;

    #[test]
    fn pieces_are_told_by_their_keys() {
        for (keys, expected) in [
            (&["outlierDetection"][..], Some(("DestinationRule", "PortTrafficPolicy"))),
            (&["retries", "timeout"], Some(("VirtualService", "HttpRoute"))),
            (&["localityLbSetting"], Some(("DestinationRule", "LoadBalancerSettings"))),
            (&["traceSampling"], None),
            (&["kind", "name"], None),
            (&[], None),
        ] {
            assert_eq!(part_of(keys), expected, "{keys:?}");
        }
    }
}
