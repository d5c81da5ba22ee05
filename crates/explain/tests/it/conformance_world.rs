//! The objects of the Gateway API's conformance suite, with what its program makes besides.

use std::fmt::Write;
use std::path::Path;

use heddle_explain::World;

use super::shared::world;

/// The namespace in which most of it is.
pub(crate) const INFRA: &str = "gateway-conformance-infra";

/// A certificate and a key as far as anybody looks at them here: PEM around a DER sequence.
const CERTIFICATE: &str =
    "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCk1BTUNBUUU9Ci0tLS0tRU5EIENFUlRJRklDQVRFLS0tLS0K";
const KEY: &str =
    "LS0tLS1CRUdJTiBQUklWQVRFIEtFWS0tLS0tCk1BTUNBUUU9Ci0tLS0tRU5EIFBSSVZBVEUgS0VZLS0tLS0K";

/// Secrets and ConfigMaps that the suite's program makes.
fn made() -> String {
    let mut yaml = String::new();
    let secrets = [
        ("gateway-conformance-web-backend", "certificate"),
        (INFRA, "tls-validity-checks-certificate"),
        (INFRA, "tls-validity-checks-client-certificate"),
        (INFRA, "tls-passthrough-checks-certificate"),
        (INFRA, "tls-terminate-checks-certificate"),
        (INFRA, "tls-checks-certificate"),
        ("gateway-conformance-app-backend", "tls-passthrough-checks-certificate"),
    ];
    for (namespace, name) in secrets {
        write!(
            yaml,
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
             type: kubernetes.io/tls\ndata: {{tls.crt: {CERTIFICATE}, tls.key: {KEY}}}\n---\n"
        )
        .unwrap();
    }
    let authorities = [
        "tls-checks-ca-certificate",
        "tls-validity-checks-ca-certificate",
        "tls-validity-checks-per-port-ca-certificate",
        "backend-tls-certificate",
    ];
    for name in authorities {
        write!(
            yaml,
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: {INFRA}}}\n\
             data:\n  ca.crt: |\n    -----BEGIN CERTIFICATE-----\n    MAMCAQE=\n    -----END CERTIFICATE-----\n---\n"
        )
        .unwrap();
    }
    yaml
}

/// A mesh with the suite's base and some of its manifests (paths below the folder of the suite's data).
pub(crate) fn of_manifests(folder: &Path, manifests: &[&str], granted: bool) -> World {
    let read = |path: &str| {
        let text = std::fs::read_to_string(folder.join(path)).unwrap();
        let text = text.replace("{GATEWAY_CLASS_NAME}", "heddle");
        if granted { text } else { text.replace("kind: ReferenceGrant", "kind: ConfigMap") }
    };
    let mesh = manifests.iter().any(|path| path.contains("/mesh/"));
    let base =
        if mesh { "conformance/mesh/manifests.yaml" } else { "conformance/base/manifests.yaml" };
    let mut texts = vec![("made.yaml", made()), (base, read(base))];
    texts.extend(manifests.iter().map(|path| (*path, read(path))));
    let texts: Vec<(&str, &str)> = texts.iter().map(|(path, text)| (*path, &**text)).collect();
    world(&texts)
}
