//! Limits on the rate of requests.

use heddle_ir::rate_limit::{
    DescriptorAction, GlobalRateLimit, LocalRateLimit, RateLimitDescriptor, RateLimitOverride,
    RateLimitScope, RateLimits, TokenBucket,
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
message!(GlobalRateLimit {
    1 origin, 2 port, 3 matches, 4 domain, 5 service, 6 timeout, 7 fail_closed, 8 descriptors,
});
message!(RateLimitDescriptor { 1 actions });
choice!(DescriptorAction {
    1 Generic { 2 key, 3 value }, 2 HeaderMatch { 2 key, 3 value, 4 headers, 5 invert },
    3 RemoteAddress, 4 RequestHeader { 2 key, 6 header, 7 skip_if_absent }, 5 SourceIdentity,
});
