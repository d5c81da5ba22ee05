//! What a finding is called. A code is stable: users filter by it, search for it, and read its page.

use std::fmt;

/// A kind of finding, with the page that explains it. Made by [`codes!`](crate::codes) only.
#[derive(PartialEq, Eq, Hash, Debug)]
pub struct Code {
    /// The stable name, `HED` and four digits.
    pub id: &'static str,
    /// What is wrong, in a few words.
    pub title: &'static str,
    /// A paragraph: what it means, what heddle does then, what to do about it.
    pub text: &'static str,
    /// What other projects' analysers call the same finding (`IST0101`, `KIA0601`); often empty.
    pub upstream: &'static [&'static str],
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id)
    }
}

/// Declares the codes of an area: a constant each, and `ALL`, the table that pages and `explain` are printed from.
///
/// ```
/// heddle_diag::codes! {
///     NO_TABS = "HED0003", "tab in the indentation", [],
///         "YAML allows only spaces there.";
/// }
/// assert_eq!(ALL[0].id, NO_TABS.id);
/// ```
#[macro_export]
macro_rules! codes {
    ($($name:ident = $id:literal, $title:literal, [$($upstream:literal),*], $text:literal;)+) => {
        $(
            #[doc = concat!($id, ": ", $title, ". ", $text)]
            pub const $name: &$crate::Code = &$crate::Code {
                id: $id, title: $title, text: $text, upstream: &[$($upstream),*],
            };
        )+
        /// Every code of this area, in the order of their pages.
        pub const ALL: &[&$crate::Code] = &[$($name),+];
    };
}
