//! Certificates that users bring in their objects: how long they last, and whether they can be read.

use std::time::SystemTime;

use heddle_api::kubernetes::Secret;
use heddle_api::{Object, Resource};
use heddle_diag::{Diagnostic, Level, Origin};
use heddle_tls::{CertificateError, expiry_from_pem};
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
    for object in objects {
        let Resource::Secret(secret) = object else { continue };
        for (key, read) in of_secret(secret) {
            findings.extend(finding(secret.origin().clone(), &format!("`{key}`"), read, now));
        }
    }
    for authority in authorities {
        let read = expiry_from_pem(authority.pem.as_bytes());
        findings.extend(finding(authority.origin.clone(), "the authority", read, now));
    }
    findings
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

    fn secret(kind: &str, pem: &str) -> Vec<Resource> {
        let data = serde_json::json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "web", "namespace": "shop"},
            "type": kind, "stringData": {"tls.crt": pem, "tls.key": "x"},
        });
        Reader::default().read_file("secret.yaml", data.to_string().as_bytes()).resources
    }

    #[test]
    fn certificates_in_secrets_are_told_of_by_level() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_hours(500_000);
        let domain = TrustDomain::parse("td").unwrap();
        let root = SigningRoot::generate(default_provider(), &domain, now, DAY * 40).unwrap();
        let objects = secret("kubernetes.io/tls", &root.chain_pem());
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
        assert_eq!(code(&secret("kubernetes.io/tls", "nothing")), Some("HED0431"));
        assert_eq!(code(&secret("Opaque", "nothing")), None, "it may mean anything");
        let authority = MeshAuthority {
            pem: root.chain_pem().into(),
            trust_domains: Vec::new(),
            origin: objects[0].origin().clone(),
        };
        assert!(findings(&[], std::slice::from_ref(&authority), now).is_empty());
        assert_eq!(findings(&[], &[authority], now + DAY * 50).len(), 1);
    }
}
