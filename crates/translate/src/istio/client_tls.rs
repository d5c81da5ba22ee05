//! `tls` of a traffic policy: how connections to a destination are secured (API.md 2.2).

use std::sync::Arc;

use heddle_api::Written;
use heddle_api::istio::{ClientTlsMode, ClientTlsSettings};
use heddle_diag::Origin;
use heddle_ir::destination::{ClientTls, TlsOrigination};
use heddle_ir::secret::{SecretKey, SecretKind};

use crate::codes;
use crate::istio::gateway_tls::{AUTHORITY_SUFFIX, secret_key};
use crate::istio::traffic_policy::{Block, Policies};
use crate::mesh::Mesh;
use crate::options::Profile;
use crate::report::Report;

/// Transport security towards a destination.
pub(crate) struct Security {
    pub(crate) tls: ClientTls,
    /// Names that a peer of the mesh may have besides its own.
    pub(crate) subject_alt_names: Vec<Arc<str>>,
    /// Server name sent to peers of the mesh.
    pub(crate) mesh_server_name: Option<Arc<str>>,
}

/// Who connects.
#[derive(Clone, Copy)]
pub(crate) struct Connecting<'a> {
    /// Its namespace, where its Secrets are.
    pub(crate) namespace: &'a str,
    /// It is a gateway, which reads Secrets for every rule.
    pub(crate) is_gateway: bool,
    pub(crate) profile: Profile,
}

impl Security {
    fn of(tls: ClientTls) -> Self {
        Self { tls, subject_alt_names: Vec::new(), mesh_server_name: None }
    }
}

impl Policies<'_> {
    /// Transport security. A block that cannot be read means mutual TLS with the mesh's identities: never plaintext by
    /// mistake.
    pub(crate) fn security(
        &self,
        mesh: &Mesh,
        connecting: Connecting<'_>,
        report: &mut Report,
    ) -> Security {
        let Some(Block { written, parent, value }) = self.tls else {
            return Security::of(if mesh.auto_mtls { ClientTls::Auto } else { ClientTls::Disable });
        };
        if written.is_field_broken(parent, "tls") {
            return Security::of(ClientTls::Mesh);
        }
        let code = if self.of_port { codes::NO_CA_OF_PORT } else { codes::NO_CA };
        check(written, value, code, report);
        let names = || value.subject_alt_names.iter().map(|name| name.as_str().into()).collect();
        // The mode is an enum whose first value is DISABLE, which is what an absent one means.
        match value.mode.unwrap_or(ClientTlsMode::Disable) {
            ClientTlsMode::Disable => Security::of(ClientTls::Disable),
            ClientTlsMode::IstioMutual => Security {
                tls: ClientTls::Mesh,
                subject_alt_names: names(),
                mesh_server_name: text(value.sni.as_ref()),
            },
            mode => Security::of(ClientTls::Originate(
                self.origination(written, value, mode, connecting, report),
            )),
        }
    }

    fn origination(
        &self,
        written: &Written,
        value: &ClientTlsSettings,
        mode: ClientTlsMode,
        connecting: Connecting<'_>,
        report: &mut Report,
    ) -> TlsOrigination {
        let paths = (mode == ClientTlsMode::Mutual)
            .then(|| text(value.client_certificate.as_ref()).zip(text(value.private_key.as_ref())))
            .flatten();
        let mut credential = text(value.credential_name.as_ref());
        if credential.is_some() && !self.of_clients && !connecting.is_gateway {
            let origin = written.origin_of(value.at, "credentialName");
            match connecting.profile {
                // Read by every client of the rule, out of its own namespace.
                Profile::Heddle => {}
                Profile::IstioSidecar | Profile::Linkerd => {
                    let why = "sidecars read Secrets only for rules with `workloadSelector`";
                    report.warning(codes::UPSTREAM_WARNING, origin.clone(), why);
                    report.ignored(origin, why);
                    credential = None;
                }
            }
        }
        let skip = value.insecure_skip_verify.unwrap_or(false);
        let key = credential.map(|name| secret_key(&name, connecting.namespace));
        // A ConfigMap holds an authority and no certificate, and SIMPLE shows none.
        let has_certificate = mode == ClientTlsMode::Mutual;
        let credential =
            key.clone().filter(|key| has_certificate && key.kind == SecretKind::Secret);
        TlsOrigination {
            server_name: text(value.sni.as_ref()).unwrap_or_default(),
            ca_certificates_path: text(value.ca_certificates.as_ref()),
            client_certificate_paths: paths,
            subject_alt_names: value
                .subject_alt_names
                .iter()
                .map(|name| name.as_str().into())
                .collect(),
            insecure_skip_verify: skip,
            credential,
            ca_certificates: key.iter().flat_map(authorities_of).collect(),
            revocations_path: text(value.ca_crl.as_ref()),
        }
    }
}

/// Where the authority of a credential may be: beside it, or in it.
fn authorities_of(key: &SecretKey) -> [SecretKey; 2] {
    let name = format!("{}{AUTHORITY_SUFFIX}", key.name).into();
    [SecretKey { name, ..key.clone() }, key.clone()]
}

fn text(text: Option<&String>) -> Option<Arc<str>> {
    text.map(String::as_str).filter(|text| !text.is_empty()).map(Arc::from)
}

/// Istio's rules for TLS settings.
fn check(
    place: &Written,
    value: &ClientTlsSettings,
    no_authority: &'static heddle_diag::Code,
    report: &mut Report,
) {
    let of = |field: &str| place.origin_of(value.at, field);
    let set = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
    if value.insecure_skip_verify == Some(true) {
        if set(&value.ca_certificates) {
            report.rejected(
                of("caCertificates"),
                "`insecureSkipVerify` leaves nothing to verify with it",
            );
        }
        if value.mode == Some(ClientTlsMode::Simple) && set(&value.credential_name) {
            report.rejected(
                of("credentialName"),
                "`insecureSkipVerify` leaves nothing to verify with it",
            );
        }
        if !value.subject_alt_names.is_empty() {
            report.rejected(
                of("subjectAltNames"),
                "`insecureSkipVerify` leaves nothing to verify with it",
            );
        }
    }
    let by_secret = set(&value.credential_name);
    let originates = matches!(value.mode, Some(ClientTlsMode::Simple | ClientTlsMode::Mutual));
    let authority = set(&value.ca_certificates) || by_secret;
    if originates && !authority && value.insecure_skip_verify != Some(true) {
        let message = "no `caCertificates`: the roots of the operating system are trusted";
        report.warning(no_authority, of("mode"), message);
    }
    match value.mode.unwrap_or(ClientTlsMode::Disable) {
        ClientTlsMode::IstioMutual => {
            for (field, set) in [
                ("clientCertificate", set(&value.client_certificate)),
                ("privateKey", set(&value.private_key)),
                ("caCertificates", set(&value.ca_certificates)),
                ("credentialName", by_secret),
            ] {
                if set {
                    report
                        .rejected(of(field), "with ISTIO_MUTUAL the mesh's certificates are used");
                }
            }
        }
        ClientTlsMode::Mutual if by_secret => {
            for (field, set) in [
                ("clientCertificate", set(&value.client_certificate)),
                ("privateKey", set(&value.private_key)),
            ] {
                if set {
                    report.rejected(of(field), "`credentialName` excludes files");
                }
            }
        }
        ClientTlsMode::Mutual => {
            for (field, set) in [
                ("clientCertificate", set(&value.client_certificate)),
                ("privateKey", set(&value.private_key)),
            ] {
                if !set {
                    report
                        .rejected(of(field), format!("MUTUAL needs `{field}` or `credentialName`"));
                }
            }
        }
        ClientTlsMode::Simple | ClientTlsMode::Disable => {}
    }
    if set(&value.ca_crl) {
        check_revocations(value, of("caCrl"), report);
    }
}

/// A revocation list is read where a certificate is verified with files.
fn check_revocations(value: &ClientTlsSettings, origin: Origin, report: &mut Report) {
    let by_secret = value.credential_name.as_deref().is_some_and(|name| !name.is_empty());
    let why = match value.mode.unwrap_or(ClientTlsMode::Disable) {
        ClientTlsMode::Disable => "without TLS there is no certificate that could be revoked",
        ClientTlsMode::IstioMutual => {
            "with ISTIO_MUTUAL the mesh's own revocations count: `heddle certs revoke`"
        }
        _ if value.insecure_skip_verify == Some(true) => {
            "`insecureSkipVerify` leaves nothing to verify with it"
        }
        _ if by_secret => "`credentialName` excludes files; the key `ca.crl` of its Secret counts",
        _ => return,
    };
    report.rejected(origin, why);
}
