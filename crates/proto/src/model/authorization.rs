//! Authorisation.

use heddle_ir::authorization::{
    Attribute, Authorization, Clause, Condition, Fallback, Policy, PolicyAction, Rule,
    SystemPolicies, ValueMatch,
};

use crate::wire::{Item, Malformed, Raw, choice, codes, message, write_nested};

message!(Authorization { 1 systems });
message!(SystemPolicies { 1 without_allow, 2 policies });
choice!(Fallback { 1 Allow, 2 Deny(2 origin) });
codes!(PolicyAction { 1 Allow, 2 Audit, 3 Deny });
message!(Policy { 1 origin, 2 action, 3 dry_run, 4 rules });
message!(Rule { 1 origin, 2 clauses });
message!(Condition { 1 attribute, 2 values, 3 negate });
choice!(Attribute {
    1 DestinationAddress, 2 DestinationPort, 3 Host, 4 Method, 5 Path, 6 RemoteAddress,
    7 RequestHeader(2 name), 8 ServerName, 9 SourceAddress, 10 SourceNamespace,
    11 SourcePrincipal, 12 SourceServiceAccount, 13 SourceTrustDomain,
});
choice!(ValueMatch {
    1 Range(2 range), 2 PathTemplate(3 text), 3 Port(4 port), 4 Text(5 text), 5 Glob(6 text),
    6 Poisoned,
});

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
