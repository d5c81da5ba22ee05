//! Where things came from.

use heddle_diag::{Dialect, Origin, Position, Source};

use crate::wire::{choice, codes, message};

codes!(Dialect {
    1 BuiltIn, 2 Cilium, 3 Flagger, 4 GatewayApi, 5 Istio, 6 Kubernetes, 7 Linkerd, 8 Smi,
});
message!(Position { 1 line, 2 column });
choice!(Source { 1 BuiltIn, 2 Cluster { 2 uid, 3 generation }, 3 File { 4 path, 5 position } });
message!(Origin {
    1 dialect, 2 group, 3 kind, 4 namespace, 5 name, 6 cluster, 7 field, 8 source,
});
