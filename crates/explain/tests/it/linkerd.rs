//! Traps of Linkerd's and SMI's APIs (API.md section 0), asked as requests.

use std::fmt::Write;

use heddle_explain::{Answer, Query, Verdict, World};

use super::shared::{ask, query, with, world};

/// A service `web` on port 80 with a workload, and clients `shop/caller` and `other/caller`.
fn shop(annotations: &str) -> String {
    let mut yaml = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: web, namespace: shop}}\n\
         spec: {{selector: {{app: web}}, ports: [{{name: http, port: 80, targetPort: 8080}}]}}\n---\n\
         apiVersion: v1\nkind: Service\nmetadata: {{name: next, namespace: shop}}\n\
         spec: {{selector: {{app: next}}, ports: [{{name: http, port: 80, targetPort: 8080}}]}}\n---\n\
         apiVersion: v1\nkind: Namespace\nmetadata: {{name: shop, annotations: {{{annotations}}}}}\n---\n"
    );
    for (namespace, name) in
        [("shop", "web"), ("shop", "next"), ("shop", "caller"), ("other", "caller")]
    {
        write!(
            yaml,
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
             spec:\n  selector: {{matchLabels: {{app: {name}}}}}\n  template:\n    metadata: {{labels: {{app: {name}}}}}\n\
             \x20   spec: {{serviceAccountName: {name}, containers: [{{name: c, image: i, ports: [{{name: http, containerPort: 8080}}],\n\
             \x20     readinessProbe: {{httpGet: {{path: /ready, port: http}}}}}}]}}\n---\n"
        )
        .unwrap();
    }
    yaml
}

fn verdict(answer: &Answer) -> Verdict {
    answer.verdict
}

/// A plaintext client at an address.
fn plain(address: &str) -> Query {
    let mut query = query("outside", "web.shop:80", "GET /");
    query.source_ip = Some(address.parse().unwrap());
    query
}

const SERVER: &str = "
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {name: web, namespace: shop}
spec: {podSelector: {matchLabels: {app: web}}, port: http}
---
";

/// Every value of the annotation (API.md 7.2), for three clients: of the mesh, of the cluster's networks, and others.
#[test]
fn the_default_inbound_policy_has_six_values() {
    use Verdict::{Deny, Forward};
    for (value, expected) in [
        ("all-unauthenticated", [Forward, Forward, Forward]),
        ("all-authenticated", [Forward, Deny, Deny]),
        ("cluster-authenticated", [Forward, Deny, Deny]),
        ("cluster-unauthenticated", [Forward, Forward, Deny]),
        ("deny", [Deny, Deny, Deny]),
        ("audit", [Forward, Forward, Forward]),
        ("nonsense", [Deny, Deny, Deny]),
    ] {
        let annotation = format!("config.linkerd.io/default-inbound-policy: {value}");
        let world = world(&[("shop.yaml", &shop(&annotation))]);
        let meshed = ask(&world, "other/caller", "web.shop:80", "GET /");
        let near = world.explain(&plain("10.1.2.3")).unwrap();
        let far = world.explain(&plain("203.0.113.9")).unwrap();
        assert_eq!([&meshed, &near, &far].map(verdict), expected, "{value}");
    }
}

/// Hazard 17: a Server closes its port, and its access policy takes the place of the default.
#[test]
fn a_server_closes_its_port() {
    let open = shop("config.linkerd.io/default-inbound-policy: all-unauthenticated");
    let closed = world(&[("shop.yaml", &open), ("server.yaml", SERVER)]);
    let answer = ask(&closed, "shop/caller", "web:80", "GET /");
    assert_eq!((answer.verdict, answer.status), (Verdict::Deny, Some(403)));
    let audited = SERVER.replace("port: http", "port: http, accessPolicy: audit");
    let audited = world(&[("shop.yaml", &open), ("server.yaml", &audited)]);
    assert_eq!(ask(&audited, "shop/caller", "web:80", "GET /").verdict, Verdict::Forward);
    let strict = shop("config.linkerd.io/default-inbound-policy: deny");
    let opened = SERVER.replace("port: http", "port: http, accessPolicy: all-authenticated");
    let opened = world(&[("shop.yaml", &strict), ("server.yaml", &opened)]);
    assert_eq!(ask(&opened, "shop/caller", "web:80", "GET /").verdict, Verdict::Forward);
}

/// Hazard 28: without `networks` a ServerAuthorization is for the cluster's networks, a policy for every address.
#[test]
fn networks_that_are_not_written_mean_two_things() {
    let authorization = "
apiVersion: policy.linkerd.io/v1beta1
kind: ServerAuthorization
metadata: {name: web, namespace: shop}
spec: {server: {name: web}, client: {unauthenticated: true}}
";
    let policy = "
apiVersion: policy.linkerd.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: web, namespace: shop}
spec: {targetRef: {group: policy.linkerd.io, kind: Server, name: web}, requiredAuthenticationRefs: []}
";
    for (object, far) in [(authorization, Verdict::Deny), (policy, Verdict::Forward)] {
        let world =
            world(&[("shop.yaml", &shop("")), ("server.yaml", SERVER), ("it.yaml", object)]);
        let asked =
            ["10.1.2.3", "203.0.113.9"].map(|from| world.explain(&plain(from)).unwrap().verdict);
        assert_eq!(asked, [Verdict::Forward, far]);
    }
}

const ROUTES: &str = "
apiVersion: policy.linkerd.io/v1beta3
kind: HTTPRoute
metadata: {name: admin, namespace: shop}
spec:
  parentRefs: [{group: policy.linkerd.io, kind: Server, name: web}]
  rules: [{matches: [{path: {value: /admin}}]}]
---
apiVersion: policy.linkerd.io/v1beta3
kind: HTTPRoute
metadata: {name: shop, namespace: shop}
spec:
  parentRefs: [{group: policy.linkerd.io, kind: Server, name: web}]
  rules: [{matches: [{path: {value: /shop}}]}]
---
apiVersion: policy.linkerd.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: admin, namespace: shop}
spec:
  targetRef: {group: policy.linkerd.io, kind: HTTPRoute, name: admin}
  requiredAuthenticationRefs: [{kind: ServiceAccount, name: caller}]
---
apiVersion: policy.linkerd.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: everywhere, namespace: shop}
spec:
  targetRef: {kind: Namespace, name: shop}
  requiredAuthenticationRefs: [{kind: ServiceAccount, name: next}]
";

/// API.md 7.5: what a policy on the route, the Server or the namespace allows is added up; what no route takes gets 404.
#[test]
fn routes_have_policies_of_their_own() {
    let world =
        world(&[("shop.yaml", &shop("")), ("server.yaml", SERVER), ("routes.yaml", ROUTES)]);
    for (from, path, expected) in [
        ("shop/caller", "/admin/x", Verdict::Forward),
        ("shop/caller", "/shop", Verdict::Deny),
        ("shop/next", "/admin", Verdict::Forward),
        ("shop/next", "/shop", Verdict::Forward),
        ("other/caller", "/admin", Verdict::Deny),
        ("shop/next", "/administrator", Verdict::NoRoute),
        ("shop/next", "/ready", Verdict::NoRoute),
    ] {
        let answer = ask(&world, from, "web.shop:80", &format!("GET {path}"));
        assert_eq!(answer.verdict, expected, "{from} {path}");
    }
}

const SPLIT: &str = "
apiVersion: split.smi-spec.io/v1alpha1
kind: TrafficSplit
metadata: {name: web, namespace: shop}
spec:
  service: web.shop.svc.cluster.local
  backends: [{service: web, weight: 900m}, {service: next, weight: 100m}]
";

fn shares(answer: &Answer) -> Vec<(String, u32)> {
    let sum: u32 = answer.destinations.iter().map(|one| one.weight).sum();
    let one =
        |view: &heddle_explain::DestinationView| (view.service.clone(), view.weight * 100 / sum);
    answer.destinations.iter().map(one).collect()
}

#[test]
fn quantities_are_shares() {
    let world = world(&[("shop.yaml", &shop("")), ("split.yaml", SPLIT)]);
    let answer = ask(&world, "shop/caller", "web:80", "GET /");
    assert_eq!(shares(&answer), [("shop/web".to_owned(), 90), ("shop/next".to_owned(), 10)]);
    // The backend by its own name is not split again.
    assert_eq!(shares(&ask(&world, "shop/caller", "next:80", "GET /")).len(), 1);
}

const GROUP: &str = "
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: beta, namespace: shop}
spec:
  matches:
  - {name: beta, pathRegex: /beta, methods: [GET], headers: {user-agent: '.*Firefox.*'}}
";

/// Hazard 3: SMI's expressions are anchored at their start only; what no match takes goes to the service itself.
#[test]
fn a_split_with_matches_is_for_some_requests() {
    let split = "
apiVersion: split.smi-spec.io/v1alpha4
kind: TrafficSplit
metadata: {name: web, namespace: shop}
spec:
  service: web
  backends: [{service: next, weight: 1}]
  matches: [{kind: HTTPRouteGroup, name: beta}]
";
    let world = world(&[("shop.yaml", &shop("")), ("split.yaml", split), ("group.yaml", GROUP)]);
    let to = |request: &str, agent: &str| {
        let asked = with(query("shop/caller", "web:80", request), "User-Agent", agent);
        world.explain(&asked).unwrap().destinations[0].service.clone()
    };
    assert_eq!(to("GET /beta/x?y", "A Firefox 1"), "shop/next");
    assert_eq!(to("GET /betatest", "Firefox"), "shop/next");
    assert_eq!(to("GET /x/beta", "Firefox"), "shop/web");
    assert_eq!(to("POST /beta", "Firefox"), "shop/web");
    assert_eq!(to("GET /beta", "Chrome"), "shop/web");
}

fn target(world: &World, from: &str, request: &str) -> Verdict {
    ask(world, from, "web.shop:80", request).verdict
}

/// API.md 9.3, in the forms of the first and the last version: a destination with a target takes nothing else.
#[test]
fn a_target_closes_its_destination() {
    let last = "
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {name: web, namespace: shop}
spec:
  destination: {kind: ServiceAccount, name: web, namespace: shop}
  sources: [{kind: ServiceAccount, name: caller, namespace: shop}]
  rules: [{kind: HTTPRouteGroup, name: beta, matches: [beta]}]
";
    let first = "
apiVersion: access.smi-spec.io/v1alpha1
kind: TrafficTarget
metadata: {name: web, namespace: shop}
destination: {kind: ServiceAccount, name: web, namespace: shop, port: 8080}
sources: [{kind: ServiceAccount, name: caller, namespace: shop}]
specs: [{kind: HTTPRouteGroup, name: beta, matches: [beta]}]
";
    let group = GROUP.replace(", headers: {user-agent: '.*Firefox.*'}", "");
    for object in [last, first] {
        let world =
            world(&[("shop.yaml", &shop("")), ("target.yaml", object), ("group.yaml", &group)]);
        assert_eq!(target(&world, "shop/caller", "GET /beta"), Verdict::Forward);
        assert_eq!(target(&world, "shop/caller", "POST /beta"), Verdict::Deny);
        assert_eq!(target(&world, "shop/caller", "GET /"), Verdict::Deny);
        assert_eq!(target(&world, "other/caller", "GET /beta"), Verdict::Deny);
        // Workloads of other accounts are as open as they were.
        let open = ask(&world, "other/caller", "next.shop:80", "GET /");
        assert_eq!(open.verdict, Verdict::Forward);
    }
}

/// API.md 7.9 and hazards 14, 16 and 18: annotations of a route take the place of the Service's, a set as a whole.
#[test]
fn annotations_replace_each_other_as_sets() {
    let annotated = |text: &str| {
        shop("").replacen(
            "{name: web, namespace: shop}",
            &format!("{{name: web, namespace: shop, annotations: {{{text}}}}}"),
            1,
        )
    };
    let service = annotated(
        "retry.linkerd.io/http: 5xx, retry.linkerd.io/limit: '4', retry.linkerd.io/timeout: 1s, timeout.linkerd.io/request: 9s",
    );
    let route = "
apiVersion: policy.linkerd.io/v1beta3
kind: HTTPRoute
metadata: {name: web, namespace: shop, annotations: {retry.linkerd.io/http: '503'}}
spec:
  parentRefs: [{group: core, kind: Service, name: web, port: 80}]
  rules: [{backendRefs: [{name: next, port: 80}]}]
";
    let of = |texts: &[(&str, &str)]| {
        let answer = ask(&world(texts), "shop/caller", "web:80", "GET /");
        let retries = answer.retries.unwrap();
        (retries.attempts, retries.per_try_timeout_ms, answer.timeout_ms)
    };
    assert_eq!(of(&[("shop.yaml", &service)]), (4, Some(1000), Some(9000)));
    // No limit of the route's means one, not four; the Service's time limits hold, as the route has none.
    assert_eq!(of(&[("shop.yaml", &service), ("route.yaml", route)]), (1, None, Some(9000)));
    // What a rule says itself goes before its Service.
    let rule = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: shop}
spec:
  parentRefs: [{group: '', kind: Service, name: web, port: 80}]
  rules: [{retry: {codes: [503], attempts: 2}, timeouts: {request: 7s}, backendRefs: [{name: next, port: 80}]}]
";
    assert_eq!(of(&[("shop.yaml", &service), ("route.yaml", rule)]), (2, None, Some(7000)));
    let profile = "
apiVersion: linkerd.io/v1alpha2
kind: ServiceProfile
metadata: {name: web.shop.svc.cluster.local, namespace: shop}
spec: {routes: [{name: all, condition: {pathRegex: '/.*'}, timeout: 3s}]}
";
    let texts = [("shop.yaml", &*service), ("route.yaml", route), ("profile.yaml", profile)];
    let answer = ask(&world(&texts), "shop/caller", "web:80", "GET /");
    assert_eq!(answer.timeout_ms, Some(3000));
    assert_eq!(answer.destinations[0].service, "shop/web");
}

/// API.md 7.11: routes in order, expressions for the whole path, and what no route takes goes on all the same.
#[test]
fn routes_of_a_profile_match_whole_paths_in_order() {
    let profile = "
apiVersion: linkerd.io/v1alpha2
kind: ServiceProfile
metadata: {name: web.shop.svc.cluster.local, namespace: shop}
spec:
  routes:
  - {name: one, condition: {pathRegex: /a}, timeout: 1s}
  - {name: two, condition: {all: [{method: GET}, {not: {pathRegex: /b.*}}]}, timeout: 2s}
  - {name: three, condition: {any: [{pathRegex: /b}, {method: POST}]}, timeout: 3s}
";
    let world = world(&[("shop.yaml", &shop("")), ("profile.yaml", profile)]);
    for (request, expected) in [
        ("GET /a", Some(1000)),
        ("GET /ab", Some(2000)),
        ("GET /b", Some(3000)),
        ("GET /bc", None),
        ("POST /x", Some(3000)),
        ("PUT /x", None),
    ] {
        let answer = ask(&world, "shop/caller", "web:80", request);
        assert_eq!((answer.verdict, answer.timeout_ms), (Verdict::Forward, expected), "{request}");
    }
}

/// API.md 7.11: a profile in the client's namespace goes before the service's own.
#[test]
fn the_clients_own_profile_goes_first() {
    let profile = |namespace: &str, timeout: &str| {
        format!(
            "apiVersion: linkerd.io/v1alpha2\nkind: ServiceProfile\n\
             metadata: {{name: web.shop.svc.cluster.local, namespace: {namespace}}}\n\
             spec: {{routes: [{{name: all, condition: {{method: GET}}, timeout: {timeout}}}]}}\n"
        )
    };
    let (own, theirs) = (profile("shop", "1s"), profile("other", "2s"));
    let world = world(&[("shop.yaml", &shop("")), ("own.yaml", &own), ("theirs.yaml", &theirs)]);
    let timeout = |from: &str| ask(&world, from, "web.shop:80", "GET /").timeout_ms;
    assert_eq!((timeout("shop/caller"), timeout("other/caller")), (Some(1000), Some(2000)));
}

/// API.md 7.13: whether a request is over a limit is for the running mesh to say, and which limits there are is told.
#[test]
fn limits_of_a_server_are_told() {
    let limit = "
apiVersion: policy.linkerd.io/v1alpha1
kind: HTTPLocalRateLimitPolicy
metadata: {name: web, namespace: shop}
spec:
  targetRef: {group: policy.linkerd.io, kind: Server, name: web}
  total: {requestsPerSecond: 10}
";
    let server = SERVER.replace("port: http", "port: http, accessPolicy: all-unauthenticated");
    let world = world(&[("shop.yaml", &shop("")), ("server.yaml", &server), ("limit.yaml", limit)]);
    let limited = ask(&world, "shop/caller", "web:80", "GET /");
    let told =
        limited.destinations[0].servers[0].depends_on.join(" ") + &limited.depends_on.join(" ");
    assert!(told.contains("HTTPLocalRateLimitPolicy"), "{told}");
    let free = ask(&world, "shop/caller", "next:80", "GET /");
    assert!(free.depends_on.is_empty(), "{:?}", free.depends_on);
}
