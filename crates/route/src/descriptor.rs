//! What a rate limit service is told of a request: the descriptors that actions make of it (Envoy's
//! `RateLimit.Action`). Shared by the proxy, which asks, and by `explain`, which says what would be asked.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::IpAddr;

use heddle_ident::{Cidr, SpiffeId};
use heddle_ir::rate_limit::{
    DescriptorAction, DescriptorLevel, GlobalRateLimit, RateLimitDescriptor, ValueCondition,
};
use heddle_ir::request::{ClaimValue, RequestHead};
use heddle_pattern::PatternError;

use crate::filter::CompiledFilter;
use crate::matching::CompiledText;

/// The longest value of an entry in bytes; longer ones end there. Whoever counts keeps the values.
const VALUE_BYTES_MAX: usize = 1024;

/// What a request's head does not say.
#[derive(Clone, Copy, Debug)]
pub struct DescriptorFacts<'a> {
    /// The address of the client, as far as proxies before are believed.
    pub client: IpAddr,
    /// The identity that the peer has proven.
    pub identity: Option<&'a SpiffeId>,
    /// The port that the request arrived at.
    pub port: u16,
    /// The name of the rule that takes it; empty: none has a say.
    pub route: &'a str,
    /// What the proxy says about the peer's certificate (`x-forwarded-client-cert`).
    pub client_certificate: Option<&'a str>,
}

/// A descriptor: keys and values, and how much the request counts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Descriptor {
    /// Keys and values.
    pub entries: Vec<(String, String)>,
    /// How much the request counts; none: 1.
    pub hits: Option<u32>,
}

impl std::fmt::Display for Descriptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (place, (key, value)) in self.entries.iter().enumerate() {
            if place > 0 {
                f.write_char(' ')?;
            }
            write!(f, "{key}={value}")?;
        }
        Ok(())
    }
}

/// The compiled descriptors of one limit.
#[derive(Debug)]
pub struct CompiledDescriptors {
    port: Option<u16>,
    filter: CompiledFilter,
    descriptors: Box<[CompiledDescriptor]>,
}

#[derive(Debug)]
struct CompiledDescriptor {
    own: RateLimitDescriptor,
    filter: CompiledFilter,
    /// The conditions of each action; empty where it has none.
    conditions: Box<[Box<[CompiledCondition]>]>,
}

#[derive(Debug)]
struct CompiledCondition {
    text: CompiledText,
    uncompilable: bool,
}

impl CompiledDescriptors {
    /// Compiles the descriptors of a limit. What does not compile never matches and is said.
    pub fn compile(limit: &GlobalRateLimit) -> (Self, Vec<String>) {
        let (filter, mut problems) = CompiledFilter::compile(&limit.matches);
        let mut compile = |own: &RateLimitDescriptor| {
            let (filter, found) = CompiledFilter::compile(&own.matches);
            problems.extend(found);
            let conditions = own.actions.iter().map(|action| match action {
                DescriptorAction::HeaderMatch { conditions, .. }
                | DescriptorAction::QueryMatch { conditions, .. } => {
                    conditions.iter().map(|own| compile_condition(own, &mut problems)).collect()
                }
                _ => Box::default(),
            });
            let conditions = conditions.collect();
            CompiledDescriptor { own: own.clone(), filter, conditions }
        };
        let descriptors = limit.descriptors.iter().map(&mut compile).collect();
        (Self { port: limit.port, filter, descriptors }, problems)
    }

    /// Whether some descriptor is made only for certain rules.
    pub fn needs_route(&self) -> bool {
        self.descriptors.iter().any(|descriptor| !descriptor.own.routes.is_empty())
    }

    /// What is told of a request; empty: nobody is asked.
    pub fn of(&self, head: &impl RequestHead, facts: DescriptorFacts<'_>) -> Vec<Descriptor> {
        if self.port.is_some_and(|port| port != facts.port) || !self.filter.takes(head) {
            return Vec::new();
        }
        let concerned = |descriptor: &&CompiledDescriptor| {
            let own = &descriptor.own;
            own.port.is_none_or(|port| port == facts.port)
                && (own.routes.is_empty() || own.routes.iter().any(|name| **name == *facts.route))
                && descriptor.filter.takes(head)
        };
        let level = |descriptor: &CompiledDescriptor| descriptor.own.level;
        let all = || self.descriptors.iter().filter(concerned);
        let of_route = |wanted| all().any(|descriptor| level(descriptor) == wanted);
        let with_hosts =
            !of_route(DescriptorLevel::Route) || of_route(DescriptorLevel::RouteAndHost);
        all()
            .filter(|descriptor| with_hosts || level(descriptor) != DescriptorLevel::VirtualHost)
            .filter_map(|descriptor| descriptor.of(head, facts))
            .collect()
    }
}

impl CompiledDescriptor {
    /// None: an action has no value.
    fn of(&self, head: &impl RequestHead, facts: DescriptorFacts<'_>) -> Option<Descriptor> {
        let mut entries = Vec::with_capacity(self.own.actions.len());
        for (action, conditions) in self.own.actions.iter().zip(&self.conditions) {
            entries.extend(entry(action, conditions, head, facts)?);
        }
        (!entries.is_empty()).then_some(Descriptor { entries, hits: self.own.hits })
    }
}

/// The entry of an action: outer none, no descriptor; inner none, the entry is left out.
#[expect(clippy::option_option, reason = "the two are told apart by who asks")]
fn entry(
    action: &DescriptorAction,
    compiled: &[CompiledCondition],
    head: &impl RequestHead,
    facts: DescriptorFacts<'_>,
) -> Option<Option<(String, String)>> {
    let made = |key: &str, value: &str| Some(Some((key.to_owned(), cut(value))));
    let or_absent = |key: &str, value: Option<String>, skips: bool| match value {
        Some(value) => made(key, &value),
        None => skips.then_some(None),
    };
    match action {
        DescriptorAction::Claim { key, path, default, skip_if_absent } => {
            let claim = head.token().and_then(|token| token.claim(path)).and_then(text_of);
            let value = claim.or_else(|| default.as_deref().map(str::to_owned));
            or_absent(key, value.filter(|value| !value.is_empty()), *skip_if_absent)
        }
        DescriptorAction::Destination => {
            made("destination_cluster", &format!("inbound|{}||", facts.port))
        }
        DescriptorAction::Generic { key, value } => made(key, value),
        DescriptorAction::HeaderMatch { key, value, conditions, invert } => {
            let of = |name: &str| header(head, facts, name);
            (hold(conditions, compiled, of) != *invert).then(|| made(key, value)).flatten()
        }
        DescriptorAction::QueryMatch { key, value, conditions, invert } => {
            let of = |name: &str| parameter(head, name).map(Cow::into_owned).map(Cow::Owned);
            (hold(conditions, compiled, of) != *invert).then(|| made(key, value)).flatten()
        }
        DescriptorAction::MaskedRemoteAddress { v4_bits, v6_bits } => {
            let client = facts.client.to_canonical();
            let bits = if client.is_ipv4() { *v4_bits } else { *v6_bits };
            let network = Cidr::new(client, bits)?;
            made("masked_remote_address", &network.to_string())
        }
        DescriptorAction::QueryParameter { key, parameter: name, skip_if_absent } => {
            or_absent(key, parameter(head, name).map(Cow::into_owned), *skip_if_absent)
        }
        DescriptorAction::RemoteAddress => {
            made("remote_address", &facts.client.to_canonical().to_string())
        }
        DescriptorAction::RequestHeader { key, header: name, skip_if_absent, default } => {
            let value = header(head, facts, name).map(Cow::into_owned);
            let value = value.or_else(|| default.as_deref().map(str::to_owned));
            or_absent(key, value, *skip_if_absent)
        }
        DescriptorAction::SourceIdentity { key, as_uri } => {
            let uri = facts.identity?.to_string();
            let text = if *as_uri { &uri } else { uri.trim_start_matches("spiffe://") };
            made(key, text)
        }
    }
}

/// At most so much of a value, whole characters.
fn cut(value: &str) -> String {
    value[..value.floor_char_boundary(VALUE_BYTES_MAX)].to_owned()
}

fn text_of(claim: &ClaimValue) -> Option<String> {
    match claim {
        ClaimValue::Text(text) | ClaimValue::Number(text) => Some(text.clone()),
        ClaimValue::Flag(flag) => Some(flag.to_string()),
        ClaimValue::List(_) | ClaimValue::Map(_) | ClaimValue::Null => None,
    }
}

/// A header, or the part of the head that a pseudo-header stands for.
fn header<'h>(
    head: &'h impl RequestHead,
    facts: DescriptorFacts<'h>,
    name: &str,
) -> Option<Cow<'h, str>> {
    Some(match name {
        ":path" => match head.query() {
            Some(query) => Cow::Owned(format!("{}?{query}", head.path())),
            None => Cow::Borrowed(head.path()),
        },
        ":method" => Cow::Borrowed(head.method()),
        ":authority" | "host" => Cow::Borrowed(head.authority()),
        ":scheme" => Cow::Borrowed(head.scheme()),
        "x-forwarded-client-cert" => Cow::Borrowed(facts.client_certificate?),
        name => match head.header(name)? {
            Cow::Borrowed(value) => String::from_utf8_lossy(value),
            Cow::Owned(value) => Cow::Owned(String::from_utf8_lossy(&value).into_owned()),
        },
    })
}

/// The first value of a parameter of the query, as it is written.
fn parameter<'h>(head: &'h impl RequestHead, name: &str) -> Option<Cow<'h, str>> {
    head.query()?.split('&').find_map(|pair| {
        let (own, value) = pair.split_once('=').unwrap_or((pair, ""));
        (own == name).then_some(Cow::Borrowed(value))
    })
}

fn compile_condition(own: &ValueCondition, problems: &mut Vec<String>) -> CompiledCondition {
    let mut errors: Vec<PatternError> = Vec::new();
    let text = CompiledText::compile(&own.value, &mut errors);
    problems.extend(errors.iter().map(ToString::to_string));
    CompiledCondition { text, uncompilable: !errors.is_empty() }
}

fn hold<'v>(
    conditions: &[ValueCondition],
    compiled: &[CompiledCondition],
    value: impl Fn(&str) -> Option<Cow<'v, str>>,
) -> bool {
    conditions.iter().zip(compiled).all(|(own, compiled)| {
        let presence = own.value == heddle_ir::matching::TextMatch::Present;
        let value = value(&own.name);
        let value = if own.absent_is_empty { value.or(Some(Cow::Borrowed(""))) } else { value };
        match value {
            _ if compiled.uncompilable => false,
            Some(_) if presence => !own.invert,
            Some(value) => compiled.text.matches(value.as_bytes()) != own.invert,
            None => presence && own.invert,
        }
    })
}

#[cfg(test)]
mod tests;
