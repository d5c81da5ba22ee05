use std::collections::BTreeMap;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
    NameConstraints,
};

use super::*;
use crate::default_provider;
use crate::testing::{DAY, TestRoot, domain, set_times, start};

type Files = BTreeMap<String, Zeroizing<Vec<u8>>>;

/// A root, an intermediate and the authority below it that is plugged in.
struct Made {
    root: TestRoot,
    files: Files,
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_times(&mut params, start() - DAY, start() + DAY * 30);
    params
}

fn pem(der: &[u8]) -> String {
    pem_of("CERTIFICATE", der)
}

fn made(change: impl FnOnce(&mut CertificateParams)) -> Made {
    let root = TestRoot::new(&default_provider(), "root");
    let middle = CertifiedIssuer::signed_by(
        authority_params("middle"),
        KeyPair::generate().unwrap(),
        root.issuer(),
    )
    .unwrap();
    let mut params = authority_params("own");
    change(&mut params);
    let own = CertifiedIssuer::signed_by(params, KeyPair::generate().unwrap(), &middle).unwrap();
    let mut files = Files::new();
    for (name, text) in [
        ("ca-cert.pem", pem(own.der())),
        ("ca-key.pem", own.key().serialize_pem()),
        ("cert-chain.pem", [pem(own.der()), pem(middle.der()), pem(&root.root.der)].concat()),
        ("root-cert.pem", pem(&root.root.der)),
    ] {
        files.insert(name.to_owned(), Zeroizing::new(text.into_bytes()));
    }
    Made { root, files }
}

fn read(files: &Files) -> Result<PluggedIn, PluggedInError> {
    PluggedIn::read(&default_provider(), files, &domain("td"), start())
}

fn put(files: &mut Files, name: &str, text: impl Into<Vec<u8>>) {
    files.insert(name.to_owned(), Zeroizing::new(text.into()));
}

#[test]
fn an_intermediate_signs_and_its_chain_is_sent_without_the_root() {
    let made = made(|_| {});
    let plugged = read(&made.files).unwrap();
    assert_eq!(plugged.signer.root().id, made.root.root.id);
    assert_eq!(plugged.signer.intermediates().count(), 2);
    assert_eq!(plugged.signer.not_after(), start() + DAY * 30, "of what signs, not of the root");
    let identity = SpiffeId::parse("spiffe://td/ns/n/sa/a").unwrap();
    let keys = Keys::new(default_provider());
    let (key, request) = keys.make_key(&identity).unwrap();
    let validity = Validity { not_before: start(), not_after: start() + DAY };
    let serial = plugged.signer.new_serial().unwrap();
    let chain = plugged.signer.sign(&request, &identity, validity, serial).unwrap();
    assert_eq!(chain.len(), 3, "leaf, own, middle");
    let root = plugged.signer.root().clone();
    let bundle = TrustBundle::new(1, domain("td"), root.id.clone(), vec![root]).unwrap();
    keys.check_chain(&key, &identity, &chain, &bundle).unwrap();
    let restored = SigningRoot::from_pem(
        default_provider(),
        &plugged.signer.chain_pem(),
        &plugged.signer.key_pem(),
    );
    assert_eq!(restored.unwrap().root().id, made.root.root.id, "as the store gives it back");
}

#[test]
fn a_root_alone_and_the_names_of_a_tls_secret_do() {
    let made = made(|_| {});
    let root = SigningRoot::generate(default_provider(), &domain("td"), start(), DAY).unwrap();
    let mut files = Files::new();
    put(&mut files, "tls.crt", root.chain_pem());
    put(&mut files, "tls.key", root.key_pem().as_bytes());
    put(&mut files, "ca.crt", [root.chain_pem(), pem(&made.root.root.der)].concat());
    let plugged = read(&files).unwrap();
    assert_eq!(plugged.signer.root().id, root.root().id);
    assert_eq!((plugged.signer.intermediates().count(), plugged.roots.len()), (0, 2));
}

/// What is wrong, in one line.
fn refusal(files: &Files) -> String {
    let error = read(files).unwrap_err();
    let source = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
    format!("{error}{}", source.unwrap_or_default())
}

#[test]
fn each_mistake_is_told_with_its_file() {
    let good = || made(|_| {}).files;
    let without = |name: &str| {
        let mut files = good();
        files.remove(name);
        refusal(&files)
    };
    assert_eq!(without("ca-cert.pem"), "ca-cert.pem is missing");
    assert_eq!(without("ca-key.pem"), "ca-key.pem is missing");
    assert_eq!(without("root-cert.pem"), "root-cert.pem is missing");
    let chain = without("cert-chain.pem");
    assert!(chain.contains("does cert-chain.pem lead to root-cert.pem?"), "{chain}");
    let with = |name: &str, text: &str| {
        let mut files = good();
        put(&mut files, name, text);
        refusal(&files)
    };
    assert!(with("ca-cert.pem", "x").starts_with("ca-cert.pem cannot be used: no certificate"));
    let key = with("ca-key.pem", &KeyPair::generate().unwrap().serialize_pem());
    assert!(key.starts_with("ca-key.pem cannot be used: private key does not belong"), "{key}");
    assert!(with("ca-key.pem", "x").starts_with("ca-key.pem cannot be used: "));
    let stranger = TestRoot::new(&default_provider(), "root");
    let roots = with("root-cert.pem", &pem(&stranger.root.der));
    assert!(roots.contains("would be refused"), "a root of the same name and another key: {roots}");
    let chain = with("cert-chain.pem", &pem(&stranger.root.der));
    assert!(chain.starts_with("cert-chain.pem: its first certificate is not that of"), "{chain}");
    let refused = |change: fn(&mut CertificateParams)| refusal(&made(change).files);
    let leaf = refused(|params| params.is_ca = IsCa::ExplicitNoCa);
    assert!(leaf.contains("is not an authority's"), "{leaf}");
    let old = refused(|params| set_times(params, start() - DAY * 9, start() - DAY * 2));
    assert_eq!(old, "ca-cert.pem: the certificate expired 2 days ago");
    let young = refused(|params| set_times(params, start() + DAY * 3, start() + DAY * 9));
    assert_eq!(young, "ca-cert.pem: the certificate becomes valid only in 3 days");
    let usage = refused(|params| params.key_usages = vec![KeyUsagePurpose::DigitalSignature]);
    assert!(usage.contains("key usage keyCertSign"), "{usage}");
}

#[test]
fn an_authority_that_may_not_sign_for_the_trust_domain_is_found_out() {
    let other = made(|params| {
        let permitted = vec![rcgen::GeneralSubtree::DnsName("example.org".into())];
        params.name_constraints =
            Some(NameConstraints { permitted_subtrees: permitted, excluded_subtrees: vec![] });
    });
    // Constraints of DNS names say nothing about URIs (RFC 5280 section 4.2.1.10).
    read(&other.files).unwrap();
}

#[test]
fn revocation_lists_are_taken_when_they_hurt_nobody() {
    let mut made = made(|_| {});
    let list = |der: Vec<u8>| pem_of("X509 CRL", &der);
    put(&mut made.files, "ca-crl.pem", list(made.root.revocation_list(&[9], start() + DAY)));
    assert_eq!(read(&made.files).unwrap().revocation_lists.len(), 1);
    let stranger = TestRoot::new(&default_provider(), "root");
    put(&mut made.files, "ca-crl.pem", list(stranger.revocation_list(&[9], start() + DAY)));
    let refused = refusal(&made.files);
    assert!(refused.starts_with("ca-crl.pem: with it nothing"), "{refused}");
    put(&mut made.files, "ca-crl.pem", "nothing");
    assert!(refusal(&made.files).starts_with("ca-crl.pem cannot be used"));
}
