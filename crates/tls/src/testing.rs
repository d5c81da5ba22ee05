//! Fixtures: roots and leaves of any shape, and handshakes in memory.

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{
    CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DistinguishedName,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConnection, ServerConnection};
use rustls_pki_types::ServerName;

use heddle_cert::{Root, RootId, Svid, TrustBundle, Validity};
use heddle_ident::{SpiffeId, TrustDomain};

use crate::certificate::root_from_der;
use crate::{Identity, ManualClock, MeshClient, MeshServer, WorkloadKey, default_provider};

pub(crate) const DAY: Duration = Duration::from_hours(24);

pub(crate) fn start() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_hours(500_000)
}

pub(crate) fn domain(name: &str) -> TrustDomain {
    TrustDomain::parse(name).unwrap()
}

pub(crate) fn id(text: &str) -> SpiffeId {
    SpiffeId::parse(text).unwrap()
}

/// A root that signs whatever it is told.
pub(crate) struct TestRoot {
    pub(crate) root: Root,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl TestRoot {
    pub(crate) fn new(provider: &CryptoProvider, name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let root = root_from_der(provider, issuer.der()).unwrap();
        Self { root, issuer }
    }

    pub(crate) fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }

    /// A revocation list with these serial numbers that is overdue after `until`, in DER.
    pub(crate) fn revocation_list(&self, serials: &[u64], until: SystemTime) -> Vec<u8> {
        let time = |at: SystemTime| {
            date_time_ymd(1970, 1, 1) + at.duration_since(SystemTime::UNIX_EPOCH).unwrap()
        };
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: time(start()),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: time(start() - DAY),
            next_update: time(until),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().der().to_vec()
    }

    /// A certificate and its key; `change` may spoil a good leaf in any way.
    pub(crate) fn leaf(
        &self,
        provider: &CryptoProvider,
        uri: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Arc<Svid<WorkloadKey>> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        set_times(&mut params, start(), start() + DAY);
        change(&mut params);
        let pair = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&pair, &self.issuer).unwrap();
        // As long as the tests' clock moves, so that an identity can be used that peers must refuse.
        let validity =
            Validity { not_before: SystemTime::UNIX_EPOCH, not_after: start() + DAY * 999 };
        Arc::new(Svid {
            identity: id("spiffe://td/ns/shop/sa/installed"),
            key: WorkloadKey::from_pair(provider, &pair),
            chain: vec![leaf.der().as_ref().into()],
            validity,
            root: self.root.id.clone(),
        })
    }
}

pub(crate) fn set_times(params: &mut CertificateParams, from: SystemTime, to: SystemTime) {
    let since = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    params.not_before = date_time_ymd(1970, 1, 1) + since(from);
    params.not_after = date_time_ymd(1970, 1, 1) + since(to);
}

pub(crate) fn bundle(generation: u64, own: &str, roots: &[&TestRoot]) -> TrustBundle {
    let roots: Vec<Root> = roots.iter().map(|root| root.root.clone()).collect();
    let signer: RootId = roots[0].id.clone();
    TrustBundle::new(generation, domain(own), signer, roots).unwrap()
}

/// A provider, a clock and one root of the trust domain `td`.
pub(crate) struct Fixture {
    pub(crate) provider: Arc<CryptoProvider>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) root: TestRoot,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let provider = default_provider();
        let clock = Arc::new(ManualClock::new(start() + Duration::from_secs(1)));
        let root = TestRoot::new(&provider, "one");
        Self { provider, clock, root }
    }

    pub(crate) fn holder(&self) -> Identity {
        Identity::new(self.provider.clone(), self.clock.clone())
    }

    /// A holder with a leaf of `uri`, signed by the root of this fixture, that trusts that root.
    pub(crate) fn identity(&self, uri: &str) -> Identity {
        let leaf = self.root.leaf(&self.provider, uri, |_| {});
        self.identity_of(leaf, &bundle(1, "td", &[&self.root]))
    }

    pub(crate) fn identity_of(
        &self,
        leaf: Arc<Svid<WorkloadKey>>,
        bundle: &TrustBundle,
    ) -> Identity {
        let holder = self.holder();
        holder.install(leaf, bundle).unwrap();
        holder
    }
}

/// Both ends of a finished handshake.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) client: ClientConnection,
    pub(crate) server: ServerConnection,
}

/// Which side refused.
#[derive(Debug)]
pub(crate) enum Refusal {
    Client(rustls::Error),
    Server(rustls::Error),
}

pub(crate) fn connect(client: &MeshClient, server: &MeshServer) -> Result<Pair, Refusal> {
    connect_with(client.config().clone(), server.config().clone())
}

/// A handshake in memory, and a byte each way, so that tickets and late alerts arrive.
pub(crate) fn connect_with(
    client: Arc<rustls::ClientConfig>,
    server: Arc<rustls::ServerConfig>,
) -> Result<Pair, Refusal> {
    let name = ServerName::try_from("outbound_.80_._.a.b").unwrap();
    let mut pair = Pair {
        client: ClientConnection::new(client, name).unwrap(),
        server: ServerConnection::new(server).unwrap(),
    };
    pair.exchange()?;
    pair.client.writer().write_all(b"!").unwrap();
    pair.server.writer().write_all(b"?").unwrap();
    pair.exchange()?;
    let mut byte = [0];
    pair.server.reader().read_exact(&mut byte).unwrap();
    pair.client.reader().read_exact(&mut byte).unwrap();
    Ok(pair)
}

impl Pair {
    pub(crate) fn exchange(&mut self) -> Result<(), Refusal> {
        let mut wire = Vec::new();
        loop {
            let mut moved = false;
            while self.client.wants_write() {
                moved |= self.client.write_tls(&mut wire).unwrap() > 0;
            }
            let mut rest = wire.as_slice();
            while !rest.is_empty() {
                self.server.read_tls(&mut rest).unwrap();
                self.server.process_new_packets().map_err(Refusal::Server)?;
            }
            wire.clear();
            while self.server.wants_write() {
                moved |= self.server.write_tls(&mut wire).unwrap() > 0;
            }
            let mut rest = wire.as_slice();
            while !rest.is_empty() {
                self.client.read_tls(&mut rest).unwrap();
                self.client.process_new_packets().map_err(Refusal::Client)?;
            }
            wire.clear();
            if !moved {
                return Ok(());
            }
        }
    }
}
