//! AuthorizationPolicy, MeshTLSAuthentication and NetworkAuthentication (`policy.linkerd.io`).

use super::check as own;
use crate::check;
use crate::codes;
use crate::decode::Decoder;
use crate::tree::At;

object! {
    /// Who may use a Server, a route or the servers of a namespace. Several policies on one target add up.
    AuthorizationPolicy {
        /// What it is attached to, in the same namespace.
        "targetRef" => target_ref: LocalTargetRef [required],
        /// What a client must prove; all must hold. An empty list asks for nothing.
        "requiredAuthenticationRefs" => required_authentication_refs: Vec<RequiredAuthenticationRef> [required],
    }
}

object! {
    /// An object in the namespace of the object that refers to it.
    LocalTargetRef {
        /// Its API group; empty for the core group.
        "group" => group: Option<String> [len(0, 253), check(check::dns_name_or_empty)],
        /// Its kind.
        "kind" => kind: String [required, len(1, 63), check(check::kind_name)],
        /// Its name.
        "name" => name: String [required, len(1, 253)],
    }
}

object! {
    /// A MeshTLSAuthentication, NetworkAuthentication or ServiceAccount that must hold for a client.
    RequiredAuthenticationRef {
        /// Its API group; empty for the core group.
        "group" => group: Option<String> [len(0, 253), check(check::dns_name_or_empty)],
        /// Its kind.
        "kind" => kind: String [required, len(1, 63), check(check::kind_name)],
        /// Its name.
        "name" => name: String [required, len(1, 253)],
        /// Its namespace; absent means the policy's own.
        "namespace" => namespace: Option<String> [len(0, 253)],
    }
}

object! {
    /// Identities of clients; any may match.
    MeshTlsAuthentication {
        /// Names as the clients' certificates have them; `*` for every client with one.
        "identities" => identities: Vec<String> [count(1, usize::MAX), item_check(own::identity)],
        /// Service accounts, or every service account of a namespace.
        "identityRefs" => identity_refs: Vec<IdentityRef> [count(1, usize::MAX)],
    }
    exactly_one ["identities", "identityRefs"]
}

object! {
    /// A ServiceAccount or Namespace whose clients are meant.
    IdentityRef {
        /// Its API group; empty for the core group.
        "group" => group: Option<String> [len(0, 253), check(check::dns_name_or_empty)],
        /// `ServiceAccount` or `Namespace`.
        "kind" => kind: String [required, len(1, 63), check(check::kind_name)],
        /// Its name; absent means all of the kind in the namespace.
        "name" => name: Option<String> [len(1, 253)],
        /// Its namespace; absent means that of the object it stands in.
        "namespace" => namespace: Option<String> [len(0, 253)],
    }
}

object! {
    /// Addresses of clients; any range may match.
    NetworkAuthentication {
        /// The ranges.
        "networks" => networks: Vec<NetworkRange> [required],
    }
    check some_network
}

object! {
    /// An address range with exceptions.
    NetworkRange {
        /// The range.
        "cidr" => cidr: String [required, check(own::network)],
        /// Ranges within it that are not meant.
        "except" => except: Vec<String> [item_check(own::network)],
    }
    check exceptions_within
}

fn some_network(decoder: &mut Decoder<'_>, authentication: &NetworkAuthentication) {
    let list = decoder.tree().field(authentication.at, "networks");
    if let (true, Some(list)) = (authentication.networks.is_empty(), list) {
        decoder.error(codes::RULE, list, "at least one network is needed", None);
    }
}

/// Linkerd refuses an exception that is not within its range, or that leaves nothing of it.
fn exceptions_within(decoder: &mut Decoder<'_>, network: &NetworkRange) {
    let Ok(range) = heddle_ident::Cidr::parse(&network.cidr) else { return };
    let list = decoder.tree().field(network.at, "except");
    let items: Vec<At> =
        list.map(|list| decoder.tree().children(list).collect()).unwrap_or_default();
    for (text, at) in network.except.iter().zip(items) {
        let Ok(except) = heddle_ident::Cidr::parse(text) else { continue };
        if except.prefix_bits() <= range.prefix_bits() && except.contains(range.network()) {
            let message = format!("`{text}` leaves nothing of `{}`", network.cidr);
            decoder.error(codes::RULE, at, message, None);
        } else if !range.contains(except.network()) {
            let message = format!("`{text}` is not within `{}`", network.cidr);
            decoder.error(codes::RULE, at, message, None);
        }
    }
}
