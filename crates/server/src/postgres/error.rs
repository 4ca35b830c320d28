//! Why a private Postgres does not run, each with what to do about it.

use std::io;
use std::path::PathBuf;

/// Why a private Postgres does not run.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// No server programs of a major version that serves.
    #[error(
        "no PostgreSQL server of version {oldest} or later is installed (looked in {looked_in}); \
         install one, e.g. `apt-get install postgresql`, or set database.url"
    )]
    NoneInstalled {
        /// The oldest major version that serves.
        oldest: u32,
        /// Where programs were looked for.
        looked_in: String,
    },
    /// The cluster was made by a major version that is not installed.
    #[error(
        "the database in {} was made by PostgreSQL {cluster}, but installed is {installed}; \
         either install that version again, e.g. `apt-get install postgresql-{cluster}`, or convert \
         the database with pg_upgrade, or dump it with version {cluster} and restore it",
        .directory.display()
    )]
    OtherMajor {
        /// The cluster.
        directory: PathBuf,
        /// The major version that made it.
        cluster: u32,
        /// The major versions that are installed, for people.
        installed: String,
    },
    /// The cluster does not say which version made it.
    #[error(
        "{} does not name a PostgreSQL version, so its directory is no usable database; \
         restore it from a backup, or move the directory away to begin anew",
        .file.display()
    )]
    NoVersion {
        /// The file that should say it.
        file: PathBuf,
    },
    /// Root may not run Postgres, and there is nobody else.
    #[error(
        "PostgreSQL refuses to run as root, and /etc/passwd has neither `postgres` nor `nobody`; \
         add one of them, or run brurid as another user"
    )]
    NoUser,
    /// A directory on the way to the cluster is closed to the user that runs Postgres.
    #[error(
        "user {user}, as whom PostgreSQL runs, cannot enter {}; set site.data_dir to another place, \
         or open that directory, e.g. `chmod o+x {}`",
        .directory.display(), .directory.display()
    )]
    Closed {
        /// The user that runs Postgres.
        user: String,
        /// The closed directory.
        directory: PathBuf,
    },
    /// The cluster belongs to another user.
    #[error(
        "the database in {} belongs to user {owner}, but brurid runs as {user}; \
         run brurid as {owner} or root, or `chown -R {user}` the data directory",
        .directory.display()
    )]
    WrongOwner {
        /// The cluster.
        directory: PathBuf,
        /// Who owns it.
        owner: String,
        /// Who wants it.
        user: String,
    },
    /// The kernel takes no such long path for a Unix socket.
    #[error(
        "the path of PostgreSQL's socket, {}, has {bytes} bytes, {max} are possible; \
         set site.data_dir to a shorter path",
        .path.display()
    )]
    SocketPathTooLong {
        /// The socket.
        path: PathBuf,
        /// Its length.
        bytes: usize,
        /// The most that the kernel takes.
        max: usize,
    },
    /// The cluster is there, its password is not.
    #[error(
        "the database's password is missing from {}; restore that file from a backup of the data \
         directory",
        .file.display()
    )]
    NoPassword {
        /// Where it should be.
        file: PathBuf,
    },
    /// A Postgres that a killed brurid left does not stop.
    #[error(
        "process {pid}, the PostgreSQL of a brurid that was killed, does not stop; end it by hand"
    )]
    StaleStays {
        /// The process.
        pid: i32,
    },
    /// A program of Postgres failed.
    #[error("{program} failed: {said}")]
    Failed {
        /// Which.
        program: &'static str,
        /// What it said last.
        said: String,
    },
    /// The server runs but does not become ready.
    #[error("PostgreSQL did not become ready within {seconds} s: {said}")]
    NotReady {
        /// How long was waited.
        seconds: u64,
        /// What it said last.
        said: String,
    },
    /// The server is ready but refuses us.
    #[error("failed to open the private database")]
    Database(#[from] sqlx::Error),
    /// The kernel refused.
    #[error("failed to {doing}")]
    Io {
        /// What was tried.
        doing: String,
        /// What the kernel said.
        source: io::Error,
    },
}

impl PostgresError {
    /// Names what was tried when the kernel refused, for `map_err`.
    pub(super) fn doing(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }
}
