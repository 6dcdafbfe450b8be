//! Collects what is wrong with one function, so that all of it is reported at once.

use quote::ToTokens;
use syn::{Error, Result};

/// What was found so far.
#[derive(Default)]
pub(crate) struct Problems(Option<Error>);

impl Problems {
    /// Notes a problem with these tokens; the message says what to write instead.
    pub(crate) fn note(&mut self, tokens: impl ToTokens, message: impl std::fmt::Display) {
        self.add(Error::new_spanned(tokens, message));
    }

    /// Returns whether nothing was found yet.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Returns everything as one error, if there is anything.
    pub(crate) fn into_result(self) -> Result<()> {
        self.0.map_or(Ok(()), Err)
    }

    fn add(&mut self, error: Error) {
        match &mut self.0 {
            Some(first) => first.combine(error),
            none => *none = Some(error),
        }
    }
}
