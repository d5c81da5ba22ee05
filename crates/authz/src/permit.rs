//! The proof that something was authorised.

/// Leave to open one connection or to forward one request.
///
/// Only this crate can make one. It is not `Clone`: what is forwarded anew is decided anew; a retry of the same request
/// uses the permit of the request.
#[derive(Debug, PartialEq, Eq)]
pub struct Permit {
    generation: u64,
}

impl Permit {
    /// Only the deciding functions of this crate call this.
    pub(crate) fn new(generation: u64) -> Self {
        Self { generation }
    }

    /// The generation of the configuration that granted it. When the configuration has moved on, whoever holds a live
    /// connection decides about it again and closes it if it is newly denied.
    pub fn generation(&self) -> u64 {
        self.generation
    }
}
