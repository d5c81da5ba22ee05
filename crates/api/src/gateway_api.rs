//! The Kubernetes Gateway API's kinds, with every field of every served version (the versions of a kind share one
//! schema, that of the experimental channel, which is the widest).
//!
//! The rules are those of the CRDs, CEL included; a test compares field by field. Defaults stay unwritten here: each
//! type has a method that says what an absent field means. What fields do is `translate`'s business.

mod backend_tls_policy;
mod common;
mod filter;
mod gateway;
mod gateway_class;
mod grpc_route;
mod http_route;
mod listener;
mod reference_grant;
mod rules;
mod session;
mod stream_route;

pub use backend_tls_policy::{
    BackendTlsPolicy, BackendTlsValidation, PolicyTarget, SubjectAltName, SubjectAltNameType,
};
pub use common::{
    BackendObjectReference, BackendRef, DefaultGateways, LocalObjectReference, ObjectReference,
    ParametersReference, ParentReference, SecretObjectReference,
};
pub use filter::{
    AuthBody, CorsFilter, ExternalAuthFilter, ExternalAuthProtocol, Fraction, GrpcAuth, GrpcFilter,
    GrpcFilterType, HeaderFilter, HeaderValue, HttpAuth, HttpFilter, HttpFilterType, MirrorFilter,
    PathModifier, PathModifierType, RedirectFilter, RedirectScheme, RewriteFilter,
};
pub use gateway::{
    AllowedListeners, FrontendTls, FrontendTlsConfig, FrontendValidation, FrontendValidationMode,
    Gateway, GatewayAddress, GatewayBackendTls, GatewayInfrastructure, GatewayTls,
    ListenerNamespaces, ListenerNamespacesFrom, PortFrontendTls,
};
pub use gateway_class::GatewayClass;
pub use grpc_route::{
    GrpcBackendRef, GrpcHeaderMatch, GrpcMatch, GrpcMethodMatch, GrpcRoute, GrpcRule,
};
pub use http_route::{
    HttpBackendRef, HttpHeaderMatch, HttpMatch, HttpMethod, HttpPathMatch, HttpQueryMatch,
    HttpRoute, HttpRule, HttpTimeouts, MatchType, PathMatchType, RetrySettings,
};
pub use listener::{
    AllowedRoutes, Listener, ListenerSet, ListenerTls, ListenerTlsMode, ParentGateway,
    RouteGroupKind, RouteNamespaces, RouteNamespacesFrom,
};
pub use reference_grant::{GrantFrom, GrantTo, ReferenceGrant};
pub use session::{
    CookieLifetime, CookieSettings, SessionCookie, SessionHeader, SessionPersistence, SessionType,
};
pub use stream_route::{StreamRule, TcpRoute, TlsRoute, UdpRoute};

/// The API group of all kinds but experimental ones.
pub const GROUP: &str = "gateway.networking.k8s.io";

/// The API group of experimental kinds.
pub const EXPERIMENTAL_GROUP: &str = "gateway.networking.x-k8s.io";
