use proptest::prelude::*;

use super::*;

#[test]
fn durations_are_those_of_go() {
    for (text, nanos) in [
        ("0", Some(0)),
        ("0s", Some(0)),
        ("1h30m", Some(5_400_000_000_000)),
        ("1.5s", Some(1_500_000_000)),
        (".5s", Some(500_000_000)),
        ("1.s", Some(1_000_000_000)),
        ("-1m", Some(-60_000_000_000)),
        ("+250ms", Some(250_000_000)),
        ("1us1µs1μs1ns", Some(3_001)),
        ("1.0000000009s", Some(1_000_000_000)),
        ("2562047h47m16.854775807s", Some(i64::MAX)),
        ("2562048h", None),
        ("99999999999999999999h", None),
        ("", None),
        ("-", None),
        ("1", None),
        ("s", None),
        (".s", None),
        ("1.2.3s", None),
        ("1 s", None),
        ("1d", None),
        ("1s2", None),
        ("--1s", None),
    ] {
        assert_eq!(Duration::parse(text).map(Duration::as_nanos), nanos, "{text:?}");
    }
    assert_eq!(Duration::from_nanos(1).as_millis_ceil(), 1);
    assert_eq!(Duration::from_nanos(-1).as_std(), std::time::Duration::ZERO);
}

#[test]
fn quantities_are_those_of_kubernetes() {
    for (text, nanos) in [
        ("0", Some(0)),
        ("100m", Some(100_000_000)),
        ("1.5", Some(1_500_000_000)),
        (".5", Some(500_000_000)),
        ("1Ki", Some(1_024_000_000_000)),
        ("1.5Gi", Some(1_610_612_736_000_000_000)),
        ("2k", Some(2_000_000_000_000)),
        ("1e3", Some(1_000_000_000_000)),
        ("1E", Some(1_000_000_000_000_000_000_000_000_000)),
        ("5E-2", Some(50_000_000)),
        ("-1", Some(-1_000_000_000)),
        ("1n", Some(1)),
        ("0.1n", Some(1)),
        ("1e99", None),
        ("", None),
        ("m", None),
        ("1KB", None),
        ("1.2.3", None),
        ("1000000000000000000000Ei", None),
    ] {
        assert_eq!(Quantity::parse(text).map(Quantity::as_nanos), nanos, "{text:?}");
    }
    let quantity = Quantity::parse("1500m").unwrap();
    assert_eq!((quantity.as_millis(), quantity.as_units()), (1500, 2));
}

#[test]
fn base64_takes_whole_groups_only() {
    for (text, bytes) in [
        ("", Some(&b""[..])),
        ("TQ==", Some(b"M")),
        ("TWE=", Some(b"Ma")),
        ("TWFu\nTWFu", Some(b"ManMan")),
        ("TWF", None),
        ("TQ=", None),
        ("T===", None),
        ("T Q=", None),
        ("-_==", None),
    ] {
        assert_eq!(Base64::parse(text).map(|base64| base64.0).as_deref(), bytes, "{text:?}");
    }
    assert_eq!(format!("{:?}", Base64(vec![1, 2])), "Base64(2 bytes)");
}

#[test]
fn selectors_need_all_conditions() {
    let requirement = |operator, values: &[&str]| LabelSelectorRequirement {
        key: "env".to_owned(),
        operator: Some(operator),
        values: values.iter().map(|value| (*value).to_owned()).collect(),
        ..LabelSelectorRequirement::default()
    };
    let labels = |value: Option<&str>| {
        value.map(|value| ("env".to_owned(), value.to_owned())).into_iter().collect()
    };
    for (operator, values, on_prod, on_test, on_none) in [
        (LabelSelectorOperator::In, &["prod"][..], true, false, false),
        (LabelSelectorOperator::NotIn, &["prod"], false, true, true),
        (LabelSelectorOperator::Exists, &[], true, true, false),
        (LabelSelectorOperator::DoesNotExist, &[], false, false, true),
    ] {
        let selector = LabelSelector {
            match_expressions: vec![requirement(operator, values)],
            ..LabelSelector::default()
        };
        let matched =
            [Some("prod"), Some("test"), None].map(|value| selector.matches(&labels(value)));
        assert_eq!(matched, [on_prod, on_test, on_none], "{operator:?}");
    }
    assert!(LabelSelector::default().matches(&labels(None)));
}

proptest! {
    #[test]
    fn a_printed_duration_is_read_back(nanos in any::<i64>()) {
        let duration = Duration::from_nanos(nanos.max(-i64::MAX));
        prop_assert_eq!(Duration::parse(&duration.to_string()), Some(duration));
    }

    #[test]
    fn values_never_panic(text in "[0-9a-zA-Z.+=µ-]{0,40}") {
        let _ = (Duration::parse(&text), Quantity::parse(&text), Base64::parse(&text));
    }
}
