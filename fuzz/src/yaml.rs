//! User files: any bytes end in objects and findings, in bounded time, and each finding has a place in the file.

use heddle_api::Reader;
use heddle_diag::Source;

pub(crate) const SEEDS: &[&[u8]] = &[
    b"apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 80}]}\n",
    b"apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\nspec:\n  hosts: [a]\n  http:\n  - match: [{uri: {prefix: /}}]\n    route: [{destination: {host: a}}]\n",
    b"a: &x [1, 2]\nb: *x\n---\n- {a: 1, a: 2}\n...\n",
    b"{\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": [{\"kind\": \"Pod\"}]}",
    b"kind: |\n  text\n? complex\n: value\n",
];

pub(crate) fn read(bytes: &[u8]) {
    let loaded = Reader::default().read_file("in.yaml", bytes);
    let lines = bytes.iter().filter(|byte| matches!(byte, b'\n' | b'\r')).count() + 2;
    for finding in &loaded.diagnostics {
        let Source::File { position, .. } = &finding.origin.source else {
            panic!("a finding of a file has no place in it: {finding:?}");
        };
        let line = usize::try_from(position.line).unwrap_or(usize::MAX);
        assert!(line >= 1 && line <= lines, "line {line} of {lines}: {finding:?}");
    }
}
