//! The configuration: read from a file and the environment, validated once into typed values.

mod sections;
mod source;
mod validate;

use std::env;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use bruri_domain::SiteName;
use bruri_replication::Dials;

pub use sections::{
    DatabaseSection, EdgeSection, OpsSection, ReplicationSection, Secret, Sections, SiteSection,
    TelemetrySection, TlsSection,
};
pub use source::SITE_FILE;

/// A valid configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file it was read from, if any.
    pub file: Option<PathBuf>,
    /// Who and where this site is.
    pub site: Site,
    /// What phones reach.
    pub edge: Edge,
    /// Where backups are kept.
    pub database: Database,
    /// How other sites are reached.
    pub replication: Replication,
    /// What operators reach.
    pub ops: Ops,
    /// What is seen of the daemon.
    pub telemetry: Telemetry,
}

/// Who and where this site is.
#[derive(Clone, Debug)]
pub struct Site {
    /// The site's name.
    pub name: SiteName,
    /// Somebody has chosen it; else it is the host's.
    pub is_named: bool,
    /// Where everything is kept; absolute.
    pub data_dir: PathBuf,
    /// The deployment key.
    pub deployment_key_file: PathBuf,
}

/// What phones reach.
#[derive(Clone, Debug)]
pub struct Edge {
    /// Addresses for phones over plain HTTP.
    pub http: Vec<SocketAddr>,
}

/// Where backups are kept.
#[derive(Clone, Debug)]
pub struct Database {
    /// A Postgres of the operator's; none: a private one.
    pub url: Option<Secret>,
    /// Connections to it.
    pub pool_max: u32,
}

/// How other sites are reached.
#[derive(Clone, Debug)]
pub struct Replication {
    /// The address for other sites; none: they cannot connect here.
    pub listen: Option<SocketAddr>,
    /// How other sites reach that address, `host:port`.
    pub advertise: Option<String>,
    /// The other sites, `host:port` each.
    pub peers: Vec<String>,
    /// Which members are dialled.
    pub dials: Dials,
    /// So many records behind, a site copies the states of files first.
    pub snapshot_records: u64,
    /// What proves who a site is; none: no replication.
    pub tls: Option<Tls>,
}

/// What proves who a site is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Tls {
    /// The certificate that signs those of all sites.
    pub ca_file: PathBuf,
    /// This site's certificate.
    pub cert_file: PathBuf,
    /// This site's key.
    pub key_file: PathBuf,
}

/// What operators reach.
#[derive(Clone, Debug)]
pub struct Ops {
    /// The operators' Unix socket.
    pub socket: PathBuf,
}

/// What is seen of the daemon.
#[derive(Clone, Debug)]
pub struct Telemetry {
    /// The address of metrics, liveness and readiness.
    pub metrics: Option<SocketAddr>,
    /// What is logged: a level, or levels by part.
    pub log: String,
    /// For whom log lines are made.
    pub format: LogFormat,
}

/// For whom log lines are made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogFormat {
    /// For people: one line each, time in UTC.
    Text,
    /// For programs: one JSON object each.
    Json,
}

/// Why a configuration is not usable.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("failed to read configuration file {}", .file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It is no TOML, or a value is of the wrong kind.
    #[error("{0}")]
    Malformed(String),
    /// A key that means nothing.
    #[error("unknown key {key} in {origin}; allowed are {allowed}")]
    UnknownKey {
        /// The key.
        key: String,
        /// The file or variable that names it.
        origin: String,
        /// The keys that were probably meant.
        allowed: String,
    },
    /// A value that cannot be used.
    #[error("{key} = {value:?} in {origin}: expected {expected}")]
    Invalid {
        /// The key.
        key: &'static str,
        /// What it says.
        value: String,
        /// The file or variable that says it.
        origin: String,
        /// What would do.
        expected: String,
    },
}

impl Config {
    /// Reads `file`, else `/etc/brurid/brurid.toml` where it exists, and this process's environment, over what
    /// `brurid join` wrote into the data directory.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        // A variable that is not Unicode is none of ours, or holds no usable value.
        let environment = env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        Self::read(file, environment)
    }

    /// As [`Config::load`], with another environment.
    pub fn read(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        validate::validate(&source::read(file, environment)?)
    }
}

#[cfg(test)]
mod tests;
