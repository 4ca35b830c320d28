//! What runs in the daemon, and the order in which it starts and stops.

use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bruri_replication::tls::Tls;
use prometheus::Registry;
use sqlx::{PgPool, postgres::PgConnectOptions};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::config::Config;
use crate::data_dir::DataDir;
use crate::lifecycle::{EarlyEnd, Tasks, run_until, watch_signals};
use crate::listen;
use crate::metrics_server::serve_metrics;
use crate::postgres::Postgres;
use crate::services::{
    Listeners, Services, count_conflicts, keep_witness, load_tls, open_store, poll_changes,
};
use crate::telemetry::{LogLevel, Telemetry};

/// How long tasks may take to end; Postgres has the rest of the 10 s that a stop may take.
const TASKS_GRACE: Duration = Duration::from_secs(6);

/// How long connections to the database may take to end after the tasks that used them.
const POOL_GRACE: Duration = Duration::from_secs(1);

/// What the process is there for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Purpose {
    /// All that a site does.
    Serve,
    /// The private Postgres alone, for whoever restores or mends a database.
    HoldPostgres,
}

/// Runs until it is told to stop or a part of it dies.
pub async fn run(config: Config, purpose: Purpose) -> anyhow::Result<ExitCode> {
    let telemetry = Telemetry::start(&config.telemetry)?;
    let (registry, tasks) = (telemetry.registry(), Tasks::new());
    let site = Site { config, registry, tasks, certificates: Arc::default() };
    // Before the first line in the log, so that whoever reads it can have us stop in order.
    site.watch_signals(telemetry.level())?;
    tracing::info!(
        site.name = %site.config.site.name,
        version = env!("CARGO_PKG_VERSION"),
        data_dir = %site.config.site.data_dir.display(),
        "starting"
    );
    let outcome = site.live(purpose).await;
    match &outcome {
        Ok(()) => tracing::info!("stopped"),
        // Logged when it happened.
        Err(error) if error.is::<EarlyEnd>() => {}
        Err(error) => tracing::error!("brurid ends: {error:#}"),
    }
    telemetry.stop();
    Ok(if outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

struct Site {
    config: Config,
    registry: Registry,
    tasks: Tasks,
    /// What a SIGHUP reads again, once it was read.
    certificates: Arc<OnceLock<Tls>>,
}

impl Site {
    fn watch_signals(&self, level: LogLevel) -> anyhow::Result<()> {
        let (file, certificates) = (self.config.file.clone(), Arc::clone(&self.certificates));
        let reload = move || reload(file.as_deref(), &level, certificates.get());
        watch_signals(self.tasks.stop(), reload).context("watch for signals")
    }

    /// Takes the data directory first and gives it back last, after Postgres, also where a start fails
    /// halfway.
    async fn live(&self, purpose: Purpose) -> anyhow::Result<()> {
        let data_dir = DataDir::open(&self.config.site.data_dir)?;
        let mut postgres = None;
        let outcome = match purpose {
            Purpose::Serve => self.serve(&data_dir, &mut postgres).await,
            Purpose::HoldPostgres => self.hold_postgres(&data_dir, &mut postgres).await,
        };
        if let Some(postgres) = postgres {
            postgres.stop().await;
        }
        outcome
    }

    async fn hold_postgres(
        &self,
        data_dir: &DataDir,
        postgres: &mut Option<Postgres>,
    ) -> anyhow::Result<()> {
        ensure!(
            self.config.database.url.is_none(),
            "database.url names a Postgres that brurid does not run; restore into that one"
        );
        let stop = self.tasks.stop();
        tokio::select! {
            opened = open_database(&self.config, data_dir, postgres) => drop(opened?),
            () = stop.cancelled() => return Ok(()),
        }
        tracing::info!("PostgreSQL runs alone until a signal; nobody is served");
        let died = ("postgres", death_of(postgres));
        Ok(run_until(&self.tasks, died, TASKS_GRACE).await?)
    }

    async fn serve(
        &self,
        data_dir: &DataDir,
        postgres: &mut Option<Postgres>,
    ) -> anyhow::Result<()> {
        let (ready, readiness) = watch::channel(false);
        let stop = self.tasks.stop();
        let pool = tokio::select! {
            started = self.start(data_dir, postgres, readiness) => started?,
            () = stop.cancelled() => return Ok(()),
        };
        ready.send_replace(true);
        tracing::info!(site.name = %self.config.site.name, "ready");
        let died = ("postgres", death_of(postgres));
        let outcome = run_until(&self.tasks, died, TASKS_GRACE).await;
        ready.send_replace(false);
        if timeout(POOL_GRACE, pool.close()).await.is_err() {
            tracing::warn!("connections to the database are cut off");
        }
        Ok(outcome?)
    }

    /// Opens every listener and the database; when this returns, everyone is served. The pool ends
    /// last.
    async fn start(
        &self,
        data_dir: &DataDir,
        postgres: &mut Option<Postgres>,
        readiness: watch::Receiver<bool>,
    ) -> anyhow::Result<PgPool> {
        let (config, tasks) = (&self.config, &self.tasks);
        let tls = load_tls(config)?;
        if let Some(tls) = &tls {
            // There is one start in a process, so it is not set yet.
            let _ = self.certificates.set(tls.clone());
        }
        // A port that is taken shows before the database is started.
        let listeners = Listeners::bind(config).await?;
        start_metrics(config, self.registry.clone(), readiness.clone(), tasks).await?;
        let options = open_database(config, data_dir, postgres).await?;
        let pool = bruri_store::connect(options, config.database.pool_max).await;
        let pool = pool.context("connect to the database")?;
        let store = open_store(config, pool.clone()).await?;
        keep_witness(&store, data_dir.path(), tasks).await?;
        poll_changes(&store, postgres.is_some(), tasks);
        count_conflicts(&store, tasks);
        let services = Services::start(config, store, tls, tasks).await?;
        services.serve(listeners, readiness, tasks)?;
        Ok(pool)
    }
}

async fn start_metrics(
    config: &Config,
    registry: Registry,
    readiness: watch::Receiver<bool>,
    tasks: &Tasks,
) -> anyhow::Result<()> {
    let Some(address) = config.telemetry.metrics else { return Ok(()) };
    let listener = listen::bind("telemetry.metrics", address).await?;
    let address = listener.local_addr().context("read the address of the metrics listener")?;
    let stop = tasks.stop();
    tasks.spawn(
        "metrics",
        async move { Ok(serve_metrics(listener, registry, readiness, stop).await?) },
    );
    tracing::info!(%address, "serving metrics");
    Ok(())
}

/// The operator's Postgres where one is configured, else the private one, started in its place.
async fn open_database(
    config: &Config,
    data_dir: &DataDir,
    postgres: &mut Option<Postgres>,
) -> anyhow::Result<PgConnectOptions> {
    if let Some(url) = &config.database.url {
        // The library's error could repeat the address, which may hold a password.
        return url.expose().parse().ok().context("read database.url: expected postgres://…");
    }
    let started = Postgres::start(data_dir).await.context("start the private PostgreSQL")?;
    tracing::info!("to look into the database: {}", started.psql());
    Ok(postgres.insert(started).options())
}

async fn death_of(postgres: &mut Option<Postgres>) -> String {
    match postgres {
        Some(postgres) => postgres.died().await,
        None => std::future::pending().await,
    }
}

/// What a SIGHUP reads again: each part that can be read is used, whatever the others say.
fn reload(file: Option<&std::path::Path>, level: &LogLevel, tls: Option<&Tls>) {
    let reloaded = Config::load(file)
        .map_err(anyhow::Error::from)
        .and_then(|config| level.set_level(&config.telemetry.log).map(|()| config.telemetry.log));
    match reloaded {
        Ok(log) => tracing::info!(log, "configuration reloaded"),
        Err(error) => tracing::error!("configuration not reloaded: {error:#}"),
    }
    match tls.map(Tls::reload) {
        Some(Ok(())) => tracing::info!("certificates reloaded"),
        Some(Err(error)) => {
            tracing::error!("certificates not reloaded: {:#}", anyhow::Error::from(error));
        }
        None => {}
    }
}
