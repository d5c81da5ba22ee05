//! Rewriting of paths.

use std::sync::Arc;

use heddle_ir::http_route::PathRewrite;
use heddle_pattern::{PatternError, Substitution};

use crate::matching::CompiledPath;

/// A compiled [`PathRewrite`].
#[derive(Debug)]
pub(crate) enum CompiledRewrite {
    Full(Arc<str>),
    /// What the match's prefix took becomes this.
    Prefix(Arc<str>),
    /// As `Prefix`, by path element; without trailing slash.
    ElementPrefix(Arc<str>),
    Regex(Substitution),
}

impl CompiledRewrite {
    pub(crate) fn compile(rewrite: &PathRewrite) -> Result<Self, PatternError> {
        Ok(match rewrite {
            PathRewrite::Full(path) => Self::Full(path.clone()),
            PathRewrite::Prefix(path) => Self::Prefix(path.clone()),
            PathRewrite::ElementPrefix(path) => {
                Self::ElementPrefix(path.trim_end_matches('/').into())
            }
            PathRewrite::Regex { pattern, substitution } => {
                Self::Regex(Substitution::compile(pattern, substitution)?)
            }
        })
    }

    /// Appends the new path for `path` to `out`; `matched` is what the match said about the path. The query is the
    /// caller's to keep.
    pub(crate) fn write(&self, path: &str, matched: Option<&CompiledPath>, out: &mut String) {
        match self {
            Self::Full(new) => out.push_str(new),
            Self::Prefix(new) => {
                // Istio's match without path is Envoy's prefix `/`.
                let rest = match matched {
                    Some(matched) => matched.rest(path),
                    None => path.strip_prefix('/'),
                };
                out.push_str(new);
                out.push_str(rest.unwrap_or_default());
            }
            Self::ElementPrefix(new) => {
                // Gateway API's default match is the prefix `/`, so that without a match all of the path is the rest.
                let rest = match matched {
                    Some(matched) => matched.rest(path).unwrap_or_default(),
                    None => path,
                };
                out.push_str(new);
                if !rest.is_empty() && !rest.starts_with('/') {
                    out.push('/');
                }
                out.push_str(rest);
                if new.is_empty() && rest.is_empty() {
                    out.push('/');
                }
            }
            Self::Regex(substitution) => substitution.write(path, out),
        }
    }

    /// Whether the new path brings a query of its own, which then replaces the request's in a redirection.
    pub(crate) fn has_query(&self) -> bool {
        match self {
            Self::Full(path) => path.contains('?'),
            Self::Prefix(_) | Self::ElementPrefix(_) | Self::Regex(_) => false,
        }
    }
}
