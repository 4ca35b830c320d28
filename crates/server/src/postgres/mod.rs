//! The private Postgres: found, made, started, watched and stopped with `brurid`.
//!
//! It listens on a Unix socket only, is durable whatever its files say, and survives the kill of
//! either process. As root it runs as the cluster's owner, `postgres` or `nobody`.

mod cluster;
mod error;
mod install;
mod output;
mod plan;
mod process;
mod settings;
mod stale;

use std::path::Path;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{ConnectOptions as _, Connection as _, PgConnection};
use tokio::time::{Instant, sleep};

pub use error::PostgresError;
pub use install::{Install, Search};
pub use plan::{Layout, Plan};

use crate::data_dir::DataDir;
use process::Process;

/// The only user of the cluster, and its database.
const DATABASE_USER: &str = "bruri";
const DATABASE: &str = "bruri";
/// The code for a database that does not exist.
const NO_DATABASE: &str = "3D000";

/// How long a new server waits for the rest of one that was killed.
const REMAINS: Duration = Duration::from_secs(10);
/// There is no event for the end of processes that are not our children.
const REMAINS_POLL: Duration = Duration::from_millis(20);
/// What a server says that finds processes of a killed one, which notice within moments; or one that
/// a killed `brurid` had just begun to start.
const REMAINS_SAID: [&str; 2] = ["pre-existing shared memory block", "\" already exists"];

/// A running private Postgres.
///
/// Dropped without [`Postgres::stop`] it is told to stop, and not waited for.
pub struct Postgres {
    plan: Plan,
    process: Process,
    options: PgConnectOptions,
}

impl Postgres {
    /// Starts the private Postgres of this data directory, making it on first use.
    pub async fn start(data_dir: &DataDir) -> Result<Self, PostgresError> {
        let began = Instant::now();
        let plan = Plan::make(data_dir.path(), &Search::system())?;
        let password = cluster::prepare(&plan).await?;
        settings::write(&plan, has_lz4(&plan).await?)?;
        let process = start_process(&plan).await?;
        let options = options(&plan.layout, &password);
        open_database(&options, plan.exists).await?;
        tracing::info!(
            postgres.version = plan.install.version(),
            postgres.user = plan.user.name,
            start_ms = began.elapsed().as_millis(),
            "private PostgreSQL is ready"
        );
        Ok(Self { plan, process, options })
    }

    /// How to connect; holds the password, so never print it.
    pub fn options(&self) -> PgConnectOptions {
        self.options.clone()
    }

    /// The command line that opens the database for an operator.
    pub fn psql(&self) -> String {
        let layout = &self.plan.layout;
        format!(
            "PGPASSFILE={} {} -h {} -U {DATABASE_USER} {DATABASE}",
            quoted(&layout.password_file()),
            quoted(&self.plan.install.program("psql")),
            quoted(&layout.sockets()),
        )
    }

    /// The number of the server's process, while it runs.
    pub fn process_id(&self) -> Option<u32> {
        self.process.id()
    }

    /// Waits until the server has ended by itself, and tells how.
    pub async fn died(&mut self) -> String {
        self.process.ended().await
    }

    /// Stops the server within 3 s; what was acknowledged is durable in any case.
    pub async fn stop(mut self) {
        self.process.stop().await;
    }
}

/// Whether the server was built with lz4.
async fn has_lz4(plan: &Plan) -> Result<bool, PostgresError> {
    let program = plan.install.program("postgres");
    let mut ask = cluster::command(program.as_os_str(), &plan.user);
    ask.args(settings::ask_for_lz4(&plan.layout)).kill_on_drop(true);
    let doing = format!("run {} as {}", program.display(), plan.user.name);
    Ok(ask.output().await.map_err(PostgresError::doing(doing))?.status.success())
}

async fn start_process(plan: &Plan) -> Result<Process, PostgresError> {
    let began = Instant::now();
    loop {
        stale::stop(&plan.layout.data()).await?;
        let mut process = Process::spawn(plan)?;
        match process.ready().await {
            Err(PostgresError::Failed { said, .. })
                if REMAINS_SAID.iter().any(|part| said.contains(part))
                    && began.elapsed() < REMAINS =>
            {
                sleep(REMAINS_POLL).await;
            }
            other => return other.map(|()| process),
        }
    }
}

fn options(layout: &Layout, password: &str) -> PgConnectOptions {
    PgConnectOptions::new_without_pgpass()
        .socket(layout.sockets())
        .port(5432)
        .username(DATABASE_USER)
        .password(password)
        .database(DATABASE)
        .ssl_mode(PgSslMode::Disable)
        .application_name("brurid")
}

/// Connects once, which proves that the server answers; makes the database where it is missing, as
/// it is in a new cluster, or where a kill came between the two.
async fn open_database(options: &PgConnectOptions, exists: bool) -> Result<(), sqlx::Error> {
    let opened = if exists { options.connect().await } else { create_database(options).await };
    let connection = match opened {
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(NO_DATABASE) => {
            create_database(options).await?
        }
        other => other?,
    };
    PgConnection::close(connection).await
}

async fn create_database(options: &PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
    let mut connection = options.clone().database("postgres").connect().await?;
    sqlx::raw_sql("create database bruri").execute(&mut connection).await?;
    Ok(connection)
}

/// A path as a shell reads it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+".contains(&byte);
    if text.bytes().all(is_plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_quoted_only_where_a_shell_needs_it() {
        assert_eq!(quoted(Path::new("/var/lib/brurid")), "/var/lib/brurid");
        assert_eq!(quoted(Path::new("/a b/c'd")), r"'/a b/c'\''d'");
    }
}
