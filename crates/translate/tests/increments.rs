//! Any sequence of changes gives what a full computation gives, says what it changed, and touches no more than it must.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::collections::BTreeMap;

use heddle_api::{Reader, Resource as AnyObject};
use heddle_ident::{Host, NetworkName, WorkloadId};
use heddle_ir::endpoint::EndpointSetKey;
use heddle_ir::outbound::{OutboundKey, ScopeId};
use heddle_ir::resource::{Resource, ResourceName};
use heddle_ir::secret::{SecretKey, SecretKind};
use heddle_translate::{Change, ObjectKey, Options, Translator};
use proptest::prelude::*;

/// Each slot is one object, in several forms; the first form stands for its absence.
const SLOTS: &[&[&str]] = &[
    &[
        "{kind: Service, name: a, spec: {selector: {app: a}, ports: [{name: http, port: 80, targetPort: web}]}}",
        "{kind: Service, name: a, spec: {selector: {app: a}, ports: [{port: 80}, {name: grpc, port: 81}]}}",
        "{kind: Service, name: a, spec: {ports: [{port: 80}]}}",
    ],
    &["{kind: Service, name: b, spec: {selector: {app: b}, ports: [{name: tcp, port: 80}]}}"],
    &[
        "{kind: Pod, name: a-0, labels: {app: a, version: v1}, spec: {containers: [{name: c, ports: [{name: web, containerPort: 8080}]}]}, status: {podIP: 10.0.0.1}}",
        "{kind: Pod, name: a-0, labels: {app: a, version: v1}, spec: {containers: [{name: c, ports: [{name: web, containerPort: 8080}]}]}, status: {podIP: 10.0.0.1, conditions: [{type: Ready, status: 'True'}]}}",
        "{kind: Pod, name: a-0, labels: {app: a, version: v2}, spec: {serviceAccountName: x, containers: [{name: c}]}, status: {podIP: 10.0.0.9}}",
    ],
    &[
        "{kind: Pod, name: b-0, labels: {app: b}, spec: {containers: [{name: c}]}, status: {podIP: 10.0.0.2}}",
    ],
    &[
        "{kind: DestinationRule, name: a, spec: {host: a, subsets: [{name: v1, labels: {version: v1}}]}}",
        "{kind: DestinationRule, name: a, spec: {host: a, trafficPolicy: {loadBalancer: {simple: RANDOM}}}}",
        "{kind: DestinationRule, name: a, spec: {host: '*.default.svc.cluster.local', trafficPolicy: {loadBalancer: {simple: RANDOM}}}}",
    ],
    &[
        "{kind: DestinationRule, name: a2, spec: {host: a, subsets: [{name: v1, labels: {version: v9}}, {name: v2, labels: {version: v2}}]}}",
    ],
    &[
        "{kind: VirtualService, name: a, spec: {hosts: [a], http: [{route: [{destination: {host: a, subset: v1}}]}]}}",
        "{kind: VirtualService, name: a, spec: {hosts: [a, api.example.com], http: [{match: [{port: 80}], route: [{destination: {host: b}}]}]}}",
        "{kind: VirtualService, name: a, spec: {hosts: ['*.default.svc.cluster.local'], http: [{match: [{sourceLabels: {app: b}}], route: [{destination: {host: a}}]}]}}",
    ],
    &[
        "{kind: VirtualService, name: a0, spec: {hosts: [a], exportTo: ['.'], http: [{route: [{destination: {host: b}}]}]}}",
    ],
    &[
        "{kind: PeerAuthentication, name: default, spec: {mtls: {mode: STRICT}}}",
        "{kind: PeerAuthentication, name: default, spec: {selector: {matchLabels: {app: a}}, mtls: {mode: DISABLE}}}",
    ],
    &[
        "{kind: AuthorizationPolicy, name: p, spec: {}}",
        "{kind: AuthorizationPolicy, name: p, spec: {selector: {matchLabels: {app: b}}, rules: [{}]}}",
    ],
    &[
        "{kind: ServiceEntry, name: e, spec: {hosts: [api.example.com], ports: [{name: http, number: 80, protocol: HTTP}], resolution: DNS}}",
        "{kind: ServiceEntry, name: e, spec: {hosts: [api.example.com], ports: [{name: http, number: 80, protocol: HTTP}], resolution: STATIC, endpoints: [{address: 1.2.3.4}]}}",
    ],
    &[
        "{kind: Gateway, name: gw, spec: {selector: {istio: gw}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]}}",
        "{kind: Gateway, name: gw, spec: {selector: {istio: gw}, servers: [{port: {number: 443, name: https, protocol: HTTPS}, hosts: ['*.example.com'], tls: {mode: MUTUAL, credentialName: c}}]}}",
    ],
    &[
        "{kind: Gateway, name: gw2, namespace: other, spec: {selector: {istio: gw}, servers: [{port: {number: 80, name: tcp, protocol: TCP}, hosts: ['*']}]}}",
    ],
    &[
        "{kind: Pod, name: gw-0, labels: {istio: gw, gateway.networking.k8s.io/gateway-name: x}, spec: {containers: [{name: c}]}, status: {podIP: 10.0.0.3}}",
    ],
    &[
        "{kind: VirtualService, name: entry, spec: {hosts: [api.example.com], gateways: [gw, other/gw2], http: [{delegate: {name: leaf}}]}}",
        "{kind: VirtualService, name: entry, spec: {hosts: ['*'], gateways: [gw, other/gw2], http: [{route: [{destination: {host: a, port: {number: 80}}}]}], tcp: [{route: [{destination: {host: b}}]}]}}",
    ],
    &[
        "{kind: VirtualService, name: leaf, spec: {http: [{match: [{uri: {prefix: /x}}], route: [{destination: {host: b}}]}]}}",
        "{kind: VirtualService, name: leaf, spec: {exportTo: [nobody], http: [{route: [{destination: {host: b}}]}]}}",
    ],
    &[
        "{kind: Sidecar, name: s, spec: {egress: [{hosts: ['./*']}], outboundTrafficPolicy: {mode: REGISTRY_ONLY}}}",
        "{kind: Sidecar, name: s, spec: {workloadSelector: {labels: {app: a}}, ingress: [{port: {number: 8080, protocol: HTTP, name: x}, defaultEndpoint: '127.0.0.1:1'}], egress: [{hosts: ['~/*']}]}}",
    ],
    &[
        "{kind: Sidecar, name: all, namespace: istio-system, spec: {egress: [{hosts: ['default/b.default.svc.cluster.local']}]}}",
    ],
    &[
        "{kind: EnvoyFilter, name: f, spec: {workloadSelector: {labels: {app: a}}, configPatches: [{applyTo: HTTP_FILTER, patch: {operation: INSERT_FIRST, value: {typed_config: {'@type': x/LocalRateLimit, token_bucket: {max_tokens: 1, fill_interval: 1s}, filter_enabled: {default_value: {numerator: 100}}}}}}]}}",
    ],
    &[
        "{kind: EnvoyFilter, name: g, spec: {configPatches: [{applyTo: HTTP_FILTER, patch: {operation: INSERT_FIRST, value: {typed_config: {'@type': x/envoy.extensions.filters.http.ratelimit.v3.RateLimit, domain: d, rate_limit_service: {grpc_service: {envoy_grpc: {cluster_name: 'outbound|80||b.default.svc.cluster.local'}}}}}}}]}}",
        "{kind: EnvoyFilter, name: g, spec: {configPatches: [{applyTo: CLUSTER, patch: {operation: ADD, value: {name: c, load_assignment: {endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: a.default.svc.cluster.local, port_value: 80}}}}]}]}}}}]}}",
    ],
    &[
        "{kind: EnvoyFilter, name: h, spec: {configPatches: [{applyTo: VIRTUAL_HOST, patch: {operation: MERGE, value: {rate_limits: [{actions: [{remote_address: {}}]}]}}}]}}",
    ],
    &[
        "{kind: ConfigMap, name: limits, data: {a: '{domain: d, descriptors: [{key: remote_address, rate_limit: {unit: hour, requests_per_unit: 1}}]}'}}",
        "{kind: ConfigMap, name: limits, data: {a: '{domain: e, descriptors: []}'}}",
    ],
    &[
        "{kind: WorkloadGroup, name: w, spec: {metadata: {labels: {app: a}}, template: {serviceAccount: x}, probe: {tcpSocket: {port: 1}}}}",
        "{kind: WorkloadGroup, name: w, spec: {metadata: {labels: {app: b}}, template: {serviceAccount: x}, probe: {tcpSocket: {port: 1}}}}",
    ],
    &[
        "{kind: Secret, name: c, data: {tls.crt: eA==, tls.key: eA==}}",
        "{kind: Secret, name: c, data: {tls.crt: eQ==, tls.key: eA==, ca.crt: eA==}}",
    ],
    &[
        "{kind: ConfigMap, name: istio, namespace: istio-system, data: {mesh: 'trustDomain: other'}}",
    ],
];

fn read(text: &str) -> Vec<AnyObject> {
    let group = |kind: &str| match kind {
        "Service" | "Pod" | "ConfigMap" | "Secret" => "v1",
        "EnvoyFilter" => "networking.istio.io/v1alpha3",
        "PeerAuthentication" | "AuthorizationPolicy" => "security.istio.io/v1",
        _ => "networking.istio.io/v1",
    };
    let kind = text.split([':', ',']).nth(1).unwrap().trim();
    // The short form has the fields of `metadata` beside `kind`.
    let field = |name: &str| {
        let at = text.find(&format!(" {name}: "))?;
        let rest = &text[at + name.len() + 3..];
        Some(if rest.starts_with('{') {
            &rest[..=rest.find('}')?]
        } else {
            &rest[..rest.find(',')?]
        })
    };
    let body = ["spec: ", "data: "].iter().find_map(|key| text.find(&format!(" {key}"))).unwrap();
    let yaml = format!(
        "{{apiVersion: {}, kind: {kind}, metadata: {{name: {}, namespace: {}, labels: {}}},{}",
        group(kind),
        field("name").unwrap(),
        field("namespace").unwrap_or("default"),
        field("labels").unwrap_or("{}"),
        &text[body..],
    );
    let loaded = Reader::default().read_file("test.yaml", yaml.as_bytes());
    assert!(!loaded.diagnostics.has_errors(), "{yaml}: {:?}", loaded.diagnostics);
    loaded.resources
}

/// Everything that anybody might ask for.
fn names() -> Vec<ResourceName> {
    let mut names = Vec::new();
    let hosts = ["a.default.svc.cluster.local", "b.default.svc.cluster.local", "api.example.com"];
    for scope in ["default?app=a", "default?app=b", "other"] {
        names.push(ResourceName::Index(ScopeId(scope.into())));
        for host in hosts.iter().chain(&["*.default.svc.cluster.local"]) {
            for port in [80, 81] {
                let scope = ScopeId(scope.into());
                names.push(ResourceName::Outbound(OutboundKey {
                    scope,
                    host: (*host).into(),
                    port,
                }));
            }
        }
    }
    for host in hosts {
        let host = Host::parse(host).unwrap();
        names.push(ResourceName::Endpoints(EndpointSetKey { host, port: 80 }));
    }
    names.push(ResourceName::Secret(SecretKey {
        kind: SecretKind::Secret,
        namespace: "default".into(),
        name: "c".into(),
    }));
    for pod in ["a-0", "b-0", "gw-0"] {
        let id = WorkloadId::new(format!("standalone/Pod/default/{pod}"));
        names.push(ResourceName::Inbound(id.clone()));
        names.push(ResourceName::Gateway(id.clone()));
        names.push(ResourceName::Proxy(id));
    }
    for address in ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.9"] {
        names.push(ResourceName::Workload(NetworkName::new(""), address.parse().unwrap()));
    }
    names
}

type Answers = BTreeMap<ResourceName, Option<Resource>>;

fn answers(translator: &Translator) -> Answers {
    names().into_iter().map(|name| (name.clone(), translator.resource(&name))).collect()
}

/// A slot and a form of it; form 0 is its absence.
fn step() -> impl Strategy<Value = (usize, usize)> {
    (0..SLOTS.len()).prop_flat_map(|slot| (Just(slot), 0..=SLOTS[slot].len()))
}

fn changes(slot: usize, form: usize) -> Vec<Change> {
    match form.checked_sub(1) {
        Some(form) => read(SLOTS[slot][form]).into_iter().map(Change::Upsert).collect(),
        None => read(SLOTS[slot][0])
            .iter()
            .map(|object| Change::Delete(ObjectKey::of(object)))
            .collect(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn increments_equal_a_full_computation(
        steps in prop::collection::vec((step(), any::<bool>()), 1..24),
    ) {
        let mut translator = Translator::new(Options::default());
        let mut forms = vec![0; SLOTS.len()];
        let mut known = answers(&translator);
        let mut touched = std::collections::BTreeSet::new();
        for ((slot, form), ask) in steps {
            forms[slot] = form;
            touched.extend(translator.apply(changes(slot, form)).resources);
            if !ask {
                continue;
            }
            let now = answers(&translator);
            for (name, value) in &now {
                prop_assert!(
                    known.get(name) == Some(value) || touched.contains(name),
                    "{name} changed unannounced"
                );
            }
            known = now;
            touched.clear();
        }
        let mut full = Translator::new(Options::default());
        for (slot, form) in forms.iter().enumerate() {
            full.apply(changes(slot, *form));
        }
        let (own, other) = (answers(&translator), answers(&full));
        for (name, value) in &own {
            prop_assert_eq!(value, &other[name], "{}", name);
        }
        let texts = |translator: &Translator| -> Vec<String> {
            translator.findings().iter().map(|finding| format!("{} {}", finding.origin, finding.message)).collect()
        };
        prop_assert_eq!(texts(&translator), texts(&full));
        prop_assert_eq!(translator.outcomes(), full.outcomes());
    }
}

/// All objects, in their first form.
fn whole() -> Translator {
    let mut translator = Translator::new(Options::default());
    for slot in 0..SLOTS.len() {
        translator.apply(changes(slot, 1));
    }
    translator
}

#[test]
fn a_change_of_an_endpoint_touches_no_route() {
    let mut translator = whole();
    let before = answers(&translator);
    let changed = translator.apply(changes(2, 2));
    let after = answers(&translator);
    for name in &changed.resources {
        assert!(!matches!(name, ResourceName::Outbound(_) | ResourceName::Index(_)), "{name}");
    }
    let different: Vec<String> = before
        .iter()
        .filter(|(name, value)| after[*name] != **value)
        .map(|(name, _)| name.to_string())
        .collect();
    assert_eq!(different, ["endpoints a.default.svc.cluster.local:80"]);
}

#[test]
fn a_route_of_one_host_touches_no_other_host() {
    let mut translator = whole();
    answers(&translator);
    let changed = translator.apply(changes(7, 0));
    for name in &changed.resources {
        if let ResourceName::Outbound(key) = name {
            assert_eq!(&*key.host, "a.default.svc.cluster.local", "{name}");
        }
    }
    assert!(!changed.resources.is_empty());
}

#[test]
fn what_is_gone_leaves_nothing_behind() {
    fn is_send<T: Send>(value: T) -> T {
        value
    }
    let mut translator = is_send(whole());
    assert_eq!(translator.workloads().len(), 3);
    assert!(!translator.findings().is_empty());
    for slot in 0..SLOTS.len() {
        translator.apply(changes(slot, 0));
    }
    assert!(translator.findings().is_empty() && translator.workloads().is_empty());
    translator.apply(changes(0, 0));
    assert_eq!(translator.derived_len(), 0);
}

#[test]
fn what_is_forgotten_is_not_held() {
    let mut translator = whole();
    let held = translator.derived_len();
    assert_eq!(held, 0, "nothing is derived before it is asked for");
    answers(&translator);
    assert!(translator.derived_len() > 20);
    for name in names() {
        translator.forget(&name);
    }
    assert_eq!(translator.derived_len(), 0);
}
