//! What runs in the daemon, and the order in which it starts and stops.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use bruri_replication::tls::Tls;
use prometheus::Registry;
use sqlx::postgres::PgConnectOptions;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::config::Config;
use crate::data_dir::DataDir;
use crate::lifecycle::{EarlyEnd, Tasks, run_until, watch_signals};
use crate::listen;
use crate::metrics_server::serve_metrics;
use crate::postgres::Postgres;
use crate::services::{Database, Listeners, Services, load_tls, open_store, poll_changes};
use crate::telemetry::{LogLevel, Telemetry};

/// How long tasks may take to end; Postgres has the rest of the 10 s that a stop may take.
const TASKS_GRACE: Duration = Duration::from_secs(6);

/// How long connections to the database may take to end after the tasks that used them.
const POOL_GRACE: Duration = Duration::from_secs(1);

/// Runs the daemon until it is told to stop or a part of it dies.
pub async fn run(config: Config) -> anyhow::Result<ExitCode> {
    let telemetry = Telemetry::start(&config.telemetry)?;
    let tasks = Tasks::new();
    let level = telemetry.level();
    let file = config.file.clone();
    let tls = load_tls(&config)?;
    let certificates = tls.clone();
    watch_signals(tasks.stop(), move || reload(file.as_deref(), &level, certificates.as_ref()))
        .context("watch for signals")?;
    let stop = tasks.stop();
    let started = tokio::select! {
        started = App::start(&config, telemetry.registry(), tls, tasks) => started,
        () = stop.cancelled() => return Ok(ExitCode::SUCCESS),
    };
    let is_in_order = match started {
        Ok(app) => app.run().await.is_ok(),
        Err(error) => {
            tracing::error!("failed to start: {error:#}");
            false
        }
    };
    telemetry.stop();
    tracing::info!("stopped");
    Ok(if is_in_order { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A running site.
pub struct App {
    tasks: Tasks,
    ready: watch::Sender<bool>,
    metrics: Option<SocketAddr>,
    database: Database,
    postgres: Option<Postgres>,
    _data_dir: DataDir,
}

impl App {
    /// Opens every listener and the database; whoever returns from here serves.
    pub async fn start(
        config: &Config,
        registry: Registry,
        tls: Option<Tls>,
        tasks: Tasks,
    ) -> anyhow::Result<Self> {
        tracing::info!(
            site.name = %config.site.name,
            version = env!("CARGO_PKG_VERSION"),
            data_dir = %config.site.data_dir.display(),
            "starting"
        );
        let data_dir = DataDir::open(&config.site.data_dir)?;
        let (ready, readiness) = watch::channel(false);
        // A port that is taken shows before the database is started.
        let listeners = Listeners::bind(config).await?;
        let metrics = start_metrics(config, registry, readiness.clone(), &tasks).await?;
        let (options, postgres) = open_database(config, &data_dir).await?;
        let pool_max = config.database.pool_max;
        let database = Database::connect(options, pool_max, postgres.is_some()).await?;
        let store = open_store(config, database.pool.clone()).await?;
        poll_changes(&store, database.is_private, &tasks);
        let services = Services::start(config, store, tls, &tasks).await?;
        services.serve(listeners, readiness, &tasks)?;
        ready.send_replace(true);
        tracing::info!(site.name = %config.site.name, "ready");
        Ok(Self { tasks, ready, metrics, database, postgres, _data_dir: data_dir })
    }

    /// Where metrics are served.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics
    }

    /// Asks the site to stop.
    pub fn stop(&self) {
        self.tasks.stop().cancel();
    }

    /// Runs until the stop, then ends everything in order.
    pub async fn run(mut self) -> Result<(), EarlyEnd> {
        let died = ("postgres", death_of(&mut self.postgres));
        let outcome = run_until(&self.tasks, died, TASKS_GRACE).await;
        self.ready.send_replace(false);
        if timeout(POOL_GRACE, self.database.pool.close()).await.is_err() {
            tracing::warn!("connections to the database are cut off");
        }
        if let Some(postgres) = self.postgres.take() {
            postgres.stop().await;
        }
        outcome
    }
}

async fn start_metrics(
    config: &Config,
    registry: Registry,
    readiness: watch::Receiver<bool>,
    tasks: &Tasks,
) -> anyhow::Result<Option<SocketAddr>> {
    let Some(address) = config.telemetry.metrics else { return Ok(None) };
    let listener = listen::bind("telemetry.metrics", address).await?;
    let address = listener.local_addr().context("read the address of the metrics listener")?;
    let stop = tasks.stop();
    tasks.spawn(
        "metrics",
        async move { Ok(serve_metrics(listener, registry, readiness, stop).await?) },
    );
    tracing::info!(%address, "serving metrics");
    Ok(Some(address))
}

/// The operator's Postgres where one is configured, else the private one.
async fn open_database(
    config: &Config,
    data_dir: &DataDir,
) -> anyhow::Result<(PgConnectOptions, Option<Postgres>)> {
    if let Some(url) = &config.database.url {
        // The library's error could repeat the address, which may hold a password.
        let options: PgConnectOptions =
            url.expose().parse().ok().context("read database.url: expected postgres://…")?;
        return Ok((options.application_name("brurid"), None));
    }
    let postgres = Postgres::start(data_dir).await.context("start the private PostgreSQL")?;
    tracing::info!("to look into the database: {}", postgres.psql());
    Ok((postgres.options(), Some(postgres)))
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
