use heddle_diag::Origin;
use proptest::prelude::*;

use super::*;

fn limit(requests: u32, unit: RateLimitUnit) -> CountedLimit {
    let (name, replaces) = (Arc::default(), Vec::new());
    CountedLimit { name, rate: Some((requests, unit)), replaces, is_shadow: false }
}

fn node(key: &str, value: Option<&str>, limit: Option<CountedLimit>) -> CountedDescriptor {
    CountedDescriptor {
        key: key.into(),
        value: value.map(Into::into),
        limit,
        shares_threshold: false,
        descriptors: Vec::new(),
    }
}

fn domain(descriptors: Vec<CountedDescriptor>) -> Vec<CountedDomain> {
    vec![CountedDomain { origin: Origin::built_in("d"), domain: "d".into(), descriptors }]
}

fn asked(entries: &[(&str, &str)]) -> AskedDescriptor {
    let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    AskedDescriptor { entries: entries.iter().map(own).collect(), limit: None, hits: None }
}

/// How many of a hundred requests in one window are let through; none: it has no limit.
fn passed(config: &[CountedDomain], entries: &[(&str, &str)]) -> Option<usize> {
    let mut counters = Counters::default();
    let verdicts: Vec<DescriptorVerdict> =
        (0..100).flat_map(|_| counters.count(config, "d", &[asked(entries)], 1, 1000)).collect();
    verdicts[0].limit.as_ref()?;
    Some(verdicts.iter().filter(|verdict| !verdict.is_over).count())
}

#[test]
fn the_nearest_descriptor_is_found() {
    type Entries<'a> = &'a [(&'a str, &'a str)];
    let second = RateLimitUnit::Second;
    let mut nested = node("user", Some("a"), None);
    nested.descriptors = vec![node("path", Some("/x"), Some(limit(7, second)))];
    let mut both = node("org", None, Some(limit(8, second)));
    both.descriptors = vec![node("path", None, Some(limit(9, second)))];
    let config = domain(vec![
        node("PATH", None, Some(limit(3, second))),
        node("PATH", Some("/api*"), Some(limit(2, second))),
        node("PATH", Some("/api/exact"), Some(limit(1, second))),
        nested,
        both,
        node("free", None, Some(CountedLimit { rate: None, ..limit(0, second) })),
    ]);
    let cases: &[(Entries<'_>, Option<usize>)] = &[
        (&[("PATH", "/api/exact")], Some(1)),
        (&[("PATH", "/api/other")], Some(2)),
        (&[("PATH", "/")], Some(3)),
        (&[("path", "/")], None),
        (&[("user", "a"), ("path", "/x")], Some(7)),
        (&[("user", "a"), ("path", "/y")], None),
        (&[("user", "b"), ("path", "/x")], None),
        (&[("user", "a")], None),
        (&[("org", "a")], Some(8)),
        (&[("org", "a"), ("path", "/x")], Some(9)),
        (&[("PATH", "/"), ("user", "a")], None),
        (&[("free", "x")], None),
        (&[], None),
    ];
    for (entries, expected) in cases {
        assert_eq!(passed(&config, entries), *expected, "{entries:?}");
    }
    let mut counters = Counters::default();
    let free = counters.count(&config, "d", &[asked(&[("free", "x")])], 1, 0);
    assert_eq!((free[0].remaining, free[0].is_over), (u32::MAX, false));
    assert!(counters.count(&config, "other", &[asked(&[("PATH", "/")])], 1, 0)[0].limit.is_none());
}

#[test]
fn each_value_has_its_own_counter_unless_they_share() {
    let mut shared = node("s", Some("a*"), Some(limit(1, RateLimitUnit::Minute)));
    shared.shares_threshold = true;
    let config = domain(vec![
        node("k", None, Some(limit(1, RateLimitUnit::Minute))),
        node("w", Some("a*"), Some(limit(1, RateLimitUnit::Minute))),
        shared,
    ]);
    let mut counters = Counters::default();
    let mut over = |key: &str, value: &str| {
        counters.count(&config, "d", &[asked(&[(key, value)])], 1, 60)[0].is_over
    };
    assert_eq!([over("k", "a"), over("k", "b"), over("k", "a")], [false, false, true]);
    assert_eq!([over("w", "a1"), over("w", "a2"), over("w", "a1")], [false, false, true]);
    assert_eq!([over("s", "a1"), over("s", "a2")], [false, true]);
}

#[test]
fn windows_begin_at_multiples_of_their_length() {
    let config = domain(vec![node("k", None, Some(limit(2, RateLimitUnit::Minute)))]);
    let mut counters = Counters::default();
    let mut ask = |now| {
        let verdict = counters.count(&config, "d", &[asked(&[("k", "v")])], 1, now).remove(0);
        (verdict.is_over, verdict.remaining, verdict.reset_seconds)
    };
    assert_eq!(ask(119), (false, 1, 1));
    assert_eq!(ask(120), (false, 1, 60));
    assert_eq!(ask(130), (false, 0, 50));
    assert_eq!(ask(179), (true, 0, 1));
    assert_eq!(ask(180), (false, 1, 60));
}

#[test]
fn all_descriptors_count_whether_one_is_over_or_not() {
    let config = domain(vec![
        node("a", None, Some(limit(1, RateLimitUnit::Hour))),
        node("b", None, Some(limit(3, RateLimitUnit::Hour))),
    ]);
    let mut counters = Counters::default();
    let both = [asked(&[("a", "")]), asked(&[("b", "")])];
    let mut ask = |hits| {
        let verdicts = counters.count(&config, "d", &both, hits, 0);
        [(verdicts[0].is_over, verdicts[0].remaining), (verdicts[1].is_over, verdicts[1].remaining)]
    };
    assert_eq!(ask(1), [(false, 0), (false, 2)]);
    assert_eq!(ask(2), [(true, 0), (false, 0)]);
    assert_eq!(ask(0), [(true, 0), (false, 0)]);
    assert_eq!(ask(1), [(true, 0), (true, 0)]);
}

#[test]
fn shadows_replacements_and_limits_of_whoever_asks() {
    let named = |name: &str, requests| CountedLimit {
        name: name.into(),
        ..limit(requests, RateLimitUnit::Day)
    };
    let config = domain(vec![
        node("shadow", None, Some(CountedLimit { is_shadow: true, ..named("", 0) })),
        node("common", None, Some(named("common", 0))),
        node("gold", None, Some(CountedLimit { replaces: vec!["common".into()], ..named("", 9) })),
    ]);
    let mut counters = Counters::default();
    let mut over = |asked: &[AskedDescriptor]| {
        let verdicts = counters.count(&config, "d", asked, 1, 0);
        verdicts.iter().map(|verdict| verdict.is_over).collect::<Vec<_>>()
    };
    assert_eq!(over(&[asked(&[("shadow", "")])]), [false]);
    assert_eq!(over(&[asked(&[("common", "")])]), [true]);
    assert_eq!(over(&[asked(&[("common", "")]), asked(&[("gold", "")])]), [false, false]);
    let own = AskedDescriptor { limit: Some((1, RateLimitUnit::Second)), ..asked(&[("any", "")]) };
    let own = std::slice::from_ref(&own);
    assert_eq!([over(own), over(own)], [[false], [true]]);
}

#[test]
fn counters_have_a_bound_and_old_ones_make_room() {
    let config = domain(vec![node("k", None, Some(limit(1, RateLimitUnit::Second)))]);
    let mut counters = Counters::default();
    let mut ask = |value: usize, now| {
        let value = value.to_string();
        let over = counters.count(&config, "d", &[asked(&[("k", &value)])], 1, now)[0].is_over;
        (over, counters.len())
    };
    for value in 0..COUNTERS_MAX {
        assert!(!ask(value, 5).0);
    }
    assert_eq!(ask(COUNTERS_MAX, 5), (false, COUNTERS_MAX + 1));
    assert_eq!(ask(COUNTERS_MAX + 1, 5), (true, COUNTERS_MAX + 1), "those without place share one");
    assert_eq!(ask(0, 5), (true, COUNTERS_MAX + 1));
    assert_eq!(ask(COUNTERS_MAX + 2, 6), (false, 1));
}

proptest! {
    /// No window lets more through than its limit, and none refuses before.
    #[test]
    fn as_many_as_the_limit(
        requests in 0..20_u32,
        steps in prop::collection::vec((0..3_u64, 1..4_u32), 1..200),
    ) {
        let config = domain(vec![node("k", None, Some(limit(requests, RateLimitUnit::Minute)))]);
        let mut counters = Counters::default();
        let mut now = 0;
        let mut counted: HashMap<u64, u64> = HashMap::new();
        for (wait, hits) in steps {
            now += wait * 10;
            let verdict = counters.count(&config, "d", &[asked(&[("k", "v")])], hits, now).remove(0);
            let counted = counted.entry(now / 60).or_default();
            *counted += u64::from(hits);
            prop_assert_eq!(verdict.is_over, *counted > u64::from(requests));
        }
    }
}
