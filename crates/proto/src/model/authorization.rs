//! Authorisation.

use heddle_ir::authorization::{
    Attribute, Authorization, AuthorizerBody, AuthorizerHttp, AuthorizerProtocol, Clause,
    Condition, Enforcement, ExternalAuthorizer, Fallback, Policy, PolicyAction, Ports, Rule,
    SystemPolicies, ValueMatch,
};

use crate::wire::{Item, Malformed, Raw, choice, codes, message, write_nested};

message!(Authorization { 1 systems, 2 authorizers });
message!(SystemPolicies { 1 without_allow, 2 policies, 3 ports, 4 enforcement });
choice!(Ports, absent All { 1 All, 2 Except(2 ports), 3 Only(3 ports) });
choice!(Enforcement, absent Enforce { 1 Audit(2 origin), 2 Enforce });
choice!(Fallback { 1 Allow, 2 Deny(2 origin) });
codes!(PolicyAction { 1 Allow, 2 Audit, 3 Deny, 4 Custom });
message!(Policy { 1 origin, 2 action, 3 dry_run, 4 rules, 5 authorizer });
message!(Rule { 1 origin, 2 clauses });
message!(Condition { 1 attribute, 2 values, 3 negate });
choice!(Attribute {
    1 DestinationAddress, 2 DestinationPort, 3 Host, 4 Method, 5 Path, 6 RemoteAddress,
    7 RequestHeader(2 name), 8 ServerName, 9 SourceAddress, 10 SourceNamespace,
    11 SourcePrincipal, 12 SourceServiceAccount, 13 SourceTrustDomain,
    14 DestinationName, 15 IcmpType, 16 PathAndQuery, 17 Protocol, 18 QueriedName,
    19 RequestAudience, 20 RequestClaim(3 path), 21 RequestPresenter, 22 RequestPrincipal,
    23 Route, 24 Transport,
});
choice!(ValueMatch {
    1 Range(2 range), 2 PathTemplate(3 text), 3 Port(4 port), 4 Text(5 text), 5 Glob(6 text),
    6 Poisoned, 7 Number(7 number), 8 PortRange(8 first, 9 last),
    9 IssuerAndSubject(10 issuer, 11 subject),
});
message!(ExternalAuthorizer {
    1 origin, 2 name, 3 host, 4 port, 5 protocol, 6 timeout, 7 fail_open, 8 status_on_error,
    9 clear_route_cache, 10 body,
});
choice!(AuthorizerProtocol { 1 Grpc, 2 Http(2 http) });
message!(AuthorizerHttp {
    1 path_prefix, 2 request_headers, 3 added_headers, 4 upstream_headers_on_allow,
    5 downstream_headers_on_allow, 6 downstream_headers_on_deny,
});
message!(AuthorizerBody { 1 body_bytes_max, 2 allow_partial, 3 as_bytes });

/// One alternative of a clause: 1 conditions.
struct Alternative {
    conditions: Vec<Condition>,
}

message!(Alternative { 1 conditions });

/// 1 alternatives, each a message of its own, since protobuf has no lists of lists.
impl Item for Clause {
    fn write(&self, tag: u32, out: &mut Vec<u8>) {
        write_nested(tag, out, |out| {
            let Self { alternatives } = self;
            for conditions in alternatives {
                Alternative { conditions: conditions.clone() }.write(1, out);
            }
        });
    }

    fn read(raw: Raw<'_>) -> Result<Self, Malformed> {
        let mut fields = raw.fields()?;
        let alternatives: Vec<Alternative> = fields.take(1, "alternatives")?;
        fields.finish()?;
        Ok(Self { alternatives: alternatives.into_iter().map(|each| each.conditions).collect() })
    }
}

#[cfg(test)]
impl crate::sample::Sample for Clause {
    fn sample(source: &mut crate::sample::Source) -> Self {
        Self { alternatives: crate::sample::Sample::sample(source) }
    }
}
