//! Cilium's own samples, and Kubernetes' NetworkPolicy, on workloads like those of Cilium's connectivity test.

use std::path::Path;

use super::shared::{ask, data, query, with, world};

/// `client`, `client2` (`other: client`) and `client3`, `echo-same-node` and `echo-other-node` of the namespace `test`, and a
/// client of another namespace.
fn application() -> String {
    let workload = |namespace: &str, name: &str, labels: &str| {
        format!(
            "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  \
             selector: {{matchLabels: {{name: {name}}}}}\n  template:\n    metadata: {{labels: {{name: {name}, {labels}}}}}\n    \
             spec:\n      serviceAccountName: {name}\n      containers:\n      - name: c\n        image: i\n        \
             ports: [{{name: http-8080, containerPort: 8080}}]\n"
        )
    };
    let service = |name: &str, app_protocol: &str| {
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: test}}\nspec:\n  \
             selector: {{name: {name}}}\n  ports: [{{name: {app_protocol}, port: 80, targetPort: 8080}}]\n"
        )
    };
    let namespace = |name: &str| {
        format!(
            "---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {{team: {name}}}}}\n"
        )
    };
    [
        namespace("test"),
        namespace("other"),
        workload("test", "client", "kind: client"),
        workload("test", "client2", "kind: client, other: client"),
        workload("test", "echo-same-node", "kind: echo, other: echo"),
        workload("test", "echo-other-node", "kind: echo, first: echo"),
        workload("other", "client", "kind: client"),
        service("echo-same-node", "http"),
        service("echo-other-node", "tcp"),
    ]
    .concat()
}

/// The samples are templates.
fn fill(template: &str) -> String {
    let mut text = template.to_owned();
    for (from, to) in [
        ("{{.ExternalTarget}}", "one.one.one.one."),
        ("{{trimSuffix .ExternalTarget \".\"}}", "one.one.one.one"),
        ("{{.ExternalCIDRv4}}", "1.0.0.0/8"),
        ("{{.ExternalCIDRv6}}", "2606:4700::/32"),
        ("{{ .ExternalOtherIPv4 | ipToCIDR }}", "1.0.0.1/32"),
        ("{{ .ExternalOtherIPv6 | ipToCIDR }}", "2606:4700::1001/128"),
        ("{{.ClusterNameLocal}}", "default"),
        ("{{.ClusterNameRemote}}", "elsewhere"),
        ("cilium-test", "test"),
    ] {
        text = text.replace(from, to);
    }
    text.replace("metadata:\n  name:", "metadata:\n  namespace: test\n  name:")
}

/// Files of the samples or whole policies; then questions as `from to request [header]`, and what comes of them.
type Row<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)]);

fn check(samples: &Path, (policies, questions): &Row<'_>) -> String {
    let mut texts = vec![("application.yaml".to_owned(), application())];
    for policy in *policies {
        let text = if policy.contains('\n') {
            (*policy).to_owned()
        } else {
            fill(&std::fs::read_to_string(samples.join(format!("{policy}.yaml"))).unwrap())
        };
        texts.push((format!("{}.yaml", texts.len()), text));
    }
    let texts: Vec<(&str, &str)> =
        texts.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let world = world(&texts);
    let mut wrong = String::new();
    for (question, expected) in *questions {
        let words: Vec<&str> = question.split_whitespace().collect();
        let [from, to, rest @ ..] = words.as_slice() else { panic!("{question}") };
        let answer = match rest {
            [] => ask(&world, from, to, ""),
            [protocol] => {
                let mut asked = query(from, to, "");
                asked.protocol = Some((*protocol).to_owned());
                world.explain(&asked).unwrap()
            }
            [method, path] => ask(&world, from, to, &format!("{method} {path}")),
            [method, path, header, value] => {
                let asked = query(from, to, &format!("{method} {path}"));
                world.explain(&with(asked, header, value)).unwrap()
            }
            _ => panic!("{question}"),
        };
        let status = answer.status.map(|status| format!(" {status}")).unwrap_or_default();
        let got = format!("{}{status}", answer.verdict.as_str());
        if got != *expected {
            let line =
                format!("{policies:?}\n  {question}: {got}, not {expected}: {}\n", answer.reason);
            wrong.push_str(&line);
        }
    }
    wrong
}

const ECHO: &str = "echo-same-node.test";

#[test]
fn every_sample_decides_as_its_author_says() {
    let Some(samples) = data("cilium/connectivity-manifests") else { return };
    let rows: &[Row<'_>] = &[
        (&[], &[("test/client echo-same-node.test GET /", "forward")]),
        (
            &["deny-all-egress"],
            &[
                ("test/client echo-same-node.test GET /", "deny 403"),
                ("test/client echo-other-node.test:80 tcp", "deny"),
                ("test/client 1.1.1.1:443 tls", "deny"),
                ("other/client echo-same-node.test GET /", "forward"),
            ],
        ),
        (&["deny-all-egress-knp"], &[("test/client echo-same-node.test GET /", "deny 403")]),
        (
            &["deny-all-ingress"],
            &[
                ("test/client echo-same-node.test GET /", "deny 403"),
                ("other/client echo-same-node.test GET /", "deny 403"),
                ("test/client 1.1.1.1:80 GET /", "passthrough"),
            ],
        ),
        (
            &["client-egress-l7-http", "client-egress-only-dns"],
            &[
                ("test/client2 echo-same-node.test GET /", "forward"),
                ("test/client2 echo-same-node.test GET /other", "deny 403"),
                ("test/client2 echo-same-node.test POST /", "deny 403"),
                // Declared TCP, and a request all the same.
                ("test/client2 echo-other-node.test GET /", "forward"),
                ("test/client2 echo-other-node.test GET /other", "deny 403"),
                ("test/client2 echo-other-node.test tcp", "deny"),
                ("test/client2 one.one.one.one:80 GET /", "passthrough"),
                ("test/client2 one.one.one.one:80 GET /other", "deny 403"),
                ("test/client2 one.one.one.one:80 GET / host elsewhere.example", "deny 403"),
                ("test/client2 one.one.one.one:443 tls", "deny"),
                ("test/client2 two.example:80 GET /", "deny 403"),
                // The address alone says nothing of the name.
                ("test/client2 1.1.1.1:80 GET /", "deny 403"),
                // Only names may be asked for.
                ("test/client echo-same-node.test GET /", "deny 403"),
            ],
        ),
        (
            &["client-egress-l7-http-named-port", "client-egress-only-dns"],
            &[
                ("test/client2 echo-same-node.test GET /", "forward"),
                ("test/client2 echo-same-node.test GET /other", "deny 403"),
            ],
        ),
        (
            &["client-egress-to-echo-service-account"],
            &[
                ("test/client echo-same-node.test GET /", "forward"),
                ("test/client echo-other-node.test GET /", "deny"),
            ],
        ),
        (
            &["client-egress-to-cidr-external"],
            &[
                ("test/client 1.1.1.1:80 GET /", "passthrough"),
                ("test/client 1.0.0.1:80 GET /", "deny 403"),
                ("test/client 2.2.2.2:443 tls", "deny"),
                ("test/client echo-same-node.test GET /", "deny 403"),
            ],
        ),
        (
            &["allow-all-egress", "client-egress-to-echo-expression-deny"],
            &[
                ("test/client echo-same-node.test GET /", "deny 403"),
                ("test/client2 echo-same-node.test GET /", "forward"),
                ("test/client 1.1.1.1:80 GET /", "passthrough"),
            ],
        ),
        (
            &["allow-all-except-world"],
            &[
                ("test/client echo-same-node.test GET /", "forward"),
                ("test/client 1.1.1.1:80 GET /", "deny 403"),
            ],
        ),
        (
            &["client-egress-to-entities-world"],
            &[
                ("test/client 1.1.1.1:80 GET /", "passthrough"),
                ("test/client 1.1.1.1:443 tls", "deny"),
                ("test/client echo-same-node.test GET /", "deny 403"),
            ],
        ),
        (
            &["echo-ingress-l7-http"],
            &[
                ("test/client2 echo-same-node.test GET /public", "forward"),
                ("test/client2 echo-same-node.test GET /private", "deny 403"),
                ("test/client2 echo-same-node.test GET /private x-very-secret-token 42", "forward"),
                ("test/client2 echo-same-node.test POST /public", "deny 403"),
                ("test/client echo-same-node.test GET /public", "deny 403"),
                // Declared TCP: the port is one of HTTP all the same.
                ("test/client2 echo-other-node.test GET /public", "forward"),
                ("test/client2 echo-other-node.test GET /secret", "deny 403"),
            ],
        ),
        (
            &["echo-ingress-mutual-authentication"],
            &[
                ("test/client echo-same-node.test GET /", "forward"),
                ("outside test/echo-same-node:8080 GET /", "deny 403"),
            ],
        ),
        (
            &["echo-ingress-from-other-client-knp"],
            &[
                ("test/client2 echo-same-node.test GET /", "forward"),
                ("test/client echo-same-node.test GET /", "deny 403"),
                ("other/client echo-same-node.test GET /", "deny 403"),
            ],
        ),
    ];
    let wrong: String = rows.iter().map(|row| check(&samples, row)).collect();
    assert!(wrong.is_empty(), "{ECHO}\n{wrong}");
}
