//! An error with what caused it, on one line.

use std::error::Error;

/// The error and its causes, outermost first, with `: ` between them: for the operator. A cause that its error has said
/// already is not said twice.
pub fn error_chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let own = error.to_string();
        if !text.ends_with(&own) {
            text.push_str(": ");
            text.push_str(&own);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Layer(&'static str, Option<Box<Layer>>);

    impl std::fmt::Display for Layer {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Layer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|cause| cause as &(dyn Error + 'static))
        }
    }

    #[test]
    fn causes_follow_and_none_is_said_twice() {
        let root = Layer("refused", None);
        let same = Layer("refused", Some(Box::new(root)));
        let top = Layer("cannot connect", Some(Box::new(same)));
        assert_eq!(error_chain(&top), "cannot connect: refused");
        assert_eq!(error_chain(&Layer("alone", None)), "alone");
    }
}
