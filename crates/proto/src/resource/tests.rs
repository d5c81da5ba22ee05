use proptest::prelude::*;

use super::*;
use crate::sample::{Sample, Source};

/// A resource of the type, and a name that its content speaks for.
fn sample(resource_type: ResourceType, source: &mut Source) -> (ResourceName, Resource) {
    match resource_type {
        ResourceType::TrustBundle => {
            (ResourceName::TrustBundle, Resource::TrustBundle(Sample::sample(source)))
        }
        ResourceType::Proxy => {
            let settings = std::sync::Arc::<heddle_ir::proxy::ProxySettings>::sample(source);
            (ResourceName::Proxy(settings.workload.id.clone()), Resource::Proxy(settings))
        }
        ResourceType::Workload => {
            let mut workload = heddle_ir::workload::Workload::sample(source);
            let address = IpAddr::sample(source);
            workload.addresses.push(address);
            let name = ResourceName::Workload(workload.network.clone(), address);
            (name, Resource::Workload(workload.into()))
        }
        ResourceType::Inbound => {
            let inbound = std::sync::Arc::<heddle_ir::inbound::Inbound>::sample(source);
            (ResourceName::Inbound(inbound.workload.clone()), Resource::Inbound(inbound))
        }
        ResourceType::Endpoints => {
            let set = std::sync::Arc::<heddle_ir::endpoint::EndpointSet>::sample(source);
            (ResourceName::Endpoints(set.key.clone()), Resource::Endpoints(set))
        }
        ResourceType::Outbound => {
            let outbound = std::sync::Arc::<heddle_ir::outbound::Outbound>::sample(source);
            (ResourceName::Outbound(outbound.key.clone()), Resource::Outbound(outbound))
        }
        ResourceType::Gateway => {
            let gateway = std::sync::Arc::<heddle_ir::gateway::Gateway>::sample(source);
            (ResourceName::Gateway(gateway.workload.clone()), Resource::Gateway(gateway))
        }
        ResourceType::Secret => {
            let secret = std::sync::Arc::<heddle_ir::secret::Secret>::sample(source);
            (ResourceName::Secret(secret.key.clone()), Resource::Secret(secret))
        }
        ResourceType::Index => {
            (ResourceName::Index(ScopeId::sample(source)), Resource::Index(Sample::sample(source)))
        }
    }
}

fn any_resource() -> impl Strategy<Value = (ResourceName, Resource)> {
    (any::<u64>(), proptest::sample::select(ResourceType::ALL.to_vec()))
        .prop_map(|(seed, resource_type)| sample(resource_type, &mut Source(seed)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn what_was_encoded_decodes_to_the_same((name, resource) in any_resource()) {
        let encoded = encode(&resource);
        prop_assert_eq!(decode(&name, &encoded.bytes), Ok(resource.clone()));
        prop_assert_eq!(encode(&resource), encoded);
        let url = ResourceType::of(&name).url();
        let parsed = parse_name(ResourceType::parse(url).unwrap(), &name_text(&name));
        prop_assert_eq!(parsed, Ok(name));
    }

    #[test]
    fn damage_never_panics_and_never_passes_for_the_original(
        (name, resource) in any_resource(), position: prop::sample::Index, byte: u8,
    ) {
        let encoded = encode(&resource);
        let mut damaged = encoded.bytes.clone();
        let index = position.index(damaged.len());
        damaged[index] = byte;
        if damaged != encoded.bytes {
            // A number written in more bytes than needed may mean the same; its version differs all the same.
            let decoded = decode(&name, &damaged);
            prop_assert!(decoded.is_err() || version(&damaged) != encoded.version);
        }
        prop_assert!(decode(&name, &encoded.bytes[..index]).is_err());
    }
}

fn outbound() -> (ResourceName, Vec<u8>) {
    let mut source = Source(7);
    let (name, resource) = sample(ResourceType::Outbound, &mut source);
    (name, encode(&resource).bytes)
}

/// Appends a field to the message inside the envelope.
fn with_field(bytes: &[u8], tag: u32, number: u64) -> Vec<u8> {
    let mut envelope = Raw::Bytes(bytes).fields().unwrap();
    let content: std::sync::Arc<[u8]> = envelope.take(1, "").unwrap();
    let mut content = content.to_vec();
    crate::wire::write_number(tag, number, &mut content);
    let mut out = Vec::new();
    crate::wire::write_bytes(1, &content, &mut out);
    out
}

#[test]
fn a_field_that_is_not_known_is_refused() {
    let (name, bytes) = outbound();
    assert!(decode(&name, &bytes).is_ok());
    let error = decode(&name, &with_field(&bytes, 99, 1)).unwrap_err();
    assert_eq!(error.problem, Problem::UnknownField);
}

#[test]
fn a_repeated_singular_field_is_refused_with_its_path() {
    let (name, bytes) = outbound();
    let error = decode(&name, &with_field(&bytes, 2, 3)).unwrap_err();
    assert_eq!(error, Malformed { path: "protocol".into(), problem: Problem::Repeated });
}

#[test]
fn an_unknown_variant_is_refused_with_its_path() {
    let mut content = Vec::new();
    crate::wire::write_nested(1, &mut content, |out| {
        crate::wire::write_nested(1, out, |out| crate::wire::write_bytes(1, b"*", out));
        crate::wire::write_nested(1, out, |out| {
            crate::wire::write_bytes(1, b"a", out);
            crate::wire::write_nested(4, out, |out| {
                crate::wire::write_number(1, 80, out);
                crate::wire::write_number(2, 42, out);
            });
        });
        crate::wire::write_number(4, 1, out);
    });
    let name = ResourceName::Index(ScopeId("s".into()));
    let error = decode(&name, &content).unwrap_err();
    assert_eq!(
        error.to_string(),
        "frontends[1].ports[0].protocol: variant 42 is not known to this version"
    );
}

#[test]
fn a_required_field_that_is_missing_is_refused() {
    let name = ResourceName::Index(ScopeId("s".into()));
    let mut content = Vec::new();
    crate::wire::write_bytes(1, b"", &mut content);
    let error = decode(&name, &content).unwrap_err();
    assert_eq!(error, Malformed { path: "unknown_destinations".into(), problem: Problem::Missing });
    assert_eq!(decode(&name, b"").unwrap_err().problem, Problem::Missing);
}

#[test]
fn the_content_of_another_name_is_refused() {
    let (_, bytes) = outbound();
    let key = OutboundKey { scope: ScopeId("other".into()), host: "h".into(), port: 1 };
    assert!(decode(&ResourceName::Outbound(key), &bytes).is_err());
}

#[test]
fn a_resource_over_the_limit_is_refused_unread() {
    let bytes = vec![0; RESOURCE_BYTES_MAX + 1];
    let error = decode(&ResourceName::TrustBundle, &bytes).unwrap_err();
    assert_eq!(error.problem, Problem::TooMany(RESOURCE_BYTES_MAX + 1));
}

#[test]
fn a_text_that_names_nothing_is_refused() {
    for (resource_type, text) in [
        (ResourceType::Endpoints, "a"),
        (ResourceType::Endpoints, "a/80/"),
        (ResourceType::Endpoints, "A/80"),
        (ResourceType::Endpoints, "a/080"),
        (ResourceType::Endpoints, "a/65536"),
        (ResourceType::Outbound, "s/a"),
        (ResourceType::Outbound, "s/a%/80"),
        (ResourceType::Outbound, "s/a%2f/80"),
        (ResourceType::TrustBundle, "*"),
        (ResourceType::Workload, "/10.0.0.01"),
    ] {
        assert!(parse_name(resource_type, text).is_err(), "{text}");
    }
    assert!(parse_name(ResourceType::Index, &"a".repeat(NAME_BYTES_MAX + 1)).is_err());
}
