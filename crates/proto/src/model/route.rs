//! Route tables.

use heddle_ir::http_route::{
    AbortStatus, BackendTarget, ClaimMatch, CorsPolicy, DirectResponse, Fault, FaultAbort,
    FaultDelay, HeaderEdits, HeaderMatch, HttpAction, HttpMatch, HttpRule, Mirror, PartMatch,
    PathRewrite, QueryMatch, Redirect, RedirectPort, RequestPart, RetryOn, RetryPolicy, Rewrite,
    RouteAuthorizer, RouteTable, RuleOrder, SessionLocation, SessionPersistence, StatusRange,
    StreamTimeouts, WeightedBackend,
};
use heddle_ir::matching::{PathMatch, TextMatch};

use crate::wire::{choice, codes, message};

choice!(TextMatch {
    1 Exact(2 text), 2 Prefix(2 text), 3 Present, 4 Regex(2 text), 5 Suffix(2 text),
});
choice!(PathMatch {
    1 Exact(2 text), 2 ElementPrefix(2 text), 3 Regex(2 text), 4 TextPrefix(2 text),
});
codes!(RuleOrder { 1 Specificity, 2 Written });
message!(RouteTable { 1 order, 2 rules, 3 tiers });
message!(HttpRule {
    1 origin, 2 name, 3 matches, 4 action, 5 request_headers, 6 response_headers, 7 rewrite,
    8 timeout, 9 retry, 10 cors, 11 fault, 12 mirrors, 13 session, 14 stream_timeouts,
    15 failures, 16 authorizer,
});
message!(RouteAuthorizer { 1 authorizer, 2 request_headers });
message!(Mirror { 1 origin, 2 target, 3 share_ppm, 4 authority_suffix });
message!(SessionPersistence { 1 origin, 2 name, 3 location, 4 absolute_timeout, 5 idle_timeout });
choice!(SessionLocation { 1 Cookie { 2 path, 3 permanent }, 2 Header });
message!(StreamTimeouts, absent default { 1 response, 2 idle });
message!(StatusRange { 1 first, 2 last });
message!(HttpMatch {
    1 origin, 2 name, 3 path, 4 ignore_path_case, 5 scheme, 6 method, 7 authority, 8 headers,
    9 query, 10 claims, 11 parts,
});
message!(PartMatch { 1 part, 2 value, 3 invert });
codes!(RequestPart { 1 Method, 2 Path });
message!(ClaimMatch { 1 path, 2 value, 3 invert });
message!(HeaderMatch { 1 name, 2 value, 3 invert });
message!(QueryMatch { 1 name, 2 value });
choice!(HttpAction { 1 Forward(2 backends), 2 Redirect(3 redirect), 3 Respond(4 response) });
message!(WeightedBackend {
    1 origin, 2 target, 3 weight, 4 request_headers, 5 response_headers, 6 rewrite,
});
choice!(BackendTarget {
    1 Destination(2 index), 2 Invalid { 3 status, 4 reason }, 3 Redirect(5 redirect),
});
message!(HeaderEdits { 1 set, 2 add, 3 remove });
message!(Rewrite, absent default { 1 path, 2 authority });
choice!(PathRewrite {
    1 Full(2 text), 2 Prefix(2 text), 3 ElementPrefix(2 text),
    4 Regex { 3 pattern, 4 substitution },
});
message!(Redirect { 1 status, 2 scheme, 3 host, 4 port, 5 path });
choice!(RedirectPort { 1 Fixed(2 port), 2 FromAuthority, 3 FromScheme, 4 Listener });
message!(DirectResponse { 1 status, 2 body });
message!(RetryPolicy {
    1 attempts, 2 on, 3 per_try_timeout, 4 backoff_base, 5 avoid_tried, 6 origin,
    7 backoff_max, 8 other_localities,
});
choice!(RetryOn {
    1 ConnectFailure, 2 RefusedStream, 3 Reset, 4 ResetBeforeRequest, 5 ServerError,
    6 GatewayError, 7 Retriable4xx, 8 Status(2 status), 9 GrpcStatus(3 status), 10 RateLimited,
    11 StatusRange(4 range),
});
message!(CorsPolicy {
    1 origin, 2 allow_origins, 3 allow_methods, 4 allow_headers, 5 expose_headers, 6 max_age,
    7 allow_credentials, 8 forward_unmatched_preflights,
});
message!(Fault { 1 origin, 2 delay, 3 abort });
message!(FaultDelay { 1 share_ppm, 2 duration });
message!(FaultAbort { 1 share_ppm, 2 status });
choice!(AbortStatus { 1 Grpc(2 status), 2 Http(3 status) });
