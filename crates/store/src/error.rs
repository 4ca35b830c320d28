//! What can go wrong, by what the caller can do about it.

use bruri_domain::{Dot, FileId, SiteName};

/// Why the store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Nothing was ever stored under that name.
    #[error("nothing is known of file {0}")]
    UnknownFile(FileId),
    /// The file has no such version here.
    #[error("file {file} has no version {dot} here")]
    UnknownVersion {
        /// The file.
        file: FileId,
        /// What was asked for.
        dot: String,
    },
    /// A prefix of an epoch fits several logs.
    #[error("{dot} may be of several logs: write more digits of its epoch")]
    AmbiguousDot {
        /// What was asked for.
        dot: String,
    },
    /// The version is known, its body is not kept any more.
    #[error("the body of {0} is no longer kept")]
    BodyGone(Dot),
    /// More waits already than this site works off.
    #[error("too many requests wait for the database")]
    Busy,
    /// The database belongs to another site.
    #[error(
        "the database belongs to site {owner}, not to {asked}: set site.name = \"{owner}\", or use \
         another database"
    )]
    AnotherSite {
        /// Whose it is.
        owner: String,
        /// Who asked.
        asked: SiteName,
    },
    /// The database was filled under another deployment key.
    #[error(
        "the database was filled under another deployment key: put that key back (see \
         site.deployment_key_file), or start this site with an empty database"
    )]
    AnotherKey,
    /// More logs than one deployment has.
    #[error("more than {0} logs are known already: retire sites that are gone")]
    TooManyLogs(usize),
    /// What the database holds breaks a rule; somebody or something changed it.
    #[error("table {table}, row {row}: column {column} is damaged")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// The row's key.
        row: String,
    },
    /// The compressor had no memory.
    #[error("a body cannot be compressed")]
    Compression(#[source] std::io::Error),
    /// The migrations do not fit the database.
    #[error("the database's tables do not fit this release")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// The database did not do it: away, full, restarting.
    #[error("the database did not answer as it should")]
    Database(#[from] sqlx::Error),
    /// The transaction that held it failed; the cause is in the log and with another caller.
    #[error("the commit failed")]
    CommitFailed,
    /// The query that looked it up failed; the cause is with another caller.
    #[error("the look-up failed")]
    LookupFailed,
    /// The task that serves such requests has stopped.
    #[error("the site is stopping")]
    Stopping,
}

impl StoreError {
    /// Whether trying the whole transaction again may help: a deadlock or a serialization failure,
    /// which databases other than Postgres answer as a matter of course.
    pub(crate) fn is_transient(&self) -> bool {
        let Self::Database(sqlx::Error::Database(error)) = self else { return false };
        matches!(error.code().as_deref(), Some("40001" | "40P01"))
    }
}
