use expect_test::{Expect, expect};
use heddle_diag::render_text;

use super::*;
use crate::yaml::Limits;

/// Renders everything that is said about a file.
fn findings(text: &str) -> String {
    let loaded = Reader::default().read_file("a.yaml", text.as_bytes());
    loaded.diagnostics.iter().map(|finding| render_text(finding, |_| Some(text))).collect()
}

fn check(text: &str, expected: &Expect) {
    expected.assert_eq(&findings(text));
}

/// The objects of a file, without regard to findings.
fn read(text: &str) -> Vec<Resource> {
    Reader::default().read_file("a.yaml", text.as_bytes()).resources
}

const HEAD: &str =
    "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\n";

#[test]
fn every_mistake_of_a_file_is_reported_in_one_run() {
    check(
        "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: Reviews
  lables: {}
spec:
  hosts: reviews
  http:
  - match:
    - uri: {exact: /a, prefix: /b}
      headers: {x: 1}
    timeout: 10
    retries: {attempts: '3', perTryTimeout: 2 s}
    route:
    - destination:
        subset: v1
        port: {number: 99999}
      weight: 10
      weight: 20
    - destination: {host: b}
      wieght: yes
    redirect:
    corsPolicy: {maxAge: 1ns, unmatchedPreflights: forward}
",
        &expect![[r"
            error[HED0112]: `name`: `Reviews` is not a name of lower-case letters, digits, dashes and dots (at most 253)
              --> a.yaml:4:9  VirtualService default/Reviews metadata.name
              |
            4 |   name: Reviews
              |         ^^^^^^^
            error[HED0105]: unknown field `lables`
              --> a.yaml:5:3  VirtualService default/Reviews metadata.lables
              |
            5 |   lables: {}
              |   ^^^^^^
            hint: did you mean `labels`?
            error[HED0106]: `hosts`: expected a list, found a text (`reviews`)
              --> a.yaml:7:10  VirtualService default/Reviews spec.hosts
              |
            7 |   hosts: reviews
              |          ^^^^^^^
            hint: put `- ` before it to make it the one item of a list
            error[HED0110]: only one of `exact` and `prefix` may be set
              --> a.yaml:10:24  VirtualService default/Reviews spec.http[0].match[0].uri.prefix
               |
            10 |     - uri: {exact: /a, prefix: /b}
               |                        ^^^^^^
            note: first set here
              --> a.yaml:10:13  VirtualService default/Reviews spec.http[0].match[0].uri.exact
               |
            10 |     - uri: {exact: /a, prefix: /b}
               |             ^^^^^
            error[HED0106]: `x`: expected a mapping, found a whole number (`1`)
              --> a.yaml:11:20  VirtualService default/Reviews spec.http[0].match[0].headers.x
               |
            11 |       headers: {x: 1}
               |                    ^
            error[HED0106]: `timeout`: expected a duration, found a whole number (`10`)
              --> a.yaml:12:14  VirtualService default/Reviews spec.http[0].timeout
               |
            12 |     timeout: 10
               |              ^^
            hint: add a unit: `10s` or `10ms`
            error[HED0106]: `attempts`: expected a whole number, found a text (`3`)
              --> a.yaml:13:25  VirtualService default/Reviews spec.http[0].retries.attempts
               |
            13 |     retries: {attempts: '3', perTryTimeout: 2 s}
               |                         ^^^
            hint: remove the quotes
            error[HED0111]: `perTryTimeout`: `2 s` is not a duration
              --> a.yaml:13:45  VirtualService default/Reviews spec.http[0].retries.perTryTimeout
               |
            13 |     retries: {attempts: '3', perTryTimeout: 2 s}
               |                                             ^
            hint: write `2s`
            error[HED0107]: `host` is required and missing
              --> a.yaml:16:9  VirtualService default/Reviews spec.http[0].route[0].destination.host
               |
            16 |         subset: v1
               |         ^^^^^^
            error[HED0109]: `number`: 99999 is out of range, allowed are 0 to 65535
              --> a.yaml:17:24  VirtualService default/Reviews spec.http[0].route[0].destination.port.number
               |
            17 |         port: {number: 99999}
               |                        ^^^^^
            error[HED0007]: the key `weight` stands twice in one mapping
              --> a.yaml:19:7  VirtualService default/Reviews spec.http[0].route[0]
               |
            19 |       weight: 20
               |       ^^^^^^
            note: first set here
              --> a.yaml:18:7  VirtualService default/Reviews spec.http[0].route[0]
               |
            18 |       weight: 10
               |       ^^^^^^
            hint: remove one of the two; only the first is read
            error[HED0105]: unknown field `wieght`
              --> a.yaml:21:7  VirtualService default/Reviews spec.http[0].route[1].wieght
               |
            21 |       wieght: yes
               |       ^^^^^^
            hint: did you mean `weight`?
            warning[HED0116]: `redirect` has no value and is read as absent
              --> a.yaml:22:5  VirtualService default/Reviews spec.http[0].redirect
               |
            22 |     redirect:
               |     ^^^^^^^^
            hint: give it a value or remove it
            error[HED0109]: `maxAge`: `1ns` is less than a millisecond
              --> a.yaml:23:26  VirtualService default/Reviews spec.http[0].corsPolicy.maxAge
               |
            23 |     corsPolicy: {maxAge: 1ns, unmatchedPreflights: forward}
               |                          ^^^
            error[HED0108]: `unmatchedPreflights`: `forward` is not one of the values it takes
              --> a.yaml:23:52  VirtualService default/Reviews spec.http[0].corsPolicy.unmatchedPreflights
               |
            23 |     corsPolicy: {maxAge: 1ns, unmatchedPreflights: forward}
               |                                                    ^^^^^^^
            hint: did you mean `FORWARD`?
        "]],
    );
}

#[test]
fn a_broken_document_costs_only_itself() {
    let text = format!("{HEAD}---\n\tkind: x\n---\nkind: [\n---\n{HEAD}spec: {{hosts: [b]}}\n");
    check(
        &text,
        &expect![[r"
        error[HED0101]: the document has no `apiVersion`
          --> a.yaml:5:2
          |
        5 |  kind: x
          |  ^^^^
        error[HED0001]: not valid YAML: unclosed bracket '['
          --> a.yaml:7:7
          |
        7 | kind: [
          |       ^
    "]],
    );
    assert_eq!(read(&text).len(), 2);
}

#[test]
fn syntax_errors_say_what_to_do() {
    check(
        "a:\n\tb: 1\n---\na: b: c\n---\nhosts: [*.example.com]\nkind: @x\n---\nx: \"a\n---\n{{ if .Values.x }}\n---\n%YAML 1.1\nb: !foo [!!int x]\n",
        &expect![[r"
            error[HED0002]: a tab stands where YAML allows only spaces
              --> a.yaml:2:2
              |
            2 |  b: 1
              |  ^
            hint: indent with spaces; `expand -t 2 FILE` replaces the tabs of a file
            error[HED0001]: a `:` stands where no key can be
              --> a.yaml:4:5
              |
            4 | a: b: c
              |     ^
            hint: indent keys of one mapping equally, and quote a text that contains `: `
            error[HED0006]: the alias `*.example.com` refers to nothing
              --> a.yaml:6:9
              |
            6 | hosts: [*.example.com]
              |         ^^^^^^^^^^^^^
            hint: an anchor (`&name`) must stand before its aliases, in the same document; quote a text that begins with a star
            error[HED0001]: a text cannot begin with this character
              --> a.yaml:7:7
              |
            7 | kind: @x
              |       ^^
            hint: quote the text: @, `, % and other signs have a meaning of their own in YAML
            error[HED0001]: a quoted text above is not closed
              --> a.yaml:10:1
               |
            10 | ---
               | ^^^
            hint: close the quote
            error[HED0008]: a key must be a text, not a list or mapping
              --> a.yaml:11:2
               |
            11 | {{ if .Values.x }}
               |  ^
            hint: this looks like a template: render it first
            error[HED0001]: not valid YAML: missing explicit document end marker before directive
              --> a.yaml:13:1
               |
            13 | %YAML 1.1
               | ^^^^^
        "]],
    );
}

#[test]
fn what_is_no_object_is_said() {
    check(
        "- a\n---\nname: x\n---\napiversion: v1\nkind: Pod\n---\napiVersion: v1\n",
        &expect![[r"
        error[HED0101]: expected an object, found a list
          --> a.yaml:1:1
          |
        1 | - a
          | ^
        hint: an object is a mapping with `apiVersion`, `kind` and `metadata`
        error[HED0101]: the document has no `apiVersion`
          --> a.yaml:3:1
          |
        3 | name: x
          | ^^^^
        error[HED0101]: the document has no `apiVersion`
          --> a.yaml:5:1
          |
        5 | apiversion: v1
          | ^^^^^^^^^^
        hint: `apiversion` must be `apiVersion`
        error[HED0101]: the document has no `kind`
          --> a.yaml:8:1
          |
        8 | apiVersion: v1
          | ^^^^^^^^^^
    "]],
    );
}

#[test]
fn unknown_kinds_and_versions_have_near_misses() {
    check(
        "apiVersion: networking.istio.io/v1\nkind: VirtualServices\nmetadata: {name: a}
---
apiVersion: networking.istio.io/v2\nkind: VirtualService\nmetadata: {name: a}
---
apiVersion: networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: a}
---
apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: a}
---
apiVersion: example.com/v1\nkind: Thing\nmetadata: {name: a}
",
        &expect![[r"
            error[HED0102]: `VirtualServices` of networking.istio.io is not a kind that heddle knows
              --> a.yaml:2:1  VirtualServices default/a kind
              |
            2 | kind: VirtualServices
              | ^^^^
            hint: did you mean `VirtualService`?
            error[HED0103]: `VirtualService` has no version `v2`
              --> a.yaml:5:1  VirtualService default/a apiVersion
              |
            5 | apiVersion: networking.istio.io/v2
              | ^^^^^^^^^^
            hint: versions are `v1`, `v1beta1` and `v1alpha3`
            error[HED0102]: `HTTPRoute` of networking.k8s.io is not a kind that heddle knows
              --> a.yaml:10:1  HTTPRoute default/a kind
               |
            10 | kind: HTTPRoute
               | ^^^^
            hint: a kind of that name exists in `gateway.networking.k8s.io` and `policy.linkerd.io`
            info[HED0102]: `Thing` of example.com is not a kind that heddle knows
              --> a.yaml:18:1  Thing default/a kind
               |
            18 | kind: Thing
               | ^^^^
            hint: it is kept and has no effect
        "]],
    );
}

#[test]
fn null_is_absent_and_worth_a_warning_in_policies() {
    let text = "apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: a, annotations: , creationTimestamp: null}
spec:
  rules:
  - from:
    to: [null]
";
    check(
        text,
        &expect![[r"
            warning[HED0116]: `from` has no value and is read as absent
              --> a.yaml:6:5  AuthorizationPolicy default/a spec.rules[0].from
              |
            6 |   - from:
              |     ^^^^
            hint: give it a value or remove it
            error[HED0106]: `to[0]`: expected a mapping, found nothing
              --> a.yaml:7:10  AuthorizationPolicy default/a spec.rules[0].to[0]
              |
            7 |     to: [null]
              |          ^^^^
            hint: write `{}` for one without fields
        "]],
    );
}

#[test]
fn kubernetes_values_are_read_as_kubectl_reads_them() {
    check(
        "apiVersion: v1
kind: ConfigMap
metadata: {name: a, labels: {on: x, version: 1.10}}
data: {a: yes, b: 0123, c: ~, 8080: x, d: 2001-01-01}
---
apiVersion: v1
kind: Secret
metadata: {name: a}
data: {a: cGFzcw==, b: plain}
",
        &expect![[r#"
            warning[HED0008]: the key `on` is read as `true`, as kubectl reads it
              --> a.yaml:3:30  ConfigMap default/a metadata.labels
              |
            3 | metadata: {name: a, labels: {on: x, version: 1.10}}
              |                              ^^
            hint: quote the key
            error[HED0106]: `version`: expected a text, found a number (`1.10`)
              --> a.yaml:3:46  ConfigMap default/a metadata.labels.version
              |
            3 | metadata: {name: a, labels: {on: x, version: 1.10}}
              |                                              ^^^^
            hint: quote it: "1.10"
            error[HED0106]: `a`: expected a text, found a boolean (`yes`)
              --> a.yaml:4:11  ConfigMap default/a data.a
              |
            4 | data: {a: yes, b: 0123, c: ~, 8080: x, d: 2001-01-01}
              |           ^^^
            hint: quote it: "yes"
            error[HED0106]: `b`: expected a text, found a whole number (`0123`)
              --> a.yaml:4:19  ConfigMap default/a data.b
              |
            4 | data: {a: yes, b: 0123, c: ~, 8080: x, d: 2001-01-01}
              |                   ^^^^
            hint: quote it: "0123"
            error[HED0106]: `c`: expected a text, found nothing
              --> a.yaml:4:28  ConfigMap default/a data.c
              |
            4 | data: {a: yes, b: 0123, c: ~, 8080: x, d: 2001-01-01}
              |                            ^
            error[HED0111]: `b`: the value is not base64
              --> a.yaml:9:24  Secret default/a data.b
              |
            9 | data: {a: cGFzcw==, b: plain}
              |                        ^^^^^
            hint: plain text belongs under `stringData`
        "#]],
    );
}

#[test]
fn anchors_and_merge_keys_are_expanded() {
    let resources = read(
        "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: a}
spec:
  host: a
  subsets:
  - &v1
    name: v1
    labels: &labels {app: a, version: v1}
  - <<: *v1
    name: v2
    labels: {<<: [*labels], version: v2}
  - *v1
",
    );
    let Some(Resource::DestinationRule(rule)) = resources.first() else { panic!("{resources:?}") };
    let names: Vec<_> = rule.spec.subsets.iter().map(|subset| &*subset.name).collect();
    assert_eq!(names, ["v1", "v2", "v1"]);
    let second = rule.spec.subsets.get(1).unwrap();
    let labels: Vec<_> = second.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(labels, ["app=a", "version=v2"]);
    let origin = rule.origin_of_item(rule.spec.at, "subsets", 2);
    assert_eq!(origin.to_string(), "DestinationRule default/a spec.subsets[2] (a.yaml:13:5)");
    assert!(rule.written.is_sound());
}

#[test]
fn positions_are_known_for_every_field() {
    let resources = read(&format!(
        "# comment\r\n{}spec:\r\n  hosts:\r\n  - a\r\n  - \"é b\"\r\n  http:\r\n  - route: [{{destination: {{host: ü, subset: v1}}, weight: 1}}]\r\n",
        HEAD.replace('\n', "\r\n")
    ));
    let Some(Resource::VirtualService(service)) = resources.first() else {
        panic!("{resources:?}")
    };
    let route = service.spec.http.first().unwrap();
    let destination = &route.route.first().unwrap().destination;
    for (origin, expected) in [
        (service.origin().clone(), "VirtualService default/a (a.yaml:2:1)"),
        (
            service.origin_of_item(service.spec.at, "hosts", 1),
            "VirtualService default/a spec.hosts[1] (a.yaml:8:5)",
        ),
        (service.origin_at(route.at), "VirtualService default/a spec.http[0] (a.yaml:10:5)"),
        (
            service.origin_of(destination.at, "subset"),
            "VirtualService default/a spec.http[0].route[0].destination.subset (a.yaml:10:37)",
        ),
        (
            service.origin_of(route.at, "timeout"),
            "VirtualService default/a spec.http[0].timeout (a.yaml:10:5)",
        ),
    ] {
        assert_eq!(origin.to_string(), expected);
    }
}

#[test]
fn broken_parts_are_known() {
    let resources = read(&format!(
        "{HEAD}spec:\n  hosts: [a]\n  http:\n  - timeout: 5\n    route: [{{destination: {{host: a}}}}]\n  - name: b\n    matc: []\n"
    ));
    let Some(Resource::VirtualService(service)) = resources.first() else {
        panic!("{resources:?}")
    };
    let [first, second] = &*service.spec.http else { panic!("two rules") };
    assert_eq!(first.timeout, None);
    for (what, broken) in [
        (service.is_broken(service.spec.at), true),
        (service.is_field_broken(service.spec.at, "hosts"), false),
        (service.is_broken(first.at), true),
        (service.is_field_broken(first.at, "timeout"), true),
        (service.is_field_broken(first.at, "route"), false),
        (service.is_broken(second.at), true),
        (service.is_field_broken(second.at, "match"), true),
    ] {
        assert_eq!(what, broken);
    }
}

#[test]
fn lists_of_objects_are_read_item_by_item() {
    let text = "apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Namespace
  metadata: {name: a}
- {apiVersion: v1, kind: Service, metadata: {name: b}, spec: {prots: []}}
---
apiVersion: networking.istio.io/v1
kind: SidecarList
items: [{metadata: {name: c, namespace: d}, spec: {egress: [{hosts: [a/b]}]}}, 7]
";
    let origins: Vec<String> =
        read(text).iter().map(|resource| resource.origin().to_string()).collect();
    assert_eq!(
        origins,
        ["Namespace a (a.yaml:4:3)", "Service default/b (a.yaml:7:3)", "Sidecar d/c (a.yaml:11:9)"]
    );
    check(
        text,
        &expect![[r"
        error[HED0105]: unknown field `prots`
          --> a.yaml:7:63  Service default/b spec.prots
          |
        7 | - {apiVersion: v1, kind: Service, metadata: {name: b}, spec: {prots: []}}
          |                                                               ^^^^^
        hint: did you mean `ports`?
        error[HED0101]: expected an object, found a whole number
          --> a.yaml:11:80
           |
        11 | items: [{metadata: {name: c, namespace: d}, spec: {egress: [{hosts: [a/b]}]}}, 7]
           |                                                                                ^
        hint: an object is a mapping with `apiVersion`, `kind` and `metadata`
    "]],
    );
}

#[test]
fn json_is_read_with_positions() {
    let text = "{\n\t\"apiVersion\": \"v1\", \"kind\": \"Service\",\n\t\"metadata\": {\"name\": \"a\", \"annotations\": {\"k\": \"\\ud83d\\ude00\\/\"}},\n\t\"spec\": {\"ports\": [{\"port\": \"80\"}]}\n}\n";
    let resources = read(text);
    let Some(Resource::Service(service)) = resources.first() else { panic!("{resources:?}") };
    assert_eq!(service.meta.annotations.get("k").map(String::as_str), Some("😀/"));
    check(
        text,
        &expect![[r#"
            error[HED0106]: `port`: expected a whole number, found a text (`80`)
              --> a.yaml:4:30  Service default/a spec.ports[0].port
              |
            4 |  "spec": {"ports": [{"port": "80"}]}
              |                              ^^^^
            hint: remove the quotes
        "#]],
    );
}

#[test]
fn cluster_objects_have_uid_and_generation() {
    let json = br#"{"apiVersion":"security.istio.io/v1","kind":"PeerAuthentication","metadata":{"name":"a","namespace":"b","uid":"u-1","generation":3,"managedFields":[{"x":1}]},"spec":{"mtls":{"mode":"STRIKT"}},"status":{}}"#;
    let loaded = Reader::default().read_cluster("east", json);
    let origins: Vec<_> = loaded.diagnostics.iter().map(|finding| finding.origin.clone()).collect();
    let [origin] = &*origins else { panic!("{origins:?}") };
    assert_eq!(origin.source, Source::Cluster { uid: "u-1".into(), generation: 3 });
    assert_eq!((&*origin.cluster, &*origin.field), ("east", "spec.mtls.mode"));
}

#[test]
fn mesh_configuration_keeps_its_lines() {
    let text = "apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  meshNetworks: 'networks: {}'
  mesh: |-

    trustDomain: td
    enable_auto_mtls: false
    defaultConfig:
      parentShutdownDuration: 1s
      concurency: 2
    outboundTrafficPolicy:
      mode: REGISTRY
";
    check(
        text,
        &expect![[r"
            warning[HED0105]: unknown field `concurency`
              --> a.yaml:12:7  ConfigMap istio-system/istio data.mesh.defaultConfig.concurency
               |
            12 |       concurency: 2
               |       ^^^^^^^^^^
            hint: did you mean `concurrency`?
            error[HED0108]: `mode`: `REGISTRY` is not one of the values it takes
              --> a.yaml:14:13  ConfigMap istio-system/istio data.mesh.outboundTrafficPolicy.mode
               |
            14 |       mode: REGISTRY
               |             ^^^^^^^^
            hint: allowed are `REGISTRY_ONLY`, `ALLOW_ANY` and `ALLOW_ANY_DYNAMIC_DNS`
        "]],
    );
    let resources = read(text);
    let [_, Resource::MeshConfig(mesh), Resource::MeshNetworks(_)] = &*resources else {
        panic!("{resources:?}")
    };
    assert_eq!(
        (mesh.spec.trust_domain.as_deref(), mesh.spec.enable_auto_mtls),
        (Some("td"), Some(false))
    );
    assert_eq!(
        mesh.origin_of(mesh.spec.at, "trustDomain").to_string(),
        "ConfigMap istio-system/istio data.mesh.trustDomain (a.yaml:8:5)"
    );
}

#[test]
fn a_mesh_configuration_that_is_no_yaml_is_reported_at_its_line() {
    check(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio}\ndata:\n  mesh: |\n    a: b\n    c: [\n",
        &expect![[r"
            error[HED0115]: the embedded document cannot be read: not valid YAML: unclosed bracket '['
              --> a.yaml:7:8  ConfigMap default/istio data.mesh
              |
            7 |     c: [
              |        ^
        "]],
    );
}

#[test]
fn limits_hold() {
    let reader = Reader {
        limits: Limits {
            file_bytes_max: 4096,
            documents_max: 2,
            nodes_max: 40,
            expanded_nodes_max: 30,
            depth_max: 8,
        },
        ..Reader::default()
    };
    let codes_of = |text: &str| -> Vec<&'static str> {
        let loaded = reader.read_file("a", text.as_bytes());
        loaded.diagnostics.iter().map(|finding| finding.code.id).collect()
    };
    let namespace = "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n";
    for (text, expected) in [
        (" ".repeat(4097), vec!["HED0003"]),
        (namespace.repeat(2), vec![]),
        (namespace.repeat(3), vec!["HED0003"]),
        (format!("a: [{}]", "1,".repeat(40)), vec!["HED0003"]),
        ("[".repeat(9), vec!["HED0004"]),
        ("{a: ".repeat(9), vec!["HED0004"]),
        (format!("{}: x", "- ".repeat(9)), vec!["HED0004"]),
        ("a: &a [1,1,1,1]\nb: &b [*a,*a,*a]\nc: [*b,*b]".to_owned(), vec!["HED0005"]),
        ("a: &a [*a]".to_owned(), vec!["HED0006"]),
    ] {
        assert_eq!(codes_of(&text), expected, "{text:.40}");
    }
}

/// Bounds are of use only if what lies within them is quick.
#[test]
fn hostile_files_are_refused_quickly() {
    let reader = Reader::default();
    let size = reader.limits.file_bytes_max;
    let laughs: String = (0..40).fold("a0: &a0 x\n".to_owned(), |text, level| {
        let next = level + 1;
        text + &format!("a{next}: &a{next} [{}]\n", format!("*a{level},").repeat(10))
    });
    for text in [
        "[".repeat(100_000),
        "- ".repeat(100_000),
        "a: {".repeat(100_000),
        "? ".repeat(100_000),
        laughs,
        "---\n".repeat(200_000),
        format!("{}:", "a".repeat(1_000_000)),
        format!("\"{}", "\\u0041".repeat(200_000)),
        "&a ".repeat(100_000),
        format!("x: |\n{}", " \n".repeat(500_000)),
        "k: v\n".repeat(50_000),
        "x".repeat(size + 1),
    ] {
        let loaded = reader.read_file("a", text.as_bytes());
        assert!(loaded.resources.is_empty());
    }
}

mod random {
    use super::*;
    use proptest::prelude::*;

    /// Pieces that YAML and the decoder give a meaning to.
    const PIECES: &[&str] = &[
        "---\n",
        "...\n",
        "- ",
        "  ",
        "\n",
        ": ",
        "? ",
        "[",
        "]",
        "{",
        "}",
        ",",
        "&a ",
        "*a",
        "<<: ",
        "!!int ",
        "|\n",
        ">-\n",
        "'",
        "\"",
        "#",
        "%YAML 1.1\n",
        "\t",
        "\r\n",
        "a",
        "1",
        "yes",
        "null",
        "\u{feff}",
        "é",
        "apiVersion: v1\n",
        "kind: Service\n",
        "kind: List\n",
        "items:\n",
        "metadata:\n",
        "  name: a\n",
        "spec:\n",
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\nspec:\n",
        "  http:\n",
        "  - match:\n",
        "  hosts: [a]\n",
        "kind: ConfigMap\nmetadata: {name: istio}\ndata:\n  mesh: ",
    ];

    /// Writes a value of any shape; `seed` says which.
    fn value(
        seed: &mut impl Iterator<Item = u8>,
        depth: usize,
        json: &mut heddle_diag::JsonWriter,
    ) {
        let count = usize::from(seed.next().unwrap_or(0) % 4);
        match seed.next().unwrap_or(0) % if depth == 0 { 5 } else { 7 } {
            0 => json.raw("null"),
            1 => json.raw(if count == 0 { "true" } else { "false" }),
            2 => json.raw(&(i64::from(seed.next().unwrap_or(0)) * (i64::MAX / 255)).to_string()),
            3 => json.raw("-0.5"),
            4 => json.string(["", "yes", "a: \"b\"\n\t\u{1}\\", "é😀 - #"][count]),
            5 => {
                json.open_list();
                (0..count).for_each(|_| value(seed, depth - 1, json));
                json.close_list();
            }
            _ => {
                json.open_object();
                for key in ["a", "<<", "é: #", "1"].iter().take(count) {
                    json.key(key);
                    value(seed, depth - 1, json);
                }
                json.close_object();
            }
        }
    }

    proptest! {
        /// JSON is a subset of what is read, and loses nothing.
        #[test]
        fn json_is_read_and_written_back(seed in proptest::collection::vec(any::<u8>(), 0..80)) {
            let mut json = heddle_diag::JsonWriter::new();
            json.open_object();
            json.field("apiVersion", "example.com/v1");
            json.field("kind", "Thing");
            json.key("value");
            value(&mut seed.into_iter(), 4, &mut json);
            json.close_object();
            let text = json.finish();
            let loaded = Reader::default().read_file("a", text.as_bytes());
            let written: Vec<_> = loaded.resources.iter().map(|r| r.written().to_json()).collect();
            prop_assert_eq!(written, [text]);
        }

        #[test]
        fn bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            Reader::default().read_file("a", &bytes);
        }

        /// Whatever is read, every finding has a line of the file, and every place of an object an origin.
        #[test]
        fn pieces_never_panic(
            pieces in proptest::collection::vec(proptest::sample::select(PIECES), 0..60)
        ) {
            let text = pieces.concat();
            let lines = u32::try_from(text.lines().count() + 1).unwrap();
            let loaded = Reader::default().read_file("a", text.as_bytes());
            for finding in &loaded.diagnostics {
                let Source::File { position, .. } = &finding.origin.source else { panic!("a file") };
                prop_assert!(position.line >= 1 && position.line <= lines, "{finding:?}");
            }
            for resource in &loaded.resources {
                let written = resource.written();
                for leaf in written.leaves() {
                    prop_assert!(written.tree().contains(written.root(), leaf));
                    prop_assert!(!written.path(leaf).is_empty());
                }
                written.to_json();
            }
        }
    }
}
