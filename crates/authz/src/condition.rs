//! Compiled conditions, and what they look at.

use std::borrow::Cow;
use std::net::IpAddr;

use heddle_ir::authorization::{Attribute, Condition, PolicyAction};
use heddle_ir::inbound::{ClientAddress, Forwarders};
use heddle_ir::request::{ClaimValue, RequestHead};

use crate::connection::Connection;
use crate::value::{CompiledValue, Kind};

/// What a rule is evaluated on.
#[derive(Debug)]
pub(crate) struct Facts<'f, R> {
    pub(crate) connection: &'f Connection,
    /// None for a stream that is not HTTP.
    pub(crate) request: Option<&'f R>,
    /// Whom to believe about where a request comes from.
    pub(crate) client_address: &'f ClientAddress,
}

impl<R> Clone for Facts<'_, R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R> Copy for Facts<'_, R> {}

/// A compiled [`Condition`].
#[derive(Debug)]
pub(crate) struct CompiledCondition {
    attribute: Attribute,
    values: Box<[CompiledValue]>,
    negate: bool,
    /// Of a rule that allows.
    allows: bool,
    /// Set when a value could not be read: then this is the result, whatever the request.
    poisoned: Option<bool>,
}

impl CompiledCondition {
    /// Compiles a condition of a policy with this action; what could not be read is pushed to `errors`.
    pub(crate) fn compile(
        condition: &Condition,
        action: PolicyAction,
        errors: &mut Vec<String>,
    ) -> Self {
        let before = errors.len();
        let attribute = normalize_attribute(&condition.attribute);
        let mut values = Vec::with_capacity(condition.values.len());
        match kind(&attribute) {
            Ok(kind) => {
                for value in &condition.values {
                    match CompiledValue::compile(value, kind) {
                        Ok(value) => values.push(value),
                        Err(error) => errors.push(error),
                    }
                }
            }
            Err(error) => errors.push(error.into()),
        }
        // A rule that refuses or marks must not get weaker by what could not be read; one that allows must not
        // get stronger.
        let poisoned = (errors.len() > before).then_some(action != PolicyAction::Allow);
        let allows = action == PolicyAction::Allow;
        Self { attribute, values: values.into(), negate: condition.negate, allows, poisoned }
    }

    /// What it looks at.
    pub(crate) fn attribute(&self) -> &Attribute {
        &self.attribute
    }

    /// Whether the condition holds. On a stream a condition on an HTTP attribute holds: only rules of DENY and AUDIT
    /// policies are asked then, and they keep their other conditions.
    pub(crate) fn holds<R: RequestHead>(&self, facts: Facts<'_, R>) -> bool {
        if let Some(result) = self.poisoned {
            return result;
        }
        if facts.request.is_none() && self.attribute.is_http() {
            return true;
        }
        self.any_value_matches(facts) != self.negate
    }

    fn any_value_matches<R: RequestHead>(&self, facts: Facts<'_, R>) -> bool {
        let connection = facts.connection;
        let text = |value: Option<&str>| value.is_some_and(|value| self.any_text(value.as_bytes()));
        let of_request = |test: &dyn Fn(&R) -> bool| facts.request.is_some_and(test);
        match &self.attribute {
            Attribute::DestinationAddress => self.any_address(connection.destination()),
            Attribute::DestinationPort => {
                self.values.iter().any(|value| value.matches_port(connection.destination_port()))
            }
            Attribute::DestinationName => self.any_name(facts),
            Attribute::IcmpType => connection
                .icmp_type()
                .is_some_and(|number| self.values.iter().any(|value| value.matches_number(number))),
            Attribute::Protocol => self.any_text(connection.protocol().as_bytes()),
            Attribute::QueriedName => text(connection.queried_name()),
            Attribute::Transport => self.any_text(connection.transport().name().as_bytes()),
            Attribute::PathAndQuery => of_request(&|request| match request.query() {
                Some(query) => self.any_text(format!("{}?{query}", request.path()).as_bytes()),
                None => self.any_text(request.path().as_bytes()),
            }),
            Attribute::RequestAudience
            | Attribute::RequestClaim(_)
            | Attribute::RequestPresenter
            | Attribute::RequestPrincipal => of_request(&|request| self.of_token(request)),
            Attribute::Route => text(facts.request.and_then(RequestHead::route)),
            Attribute::Host => of_request(&|request| self.any_host(request.authority())),
            Attribute::Method => of_request(&|request| self.any_text(request.method().as_bytes())),
            Attribute::Path => of_request(&|request| self.any_text(request.path().as_bytes())),
            Attribute::RemoteAddress => of_request(&|request| {
                self.any_address(remote_address(facts.client_address, connection, request))
            }),
            Attribute::RequestHeader(name) => of_request(&|request| {
                request.header(name).is_some_and(|value: Cow<'_, [u8]>| self.any_text(&value))
            }),
            Attribute::ServerName => text(connection.server_name()),
            Attribute::SourceAddress => self.any_address(connection.source()),
            Attribute::SourceNamespace => {
                text(connection.peer_identity().and_then(|identity| identity.namespace()))
            }
            Attribute::SourcePrincipal => text(connection.principal()),
            Attribute::SourceServiceAccount => text(connection.service_account()),
            Attribute::SourceTrustDomain => {
                text(connection.peer_identity().map(|identity| identity.trust_domain().as_str()))
            }
        }
    }

    /// Names that the destination was found under. What is allowed by a name must not say another one there, as server name
    /// or host: an address serves many. What is denied by a name is denied whichever way it is said.
    fn any_name<R: RequestHead>(&self, facts: Facts<'_, R>) -> bool {
        let names = facts.connection.destination_names();
        let server_name = facts.connection.server_name();
        let host = facts.request.and_then(|request| named_host(request.authority()));
        let is_said = |name: &str| {
            server_name.is_none_or(|said| said == name)
                && host.is_none_or(|said| said.eq_ignore_ascii_case(name))
        };
        let matches = |name: &str| self.any_text(name.as_bytes());
        if self.allows {
            return names.iter().any(|name| is_said(name) && matches(name));
        }
        names.iter().any(|name| matches(name))
            || server_name.is_some_and(matches)
            || host.is_some_and(|host| matches(&host.to_ascii_lowercase()))
    }

    /// Whether an attribute of the request's token matches; a request without token has none.
    fn of_token(&self, request: &impl RequestHead) -> bool {
        let Some(token) = request.token() else { return false };
        match &self.attribute {
            Attribute::RequestAudience => {
                token.audiences.iter().any(|audience| self.any_text(audience.as_bytes()))
            }
            Attribute::RequestClaim(path) => match token.claim(path) {
                Some(ClaimValue::List(values)) => values.iter().any(|value| self.is_claim(value)),
                Some(value) => self.is_claim(value),
                None => false,
            },
            Attribute::RequestPresenter => {
                let presenter = token.presenter.as_deref();
                presenter.is_some_and(|presenter| self.any_text(presenter.as_bytes()))
            }
            // A token without one of them names nobody.
            _ if token.issuer.is_empty() || token.subject.is_empty() => false,
            _ => {
                let (issuer, subject) = (&token.issuer, &token.subject);
                self.values.iter().any(|value| value.matches_issuer_and_subject(issuer, subject))
            }
        }
    }

    /// Claims that are not texts match nothing (API.md 3.3).
    fn is_claim(&self, value: &ClaimValue) -> bool {
        matches!(value, ClaimValue::Text(text) if self.any_text(text.as_bytes()))
    }

    /// Whether any value matches a text, negated or not.
    pub(crate) fn takes_text(&self, text: &str) -> bool {
        self.any_text(text.as_bytes())
    }

    fn any_text(&self, text: &[u8]) -> bool {
        self.values.iter().any(|value| value.matches_text(text))
    }

    fn any_address(&self, address: IpAddr) -> bool {
        self.values.iter().any(|value| value.matches_address(address))
    }

    /// As received, without its port, and without the dot that makes a name absolute: routing takes all of them for the
    /// same host, so a rule must too.
    fn any_host(&self, authority: &str) -> bool {
        let host = without_port(authority);
        self.any_text(authority.as_bytes())
            || self.any_text(host.as_bytes())
            || host.strip_suffix('.').is_some_and(|host| self.any_text(host.as_bytes()))
    }
}

/// `request.headers[:authority]` and its like are attributes of their own.
fn normalize_attribute(attribute: &Attribute) -> Attribute {
    match attribute {
        Attribute::RequestHeader(name) => match &**name {
            ":authority" | "host" => Attribute::Host,
            ":method" => Attribute::Method,
            ":path" => Attribute::PathAndQuery,
            _ => attribute.clone(),
        },
        attribute => attribute.clone(),
    }
}

fn kind(attribute: &Attribute) -> Result<Kind, &'static str> {
    Ok(match attribute {
        Attribute::DestinationAddress | Attribute::RemoteAddress | Attribute::SourceAddress => {
            Kind::Address
        }
        Attribute::DestinationPort => Kind::Port,
        Attribute::IcmpType => Kind::Number,
        Attribute::RequestPrincipal => Kind::IssuerAndSubject,
        Attribute::Host => Kind::TextIgnoringCase,
        Attribute::Path => Kind::Path,
        Attribute::RequestHeader(name) if name.starts_with(':') => {
            return Err(
                "pseudo-headers other than :authority, :method and :path cannot be looked at",
            );
        }
        Attribute::DestinationName
        | Attribute::Method
        | Attribute::PathAndQuery
        | Attribute::Protocol
        | Attribute::QueriedName
        | Attribute::RequestAudience
        | Attribute::RequestClaim(_)
        | Attribute::RequestHeader(_)
        | Attribute::RequestPresenter
        | Attribute::Route
        | Attribute::ServerName
        | Attribute::SourceNamespace
        | Attribute::SourcePrincipal
        | Attribute::SourceServiceAccount
        | Attribute::SourceTrustDomain
        | Attribute::Transport => Kind::Text,
    })
}

/// Where a request comes from. An address in `X-Forwarded-For` counts as far as whoever wrote it is believed; one that
/// is not there or is none leaves the peer's own.
pub(crate) fn remote_address(
    client: &ClientAddress,
    connection: &Connection,
    request: &impl RequestHead,
) -> IpAddr {
    let believed = match &client.forwarders {
        Forwarders::Everyone => true,
        Forwarders::Nobody => false,
        Forwarders::Identities(identities) => {
            connection.peer_identity().is_some_and(|peer| identities.contains(peer))
        }
    };
    let hops = usize::try_from(client.trusted_hops).unwrap_or(usize::MAX);
    let place = if believed { Some(hops) } else { hops.checked_sub(1) };
    let forwarded = place.and_then(|place| {
        let forwarded = request.header("x-forwarded-for")?;
        let entry = forwarded.rsplit(|b| *b == b',').nth(place)?;
        let address: IpAddr = std::str::from_utf8(entry).ok()?.trim().parse().ok()?;
        Some(address.to_canonical())
    });
    forwarded.unwrap_or_else(|| connection.source())
}

/// The host of an authority without the dot that makes it absolute, where it is a name and no address.
fn named_host(authority: &str) -> Option<&str> {
    let host = without_port(authority);
    let host = host.strip_suffix('.').unwrap_or(host);
    let is_address = host.starts_with('[') || host.parse::<IpAddr>().is_ok();
    (!host.is_empty() && !is_address).then_some(host)
}

/// The host of an authority; brackets of an IPv6 address stay.
fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_of_an_authority_is_told_from_an_address() {
        assert_eq!(without_port("a:80"), "a");
        assert_eq!(without_port("a:"), "a");
        assert_eq!(without_port("a"), "a");
        assert_eq!(without_port("[::1]:80"), "[::1]");
        assert_eq!(without_port("[::1]"), "[::1]");
    }
}
