use std::sync::Arc;
use std::time::Duration;

use rcgen::{KeyPair, PKCS_ED25519};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::{FromDer, X509Certificate};

use heddle_cert::{
    Authority, Crypto, HolderId, Issuance, IssuancePolicy, Issued, Step, TrustBundle,
};

use super::*;
use crate::testing::{DAY, domain, id, start};
use crate::{Keys, default_provider};

const WEB: &str = "spiffe://td/ns/shop/sa/web";

fn root() -> SigningRoot {
    SigningRoot::generate(default_provider(), &domain("td"), start(), DAY * 365).unwrap()
}

fn bundle_of(root: &SigningRoot) -> TrustBundle {
    let held = root.root().clone();
    TrustBundle::new(1, domain("td"), held.id.clone(), vec![held]).unwrap()
}

fn day() -> Validity {
    Validity { not_before: start() - BACKDATE, not_after: start() + DAY }
}

fn sign(root: &SigningRoot, request: &[u8], who: &str) -> Result<Vec<Arc<[u8]>>, SignError> {
    root.sign(request, &id(who), day(), root.new_serial()?)
}

fn request_named(names: Vec<SanType>) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.subject_alt_names = names;
    let pair = KeyPair::generate().unwrap();
    params.serialize_request(&pair).unwrap().der().to_vec()
}

#[test]
fn a_leaf_carries_the_identity_and_nothing_more() {
    let (root, keys) = (root(), Keys::new(default_provider()));
    let (key, request) = keys.make_key(&id(WEB)).unwrap();
    let chain = sign(&root, &request, WEB).unwrap();
    assert_eq!(chain.len(), 1);
    let (_, leaf) = X509Certificate::from_der(&chain[0]).unwrap();
    let names = leaf.subject_alternative_name().unwrap().unwrap();
    assert!(names.critical, "the subject is empty (RFC 5280 section 4.2.1.6)");
    assert_eq!(names.value.general_names.len(), 1);
    assert_eq!(leaf.subject().iter().count(), 0);
    let usage = leaf.key_usage().unwrap().unwrap().value;
    assert!(usage.digital_signature() && !usage.key_cert_sign() && !usage.key_encipherment());
    let extended = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(extended.server_auth && extended.client_auth && !extended.any);
    assert!(!leaf.basic_constraints().unwrap().unwrap().value.ca);
    assert_eq!(leaf.raw_serial().len(), 16);
    let validity = validity_of(&chain[0]).unwrap();
    assert_eq!(validity, day());
    let checked = keys.check_chain(&key, &id(WEB), &chain, &bundle_of(&root)).unwrap();
    assert_eq!(checked, validity);
}

#[test]
fn a_root_signs_leaves_and_no_authorities() {
    let root = root();
    let (_, certificate) = X509Certificate::from_der(&root.root().der).unwrap();
    let constraints = certificate.basic_constraints().unwrap().unwrap();
    assert!(constraints.critical && constraints.value.ca);
    assert_eq!(constraints.value.path_len_constraint, Some(0));
    let usage = certificate.key_usage().unwrap().unwrap().value;
    assert!(usage.key_cert_sign() && usage.crl_sign() && !usage.digital_signature());
    assert_ne!(root.root().id, self::root().root().id);
    assert_eq!(root.root().validity.not_before, start() - BACKDATE);
    assert_eq!(root.root().validity.not_after, start() + DAY * 365);
}

#[test]
fn a_request_for_anything_but_the_authorised_identity_is_refused() {
    let root = root();
    let uri = |text: &str| SanType::URI(text.try_into().unwrap());
    for names in [
        vec![uri("spiffe://td/ns/shop/sa/admin")],
        vec![uri(WEB), uri("spiffe://td/ns/shop/sa/admin")],
        vec![uri(WEB), SanType::DnsName("web.shop".try_into().unwrap())],
        vec![SanType::DnsName(WEB.try_into().unwrap())],
        vec![uri("spiffe://td/ns/shop/sa/web/")],
        vec![],
    ] {
        let error = sign(&root, &request_named(names.clone()), WEB).unwrap_err();
        assert!(matches!(error, SignError::IdentityMismatch { .. }), "{names:?}: {error}");
    }
    assert!(sign(&root, &request_named(vec![uri(WEB)]), WEB).is_ok());
}

#[test]
fn the_sender_must_hold_the_key() {
    let root = root();
    let (_, request) = Keys::new(default_provider()).make_key(&id(WEB)).unwrap();
    let (_, parsed) = X509CertificationRequest::from_der(&request).unwrap();
    let signed = parsed.certification_request_info.raw;
    let offset = request.windows(signed.len()).position(|part| part == signed).unwrap();
    // Every signed byte changed, one at a time: what still parses has a signature that no longer fits.
    for index in offset..offset + signed.len() {
        let mut forged = request.to_vec();
        forged[index] ^= 1;
        assert!(sign(&root, &forged, WEB).is_err(), "byte {index}");
    }
    assert!(matches!(sign(&root, b"", WEB), Err(SignError::Request { .. })));
    assert!(matches!(
        sign(&root, &vec![0; REQUEST_BYTES_MAX + 1], WEB),
        Err(SignError::RequestTooLarge { .. })
    ));
}

#[test]
fn other_kinds_of_keys_are_refused() {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(WEB.try_into().unwrap())];
    let pair = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let request = params.serialize_request(&pair).unwrap();
    assert!(matches!(sign(&root(), request.der(), WEB), Err(SignError::KeyNotSupported)));
}

#[test]
fn nothing_else_is_taken_over_from_a_request() {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(WEB.try_into().unwrap())];
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.distinguished_name.push(DnType::CommonName, "admin");
    let request = params.serialize_request(&KeyPair::generate().unwrap()).unwrap();
    let Ok(chain) = sign(&root(), request.der(), WEB) else { return };
    let (_, leaf) = X509Certificate::from_der(&chain[0]).unwrap();
    assert!(!leaf.is_ca());
    assert!(!leaf.key_usage().unwrap().unwrap().value.key_cert_sign());
    assert_eq!(leaf.subject().iter().count(), 0);
}

#[test]
fn a_chain_for_another_key_identity_or_root_is_not_taken() {
    let (root, keys) = (root(), Keys::new(default_provider()));
    let (key, request) = keys.make_key(&id(WEB)).unwrap();
    let (other_key, _) = keys.make_key(&id(WEB)).unwrap();
    let chain = sign(&root, &request, WEB).unwrap();
    let check = |key, who: &str, chain: &[Arc<[u8]>], root: &SigningRoot| {
        keys.check_chain(key, &id(who), chain, &bundle_of(root)).map_err(|error| error.0)
    };
    assert!(check(&key, WEB, &chain, &root).is_ok());
    assert_eq!(
        check(&other_key, WEB, &chain, &root).unwrap_err(),
        "the certificate is for another key"
    );
    assert!(check(&key, "spiffe://td/x", &chain, &root).unwrap_err().contains("expected"));
    assert!(check(&key, WEB, &chain, &self::root()).unwrap_err().contains("vouches"));
    assert_eq!(check(&key, WEB, &[], &root).unwrap_err(), "the chain is empty");
    assert!(check(&key, WEB, &[b"x".as_slice().into()], &root).is_err());
}

#[test]
fn an_authority_survives_its_way_through_the_store() {
    let root = root();
    let read =
        SigningRoot::from_pem(default_provider(), &root.chain_pem(), &root.key_pem()).unwrap();
    assert_eq!(read.root(), root.root());
    let keys = Keys::new(default_provider());
    let (key, request) = keys.make_key(&id(WEB)).unwrap();
    let chain = sign(&read, &request, WEB).unwrap();
    keys.check_chain(&key, &id(WEB), &chain, &bundle_of(&root)).unwrap();
    let other = self::root();
    let error = SigningRoot::from_pem(default_provider(), &root.chain_pem(), &other.key_pem());
    assert!(matches!(error, Err(SignError::KeyMismatch { .. })));
    assert!(SigningRoot::from_pem(default_provider(), "", &root.key_pem()).is_err());
    assert!(!format!("{root:?}").contains("PRIVATE"));
}

#[test]
fn an_intermediate_from_files_signs_below_its_root() {
    let provider = default_provider();
    let top = crate::testing::TestRoot::new(&provider, "top");
    let pair = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "between");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let between = params.signed_by(&pair, top.issuer()).unwrap();
    let pem = format!("{}{}", between.pem(), pem_of("CERTIFICATE", &top.root.der));
    let authority = SigningRoot::from_pem(provider, &pem, &pair.serialize_pem()).unwrap();
    assert_eq!(authority.root().id, top.root.id);
    let keys = Keys::new(default_provider());
    let (key, request) = keys.make_key(&id(WEB)).unwrap();
    let chain = sign(&authority, &request, WEB).unwrap();
    assert_eq!(chain.len(), 2);
    keys.check_chain(&key, &id(WEB), &chain, &bundle_of(&authority)).unwrap();
    assert!(keys.check_chain(&key, &id(WEB), &chain[..1], &bundle_of(&authority)).is_err());
}

#[test]
fn the_machines_of_cert_run_on_real_keys() {
    let root = root();
    let mut authority = Authority::new(domain("td"), root.root().clone(), start());
    let keys = Keys::new(default_provider());
    let mut issuance = Issuance::new(id(WEB), IssuancePolicy::default(), 1);
    let Step::Request { attempt, csr } = issuance.poll(start(), &keys) else {
        panic!("no request")
    };
    let lifetime = Duration::from_secs(3);
    let serial = root.new_serial().unwrap();
    let holder = HolderId::new("p");
    let plan = authority.issue(start(), &holder, &id(WEB), lifetime, serial).unwrap();
    let chain = root.sign(&csr, &id(WEB), plan.validity, plan.serial).unwrap();
    let bundle = Arc::new(authority.bundle().unwrap());
    let issued = Issued { chain, root: plan.root, bundle };
    issuance.handle_issued(start(), &keys, attempt, issued).unwrap();
    assert!(issuance.current(start() + lifetime).is_some());
    assert!(issuance.current(start() + lifetime + Duration::from_millis(1)).is_none());
}
