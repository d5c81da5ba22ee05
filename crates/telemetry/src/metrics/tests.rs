use expect_test::expect;

use super::*;

static BUCKETS: Buckets = Buckets { bounds: &[500, 1_000, 10_000], per_unit: 1_000 };
static REQUESTS: GroupDefinition = GroupDefinition {
    labels: &["code", "path"],
    metrics: &[
        Metric { name: "b_total", help: "Requests.", kind: Kind::Counter },
        Metric { name: "b_ms", help: "Time.", kind: Kind::Histogram(&BUCKETS) },
        Metric { name: "b_now", help: "Now.", kind: Kind::Gauge },
    ],
    expires: true,
};
static UP: GroupDefinition = GroupDefinition {
    labels: &[],
    metrics: &[Metric { name: "a_up", help: "Up.", kind: Kind::Gauge }],
    expires: false,
};

fn text(registry: &Registry, now: Instant) -> String {
    let mut out = String::new();
    registry.encode(now, &mut out);
    out
}

fn small(series_max: usize) -> Registry {
    Registry::new(RegistrySettings { series_max, idle_after: Duration::from_secs(10) })
}

#[test]
fn the_text_is_prometheus() {
    let registry = small(10);
    let group = registry.group(&REQUESTS);
    let series = group.series(&["200", "a\"b\\c\nd"]);
    series.counter(0).unwrap().add(3);
    let time = series.histogram(1).unwrap();
    for value in [0, 500, 501, 2_500, 99_999] {
        time.observe(value);
    }
    series.gauge(2).unwrap().add(-2);
    registry.group(&UP).only().gauge(0).unwrap().set(1);
    expect![[r#"
        # HELP a_up Up.
        # TYPE a_up gauge
        a_up 1
        # HELP b_total Requests.
        # TYPE b_total counter
        b_total{code="200",path="a\"b\\c\nd"} 3
        # HELP b_ms Time.
        # TYPE b_ms histogram
        b_ms_bucket{code="200",path="a\"b\\c\nd",le="0.5"} 2
        b_ms_bucket{code="200",path="a\"b\\c\nd",le="1"} 3
        b_ms_bucket{code="200",path="a\"b\\c\nd",le="10"} 4
        b_ms_bucket{code="200",path="a\"b\\c\nd",le="+Inf"} 5
        b_ms_sum{code="200",path="a\"b\\c\nd"} 103.5
        b_ms_count{code="200",path="a\"b\\c\nd"} 5
        # HELP b_now Now.
        # TYPE b_now gauge
        b_now{code="200",path="a\"b\\c\nd"} -2
    "#]]
    .assert_eq(&text(&registry, Instant::now()));
}

#[test]
fn one_label_combination_is_one_series() {
    let registry = small(10);
    let (one, two) = (registry.group(&REQUESTS), registry.group(&REQUESTS));
    one.series(&["200", "x"]).counter(0).unwrap().increment();
    two.series(&["200", "x"]).counter(0).unwrap().increment();
    assert_eq!(one.series(&["200", "x"]).counter(0).unwrap().value(), 2);
    assert_eq!(registry.series_count(), 1);
}

#[test]
fn beyond_the_budget_everything_lands_in_one_series() {
    let registry = small(2);
    let group = registry.group(&REQUESTS);
    for path in 0..100 {
        group.series(&["200", &path.to_string()]).counter(0).unwrap().increment();
    }
    let out = text(&registry, Instant::now());
    assert!(out.contains("b_total{code=\"overflow\",path=\"overflow\"} 98\n"), "{out}");
    assert_eq!((registry.series_count(), registry.overflowed()), (2, 98));
    group.series(&["200", "0"]).counter(0).unwrap().increment();
    assert_eq!(group.series(&["200", "0"]).counter(0).unwrap().value(), 2, "known ones go on");
    let mut own = String::new();
    registry.encode_self(&mut own);
    assert!(own.contains("heddle_metric_series_overflow_total 98\n"), "{own}");
}

#[test]
fn idle_series_hide_and_unheld_ones_go() {
    let registry = small(2);
    let group = registry.group(&REQUESTS);
    registry.group(&UP).only().gauge(0).unwrap().set(1);
    let held = group.series(&["200", "held"]).counter(0).unwrap();
    held.increment();
    let start = Instant::now();
    let later = |seconds| start + Duration::from_secs(seconds);
    assert!(text(&registry, start).contains("held"));
    assert!(text(&registry, later(9)).contains("held"));
    assert!(!text(&registry, later(10)).contains("held"));
    assert_eq!(registry.series_count(), 2, "its holder may come back");
    held.increment();
    assert!(text(&registry, later(11)).contains("path=\"held\"} 2\n"), "and does");
    drop(held);
    assert!(text(&registry, later(20)).contains("held"));
    assert!(!text(&registry, later(21)).contains("held"));
    assert_eq!(registry.series_count(), 1, "what never expires stays");
    assert!(text(&registry, later(9_999)).contains("a_up 1\n"));
    group.series(&["200", "new"]).counter(0).unwrap().increment();
    assert!(text(&registry, later(22)).contains("new"), "there is room again");
}

#[test]
fn samples_are_what_the_text_says() {
    let registry = small(10);
    let series = registry.group(&REQUESTS).series(&["200", "a\\\"\n,x=\"y"]);
    series.counter(0).unwrap().add(7);
    series.histogram(1).unwrap().observe(700);
    let mut samples = Vec::new();
    registry.visit(Instant::now(), |sample| {
        let labels: Vec<_> = labels_of(sample.labels)
            .map(|(name, value)| (name.to_owned(), value.into_owned()))
            .collect();
        samples.push((sample.metric.name, labels, sample.value));
    });
    let labels = vec![
        ("code".to_owned(), "200".to_owned()),
        ("path".to_owned(), "a\\\"\n,x=\"y".to_owned()),
    ];
    assert_eq!(
        samples,
        [
            ("b_total", labels.clone(), SampleValue::Counter(7)),
            (
                "b_ms",
                labels.clone(),
                SampleValue::Histogram { buckets: vec![0, 1, 0, 0], sum: 700 }
            ),
            ("b_now", labels, SampleValue::Gauge(0)),
        ]
    );
}

#[test]
fn many_writers_lose_nothing() {
    let registry = small(10);
    let series = registry.group(&REQUESTS).series(&["200", "x"]);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let (counter, histogram) = (series.counter(0).unwrap(), series.histogram(1).unwrap());
            scope.spawn(move || {
                for value in 0..10_000 {
                    counter.increment();
                    histogram.observe(value);
                }
            });
        }
    });
    let out = text(&registry, Instant::now());
    assert!(out.contains("b_total{code=\"200\",path=\"x\"} 40000\n"));
    assert!(out.contains("b_ms_count{code=\"200\",path=\"x\"} 40000\n"));
}
