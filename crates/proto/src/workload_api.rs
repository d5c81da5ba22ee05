//! The SPIFFE Workload API (SPIFFE Workload API, section 5; `workload.proto`): how an application, or a proxy, gets
//! its identity over a Unix socket on its own machine.
//!
//! Of its five calls the two about X.509 are here. Those about tokens (JWT-SVID) are answered with `UNIMPLEMENTED`.

use std::collections::BTreeMap;

/// The path of `FetchX509SVID`; the service stands in no package.
pub const FETCH_X509_SVID_PATH: &str = "/SpiffeWorkloadAPI/FetchX509SVID";
/// The path of `FetchX509Bundles`.
pub const FETCH_X509_BUNDLES_PATH: &str = "/SpiffeWorkloadAPI/FetchX509Bundles";
/// What the paths of all calls begin with.
pub const PATH_PREFIX: &str = "/SpiffeWorkloadAPI/";
/// The header that each call must carry with the value `true` (section 4.2): who can only be made to open URLs cannot
/// add it.
pub const SECURITY_HEADER: &str = "workload.spiffe.io";
/// The variable in which an application finds the socket (SPIFFE Workload Endpoint, section 4).
pub const SOCKET_VARIABLE: &str = "SPIFFE_ENDPOINT_SOCKET";

/// Asks for identities.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct X509SvidRequest {}

/// All identities of the caller; each answer of the stream takes the place of the one before.
#[derive(Clone, PartialEq, prost::Message)]
pub struct X509SvidResponse {
    /// The identities, the default first.
    #[prost(message, repeated, tag = "1")]
    pub svids: Vec<X509Svid>,
    /// Revocation lists in DER.
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub crl: Vec<Vec<u8>>,
    /// Roots of other trust domains: by the domain's SPIFFE id, certificates in DER one after the other.
    #[prost(btree_map = "string, bytes", tag = "3")]
    pub federated_bundles: BTreeMap<String, Vec<u8>>,
}

/// An identity with its key.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct X509Svid {
    /// Who it is.
    #[prost(string, tag = "1")]
    pub spiffe_id: String,
    /// The chain in DER, one after the other, leaf first, without the root.
    #[prost(bytes = "vec", tag = "2")]
    pub x509_svid: Vec<u8>,
    /// The private key, PKCS #8 in DER.
    #[prost(bytes = "vec", tag = "3")]
    pub x509_svid_key: Vec<u8>,
    /// The roots of its trust domain in DER, one after the other.
    #[prost(bytes = "vec", tag = "4")]
    pub bundle: Vec<u8>,
    /// What it is for, where there are several; may be empty.
    #[prost(string, tag = "5")]
    pub hint: String,
}

/// Asks for roots.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct X509BundlesRequest {}

/// All roots that the caller may verify peers with.
#[derive(Clone, PartialEq, prost::Message)]
pub struct X509BundlesResponse {
    /// Revocation lists in DER.
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub crl: Vec<Vec<u8>>,
    /// By the trust domain's SPIFFE id, certificates in DER one after the other.
    #[prost(btree_map = "string, bytes", tag = "2")]
    pub bundles: BTreeMap<String, Vec<u8>>,
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    #[test]
    fn the_bytes_are_those_of_workload_proto() {
        let svid = X509Svid {
            spiffe_id: "spiffe://td/a".into(),
            x509_svid: vec![1],
            x509_svid_key: vec![2],
            bundle: vec![3],
            hint: "h".into(),
        };
        let response = X509SvidResponse {
            svids: vec![svid],
            crl: vec![vec![4]],
            federated_bundles: [("spiffe://o".to_owned(), vec![5])].into(),
        };
        let svid = b"\x0a\x0dspiffe://td/a\x12\x01\x01\x1a\x01\x02\x22\x01\x03\x2a\x01h";
        let mut expected = vec![0x0a, u8::try_from(svid.len()).unwrap()];
        expected.extend_from_slice(svid);
        expected.extend_from_slice(b"\x12\x01\x04\x1a\x0f\x0a\x0aspiffe://o\x12\x01\x05");
        assert_eq!(response.encode_to_vec(), expected);
        assert_eq!(X509SvidResponse::decode(expected.as_slice()).unwrap(), response);
        let bundles = X509BundlesResponse {
            crl: vec![vec![4]],
            bundles: [("spiffe://o".to_owned(), vec![5])].into(),
        };
        assert_eq!(bundles.encode_to_vec(), b"\x0a\x01\x04\x12\x0f\x0a\x0aspiffe://o\x12\x01\x05");
    }
}
