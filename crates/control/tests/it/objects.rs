//! The object API.

use serde_json::{Value, json};

use crate::harness::{Mesh, results};

const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: a}
spec:
  selector: {app: a}
  ports: [{name: http, port: 80}]
";

fn pairs(results: &[(String, String)]) -> Vec<(&str, &str)> {
    results.iter().map(|(name, action)| (name.as_str(), action.as_str())).collect()
}

#[tokio::test]
async fn objects_are_created_changed_and_left_alone() {
    let mesh = Mesh::start().await;
    assert_eq!(pairs(&mesh.apply(SERVICE).await), [("a", "created")]);
    assert_eq!(pairs(&mesh.apply(SERVICE).await), [("a", "unchanged")]);
    assert_eq!(pairs(&mesh.apply(&SERVICE.replace("80", "81")).await), [("a", "configured")]);
    let list = mesh.get("/v1/objects?kind=Service").await;
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
    let item = &list["items"][0];
    assert_eq!((&item["generation"], &item["revision"]), (&json!(2), &json!(2)));
    assert_eq!(item["object"]["spec"]["ports"][0]["port"], 81);
    assert!(item["yaml"].as_str().unwrap().contains("name: a"));
    mesh.delete("Service", "a").await;
    assert_eq!(mesh.get("/v1/objects").await["items"], json!([]));
    let history = mesh.get("/v1/history").await;
    assert_eq!(history["revisions"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn a_dry_run_changes_nothing() {
    let mesh = Mesh::start().await;
    let body = json!({"files": [{"path": "-", "text": SERVICE}], "dry_run": true});
    let (status, answer) = mesh.request("POST", "/v1/objects", Some(body)).await;
    assert_eq!(status, 200);
    assert_eq!(pairs(&results(&answer)), [("a", "created")]);
    assert_eq!(mesh.get("/v1/objects").await["items"], json!([]));
    assert_eq!(mesh.get("/v1/status").await["revision"], 0);
}

#[tokio::test]
async fn objects_are_judged_together_with_the_pods_that_they_make() {
    let mesh = Mesh::start().await;
    let body =
        json!({"files": [{"path": "app.yaml", "text": crate::lifecycle::APP}], "dry_run": true});
    let (_, answer) = mesh.request("POST", "/v1/objects", Some(body)).await;
    assert_eq!(answer["findings"], json!([]));
    assert_eq!(mesh.get("/v1/status").await["workloads"], json!([]));
    // Nothing of it is left: the Service alone selects nothing.
    let body = json!({"files": [{"path": "a.yaml", "text": SERVICE}], "dry_run": true});
    let (_, answer) = mesh.request("POST", "/v1/objects", Some(body)).await;
    assert_eq!(answer["findings"].as_array().unwrap().len(), 1, "{answer}");
}

#[tokio::test]
async fn what_is_wrong_is_rejected_with_its_place_and_the_rest_goes_on() {
    let mesh = Mesh::start().await;
    mesh.apply(SERVICE).await;
    let text = format!(
        "{}---\napiVersion: v1\nkind: Service\nmetadata: {{name: b}}\nspec: {{ports: [{{port: 1}}]}}\n",
        SERVICE.replace("selector", "selektor")
    );
    let body = json!({"files": [{"path": "x.yaml", "text": text}]});
    let (_, answer) = mesh.request("POST", "/v1/objects", Some(body)).await;
    assert_eq!(pairs(&results(&answer)), [("a", "rejected"), ("b", "created")]);
    let finding = &answer["findings"][0];
    assert_eq!(
        (&finding["origin"]["file"], &finding["origin"]["line"]),
        (&json!("x.yaml"), &json!(6))
    );
    // What was there before stays.
    let list = mesh.get("/v1/objects?kind=Service&name=a").await;
    assert!(list["items"][0]["object"]["spec"].get("selector").is_some());
}

#[tokio::test]
async fn objects_survive_with_their_lines() {
    let mut mesh = Mesh::start().await;
    mesh.apply(SERVICE).await;
    mesh.apply(
        "# two lines\n# before\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v}\n\
         spec:\n  hosts: [a]\n  http:\n  - route: [{destination: {host: a, subset: none}}]\n",
    )
    .await;
    let before = mesh.get("/v1/objects").await;
    mesh.restart().await;
    let after = mesh.get("/v1/objects").await;
    assert_eq!(before, after);
    let items = after["items"].as_array().unwrap();
    let route = items.iter().find(|item| item["name"] == "v").unwrap();
    assert!(route["findings"].to_string().contains("\"line\":9"), "{route}");
    let status = &route["object"]["status"];
    assert_eq!(status["findings"][0]["at"].as_str().unwrap().split_once(':').unwrap().1, "9:37");
    let outcomes = status["outcomes"].as_array().unwrap();
    assert!(outcomes.iter().any(|outcome| outcome["field"] == "spec.hosts[0]"), "{status}");
}

#[tokio::test]
async fn conditions_are_those_of_the_objects_own_project() {
    let mesh = Mesh::start().await;
    mesh.apply(SERVICE).await;
    mesh.apply(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: g}\n\
         spec:\n  gatewayClassName: heddle\n  listeners: [{name: h, port: 80, protocol: HTTP}]\n---\n\
         apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r}\n\
         spec:\n  parentRefs: [{name: g}]\n  rules: [{backendRefs: [{name: gone, port: 80}]}]\n---\n\
         apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v}\n\
         spec:\n  hosts: [a]\n  http:\n  - route: [{destination: {host: a}}]\n",
    )
    .await;
    let list = mesh.get("/v1/objects").await;
    let items = list["items"].as_array().unwrap();
    let status = |kind: &str| {
        let item = items.iter().find(|item| item["kind"] == kind).unwrap();
        item["object"]["status"].clone()
    };
    let told = |conditions: &Value| {
        let conditions = conditions.as_array().unwrap().iter();
        let words = conditions.map(|one| {
            let word = |field: &str| one[field].as_str().unwrap().to_owned();
            format!("{}={}/{}", word("type"), word("status"), word("reason"))
        });
        words.collect::<Vec<_>>().join(" ")
    };
    let gateway = status("Gateway");
    assert_eq!(told(&gateway["conditions"]), "Accepted=True/Accepted Programmed=True/Programmed");
    assert_eq!(gateway["listeners"][0]["attachedRoutes"], 1);
    assert_eq!(gateway["addresses"][0]["value"], "g-heddle.default.svc.cluster.local");
    assert_eq!(gateway["conditions"][0]["observedGeneration"], 1);
    let route = status("HTTPRoute");
    let parent = &route["parents"][0];
    assert_eq!(
        told(&parent["conditions"]),
        "Accepted=True/Accepted ResolvedRefs=False/BackendNotFound"
    );
    assert_eq!(parent["parentRef"]["name"], "g");
    assert_eq!(
        told(&status("VirtualService")["conditions"]),
        "Accepted=True/Valid InForce=True/Applied"
    );
    assert!(status("Service").get("conditions").is_none());
}

#[tokio::test]
async fn files_name_what_to_delete() {
    let mesh = Mesh::start().await;
    mesh.apply(SERVICE).await;
    let body = json!({"files": [{"path": "a.yaml", "text": SERVICE}]});
    let (_, answer) = mesh.request("POST", "/v1/delete", Some(body.clone())).await;
    assert_eq!(pairs(&results(&answer)), [("a", "deleted")]);
    let (_, answer) = mesh.request("POST", "/v1/delete", Some(body)).await;
    assert_eq!(results(&answer), []);
}

#[tokio::test]
async fn nonsense_is_answered_with_a_reason() {
    let mesh = Mesh::start().await;
    let (status, _) = mesh.request("GET", "/v1/nothing", None).await;
    assert_eq!(status, 404);
    let (status, _) = mesh.request("POST", "/v1/objects", Some(json!({"files": 1}))).await;
    assert_eq!(status, 422);
    let (status, answer) = mesh.request("DELETE", "/v1/objects?kind=Service", None).await;
    assert_eq!(status, 400);
    assert!(answer["error"].as_str().unwrap().contains("name"));
    let broken = json!({"files": [{"path": "b.yaml", "text": "a: [\n"}]});
    let (status, answer) = mesh.request("POST", "/v1/objects", Some(broken)).await;
    assert_eq!(status, 200);
    assert_eq!(answer["findings"][0]["level"], "error");
}

/// Two VirtualServices for one host, of which the name that comes later in the alphabet is written first.
fn rivals(first: &str, second: &str) -> String {
    let one = |name: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}}}\nspec: {{hosts: [a], http: [{{route: \
             [{{destination: {{host: a}}}}]}}]}}\n"
        )
    };
    format!("{}---\n{}---\n{SERVICE}", one(first), one(second))
}

#[tokio::test]
async fn what_is_written_first_is_older_also_after_a_restart() {
    let mut mesh = Mesh::start().await;
    mesh.apply(&rivals("z", "b")).await;
    for _ in 0..2 {
        let loser = |objects: &Value| {
            let findings = objects["items"][0]["findings"].as_array().unwrap().clone();
            findings
                .iter()
                .any(|finding| finding["code"] == "HED0203" && finding["level"] == "error")
        };
        let path = "/v1/objects?kind=VirtualService&name=";
        assert!(loser(&mesh.get(&format!("{path}b")).await));
        assert!(!loser(&mesh.get(&format!("{path}z")).await));
        mesh.restart().await;
    }
}

#[tokio::test]
async fn of_two_objects_of_one_name_the_last_counts_and_both_places_are_told() {
    let mesh = Mesh::start().await;
    let other = SERVICE.replace("80", "81");
    let files = json!([
        {"path": "b.yaml", "folder": "", "text": SERVICE},
        {"path": "a.yaml", "folder": "", "text": other},
    ]);
    let (status, answer) = mesh.request("POST", "/v1/objects", Some(json!({"files": files}))).await;
    assert_eq!((status, pairs(&results(&answer))), (200, vec![("a", "created")]));
    let findings = answer["findings"].as_array().unwrap();
    let twice = findings.iter().find(|finding| finding["code"] == "HED0510").unwrap();
    assert_eq!(twice["origin"]["file"], "b.yaml");
    assert!(twice.to_string().contains("a.yaml"), "{twice}");
    let kept = mesh.get("/v1/objects?kind=Service&name=a").await;
    assert_eq!(kept["items"][0]["object"]["spec"]["ports"][0]["port"], 81, "{kept}");
}

#[tokio::test]
async fn the_way_back_undoes_what_changed_since() {
    let mut mesh = Mesh::start().await;
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {password: hush-hush-hush}\n";
    mesh.apply(&format!("{SERVICE}---\n{secret}")).await;
    let one = mesh.get("/v1/history").await["revisions"][0]["revision"].as_u64().unwrap();
    mesh.apply(&SERVICE.replace("80", "81")).await;
    mesh.apply(&SERVICE.replace("name: a", "name: b")).await;
    mesh.delete("Secret", "s").await;
    // History outlives a restart.
    mesh.restart().await;
    let back = json!({"revision": one, "dry_run": true, "by": "somebody"});
    let (status, would) = mesh.request("POST", "/v1/rollback", Some(back)).await;
    assert_eq!(status, 200, "{would}");
    let found = mesh.get("/v1/objects?kind=Service&name=b").await;
    assert_eq!(found["items"].as_array().unwrap().len(), 1, "nothing has changed yet");
    let back = json!({"revision": one, "by": "somebody"});
    let (_, done) = mesh.request("POST", "/v1/rollback", Some(back)).await;
    let mut actions = results(&done);
    actions.sort();
    assert_eq!(pairs(&actions), [("a", "configured"), ("b", "deleted"), ("s", "created")]);
    let port = |objects: &Value| objects["items"][0]["object"]["spec"]["ports"][0]["port"].clone();
    assert_eq!(port(&mesh.get("/v1/objects?kind=Service&name=a").await), 80);
    let history = mesh.get("/v1/history").await;
    let newest = &history["revisions"][0];
    assert_eq!(
        (&newest["by"], newest["changes"].as_array().unwrap().len()),
        (&json!("somebody"), 3)
    );
    assert!(newest["note"].as_str().unwrap().contains(&one.to_string()));
    assert!(!history.to_string().contains("hush-hush"));
    let (status, _) = mesh.request("POST", "/v1/rollback", Some(json!({"revision": 999}))).await;
    assert_eq!(status, 404);
    // Nor does the file hold the secret in the clear.
    mesh.stop();
    for entry in std::fs::read_dir(mesh.stream_socket().parent().unwrap()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap_or_default();
        assert!(!bytes.windows(14).any(|window| window == b"hush-hush-hush"));
    }
}

/// A cut-over that is written without the `gateways` of before takes the route from the gateway (API.md 11.2 row 2).
#[tokio::test]
async fn an_update_that_unbinds_a_gateway_is_told() {
    let mesh = Mesh::start().await;
    let service = |gateways: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: a}}\n\
             spec: {{hosts: [a.example.com], {gateways} http: [{{route: [{{destination: {{host: a}}}}]}}]}}\n"
        )
    };
    mesh.apply(SERVICE).await;
    mesh.apply(&service("gateways: [web, mesh],")).await;
    let codes = async |text: String| {
        let body = json!({"files": [{"path": "a.yaml", "text": text}]});
        let (_, answer) = mesh.request("POST", "/v1/objects", Some(body)).await;
        let findings = answer["findings"].as_array().unwrap().clone();
        findings.iter().filter(|finding| finding["code"] == "HED0229").count()
    };
    assert_eq!(codes(service("gateways: [web],")).await, 1);
    assert_eq!(codes(service("gateways: [web],")).await, 0);
    assert_eq!(codes(service("")).await, 1);
}
