//! Conditions outside of routes.

use heddle_ir::http_route::{HeaderMatch, HttpMatch};
use heddle_ir::matching::{PathMatch, TextMatch};

use super::support::{Request, any, path};
use crate::{CompiledFilter, CompiledTexts};

fn header(name: &str, value: &str) -> HeaderMatch {
    HeaderMatch { name: name.into(), value: TextMatch::Exact(value.into()), invert: false }
}

#[test]
fn no_match_takes_everything_and_else_any_one_suffices() {
    let (all, errors) = CompiledFilter::compile(&[]);
    assert!(all.takes(&Request::get("/")) && errors.is_empty());
    let matches = [
        path(PathMatch::TextPrefix("/api".into())),
        HttpMatch { headers: vec![header("x", "1")], ..any() },
    ];
    let (some, _) = CompiledFilter::compile(&matches);
    assert!(some.takes(&Request::get("/api/1")));
    assert!(some.takes(&Request::get("/").header("x", "1")));
    assert!(!some.takes(&Request::get("/").header("x", "2")));
}

#[test]
fn what_does_not_compile_takes_nothing_and_is_said() {
    let (filter, errors) = CompiledFilter::compile(&[path(PathMatch::Regex("(".into()))]);
    assert!(!filter.takes(&Request::get("/(")));
    assert_eq!(errors.len(), 1);
    let (texts, errors) =
        CompiledTexts::compile(&[TextMatch::Regex("(".into()), TextMatch::Suffix("/b".into())]);
    assert!(texts.match_any("a/b") && !texts.match_any("("));
    assert_eq!(errors.len(), 1);
}
