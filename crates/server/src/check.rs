//! `brurid check`: says before a start what would be wrong with it. Changes nothing.

use std::fmt;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::time::timeout;

use crate::access::{ENTER, User, WRITE};
use crate::config::Config;
use crate::data_dir;
use crate::listen;
use crate::postgres::{Plan, Search};
use crate::services::load_tls;

/// How long an operator's own Postgres is waited for.
const DATABASE_WAIT: Duration = Duration::from_secs(5);
/// Bytes of a Unix socket's path on Linux, its closing NUL not counted.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// One line of the answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Finding {
    /// As it should be.
    Good(String),
    /// A start would fail, or something would not work.
    Problem(String),
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Good(text) => write!(f, "ok       {text}"),
            Self::Problem(text) => write!(f, "PROBLEM  {text}"),
        }
    }
}

impl Finding {
    /// True where something is wrong.
    pub fn is_problem(&self) -> bool {
        matches!(self, Self::Problem(_))
    }
}

/// Everything that can be said about a configuration on this host.
pub async fn check(config: &Config) -> Vec<Finding> {
    let running = data_dir::in_use(&config.site.data_dir);
    let mut findings = vec![file(config), name(config), data_directory(config, running.as_deref())];
    findings.push(database(config).await);
    for address in &config.edge.http {
        findings.push(port("edge.http", *address, running.as_deref()).await);
    }
    findings.extend(certificates(config));
    if let Some(address) = config.replication.listen.filter(|_| config.replication.tls.is_some()) {
        findings.push(port("replication.listen", address, running.as_deref()).await);
    }
    findings.push(socket(&config.ops.socket));
    if let Some(address) = config.telemetry.metrics {
        findings.push(port("telemetry.metrics", address, running.as_deref()).await);
    }
    findings
}

fn file(config: &Config) -> Finding {
    Finding::Good(match &config.file {
        Some(file) => format!("configuration: {}", file.display()),
        None => "configuration: no file, defaults and environment".to_owned(),
    })
}

fn name(config: &Config) -> Finding {
    Finding::Good(format!("site.name: {}", config.site.name))
}

fn data_directory(config: &Config, running: Option<&str>) -> Finding {
    let path = &config.site.data_dir;
    let shown = path.display();
    if let Some(owner) = running {
        return Finding::Good(format!("site.data_dir: {shown}, a brurid runs there{owner}"));
    }
    let user = User::current();
    let existing = path.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("/"));
    let Ok(metadata) = fs::metadata(existing) else {
        return Finding::Problem(format!("site.data_dir: {}: cannot be read", existing.display()));
    };
    let is_writable = user.may(WRITE | ENTER, &metadata);
    match (metadata.is_dir(), is_writable, existing == path) {
        (true, true, true) => Finding::Good(format!("site.data_dir: {shown}")),
        (true, true, false) => {
            Finding::Good(format!("site.data_dir: {shown}, made at the first start"))
        }
        (true, false, _) => Finding::Problem(format!(
            "site.data_dir: {shown}: user {} may not write {}",
            user.name,
            existing.display()
        )),
        (false, ..) => Finding::Problem(format!(
            "site.data_dir: {shown}: {} is no directory",
            existing.display()
        )),
    }
}

async fn database(config: &Config) -> Finding {
    if let Some(url) = &config.database.url {
        return match url.expose().parse::<PgConnectOptions>() {
            Ok(options) => own_database(&options).await,
            Err(_) => Finding::Problem("database.url: not a Postgres address".to_owned()),
        };
    }
    match Plan::make(&config.site.data_dir, &Search::system()) {
        Ok(plan) => Finding::Good(format!(
            "database: private PostgreSQL {} as user {} in {}, {}",
            plan.install.version(),
            plan.user.name,
            plan.layout.data().display(),
            if plan.exists { "which exists" } else { "made at the first start" },
        )),
        Err(error) => Finding::Problem(format!("database: {:#}", anyhow::Error::from(error))),
    }
}

async fn own_database(options: &PgConnectOptions) -> Finding {
    let place = format!("database.url: {} port {}", options.get_host(), options.get_port());
    match timeout(DATABASE_WAIT, options.connect()).await {
        Ok(Ok(connection)) => {
            // It has answered; how it takes the goodbye changes nothing.
            let _ = connection.close().await;
            Finding::Good(format!("{place} answers"))
        }
        Ok(Err(error)) => Finding::Problem(format!("{place}: {error}")),
        Err(_) => Finding::Problem(format!("{place}: no answer in {} s", DATABASE_WAIT.as_secs())),
    }
}

async fn port(key: &'static str, address: SocketAddr, running: Option<&str>) -> Finding {
    match (listen::bind(key, address).await, running) {
        (Ok(_), _) => Finding::Good(format!("{key}: {address} is free")),
        (Err(listen::ListenError::InUse { .. }), Some(owner)) => Finding::Good(format!(
            "{key}: {address} is in use, as it is by a running brurid{owner}"
        )),
        (Err(error), _) => Finding::Problem(format!("{key}: {:#}", anyhow::Error::from(error))),
    }
}

fn certificates(config: &Config) -> Vec<Finding> {
    let Some(tls) = &config.replication.tls else {
        let text = "replication: off, there are no certificates; `bruri pki` makes them";
        return vec![if config.replication.peers.is_empty() {
            Finding::Good(text.to_owned())
        } else {
            Finding::Problem(format!("{text}, and replication.peers names peers"))
        }];
    };
    let mut findings: Vec<Finding> = [
        ("replication.tls.ca_file", &tls.ca_file),
        ("replication.tls.cert_file", &tls.cert_file),
        ("replication.tls.key_file", &tls.key_file),
        ("site.deployment_key_file", &config.site.deployment_key_file),
    ]
    .map(|(key, file)| readable(key, file))
    .into();
    // Read as a start reads them: a key that does not fit, or another site's certificate, shows here.
    if !findings.iter().any(Finding::is_problem) {
        findings.push(match load_tls(config) {
            Ok(_) => Finding::Good(format!("replication.tls: is of site {}", config.site.name)),
            Err(error) => Finding::Problem(format!("replication.tls: {error:#}")),
        });
    }
    findings
}

fn readable(key: &str, file: &Path) -> Finding {
    match File::open(file) {
        Ok(_) => Finding::Good(format!("{key}: {}", file.display())),
        Err(error) => Finding::Problem(format!("{key}: {}: {error}", file.display())),
    }
}

fn socket(path: &Path) -> Finding {
    let bytes = path.as_os_str().as_bytes().len();
    if bytes > SOCKET_PATH_BYTES_MAX {
        return Finding::Problem(format!(
            "ops.socket: {} has {bytes} bytes, {SOCKET_PATH_BYTES_MAX} are possible; set ops.socket \
             to a shorter path",
            path.display()
        ));
    }
    Finding::Good(format!("ops.socket: {}", path.display()))
}
