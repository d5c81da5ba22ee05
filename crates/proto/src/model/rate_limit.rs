//! Limits on the rate of requests.

use heddle_ir::rate_limit::{
    DescriptorAction, DescriptorLevel, GlobalRateLimit, LocalRateLimit, RateLimitDescriptor,
    RateLimitOverride, RateLimitScope, RateLimitService, RateLimits, TokenBucket, ValueCondition,
};

use crate::wire::{choice, codes, message};

message!(RateLimits, absent default { 1 local, 2 global });
message!(LocalRateLimit {
    1 origin, 2 port, 3 matches, 4 scope, 5 bucket, 6 overrides, 7 enforced_ppm, 8 status,
    9 response_headers,
});
codes!(RateLimitScope { 1 Connection, 2 Identity, 3 Total });
message!(RateLimitOverride { 1 identities, 2 bucket });
message!(TokenBucket { 1 capacity, 2 refill, 3 interval });
// 5 was a destination.
message!(GlobalRateLimit {
    1 origin, 2 port, 3 matches, 4 domain, 6 timeout, 7 fail_closed, 8 descriptors, 9 service,
    10 status, 11 failure_status, 12 response_headers, 13 tells_limits, 14 hides_refusals,
    15 resource_exhausted, 16 asked_ppm, 17 enforced_ppm,
});
message!(RateLimitService { 1 host, 2 port, 3 in_mesh });
message!(RateLimitDescriptor { 1 actions, 2 port, 3 matches, 4 routes, 5 level, 6 hits });
codes!(DescriptorLevel, absent VirtualHost { 1 Route, 2 RouteAndHost, 3 VirtualHost });
// 5 was an identity without key; of 2, 4 were other conditions.
choice!(DescriptorAction {
    1 Generic { 2 key, 3 value }, 2 HeaderMatch { 2 key, 3 value, 5 invert, 6 conditions },
    3 RemoteAddress, 4 RequestHeader { 2 key, 6 header, 7 skip_if_absent, 8 default },
    6 Claim { 2 key, 3 path, 7 skip_if_absent, 8 default }, 7 Destination,
    8 MaskedRemoteAddress { 2 v4_bits, 3 v6_bits },
    9 QueryMatch { 2 key, 3 value, 5 invert, 6 conditions },
    10 QueryParameter { 2 key, 6 parameter, 7 skip_if_absent },
    11 SourceIdentity { 2 key, 3 as_uri },
});
message!(ValueCondition { 1 name, 2 value, 3 invert, 4 absent_is_empty });
