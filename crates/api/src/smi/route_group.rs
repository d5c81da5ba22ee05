//! HTTPRouteGroup, TCPRoute and UDPRoute (`specs.smi-spec.io`).

use crate::decode::{Decode, Decoder};
use crate::schema::TypeSchema;
use crate::tree::{At, Value};

object! {
    /// Named routes that splits and targets refer to.
    HttpRouteGroup {
        /// The routes.
        "matches" => matches: Vec<HttpRouteGroupMatch> [required],
    }
}

object! {
    /// A named route; what is set must all hold.
    HttpRouteGroupMatch {
        /// Its name.
        "name" => name: String [required, not_empty],
        /// Expression for the beginning of the path.
        "pathRegex" => path_regex: Option<String>,
        /// Methods; `*` for all.
        "methods" => methods: Vec<String> [item_check(method)],
        /// Expressions for headers, by name.
        "headers" => headers: HeaderPatterns,
    }
}

/// A method of HTTP, or all of them.
fn method(text: &str) -> Result<(), &'static str> {
    const METHODS: [&str; 10] =
        ["*", "GET", "HEAD", "PUT", "POST", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];
    METHODS.contains(&text).then_some(()).ok_or("a method such as `GET`, or `*` for all")
}

/// Expressions for headers: a mapping, or a list of mappings as older versions write it. All must hold.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct HeaderPatterns(
    /// Name and expression, in written order.
    pub Vec<(String, String)>,
);

impl Decode for HeaderPatterns {
    const SCHEMA: TypeSchema = TypeSchema::Free;

    fn decode(decoder: &mut Decoder<'_>, at: At) -> Option<Self> {
        let tree = decoder.tree();
        let maps: Vec<At> = match tree.value(at) {
            Value::Map => vec![at],
            Value::List => tree.children(at).collect(),
            _ => {
                decoder.wrong_type(at, "a mapping from names of headers to expressions", None);
                return None;
            }
        };
        let mut patterns = Vec::new();
        for map in maps {
            if tree.value(map) != Value::Map {
                decoder.wrong_type(map, "a mapping from names of headers to expressions", None);
                continue;
            }
            for entry in tree.children(map) {
                if let (Some(name), Some(pattern)) =
                    (tree.key(entry), String::decode(decoder, entry))
                {
                    patterns.push((name.to_string(), pattern));
                }
            }
        }
        Some(Self(patterns))
    }
}

object! {
    /// Streams, by port: a TCPRoute or UDPRoute.
    PortsRoute {
        /// Which; absent means all.
        "matches" => matches: Option<PortsMatch>,
    }
}

object! {
    /// Ports.
    PortsMatch {
        /// Its name.
        "name" => name: Option<String>,
        /// The ports of the workload; absent means all.
        "ports" => ports: Vec<u16>,
    }
}
