//! Listeners that cannot be both.
//!
//! Listeners of one Gateway have no order of precedence: all that conflict are refused. Those of ListenerSets give way to
//! the Gateway's and to those of older sets.

use heddle_ident::HostPattern;

use crate::gateway_api::listener::{Conflict, ListenerView, Protocol};

/// Marks the listeners that conflict. The Gateway's own come first, then those of its sets, the oldest set first; `own`
/// of them are the Gateway's.
pub(crate) fn mark(listeners: &mut [ListenerView], own: usize) {
    for index in 0..listeners.len() {
        let (before, rest) = listeners.split_at_mut(index);
        let Some(listener) = rest.first_mut() else { continue };
        if listener.refused.is_some() {
            continue;
        }
        let earlier = before.iter_mut().enumerate().filter(|(_, other)| other.refused.is_none());
        for (position, other) in earlier {
            let symmetric = index < own && position < own;
            // What has given way itself is in nobody's way.
            if !symmetric && other.conflict.is_some() {
                continue;
            }
            let Some(conflict) = between(other, listener) else { continue };
            listener.conflict.get_or_insert(conflict);
            if symmetric {
                other.conflict.get_or_insert(conflict);
            }
        }
    }
}

fn between(one: &ListenerView, other: &ListenerView) -> Option<Conflict> {
    if one.port != other.port {
        return None;
    }
    let is_udp = |listener: &ListenerView| listener.protocol == Protocol::Udp;
    // Ports of datagrams and of connections have only their numbers in common.
    if is_udp(one) != is_udp(other) {
        return None;
    }
    let by_name =
        |listener: &ListenerView| !matches!(listener.protocol, Protocol::Tcp | Protocol::Udp);
    if one.is_tls() != other.is_tls() || !by_name(one) || !by_name(other) {
        return Some(Conflict::Protocol);
    }
    let same = |left: &HostPattern, right: &HostPattern| left == right;
    same(&one.host, &other.host).then_some(Conflict::Hostname)
}
