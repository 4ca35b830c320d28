//! A deployment's CA and what sites prove themselves with: made, signed, renewed, read; and invitations.
//!
//! The operators' command makes them by hand, the daemon at the first site for those who join. Read in this
//! order: [`names`], [`certificate`], [`authority`], [`request`], [`token`], and for where all is kept [`files`]
//! and [`deployment_key`].

pub mod authority;
pub mod certificate;
pub mod deployment_key;
mod error;
pub mod files;
pub mod names;
pub mod request;
#[cfg(test)]
mod tests;
pub mod token;

pub use authority::{Authority, DAYS_MAX, Issued};
pub use certificate::Certificate;
pub use error::PkiError;
pub use request::{Request, SiteKey};
pub use token::{InvalidToken, Token};
