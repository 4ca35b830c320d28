//! What a realm wants, and the record that says so.

use crate::{Context, Freshness, Random, RealmId, Retention, Stamp};

/// What a realm wants; the default is what one wants of which nobody has said anything.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct RealmSettings {
    /// How fresh its reads are.
    pub freshness: Freshness,
    /// Which versions it keeps.
    pub retention: Retention,
}

/// The payload of a record that says what a realm wants from now on.
///
/// Such records merge like the versions of a file: one that was written with knowledge of another supersedes it, and
/// among the others the highest rank counts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RealmChange {
    /// Names it.
    pub random: Random,
    /// The origin's time.
    pub stamp: Stamp,
    /// Who said so.
    pub operator: String,
    /// The realm.
    pub realm: RealmId,
    /// What was known of the realm then.
    pub context: Context,
    /// All that it wants, encoded: kept as it is, since a later release may say more than this one reads.
    pub settings: Vec<u8>,
}
