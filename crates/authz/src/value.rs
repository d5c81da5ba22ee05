//! Compiled tests on values.

use std::net::IpAddr;

use heddle_ident::Cidr;
use heddle_ir::authorization::ValueMatch;
use heddle_ir::matching::TextMatch;
use heddle_pattern::FullMatch;

use crate::template::{PathTemplate, glob_matches};

/// The kind of value that an attribute has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Address,
    IssuerAndSubject,
    Number,
    Path,
    Port,
    Text,
    /// A text compared without regard to case.
    TextIgnoringCase,
}

/// A compiled [`ValueMatch`].
#[derive(Debug)]
pub(crate) enum CompiledValue {
    Exact(Box<[u8]>),
    ExactIgnoringCase(Box<[u8]>),
    Glob(Box<[u8]>),
    IssuerAndSubject(Box<CompiledValue>, Box<CompiledValue>),
    Number(u16),
    Port(u16),
    PortRange(u16, u16),
    Prefix(Box<[u8]>),
    PrefixIgnoringCase(Box<[u8]>),
    Present,
    Range(Cidr),
    Regex(FullMatch),
    Suffix(Box<[u8]>),
    SuffixIgnoringCase(Box<[u8]>),
    Template(PathTemplate),
}

impl CompiledValue {
    /// Compiles a test on a value of this kind; the error is a sentence.
    pub(crate) fn compile(value: &ValueMatch, kind: Kind) -> Result<Self, String> {
        match (value, kind) {
            (ValueMatch::Poisoned, _) => Err("it could not be read".into()),
            (ValueMatch::Range(range), Kind::Address) => Ok(Self::Range(*range)),
            (ValueMatch::IssuerAndSubject(issuer, subject), Kind::IssuerAndSubject) => {
                let (issuer, subject) = (Self::text(issuer)?, Self::text(subject)?);
                Ok(Self::IssuerAndSubject(Box::new(issuer), Box::new(subject)))
            }
            (ValueMatch::Number(number), Kind::Number) => Ok(Self::Number(*number)),
            (ValueMatch::Port(port), Kind::Port) => Ok(Self::Port(*port)),
            (ValueMatch::PortRange(first, last), Kind::Port) if first <= last => {
                Ok(Self::PortRange(*first, *last))
            }
            (ValueMatch::PathTemplate(template), Kind::Path) => PathTemplate::parse(template)
                .map(Self::Template)
                .map_err(|problem| format!("path template {template:?}: {problem}")),
            (ValueMatch::Glob(glob), Kind::Text) => Ok(Self::Glob(glob.as_bytes().into())),
            (ValueMatch::Text(text), Kind::IssuerAndSubject | Kind::Path | Kind::Text) => {
                Self::text(text)
            }
            (ValueMatch::Text(text), Kind::TextIgnoringCase) => Self::text_ignoring_case(text),
            (value, kind) => Err(format!("{value:?} cannot be compared with a {kind:?}")),
        }
    }

    fn text(text: &TextMatch) -> Result<Self, String> {
        Ok(match text {
            TextMatch::Exact(text) => Self::Exact(text.as_bytes().into()),
            TextMatch::Prefix(text) => Self::Prefix(text.as_bytes().into()),
            TextMatch::Present => Self::Present,
            TextMatch::Regex(pattern) => {
                Self::Regex(FullMatch::compile(pattern).map_err(|error| error.to_string())?)
            }
            TextMatch::Suffix(text) => Self::Suffix(text.as_bytes().into()),
        })
    }

    fn text_ignoring_case(text: &TextMatch) -> Result<Self, String> {
        Ok(match text {
            TextMatch::Exact(text) => Self::ExactIgnoringCase(text.as_bytes().into()),
            TextMatch::Prefix(text) => Self::PrefixIgnoringCase(text.as_bytes().into()),
            TextMatch::Present => Self::Present,
            TextMatch::Regex(pattern) => Self::Regex(
                FullMatch::compile_ignoring_case(pattern).map_err(|error| error.to_string())?,
            ),
            TextMatch::Suffix(text) => Self::SuffixIgnoringCase(text.as_bytes().into()),
        })
    }

    pub(crate) fn matches_text(&self, text: &[u8]) -> bool {
        match self {
            Self::Exact(exact) => **exact == *text,
            Self::ExactIgnoringCase(exact) => exact.eq_ignore_ascii_case(text),
            Self::Glob(glob) => glob_matches(glob, text),
            Self::Prefix(prefix) => text.starts_with(prefix),
            Self::PrefixIgnoringCase(prefix) => {
                text.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix))
            }
            Self::Present => !text.is_empty(),
            Self::Regex(pattern) => pattern.matches(text),
            Self::Suffix(suffix) => text.ends_with(suffix),
            Self::SuffixIgnoringCase(suffix) => text
                .len()
                .checked_sub(suffix.len())
                .is_some_and(|start| text[start..].eq_ignore_ascii_case(suffix)),
            Self::Template(template) => {
                std::str::from_utf8(text).is_ok_and(|path| template.matches(path))
            }
            // Compiling refuses them for texts.
            Self::IssuerAndSubject(..)
            | Self::Number(_)
            | Self::Port(_)
            | Self::PortRange(..)
            | Self::Range(_) => false,
        }
    }

    pub(crate) fn matches_address(&self, address: IpAddr) -> bool {
        matches!(self, Self::Range(range) if range.contains(address))
    }

    pub(crate) fn matches_port(&self, port: u16) -> bool {
        match self {
            Self::Port(own) => *own == port,
            Self::PortRange(first, last) => (*first..=*last).contains(&port),
            _ => false,
        }
    }

    pub(crate) fn matches_issuer_and_subject(&self, issuer: &str, subject: &str) -> bool {
        match self {
            Self::IssuerAndSubject(own_issuer, own_subject) => {
                own_issuer.matches_text(issuer.as_bytes())
                    && own_subject.matches_text(subject.as_bytes())
            }
            own => own.matches_text(format!("{issuer}/{subject}").as_bytes()),
        }
    }

    pub(crate) fn matches_number(&self, number: u16) -> bool {
        matches!(self, Self::Number(own) if *own == number)
    }
}
