//! ReferenceGrant.

use crate::check;

object! {
    /// Lets objects of other namespaces refer to objects of this one.
    ReferenceGrant {
        /// Who may refer; any one entry suffices.
        "from" => from: Vec<GrantFrom> [required, count(1, 16)],
        /// What may be referred to; any one entry suffices.
        "to" => to: Vec<GrantTo> [required, count(1, 16)],
    }
}

object! {
    /// Who may refer.
    GrantFrom {
        /// API group of the referring object.
        "group" => group: String [required, len(0, 253), check(check::dns_name_or_empty)],
        /// Its kind.
        "kind" => kind: String [required, len(1, 63), check(check::kind_name)],
        /// Its namespace.
        "namespace" => namespace: String [required, len(1, 63), check(check::dns_label)],
    }
}

object! {
    /// What may be referred to.
    GrantTo {
        /// API group of the object; empty for the core group.
        "group" => group: String [required, len(0, 253), check(check::dns_name_or_empty)],
        /// Its kind.
        "kind" => kind: String [required, len(1, 63), check(check::kind_name)],
        /// Its name; absent means every object of the kind.
        "name" => name: Option<String> [len(1, 253)],
    }
}
