//! `loadBalancer` of a traffic policy.

use std::sync::Arc;

use heddle_api::Written;
use heddle_api::istio::{ConsistentHash, LoadBalancerSettings, SimpleLoadBalancer};
use heddle_ir::destination::{HashAlgorithm, HashKey, LoadBalancing};

use crate::report::Report;

const RING_SIZE: u32 = 1024;
/// Bound on what a ring may cost in every proxy.
const RING_SIZE_MAX: u32 = 8 * 1024 * 1024;
const MAGLEV_SIZE: u32 = 65_537;
const MAGLEV_SIZE_MAX: u32 = 5_000_011;

pub(super) fn translate(
    rule: &Written,
    written: &LoadBalancerSettings,
    report: &mut Report,
) -> LoadBalancing {
    if let Some(hash) = &written.consistent_hash {
        return consistent_hash(rule, hash, report).unwrap_or(LoadBalancing::LeastRequest);
    }
    match written.simple.unwrap_or(SimpleLoadBalancer::Unspecified) {
        SimpleLoadBalancer::Unspecified
        | SimpleLoadBalancer::LeastConn
        | SimpleLoadBalancer::LeastRequest => LoadBalancing::LeastRequest,
        SimpleLoadBalancer::Random => LoadBalancing::Random,
        SimpleLoadBalancer::Passthrough => LoadBalancing::Passthrough,
        SimpleLoadBalancer::RoundRobin => LoadBalancing::RoundRobin,
    }
}

fn consistent_hash(
    rule: &Written,
    written: &ConsistentHash,
    report: &mut Report,
) -> Option<LoadBalancing> {
    let of = |field: &str| rule.origin_of(written.at, field);
    if rule.is_broken(written.at) {
        return None;
    }
    let text = |text: &Option<String>| {
        text.as_deref().filter(|text| !text.is_empty()).map(ToOwned::to_owned)
    };
    let mut keys = Vec::new();
    if let Some(name) = text(&written.http_header_name) {
        keys.push(HashKey::Header(name.to_ascii_lowercase().into()));
    }
    if let Some(cookie) = &written.http_cookie {
        if cookie.name.is_empty() {
            report.rejected(rule.origin_of(cookie.at, "name"), "the cookie has no name");
            return None;
        }
        if cookie.ttl.is_some_and(|ttl| ttl.as_nanos() < 0) {
            report.rejected(rule.origin_of(cookie.at, "ttl"), "the cookie's `ttl` is negative");
        }
        let mut attributes: Vec<(Arc<str>, Arc<str>)> = Vec::new();
        for attribute in &cookie.attributes {
            let (name, value) = (attribute.name.as_str(), attribute.value.as_deref().unwrap_or(""));
            if name.is_empty() || !is_plain(name) || name.contains('=') || !is_plain(value) {
                let message = format!("`{name}={value}` is no attribute of a cookie");
                report.rejected(rule.origin_at(attribute.at), message);
                continue;
            }
            attributes.push((name.into(), value.into()));
        }
        keys.push(HashKey::Cookie {
            name: cookie.name.as_str().into(),
            path: cookie.path.as_deref().unwrap_or_default().into(),
            ttl: cookie.ttl.map(heddle_api::Duration::as_std),
            attributes,
        });
    }
    if written.use_source_ip == Some(true) {
        keys.push(HashKey::SourceAddress);
    }
    if let Some(name) = text(&written.http_query_parameter_name) {
        keys.push(HashKey::Query(Arc::from(name)));
    }
    let only = keys.len() == 1;
    let Some(key) = keys.into_iter().next().filter(|_| only) else {
        report.rejected(rule.origin_at(written.at), "a consistent hash needs exactly one key");
        return None;
    };
    let size = |field: &str, size: Option<i64>, default: u32, max: u32, report: &mut Report| {
        let Some(size) = size.filter(|size| *size != 0) else { return default };
        u32::try_from(size).ok().filter(|size| *size <= max).unwrap_or_else(|| {
            report.rejected(of(field), format!("the size is at most {max}"));
            max
        })
    };
    let algorithm = if let Some(maglev) = &written.maglev {
        let table_size = size("maglev", maglev.table_size, MAGLEV_SIZE, MAGLEV_SIZE_MAX, report);
        if !is_prime(table_size) || written.ring_hash.is_some() {
            let message = match written.ring_hash {
                Some(_) => "`maglev` and `ringHash` exclude each other",
                None => "the size of a Maglev table is a prime number",
            };
            report.rejected(of("maglev"), message);
            return None;
        }
        HashAlgorithm::Maglev { table_size }
    } else {
        let own = written.ring_hash.as_ref().and_then(|ring| ring.minimum_ring_size);
        let size_min =
            size("ringHash", own.or(written.minimum_ring_size), RING_SIZE, RING_SIZE_MAX, report);
        HashAlgorithm::Ring { size_min }
    };
    Some(LoadBalancing::ConsistentHash { key, algorithm })
}

/// Whether a text neither ends an attribute of a cookie nor the header (RFC 6265 section 4.1.1).
fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b';')
}

fn is_prime(number: u32) -> bool {
    number > 1 && (2..=number.isqrt()).all(|divisor| !number.is_multiple_of(divisor))
}

#[cfg(test)]
mod tests {
    #[test]
    fn primes() {
        let primes: Vec<u32> = (0..30).filter(|number| super::is_prime(*number)).collect();
        assert_eq!(primes, [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]);
        assert!(super::is_prime(65_537) && !super::is_prime(65_537 * 3));
    }
}
