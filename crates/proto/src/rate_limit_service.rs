//! `envoy.service.ratelimit.v3`: asking somebody who counts for many proxies whether a request is over a limit.
//!
//! The part of Envoy's `rls.proto` and `ratelimit.proto` that services use, so that those that exist answer, and whoever
//! speaks it may ask heddle's own.

use crate::external_authorization::HeaderValue;

/// The path of the one call, `ShouldRateLimit`.
pub const SHOULD_RATE_LIMIT_PATH: &str =
    "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";

/// What is asked.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RateLimitRequest {
    /// Whose limits count.
    #[prost(string, tag = "1")]
    pub domain: String,
    /// What is counted: over one of their limits is over the limit.
    #[prost(message, repeated, tag = "2")]
    pub descriptors: Vec<RateLimitDescriptor>,
    /// How much the request counts; 0: 1.
    #[prost(uint32, tag = "3")]
    pub hits_addend: u32,
}

/// Keys and values that a limit is found by.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RateLimitDescriptor {
    /// In order.
    #[prost(message, repeated, tag = "1")]
    pub entries: Vec<DescriptorEntry>,
    /// A limit that counts instead of the service's own.
    #[prost(message, optional, tag = "2")]
    pub limit: Option<LimitOverride>,
    /// How much the request counts for this descriptor; absent: as for the whole request.
    #[prost(message, optional, tag = "3")]
    pub hits_addend: Option<UInt64Value>,
}

/// One key and its value.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct DescriptorEntry {
    /// The key.
    #[prost(string, tag = "1")]
    pub key: String,
    /// The value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// A limit that whoever asks sets.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct LimitOverride {
    /// Requests in a window.
    #[prost(uint32, tag = "1")]
    pub requests_per_unit: u32,
    /// The window.
    #[prost(enumeration = "Unit", tag = "2")]
    pub unit: i32,
}

/// `google.protobuf.UInt64Value`.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct UInt64Value {
    /// The value.
    #[prost(uint64, tag = "1")]
    pub value: u64,
}

/// `google.protobuf.Duration`.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Duration {
    /// Seconds.
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    /// Beyond that.
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

/// What is answered.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RateLimitResponse {
    /// Over all descriptors.
    #[prost(enumeration = "Code", tag = "1")]
    pub overall_code: i32,
    /// For each descriptor, in their order.
    #[prost(message, repeated, tag = "2")]
    pub statuses: Vec<DescriptorStatus>,
    /// For the client.
    #[prost(message, repeated, tag = "3")]
    pub response_headers_to_add: Vec<HeaderValue>,
    /// For the upstream.
    #[prost(message, repeated, tag = "4")]
    pub request_headers_to_add: Vec<HeaderValue>,
    /// The body of a refusal.
    #[prost(bytes = "vec", tag = "5")]
    pub raw_body: Vec<u8>,
}

/// What is answered for one descriptor.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct DescriptorStatus {
    /// Whether it is over its limit.
    #[prost(enumeration = "Code", tag = "1")]
    pub code: i32,
    /// Its limit; absent: it has none.
    #[prost(message, optional, tag = "2")]
    pub current_limit: Option<Limit>,
    /// Requests that are left in the window.
    #[prost(uint32, tag = "3")]
    pub limit_remaining: u32,
    /// Until the window ends.
    #[prost(message, optional, tag = "4")]
    pub duration_until_reset: Option<Duration>,
}

/// A limit.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Limit {
    /// Requests in a window.
    #[prost(uint32, tag = "1")]
    pub requests_per_unit: u32,
    /// The window.
    #[prost(enumeration = "Unit", tag = "2")]
    pub unit: i32,
    /// Its name; may be empty.
    #[prost(string, tag = "3")]
    pub name: String,
}

/// Whether something is over its limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, prost::Enumeration)]
#[repr(i32)]
pub enum Code {
    /// Not known.
    Unknown = 0,
    /// It is not.
    Ok = 1,
    /// It is.
    OverLimit = 2,
}

/// The length of a window.
#[derive(Clone, Copy, PartialEq, Eq, Debug, prost::Enumeration)]
#[repr(i32)]
pub enum Unit {
    /// Not known.
    Unknown = 0,
    /// A second.
    Second = 1,
    /// A minute.
    Minute = 2,
    /// An hour.
    Hour = 3,
    /// A day.
    Day = 4,
    /// 30 days.
    Month = 5,
    /// 365 days.
    Year = 6,
    /// 7 days.
    Week = 7,
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    #[test]
    fn messages_have_envoys_numbers() {
        // By hand: domain "d", descriptors {entries {"PATH", "/"}, hits_addend {2}}, hits_addend 3.
        let bytes = b"\x0a\x01d\x12\x0f\x0a\x09\x0a\x04PATH\x12\x01/\x1a\x02\x08\x02\x18\x03";
        let request = RateLimitRequest::decode(&bytes[..]).unwrap();
        let entry = DescriptorEntry { key: "PATH".to_owned(), value: "/".to_owned() };
        let descriptor = RateLimitDescriptor {
            entries: vec![entry],
            limit: None,
            hits_addend: Some(UInt64Value { value: 2 }),
        };
        let expected = RateLimitRequest {
            domain: "d".to_owned(),
            descriptors: vec![descriptor],
            hits_addend: 3,
        };
        assert_eq!(request, expected);
        assert_eq!(request.encode_to_vec(), bytes);

        // OVER_LIMIT; statuses {OVER_LIMIT, {5 a MINUTE}, remaining 0, reset {7}}; raw_body "no".
        let bytes = b"\x08\x02\x12\x0c\x08\x02\x12\x04\x08\x05\x10\x02\x22\x02\x08\x07\x2a\x02no";
        let response = RateLimitResponse::decode(&bytes[..]).unwrap();
        assert_eq!(response.overall_code(), Code::OverLimit);
        let status = &response.statuses[0];
        let limit = status.current_limit.as_ref().unwrap();
        assert_eq!((limit.requests_per_unit, limit.unit()), (5, Unit::Minute));
        assert_eq!(status.duration_until_reset, Some(Duration { seconds: 7, nanos: 0 }));
        assert_eq!((&*response.raw_body, response.encode_to_vec()), (&b"no"[..], bytes.to_vec()));
    }
}
