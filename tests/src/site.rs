//! A site: a `brurid` as an operator runs it, with what it keeps and what it said.

mod settings;

use std::fs::{self, File, OpenOptions};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use nix::sys::signal::Signal;
use tokio::process::{Child, Command};
use tokio::time::timeout;

pub use settings::Settings;

use crate::database::Database;
use crate::http::{Connection, request};
use crate::ops::Ops;
use crate::process::{gone_within, kill_family, lives, signal};
use crate::{eventually, programs};

/// A start makes a database or replays one, beside everything else that the machine does.
const READY: Duration = Duration::from_mins(2);
/// How long a stop may take.
pub const STOP: Duration = Duration::from_secs(10);
/// How long a log line is waited for.
const SAYS: Duration = Duration::from_secs(30);
/// What comes before the command that opens the database.
const DATABASE_LINE: &str = "to look into the database: ";
/// Lines of the log that are shown where a test fails.
const LOG_LINES_SHOWN: usize = 60;

/// A site. Dropped, it is killed with its Postgres; where the test failed its log is shown.
#[derive(Debug)]
pub struct Site {
    settings: Settings,
    folder: PathBuf,
    child: Option<Child>,
    /// Where the log of the present process begins.
    log_begin: u64,
}

impl Site {
    /// Makes the folder of a site that does not run yet.
    pub fn make(parent: &Path, settings: Settings) -> anyhow::Result<Self> {
        let folder = parent.join(&settings.name);
        // Whoever runs Postgres must pass through.
        fs::DirBuilder::new().mode(0o755).create(&folder).context("make the site's folder")?;
        Ok(Self { settings, folder, child: None, log_begin: 0 })
    }

    /// Starts it and waits until it is ready.
    pub async fn start(&mut self) -> anyhow::Result<()> {
        self.spawn()?;
        self.ready().await
    }

    /// Starts its Postgres alone and waits until it can be used.
    pub async fn start_postgres(&mut self) -> anyhow::Result<()> {
        self.spawn_as("postgres")?;
        self.says("PostgreSQL runs alone").await.map(|_| ())
    }

    /// Starts it and does not wait.
    pub fn spawn(&mut self) -> anyhow::Result<()> {
        self.spawn_as("serve")
    }

    fn spawn_as(&mut self, subcommand: &str) -> anyhow::Result<()> {
        ensure!(self.child.is_none(), "{} runs already", self.name());
        let log = self.open_log().context("open the log of a site")?;
        self.log_begin = log.metadata().context("read the size of a log")?.len();
        let mut command = self.command(subcommand)?;
        command.stdout(log.try_clone().context("share a log")?).stderr(log);
        self.child = Some(command.spawn().context("run brurid")?);
        Ok(())
    }

    /// Waits until it says that it is ready; fails at once where it ends instead.
    pub async fn ready(&mut self) -> anyhow::Result<()> {
        let metrics = self.settings.address.metrics();
        let what = format!("{} is ready", self.settings.name);
        let is_ready = eventually(READY, &what, || is_ready(metrics));
        let child = self.child.as_mut().context("the site was not started")?;
        tokio::select! {
            is_ready = is_ready => is_ready,
            status = child.wait() => {
                bail!("{} ended with {}:\n{}", self.name(), status.context("wait")?, self.said())
            }
        }
    }

    /// Runs `brurid check` with its configuration; returns whether all is well, and what it says.
    pub async fn check(&self) -> anyhow::Result<(bool, String)> {
        let output = self.command("check")?.output().await.context("run brurid check")?;
        Ok((output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned()))
    }

    /// Joins a deployment with a token; returns what it says, or fails with what it complains of.
    pub async fn join(&self, token: &str) -> anyhow::Result<String> {
        let file = self.folder.join("token");
        fs::write(&file, token).context("write a token")?;
        let mut command = self.command("join")?;
        programs::output(command.arg("--token-file").arg(&file)).await
    }

    /// Where a site that joined has its certificates, and the first one its CA.
    pub fn pki(&self) -> PathBuf {
        self.data_dir().join("pki")
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// What it is told; changes are read at the next start, or at a hang-up.
    pub fn settings_mut(&mut self) -> &mut Settings {
        &mut self.settings
    }

    /// Where phones go.
    pub fn phones(&self) -> SocketAddr {
        self.settings.address.phones()
    }

    /// Where other sites go.
    pub fn peers(&self) -> SocketAddr {
        self.settings.address.peers()
    }

    /// Kills it with no warning; its Postgres goes on.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::SIGKILL)?;
        self.ended(STOP).await.map(|_| ())
    }

    /// Kills its Postgres, every process of it at once.
    pub fn kill_postgres(&self) -> anyhow::Result<()> {
        kill_family(self.postmaster().context("find its Postgres")?)
    }

    /// Stops it in order; it must end with 0.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::SIGTERM)?;
        let status = self.ended(STOP).await?;
        ensure!(status.success(), "{} stopped with {status}:\n{}", self.name(), self.said());
        Ok(())
    }

    /// Makes it read its configuration and certificates again.
    pub fn hang_up(&self) -> anyhow::Result<()> {
        self.write_configuration()?;
        self.signal(Signal::SIGHUP)
    }

    /// Waits until it has ended by itself.
    pub async fn ended(&mut self, limit: Duration) -> anyhow::Result<ExitStatus> {
        let child = self.child.as_mut().context("the site does not run")?;
        let status = timeout(limit, child.wait())
            .await
            .with_context(|| format!("{} does not end within {limit:?}", self.settings.name))?;
        self.child = None;
        status.context("wait for brurid")
    }

    /// How much memory `brurid` itself holds.
    pub fn resident_bytes(&self) -> anyhow::Result<u64> {
        let id = self.child.as_ref().and_then(Child::id).context("the site does not run")?;
        let status = fs::read_to_string(format!("/proc/{id}/status")).context("read its status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        Ok(kib.context("its status tells no memory")?.saturating_mul(1024))
    }

    /// Sends it a signal.
    pub fn signal(&self, what: Signal) -> anyhow::Result<()> {
        let id = self.child.as_ref().and_then(Child::id).context("the site does not run")?;
        signal(i32::try_from(id).context("read a process number")?, what)
    }

    /// Waits until it says a line with this part, since its last start; returns the line.
    pub async fn says(&self, part: &str) -> anyhow::Result<String> {
        let what = format!("{} says {part:?}", self.name());
        eventually(SAYS, &what, async || {
            let said = self.said();
            said.lines().rfind(|line| line.contains(part)).map(str::to_owned).context("it did not")
        })
        .await
    }

    /// All that it said since its last start.
    pub fn said(&self) -> String {
        let log = fs::read(self.log()).unwrap_or_default();
        let begin = usize::try_from(self.log_begin).unwrap_or(usize::MAX);
        String::from_utf8_lossy(log.get(begin..).unwrap_or_default()).into_owned()
    }

    /// What its metrics listener tells.
    pub async fn metrics(&self) -> anyhow::Result<String> {
        let metrics = self.settings.address.metrics();
        let mut connection = Connection::open(metrics).await?;
        let answer = connection.exchange(&request("GET", metrics, "/metrics", None)).await?;
        Ok(String::from_utf8_lossy(answer.body).into_owned())
    }

    /// What a counter that it tells of has come to since its start, over all with such a label, or with any where that is
    /// empty; 0 where it counted nothing yet.
    pub async fn counted(&self, counter: &str, label: &str) -> anyhow::Result<u64> {
        let metrics = self.metrics().await?;
        let lines = metrics.lines().filter(|line| line.starts_with(counter));
        let lines = lines.filter(|line| line.contains(label));
        let numbers = lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok());
        Ok(numbers.sum())
    }

    /// Its database, as it tells operators to open it.
    pub async fn database(&self) -> anyhow::Result<Database> {
        if let Some(url) = &self.settings.database_url {
            return Database::at(url).await;
        }
        let line = self.says(DATABASE_LINE).await?;
        let (_, command) = line.split_once(DATABASE_LINE).unwrap_or_default();
        Database::of_command(command).await
    }

    /// Its services for operators.
    pub async fn ops(&self) -> anyhow::Result<Ops> {
        Ops::connect(self.socket()).await
    }

    /// Runs `bruri` against it.
    pub async fn bruri(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let site = format!("unix:{}", self.socket().display());
        programs::bruri(["--site", &site].iter().chain(arguments)).await
    }

    /// The cluster of its private Postgres.
    pub fn cluster(&self) -> PathBuf {
        self.data_dir().join("postgres/data")
    }

    /// The witness of its commits.
    pub fn witness(&self) -> PathBuf {
        self.data_dir().join("witness")
    }

    fn command(&self, what: &str) -> anyhow::Result<Command> {
        self.write_configuration()?;
        let mut command = programs::command("brurid")?;
        command.arg(what).arg("--config").arg(self.configuration());
        Ok(command)
    }

    fn write_configuration(&self) -> anyhow::Result<()> {
        fs::write(self.configuration(), self.settings.text(&self.data_dir()))
            .context("write a configuration")
    }

    fn open_log(&self) -> std::io::Result<File> {
        OpenOptions::new().create(true).append(true).open(self.log())
    }

    fn configuration(&self) -> PathBuf {
        self.folder.join("brurid.toml")
    }

    fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// Where it keeps all that it keeps.
    pub fn data_dir(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn socket(&self) -> PathBuf {
        self.data_dir().join("ops.sock")
    }

    /// The process of its own Postgres, where one runs.
    fn postmaster(&self) -> Option<i32> {
        let lock = self.cluster().join("postmaster.pid");
        let process = fs::read_to_string(lock).ok()?.lines().next()?.trim().parse().ok()?;
        lives(process).then_some(process)
    }

    fn show_log(&self) {
        let said = self.said();
        // The traffic of phones would hide what the site says of itself.
        let lines: Vec<&str> =
            said.lines().filter(|line| !line.contains("phone request")).collect();
        let shown = lines.get(lines.len().saturating_sub(LOG_LINES_SHOWN)..).unwrap_or_default();
        crate::tell(&format!("the last lines of {}:\n{}", self.name(), shown.join("\n")));
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.show_log();
        }
        // It may have ended by itself.
        let _ = self.signal(Signal::SIGKILL);
        let Some(postmaster) = self.postmaster() else { return };
        let _ = signal(postmaster, Signal::SIGQUIT);
        if !gone_within(STOP, postmaster) {
            let _ = kill_family(postmaster);
        }
    }
}

async fn is_ready(metrics: SocketAddr) -> anyhow::Result<()> {
    let mut connection = Connection::open(metrics).await?;
    let answer = connection.exchange(&request("GET", metrics, "/readyz", None)).await?;
    ensure!(answer.status == 200, "/readyz says {}", answer.status);
    Ok(())
}
