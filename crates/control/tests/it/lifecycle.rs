//! From objects to what shall run, and back to endpoints.

use crate::harness::{Mesh, Proxy, Supervisor, endpoints};
use heddle_ir::endpoint::EndpointHealth;
use heddle_ir::outbound::OutboundKey;
use heddle_ir::resource::ResourceName;
use heddle_proto::node::handler::Action;
use heddle_proto::node::{DesiredWorkload, Phase, WorkloadReport};

pub(crate) const APP: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {COLOUR: red, "app.conf": "x=1\n"}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: http}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 5
      volumes: [{name: conf, configMap: {name: settings}}, {name: scratch, emptyDir: {}}]
      containers:
      - name: web
        command: [server, "--name=$(NAME)"]
        args: ["--colour", "$(COLOUR)"]
        ports: [{name: http, containerPort: 8080}]
        envFrom: [{configMapRef: {name: settings}}]
        env:
        - {name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
        - {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
        readinessProbe: {httpGet: {path: /healthz, port: http}, periodSeconds: 1}
        volumeMounts:
        - {name: conf, mountPath: /etc/app}
        - {name: scratch, mountPath: /tmp/x}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: client}
spec:
  selector: {matchLabels: {app: client}}
  template:
    metadata: {labels: {app: client}}
    spec: {containers: [{name: c, command: [sleep, "1000"]}]}
"#;

pub(crate) const CLIENT: &str = "standalone/Pod/default/client-0";
const WEB: &str = "web.default.svc.cluster.local";

/// The application runs, and the client's proxy holds the way to the service.
pub(crate) async fn running(mesh: &Mesh) -> (Supervisor, Proxy) {
    mesh.apply(APP).await;
    let mut supervisor = Supervisor::connect(mesh, "1").await;
    supervisor.wait_for_names(&["client-0", "web-0", "web-1"]).await;
    supervisor.report_all_ready_but(&[]).await;
    let mut proxy = Proxy::connected(mesh, CLIENT).await;
    proxy.until_complete().await;
    let scope = proxy.settings().scope.clone();
    let key = OutboundKey { scope, host: WEB.into(), port: 80 };
    proxy.want(&ResourceName::Outbound(key.clone()));
    let name = ResourceName::Outbound(key);
    proxy
        .until(|proxy| proxy.resource(&name).is_some() && endpoints(proxy, WEB, 80).len() == 2)
        .await;
    (supervisor, proxy)
}

#[tokio::test]
async fn everything_is_resolved_for_the_supervisor() {
    let mesh = Mesh::start().await;
    mesh.apply(APP).await;
    let mut supervisor = Supervisor::connect(&mesh, "1").await;
    let web = supervisor.workload("web-1").await;
    assert!(web.meshed);
    assert_eq!((web.id.as_str(), web.owner_name.as_str()), ("standalone/Pod/default/web-1", "web"));
    assert_eq!(web.termination_grace_ms, 5000);
    let container = &web.containers[0];
    assert_eq!(container.command, ["server", "--name=web-1", "--colour", "red"]);
    assert_eq!(container.folder, "/srv/app");
    let variable = |name: &str| {
        container.env.iter().find(|v| v.name == name).map(|v| v.value.clone()).unwrap()
    };
    assert_eq!(variable("COLOUR"), "red");
    assert_eq!(variable("IP"), web.addresses[0]);
    let probe = container.readiness_probe.as_ref().unwrap();
    let Some(Action::Http(http)) = &probe.handler.as_ref().unwrap().action else { panic!() };
    assert_eq!((http.port, http.path.as_str(), probe.period_ms), (8080, "/healthz", 1000));
    let file = container.files.iter().find(|file| file.path == "/etc/app/app.conf").unwrap();
    assert_eq!((file.content.as_slice(), file.mode), (&b"x=1\n"[..], 0o644));
    assert_eq!(container.directories[0].path, "/tmp/x");
    let dns = web.dns.as_ref().unwrap();
    assert_eq!(dns.search, ["default.svc.cluster.local", "svc.cluster.local", "cluster.local"]);
}

#[tokio::test]
async fn readiness_becomes_endpoints() {
    let mesh = Mesh::start().await;
    let (supervisor, mut proxy) = running(&mesh).await;
    assert!(endpoints(&proxy, WEB, 80).values().all(|health| *health == EndpointHealth::Healthy));
    let ready = mesh.get("/v1/wait?for=ready").await;
    assert!(ready["revision"].is_number());
    supervisor.report_all_ready_but(&["web-1"]).await;
    proxy
        .until(|proxy| {
            endpoints(proxy, WEB, 80)
                .iter()
                .filter(|(_, health)| **health == EndpointHealth::Healthy)
                .map(|(name, _)| name.as_str())
                .eq(["standalone/Pod/default/web-0"])
        })
        .await;
    let (status, answer) = mesh.request("GET", "/v1/wait?for=ready&timeout_ms=1", None).await;
    assert_eq!(status, 408);
    assert!(answer["waiting_for"][0].as_str().unwrap().contains("web-1"));
}

#[tokio::test]
async fn a_pod_that_shall_go_drains_until_every_proxy_has_confirmed() {
    let mesh = Mesh::start().await;
    let (mut supervisor, mut proxy) = running(&mesh).await;
    mesh.apply(&APP.replace("replicas: 2", "replicas: 1")).await;
    // The proxy has been told, and has not confirmed: the pod goes on.
    let draining = |proxy: &Proxy| {
        let health = endpoints(proxy, WEB, 80).get("standalone/Pod/default/web-1").copied();
        health == Some(EndpointHealth::Draining)
    };
    while !draining(&proxy) {
        proxy.receive().await.unwrap();
    }
    let status = mesh.get("/v1/status").await;
    let pod = status["workloads"].as_array().unwrap().iter().find(|pod| pod["name"] == "web-1");
    assert_eq!(pod.unwrap()["stage"], "draining");
    assert_eq!(supervisor.desired.borrow().workloads.len(), 3);
    // It confirms, and the pod is stopped.
    proxy.transmit().await;
    supervisor.wait_for_names(&["client-0", "web-0"]).await;
    supervisor.report_all_ready_but(&[]).await;
    proxy.until(|proxy| endpoints(proxy, WEB, 80).len() == 1).await;
    proxy.until_applied(&mesh).await;
}

/// The names of what shall run, with whether each is as it was.
fn running_now(supervisor: &Supervisor, before: &[DesiredWorkload]) -> Vec<(String, bool)> {
    let state = supervisor.desired.borrow();
    let of = |w: &DesiredWorkload| {
        (w.name.clone(), before.iter().any(|b| b.name == w.name && b.uid == w.uid))
    };
    state.workloads.iter().filter(|w| w.name.starts_with("web")).map(of).collect()
}

/// Everything is ready as soon as it shall run, and every proxy confirms; what was seen to run, step by step.
async fn roll_out(
    mesh: &Mesh,
    supervisor: &mut Supervisor,
    proxy: &mut Proxy,
    before: &[DesiredWorkload],
    is_over: impl Fn(&[(String, bool)]) -> bool,
) -> Vec<Vec<(String, bool)>> {
    let mut seen = vec![running_now(supervisor, before)];
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    while !is_over(seen.last().unwrap()) {
        supervisor.report_all_ready_but(&[]).await;
        proxy.transmit().await;
        tokio::select! {
            changed = supervisor.desired.changed() => changed.unwrap(),
            received = proxy.receive() => received.unwrap(),
            () = tokio::time::sleep_until(deadline) => {
                panic!("{seen:?} {}", mesh.get("/v1/status").await);
            }
        }
        let now = running_now(supervisor, before);
        if seen.last() != Some(&now) {
            seen.push(now);
        }
    }
    seen
}

#[tokio::test]
async fn replicas_are_replaced_while_a_stand_in_serves() {
    for replicas in [1, 2] {
        let app = APP.replace("replicas: 2", &format!("replicas: {replicas}"));
        let mesh = Mesh::start().await;
        let (mut supervisor, mut proxy) = running(&mesh).await;
        mesh.apply(&app).await;
        let names: Vec<String> = (0..replicas).map(|number| format!("web-{number}")).collect();
        roll_out(&mesh, &mut supervisor, &mut proxy, &[], |now| now.len() == replicas).await;
        let before = supervisor.desired.borrow().workloads.clone();
        mesh.apply(&app.replace("server", "server2")).await;
        let over = |now: &[(String, bool)]| {
            now.len() == replicas && now.iter().all(|(name, old)| !old && names.contains(name))
        };
        let seen = roll_out(&mesh, &mut supervisor, &mut proxy, &before, over).await;
        for now in &seen {
            assert!((replicas..=replicas + 1).contains(&now.len()), "{seen:?}");
        }
        assert!(seen.iter().flatten().any(|(name, _)| name == "web-0-next"), "{seen:?}");
        supervisor.report_all_ready_but(&[]).await;
        assert!(mesh.get("/v1/wait?for=ready").await["revision"].is_number());
        let command = supervisor.workload("web-0").await.containers[0].command[0].clone();
        assert_eq!(command, "server2");
    }
}

#[tokio::test]
async fn old_replicas_end_before_new_ones_begin_where_that_is_asked_for() {
    let app = APP.replace("replicas: 2", "replicas: 2\n  strategy: {type: Recreate}");
    let mesh = Mesh::start().await;
    let (mut supervisor, mut proxy) = running(&mesh).await;
    mesh.apply(&app).await;
    let before = supervisor.desired.borrow().workloads.clone();
    mesh.apply(&app.replace("server", "server2")).await;
    let over = |now: &[(String, bool)]| now.len() == 2 && now.iter().all(|(_, old)| !old);
    let seen = roll_out(&mesh, &mut supervisor, &mut proxy, &before, over).await;
    let mixed = |now: &Vec<(String, bool)>| {
        now.iter().any(|(_, old)| *old) && now.iter().any(|(_, old)| !old)
    };
    assert!(!seen.iter().any(mixed), "{seen:?}");
}

const JOB: &str = "
apiVersion: batch/v1
kind: Job
metadata: {name: job}
spec:
  completions: 3
  parallelism: 2
  backoffLimit: 1
  completionMode: Indexed
  template:
    spec: {restartPolicy: Never, containers: [{name: c, command: [work]}]}
";

/// Tells what became of the job's pods.
async fn report_phases(supervisor: &Supervisor, phase: impl Fn(&str) -> Phase) {
    let state = supervisor.desired.borrow().clone();
    let reports = state.workloads.iter().map(|workload| WorkloadReport {
        id: workload.id.clone(),
        uid: workload.uid.clone(),
        phase: phase(&workload.name).into(),
        ..WorkloadReport::default()
    });
    supervisor.report(reports.collect()).await;
}

#[tokio::test]
async fn a_job_runs_to_its_end_and_does_not_run_again() {
    let mut mesh = Mesh::start().await;
    mesh.apply(JOB).await;
    let mut supervisor = Supervisor::connect(&mesh, "1").await;
    supervisor.wait_for_names(&["job-0", "job-1"]).await;
    let first = supervisor.workload("job-1").await;
    assert!(
        first.containers[0].env.iter().any(|v| v.name == "JOB_COMPLETION_INDEX" && v.value == "1")
    );
    // One fails and is tried again, the others succeed.
    report_phases(&supervisor, |name| match name {
        "job-1" => Phase::Failed,
        _ => Phase::Succeeded,
    })
    .await;
    supervisor.wait_for_names(&["job-0", "job-2"]).await;
    report_phases(&supervisor, |_| Phase::Succeeded).await;
    supervisor.wait_for_names(&["job-0", "job-1", "job-2"]).await;
    assert_ne!(supervisor.workload("job-1").await.uid, first.uid);
    report_phases(&supervisor, |_| Phase::Succeeded).await;
    assert!(mesh.get("/v1/wait?for=ready").await["revision"].is_number());
    // Neither after a restart of the control plane nor after one of the mesh.
    mesh.restart().await;
    let again = Supervisor::connect(&mesh, "2").await;
    assert!(again.desired.borrow().workloads.is_empty(), "{:?}", again.desired.borrow());
}

#[tokio::test]
async fn a_restart_loses_nothing_and_sends_nothing_again() {
    let mut mesh = Mesh::start().await;
    let (supervisor, mut proxy) = running(&mesh).await;
    let uids = |state: &heddle_proto::node::DesiredState| {
        state.workloads.iter().map(|w| (w.name.clone(), w.uid.clone())).collect::<Vec<_>>()
    };
    let before = uids(&supervisor.desired.borrow());
    let effects = proxy.effects.len();
    proxy.disconnect();
    mesh.restart().await;
    // Before any supervisor is back.
    proxy.connect(&mesh).await;
    proxy.transmit().await;
    // Something that changes shows that everything else was looked at before.
    mesh.apply("apiVersion: v1\nkind: Namespace\nmetadata: {name: other}\n").await;
    proxy.until_applied(&mesh).await;
    assert_eq!((proxy.received, proxy.effects.len()), (0, effects));
    let again = Supervisor::connect(&mesh, "1").await;
    assert_eq!(uids(&again.desired.borrow()), before);
}

#[tokio::test]
async fn another_run_of_the_supervisor_begins_with_nothing_ready() {
    let mesh = Mesh::start().await;
    let (_supervisor, mut proxy) = running(&mesh).await;
    let _again = Supervisor::connect(&mesh, "2").await;
    proxy
        .until(|proxy| {
            endpoints(proxy, WEB, 80).values().all(|health| *health != EndpointHealth::Healthy)
        })
        .await;
}
