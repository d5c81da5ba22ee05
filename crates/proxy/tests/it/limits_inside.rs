//! Bounds that nobody configures, hit; and the page that lists every one of them (`docs/guide/limits.md`).

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use heddle_ir::http_route::{BackendTarget, Mirror};
use tokio::io::AsyncWriteExt as _;

use crate::harness::{Pair, application, mirror, run};
use crate::resilience::plain;
use crate::support::{origin, other_destination};

fn copied_to(client: &mut crate::support::ClientSide, shadow: std::net::SocketAddr) {
    client.others = vec![(other_destination("shadow"), vec![plain(shadow)])];
    client.rules[0].mirrors = vec![Mirror {
        origin: origin(),
        target: BackendTarget::Destination(1),
        share_ppm: 1_000_000,
        authority_suffix: "".into(),
    }];
}

#[test]
fn copies_beyond_their_number_are_left_out() {
    run(async {
        let came = Rc::new(Cell::new(0));
        let counted = came.clone();
        // Takes copies and never answers.
        let shadow = application(move |mut peer| {
            counted.set(counted.get() + 1);
            async move {
                peer.rest().await;
            }
        })
        .await;
        let app = mirror().await;
        let pair = Pair::with(
            app,
            |client| {
                client.endpoints = vec![plain(app)];
                copied_to(client, shadow);
            },
            |_| {},
        )
        .await;
        let mut client = pair.connect().await;
        for _ in 0..1040 {
            assert_eq!(client.get("/").await.status(), 200);
        }
        while came.get() < 1024 {
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        assert_eq!(came.get(), 1024);
    });
}

#[test]
fn a_connection_whose_copy_is_answered_at_length_is_not_kept() {
    run(async {
        for (bytes, is_kept) in [(1 << 20, true), (17 << 20, false)] {
            let (came, served) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
            let (counted, ended) = (came.clone(), served.clone());
            let shadow = application(move |mut peer| {
                counted.set(counted.get() + 1);
                let ended = ended.clone();
                async move {
                    while peer.try_head().await.is_some() {
                        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\n\r\n");
                        peer.send(head).await;
                        let _ = peer.stream.write_all(&vec![b'x'; bytes]).await;
                        ended.set(ended.get() + 1);
                    }
                }
            })
            .await;
            let app = mirror().await;
            let pair = Pair::with(
                app,
                |client| {
                    client.endpoints = vec![plain(app)];
                    copied_to(client, shadow);
                },
                |_| {},
            )
            .await;
            let mut client = pair.connect().await;
            // When the rest of an answer has been read cannot be seen from here: one that is kept may miss the next copy, not all.
            for count in 1..if is_kept { 50 } else { 4 } {
                assert_eq!(client.get("/").await.status(), 200);
                while served.get() < count {
                    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                }
                if served.get() > came.get() {
                    break;
                }
            }
            assert_eq!(served.get() > came.get(), is_kept, "{bytes}");
        }
    });
}

#[test]
fn a_body_that_is_too_long_is_not_copied() {
    run(async {
        let copied = Rc::new(Cell::new(0));
        let counted = copied.clone();
        let shadow = application(move |mut peer| {
            let counted = counted.clone();
            async move {
                while peer.try_head().await.is_some() {
                    counted.set(counted.get() + 1);
                    peer.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
                    peer.rest().await;
                }
            }
        })
        .await;
        let app = mirror().await;
        let pair = Pair::with(
            app,
            |client| {
                client.endpoints = vec![plain(app)];
                copied_to(client, shadow);
            },
            |_| {},
        )
        .await;
        let mut client = pair.connect().await;
        for bytes in [(1 << 20) + 1, 1 << 20] {
            let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {bytes}\r\n\r\n");
            client.send(head).await;
            client.send(vec![b'x'; bytes]).await;
            assert_eq!(client.message().await.status(), 200);
        }
        while copied.get() == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        assert_eq!(copied.get(), 1);
    });
}

#[test]
fn after_a_refused_request_a_client_is_listened_to_for_a_moment() {
    run(async {
        let pair = Pair::before(mirror().await).await;
        let mut client = pair.connect().await;
        client.send("GET / HTTP/1.1\r\n\r\n").await;
        assert_eq!(client.message().await.status(), 400);
        let began = std::time::Instant::now();
        // Says that it sends no more, reads on for so long, and closes then.
        assert_eq!(client.rest().await, b"");
        while client.stream.write_all(b"x").await.is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        let took = began.elapsed().as_millis();
        assert!((900..5000).contains(&took), "{took} ms");
    });
}

fn sources(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, files);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            files.push(path);
        }
    }
}

/// The rows of the page: a file and a constant, and what tests it.
fn rows() -> BTreeMap<(String, String), String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide/limits.md");
    let text = fs::read_to_string(page).unwrap();
    let rows = text.lines().filter_map(|line| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, file, name, _, _, test, _] = cells[..] else { return None };
        let bare = |text: &str| text.trim_matches('`').to_owned();
        name.ends_with("_MAX`").then(|| ((bare(file), bare(name)), bare(test)))
    });
    rows.collect()
}

#[test]
fn every_bound_is_on_the_page_with_its_test() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let (mut constants, mut tests) = (BTreeSet::new(), BTreeSet::new());
    for name in ["proxy", "http", "wire"] {
        let folder = crates.join(name);
        let mut files = Vec::new();
        sources(&folder, &mut files);
        for file in files {
            let text = fs::read_to_string(&file).unwrap();
            let short = file.strip_prefix(&crates).unwrap().to_str().unwrap().to_owned();
            let short = short.replace("/src/", "/");
            for line in text.lines().map(str::trim_start) {
                let line = line.strip_prefix("pub(crate) ").unwrap_or(line);
                let line = line.strip_prefix("pub ").unwrap_or(line);
                if let Some((name, _)) =
                    line.strip_prefix("const ").and_then(|rest| rest.split_once(':'))
                    && name.ends_with("_MAX")
                    && !short.contains("/tests/")
                {
                    constants.insert((short.clone(), name.to_owned()));
                }
                let line = line.strip_prefix("async ").unwrap_or(line);
                if let Some((name, _)) =
                    line.strip_prefix("fn ").and_then(|rest| rest.split_once('('))
                {
                    tests.insert(name.to_owned());
                }
            }
        }
    }
    let rows = rows();
    let listed: BTreeSet<_> = rows.keys().cloned().collect();
    let missing: Vec<_> = constants.difference(&listed).collect();
    assert!(missing.is_empty(), "not in docs/guide/limits.md: {missing:#?}");
    let gone: Vec<_> = listed.difference(&constants).collect();
    assert!(gone.is_empty(), "in docs/guide/limits.md and nowhere else: {gone:#?}");
    for ((file, name), test) in &rows {
        let is_time_or_cost = test.starts_with("none: ");
        assert!(is_time_or_cost || tests.contains(test), "{file} {name}: there is no test {test}");
    }
}
