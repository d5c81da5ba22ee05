//! What policies say of what a client does to others, as the proxy beside it asks them.

use std::net::SocketAddr;

use heddle_authz::{AllowedBy, CompiledEgress, Connection, Denial, Transport};
use heddle_diag::Origin;
use heddle_ir::request::ConnectionFacts;
use heddle_wire::path::normalize;

use crate::answer::Considered;
use crate::branch::Call;
use crate::story::considered;
use crate::target::Resolution;

/// The port that clients are imagined to connect from.
const SOURCE_PORT: u16 = 40_000;
const DNS_PORT: u16 = 53;

/// What was decided.
pub(crate) struct Egress {
    /// Every rule and what became of it.
    pub(crate) considered: Vec<Considered>,
    pub(crate) result: Result<Option<Origin>, (String, Origin)>,
}

impl Call<'_> {
    /// What is decided about going to an address that was found under these names; none where nothing is to be decided.
    pub(crate) fn egress(
        &self,
        address: SocketAddr,
        transport: Transport,
        server_name: Option<String>,
        names: impl IntoIterator<Item = String>,
    ) -> Option<Egress> {
        let egress = self.world.egress(self.caller)?;
        let facts = ConnectionFacts {
            peer_identity: self.caller.identity.clone(),
            source: SocketAddr::new(self.caller.address, SOURCE_PORT),
            destination: address,
            server_name,
        };
        let asked = self.target.host.clone().filter(|_| self.is_outside());
        let names = asked.into_iter().chain(names);
        let connection = Connection::new(transport, facts).with_destination_names(names);
        let (decided, rules) = if self.handled.is_http() && egress.looks_at_requests() {
            let rules = egress.explain(&connection, Some(self.head));
            (self.decide_request(&egress, &connection), rules)
        } else {
            (owned(egress.decide_stream(&connection)), egress.explain_stream(&connection))
        };
        let considered = rules.into_iter().map(|rule| {
            let origin = rule.rule.map_or(&rule.policy.origin, |rule| &rule.origin);
            considered(origin, format!("egress {:?}: {}", rule.policy.action, rule.outcome))
        });
        Some(Egress { considered: considered.collect(), result: decided })
    }

    fn decide_request(
        &self,
        egress: &CompiledEgress,
        connection: &Connection,
    ) -> Result<Option<Origin>, (String, Origin)> {
        let decided = owned(egress.decide_request(connection, self.head));
        // As the proxy does: neither form of the path may be one that is not allowed.
        let mode = heddle_ir::inbound::PathNormalization::MergeSlashes;
        match normalize(&self.head.path, mode) {
            Ok(Some(path)) if decided.is_ok() => {
                let mut head = self.head.clone();
                head.path = path;
                owned(egress.decide_request(connection, &head))
            }
            _ => decided,
        }
    }

    /// Why the client's proxy does not answer the name that is asked for; none where it does.
    pub(crate) fn name_is_refused(&self) -> Option<(String, Origin)> {
        let name = self.target.host.clone()?;
        let egress = self.world.egress(self.caller)?;
        let nowhere = SocketAddr::new(self.caller.address, DNS_PORT);
        let facts = ConnectionFacts {
            peer_identity: None,
            source: nowhere,
            destination: nowhere,
            server_name: None,
        };
        let query = Connection::new(Transport::Plaintext, facts)
            .with_protocol("udp", None)
            .with_queried_name(name.clone());
        let (why, origin) = owned(egress.decide_query(&query)).err()?;
        Some((format!("the name {name} is not answered: {why}"), origin))
    }

    /// Only what is answered from outside is found under a name; what the mesh has is known by itself.
    fn is_outside(&self) -> bool {
        self.target.resolution == Resolution::Outside
    }
}

fn owned(decided: Result<AllowedBy<'_>, Denial<'_>>) -> Result<Option<Origin>, (String, Origin)> {
    match decided {
        Ok(AllowedBy::Rule(_, rule)) => Ok(Some(rule.origin.clone())),
        Ok(AllowedBy::Default | AllowedBy::Probe(_)) => Ok(None),
        Err(denial) => Err((format!("egress: {denial}"), denial.origin().clone())),
    }
}
