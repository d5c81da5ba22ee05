//! Istio's own files for Bookinfo, unmodified.

use std::path::PathBuf;

use heddle_testkit::{Mesh, skip};
use serde_json::Value;

use crate::{BOOKINFO, mesh};

const REVIEWS: &str = "http://reviews:9080/reviews/0";
const JASON: [&str; 2] = ["-H", "end-user: jason"];

/// The folder of the files; none, with the reason printed, where they are not on this machine.
fn folder() -> Option<PathBuf> {
    let shared = std::env::var_os("HEDDLE_SHARED").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared")),
        PathBuf::from,
    );
    let folder = shared.join("data/istio/samples/bookinfo/networking");
    if folder.is_dir() {
        return Some(folder);
    }
    skip(&format!("there is no folder {}", folder.display()));
    None
}

/// How many of `count` requests to reviews each version answered.
fn versions(mesh: &Mesh, count: u64, options: &[&str]) -> Value {
    let count = count.to_string();
    let words: Vec<&str> =
        ["--count", &count].iter().chain(options).chain(&[REVIEWS]).copied().collect();
    mesh.load("productpage-v1", &words)["versions"].clone()
}

#[test]
fn mean_what_they_say() {
    let Some(folder) = folder() else { return };
    let mesh = mesh();
    mesh.up(BOOKINFO);
    let apply = |name: &str| {
        let path = folder.join(name).display().to_string();
        mesh.must(&["apply", "--wait", "-f", &path])
    };
    apply("destination-rule-all.yaml");
    apply("virtual-service-all-v1.yaml");
    assert_eq!(versions(&mesh, 30, &[])["reviews-v1"], 30);

    apply("virtual-service-reviews-90-10.yaml");
    let shares = versions(&mesh, 500, &[]);
    // 10 % of 500 within the 99.99 % interval of a binomial distribution.
    let v2 = shares["reviews-v2"].as_u64().unwrap_or(0);
    assert!((26..=78).contains(&v2), "{shares:#}");
    assert_eq!(shares["reviews-v1"].as_u64(), Some(500 - v2), "{shares:#}");

    apply("virtual-service-reviews-test-v2.yaml");
    assert_eq!(versions(&mesh, 30, &JASON)["reviews-v2"], 30);
    assert_eq!(versions(&mesh, 30, &[])["reviews-v1"], 30);

    let ask = |headers: &[&str], url: &str| {
        let words = ["--count", "1", "--show-body", "--timeout", "15s"];
        let words: Vec<&str> = words.iter().chain(headers).chain(&[url]).copied().collect();
        mesh.load("productpage-v1", &words)
    };
    apply("virtual-service-ratings-test-delay.yaml");
    let ratings = "http://ratings:9080/ratings/0";
    let (jason, other) = (ask(&JASON, REVIEWS), ask(&[], ratings));
    let took = jason["elapsed_ms"].as_u64().unwrap();
    assert!((7000..12_000).contains(&took), "a delay of 7 s: {jason:#}");
    assert!(other["elapsed_ms"].as_u64().unwrap() < 5000, "{other:#}");

    apply("virtual-service-ratings-test-abort.yaml");
    let jason = ask(&JASON, REVIEWS);
    assert!(jason["body"].as_str().unwrap().contains("500"), "ratings of jason: {jason:#}");
    assert_eq!(ask(&JASON, ratings)["statuses"]["500"], 1);
    assert_eq!(ask(&[], ratings)["statuses"]["200"], 1);

    apply("virtual-service-reviews-v3.yaml");
    assert_eq!(versions(&mesh, 30, &[])["reviews-v3"], 30);
}

#[test]
fn are_all_understood() {
    let Some(folder) = folder() else { return };
    let mesh = mesh();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if !name.starts_with("virtual-service-") {
            continue;
        }
        // Alone, so that destinations and subsets are missing; but every field is known and well formed.
        let told = mesh.run(&["analyze", "-o", "json", "-f", &path.display().to_string()]);
        let json = told.json();
        let outcomes = json["outcomes"].as_array().unwrap();
        assert!(!outcomes.is_empty(), "{name}: {json:#}");
        let unsupported = outcomes.iter().find(|outcome| outcome["outcome"] == "unsupported");
        assert!(unsupported.is_none(), "{name}: {unsupported:#?}");
    }
}
