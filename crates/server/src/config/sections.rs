//! The sections of the configuration file as an operator writes them; `Default` holds the defaults.
//!
//! An empty text stands for a default that depends on the host, or for none.

use std::fmt;

use bruri_domain::limits::SNAPSHOT_LAG_RECORDS_DEFAULT;
use serde::Deserialize;

/// Every key with its default.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Sections {
    /// Who and where this site is.
    pub site: SiteSection,
    /// What phones reach.
    pub edge: EdgeSection,
    /// Where backups are kept.
    pub database: DatabaseSection,
    /// How other sites are reached.
    pub replication: ReplicationSection,
    /// What operators reach.
    pub ops: OpsSection,
    /// What is seen of the daemon.
    pub telemetry: TelemetrySection,
}

/// Section `[site]`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct SiteSection {
    /// The site's name; empty: the host's name.
    pub name: String,
    /// Where everything is kept; empty: depends on the user.
    pub data_dir: String,
    /// The deployment key; empty: within the data directory.
    pub deployment_key_file: String,
}

/// Section `[edge]`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct EdgeSection {
    /// Addresses for phones over plain HTTP.
    pub http: Vec<String>,
}

/// Section `[database]`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct DatabaseSection {
    /// A Postgres of your own; empty: a private one.
    pub url: Secret,
    /// Connections to it.
    pub pool_max: u32,
}

/// Section `[replication]`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct ReplicationSection {
    /// The address for other sites.
    pub listen: String,
    /// How other sites reach that address; empty: they are not told.
    pub advertise: String,
    /// The other sites.
    pub peers: Vec<String>,
    /// The members that are dialled; none: all.
    pub dial: Vec<String>,
    /// Those that dial this site are dialled, too.
    pub hub: bool,
    /// So many records behind, a site copies the states of files first.
    pub snapshot_records: u64,
    /// What proves who a site is.
    pub tls: TlsSection,
}

/// Section `[replication.tls]`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct TlsSection {
    /// The certificate that signs those of all sites.
    pub ca_file: String,
    /// This site's certificate.
    pub cert_file: String,
    /// This site's key.
    pub key_file: String,
}

/// Section `[ops]`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct OpsSection {
    /// The operators' Unix socket; empty: within the data directory.
    pub socket: String,
}

/// Section `[telemetry]`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetrySection {
    /// The address of metrics, liveness and readiness; empty: none.
    pub metrics: String,
    /// What is logged: a level, or levels by part.
    pub log: String,
    /// For people (`text`) or programs (`json`).
    pub format: String,
}

impl Default for EdgeSection {
    fn default() -> Self {
        Self { http: vec!["0.0.0.0:8080".to_owned()] }
    }
}

impl Default for DatabaseSection {
    fn default() -> Self {
        Self { url: Secret::default(), pool_max: 16 }
    }
}

impl Default for ReplicationSection {
    fn default() -> Self {
        Self {
            listen: "0.0.0.0:7440".to_owned(),
            advertise: String::new(),
            peers: Vec::new(),
            dial: Vec::new(),
            hub: false,
            snapshot_records: SNAPSHOT_LAG_RECORDS_DEFAULT,
            tls: TlsSection::default(),
        }
    }
}

impl Default for TelemetrySection {
    fn default() -> Self {
        Self {
            metrics: "127.0.0.1:9464".to_owned(),
            log: "info".to_owned(),
            format: "text".to_owned(),
        }
    }
}

/// A text that may hold a password: never printed.
#[derive(Clone, Default, Deserialize, Eq, PartialEq)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "\"\"" } else { "\"***\"" })
    }
}
