//! Making the kernel follow an [`Interception`], and taking it away again.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use heddle_ident::Cidr;

use super::{DELIVERY_SOURCE_IPV6, Interception, InterceptionError, OwnPackets, rules};
use crate::namespace::NetworkNamespace;
use crate::netlink::{Address, NetlinkError, PolicyRule, Route, RouteSocket};
use crate::nftables::{self, Batch};

const TABLE: &str = "heddle";
const HOLD_TABLE: &str = "heddle-hold";
/// Before the main table (32766).
const RULE_PRIORITY: u32 = 1337;

impl Interception {
    /// Makes the namespace follow this description, at one moment; lifts a [`hold`] in that moment.
    ///
    /// Needs CAP_NET_ADMIN in the user namespace that owns the network namespace.
    pub fn install(&self, namespace: &NetworkNamespace) -> Result<(), InterceptionError> {
        self.check().map_err(InterceptionError::Description)?;
        let error = |action| {
            move |source| InterceptionError::Rules { action, namespace: namespace.clone(), source }
        };
        self.install_routes(namespace).map_err(error("set up the routes of interception"))?;
        let mut batch = Batch::new();
        batch.remove_table(TABLE);
        batch.add_table(TABLE);
        for set in rules::sets(self) {
            batch.add_set(TABLE, &set);
        }
        for chain in rules::chains(self) {
            batch.add_chain(TABLE, &chain);
        }
        batch.remove_table(HOLD_TABLE);
        batch.commit(namespace).map_err(error("install the interception rules"))
    }

    /// Takes everything away that [`Interception::install`] and [`hold`] left; fine when nothing is there.
    pub fn remove(&self, namespace: &NetworkNamespace) -> Result<(), InterceptionError> {
        let error = |action| {
            move |source| InterceptionError::Rules { action, namespace: namespace.clone(), source }
        };
        let mut batch = Batch::new();
        batch.remove_table(TABLE);
        batch.remove_table(HOLD_TABLE);
        batch.commit(namespace).map_err(error("remove the interception rules"))?;
        self.remove_routes(namespace).map_err(error("remove the routes of interception"))
    }

    /// Whether interception is installed in a namespace.
    pub fn is_installed(namespace: &NetworkNamespace) -> Result<bool, InterceptionError> {
        nftables_has(namespace, TABLE)
    }

    fn install_routes(&self, namespace: &NetworkNamespace) -> Result<(), NetlinkError> {
        if !self.needs_routes() && !matches!(self.own, OwnPackets::User(_)) {
            return Ok(());
        }
        let mut socket = RouteSocket::open_in(namespace)?;
        let loopback = socket.link("lo")?.index;
        if matches!(self.own, OwnPackets::User(_)) {
            ignore_absent_ipv6(socket.add_address(delivery_address(loopback)))?;
        }
        if self.needs_routes() {
            for (route, rule) in self.routes(loopback) {
                let result = socket.add_route(&route).and_then(|()| socket.add_rule(rule));
                if rule.ipv6 { ignore_absent_ipv6(result)? } else { result? }
            }
        }
        Ok(())
    }

    fn remove_routes(&self, namespace: &NetworkNamespace) -> Result<(), NetlinkError> {
        let mut socket = RouteSocket::open_in(namespace)?;
        let loopback = socket.link("lo")?.index;
        let held = socket.addresses()?;
        if held.contains(&delivery_address(loopback)) {
            socket.remove_address(delivery_address(loopback))?;
        }
        let present = socket.routes()?;
        for (route, rule) in self.routes(loopback) {
            ignore_absent_ipv6(socket.remove_rule(rule))?;
            let same = |other: &Route| {
                other.table == route.table && other.destination == route.destination
            };
            if present.iter().any(same) {
                socket.remove_route(&route)?;
            }
        }
        Ok(())
    }

    fn routes(&self, loopback: u32) -> [(Route, PolicyRule); 2] {
        let entry = |any: IpAddr| {
            let everything = Cidr::new(any, 0).expect("a prefix of 0 bits fits every address");
            let rule = PolicyRule {
                ipv6: any.is_ipv6(),
                mark: self.delivery_mark,
                table: self.route_table,
                priority: RULE_PRIORITY,
            };
            (Route::all_local(everything, loopback, self.route_table), rule)
        };
        [entry(Ipv4Addr::UNSPECIFIED.into()), entry(Ipv6Addr::UNSPECIFIED.into())]
    }
}

/// Lets nothing leave or enter a namespace but the proxy's own packets and loopback, until
/// [`Interception::install`] takes its place or [`Interception::remove`] lifts it.
///
/// Answers to the proxy's packets come in. `delivery_mark` has no meaning yet and is not let through.
pub fn hold(own: OwnPackets, namespace: &NetworkNamespace) -> Result<(), InterceptionError> {
    let mut batch = Batch::new();
    batch.remove_table(HOLD_TABLE);
    batch.add_table(HOLD_TABLE);
    batch.add_set(HOLD_TABLE, &rules::housekeeping_set());
    for chain in rules::hold_chains(own) {
        batch.add_chain(HOLD_TABLE, &chain);
    }
    batch.commit(namespace).map_err(|source| InterceptionError::Rules {
        action: "hold the traffic",
        namespace: namespace.clone(),
        source,
    })
}

/// Whether a [`hold`] is in place.
pub fn is_held(namespace: &NetworkNamespace) -> Result<bool, InterceptionError> {
    nftables_has(namespace, HOLD_TABLE)
}

fn nftables_has(namespace: &NetworkNamespace, table: &str) -> Result<bool, InterceptionError> {
    nftables::has_table(namespace, table).map_err(|source| InterceptionError::Rules {
        action: "look for rules",
        namespace: namespace.clone(),
        source,
    })
}

fn delivery_address(loopback: u32) -> Address {
    Address { link: loopback, address: DELIVERY_SOURCE_IPV6.into(), prefix_bits: 128 }
}

/// A host with IPv6 switched off needs no IPv6 routes.
fn ignore_absent_ipv6(result: Result<(), NetlinkError>) -> Result<(), NetlinkError> {
    match result {
        Err(error)
            if matches!(
                error.errno(),
                Some(libc::EOPNOTSUPP | libc::EAFNOSUPPORT | libc::EACCES)
            ) =>
        {
            Ok(())
        }
        result => result,
    }
}
