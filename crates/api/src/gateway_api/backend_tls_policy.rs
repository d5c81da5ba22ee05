//! BackendTLSPolicy.

use std::collections::BTreeMap;

use super::common::LocalObjectReference;
use super::rules;
use crate::check;

object! {
    /// TLS towards the endpoints of services.
    BackendTlsPolicy {
        /// Settings of an implementation.
        "options" => options: BTreeMap<String, String> [count(0, 16), item_len(0, 4096)],
        /// The services, or their ports.
        "targetRefs" => target_refs: Vec<PolicyTarget> [required, count(1, 16)],
        /// How the endpoint's certificate is checked.
        "validation" => validation: BackendTlsValidation [required],
    }
    check rules::backend_tls_policy
}

object! {
    /// What a policy applies to.
    PolicyTarget {
        /// API group.
        "group" => group: String [required, len(0, 253), check(check::dns_name_or_empty)],
        /// Kind.
        "kind" => kind: String [required, len(1, 63), check(check::kind_name)],
        /// Name, in the policy's namespace.
        "name" => name: String [required, len(1, 253)],
        /// Only the port of this name.
        "sectionName" => section_name: Option<String> [len(1, 253), check(check::dns_name)],
    }
}

object! {
    /// How the endpoint's certificate is checked.
    BackendTlsValidation {
        /// ConfigMaps with the roots under `ca.crt`.
        "caCertificateRefs" => ca_certificate_refs: Vec<LocalObjectReference> [count(0, 8)],
        /// The server name that is asked for, and the name the certificate must have unless `subjectAltNames` says others.
        "hostname" => hostname: String [required, len(1, 253), check(check::dns_name)],
        /// Names of which the certificate must have one.
        "subjectAltNames" => subject_alt_names: Vec<SubjectAltName> [count(0, 5)],
        /// `System`: the roots of the operating system.
        "wellKnownCACertificates" => well_known_ca_certificates: Option<String> [len(1, 253), check(rules::well_known_ca)],
    }
    check rules::backend_tls_validation
}

object! {
    /// A name of a certificate.
    SubjectAltName {
        /// The name, for the type `Hostname`.
        "hostname" => hostname: Option<String> [len(1, 253), check(rules::hostname)],
        /// Which of the two.
        "type" => kind: Option<SubjectAltNameType> [required],
        /// The URI, for the type `URI`.
        "uri" => uri: Option<String> [len(1, 253), check(rules::absolute_uri)],
    }
    check rules::subject_alt_name
}

choice! {
    /// Types of names of a certificate.
    SubjectAltNameType {
        "Hostname" => Hostname,
        "URI" => Uri,
    }
}
