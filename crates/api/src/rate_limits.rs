//! The configuration of Envoy's reference rate limit service (`envoyproxy/ratelimit`), as ConfigMaps hold it.

use crate::decode::{Decode, Decoder};
use crate::schema::TypeSchema;
use crate::tree::At;
use crate::value::Free;

/// Descriptors within a descriptor, as deep as a document may be. The shape of a type cannot hold itself, so that this one
/// is told as free content.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct Deeper(
    /// In the order in which they are written.
    pub Vec<Descriptor>,
);

impl Decode for Deeper {
    const SCHEMA: TypeSchema = TypeSchema::Free;

    fn decode(decoder: &mut Decoder<'_>, at: At) -> Option<Self> {
        Vec::decode(decoder, at).map(Self)
    }
}

object! {
    /// The limits of a domain.
    RateLimitConfig {
        /// Its name, under which proxies ask.
        "domain" => domain: String [required, len(1, 253)],
        /// What is limited.
        "descriptors" => descriptors: Vec<Descriptor> [required],
    }
}

object! {
    /// A key of descriptors, and what is limited for those that end with it or go on.
    Descriptor {
        /// The key.
        "key" => key: String [required, len(1, 253)],
        /// Its value; absent: any value, each for itself; with `*` at the end: all that begin so.
        "value" => value: Option<String>,
        /// The limit; absent: descriptors that end here have none.
        "rate_limit" => rate_limit: Option<RateLimit>,
        /// What is limited for descriptors that go on.
        "descriptors" => descriptors: Deeper,
        /// Whether requests over the limit are counted only.
        "shadow_mode" => shadow_mode: Option<bool>,
        /// Whether all values that a `*` takes count together.
        "share_threshold" => share_threshold: Option<bool>,
        /// Names of statistics.
        "detailed_metric" => detailed_metric: Option<Free>,
        /// Names of statistics.
        "value_to_metric" => value_to_metric: Option<Free>,
        /// A way of counting of newer versions.
        "quota_mode" => quota_mode: Option<Free>,
    }
}

object! {
    /// A limit.
    RateLimit {
        /// `second`, `minute`, `hour`, `day`, `week`, `month` or `year`, in any case.
        "unit" => unit: Option<String>,
        /// Requests in that time.
        "requests_per_unit" => requests_per_unit: Option<u32>,
        /// Whether there is no limit.
        "unlimited" => unlimited: Option<bool>,
        /// Its name.
        "name" => name: Option<String>,
        /// Limits that do not count where this one does.
        "replaces" => replaces: Vec<Replaced>,
    }
}

object! {
    /// A limit by its name.
    Replaced {
        /// The name.
        "name" => name: String [required],
    }
}
