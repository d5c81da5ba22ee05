//! Tokens of requests. Signatures are checked by whoever has the cryptography, which is passed in.

use std::sync::Arc;

use heddle_ir::authentication::JwtRule;
use heddle_ir::request::TokenFacts;

use crate::head::Head;

/// Checks the tokens of requests as a proxy does.
pub trait Tokens {
    /// What the rules make of a request.
    fn verify(&self, rules: &[Arc<JwtRule>], head: &Head) -> TokenVerdict;
}

/// What the rules make of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TokenVerdict {
    /// Its tokens are valid, or it has none.
    Accepted {
        /// What policies and routes read; none: it has no token.
        facts: Option<TokenFacts>,
        /// What changes in the request before it goes on.
        edits: Vec<HeadEdit>,
        /// What was taken for granted, since configuration does not have it: keys at a URL.
        depends_on: Vec<String>,
    },
    /// One is not valid, or a required one is missing.
    Refused {
        /// 401 or 403.
        status: u16,
        /// In words.
        reason: String,
    },
}

/// A change of a request's head.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HeadEdit {
    /// A cookie is removed.
    RemoveCookie(Arc<str>),
    /// A header is removed.
    RemoveHeader(Arc<str>),
    /// A query parameter is removed.
    RemoveQuery(Arc<str>),
    /// A header takes the place of whatever was there.
    SetHeader(Arc<str>, String),
}

/// A verifier of a world that was given none: it says that it cannot tell.
pub(crate) struct NoVerifier;

impl Tokens for NoVerifier {
    fn verify(&self, rules: &[Arc<JwtRule>], head: &Head) -> TokenVerdict {
        let carries =
            rules.iter().flat_map(|rule| &rule.locations).any(|place| head.has_token(place));
        let depends_on = if carries {
            vec!["the token, which nothing here can verify".to_owned()]
        } else {
            Vec::new()
        };
        TokenVerdict::Accepted { facts: None, edits: Vec::new(), depends_on }
    }
}

impl Head {
    /// Changes the head as its tokens ask for.
    pub(crate) fn edit_for_token(&mut self, edit: &HeadEdit) {
        match edit {
            HeadEdit::RemoveHeader(name) => self.headers.retain(|(own, _)| **own != **name),
            HeadEdit::SetHeader(name, value) => {
                self.headers.retain(|(own, _)| **own != **name);
                self.headers.push((name.to_string(), value.clone()));
            }
            HeadEdit::RemoveQuery(name) => {
                let Some(query) = &self.query else { return };
                let is_kept = |pair: &&str| pair.split('=').next() != Some(&**name);
                let kept: Vec<&str> = query.split('&').filter(is_kept).collect();
                self.query = (!kept.is_empty()).then(|| kept.join("&"));
            }
            HeadEdit::RemoveCookie(name) => {
                for (_, value) in self.headers.iter_mut().filter(|(own, _)| own == "cookie") {
                    let is_kept = |pair: &&str| pair.trim().split('=').next() != Some(&**name);
                    *value = value.split(';').filter(is_kept).collect::<Vec<_>>().join(";");
                }
                self.headers.retain(|(own, value)| own != "cookie" || !value.trim().is_empty());
            }
        }
    }

    fn has_token(&self, place: &heddle_ir::authentication::TokenLocation) -> bool {
        use heddle_ir::authentication::TokenLocation;
        match place {
            TokenLocation::Cookie(name) => self.headers.iter().any(|(own, value)| {
                own == "cookie"
                    && value.split(';').any(|pair| pair.trim().split('=').next() == Some(&**name))
            }),
            TokenLocation::Header(name, prefix) => self
                .headers
                .iter()
                .any(|(own, value)| **own == **name && value.starts_with(&**prefix)),
            TokenLocation::Query(name) => self
                .query
                .iter()
                .flat_map(|query| query.split('&'))
                .any(|pair| pair.split('=').next() == Some(&**name)),
        }
    }
}
