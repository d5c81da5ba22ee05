//! Tokens.

use heddle_ir::authentication::{ClaimHeader, JwtKeys, JwtRule, TokenLocation};

use crate::wire::{choice, message};

message!(JwtRule {
    1 origin, 2 issuer, 3 audiences, 4 keys, 5 locations, 6 forward, 7 payload_header,
    8 claim_headers, 9 space_delimited_claims, 10 fetch_timeout, 11 required,
});
choice!(JwtKeys { 1 Discovery(2 url), 2 Inline(3 text), 3 Unusable, 4 Url(4 url) });
choice!(TokenLocation { 1 Cookie(2 name), 2 Header(2 name, 3 prefix), 3 Query(2 name) });
message!(ClaimHeader { 1 header, 2 claim });
