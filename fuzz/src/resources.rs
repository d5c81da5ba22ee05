//! The config stream: bytes that decode stand for one value, and a name has one spelling.

use heddle_ident::{NetworkName, WorkloadId};
use heddle_ir::outbound::{OutboundKey, ScopeId};
use heddle_ir::resource::ResourceName;
use heddle_proto::resource::{
    ResourceType, decode as decode_resource, encode, name_text, parse_name,
};

pub(crate) const SEEDS: &[&[u8]] = &[
    b"default/reviews/9080",
    b"\x0a\x0b\x0a\x03a/b\x12\x01x\x18\x01",
    b"\x0a\x04\x08\x01\x10\x02",
    b"standalone/Pod/default/web",
];

pub(crate) fn decode(bytes: &[u8]) {
    let names = [
        ResourceName::TrustBundle,
        ResourceName::Inbound(WorkloadId::new("")),
        ResourceName::Gateway(WorkloadId::new("")),
        ResourceName::Proxy(WorkloadId::new("")),
        ResourceName::Index(ScopeId("".into())),
        ResourceName::Outbound(OutboundKey { scope: ScopeId("".into()), host: "".into(), port: 0 }),
        ResourceName::Workload(NetworkName::new(""), [10, 0, 0, 1].into()),
    ];
    for name in names {
        let Ok(resource) = decode_resource(&name, bytes) else { continue };
        let encoded = encode(&resource);
        assert_eq!(decode_resource(&name, &encoded.bytes).as_ref(), Ok(&resource));
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for resource_type in ResourceType::ALL {
        if let Ok(name) = parse_name(resource_type, text) {
            assert_eq!(name_text(&name), text, "a name has two spellings");
        }
    }
}
