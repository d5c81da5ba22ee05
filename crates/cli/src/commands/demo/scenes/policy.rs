//! Scene 6: who may do what.

use anyhow::{Result, ensure};

use super::CLIENT;
use crate::commands::demo::mesh::Mesh;

const DENY_ALL: &str = r"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: deny-all}
spec: {}
";

const ALLOW: &str = r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: reviews-viewer}
spec:
  selector: {matchLabels: {app: reviews}}
  action: ALLOW
  rules:
    - from:
        - source: {principals: [cluster.local/ns/default/sa/traffic]}
      to:
        - operation: {methods: [GET], paths: ["/reviews/*"]}
"#;

pub(super) async fn authorization(mesh: &Mesh) -> Result<String> {
    mesh.apply(DENY_ALL).await?;
    refused(mesh, CLIENT, "GET", "http://reviews:9080/reviews/0").await?;
    refused(mesh, CLIENT, "GET", "http://ratings:9080/ratings/0").await?;
    mesh.apply(ALLOW).await?;
    let allowed = mesh.request(CLIENT, "GET", "http://reviews:9080/reviews/0").await?;
    let productpage = "default/productpage-v1";
    refused(mesh, CLIENT, "GET", "http://reviews:9080/status/200").await?;
    refused(mesh, CLIENT, "POST", "http://reviews:9080/reviews/0").await?;
    refused(mesh, CLIENT, "GET", "http://reviews:9080/reviews/../status/200").await?;
    refused(mesh, CLIENT, "GET", "http://details:9080/details/0").await?;
    refused(mesh, productpage, "GET", "http://reviews:9080/reviews/0").await?;
    mesh.delete(ALLOW).await?;
    mesh.delete(DENY_ALL).await?;
    let after = mesh.request(productpage, "GET", "http://details:9080/details/0").await?;
    ensure!(allowed.statuses.contains_key(&200), "the permitted request: {:?}", allowed.statuses);
    ensure!(after.statuses.contains_key(&200), "without policies: {:?}", after.statuses);
    Ok("1 kind of request permitted, 7 others refused with 403 RBAC: access denied".to_owned())
}

async fn refused(mesh: &Mesh, workload: &str, method: &str, url: &str) -> Result<()> {
    let answer = mesh
        .must(&[
            "exec",
            workload,
            "--",
            "heddle",
            "sample",
            "load",
            "--count",
            "1",
            "--show-body",
            "-X",
            method,
            url,
        ])
        .await?;
    ensure!(
        answer.contains("403") && answer.contains("RBAC: access denied"),
        "{method} {url} from {workload} should be refused with 403, but: {}",
        answer.trim()
    );
    Ok(())
}
