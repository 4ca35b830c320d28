//! A Postgres of the operator's, in front of which several `brurid` stand, with a standby where wanted.

use std::fs::{self, OpenOptions};
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

/// A standby that is stopped.
#[derive(Debug)]
pub struct Standby {
    cluster: PathBuf,
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
        let server = serve(&folder, &cluster, &folder, &[])?;
        let own = Self { folder, server };
        eventually(READY, "Postgres answers", async || Database::at(&own.url("postgres")).await)
            .await?;
        let made = Database::at(&own.url("postgres")).await?.execute("create database bruri").await;
        made.map(|_| own)
    }

    /// Makes an asynchronous standby, which streams until it is level, and stops it: from then on it lags.
    pub async fn lagging_standby(&self) -> anyhow::Result<Standby> {
        let owner = owner()?;
        let cluster = self.folder.join("standby");
        let mut copy = run_as(owner.as_ref(), "pg_basebackup")?;
        copy.arg("-h").arg(&self.folder).args(["-U", "bruri", "--write-recovery-conf", "-D"]);
        copy.arg(&cluster).args(["--checkpoint=fast", "--no-sync"]);
        crate::programs::output(&mut copy).await?;
        let sockets = self.folder.join("standby-sockets");
        fs::create_dir(&sockets).context("make a folder for sockets")?;
        if let Some(owner) = &owner {
            chown(&sockets, Some(owner.uid.as_raw()), Some(owner.gid.as_raw()))
                .context("give a folder away")?;
        }
        let server = serve(&self.folder, &cluster, &sockets, &[])?;
        let primary = Database::at(&self.url("postgres")).await?;
        eventually(READY, "the standby is level", async || {
            let level = "select 1 from pg_stat_replication where state = 'streaming'
                            and replay_lsn = pg_current_wal_lsn()";
            ensure!(primary.execute(level).await? == 1, "it lags");
            Ok(())
        })
        .await?;
        end(&server);
        Ok(Standby { cluster })
    }

    /// Kills this one with no warning, and promotes the standby in its place.
    pub async fn fail_over(&mut self, standby: Standby) -> anyhow::Result<()> {
        let id = self.server.id().and_then(|id| i32::try_from(id).ok());
        kill_family(id.context("it does not run")?)?;
        self.server.wait().await.context("wait for Postgres")?;
        let nobody = ["-c", "primary_conninfo="];
        self.server = serve(&self.folder, &standby.cluster, &self.folder, &nobody)?;
        eventually(READY, "the standby is promoted", async || {
            let standby = Database::at(&self.url("postgres")).await?;
            standby.execute("select pg_promote()").await.map(|_| ())
        })
        .await
    }

    /// How a `brurid` reaches its database there.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://bruri@localhost/{database}?host={}", self.folder.display())
    }
}

impl Drop for OwnPostgres {
    fn drop(&mut self) {
        end(&self.server);
    }
}

fn serve(folder: &Path, cluster: &Path, sockets: &Path, more: &[&str]) -> anyhow::Result<Child> {
    let mut log = OpenOptions::new();
    let log = log.create(true).append(true).open(folder.join("log"));
    let mut postgres = run_as(owner()?.as_ref(), "postgres")?;
    postgres.arg("-D").arg(cluster).arg("-k").arg(sockets).args(["-c", "listen_addresses="]);
    postgres.args(more).stderr(log.context("open a log for Postgres")?).stdout(Stdio::null());
    postgres.spawn().context("run postgres")
}

fn end(server: &Child) {
    let Some(id) = server.id().and_then(|id| i32::try_from(id).ok()) else { return };
    // It may have ended by itself.
    let _ = signal(id, Signal::SIGQUIT);
    if !gone_within(STOP, id) {
        let _ = kill_family(id);
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
