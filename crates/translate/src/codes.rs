//! The findings of this crate: 02 routing, 03 destinations and services, 04 security, 05 workloads and the mesh,
//! 07 Linkerd and SMI.

heddle_diag::codes! {
    UNKNOWN_HOST = "HED0201", "destination host unknown", ["IST0101"],
        "The route sends requests to a host that no Service and no ServiceEntry defines, as seen from the namespace of the \
         object. A short name is completed with the namespace of the object it stands in, not of the caller. That share of \
         the requests is answered with 503; all other routes go on.";
    UNKNOWN_SUBSET = "HED0202", "subset unknown", ["IST0101"],
        "No DestinationRule that applies to the host defines the subset. That share of the requests is answered with 503; \
         all other routes go on. Add the subset to the DestinationRule, or remove it from the route.";
    SHADOWED = "HED0203", "another VirtualService has the host", ["IST0109"],
        "Inside the mesh one VirtualService decides for a host: the one private to the client's namespace, then the one \
         exported to it, then a public one, and among equals the oldest: the one created first, and of files that are not \
         applied yet, or applied together, the one written first. The others have no effect for that host, also \
         when they are meant as a rollback. Change the object that decides, or delete it.";
    UNREACHABLE_RULE = "HED0204", "rule is never reached", ["IST0130"],
        "Rules are tried in written order, and a rule before this one takes every request that this one could take. Move \
         the more general rule behind the special one.";
    INEFFECTIVE_MATCH = "HED0205", "match has no effect", ["IST0131"],
        "An earlier rule has the same or a wider match, so this match takes no request.";
    UNKNOWN_GATEWAY = "HED0206", "gateway unknown", ["IST0101"],
        "The VirtualService is bound to a Gateway that does not exist. A name without namespace means the namespace of the \
         VirtualService.";
    INTERNAL_GATEWAY = "HED0216", "name of a generated gateway", ["IST0165"],
        "The name is one that Istio gives a Gateway that it makes out of a Gateway of the Gateway API. It may change.";
    GATEWAY_HOST = "HED0207", "host not served by the gateway", ["IST0132"],
        "No server of the Gateway lists a host that covers this host of the VirtualService, so the gateway does not route it.";
    PORT_REQUIRED = "HED0208", "destination port ambiguous", ["IST0112"],
        "The destination has several ports and the route names none. The port that the client called is then used, which \
         the destination may not have.";
    UNKNOWN_PORT = "HED0209", "destination has no such port", ["IST0101"],
        "The route names a port that the service does not have. Ports of routes are service ports, not container ports. \
         That share of the requests is answered with 503.";
    MESH_ONLY = "HED0210", "host is not in the mesh and no gateway is bound", [],
        "A VirtualService without `gateways` applies to clients inside the mesh only, and no Service or ServiceEntry has the \
         host. If the host is meant for requests from outside, bind the VirtualService to a Gateway.";
    WEIGHTS = "HED0211", "weights are all zero", [],
        "Several destinations share the requests by weight, and the weights add up to zero. Istio rejects such an object; \
         heddle answers the requests of this rule with 503.";
    COOKIE_ON_ROUTE = "HED0212", "same cookie for every destination", [],
        "The route has several destinations by weight and sets a cookie at the level of the route, so that every client gets \
         the same value, whichever destination answered. To tell destinations apart, set the header below the destination.";
    CORS_WILDCARD = "HED0213", "wildcard in a prefix", [],
        "A prefix is compared literally; the star stands for itself and no origin has one. Use a regular expression.";
    OLD_MULTICLUSTER_NAME = "HED0214", "name of a removed multi-cluster design", [],
        "Names that end in `.global` come from a design that Istio removed. A service of another cluster has the same \
         name in every cluster: `<name>.<namespace>.svc.cluster.local`.";
    HEADER_VARIABLE = "HED0215", "variable in a header value", [],
        "Text between percent signs is a variable of Envoy. heddle does not fill in this variable; the header edit is left \
         out. Write `%%` for a percent sign.";

    DELEGATE = "HED0217", "delegate not included", [],
        "A rule that delegates is replaced by the rules of another VirtualService, which has no hosts and is exported to the \
         namespace of the delegating object. Of those rules each whose matches are within a match of the delegating rule is \
         included. What is not included takes no request.";
    UNUSED_DELEGATE = "HED0218", "nobody delegates to the object", [],
        "A VirtualService without hosts has effect only where another one delegates to it.";

    GATEWAY_CONFLICT = "HED0219", "Gateways share a port and a host", ["IST0145"],
        "Two Gateways for the same workloads have a server with the same port and host. Plaintext HTTP servers are put \
         together. Otherwise the older one decides: a port has one protocol, and of TLS servers each host has one.";
    GATEWAY_PORT = "HED0220", "no Service leads to the port", ["IST0162"],
        "The Services in front of the gateway's workloads do not have the port, so that clients reach it only by the address \
         of a workload.";
    NO_SECRET = "HED0221", "Secret missing", ["IST0101"],
        "Certificates of a Gateway come from Secrets in the namespace of the workloads that serve it. Without them no TLS \
         handshake succeeds.";
    SECRET_CONTENT = "HED0222", "Secret holds no certificate", ["IST0161"],
        "A Secret for TLS has a certificate under `tls.crt` (or `cert`) and its key under `tls.key` (or `key`), in PEM.";
    SAME_CERTIFICATE = "HED0223", "two Gateways have one certificate", ["IST0138"],
        "HTTP/2 clients use one connection for all hosts that a certificate names. A request for a host of the other Gateway \
         then comes to this one, which does not know it. Put the hosts into one Gateway.";

    SIDECARS_OF_NAMESPACE = "HED0224", "two Sidecars for one namespace", ["IST0111"],
        "A namespace has one Sidecar without workload selector. Of several the oldest decides.";
    SIDECARS_OF_WORKLOAD = "HED0225", "two Sidecars for one workload", ["IST0110"],
        "Two Sidecars select the same workload. The oldest decides; Istio does not say which one does.";
    SIDECAR_SELECTS_NOTHING = "HED0226", "Sidecar selects no workload", ["IST0101"],
        "No workload of the namespace has the labels of the selector, so the Sidecar does nothing.";
    UNKNOWN_SIDECAR_HOST = "HED0227", "Sidecar names an unknown host", [],
        "A host of `egress` that no Service and no ServiceEntry has opens nothing. Hosts are written in full here; short names \
         are not completed.";

    HTTP_ON_PASSTHROUGH = "HED0228", "rules for requests where TLS is passed on", [],
        "A server with the mode PASSTHROUGH relays TLS without decrypting it, so rules under `http` find no request there, and \
         Istio does not say so. Write the rule under `tls` with `sniHosts`.";

    BINDING_LOST = "HED0229", "an update unbinds the object", [],
        "The new form of the object names fewer Gateways or parents than the one that it replaces. A VirtualService without \
         `gateways` is for proxies inside the mesh alone, so requests from outside get 404 from then on.";

    BACKEND = "HED0230", "reference leads to nothing", [],
        "A backend, certificate or authority that an object of the Gateway API refers to does not exist, is of another kind, or \
         is in another namespace without a ReferenceGrant there. A backend keeps its share: its requests get 500 (calls of \
         gRPC UNAVAILABLE, connections are closed). A listener without any valid certificate fails every handshake.";
    NOT_ATTACHED = "HED0231", "route or ListenerSet is not attached", [],
        "The parent does not take it: no listener has the name and port, or takes the kind from the namespace, or has a \
         hostname in common; or the Service cannot be a parent. It has no effect there.";
    NOT_SERVED = "HED0232", "Gateway or listener is not served", [],
        "The listener conflicts with another one, its protocol is not supported, or the Gateway asks for something that cannot \
         be had. Everything else goes on.";
    FOREIGN_CLASS = "HED0233", "class of another controller", [],
        "The Gateway's class names another controller, which is responsible for it; heddle leaves it alone.";
    SHADOWED_MATCH = "HED0234", "an older route takes these requests", [],
        "An older route has the same match for the same host on the same listener or Service port. Where matches say equally \
         much the older route decides, also when the newer one is meant as its replacement. Change or delete the older one.";
    CLAIMS_UNCHECKED = "HED0235", "claims that nobody verifies", ["IST0149"],
        "A match on the claims of a token holds for tokens that a RequestAuthentication of the gateway's workload has \
         verified. Without one every request is taken for one without a token.";

    UNKNOWN_RULE_HOST = "HED0301", "DestinationRule for an unknown host", ["IST0174"],
        "No Service or ServiceEntry has the host, so the rule does nothing. A short name is completed with the namespace of \
         the DestinationRule.";
    EMPTY_SUBSET = "HED0302", "subset selects no workload", ["IST0173"],
        "No workload of the service has all labels of the subset. Requests that are routed to it are answered with 503.";
    DUPLICATE_SUBSET = "HED0303", "subset defined twice", [],
        "Two DestinationRules of one namespace for the same host define a subset of the same name. The older one decides.";
    SECOND_POLICY = "HED0304", "traffic policy of another rule decides", [],
        "Several DestinationRules of one namespace for the same host are merged: subsets are added up, but only the oldest \
         rule's `trafficPolicy` counts. This one has no effect.";
    CONSECUTIVE_ERRORS = "HED0305", "old outlier field", [],
        "`consecutiveErrors` was removed from Istio, which reads it and does nothing. heddle means by it what its authors \
         mean: `consecutive5xxErrors`.";
    NO_CA = "HED0306", "no authority named for a destination", ["IST0128"],
        "The rule makes TLS connections and does not say which authority to trust: heddle trusts the roots of the \
         operating system.";
    NO_CA_OF_PORT = "HED0312", "no authority named for a port", ["IST0129"],
        "The settings of the port make TLS connections and do not say which authority to trust: heddle trusts the roots \
         of the operating system.";
    CONFLICTING_HOST = "HED0307", "host defined twice", ["IST0177"],
        "Two objects define the same host. A Kubernetes Service wins over a ServiceEntry, of which only the subject names \
         are then used; among ServiceEntries the oldest wins for each port.";
    PORT_NAME = "HED0308", "port name says no protocol", ["IST0118"],
        "The protocol of a port is told by `appProtocol` or by the name of the port: `http`, `http-web`, `grpc-api`, \
         `tcp-db`. Without either it is told from the first bytes.";
    ADDRESSES_REQUIRED = "HED0309", "addresses missing", ["IST0134"],
        "A ServiceEntry of a protocol without host names is found by address alone; without addresses it takes every \
         connection to its port.";
    NO_PODS = "HED0310", "service selects no workload", [],
        "No workload has the labels of the selector, so requests to the service are answered with 503.";
    SHORT_NAME = "HED0311", "short name", ["IST0101"],
        "The host is completed with the namespace of the object.";

    UNWATCHED_FAILOVER = "HED0313", "failover without outlier detection", [],
        "Endpoints of other places are used when near ones fail, and only `outlierDetection` says that they fail. Add the block \
         beside the failover settings; an empty one has defaults.";

    SELECTS_NOTHING = "HED0401", "selects no workload", ["IST0127"],
        "No workload has the labels of the selector, so the object does nothing.";
    ROOT_SELECTOR = "HED0402", "selector in the root namespace", [],
        "A PeerAuthentication with a selector in the root namespace is ignored, since mesh-wide settings have none. Put it \
         into the namespace of the workload.";
    OLDER_POLICY = "HED0403", "an older PeerAuthentication decides", [],
        "Of several PeerAuthentications at one level the oldest counts; this one has no effect.";
    SERVICE_PORT = "HED0404", "port is not a port of the workload", [],
        "Keys of `portLevelMtls` are ports that the container listens on, not ports of the Service.";
    AUDIT_IS_NOT_DRY_RUN = "HED0405", "AUDIT enforces nothing and logs no denial", [],
        "The action AUDIT marks requests for an audit log and decides nothing. To try a policy without enforcing it, keep \
         its action and add the annotation `istio.io/dry-run: \"true\"`.";
    ABSENT_IDENTITY = "HED0406", "also denies callers without identity", [],
        "A negative condition on the identity holds for callers that have none: plaintext clients, gateways outside of the \
         namespace, monitoring. Say so with a second condition if they are to pass.";
    INERT = "HED0407", "policy without rules", [],
        "A DENY or AUDIT policy without rules never matches, so it does nothing.";
    UNKNOWN_ATTRIBUTE = "HED0408", "unknown attribute", [],
        "Conditions know a fixed set of keys. A DENY rule with an unknown one denies everything else it describes, an \
         ALLOW rule with it never matches. For conditions of your own, use an external authoriser.";
    FAILS_CLOSED = "HED0409", "cannot be checked yet", [],
        "heddle does not evaluate this yet, and never lets pass what it cannot check: a DENY rule denies whatever the rest of \
         the rule describes, an ALLOW rule does not match.";
    DENIES_EVERYTHING = "HED0410", "denies everything", [],
        "An ALLOW policy without rules matches nothing, and its presence makes every request that no other policy allows be \
         refused.";

    UNKNOWN_REFERENCE = "HED0701", "refers to what is not there", [],
        "The object refers to another one that does not exist, in this namespace or at all. Linkerd drops the whole object \
         then, and only its controller's log tells. heddle takes the part that refers to it for one that never holds.";
    PROFILE_WINS = "HED0702", "a ServiceProfile decides for the service", [],
        "Linkerd lets a ServiceProfile take the place of all routes and annotations of its Service, as a whole. Move what \
         they say into the profile, or delete the profile and say it with routes and annotations.";
    MISPLACED_BUDGET = "HED0703", "retry budget below a route", [],
        "A ServiceProfile has one retry budget for all of its routes, beside `routes`. Below a route the field is unknown: \
         the API server drops or refuses it. heddle reads it as the budget of the profile.";
    UNUSED_PROFILE = "HED0704", "profile for nobody", [],
        "The name of a ServiceProfile is the full host of the Service (`web.shop.svc.cluster.local`). It acts for clients in \
         its own namespace, or for all of them where that is the Service's.";
    ANNOTATION = "HED0705", "annotation not valid", [],
        "Linkerd takes an annotation that it cannot read for one that is not there, and tells only its own log.";
    SECOND_SPLIT = "HED0706", "an older TrafficSplit decides", [],
        "Of several TrafficSplits of one Service the oldest counts; SMI leaves open what happens.";

    PARENT_INFERRED = "HED0714", "parent without kind", [],
        "The kind of a parent is Gateway where nothing is said, and Linkerd has no Gateways: it attaches the route to nothing, \
         without a word. heddle reads the parent as the Service of that name. Write `kind: Service` and `group: core`.";
    INBOUND_BACKENDS = "HED0715", "backends of a route of a Server", [],
        "A route with a Server as parent tells requests apart for policy and metrics. They go to the workload itself; \
         Linkerd ignores its `backendRefs`. To send requests elsewhere, attach a route to the Service.";
    BOTH_GROUPS = "HED0716", "routes of two groups on one Service", [],
        "HTTPRoutes of `policy.linkerd.io` and of `gateway.networking.k8s.io` are attached to one Service. Their rules are \
         ordered as if they were of one group, which is easily overlooked.";
    FOREIGN_IDENTITY = "HED0707", "identity that no client has", [],
        "Linkerd's identities are names such as `web.shop.serviceaccount.identity.linkerd.cluster.local`: service account, \
         namespace, the fixed words, the namespace of Linkerd's control plane, and the trust domain. A name of another form \
         or of another trust domain is nobody's, so it lets nobody in.";
    FOREIGN_TARGET = "HED0708", "acts on another namespace", [],
        "A TrafficTarget may name a destination of another namespace. From then on the workloads of that service account \
         take only what targets allow.";
    SERVER_DENIES = "HED0709", "nobody may use the port", [],
        "Where there is a Server, its port takes only clients that something lets in: its `accessPolicy`, an \
         AuthorizationPolicy or a ServerAuthorization. This Server has none of them.";
    SECOND_SERVER = "HED0710", "another Server has the port", [],
        "Linkerd refuses a second Server for the same port of the same pods. The older one counts.";
    CLUSTER_NETWORKS_ONLY = "HED0711", "clients of the cluster's networks only", [],
        "A ServerAuthorization without `networks` lets in clients whose address is in the cluster's networks (a setting of \
         Linkerd's installation), unlike an AuthorizationPolicy, which without NetworkAuthentication takes every address.";
    GROUP_INFERRED = "HED0712", "reference without group", [],
        "A reference without `group` means the core group, which has no such kind: Linkerd's admission refuses it. heddle \
         reads it as the group of Linkerd's policy.";
    SECOND_LIMIT = "HED0717", "another rate limit of the Server counts", [],
        "A Server has one HTTPLocalRateLimitPolicy: the oldest. Linkerd says so only in the status of the others.";
    UNLIMITED = "HED0718", "limit that counts nothing", [],
        "The policy is there and limits no request: it names no rate, or requests cannot be seen on the port of its Server.";
    HIDES_GLOBAL = "HED0719", "global EgressNetworks count no more", [],
        "Clients in a namespace with an EgressNetwork are asked for those of their namespace only. The global ones, of the \
         namespace `linkerd-egress`, are left out for them, also for addresses that no network of their own has.";
    CROSSING = "HED0720", "an object of another project decides", [],
        "Objects of several projects say where requests for one service go, and only one of them can: a ServiceProfile before \
         routes of the Gateway API in the client's namespace, before a VirtualService there, before routes beside the service \
         and VirtualServices of other namespaces (the older of the two), before a TrafficSplit. Say it in one place.";
    PROBES_NEED_A_ROUTE = "HED0713", "health checks need a route of their own", [],
        "Linkerd lets the node's health checks pass as long as a Server has no routes. With the first route it takes only \
         requests of some route, so the paths of the probes need one too, with a NetworkAuthentication for the node's \
         addresses.";
    UNKNOWN_PROVIDER = "HED0411", "external authoriser unknown", [],
        "A CUSTOM policy names a provider that the mesh configuration does not define as an external authoriser, so nobody \
         can be asked: every request that the policy describes is denied.";
    TOKEN_OPTIONAL = "HED0412", "accepts requests without a token", [],
        "A RequestAuthentication checks the tokens that are there. A request without one goes on, as nobody. Whether a token \
         is needed is for an AuthorizationPolicy to say.";
    NO_KEYS = "HED0413", "keys of an issuer cannot be found out", [],
        "Without `jwks` and `jwksUri` the keys are looked up at the issuer, which must be a URL for that. Until then no token \
         of the issuer is valid.";

    WRITTEN_TWICE = "HED0510", "same object twice", [],
        "Several files of one request, or one file, hold two objects of one kind, namespace and name. The last one counts, in \
         the order of `-f` and of the names in a folder, as when each is applied in turn.";
    NAMES_NOT_LEARNED = "HED0420", "names without a rule for DNS", [],
        "Cilium learns the addresses of a name from DNS answers that it sees, which takes a rule for DNS; and a rule for \
         names closes the direction, so that queries need one too. heddle answers queries itself and sees every answer. Add \
         the rule if the policy is to work under Cilium as well.";
    CLOSES_EVERYTHING = "HED0421", "closes every workload", [],
        "A clusterwide rule without conditions takes workloads of all namespaces, those that the cluster itself needs among \
         them: DNS, webhooks, metrics. Leave `kube-system` out with a condition on the namespace.";
    RULES_VOID = "HED0422", "rules on requests without effect", [],
        "What entries allow is added up, over all policies that select a workload: one that allows a port as it is allows \
         every request on it, whatever another entry for the same peers says about requests. Put the rules into the more \
         general entry, or limit it to other peers.";
    ENTITY_AS_LABEL = "HED0423", "an entity written as a label", [],
        "`reserved:world` and its like stand for sets of peers. As a text in place of labels they are nothing that can be \
         read; `fromEntities` and `toEntities` take them by their names.";

    CERTIFICATE_EXPIRES = "HED0430", "certificate expires", [],
        "A certificate in the object comes to its end: in less than 30 days (information), 7 days (warning), 1 day (error), or \
         it has expired (error). Connections that need it fail from then on. Renew it and apply the object again.";
    CERTIFICATE_UNREADABLE = "HED0431", "certificate cannot be read", [],
        "What stands where a certificate in PEM is needed is none, or cannot be used for that. Nothing is accepted by it.";
    CERTIFICATE_KEY = "HED0432", "key does not go with its certificate", [],
        "The private key in a Secret is another one than that of the certificate beside it, or cannot be read. No handshake \
         succeeds with them: put the key that the certificate was requested with in its place.";
    CERTIFICATE_NAME = "HED0433", "certificate is not for this host", [],
        "A gateway presents a certificate that does not name a host it serves, so that clients refuse it. Use a certificate \
         with that host among its DNS names (subjectAltName).";

    NOTHING_COUNTED = "HED0440", "rate limit without effect", [],
        "A limit that a service counts has three parts: the filter, which says whom to ask and for which domain; the \
         `rate_limits` of a route or virtual host, which say what is told of a request; and the limits of that domain. One \
         of them is missing, so that every request passes.";
    SECOND_DOMAIN = "HED0441", "limits of a domain defined twice", [],
        "Two documents define the limits of one domain. Envoy's reference service starts with neither; here the first \
         counts, in the order of namespaces, names and keys of ConfigMaps.";

    REJECTED = "HED0501", "its project rejects this", ["IST0106"],
        "The validation of the object's own project refuses it, so a cluster would not take it. heddle puts the safe \
         meaning in the place of what is wrong, and everything else goes on.";
    UNSUPPORTED = "HED0502", "not supported", [],
        "heddle does not do this. The rest of the object is in force.";
    UPSTREAM_WARNING = "HED0503", "warning of its project", ["IST0133"],
        "The validation of the object's own project warns about this.";
}
