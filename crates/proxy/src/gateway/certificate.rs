//! What a gateway tells of a client's certificate, in `x-forwarded-client-cert`.

use heddle_tls::{LeafNames, default_provider, pem_of, sha256_hex};

/// The value of the header for a leaf, as Istio's gateways write it: digest, certificate, subject and names. `by` is the
/// identity of the gateway, where it presented one of the mesh. None where the leaf cannot be read.
pub(super) fn header(leaf: &[u8], by: Option<&str>) -> Option<String> {
    let names = LeafNames::parse(leaf).ok()?;
    let mut text = by.map(|by| format!("By={by};")).unwrap_or_default();
    text.push_str("Hash=");
    text.push_str(&sha256_hex(&default_provider(), leaf)?);
    text.push_str(";Cert=\"");
    for character in pem_of("CERTIFICATE", leaf).chars() {
        match character {
            '\n' => text.push_str("%0A"),
            ' ' => text.push_str("%20"),
            '+' => text.push_str("%2B"),
            '/' => text.push_str("%2F"),
            '=' => text.push_str("%3D"),
            other => text.push(other),
        }
    }
    text.push_str("\";Subject=\"");
    for character in names.subject.chars() {
        if matches!(character, '"' | '\\') {
            text.push('\\');
        }
        text.push(if character.is_control() { ' ' } else { character });
    }
    text.push('"');
    for (kind, names) in [(";URI=", &names.uris), (";DNS=", &names.dns)] {
        for name in names {
            text.push_str(kind);
            // Separators of the header itself are no part of either kind of name.
            text.extend(
                name.chars().filter(|own| own.is_ascii_graphic() && !";,\"".contains(*own)),
            );
        }
    }
    Some(text)
}
