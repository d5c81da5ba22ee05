//! `exportTo`: which namespaces see an object.

use std::collections::BTreeSet;
use std::sync::Arc;

/// Which namespaces see an object.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Export {
    /// Every one.
    All,
    /// No one, not even its own.
    Nobody,
    /// These.
    Only(BTreeSet<Arc<str>>),
}

impl Export {
    /// What a list means for an object of `namespace`; an empty list is `default`.
    pub(crate) fn of<'a>(
        texts: impl IntoIterator<Item = &'a str>,
        namespace: &str,
        default: &[Arc<str>],
    ) -> Self {
        let texts: Vec<&str> =
            texts.into_iter().map(str::trim).filter(|text| !text.is_empty()).collect();
        let texts =
            if texts.is_empty() { default.iter().map(|text| &**text).collect() } else { texts };
        if texts.contains(&"*") {
            return Self::All;
        }
        if texts.contains(&"~") {
            return Self::Nobody;
        }
        Self::Only(
            texts
                .into_iter()
                .map(|text| if text == "." { namespace } else { text }.into())
                .collect(),
        )
    }

    /// Whoever sees either.
    pub(crate) fn or(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::All, _) | (_, Self::All) => Self::All,
            (Self::Nobody, other) => other.clone(),
            (own, Self::Nobody) => own.clone(),
            (Self::Only(own), Self::Only(other)) => Self::Only(own.union(other).cloned().collect()),
        }
    }

    /// Whether some namespace sees both.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Nobody, _) | (_, Self::Nobody) => false,
            (Self::All, _) | (_, Self::All) => true,
            (Self::Only(own), Self::Only(other)) => !own.is_disjoint(other),
        }
    }

    /// Whether a client of that namespace sees the object.
    pub(crate) fn shows_to(&self, namespace: &str) -> bool {
        match self {
            Self::All => true,
            Self::Nobody => false,
            Self::Only(namespaces) => namespaces.contains(namespace),
        }
    }

    /// Whether nobody but its own namespace sees it.
    pub(crate) fn is_private_to(&self, namespace: &str) -> bool {
        matches!(self, Self::Only(namespaces) if namespaces.len() == 1 && namespaces.contains(namespace))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_mean_namespaces() {
        let all: [Arc<str>; 1] = ["*".into()];
        let of = |texts: &[&str]| Export::of(texts.iter().copied(), "own", &all);
        assert_eq!(of(&[]), Export::All);
        assert!(of(&["."]).is_private_to("own"));
        assert!(of(&[".", "other"]).shows_to("own") && of(&[".", "other"]).shows_to("other"));
        assert!(!of(&["other"]).shows_to("own"));
        assert_eq!(of(&["~"]), Export::Nobody);
        assert_eq!(of(&["a", "*"]), Export::All);
    }
}
