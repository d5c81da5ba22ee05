//! Rules of Gateways and ListenerSets.

use std::net::IpAddr;

use super::{broken, has, place};
use crate::decode::Decoder;
use crate::gateway_api::{
    Gateway, GatewayAddress, Listener, ListenerSet, ListenerTls, ListenerTlsMode,
};

/// Rules of a Gateway.
pub(crate) fn gateway(decoder: &mut Decoder<'_>, gateway: &Gateway) {
    listeners(decoder, &gateway.listeners);
    for (index, address) in gateway.addresses.iter().enumerate() {
        let same = |other: &&GatewayAddress| {
            other.kind() == address.kind() && other.value == address.value
        };
        let counted = matches!(address.kind(), "IPAddress" | "Hostname") && address.value.is_some();
        if counted && gateway.addresses.iter().take(index).any(|other| same(&other)) {
            broken(decoder, address.at, "the same address stands twice");
        }
    }
}

/// Rules of a ListenerSet.
pub(crate) fn listener_set(decoder: &mut Decoder<'_>, set: &ListenerSet) {
    listeners(decoder, &set.listeners);
}

fn listeners(decoder: &mut Decoder<'_>, listeners: &[Listener]) {
    for (index, listener) in listeners.iter().enumerate() {
        one(decoder, listener);
        let same = |other: &Listener| {
            other.port == listener.port
                && other.protocol == listener.protocol
                && other.hostname == listener.hostname
        };
        if listener.port != 0 && listeners.iter().take(index).any(same) {
            let message = "another listener has the same port, protocol and hostname";
            broken(decoder, listener.at, message);
        }
    }
}

fn one(decoder: &mut Decoder<'_>, listener: &Listener) {
    let protocol = listener.protocol.as_str();
    let tls = place(decoder, listener.at, "tls");
    match (protocol, &listener.tls) {
        ("HTTP" | "TCP" | "UDP", Some(_)) => {
            broken(decoder, tls, format!("`tls` must not be set for the protocol `{protocol}`"));
        }
        ("HTTPS", Some(settings)) if settings.mode() != ListenerTlsMode::Terminate => {
            broken(decoder, tls, "the mode must be `Terminate` for the protocol `HTTPS`");
        }
        ("TLS", None) => {
            broken(decoder, tls, "`tls` with a mode is required for the protocol `TLS`");
        }
        _ => {}
    }
    if matches!(protocol, "TCP" | "UDP") && listener.hostname.is_some() {
        let at = place(decoder, listener.at, "hostname");
        broken(decoder, at, format!("`hostname` must not be set for the protocol `{protocol}`"));
    }
}

/// Whoever ends TLS needs a certificate.
pub(crate) fn listener_tls(decoder: &mut Decoder<'_>, tls: &ListenerTls) {
    let certified = has(decoder, tls.at, "certificateRefs") && !tls.certificate_refs.is_empty();
    if tls.mode() == ListenerTlsMode::Terminate && !certified && tls.options.is_empty() {
        let message = "`certificateRefs` or `options` is required for the mode `Terminate`";
        broken(decoder, tls.at, message);
    }
}

/// The value has the form of its type.
pub(crate) fn address(decoder: &mut Decoder<'_>, address: &GatewayAddress) {
    let Some(value) = &address.value else { return };
    let expected = match address.kind() {
        "IPAddress" if value.parse::<IpAddr>().is_err() => "an address",
        "Hostname" if super::hostname(value).is_err() => "a host name",
        _ => return,
    };
    let at = place(decoder, address.at, "value");
    broken(decoder, at, format!("`{value}` is not {expected}"));
}
