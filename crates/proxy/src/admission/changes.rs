//! What tokens and external authorisers change in a request and in its response.

use std::borrow::Cow;

use heddle_ir::request::{RequestHead, TokenFacts};
use heddle_tls::jwt::{TokenEdit, without_cookie, without_query};
use heddle_wire::http1::HeaderEdit;

/// One change of a header; names are lower case.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Change {
    /// A value is put behind those that are there.
    Add(String, Vec<u8>),
    /// All values go.
    Remove(String),
    /// A value takes the place of those that are there.
    Set(String, Vec<u8>),
}

impl Change {
    pub(crate) fn edit(&self) -> HeaderEdit<'_> {
        match self {
            Self::Add(name, value) => HeaderEdit::Add(name, value),
            Self::Remove(name) => HeaderEdit::Remove(name),
            Self::Set(name, value) => HeaderEdit::Set(name, value),
        }
    }

    /// The change that an edit is.
    pub(super) fn of(edit: &HeaderEdit<'_>) -> Self {
        match *edit {
            HeaderEdit::Add(name, value) => Self::Add(name.to_owned(), value.to_vec()),
            HeaderEdit::Remove(name) => Self::Remove(name.to_owned()),
            HeaderEdit::Set(name, value) => Self::Set(name.to_owned(), value.to_vec()),
        }
    }

    /// The same on headers that are held as a list.
    pub(super) fn apply(&self, headers: &mut Vec<(String, Vec<u8>)>) {
        if let Self::Remove(name) | Self::Set(name, _) = self {
            headers.retain(|(own, _)| own != name);
        }
        if let Self::Add(name, value) | Self::Set(name, value) = self {
            headers.push((name.clone(), value.clone()));
        }
    }
}

/// All changes, in order, and who is known to ask.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Changes {
    /// Of the request's headers.
    pub(crate) request: Vec<Change>,
    /// Of the response's headers.
    pub(crate) response: Vec<Change>,
    /// The query as it goes on; none: as it came; empty: without.
    pub(crate) query: Option<String>,
    /// What its token says; none: it has none.
    pub(crate) token: Option<TokenFacts>,
}

impl Changes {
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Adds those of somebody who saw the request with these.
    pub(super) fn add(&mut self, others: Self) {
        self.request.extend(others.request);
        self.response.extend(others.response);
        if others.query.is_some() {
            self.query = others.query;
        }
    }

    /// Adds what becomes of a request for the sake of its tokens.
    pub(super) fn of_tokens(&mut self, edits: &[TokenEdit], head: &impl RequestHead) {
        for edit in edits {
            match edit {
                TokenEdit::RemoveHeader(name) => {
                    self.request.push(Change::Remove(name.to_string()));
                }
                TokenEdit::SetHeader(name, value) => {
                    self.request.push(Change::Set(name.to_string(), value.clone().into_bytes()));
                }
                TokenEdit::RemoveCookie(name) => {
                    let view = View { head, changes: self };
                    let Some(cookies) = view.header("cookie").map(Cow::into_owned) else {
                        continue;
                    };
                    let cookie = "cookie".to_owned();
                    self.request.push(match without_cookie(&cookies, name) {
                        Some(rest) => Change::Set(cookie, rest),
                        None => Change::Remove(cookie),
                    });
                }
                TokenEdit::RemoveQuery(name) => {
                    let query = self.query.as_deref().or(head.query());
                    let Some(query) = query else { continue };
                    self.query = Some(without_query(query, name).unwrap_or_default());
                }
            }
        }
    }
}

/// A request as those see it who come after the changes.
pub(crate) struct View<'a, H> {
    pub(crate) head: &'a H,
    pub(crate) changes: &'a Changes,
}

impl<H: RequestHead> RequestHead for View<'_, H> {
    fn method(&self) -> &str {
        self.head.method()
    }

    fn path(&self) -> &str {
        self.head.path()
    }

    fn query(&self) -> Option<&str> {
        match &self.changes.query {
            Some(query) => Some(query.as_str()).filter(|query| !query.is_empty()),
            None => self.head.query(),
        }
    }

    fn authority(&self) -> &str {
        self.head.authority()
    }

    fn scheme(&self) -> &str {
        self.head.scheme()
    }

    fn header(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        let mut value = self.head.header(name);
        for change in &self.changes.request {
            match change {
                Change::Remove(own) if own == name => value = None,
                Change::Set(own, new) if own == name => value = Some(Cow::Borrowed(new)),
                Change::Add(own, new) if own == name => {
                    value = Some(match value {
                        Some(old) => Cow::Owned([&*old, new].join(&b","[..])),
                        None => Cow::Borrowed(new),
                    });
                }
                Change::Add(..) | Change::Remove(_) | Change::Set(..) => {}
            }
        }
        value
    }

    fn token(&self) -> Option<&TokenFacts> {
        self.changes.token.as_ref()
    }

    fn route(&self) -> Option<&str> {
        self.head.route()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Head;

    impl RequestHead for Head {
        fn method(&self) -> &'static str {
            "GET"
        }
        fn path(&self) -> &'static str {
            "/"
        }
        fn query(&self) -> Option<&str> {
            Some("a=1&token=x&token=y")
        }
        fn authority(&self) -> &'static str {
            "host"
        }
        fn scheme(&self) -> &'static str {
            "http"
        }
        fn header(&self, name: &str) -> Option<Cow<'_, [u8]>> {
            match name {
                "cookie" => Some(Cow::Borrowed(b"a=1; token=x")),
                "x" => Some(Cow::Borrowed(b"sent")),
                _ => None,
            }
        }
    }

    #[test]
    fn whoever_comes_later_sees_what_was_changed_before() {
        let mut changes = Changes::default();
        let edits = [
            TokenEdit::RemoveHeader("x".into()),
            TokenEdit::RemoveCookie("token".into()),
            TokenEdit::RemoveQuery("token".into()),
            TokenEdit::SetHeader("y".into(), "proven".to_owned()),
        ];
        changes.of_tokens(&edits, &Head);
        changes.add(Changes {
            request: vec![Change::Add("y".to_owned(), b"more".to_vec())],
            ..Changes::default()
        });
        let view = View { head: &Head, changes: &changes };
        assert_eq!(view.query(), Some("a=1"));
        assert_eq!(view.header("x"), None);
        assert_eq!(view.header("cookie").as_deref(), Some(&b"a=1"[..]));
        assert_eq!(view.header("y").as_deref(), Some(&b"proven,more"[..]));
        changes.of_tokens(
            &[TokenEdit::RemoveCookie("a".into()), TokenEdit::RemoveQuery("a".into())],
            &Head,
        );
        let view = View { head: &Head, changes: &changes };
        assert_eq!((view.query(), view.header("cookie")), (None, None));
        let mut headers = vec![("x".to_owned(), b"1".to_vec()), ("z".to_owned(), b"2".to_vec())];
        changes.request.iter().for_each(|change| change.apply(&mut headers));
        let names: Vec<&str> = headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["z", "y", "y"]);
    }
}
