//! What is told of single requests.

use heddle_explain::{TransportView, Verdict};

use super::shared::{ask, query, with, world};

const SHOP: &str = "
apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: shop}
spec: {selector: {app: reviews}, ports: [{name: http, port: 9080}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: reviews-v1, namespace: shop}
spec:
  selector: {matchLabels: {app: reviews}}
  template:
    metadata: {labels: {app: reviews, version: v1}}
    spec: {serviceAccountName: reviews, containers: [{name: c, image: i}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: reviews-v2, namespace: shop}
spec:
  selector: {matchLabels: {app: reviews}}
  template:
    metadata: {labels: {app: reviews, version: v2}}
    spec: {serviceAccountName: reviews, containers: [{name: c, image: i}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: frontend, namespace: shop}
spec:
  selector: {matchLabels: {app: frontend}}
  template:
    metadata: {labels: {app: frontend}}
    spec: {serviceAccountName: frontend, containers: [{name: c, image: i}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews, namespace: shop}
spec:
  host: reviews
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}}
";

const ROUTES: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews, namespace: shop}
spec:
  hosts: [reviews]
  http:
  - match: [{headers: {end-user: {exact: jason}}}]
    route: [{destination: {host: reviews, subset: v2}}]
  - match: [{uri: {prefix: /old}}]
    redirect: {uri: /new, redirectCode: 308}
  - match: [{uri: {exact: /broken}}]
    fault: {abort: {percentage: {value: 100}, httpStatus: 418}}
    route: [{destination: {host: reviews}}]
  - match: [{uri: {exact: /flaky}}]
    fault:
      abort: {percentage: {value: 10}, httpStatus: 500}
      delay: {percentage: {value: 50}, fixedDelay: 2s}
    route: [{destination: {host: reviews, subset: v1}}]
  - match: [{uri: {prefix: /api/}}]
    rewrite: {uri: /}
    timeout: 3s
    retries: {attempts: 2, retryOn: connect-failure}
    headers: {request: {add: {x-a: '1'}, remove: [x-b]}, response: {set: {x-c: '2'}}}
    route:
    - {destination: {host: reviews, subset: v1}, weight: 90}
    - {destination: {host: reviews, subset: v2}, weight: 10, headers: {request: {set: {x-d: '3'}}}}
  - match: [{uri: {prefix: /reviews}}]
    route: [{destination: {host: reviews, subset: v1}}]
";

#[test]
fn a_route_is_followed_with_everything_it_changes() {
    let world = world(&[("shop.yaml", SHOP), ("routes.yaml", ROUTES)]);
    let asked = query("shop/frontend", "reviews:9080", "GET /api/x?y=1");
    let answer = world.explain(&with(asked, "X-B", "gone")).unwrap();
    assert_eq!(answer.verdict, Verdict::Forward);
    assert_eq!(answer.transport, TransportView::MutualTls);
    assert_eq!(answer.timeout_ms, Some(3000));
    let retries = answer.retries.as_ref().unwrap();
    assert_eq!((retries.attempts, &*retries.on), (2, &["connect-failure".to_owned()][..]));
    let shares: Vec<_> = answer
        .destinations
        .iter()
        .map(|view| (view.subset.as_deref(), view.weight, view.workloads.as_slice()))
        .collect();
    assert_eq!(
        shares,
        [
            (Some("v1"), 90, &["shop/reviews-v1".to_owned()][..]),
            (Some("v2"), 10, &["shop/reviews-v2".to_owned()][..])
        ]
    );
    let second = &answer.destinations[1].request;
    assert_eq!(second.path, "/x?y=1");
    let headers: Vec<_> = second.headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    assert_eq!(headers, [("x-a", "1"), ("x-d", "3")]);
    assert_eq!(answer.response_headers, [("x-c".to_owned(), Some("2".to_owned()))]);
    let route = answer.phases.iter().find(|phase| phase.phase == "route").unwrap();
    assert_eq!(route.outcome, "matched");
    assert_eq!(&*route.origin.as_ref().unwrap().field, "spec.http[4]");
    assert_eq!(route.considered[0].outcome, "not matched: header end-user");
}

#[test]
fn own_answers_of_the_proxy_have_their_verdicts() {
    let world = world(&[("shop.yaml", SHOP), ("routes.yaml", ROUTES)]);
    let ask = |path: &str| ask(&world, "shop/frontend", "reviews:9080", &format!("GET {path}"));
    let redirect = ask("/old/x");
    assert_eq!((redirect.verdict, redirect.status), (Verdict::Redirect, Some(308)));
    assert_eq!(redirect.location.as_deref(), Some("http://reviews:9080/new"));
    let fault = ask("/broken");
    assert_eq!((fault.verdict, fault.status), (Verdict::Fault, Some(418)));
    let none = ask("/nothing");
    assert_eq!((none.verdict, none.status), (Verdict::NoRoute, Some(404)));
    let flaky = ask("/flaky");
    assert_eq!(flaky.verdict, Verdict::Forward);
    let shares: Vec<_> =
        flaky.alternatives.iter().map(|a| (a.percent, a.verdict, a.status, a.delay_ms)).collect();
    assert_eq!(
        shares,
        [
            (5.0, Verdict::Fault, Some(500), Some(2000)),
            (5.0, Verdict::Fault, Some(500), None),
            (45.0, Verdict::Forward, None, Some(2000)),
            (45.0, Verdict::Forward, None, None),
        ]
    );
}

const STRICT: &str = "
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: strict, namespace: shop}
spec: {mtls: {mode: STRICT}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: only-frontend, namespace: shop}
spec:
  selector: {matchLabels: {version: v1}}
  rules:
  - from: [{source: {principals: [cluster.local/ns/shop/sa/frontend]}}]
    to: [{operation: {methods: [GET]}}]
";

#[test]
fn policies_of_all_workloads_count() {
    let world = world(&[("shop.yaml", SHOP), ("strict.yaml", STRICT)]);
    let allowed = ask(&world, "shop/frontend", "reviews:9080", "GET /");
    assert_eq!(allowed.verdict, Verdict::Forward);
    let authorize = allowed.phases.iter().find(|phase| phase.phase == "authorize").unwrap();
    assert_eq!(&*authorize.origin.as_ref().unwrap().field, "spec.rules[0]");
    // One version refuses, the other has no policy.
    let mixed = ask(&world, "shop/frontend", "reviews:9080", "POST /");
    assert_eq!(mixed.verdict, Verdict::Depends);
    assert_eq!(mixed.depends_on, ["which endpoint is picked"]);
    let shares: Vec<_> =
        mixed.alternatives.iter().map(|a| (a.percent, a.verdict, a.status)).collect();
    assert_eq!(shares, [(50.0, Verdict::Deny, Some(403)), (50.0, Verdict::Forward, None)]);
    let plain = ask(&world, "outside", "reviews.shop:9080", "GET /");
    assert_eq!((plain.verdict, plain.status), (Verdict::Deny, None));
    assert_eq!(plain.transport, TransportView::Plaintext);
    let account = ask(&world, "sa:other/x", "reviews.shop:9080", "GET /");
    assert_eq!(account.verdict, Verdict::Depends);
}

#[test]
fn names_are_looked_up_as_the_client_would() {
    let world = world(&[("shop.yaml", SHOP)]);
    let verdict = |from: &str, to: &str| ask(&world, from, to, "GET /").verdict;
    for to in
        ["reviews:9080", "reviews", "reviews.shop:9080", "reviews.shop.svc.cluster.local:9080"]
    {
        assert_eq!(verdict("shop/frontend", to), Verdict::Forward, "{to}");
    }
    assert_eq!(verdict("sa:other/x", "reviews:9080"), Verdict::Unreachable);
    assert_eq!(verdict("sa:other/x", "reviews.shop:9080"), Verdict::Forward);
    assert_eq!(verdict("outside", "reviews:9080"), Verdict::Forward);
    assert_eq!(verdict("shop/frontend", "shop/reviews-v1:9080"), Verdict::Forward);
    assert_eq!(verdict("shop/frontend", "example.com"), Verdict::Passthrough);
    assert_eq!(verdict("shop/frontend", "192.0.2.7:80"), Verdict::Passthrough);
    assert_eq!(verdict("shop/frontend", "10.244.200.200:80"), Verdict::Unreachable);
    assert!(world.explain(&query("shop/nobody", "reviews", "GET /")).is_err());
    assert!(world.explain(&query("a/b/c", "reviews", "GET /")).is_err());
    assert!(world.explain(&query("shop/frontend", "a b", "GET /")).is_err());
}

#[test]
fn files_without_workloads_get_assumed_ones() {
    const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: http}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web}
spec: {host: web, subsets: [{name: v1, labels: {version: v1}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web}
spec: {hosts: [web], http: [{route: [{destination: {host: web, subset: v1}}]}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: absent}
spec: {hosts: [absent], http: [{route: [{destination: {host: absent}}]}]}
";
    let world = world(&[("web.yaml", SERVICE)]);
    let answer = ask(&world, "default/any", "web", "GET /");
    assert_eq!(answer.verdict, Verdict::Forward);
    assert_eq!(answer.destinations[0].workloads, ["default/web-v1"]);
    assert!(!answer.assumptions.is_empty());
    let absent = ask(&world, "default/any", "absent", "GET /");
    assert_eq!((absent.verdict, absent.status), (Verdict::Unreachable, Some(503)));
    let route = absent.phases.iter().find(|phase| phase.phase == "route").unwrap();
    assert_eq!(route.outcome, "matched");
    assert!(absent.phases[0].notes[0].contains("unknown"), "{:?}", absent.phases[0]);
}
