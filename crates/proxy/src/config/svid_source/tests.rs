use std::time::SystemTime;

use heddle_cert::{Crypto as _, Validity};
use heddle_rpc::workload_api::{Answers, Source, View, serve};
use heddle_tls::{ApplicationKeys, SigningRoot, SystemClock, default_provider};
use tokio::net::UnixListener;
use tokio::sync::mpsc;

use super::*;

const DAY: Duration = Duration::from_hours(24);
const PATIENCE: Duration = Duration::from_secs(20);

fn id(name: &str) -> SpiffeId {
    SpiffeId::parse(&format!("spiffe://td/ns/shop/sa/{name}")).unwrap()
}

fn root(domain: &str) -> SigningRoot {
    let domain = TrustDomain::parse(domain).unwrap();
    SigningRoot::generate(default_provider(), &domain, SystemTime::now(), DAY * 365).unwrap()
}

fn svid(root: &SigningRoot, id: &SpiffeId) -> X509Svid {
    let (key, request) = ApplicationKeys::new(default_provider()).make_key(id).unwrap();
    let now = SystemTime::now();
    let validity = Validity { not_before: now, not_after: now + DAY };
    let chain = root.sign(&request, id, validity, root.new_serial().unwrap()).unwrap();
    X509Svid {
        spiffe_id: id.to_string(),
        x509_svid: chain.iter().map(AsRef::as_ref).collect::<Vec<&[u8]>>().concat(),
        x509_svid_key: key.pkcs8().to_vec(),
        bundle: root.root().der.to_vec(),
        hint: String::new(),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "a source may have nothing yet")]
fn view(svids: Vec<X509Svid>, other: &SigningRoot) -> View {
    let federated = [("spiffe://partner".to_owned(), other.root().der.to_vec())];
    let svids =
        X509SvidResponse { svids, federated_bundles: federated.into(), ..Default::default() };
    Some(Arc::new(Answers {
        svids,
        bundles: heddle_proto::workload_api::X509BundlesResponse::default(),
    }))
}

/// Waits until the identity in use is as expected.
async fn until(identity: &Identity, condition: impl Fn(&Identity) -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !condition(identity) {
            sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.expect("the identity comes in time");
}

#[tokio::test]
async fn the_expected_identity_is_taken_renewed_and_kept_when_the_source_goes() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("agent.sock");
    let (own, partner) = (root("td"), root("partner"));
    let (views, receiver) = watch::channel(None);
    let (asked, _is_asked) = mpsc::channel(1);
    let listener = UnixListener::bind(&socket).unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let source = Source { views: receiver, asked, tokens: mpsc::channel(1).0 };
    let server = tokio::spawn(serve(source, listener, async { drop(stopped.await) }));

    let identity = Arc::new(Identity::new(default_provider(), Arc::new(SystemClock)));
    let (expect, expected) = watch::channel(None);
    let (provider, metrics) = (default_provider(), None);
    let source =
        SvidSource { socket, identity: identity.clone(), provider, metrics, expected, seed: 1 };
    let running = tokio::spawn(source.run());

    // Somebody else's identity is not taken, also before it is known who is expected.
    views.send_replace(view(vec![svid(&own, &id("other"))], &partner));
    expect.send_replace(Some(id("web")));
    views.send_replace(view(vec![svid(&own, &id("other")), svid(&own, &id("web"))], &partner));
    until(&identity, |identity| identity.current().is_some()).await;
    let first = identity.current().unwrap();
    assert_eq!(first.svid().identity, id("web"));
    assert_eq!(first.svid().root, own.root().id);

    views.send_replace(view(vec![svid(&own, &id("web"))], &partner));
    until(&identity, |identity| identity.generation() > first.generation()).await;

    // A certificate that the given roots do not vouch for is refused, and what was there stays.
    let generation = identity.generation();
    let mut forged = svid(&partner, &id("web"));
    forged.bundle = own.root().der.to_vec();
    views.send_replace(view(vec![forged], &partner));
    drop(stop);
    drop(views);
    let _ = tokio::time::timeout(PATIENCE, server).await;
    assert_eq!(identity.generation(), generation);
    assert!(identity.current().is_some(), "the source is gone, the identity is not");
    running.abort();
}

#[test]
fn what_does_not_fit_together_is_refused_with_its_reason() {
    let provider = default_provider();
    let (own, partner) = (root("td"), root("partner"));
    let refused = |change: &dyn Fn(&mut X509SvidResponse)| {
        let Some(view) = view(vec![svid(&own, &id("web"))], &partner) else { unreachable!() };
        let mut response = view.svids.clone();
        change(&mut response);
        read(&provider, &response, &id("web"), 1).map(|_| ()).unwrap_err()
    };
    let name = refused(&|response| response.svids[0].spiffe_id = id("other").to_string());
    assert!(name.contains("sa/other") && name.contains("not spiffe://td/ns/shop/sa/web"), "{name}");
    let key = svid(&own, &id("web")).x509_svid_key;
    assert!(
        refused(&|response| response.svids[0].x509_svid_key = key.clone()).contains("another key")
    );
    let named_otherwise = svid(&own, &id("other"));
    let wrong = refused(&|response| {
        response.svids[0] =
            X509Svid { spiffe_id: id("web").to_string(), ..named_otherwise.clone() };
    });
    assert!(wrong.contains("expected"), "{wrong}");
    assert!(refused(&|r| r.svids[0].bundle = partner.root().der.to_vec()).contains("no root"));
    refused(&|response| response.svids[0].bundle.clear());
    refused(&|response| response.svids[0].x509_svid.truncate(9));
    let twice = refused(&|response| {
        response.federated_bundles.insert("spiffe://td".into(), partner.root().der.to_vec());
    });
    assert!(twice.contains("two bundles"), "{twice}");
}
