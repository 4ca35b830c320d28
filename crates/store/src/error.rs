//! What can go wrong, by what the caller can do about it.

use bruri_domain::{
    Dot, FileId, LogId, SiteName,
    limits::{BARS_MAX, FORK_RECORDS_MAX, INVITES_MAX, MEMBERS_MAX},
};

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
    /// The file has no such conflict, or never had one.
    #[error("nothing is known of such a conflict of file {0}")]
    UnknownConflict(FileId),
    /// The file has no heads with different bodies.
    #[error("file {0} is in no conflict")]
    NoConflict(FileId),
    /// The version is no head of the file.
    #[error("{dot} is no head of file {file}: look again which versions are in conflict")]
    NoHead {
        /// The file.
        file: FileId,
        /// What was asked for.
        dot: String,
    },
    /// The version is known, its body is not kept any more.
    #[error("the body of {0} is no longer kept")]
    BodyGone(Dot),
    /// A head's body is not here; what is here must not be served for it.
    #[error("the body of {0} is not here yet: it is asked for at other sites")]
    BodyAbsent(Dot),
    /// The subject was erased, and nobody has lifted that.
    #[error(
        "what was kept under that name was erased, and it is barred until an operator lifts it"
    )]
    Barred,
    /// There is nothing to lift.
    #[error("it is not barred: no erasure of it is known here that was not lifted")]
    NotBarred,
    /// An erasure came between two statements; tried again, this does not come up to callers.
    #[error("it was erased meanwhile")]
    ErasedMeanwhile,
    /// A subject was erased over and over and never lifted.
    #[error("{BARS_MAX} erasures of it are not lifted: lift them before another one")]
    TooManyErasures,
    /// More sites than one deployment has.
    #[error("the membership names {MEMBERS_MAX} sites already")]
    TooManyMembers,
    /// More invitations than anybody carries about.
    #[error("{INVITES_MAX} invitations are open already: wait until some have expired")]
    TooManyInvites,
    /// A record that a site of the deployment would have to keep unread.
    #[error("site {0} runs a release that cannot read this: upgrade it first, or retire it")]
    NotReadByAll(SiteName),
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
    /// A branch of a log is to be set back that was never set back before, and is too long.
    #[error(
        "{log}: a branch of {records} records forked from what peers hold; more than {FORK_RECORDS_MAX} \
         are not moved by themselves: ask for help, nothing is lost meanwhile"
    )]
    BranchTooLong {
        /// The log.
        log: LogId,
        /// How long the branch is.
        records: u64,
    },
    /// A log is not, or no longer, as it is to be set back.
    #[error("{0} cannot be set back to that place")]
    NotThere(LogId),
    /// This site took a snapshot, and the history there is not filled in yet.
    #[error("the history of {0} is not here yet at that place")]
    BelowFloor(LogId),
    /// The same of some log: what needs all history waits.
    #[error("the history of files is not all here yet")]
    HistoryIncomplete,
    /// This site copies the states of files from a peer and has not all of them.
    #[error("the states of files are not all here yet")]
    StatesIncomplete,
    /// Another process of this site has gone on with the snapshot.
    #[error("the snapshot was moved on by somebody else")]
    SnapshotMoved,
    /// A log forked, and the peer that copied states had not heard which branch stays: they may know of the other one.
    #[error("the peer has not heard yet which branch of {0} stays")]
    PartingUnheard(LogId),
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
    /// Somebody has seen a number of this site's log that would be given next: the database lost the end of the log.
    #[error("number {0} of this site's log was given before")]
    NumberSeen(u64),
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
    /// which databases other than Postgres answer as a matter of course; or a body that was here when it was
    /// to be written, and that retention deleted before its record was.
    pub(crate) fn is_transient(&self) -> bool {
        let Self::Database(sqlx::Error::Database(error)) = self else {
            return matches!(self, Self::ErasedMeanwhile);
        };
        matches!(error.code().as_deref(), Some("40001" | "40P01"))
            || error.constraint() == Some("record_body")
    }

    /// Whether what is stored is damaged or lacking, as opposed to a database that does not answer.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Corrupt { .. } | Self::BodyAbsent(_))
    }

    /// Whether the connection was lost, or led to a database that is starting, stopping or takes no
    /// writes: the next one may lead to another database.
    pub(crate) fn is_of_connection(&self) -> bool {
        match self {
            Self::Database(sqlx::Error::Database(error)) => {
                let code = error.code().unwrap_or_default();
                CONNECTION_CODES.iter().any(|class| code.starts_with(class))
            }
            Self::Database(
                sqlx::Error::Io(_)
                | sqlx::Error::Tls(_)
                | sqlx::Error::Protocol(_)
                | sqlx::Error::PoolTimedOut
                | sqlx::Error::WorkerCrashed,
            ) => true,
            _ => false,
        }
    }
}

/// Connection exceptions, an operator's intervention, and a transaction that must not write: a standby.
const CONNECTION_CODES: [&str; 3] = ["08", "57P", "25006"];
