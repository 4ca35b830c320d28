//! What is wrong with a file, a certificate or a token, in words for whoever can mend it.

use std::{error::Error, fmt::Display};

/// Why something cannot be done; never quotes a key or a secret.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct PkiError {
    text: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// What this crate's functions return.
pub(crate) type Outcome<T> = Result<T, PkiError>;

impl PkiError {
    pub(crate) fn new(text: impl Display) -> Self {
        Self { text: text.to_string(), source: None }
    }
}

/// Says what was being done when something failed or was missing.
pub(crate) trait Context<T> {
    fn context(self, text: impl Display) -> Outcome<T>;

    fn with_context<D: Display>(self, text: impl FnOnce() -> D) -> Outcome<T>;
}

impl<T, E: Error + Send + Sync + 'static> Context<T> for Result<T, E> {
    fn context(self, text: impl Display) -> Outcome<T> {
        self.with_context(|| text)
    }

    fn with_context<D: Display>(self, text: impl FnOnce() -> D) -> Outcome<T> {
        let said = |source: E| PkiError { text: text().to_string(), source: Some(source.into()) };
        self.map_err(said)
    }
}

impl<T> Context<T> for Option<T> {
    fn context(self, text: impl Display) -> Outcome<T> {
        self.ok_or_else(|| PkiError::new(text))
    }

    fn with_context<D: Display>(self, text: impl FnOnce() -> D) -> Outcome<T> {
        self.ok_or_else(|| PkiError::new(text()))
    }
}

/// Fails with a text unless something holds.
pub(crate) fn ensure<D: Display>(holds: bool, text: impl FnOnce() -> D) -> Outcome<()> {
    if holds { Ok(()) } else { Err(PkiError::new(text())) }
}
