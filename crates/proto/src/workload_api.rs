//! The SPIFFE Workload API (SPIFFE Workload API, section 5; `workload.proto`): how an application, or a proxy, gets
//! its identity over a Unix socket on its own machine.
//!
//! All five calls: two about certificates, three about tokens (JWT-SVID).

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

/// The path of `FetchJWTSVID`.
pub const FETCH_JWT_SVID_PATH: &str = "/SpiffeWorkloadAPI/FetchJWTSVID";
/// The path of `FetchJWTBundles`.
pub const FETCH_JWT_BUNDLES_PATH: &str = "/SpiffeWorkloadAPI/FetchJWTBundles";
/// The path of `ValidateJWTSVID`.
pub const VALIDATE_JWT_SVID_PATH: &str = "/SpiffeWorkloadAPI/ValidateJWTSVID";

/// Asks for tokens.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct JwtSvidRequest {
    /// Whom they are for; at least one.
    #[prost(string, repeated, tag = "1")]
    pub audience: Vec<String>,
    /// Of which identity; empty: of all that the caller has.
    #[prost(string, tag = "2")]
    pub spiffe_id: String,
}

/// Tokens, the default first.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct JwtSvidResponse {
    /// The tokens.
    #[prost(message, repeated, tag = "1")]
    pub svids: Vec<JwtSvid>,
}

/// A token of an identity.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct JwtSvid {
    /// Who it is.
    #[prost(string, tag = "1")]
    pub spiffe_id: String,
    /// The token.
    #[prost(string, tag = "2")]
    pub svid: String,
    /// What it is for, where there are several; may be empty.
    #[prost(string, tag = "3")]
    pub hint: String,
}

/// Asks for the keys that tokens are validated with.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct JwtBundlesRequest {}

/// All such keys.
#[derive(Clone, PartialEq, prost::Message)]
pub struct JwtBundlesResponse {
    /// By the trust domain's SPIFFE id, a JWK set.
    #[prost(btree_map = "string, bytes", tag = "1")]
    pub bundles: BTreeMap<String, Vec<u8>>,
}

/// Asks whom a token proves to be.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ValidateJwtSvidRequest {
    /// Who asks, as the token must name them.
    #[prost(string, tag = "1")]
    pub audience: String,
    /// The token.
    #[prost(string, tag = "2")]
    pub svid: String,
}

/// Whom it proves to be.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ValidateJwtSvidResponse {
    /// Who it is.
    #[prost(string, tag = "1")]
    pub spiffe_id: String,
    /// All claims of the token.
    #[prost(message, optional, tag = "2")]
    pub claims: Option<Struct>,
}

/// `google.protobuf.Struct`: a JSON object.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Struct {
    /// Its members.
    #[prost(btree_map = "string, message", tag = "1")]
    pub fields: BTreeMap<String, Value>,
}

/// `google.protobuf.Value`: a JSON value.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Value {
    /// Of which kind it is.
    #[prost(oneof = "Kind", tags = "1, 2, 3, 4, 5, 6")]
    pub kind: Option<Kind>,
}

/// `google.protobuf.ListValue`: a JSON array.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ListValue {
    /// Its items.
    #[prost(message, repeated, tag = "1")]
    pub values: Vec<Value>,
}

/// The kinds of JSON values.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Kind {
    /// `null`; the number is always 0.
    #[prost(int32, tag = "1")]
    Null(i32),
    /// A number.
    #[prost(double, tag = "2")]
    Number(f64),
    /// A text.
    #[prost(string, tag = "3")]
    Text(String),
    /// A boolean.
    #[prost(bool, tag = "4")]
    Bool(bool),
    /// An object.
    #[prost(message, tag = "5")]
    Struct(Struct),
    /// An array.
    #[prost(message, tag = "6")]
    List(ListValue),
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    #[test]
    fn claims_are_a_struct_of_google_protobuf() {
        let list = ListValue { values: vec![Value { kind: Some(Kind::Text("db".into())) }] };
        let claims = Struct {
            fields: [
                ("aud".to_owned(), Value { kind: Some(Kind::List(list)) }),
                ("exp".to_owned(), Value { kind: Some(Kind::Number(1.0)) }),
            ]
            .into(),
        };
        let response = ValidateJwtSvidResponse { spiffe_id: "s".into(), claims: Some(claims) };
        let expected = b"\x0a\x01s\x12\x25\x0a\x11\x0a\x03aud\x12\x0a2\x08\x0a\x06\x1a\x04db";
        assert_eq!(response.encode_to_vec()[..4], expected[..4]);
        assert_eq!(
            ValidateJwtSvidResponse::decode(response.encode_to_vec().as_slice()).unwrap(),
            response
        );
        let svid = JwtSvidResponse {
            svids: vec![JwtSvid { spiffe_id: "a".into(), svid: "b".into(), hint: String::new() }],
        };
        assert_eq!(svid.encode_to_vec(), b"\x0a\x06\x0a\x01a\x12\x01b");
    }

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
