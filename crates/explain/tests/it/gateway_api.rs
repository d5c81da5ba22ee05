//! What is easily got wrong of the Gateway API (API.md section 0), by requests.

use heddle_explain::{Answer, Verdict, World};

use super::shared::{ask, query, with, world};

/// Services of two versions, one without workload, and another namespace's; a Gateway with a listener for all.
const SHOP: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Service
metadata: {name: a, namespace: shop}
spec: {selector: {app: a}, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: b, namespace: shop}
spec: {selector: {app: b}, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: empty, namespace: shop}
spec: {selector: {app: empty}, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: far, namespace: bank}
spec: {selector: {app: far}, ports: [{name: http, port: 80}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: a, namespace: shop}
spec: {selector: {matchLabels: {app: a}}, template: {metadata: {labels: {app: a}}, spec: {containers: [{name: c, image: i}]}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: b, namespace: shop}
spec: {selector: {matchLabels: {app: b}}, template: {metadata: {labels: {app: b}}, spec: {containers: [{name: c, image: i}]}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: client, namespace: shop}
spec: {selector: {matchLabels: {app: client}}, template: {metadata: {labels: {app: client}}, spec: {containers: [{name: c, image: i}]}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: far, namespace: bank}
spec: {selector: {matchLabels: {app: far}}, template: {metadata: {labels: {app: far}}, spec: {containers: [{name: c, image: i}]}}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: web, namespace: shop}
spec: {gatewayClassName: any, listeners: [{name: http, port: 80, protocol: HTTP}]}
";

/// A route with rules (flow style, without brackets).
fn route(kind: &str, name: &str, parent: &str, rules: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{parentRefs: [{parent}], rules: [{rules}]}}\n"
    )
}

fn on_gateway(rules: &str) -> World {
    world(&[("shop.yaml", SHOP), ("r.yaml", &route("HTTPRoute", "r", "{name: web}", rules))])
}

fn at_gateway(world: &World, request: &str) -> Answer {
    ask(world, "gateway:shop/web", "any.example:80", request)
}

/// The service that a request gets to, or the status that it gets.
fn outcome(answer: &Answer) -> String {
    let served = answer.destinations.iter().find(|one| one.weight > 0);
    match (answer.verdict, served, answer.status) {
        (Verdict::Forward, Some(served), _) => served.service.clone(),
        (.., Some(status)) => status.to_string(),
        _ => format!("{:?}", answer.verdict),
    }
}

#[test]
fn regular_expressions_match_the_whole_value() {
    let world = on_gateway(
        "{matches: [{path: {type: RegularExpression, value: '/v[0-9]+'}}], backendRefs: [{name: a, port: 80}]}, \
         {matches: [{headers: [{name: x, type: RegularExpression, value: 'a|ab'}]}], backendRefs: [{name: b, port: 80}]}, \
         {matches: [{queryParams: [{name: q, type: RegularExpression, value: 'y.'}]}], backendRefs: [{name: b, port: 80}]}",
    );
    let told = |request: &str| outcome(&at_gateway(&world, request));
    assert_eq!(told("GET /v12"), "shop/a");
    assert_eq!(told("GET /v12/x"), "404");
    assert_eq!(told("GET /x/v12"), "404");
    assert_eq!(told("GET /?q=yz"), "shop/b");
    assert_eq!(told("GET /?q=xyz"), "404");
    let header = |value: &str| {
        let query = query("gateway:shop/web", "any.example:80", "GET /");
        outcome(&world.explain(&with(query, "X", value)).unwrap())
    };
    assert_eq!((&*header("ab"), &*header("abc"), &*header("b")), ("shop/b", "404", "404"));
}

#[test]
fn specificity_counts_and_not_the_order_of_rules() {
    let world = on_gateway(
        "{matches: [{path: {value: /}}], backendRefs: [{name: a, port: 80}]}, \
         {matches: [{path: {value: /x/}}], backendRefs: [{name: b, port: 80}]}, \
         {matches: [{method: POST}], backendRefs: [{name: b, port: 80}]}, \
         {matches: [{headers: [{name: h, value: '1'}]}], backendRefs: [{name: empty, port: 80}]}",
    );
    let told = |request: &str| outcome(&at_gateway(&world, request));
    assert_eq!(told("GET /x"), "shop/b", "a slash at the end of a prefix says nothing");
    assert_eq!(told("GET /xy"), "shop/a");
    assert_eq!(told("POST /y"), "shop/b", "a method goes before a header");
    let both = with(query("gateway:shop/web", "any.example:80", "POST /"), "H", "1");
    assert_eq!(outcome(&world.explain(&both).unwrap()), "shop/b");
}

#[test]
fn what_leads_nowhere_keeps_its_share() {
    let world = on_gateway(
        "{matches: [{path: {value: /half}}], backendRefs: [{name: a, port: 80, weight: 3}, {name: gone, port: 80, weight: 1}, {name: b, port: 80, weight: 0}]}, \
         {matches: [{path: {value: /zero}}], backendRefs: [{name: a, port: 80, weight: 0}]}, \
         {matches: [{path: {value: /grant}}], backendRefs: [{name: far, namespace: bank, port: 80}]}, \
         {matches: [{path: {value: /port}}], backendRefs: [{name: a, port: 81}]}, \
         {matches: [{path: {value: /kind}}], backendRefs: [{group: x.io, kind: Y, name: a, port: 80}]}, \
         {matches: [{path: {value: /empty}}], backendRefs: [{name: empty, port: 80}]}, \
         {matches: [{path: {value: /filter}}], filters: [{type: ExtensionRef, extensionRef: {group: x.io, kind: Y, name: z}}], backendRefs: [{name: a, port: 80}]}",
    );
    let half = at_gateway(&world, "GET /half");
    let shares: Vec<_> =
        half.alternatives.iter().map(|one| (one.percent, one.verdict, one.status)).collect();
    assert_eq!(shares, [(75.0, Verdict::Forward, None), (25.0, Verdict::Unreachable, Some(500))]);
    assert!(half.destinations.iter().all(|one| one.service != "shop/b" || one.weight == 0));
    let told = |path: &str| outcome(&at_gateway(&world, &format!("GET {path}")));
    assert_eq!(told("/grant"), "500");
    assert_eq!(told("/port"), "500");
    assert_eq!(told("/kind"), "500");
    assert_eq!(told("/empty"), "503");
    assert_eq!(told("/filter"), "500", "a filter that nobody knows is never skipped");
    assert_eq!(told("/zero"), "500", "a weight of 0 takes no request, and there is no other");
    let calls = route("GRPCRoute", "g", "{name: web}", "{backendRefs: [{name: gone, port: 80}]}");
    let world = self::world(&[("shop.yaml", SHOP), ("g.yaml", &calls)]);
    let mut call = query("gateway:shop/web", "any.example:80", "POST /p.S/M");
    call.protocol = Some("grpc".to_owned());
    assert_eq!(world.explain(&call).unwrap().grpc_status, Some(14));
    call.path = Some("/p".to_owned());
    assert_eq!(world.explain(&call).unwrap().grpc_status, Some(14), "no match takes all");
}

#[test]
fn a_grant_opens_what_it_names_and_no_more() {
    let rules =
        "{matches: [{path: {value: /far}}], backendRefs: [{name: far, namespace: bank, port: 80}]}";
    let grant = |from: &str, to: &str| {
        let grant = format!(
            "---\napiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\nmetadata: {{name: g, namespace: bank}}\n\
             spec: {{from: [{from}], to: [{to}]}}\n"
        );
        let text = [route("HTTPRoute", "r", "{name: web}", rules), grant].concat();
        outcome(&at_gateway(&world(&[("shop.yaml", SHOP), ("r.yaml", &text)]), "GET /far"))
    };
    let from = "{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop}";
    assert_eq!(grant(from, "{group: '', kind: Service}"), "bank/far");
    assert_eq!(grant(from, "{group: '', kind: Service, name: far}"), "bank/far");
    assert_eq!(grant(from, "{group: '', kind: Service, name: near}"), "500");
    assert_eq!(grant(from, "{group: '', kind: Secret}"), "500");
    assert_eq!(grant(&from.replace("HTTPRoute", "GRPCRoute"), "{group: '', kind: Service}"), "500");
    assert_eq!(grant(&from.replace("shop", "other"), "{group: '', kind: Service}"), "500");
}

#[test]
fn of_equal_matches_the_oldest_route_decides() {
    let routes = |times: [&str; 2]| {
        let rule = |name: &str| format!("{{backendRefs: [{{name: {name}, port: 80}}]}}");
        let mut text = String::new();
        for (name, time) in ["b", "a"].iter().zip(times) {
            let one = route("HTTPRoute", &format!("r-{name}"), "{name: web}", &rule(name));
            text += &one.replace(
                ", namespace: shop}\nspec",
                &format!(", namespace: shop, creationTimestamp: '{time}'}}\nspec"),
            );
        }
        outcome(&at_gateway(&world(&[("shop.yaml", SHOP), ("r.yaml", &text)]), "GET /"))
    };
    let (old, new) = ("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z");
    assert_eq!(routes([old, new]), "shop/b");
    assert_eq!(routes([new, old]), "shop/a");
    assert_eq!(routes([old, old]), "shop/a", "of the same age the name decides");
}

#[test]
fn of_the_kinds_of_a_service_port_one_acts() {
    let parent = "{group: '', kind: Service, name: a}";
    let http = route("HTTPRoute", "h", parent, "{backendRefs: [{name: b, port: 80}]}");
    let calls = route(
        "GRPCRoute",
        "g",
        parent,
        "{matches: [{method: {service: p.S}}], backendRefs: [{name: a, port: 80}]}",
    );
    let streams = route("TCPRoute", "t", parent, "{backendRefs: [{name: b, port: 80}]}");
    let told = |routes: &[&str], request: &str| {
        let text = routes.concat();
        let world = world(&[("shop.yaml", SHOP), ("r.yaml", &text)]);
        outcome(&ask(&world, "shop/client", "a:80", request))
    };
    assert_eq!(told(&[&http], "GET /"), "shop/b");
    // The GRPCRoute has the port, so that what it does not take is nobody's.
    assert_eq!(told(&[&http, &calls], "GET /"), "404");
    assert_eq!(told(&[&http, &streams], "GET /"), "shop/b");
    assert_eq!(told(&[&streams, &http], "GET /"), "shop/b");
    assert_eq!(told(&[&streams], "GET /"), "shop/b");
    // The hostnames of a route of a Service mean nothing.
    let named = http.replace("spec: {", "spec: {hostnames: [other.example], ");
    assert_eq!(told(&[&named], "GET /"), "shop/b");
}

#[test]
fn a_consumer_route_is_for_its_own_namespace_and_hides_the_producers() {
    let parent = "{group: '', kind: Service, name: a, namespace: shop}";
    let producer = route("HTTPRoute", "p", parent, "{backendRefs: [{name: b, port: 80}]}");
    let consumer = route(
        "HTTPRoute",
        "c",
        parent,
        "{matches: [{path: {value: /mine}}], backendRefs: [{name: a, namespace: shop, port: 80}]}",
    )
    .replace("namespace: shop}\nspec", "namespace: bank}\nspec");
    let text = [producer, consumer].concat();
    let world = world(&[("shop.yaml", SHOP), ("r.yaml", &text)]);
    let told =
        |from: &str, path: &str| outcome(&ask(&world, from, "a.shop:80", &format!("GET {path}")));
    assert_eq!(told("shop/client", "/mine"), "shop/b");
    assert_eq!(told("bank/far", "/mine"), "shop/a");
    assert_eq!(told("bank/far", "/other"), "404");
}

#[test]
fn prefixes_are_replaced_by_element() {
    let rules = |to: &str| {
        format!(
            "{{matches: [{{path: {{value: /foo}}}}], filters: [{{type: URLRewrite, urlRewrite: {{hostname: in.example, path: {{type: ReplacePrefixMatch, replacePrefixMatch: '{to}'}}}}}}], backendRefs: [{{name: a, port: 80}}]}}"
        )
    };
    for (to, path, result) in [
        ("/xyz", "/foo/bar", "/xyz/bar"),
        ("/xyz", "/foo", "/xyz"),
        ("/xyz", "/foo/", "/xyz/"),
        ("/xyz/", "/foo/bar", "/xyz/bar"),
        ("/", "/foo/bar", "/bar"),
        ("/", "/foo", "/"),
        ("", "/foo/bar?a=b", "/bar?a=b"),
    ] {
        let answer = at_gateway(&on_gateway(&rules(to)), &format!("GET {path}"));
        let request = &answer.destinations[0].request;
        assert_eq!((&*request.path, &*request.authority), (result, "in.example"), "{to} {path}");
    }
}

#[test]
fn sessions_timeouts_and_retries_are_told() {
    let world = on_gateway(
        "{timeouts: {request: 3s, backendRequest: 500ms}, retry: {codes: [503], attempts: 4, backoff: 10ms}, \
          sessionPersistence: {sessionName: s, type: Cookie, absoluteTimeout: 1h, cookie: {lifetimeType: Permanent}}, backendRefs: [{name: a, port: 80}]}",
    );
    let answer = at_gateway(&world, "GET /");
    assert_eq!(answer.timeout_ms, Some(3000));
    let retries = answer.retries.unwrap();
    assert_eq!((retries.attempts, retries.per_try_timeout_ms), (4, Some(500)));
    assert!(retries.on.contains(&"503".to_owned()), "{:?}", retries.on);
    let unlimited = on_gateway("{timeouts: {request: 0s}, backendRefs: [{name: a, port: 80}]}");
    assert_eq!(at_gateway(&unlimited, "GET /").timeout_ms, None);
}

#[test]
fn what_a_listener_asks_of_clients_is_asked() {
    let told = |option: &str| {
        let text = format!(
            "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: s, namespace: shop}}\ntype: kubernetes.io/tls\nstringData:\n  \
             tls.crt: |\n    -----BEGIN CERTIFICATE-----\n    MAMCAQE=\n    -----END CERTIFICATE-----\n  \
             tls.key: |\n    -----BEGIN PRIVATE KEY-----\n    MAMCAQE=\n    -----END PRIVATE KEY-----\n---\n\
             apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: safe, namespace: shop}}\n\
             spec: {{gatewayClassName: any, listeners: [{{name: https, port: 443, protocol: HTTPS, \
             tls: {{certificateRefs: [{{name: s}}], options: {{gateway.istio.io/tls-terminate-mode: {option}}}}}}}]}}\n"
        );
        let route = route("HTTPRoute", "r", "{name: safe}", "{backendRefs: [{name: a, port: 80}]}");
        let world = world(&[("shop.yaml", SHOP), ("r.yaml", &[text, route].concat())]);
        ask(&world, "gateway:shop/safe", "any.example:443", "GET /").verdict
    };
    assert_eq!(told("SIMPLE"), Verdict::Forward);
    assert_eq!(told("MUTUAL"), Verdict::Depends, "on the client's certificate");
    assert_eq!(told("ISTIO_MUTUAL"), Verdict::Deny, "a client of the mesh is meant");
    assert_eq!(told("SOMETHING"), Verdict::Unreachable, "never less than what was asked");
}
