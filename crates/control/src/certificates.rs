//! Certificates that users bring in their objects: how long they last, and whether they can be read.

use std::collections::BTreeMap;
use std::time::SystemTime;

use heddle_api::kubernetes::Secret;
use heddle_api::{Object, Resource};
use heddle_diag::{Diagnostic, Level, Origin};
use heddle_tls::{CertificateError, LeafNames, certificates_from_pem, expiry_from_pem};
use heddle_translate::{MeshAuthority, codes};

use crate::timestamp::{millis, text};

/// So many days before the end of something it is warned of.
const WARN_DAYS: [u64; 3] = [30, 7, 1];
/// Keys of Secrets under which certificates stand: of gateways and destinations (Istio's and Kubernetes' names), and of a
/// plugged-in authority.
const KEYS: [&str; 7] =
    ["cert", "tls.crt", "cacert", "ca.crt", "ca-cert.pem", "cert-chain.pem", "root-cert.pem"];

/// Whole days until then; 0 when it is over.
pub(crate) fn days_left(until: SystemTime, now: SystemTime) -> u64 {
    until.duration_since(now).map_or(0, |left| left.as_secs() / 86_400)
}

/// The narrowest of the bounds that so many days are within.
pub(crate) fn warning_bound(days_left: u64) -> Option<u64> {
    WARN_DAYS.into_iter().rev().find(|bound| days_left < *bound)
}

/// The certificates of a Secret: under which key, and when the first of them expires. What cannot be read is told of where
/// the Secret says that it holds a certificate; elsewhere such a key may mean anything.
pub(crate) fn of_secret(
    secret: &Object<Secret>,
) -> Vec<(&'static str, Result<SystemTime, CertificateError>)> {
    let is_tls = secret.spec.kind.as_deref() == Some("kubernetes.io/tls");
    let find = |key: &'static str| {
        let text = secret.spec.string_data.get(key).map(String::as_bytes);
        let bytes = text.or_else(|| secret.spec.data.get(key).map(|data| data.0.as_slice()))?;
        let read = expiry_from_pem(bytes);
        (read.is_ok() || is_tls).then_some((key, read))
    };
    KEYS.into_iter().filter_map(find).collect()
}

/// What is to be said about the certificates in objects, and about the authorities of a mesh configuration.
pub fn findings(
    objects: &[Resource],
    authorities: &[MeshAuthority],
    now: SystemTime,
) -> Vec<Diagnostic> {
    let mut findings = Vec::new();
    let mut secrets: BTreeMap<&str, Vec<&Object<Secret>>> = BTreeMap::new();
    for object in objects {
        if let Resource::Secret(secret) = object {
            secrets.entry(&secret.meta.name).or_default().push(secret);
        }
    }
    for object in objects {
        let of_name = |name: &str| secrets.get(name).cloned().unwrap_or_default();
        findings.extend(of_object(object, of_name, now));
    }
    for authority in authorities {
        let read = expiry_from_pem(authority.pem.as_bytes());
        findings.extend(finding(authority.origin.clone(), "the authority", read, now));
    }
    findings
}

/// What is to be said about the certificates of one object; `secrets` gives the Secrets of a name in any namespace.
pub(crate) fn of_object<'a>(
    object: &Resource,
    secrets: impl Fn(&str) -> Vec<&'a Object<Secret>>,
    now: SystemTime,
) -> Vec<Diagnostic> {
    let mut findings = Vec::new();
    match object {
        Resource::Secret(secret) => {
            for (key, read) in of_secret(secret) {
                findings.extend(finding(secret.origin().clone(), &format!("`{key}`"), read, now));
            }
            findings.extend(pair_finding(secret));
        }
        Resource::Gateway(gateway) => {
            let namespace = &gateway.meta.namespace;
            for server in &gateway.spec.servers {
                let Some(tls) = &server.tls else { continue };
                let named = tls.credential_name.iter().chain(&tls.credential_names);
                let given: Vec<_> = named.filter(|name| !name.is_empty()).collect();
                let presented = presented(&given, namespace, &secrets);
                for (index, host) in server.hosts.iter().enumerate() {
                    let host = host.rsplit('/').next().unwrap_or_default();
                    let origin = gateway.origin_of_item(server.at, "hosts", index);
                    findings.extend(name_finding(origin, host, &presented));
                }
            }
        }
        Resource::GatewayApiGateway(gateway) => {
            for listener in &gateway.spec.listeners {
                let (Some(host), Some(tls)) = (&listener.hostname, &listener.tls) else { continue };
                let given: Vec<_> = tls.certificate_refs.iter().map(|own| &own.name).collect();
                let presented = presented(&given, &gateway.meta.namespace, &secrets);
                let origin = gateway.origin_of(listener.at, "hostname");
                findings.extend(name_finding(origin, host, &presented));
            }
        }
        _ => {}
    }
    findings
}

/// What a Secret holds under the first of these keys.
fn entry<'a>(secret: &'a Object<Secret>, keys: &[&str]) -> Option<&'a [u8]> {
    keys.iter().find_map(|key| {
        let text = secret.spec.string_data.get(*key).map(String::as_bytes);
        text.or_else(|| secret.spec.data.get(*key).map(|data| data.0.as_slice()))
    })
}

/// A certificate and a key that do not go together.
fn pair_finding(secret: &Object<Secret>) -> Option<Diagnostic> {
    let chain = entry(secret, &["cert", "tls.crt"])?;
    let key = entry(secret, &["key", "tls.key"])?;
    // One that cannot be read is told of already, where it must be one.
    expiry_from_pem(chain).ok()?;
    let problem = heddle_tls::pair_problem(&heddle_tls::default_provider(), chain, key)?;
    let origin = secret.origin().clone();
    Some(Diagnostic::error(codes::CERTIFICATE_KEY, origin, format!("the key: {problem}")))
}

/// The names of the certificates that a gateway would present: of its own namespace, else, since the gateway's workload may
/// be in another one, of the only Secret of that name. None where one of them is not known here.
fn presented<'a>(
    names: &[&String],
    namespace: &str,
    secrets: &impl Fn(&str) -> Vec<&'a Object<Secret>>,
) -> Option<Vec<String>> {
    let mut known = Vec::new();
    for name in names {
        let all = secrets(name);
        let own = all.iter().find(|secret| secret.meta.namespace == namespace);
        let secret = match (own, all.as_slice()) {
            (Some(own), _) => own,
            (None, [only]) => only,
            (None, _) => return None,
        };
        let chain = certificates_from_pem(entry(secret, &["cert", "tls.crt"])?).ok()?;
        known.extend(LeafNames::parse(chain.first()?).ok()?.dns);
    }
    (!names.is_empty()).then_some(known)
}

/// A host that no certificate is for.
fn name_finding(origin: Origin, host: &str, presented: &Option<Vec<String>>) -> Option<Diagnostic> {
    let presented = presented.as_ref()?;
    let host = host.to_ascii_lowercase();
    if host == "*" || host.is_empty() || presented.iter().any(|name| covers(name, &host)) {
        return None;
    }
    let names = if presented.is_empty() { "no host".to_owned() } else { presented.join(", ") };
    let message = format!("the certificate is for {names}, not for `{host}`: clients refuse it");
    Some(Diagnostic::warning(codes::CERTIFICATE_NAME, origin, message))
}

/// Whether a name of a certificate is for a host, which may be a pattern itself (RFC 9525 section 6.3: a wildcard stands for
/// one label).
fn covers(name: &str, host: &str) -> bool {
    let name = name.to_ascii_lowercase();
    if name == host {
        return true;
    }
    let Some(suffix) = name.strip_prefix("*.") else { return false };
    host.split_once('.').is_some_and(|(first, rest)| first != "*" && rest == suffix)
}

fn finding(
    origin: Origin,
    what: &str,
    read: Result<SystemTime, CertificateError>,
    now: SystemTime,
) -> Option<Diagnostic> {
    let until = match read {
        Ok(until) => until,
        Err(error) => {
            let message = format!("{what}: {error}");
            return Some(Diagnostic::error(codes::CERTIFICATE_UNREADABLE, origin, message));
        }
    };
    let bound = warning_bound(days_left(until, now))?;
    let level = match bound {
        1 => Level::Error,
        7 => Level::Warning,
        _ => Level::Info,
    };
    let end = text(millis(until));
    let message = if until <= now {
        format!("{what} has expired, on {end}")
    } else {
        format!("{what} expires in less than {bound} days, on {end}")
    };
    Some(Diagnostic::new(level, codes::CERTIFICATE_EXPIRES, origin, message))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use heddle_api::Reader;
    use heddle_ident::TrustDomain;
    use heddle_tls::{SigningRoot, default_provider};

    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    #[test]
    fn a_root_is_warned_of_three_times() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        for (hours, expected) in [
            (24 * 31, None),
            (24 * 30, None),
            (24 * 30 - 1, Some(30)),
            (24 * 7, Some(30)),
            (24 * 7 - 1, Some(7)),
            (25, Some(7)),
            (23, Some(1)),
            (0, Some(1)),
        ] {
            let until = now + Duration::from_hours(hours);
            assert_eq!(warning_bound(days_left(until, now)), expected, "{hours}");
        }
        assert_eq!(days_left(now - Duration::from_secs(1), now), 0);
    }

    fn secret(kind: &str, pem: &str, key: &str) -> Vec<Resource> {
        let data = serde_json::json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "web", "namespace": "shop"},
            "type": kind, "stringData": {"tls.crt": pem, "tls.key": key},
        });
        Reader::default().read_file("secret.yaml", data.to_string().as_bytes()).resources
    }

    #[test]
    fn a_wildcard_stands_for_one_label() {
        for (name, host, covered) in [
            ("a.b", "a.b", true),
            ("A.b", "a.b", true),
            ("*.b", "a.b", true),
            ("*.b", "*.b", true),
            ("*.b", "x.a.b", false),
            ("*.b", "b", false),
            ("a.b", "*.b", false),
            ("*.a.b", "*.b", false),
        ] {
            assert_eq!(covers(name, host), covered, "{name} {host}");
        }
    }

    /// What is said of a Secret with a certificate for `www.example.com`, and of gateways that present it.
    fn of_gateways(chain: &str, key: &str) -> Vec<(String, String)> {
        let indented = |text: &str| text.replace('\n', "\n    ");
        let text = format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: web, namespace: edge}}\ntype: kubernetes.io/tls\nstringData:\n  tls.crt: |\n    {}\n  tls.key: |\n    {}\n\
             ---\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: old, namespace: shop}}\nspec:\n  servers:\n\
             \x20 - port: {{number: 443, name: https, protocol: HTTPS}}\n    hosts: [www.example.com, shop/www.example.com, api.example.com, \"*\"]\n\
             \x20   tls: {{mode: SIMPLE, credentialName: web}}\n\
             \x20 - port: {{number: 444, name: other, protocol: HTTPS}}\n    hosts: [x.example.org]\n\
             \x20   tls: {{mode: SIMPLE, credentialName: unknown}}\n\
             ---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: new, namespace: edge}}\nspec:\n  gatewayClassName: istio\n  listeners:\n\
             \x20 - {{name: a, port: 443, protocol: HTTPS, hostname: www.example.com, tls: {{certificateRefs: [{{name: web}}]}}}}\n\
             \x20 - {{name: b, port: 444, protocol: HTTPS, hostname: \"*.example.com\", tls: {{certificateRefs: [{{name: web}}]}}}}\n",
            indented(chain),
            indented(key),
        );
        let objects = Reader::default().read_file("edge.yaml", text.as_bytes()).resources;
        assert_eq!(objects.len(), 3);
        let now = SystemTime::now();
        let found = findings(&objects, &[], now).into_iter();
        found.map(|own| (own.code.id.to_owned(), own.message)).collect()
    }

    #[test]
    fn a_certificate_for_other_hosts_and_a_key_of_another_certificate_are_told_of() {
        let made = |name: &str| {
            let pair = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
            (pair.cert.pem(), pair.signing_key.serialize_pem())
        };
        let ((chain, key), (_, other)) = (made("www.example.com"), made("www.example.com"));
        let codes = |found: &[(String, String)]| -> Vec<String> {
            found.iter().map(|(code, _)| code.clone()).collect()
        };
        let found = of_gateways(&chain, &key);
        assert_eq!(codes(&found), ["HED0433", "HED0433"], "{found:?}");
        assert!(found[0].1.contains("`api.example.com`") && found[1].1.contains("`*.example.com`"));
        let found = of_gateways(&chain, &other);
        assert_eq!(codes(&found), ["HED0432", "HED0433", "HED0433"], "{found:?}");
    }

    #[test]
    fn certificates_in_secrets_are_told_of_by_level() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_hours(500_000);
        let domain = TrustDomain::parse("td").unwrap();
        let root = SigningRoot::generate(default_provider(), &domain, now, DAY * 40).unwrap();
        let objects = secret("kubernetes.io/tls", &root.chain_pem(), &root.key_pem());
        let told = |days: u32| {
            let told = findings(&objects, &[], now + DAY * days);
            told.first().map(|finding| (finding.code.id, finding.level))
        };
        assert_eq!(told(9), None);
        assert_eq!(told(11), Some(("HED0430", Level::Info)));
        assert_eq!(told(34), Some(("HED0430", Level::Warning)));
        assert_eq!(told(40), Some(("HED0430", Level::Error)));
        let code = |objects: &[Resource]| {
            findings(objects, &[], now).first().map(|finding| finding.code.id)
        };
        assert_eq!(code(&secret("kubernetes.io/tls", "nothing", "x")), Some("HED0431"));
        assert_eq!(code(&secret("Opaque", "nothing", "x")), None, "it may mean anything");
        let authority = MeshAuthority {
            pem: root.chain_pem().into(),
            trust_domains: Vec::new(),
            origin: objects[0].origin().clone(),
        };
        assert!(findings(&[], std::slice::from_ref(&authority), now).is_empty());
        assert_eq!(findings(&[], &[authority], now + DAY * 50).len(), 1);
    }
}
