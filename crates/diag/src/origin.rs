//! Where a thing that decides came from: the object, the field and the line.

use std::fmt;
use std::sync::Arc;

/// Whose resource an object is. Only `translate` acts on it; everyone else prints it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Dialect {
    /// Not a user's object: a default of heddle's own.
    BuiltIn,
    /// `cilium.io`.
    Cilium,
    /// `flagger.app`.
    Flagger,
    /// `gateway.networking.k8s.io` and its experimental group.
    GatewayApi,
    /// `*.istio.io`.
    Istio,
    /// Kubernetes' own groups.
    Kubernetes,
    /// `linkerd.io` and its sub-groups.
    Linkerd,
    /// `*.smi-spec.io`.
    Smi,
}

impl Dialect {
    /// The name as it stands in JSON and on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BuiltIn => "built-in",
            Self::Cilium => "cilium",
            Self::Flagger => "flagger",
            Self::GatewayApi => "gateway-api",
            Self::Istio => "istio",
            Self::Kubernetes => "kubernetes",
            Self::Linkerd => "linkerd",
            Self::Smi => "smi",
        }
    }

    /// The dialect of that name; none for an unknown one.
    pub fn parse(text: &str) -> Option<Self> {
        [
            Self::BuiltIn,
            Self::Cilium,
            Self::Flagger,
            Self::GatewayApi,
            Self::Istio,
            Self::Kubernetes,
            Self::Linkerd,
            Self::Smi,
        ]
        .into_iter()
        .find(|dialect| dialect.as_str() == text)
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A place in a text, both counted from 1; columns count characters.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Position {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

/// What an object was read from.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Source {
    /// Nothing: the item is a default.
    BuiltIn,
    /// A cluster, where positions do not exist.
    Cluster {
        /// `metadata.uid`.
        uid: Arc<str>,
        /// `metadata.generation`; 0 where the kind has none.
        generation: i64,
    },
    /// A file, or standard input as `-`.
    File {
        /// The path as the user gave it.
        path: Arc<str>,
        /// Where the field of the origin stands.
        position: Position,
    },
}

/// The object and the field that an item came from.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Origin {
    /// Whose resource it is.
    pub dialect: Dialect,
    /// API group; empty for Kubernetes' core group.
    pub group: Arc<str>,
    /// Kind, for example `VirtualService`.
    pub kind: Arc<str>,
    /// Namespace; empty for cluster-scoped objects.
    pub namespace: Arc<str>,
    /// Name of the object.
    pub name: Arc<str>,
    /// The cluster it was read from; empty in a standalone mesh.
    pub cluster: Arc<str>,
    /// Path of the field, for example `spec.http[0].route[1]`; empty for the whole object.
    pub field: Arc<str>,
    /// What it was read from.
    pub source: Source,
}

impl Origin {
    /// The origin of a default that no object set; `name` says which.
    pub fn built_in(name: impl Into<Arc<str>>) -> Self {
        let empty: Arc<str> = Arc::default();
        Self {
            dialect: Dialect::BuiltIn,
            group: empty.clone(),
            kind: "Default".into(),
            namespace: empty.clone(),
            name: name.into(),
            cluster: empty.clone(),
            field: empty,
            source: Source::BuiltIn,
        }
    }

    /// A place in a file that belongs to no object, for example a syntax error.
    pub fn in_file(path: impl Into<Arc<str>>, position: Position) -> Self {
        let empty: Arc<str> = Arc::default();
        Self {
            dialect: Dialect::Kubernetes,
            group: empty.clone(),
            kind: empty.clone(),
            namespace: empty.clone(),
            name: empty.clone(),
            cluster: empty.clone(),
            field: empty,
            source: Source::File { path: path.into(), position },
        }
    }

    /// The same object, another field and its position (ignored unless the object came from a file).
    #[must_use]
    pub fn at(&self, field: impl Into<Arc<str>>, position: Option<Position>) -> Self {
        let mut origin = self.clone();
        origin.field = field.into();
        if let (Source::File { position: own, .. }, Some(position)) = (&mut origin.source, position)
        {
            *own = position;
        }
        origin
    }
}

impl fmt::Display for Origin {
    /// `Kind namespace/name field (file:line:column)`, leaving out what is absent.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (true, Source::File { path, position }) = (self.kind.is_empty(), &self.source) {
            return write!(f, "{path}:{}:{}", position.line, position.column);
        }
        write!(f, "{} ", self.kind)?;
        if !self.namespace.is_empty() {
            write!(f, "{}/", self.namespace)?;
        }
        f.write_str(&self.name)?;
        if !self.field.is_empty() {
            write!(f, " {}", self.field)?;
        }
        match &self.source {
            Source::File { path, position } => {
                write!(f, " ({path}:{}:{})", position.line, position.column)
            }
            Source::BuiltIn | Source::Cluster { .. } => Ok(()),
        }
    }
}
