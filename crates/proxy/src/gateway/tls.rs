//! How a gateway's server takes TLS off: what is configured, out of secrets, files and the mesh's own identity.

use std::sync::Arc;

use heddle_ir::gateway::{AuthoritySource, CertificateSource};
use heddle_ir::secret::{Secret, SecretKey};
use heddle_tls::{
    Clock, ServerCertificate, TerminationConfig, TerminationMaterial, alpn, default_provider,
};

use crate::origination::read;
use crate::snapshot::ServerTlsState;

/// What is spoken inside of TLS, best first.
const PROTOCOLS: &[&[u8]] = &[alpn::H2, alpn::HTTP_11];

/// What accepts the connections of a server.
#[derive(Debug)]
pub(crate) enum Acceptor {
    /// The identity that the mesh gave the workload, as it is when a connection comes; only peers of the mesh connect.
    Mesh,
    /// Certificates that users bring.
    Own(Box<TerminationConfig>),
}

impl ServerTlsState {
    /// What accepts connections; made once. The error is a sentence for the operator.
    pub(crate) fn acceptor(
        &self,
        clock: &Arc<dyn Clock>,
        speaks_http: bool,
    ) -> Result<&Acceptor, &String> {
        self.acceptor.get_or_init(|| self.make(clock.clone(), speaks_http)).as_ref()
    }

    fn make(&self, clock: Arc<dyn Clock>, speaks_http: bool) -> Result<Acceptor, String> {
        let termination = &self.termination;
        if termination.certificates.contains(&CertificateSource::Mesh) {
            if !matches!(termination.client_authority, Some(AuthoritySource::Mesh)) {
                return Err("the mesh's certificate is only presented to the mesh".to_owned());
            }
            return Ok(Acceptor::Mesh);
        }
        let mut material = TerminationMaterial::default();
        let mut missing = Vec::new();
        for source in &termination.certificates {
            match self.certificate(source) {
                Ok(certificate) => material.certificates.push(certificate),
                Err(problem) => missing.push(problem),
            }
        }
        self.add_authorities(&mut material)?;
        let protocols = if speaks_http { PROTOCOLS } else { &[] };
        let provider = default_provider();
        let made = TerminationConfig::new(&provider, clock, termination, &material, protocols);
        let config = made.map_err(|error| {
            let why = heddle_diag::error_chain(&error);
            missing.iter().fold(why, |why, problem| format!("{why}; {problem}"))
        })?;
        for problem in missing.iter().chain(config.problems()) {
            tracing::warn!(problem, "a certificate of a gateway is not presented; others are");
        }
        Ok(Acceptor::Own(Box::new(config)))
    }

    fn secret(&self, key: &SecretKey) -> Result<&Arc<Secret>, String> {
        let SecretKey { namespace, name, .. } = key;
        self.secrets.get(key).ok_or_else(|| format!("there is no secret {namespace}/{name}"))
    }

    fn certificate(&self, source: &CertificateSource) -> Result<ServerCertificate, String> {
        match source {
            CertificateSource::Files { chain_path, key_path } => Ok(ServerCertificate {
                name: chain_path.to_string(),
                chain_pem: read(chain_path)?,
                key_pem: read(key_path)?,
            }),
            CertificateSource::Mesh => Err("the mesh's certificate stands alone".to_owned()),
            CertificateSource::Secret(key) => {
                let secret = self.secret(key)?;
                Ok(ServerCertificate {
                    name: format!("{}/{}", key.namespace, key.name),
                    chain_pem: secret.certificate_chain.clone(),
                    key_pem: secret.private_key.clone(),
                })
            }
        }
    }

    /// A secret beside the one with the certificate need not have an authority; one of all must.
    fn add_authorities(&self, material: &mut TerminationMaterial) -> Result<(), String> {
        match &self.termination.client_authority {
            None | Some(AuthoritySource::Mesh) => {}
            Some(AuthoritySource::File(path)) => {
                material.authorities_pem.push(read(path)?);
                // A list that cannot be read revokes nothing, so nobody is let in without it.
                if let Some(path) = &self.termination.revocations_path {
                    material.revocations_pem.push(read(path)?);
                }
            }
            Some(AuthoritySource::Secrets(keys)) => {
                for key in keys {
                    let Ok(secret) = self.secret(key) else { continue };
                    material.authorities_pem.push(secret.authority.clone());
                    material.revocations_pem.push(secret.revocations.clone());
                }
                if material.authorities_pem.iter().all(|pem| pem.is_empty()) {
                    let names = keys.iter().map(|key| format!("{}/{}", key.namespace, key.name));
                    let names: Vec<String> = names.collect();
                    return Err(format!("no authority for clients is in {}", names.join(", ")));
                }
            }
        }
        Ok(())
    }
}
