//! Checks of texts that Linkerd's schemas and admission controllers make.

/// The name of an object in a reference: a DNS label.
pub(crate) fn object_name(text: &str) -> Result<(), &'static str> {
    crate::check::dns_label(text)
}

/// The identity of a client: `*`, a DNS name, `*.` before one, or a SPIFFE id.
pub(crate) fn identity(text: &str) -> Result<(), &'static str> {
    let name = text.strip_prefix("*.").unwrap_or(text);
    let spiffe =
        text.strip_prefix("spiffe://").is_some_and(|rest| !rest.is_empty() && !rest.contains(' '));
    (text == "*" || spiffe || crate::check::dns_name(name).is_ok()).then_some(()).ok_or(
        "an identity such as `web.shop.serviceaccount.identity.linkerd.cluster.local`, `*.shop.serviceaccount.identity.linkerd.cluster.local`, `*` or a SPIFFE id",
    )
}

/// An address or an address range.
pub(crate) fn network(text: &str) -> Result<(), &'static str> {
    heddle_ident::Cidr::parse(text).map(|_| ()).map_err(|_| "an address range such as `10.0.0.0/8`")
}
