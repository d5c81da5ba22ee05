//! Reads the values of EnvoyFilter patches: Envoy's own configuration in protobuf's JSON form, whose fields may be written
//! with underscores or in camel case.

use std::sync::Arc;
use std::time::Duration;

use heddle_api::{At, Written};
use heddle_ir::http_route::HeaderEdits;

/// Everything, in parts per million.
pub(super) const ALL_PPM: u64 = 1_000_000;
/// What a refused request gets.
const TOO_MANY_REQUESTS: u16 = 429;

/// Reads a patch's value. Names of fields are with underscores.
#[derive(Clone, Copy)]
pub(super) struct Read<'a> {
    pub(super) written: &'a Written,
}

impl<'a> Read<'a> {
    pub(super) fn field(self, at: At, name: &str) -> Option<At> {
        self.written.field(at, name).or_else(|| self.written.field(at, &camel_case(name)))
    }

    /// The field at the end of a path.
    pub(super) fn below(self, at: At, path: &[&str]) -> Option<At> {
        path.iter().try_fold(at, |at, name| self.field(at, name))
    }

    pub(super) fn text_at(self, at: At) -> &'a str {
        self.written.tree().text(at)
    }

    pub(super) fn text(self, at: At, name: &str) -> Option<&'a str> {
        self.field(at, name).map(|at| self.text_at(at))
    }

    pub(super) fn number(self, at: At, name: &str) -> Option<u64> {
        self.text(at, name)?.parse().ok()
    }

    pub(super) fn children(self, at: Option<At>) -> Vec<At> {
        at.map(|at| self.written.tree().children(at).collect()).unwrap_or_default()
    }

    /// The fields of a mapping by their names with underscores.
    pub(super) fn keys(self, at: At) -> Vec<(String, At)> {
        let tree = self.written.tree();
        tree.children(at).filter_map(|child| Some((snake_case(tree.key(child)?), child))).collect()
    }

    pub(super) fn is_true(self, at: At, name: &str) -> bool {
        self.text(at, name) == Some("true")
    }

    /// The settings in a typed configuration whose type's URL ends so, also where they are wrapped into a `TypedStruct`;
    /// none where they are of another type.
    pub(super) fn settings(self, typed: At, type_name: &str) -> Option<At> {
        let of = |name| self.text(typed, name).unwrap_or_default();
        if of("type_url").ends_with(type_name) {
            return self.field(typed, "value").or(Some(typed));
        }
        of("@type").ends_with(type_name).then_some(typed)
    }
}

fn camel_case(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |mut text, word| {
        let mut letters = word.chars();
        text.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        text.push_str(letters.as_str());
        text
    })
}

fn snake_case(name: &str) -> String {
    let mut text = String::with_capacity(name.len() + 4);
    for letter in name.chars() {
        if letter.is_ascii_uppercase() {
            text.push('_');
        }
        text.push(letter.to_ascii_lowercase());
    }
    text
}

/// Protobuf's JSON form: seconds with up to nine digits after the point, and an `s`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let seconds: f64 = text.strip_suffix('s')?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok().filter(|duration| !duration.is_zero())
}

/// A share of the requests in parts per million; none where it is not said.
pub(super) fn share(read: Read<'_>, settings: At, name: &str) -> Option<u64> {
    let value = read.below(settings, &[name, "default_value"])?;
    let per_unit = match read.text(value, "denominator") {
        Some("TEN_THOUSAND") => 100,
        Some("MILLION") => 1,
        _ => 10_000,
    };
    Some((read.number(value, "numerator").unwrap_or(0) * per_unit).min(ALL_PPM))
}

/// A status of a refusal, by Envoy's name or its number; none where it is not said or no refusal.
pub(super) fn status_code(read: Read<'_>, settings: At, name: &str) -> Option<u16> {
    let code = match read.text(read.field(settings, name)?, "code")? {
        "BadRequest" => 400,
        "Unauthorized" => 401,
        "PaymentRequired" => 402,
        "Forbidden" => 403,
        "NotFound" => 404,
        "Conflict" => 409,
        "TooManyRequests" => TOO_MANY_REQUESTS,
        "InternalServerError" => 500,
        "BadGateway" => 502,
        "ServiceUnavailable" => 503,
        "GatewayTimeout" => 504,
        number => number.parse().ok()?,
    };
    // Envoy takes no status below 400 here.
    (400..600).contains(&code).then_some(code)
}

/// What a refused request gets.
pub(super) fn status(read: Read<'_>, settings: At, name: &str) -> u16 {
    status_code(read, settings, name).unwrap_or(TOO_MANY_REQUESTS)
}

/// `response_headers_to_add`.
pub(super) fn headers(read: Read<'_>, settings: At) -> HeaderEdits {
    let mut edits = HeaderEdits::default();
    for option in read.children(read.field(settings, "response_headers_to_add")) {
        let Some(header) = read.field(option, "header") else { continue };
        let (Some(key), Some(value)) = (read.text(header, "key"), read.text(header, "value"))
        else {
            continue;
        };
        let pair: (Arc<str>, Arc<str>) = (key.to_ascii_lowercase().into(), value.into());
        let replaces = read.text(option, "append") == Some("false")
            || read
                .text(option, "append_action")
                .is_some_and(|action| action.starts_with("OVERWRITE_IF_EXISTS"));
        if replaces { edits.set.push(pair) } else { edits.add.push(pair) }
    }
    edits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_written_in_two_ways() {
        for (snake, camel) in
            [("domain", "domain"), ("rate_limits", "rateLimits"), ("a_b_c", "aBC")]
        {
            assert_eq!((camel_case(snake).as_str(), snake_case(camel).as_str()), (camel, snake));
        }
    }
}
