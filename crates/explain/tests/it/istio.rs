//! What is easily got wrong of Istio's routing (API.md 0 and 2), by requests.

use std::sync::Arc;

use heddle_explain::{Answer, Head, TokenVerdict, Tokens, Verdict, World};
use heddle_ir::authentication::JwtRule;
use heddle_ir::request::{ClaimValue, RequestHead, TokenFacts};

use super::shared::{ask, query, with, world};

/// `reviews` of two versions and a client in `shop`, `ratings` and a client in `other`.
const SHOP: &str = "
apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: shop}
spec: {selector: {app: reviews}, ports: [{name: http, port: 9080}, {name: https, port: 443, targetPort: 9443}]}
---
apiVersion: v1
kind: Service
metadata: {name: ratings, namespace: other}
spec: {selector: {app: ratings}, ports: [{name: http, port: 9080}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: reviews-v1, namespace: shop}
spec: {selector: {matchLabels: {v: v1}}, template: {metadata: {labels: {app: reviews, version: v1}}, spec: {containers: [{name: c, image: i}]}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: reviews-v2, namespace: shop}
spec: {selector: {matchLabels: {v: v2}}, template: {metadata: {labels: {app: reviews, version: v2}}, spec: {containers: [{name: c, image: i}]}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec: {selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web, tier: front}}, spec: {containers: [{name: c, image: i}]}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: ratings, namespace: other}
spec: {selector: {matchLabels: {app: ratings}}, template: {metadata: {labels: {app: ratings}}, spec: {containers: [{name: c, image: i}]}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: far, namespace: other}
spec: {selector: {matchLabels: {app: far}}, template: {metadata: {labels: {app: far}}, spec: {containers: [{name: c, image: i}]}}}
";

const GATEWAY: &str = "
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gw, namespace: istio-system}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]
";

/// What runs it, and the issuer that it believes.
const TOKENS: &str = "
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: ingress, namespace: istio-system}
spec:
  selector: {matchLabels: {istio: ingressgateway}}
  template:
    metadata: {labels: {istio: ingressgateway}, annotations: {inject.istio.io/templates: gateway}}
    spec: {containers: [{name: istio-proxy, image: auto}]}
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: tokens, namespace: istio-system}
spec:
  selector: {matchLabels: {istio: ingressgateway}}
  jwtRules: [{issuer: me, jwksUri: 'https://me.example.com/keys'}]
";

fn virtual_service(name: &str, namespace: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\n\
         metadata: {{name: {name}, namespace: {namespace}}}\nspec:{spec}\n"
    )
}

fn with_objects(objects: &str) -> World {
    world(&[("shop.yaml", SHOP), ("istio.yaml", objects)])
}

fn from_web(world: &World, request: &str) -> Answer {
    ask(world, "shop/web", "reviews:9080", request)
}

/// Where a redirection leads, else the verdict.
fn led(answer: &Answer) -> String {
    answer.location.clone().unwrap_or_else(|| format!("{:?}", answer.verdict))
}

/// Tokens by their names, verified.
struct NamedTokens;

impl Tokens for NamedTokens {
    fn verify(&self, _: &[Arc<JwtRule>], request: &Head) -> TokenVerdict {
        let text = |text: &str| ClaimValue::Text(text.to_owned());
        let claims = match request.header("authorization").as_deref() {
            Some(b"Bearer dev") => {
                vec![
                    ("sub", text("s")),
                    ("groups", ClaimValue::List(vec![text("ops"), text("dev")])),
                ]
            }
            Some(b"Bearer admin") => {
                let realm = ClaimValue::Map([("role".to_owned(), text("admin"))].into());
                vec![("sub", text("s")), ("realm", realm)]
            }
            Some(b"Bearer devel") => vec![("sub", text("s")), ("groups", text("devel"))],
            Some(b"Bearer anyone") => vec![("groups", ClaimValue::List(Vec::new()))],
            _ => {
                return TokenVerdict::Accepted {
                    facts: None,
                    edits: Vec::new(),
                    depends_on: Vec::new(),
                };
            }
        };
        let claims = claims.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let facts = Some(TokenFacts { claims, ..TokenFacts::default() });
        TokenVerdict::Accepted { facts, edits: Vec::new(), depends_on: Vec::new() }
    }
}

#[test]
fn gateways_route_by_claims_of_tokens() {
    let routes = virtual_service(
        "web",
        "shop",
        "
  hosts: ['*']
  gateways: [istio-system/gw]
  http:
  - match: [{headers: {'@request.auth.claims.groups': {exact: dev}}}]
    redirect: {uri: /dev}
  - match: [{headers: {'@request.auth.claims[realm][role]': {prefix: adm}}}]
    redirect: {uri: /admin}
  - match: [{withoutHeaders: {'@request.auth.claims.sub': {}}}]
    redirect: {uri: /nobody}
  - redirect: {uri: /rest}",
    );
    let world = with_objects(&[&routes, GATEWAY, TOKENS].concat());
    let world = world.with_tokens(Box::new(NamedTokens));
    let to = |token: Option<&str>| {
        let mut query = query("gateway:istio-system/gw", "h.com", "GET /");
        query.jwt = token.map(ToOwned::to_owned);
        led(&world.explain(&query).unwrap())
    };
    assert_eq!(to(Some("dev")), "http://h.com/dev");
    assert_eq!(to(Some("admin")), "http://h.com/admin");
    assert_eq!(to(Some("devel")), "http://h.com/rest");
    // What has no token has no claims.
    assert_eq!(to(None), "http://h.com/nobody");
    assert_eq!(to(Some("anyone")), "http://h.com/nobody");
}

#[test]
fn prefixes_are_texts_and_expressions_take_the_whole_value() {
    let routes = virtual_service(
        "reviews",
        "shop",
        "
  hosts: [reviews]
  http:
  - match: [{uri: {prefix: /Foo}, ignoreUriCase: true}]
    rewrite: {uri: /bar}
    route: [{destination: {host: reviews}}]
  - match: [{uri: {regex: '/re/[0-9]+'}}]
    rewrite: {uriRegexRewrite: {match: '^/re/(.*)$', rewrite: '/\\1/\\0'}}
    route: [{destination: {host: reviews}}]
  - match: [{headers: {x-re: {regex: 'a|b'}}}]
    redirect: {uri: /header}
  - match: [{queryParams: {a: {exact: ''}, b: {}, c: {prefix: x}}}]
    redirect: {uri: /query}
  - match: [{withoutHeaders: {x-a: {exact: '1'}, x-b: {}}}]
    redirect: {uri: /without}",
    );
    let world = with_objects(&routes);
    let path = |request: &str| {
        let answer = from_web(&world, request);
        let first = answer.destinations.first();
        first.map_or_else(|| led(&answer), |first| first.request.path.clone())
    };
    assert_eq!(path("GET /foobar/x?q=1"), "/barbar/x?q=1");
    assert_eq!(path("GET /re/12"), "/12//re/12");
    assert_eq!(path("GET /re/12/x"), "http://reviews:9080/without");
    assert_eq!(path("GET /?a=&b=5&c=xy"), "http://reviews:9080/query?a=&b=5&c=xy");
    let headers = |pairs: &[(&str, &str)]| {
        let start = query("shop/web", "reviews:9080", "GET /");
        let query = pairs.iter().fold(start, |query, (name, value)| with(query, name, value));
        led(&world.explain(&query).unwrap())
    };
    assert_eq!(headers(&[("x-re", "b")]), "http://reviews:9080/header");
    assert_eq!(headers(&[("x-re", "ab")]), "http://reviews:9080/without");
    assert_eq!(headers(&[("x-a", "2")]), "http://reviews:9080/without");
    assert_eq!(headers(&[("x-a", "1")]), "NoRoute");
    assert_eq!(headers(&[("x-b", "")]), "NoRoute");
}

#[test]
fn matches_are_for_clients_by_labels_namespace_and_gateway() {
    let routes = virtual_service(
        "reviews",
        "shop",
        "
  hosts: [reviews, a.example.com]
  gateways: [mesh, istio-system/gw]
  http:
  - match: [{gateways: [istio-system/gw], sourceLabels: {tier: none}}]
    redirect: {uri: /gateway}
  - match: [{sourceLabels: {tier: front}, uri: {prefix: /l}}]
    redirect: {uri: /front}
  - match: [{sourceNamespace: other}]
    redirect: {uri: /other}
  - match: [{port: 80}]
    redirect: {uri: /80}
  - match: [{gateways: [elsewhere]}]
    redirect: {uri: /never}",
    );
    let world = with_objects(&[&routes, GATEWAY].concat());
    let to = |from: &str, to: &str, request: &str| led(&ask(&world, from, to, request));
    assert_eq!(to("shop/web", "reviews:9080", "GET /l"), "http://reviews:9080/front");
    assert_eq!(to("shop/web", "reviews:9080", "GET /"), "NoRoute");
    assert_eq!(to("other/far", "reviews.shop:9080", "GET /l"), "http://reviews.shop:9080/other");
    // What names gateways is for these, whatever it says of clients.
    let gateway = to("gateway:istio-system/gw", "a.example.com", "GET /l");
    assert_eq!(gateway, "http://a.example.com/gateway");
}

#[test]
fn delegates_are_within_what_is_delegated() {
    let root = virtual_service(
        "root",
        "shop",
        "
  hosts: [reviews]
  http:
  - match: [{uri: {prefix: /api}, headers: {x-root: {exact: '1'}}}, {uri: {prefix: /v2}}]
    delegate: {name: leaf, namespace: other}
    timeout: 5s
  - match: [{uri: {prefix: /hidden}}]
    delegate: {name: hidden, namespace: other}
  - redirect: {uri: /root}",
    );
    let leaf = virtual_service(
        "leaf",
        "other",
        "
  http:
  - match: [{uri: {prefix: /api/a}}]
    redirect: {uri: /leaf}
  - match: [{uri: {prefix: /elsewhere}}]
    redirect: {uri: /never}
  - match: [{uri: {exact: /v2/x}}]
    route: [{destination: {host: ratings}}]
    timeout: 1s
  - route: [{destination: {host: ratings}}]",
    );
    let hidden = virtual_service(
        "hidden",
        "other",
        "\n  exportTo: [.]\n  http: [{redirect: {uri: /never}}]",
    );
    let world = with_objects(&[root, leaf, hidden].concat());
    let marked = |path: &str| {
        let query = with(query("shop/web", "reviews:9080", &format!("GET {path}")), "x-root", "1");
        world.explain(&query).unwrap()
    };
    assert_eq!(led(&marked("/api/a")), "http://reviews:9080/leaf");
    assert_eq!(led(&from_web(&world, "GET /api/a")), "http://reviews:9080/root");
    // Short names are completed with the namespace of the delegate; what it leaves out is the root's.
    let other = marked("/api/b");
    assert_eq!((&*other.destinations[0].service, other.timeout_ms), ("other/ratings", Some(5000)));
    let own = from_web(&world, "GET /v2/x");
    assert_eq!((&*own.destinations[0].service, own.timeout_ms), ("other/ratings", Some(1000)));
    for path in ["/elsewhere", "/hidden"] {
        assert_eq!(led(&marked(path)), "http://reviews:9080/root", "{path}");
    }
}

#[test]
fn a_nearer_object_decides_for_a_host_and_wildcards_come_last() {
    let redirect = |name: &str, namespace: &str, host: &str, more: &str| {
        let spec = format!("\n  hosts: ['{host}']\n{more}  http: [{{redirect: {{uri: /{name}}}}}]");
        virtual_service(name, namespace, &spec)
    };
    let objects = [
        redirect("older", "shop", "reviews", ""),
        redirect("newer", "shop", "reviews.shop.svc.cluster.local", ""),
        redirect("private", "other", "reviews.shop.svc.cluster.local", "  exportTo: [.]\n"),
        redirect("wild", "shop", "*.other.svc.cluster.local", ""),
        redirect("own", "other", "ratings", "  exportTo: [shop]\n"),
    ];
    let world = with_objects(&objects.concat());
    assert_eq!(led(&from_web(&world, "GET /")), "http://reviews:9080/older");
    let far = |to: &str| led(&ask(&world, "other/far", to, "GET /"));
    assert_eq!(far("reviews.shop:9080"), "http://reviews.shop:9080/private");
    assert_eq!(far("ratings:9080"), "http://ratings:9080/wild");
    let web = led(&ask(&world, "shop/web", "ratings.other:9080", "GET /"));
    assert_eq!(web, "http://ratings.other:9080/own");
}

#[test]
fn wildcards_outside_have_the_endpoints_that_are_listed() {
    let entry = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: wild, namespace: shop}
spec:
  hosts: ['*.example.org']
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 192.0.2.7}]
";
    let world = with_objects(entry);
    let answer = ask(&world, "shop/web", "a.example.org", "GET /");
    assert_eq!(
        (answer.verdict, &*answer.destinations[0].service),
        (Verdict::Forward, "*.example.org")
    );
}

#[test]
fn a_port_of_tls_carries_what_is_said_without_routing_it() {
    let routes =
        virtual_service("reviews", "shop", "\n  hosts: [reviews]\n  http: [{redirect: {uri: /x}}]");
    let world = with_objects(&routes);
    let answer = ask(&world, "shop/web", "reviews:443", "GET /");
    assert_eq!(answer.verdict, Verdict::Forward);
    let mut plain = query("shop/web", "reviews:443", "GET /");
    plain.protocol = Some("http1".to_owned());
    assert_eq!(world.explain(&plain).unwrap().verdict, Verdict::Forward);
}

#[test]
fn a_gateway_is_called_by_the_port_of_the_service_in_front_of_it() {
    let routes = virtual_service(
        "web",
        "shop",
        "\n  hosts: ['*']\n  gateways: [istio-system/gw]\n  http: [{redirect: {uri: /x}}]",
    );
    let front = "
---
apiVersion: v1
kind: Service
metadata: {name: istio-ingressgateway, namespace: istio-system}
spec:
  type: LoadBalancer
  selector: {istio: ingressgateway}
  ports: [{name: http2, port: 80, targetPort: 8080}, {name: https, port: 443, targetPort: 8443}]
";
    for objects in [[&routes, GATEWAY, front].concat(), [&routes, GATEWAY, TOKENS, front].concat()]
    {
        let world = with_objects(&objects);
        for to in ["h.com", "h.com:80"] {
            let answer = ask(&world, "gateway:istio-system/gw", to, "GET /");
            assert_eq!(led(&answer), "http://h.com/x", "{to}: {}", answer.reason);
        }
    }
}
