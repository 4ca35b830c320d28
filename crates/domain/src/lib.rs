//! What a backup is and which version of a file is served; pure: no I/O, no clock, no randomness.
//!
//! Read in this order: [`names`] (what phones and operators name), [`dot`] (where a record is),
//! [`context`] (what a writer had seen), [`record`] (what a log holds), [`state`] (which versions
//! are heads, and which of them is served), [`chain`] (how a log is proved), [`key`] (how a subject
//! is hidden), [`clock`] and [`limits`].

pub mod chain;
pub mod clock;
pub mod context;
pub mod dot;
pub mod hash;
pub mod key;
pub mod limits;
pub mod names;
pub mod record;
pub mod state;

pub use chain::Chain;
pub use clock::{Clock, Issuer, Stamp};
pub use context::Context;
pub use dot::{Cursor, Dot, DotRef, Epoch, InvalidDot, Log, LogId, LogKind, Predecessor};
pub use hash::Sha256;
pub use key::{DeploymentKey, InvalidDeploymentKey};
pub use names::{
    Family, FileId, FileName, InvalidFileName, InvalidRealmId, InvalidSiteName, RealmId, SiteName,
    Subject,
};
pub use record::{Author, Body, Envelope, Phone, RecordKind, Version};
pub use state::{Applied, FileState, Head};
