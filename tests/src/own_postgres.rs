//! A Postgres of the operator's, in front of which several `brurid` stand.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use nix::sys::signal::Signal;
use nix::unistd::{User, geteuid};
use tokio::process::{Child, Command};

use crate::process::{gone_within, kill_family, signal};
use crate::{database::Database, eventually};

const INSTALLED: &str = "/usr/lib/postgresql";
const READY: Duration = Duration::from_mins(1);
const STOP: Duration = Duration::from_secs(10);

/// A running Postgres with an empty database; ended when dropped.
#[derive(Debug)]
pub struct OwnPostgres {
    folder: PathBuf,
    server: Child,
}

impl OwnPostgres {
    /// Makes one in a folder that its user can reach, and starts it.
    pub async fn start(parent: &Path) -> anyhow::Result<Self> {
        let folder = parent.join("own-postgres");
        fs::create_dir(&folder).context("make a folder for Postgres")?;
        let owner = owner()?;
        if let Some(owner) = &owner {
            chown(&folder, Some(owner.uid.as_raw()), Some(owner.gid.as_raw()))
                .context("give a folder away")?;
        }
        let cluster = folder.join("cluster");
        let mut initdb = run_as(owner.as_ref(), "initdb")?;
        initdb.arg("--pgdata").arg(&cluster).args(["--username=bruri", "--auth=trust"]);
        initdb.args(["--encoding=UTF8", "--no-locale", "--no-sync"]);
        crate::programs::output(&mut initdb).await?;
        let log = fs::File::create(folder.join("log")).context("make a log for Postgres")?;
        let mut postgres = run_as(owner.as_ref(), "postgres")?;
        postgres.arg("-D").arg(&cluster).arg("-k").arg(&folder).args(["-c", "listen_addresses="]);
        let server = postgres.stderr(log).stdout(Stdio::null()).spawn().context("run postgres")?;
        let own = Self { folder, server };
        eventually(READY, "Postgres answers", async || Database::at(&own.url("postgres")).await)
            .await?;
        let made = Database::at(&own.url("postgres")).await?.execute("create database bruri").await;
        made.map(|_| own)
    }

    /// How a `brurid` reaches its database there.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://bruri@localhost/{database}?host={}", self.folder.display())
    }
}

impl Drop for OwnPostgres {
    fn drop(&mut self) {
        let Some(id) = self.server.id().and_then(|id| i32::try_from(id).ok()) else { return };
        // It may have ended by itself.
        let _ = signal(id, Signal::SIGQUIT);
        if !gone_within(STOP, id) {
            let _ = kill_family(id);
        }
    }
}

/// Postgres refuses to run as root.
fn owner() -> anyhow::Result<Option<User>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    let user = User::from_name("postgres").context("look up the user postgres")?;
    user.context("there is no user postgres").map(Some)
}

fn run_as(user: Option<&User>, program: &str) -> anyhow::Result<Command> {
    let entries = fs::read_dir(INSTALLED).context("find Postgres")?;
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path().join("bin").join(program)))
        .filter(|path| path.is_file())
        .collect();
    found.sort();
    ensure!(!found.is_empty(), "there is no {program} below {INSTALLED}: run tests/setup.sh");
    let mut command = Command::new(found.pop().context("no program")?);
    command.current_dir("/").stdin(Stdio::null());
    if let Some(user) = user {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    Ok(command)
}
