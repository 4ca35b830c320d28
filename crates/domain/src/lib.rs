//! What a backup is and which version of a file is served; pure: no I/O, no clock, no randomness.
//!
//! Read in this order: [`names`] (what phones and operators name), [`dot`] (where a record is),
//! [`context`] (what a writer had seen), [`record`] (what a log holds), [`state`] (which versions
//! are heads, and which of them is served), [`remembered`] (what phones had seen), [`decide`] (what a
//! backup comes to), [`conflict`] (versions written without knowledge of each other), [`chain`] (how a
//! log is proved), [`key`] (how a subject is hidden), [`epoch`] (when a log ends and the next begins),
//! [`fork`] (when it branched), [`fresh`] (what a read must know), [`erasure`] (what is gone for good),
//! [`realm`] (what a realm wants), [`retention`] (which bodies may go), [`digest`] (whether two sites are
//! equal), [`clock`] and [`limits`].

pub mod chain;
pub mod clock;
pub mod conflict;
pub mod context;
pub mod decide;
pub mod digest;
pub mod dot;
pub mod epoch;
pub mod erasure;
pub mod fork;
pub mod fresh;
pub mod hash;
pub mod key;
pub mod limits;
pub mod member;
pub mod mutant;
pub mod names;
pub mod realm;
pub mod record;
pub mod release;
pub mod remembered;
pub mod retention;
pub mod snapshot;
pub mod state;

pub use chain::Chain;
pub use clock::{Clock, Issuer, Stamp};
pub use conflict::ConflictChange;
pub use context::Context;
pub use decide::{Decision, Writer};
pub use digest::Digest;
pub use dot::{Cursor, Dot, DotRef, Epoch, InvalidDot, Log, LogId, LogKind, Predecessor};
pub use epoch::{Ending, Held, Identity, Witness};
pub use erasure::{Control, Erased, Erasure, Lift, Random, Receipt};
pub use fresh::{Freshness, InvalidFreshness};
pub use hash::Sha256;
pub use key::{DeploymentKey, InvalidDeploymentKey};
pub use member::{Member, MemberState, Membership, NotAdmitted};
pub use names::{
    Family, FileId, FileName, InvalidFileName, InvalidRealmId, InvalidSiteName, InvalidSubject,
    RealmId, SiteName, Subject,
};
pub use realm::{RealmChange, RealmSettings};
pub use record::{Author, Body, Envelope, Phone, RecordKind, Version};
pub use release::{Release, Releases};
pub use remembered::{PhoneKey, Remembered};
pub use retention::{Fate, HeldBy, InvalidRetention, Retention, Span};
pub use state::{Applied, FileState, Head};
