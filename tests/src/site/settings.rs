//! What a site is told, and its configuration file.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::address::Address;

/// What a site is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its name.
    pub name: String,
    /// Where it listens.
    pub address: Address,
    /// The other sites, each perhaps at the near end of a link.
    pub peer_addresses: Vec<SocketAddr>,
    /// The folder that `bruri pki issue` made; none: it does not replicate.
    pub pki: Option<PathBuf>,
    /// A Postgres of the operator's; none: a private one.
    pub database_url: Option<String>,
    /// What is logged.
    pub log: String,
    /// So many records behind, it takes a snapshot; none: the default.
    pub snapshot_records: Option<u64>,
    /// The members that it dials; empty: all.
    pub dial: Vec<String>,
    /// It dials those that dial it, too.
    pub is_hub: bool,
}

impl Settings {
    /// A site by itself, with an address of its own.
    pub fn alone(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            address: Address::take(),
            peer_addresses: Vec::new(),
            pki: None,
            database_url: None,
            log: "info".to_owned(),
            snapshot_records: None,
            dial: Vec::new(),
            is_hub: false,
        }
    }

    /// The configuration file.
    pub(super) fn text(&self, data_dir: &Path) -> String {
        let quoted = |address: &SocketAddr| format!("{:?}", address.to_string());
        let peers: Vec<String> = self.peer_addresses.iter().map(quoted).collect();
        // Written as empty it would override what joining wrote.
        let peers = match peers.as_slice() {
            [] => String::new(),
            peers => format!("peers = [{}]\n", peers.join(", ")),
        };
        let snapshot = self.snapshot_records.map(|n| format!("snapshot_records = {n}\n"));
        format!(
            "[site]\nname = {name:?}\ndata_dir = \"{data_dir}\"\n{key}\n\
             [edge]\nhttp = [{phones}]\n\n\
             [database]\nurl = {url:?}\n\n\
             [replication]\nlisten = {listen}\n{peers}{dial}{snapshot}\n{tls}\n\
             [telemetry]\nmetrics = {metrics}\nlog = {log:?}\n",
            name = self.name,
            data_dir = data_dir.display(),
            key = self.deployment_key(),
            phones = quoted(&self.address.phones()),
            url = self.database_url.as_deref().unwrap_or_default(),
            listen = quoted(&self.address.peers()),
            dial = format_args!("dial = {:?}\nhub = {}\n", self.dial, self.is_hub),
            snapshot = snapshot.unwrap_or_default(),
            tls = self.tls(),
            metrics = quoted(&self.address.metrics()),
            log = self.log,
        )
    }

    fn deployment_key(&self) -> String {
        let line =
            |pki: &PathBuf| format!("deployment_key_file = \"{}/deployment.key\"\n", pki.display());
        self.pki.as_ref().map(line).unwrap_or_default()
    }

    fn tls(&self) -> String {
        let Some(pki) = &self.pki else { return String::new() };
        let pki = pki.display();
        format!(
            "[replication.tls]\nca_file = \"{pki}/ca.crt\"\ncert_file = \"{pki}/site.crt\"\n\
             key_file = \"{pki}/site.key\"\n"
        )
    }
}
