use super::*;
use heddle_api::Reader;

fn objects(text: &str) -> Vec<AnyObject> {
    let loaded = Reader::default().read_file("test.yaml", text.as_bytes());
    assert!(!loaded.diagnostics.has_errors(), "{:?}", loaded.diagnostics);
    loaded.resources
}

const APPLICATION: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}, annotations: {note: "a \"quoted\" text"}}
    spec: {containers: [{name: web, command: [serve, "--port", "80"], ports: [{containerPort: 80}]}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec: {containers: [{name: db}]}
---
apiVersion: v1
kind: Pod
metadata: {name: job}
spec: {containers: [{name: job}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: fixed}
spec: {clusterIP: 10.96.0.10, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: headless}
spec: {clusterIP: None, ports: [{port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: api}
spec:
  hosts: [api.example.com, "*.example.org"]
  resolution: DNS
  ports: [{name: https, number: 443, protocol: TLS}]
"#;

/// What has which address, one a line.
fn addresses(expansion: &Expansion) -> Vec<String> {
    let line = |object: &AnyObject| {
        let name = &object.meta().name;
        match object {
            AnyObject::Pod(_) => {
                let status = pod_status(object);
                Some(format!("pod {name} {:?} {}", status.addresses, status.ready))
            }
            AnyObject::Service(service) => Some(format!(
                "service {name} {:?} {:?}",
                service.spec.cluster_ip, service.spec.cluster_ips
            )),
            AnyObject::ServiceEntry(entry) => {
                Some(format!("entry {name} {:?}", entry.meta.annotations.get(ALLOCATED_ADDRESSES)))
            }
            _ => None,
        }
    };
    expansion.objects.iter().filter_map(line).collect()
}

#[test]
fn everything_gets_an_address_and_keeps_it() {
    let first = expand(objects(APPLICATION), Allocation::default(), true);
    expect_test::expect![[r#"
        service web Some("10.96.0.11") ["10.96.0.11", "fd68:6564:646c:96::b"]
        service fixed Some("10.96.0.10") []
        service headless Some("None") []
        entry api Some("api.example.com=240.240.0.10")
        pod db-0 [10.244.0.10, fd68:6564:646c:10::a] true
        pod job [10.244.0.11, fd68:6564:646c:10::b] true
        pod web-0 [10.244.0.12, fd68:6564:646c:10::c] true
        pod web-1 [10.244.0.13, fd68:6564:646c:10::d] true"#]]
    .assert_eq(&addresses(&first).join("\n"));
    // Other files in front, another order: nothing moves.
    let more = format!("{}\n---\n{APPLICATION}", APPLICATION.replace("name: ", "name: a"));
    let second = expand(objects(&more), first.allocation.clone(), true);
    for line in addresses(&first) {
        assert!(addresses(&second).contains(&line), "{line}");
    }
    let again = expand(objects(APPLICATION), second.allocation, true);
    assert_eq!(addresses(&again), addresses(&first));
}

#[test]
fn a_pod_is_made_as_its_template_says() {
    let expansion = expand(objects(APPLICATION), Allocation::default(), false);
    let pod = expansion.objects.iter().find(|object| object.meta().name == "web-1").unwrap();
    let AnyObject::Pod(object) = pod else { panic!("not a pod") };
    assert_eq!(object.meta.labels.get("app").unwrap(), "web");
    assert_eq!(object.meta.annotations.get("note").unwrap(), "a \"quoted\" text");
    assert_eq!(object.meta.owner_references[0].name, "web");
    let container = &object.spec.containers[0];
    assert_eq!(container.command, ["serve", "--port", "80"]);
    assert_eq!(container.ports[0].container_port, 80);
    assert!(!pod_status(pod).ready);

    let status = PodStatus {
        ready: true,
        deletion_timestamp: Some("2026-01-01T00:00:00Z".to_owned()),
        ..pod_status(pod)
    };
    let stopping = with_status(pod, &status).unwrap();
    assert_eq!(pod_status(&stopping), status);
    assert_eq!(ObjectKey::of(&stopping), ObjectKey::of(pod));
    assert_eq!(stopping.meta().owner_references.len(), 1);
}

#[test]
fn replicas_of_two_workloads_of_one_name_do_not_take_each_others_place() {
    let both = format!(
        "{APPLICATION}\n---\n{}",
        APPLICATION.split("---").nth(1).unwrap().replace("name: db", "name: web")
    );
    let expansion = expand(objects(&both), Allocation::default(), true);
    let names: Vec<String> = expansion.made.iter().map(|key| key.name.name.to_string()).collect();
    assert_eq!(names, ["db-0", "job", "web-0", "web-1", "web-statefulset-0"]);
}

#[test]
fn what_is_written_first_is_older() {
    let text = |names: [&str; 2]| {
        names
            .map(|name| format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n---\n"))
            .concat()
    };
    let expanded = expand(objects(&text(["z", "a"])), Allocation::default(), true).objects;
    let mut sorted = expanded.clone();
    sorted.sort_by(|left, right| crate::object::by_age(left.meta(), right.meta()));
    let names = |objects: &[AnyObject]| -> Vec<String> {
        objects.iter().map(|object| object.meta().name.clone()).collect()
    };
    assert_eq!(names(&sorted), ["z", "a"]);
    assert!(crate::duplicates(&expanded).is_empty());
    let twice = crate::duplicates(&objects(&text(["a", "a"])));
    assert_eq!(twice.len(), 1);
    assert_eq!(twice[0].origin.to_string(), "Service default/a (test.yaml:1:1)");
}
