//! Filters of HTTPRoutes and GRPCRoutes: what is changed on the way, or answered by the proxy.

use super::common::{BackendObjectReference, LocalObjectReference};
use super::rules;

object! {
    /// One step of the treatment of a request.
    HttpFilter {
        /// Cross-origin rules.
        "cors" => cors: Option<CorsFilter>,
        /// A filter of an implementation.
        "extensionRef" => extension_ref: Option<LocalObjectReference>,
        /// Another service decides.
        "externalAuth" => external_auth: Option<ExternalAuthFilter>,
        /// Changes of request headers.
        "requestHeaderModifier" => request_header_modifier: Option<HeaderFilter>,
        /// A copy goes elsewhere too.
        "requestMirror" => request_mirror: Option<MirrorFilter>,
        /// The request is answered with a redirection.
        "requestRedirect" => request_redirect: Option<RedirectFilter>,
        /// Changes of response headers.
        "responseHeaderModifier" => response_header_modifier: Option<HeaderFilter>,
        /// Which of the fields is meant.
        "type" => kind: Option<HttpFilterType> [required],
        /// Changes of path and host.
        "urlRewrite" => url_rewrite: Option<RewriteFilter>,
    }
    check rules::http_filter
}

choice! {
    /// Filters of HTTPRoutes.
    HttpFilterType {
        "RequestHeaderModifier" => RequestHeaderModifier,
        "ResponseHeaderModifier" => ResponseHeaderModifier,
        "RequestMirror" => RequestMirror,
        "RequestRedirect" => RequestRedirect,
        "URLRewrite" => UrlRewrite,
        "ExtensionRef" => ExtensionRef,
        "CORS" => Cors,
        "ExternalAuth" => ExternalAuth,
    }
}

object! {
    /// One step of the treatment of a gRPC call.
    GrpcFilter {
        /// A filter of an implementation.
        "extensionRef" => extension_ref: Option<LocalObjectReference>,
        /// Changes of request headers.
        "requestHeaderModifier" => request_header_modifier: Option<HeaderFilter>,
        /// A copy goes elsewhere too.
        "requestMirror" => request_mirror: Option<MirrorFilter>,
        /// Changes of response headers.
        "responseHeaderModifier" => response_header_modifier: Option<HeaderFilter>,
        /// Which of the fields is meant.
        "type" => kind: Option<GrpcFilterType> [required],
    }
    check rules::grpc_filter
}

choice! {
    /// Filters of GRPCRoutes.
    GrpcFilterType {
        "ResponseHeaderModifier" => ResponseHeaderModifier,
        "RequestHeaderModifier" => RequestHeaderModifier,
        "RequestMirror" => RequestMirror,
        "ExtensionRef" => ExtensionRef,
    }
}

object! {
    /// Changes of headers.
    HeaderFilter {
        /// Adds a value.
        "add" => add: Vec<HeaderValue> [count(0, 16), unique("name")],
        /// Removes every value.
        "remove" => remove: Vec<String> [count(0, 16), unique("")],
        /// Replaces every value.
        "set" => set: Vec<HeaderValue> [count(0, 16), unique("name")],
    }
}

object! {
    /// A header.
    HeaderValue {
        /// Its name, in any case.
        "name" => name: String [required, len(1, 256), check(rules::token)],
        /// Its value.
        "value" => value: String [required, len(1, 4096), check(rules::header_value)],
    }
}

object! {
    /// Where copies of requests go, and of how many.
    MirrorFilter {
        /// Where.
        "backendRef" => backend_ref: BackendObjectReference [required],
        /// Of how many, as a fraction.
        "fraction" => fraction: Option<Fraction>,
        /// Of how many, in percent; absent means all.
        "percent" => percent: Option<u32> [range(0.0, 100.0)],
    }
    check rules::mirror
}

object! {
    /// A fraction.
    Fraction {
        /// The lower part; absent means 100.
        "denominator" => denominator: Option<u32> [min(1.0)],
        /// The upper part.
        "numerator" => numerator: u32 [required, min(0.0)],
    }
    check rules::fraction
}

object! {
    /// A redirection; what is absent stays as it is.
    RedirectFilter {
        /// The host.
        "hostname" => hostname: Option<String> [len(1, 253), check(crate::check::dns_name)],
        /// The path.
        "path" => path: Option<PathModifier>,
        /// The port; absent means that of the scheme, or of the listener where no scheme is given.
        "port" => port: Option<u16> [port],
        /// The scheme.
        "scheme" => scheme: Option<RedirectScheme>,
        /// 301, 302, 303, 307 or 308; absent means 302.
        "statusCode" => status_code: Option<u16>,
    }
    check rules::redirect
}

choice! {
    /// Schemes of redirections.
    RedirectScheme {
        "http" => Http,
        "https" => Https,
    }
}

object! {
    /// Changes of path and host.
    RewriteFilter {
        /// The host.
        "hostname" => hostname: Option<String> [len(1, 253), check(crate::check::dns_name)],
        /// The path.
        "path" => path: Option<PathModifier>,
    }
}

object! {
    /// How a path is changed.
    PathModifier {
        /// The whole path becomes this.
        "replaceFullPath" => replace_full_path: Option<String> [len(0, 1024)],
        /// The part that the prefix took becomes this.
        "replacePrefixMatch" => replace_prefix_match: Option<String> [len(0, 1024)],
        /// Which of the two.
        "type" => kind: Option<PathModifierType> [required],
    }
    check rules::path_modifier
}

choice! {
    /// How a path is changed.
    PathModifierType {
        "ReplaceFullPath" => ReplaceFullPath,
        "ReplacePrefixMatch" => ReplacePrefixMatch,
    }
}

object! {
    /// Cross-origin resource sharing.
    CorsFilter {
        /// Whether credentials may be sent.
        "allowCredentials" => allow_credentials: Option<bool>,
        /// Headers that may be sent, or `*` alone.
        "allowHeaders" => allow_headers: Vec<String> [count(0, 64), item_len(1, 256), item_check(rules::token), unique("")],
        /// Methods that may be used, or `*` alone.
        "allowMethods" => allow_methods: Vec<String> [count(0, 9), item_check(rules::cors_method), unique("")],
        /// Origins as `scheme://host[:port]`, the host perhaps `*` or beginning with `*.`; or `*` alone.
        "allowOrigins" => allow_origins: Vec<String> [count(0, 64), item_len(1, 253), item_check(rules::cors_origin), unique("")],
        /// Headers that scripts may read.
        "exposeHeaders" => expose_headers: Vec<String> [count(0, 64), item_len(1, 256), item_check(rules::token), unique("")],
        /// How long a preflight's answer may be kept, in seconds; absent means 5.
        "maxAge" => max_age: Option<u32> [min(1.0)],
    }
    check rules::cors
}

object! {
    /// Another service decides whether a request may go on.
    ExternalAuthFilter {
        /// The service.
        "backendRef" => backend_ref: BackendObjectReference [required],
        /// Whether, and how much of, the body is sent along; absent means none.
        "forwardBody" => forward_body: Option<AuthBody>,
        /// Settings for `GRPC`.
        "grpc" => grpc: Option<GrpcAuth>,
        /// Settings for `HTTP`.
        "http" => http: Option<HttpAuth>,
        /// How it is asked.
        "protocol" => protocol: Option<ExternalAuthProtocol> [required],
    }
    check rules::external_auth
}

choice! {
    /// How an authorising service is asked.
    ExternalAuthProtocol {
        /// By a request of which 200 means yes.
        "HTTP" => Http,
        /// By Envoy's `ext_authz` protocol.
        "GRPC" => Grpc,
    }
}

object! {
    /// How much of a body is sent along.
    AuthBody {
        /// At most so many bytes; 0 or absent: none.
        "maxSize" => max_size: Option<u32> [min(0.0)],
    }
}

object! {
    /// Settings of a gRPC authoriser.
    GrpcAuth {
        /// Headers that are sent along; empty: all.
        "allowedHeaders" => allowed_headers: Vec<String> [count(0, 64), unique("")],
    }
}

object! {
    /// Settings of an HTTP authoriser.
    HttpAuth {
        /// Headers that are sent along, besides those that always are.
        "allowedHeaders" => allowed_headers: Vec<String> [count(0, 64), unique("")],
        /// Headers of the answer that are copied to the request; empty: all.
        "allowedResponseHeaders" => allowed_response_headers: Vec<String> [count(0, 64), unique("")],
        /// Put before the request's path.
        "path" => path: Option<String> [len(0, 1024), check(rules::path_text)],
    }
}
