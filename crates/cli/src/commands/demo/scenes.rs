//! The scenes of `heddle demo --check`: each sets something up with ordinary YAML, measures from inside the
//! mesh, and takes its objects away again.
//!
//! A scene returns a line of what it saw, or an error that says what was expected. No scene knows another.

mod identity;
mod policy;
mod resilience;
mod routing;

use std::pin::Pin;

use anyhow::Result;

use super::mesh::Mesh;

type Outcome<'a> = Pin<Box<dyn Future<Output = Result<String>> + 'a>>;

/// One scene.
pub(crate) struct Scene {
    pub(crate) title: &'static str,
    pub(crate) run: for<'a> fn(&'a Mesh) -> Outcome<'a>,
}

/// All scenes in their order; users call them by number, from 1.
pub(crate) const SCENES: [Scene; 8] = [
    Scene { title: "canary 90/10 by subsets", run: |mesh| Box::pin(routing::canary(mesh)) },
    Scene {
        title: "header end-user: jason goes to v2",
        run: |mesh| Box::pin(routing::header(mesh)),
    },
    Scene {
        title: "progressive shift under load, rollback",
        run: |mesh| Box::pin(routing::progressive_shift(mesh)),
    },
    Scene {
        title: "circuit breaking and ejection",
        run: |mesh| Box::pin(resilience::circuit_breaking(mesh)),
    },
    Scene { title: "STRICT mutual TLS", run: |mesh| Box::pin(identity::strict(mesh)) },
    Scene {
        title: "deny all, allow by principal, method and path",
        run: |mesh| Box::pin(policy::authorization(mesh)),
    },
    Scene {
        title: "certificates and root rotated under load",
        run: |mesh| Box::pin(identity::rotation(mesh)),
    },
    Scene {
        title: "control plane killed under load",
        run: |mesh| Box::pin(resilience::control_plane_killed(mesh)),
    },
];

/// The client of the scenes.
const CLIENT: &str = "default/traffic";
/// What it asks.
const REVIEWS_URL: &str = "http://reviews:9080/reviews/0";
/// The subsets that routes refer to.
const REVIEWS_SUBSETS: &str = r"
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec:
  host: reviews
  subsets:
    - {name: v1, labels: {version: v1}}
    - {name: v2, labels: {version: v2}}
    - {name: v3, labels: {version: v3}}
";

/// A route of reviews by weight.
fn reviews_split(weights: &[(&str, u32)]) -> String {
    let mut yaml = String::from(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: reviews}\nspec:\n  hosts: [reviews]\n  http:\n    - route:\n",
    );
    for (subset, weight) in weights {
        yaml.push_str(&format!(
            "        - {{destination: {{host: reviews, subset: {subset}}}, weight: {weight}}}\n"
        ));
    }
    yaml
}
