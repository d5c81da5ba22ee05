//! Certificates of an authority outside of the mesh, and the secrets that hold them.

use std::sync::Arc;

use heddle_ir::secret::{Secret, SecretKey, SecretKind};
use rcgen::{
    CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType, IsCa, KeyIdMethod,
    KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};

/// An authority outside of the mesh.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key in PEM.
pub(crate) struct Leaf {
    pub(crate) chain: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for a host and its address as a URI; `serial` tells it apart for revocation.
    pub(crate) fn leaf(&self, host: &str, serial: u64) -> Leaf {
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        let uri = format!("spiffe://outside/{host}");
        params.subject_alt_names.push(SanType::URI(uri.try_into().unwrap()));
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Shop");
        params.distinguished_name.push(DnType::CommonName, host);
        params.serial_number = Some(SerialNumber::from(serial));
        let key = KeyPair::generate().unwrap();
        let chain = params.signed_by(&key, &self.0).unwrap().pem();
        Leaf { chain, key: key.serialize_pem() }
    }

    pub(crate) fn revocations(&self, serial: u64) -> String {
        let revoked = RevokedCertParams {
            serial_number: SerialNumber::from(serial),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(2124, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.0).unwrap().pem().unwrap()
    }
}

pub(crate) fn key(name: &str) -> SecretKey {
    SecretKey { kind: SecretKind::Secret, namespace: "default".into(), name: name.into() }
}

pub(crate) fn bytes(text: &str) -> Arc<[u8]> {
    text.as_bytes().into()
}

pub(crate) fn secret(name: &str, leaf: &Leaf) -> Secret {
    Secret {
        key: key(name),
        certificate_chain: bytes(&leaf.chain),
        private_key: bytes(&leaf.key),
        authority: Arc::default(),
        revocations: Arc::default(),
    }
}
