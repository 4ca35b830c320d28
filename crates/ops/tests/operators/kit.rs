//! A site with its operators' services on a socket in a temporary directory.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bruri_domain::{
    Author, Body, Clock, Context, Cursor, DeploymentKey, Dot, Epoch, FileId, FileName, Log, LogId,
    LogKind, Phone, RealmId, Retention, SiteName, Stamp, Version,
};
use bruri_ops::{About, Ops, OpsError, Socket, serve_socket};
use bruri_store::{
    Backup, Incoming, IncomingBatch, Options, Pruning, Store,
    committer::{Commits, Committer},
};
use bruri_wire::{
    proto::{
        history::v1::{self as history, history_service_client::HistoryServiceClient},
        site::v1::{Peer, ProveConvergenceResponse, site_service_client::SiteServiceClient},
    },
    record::{decode_envelope, encode_version},
};
use bytes::Bytes;
use sqlx::PgPool;
use tempfile::TempDir;
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

/// When the site's clock begins, in microseconds since 1970.
pub(crate) const BEGINNING: u64 = 1_700_000_000_000_000;

/// A second later each time it is read.
struct Seconds(AtomicU64);

impl Clock for Seconds {
    fn now_micros(&self) -> u64 {
        self.0.fetch_add(1_000_000, Ordering::Relaxed)
    }
}

pub(crate) struct Site {
    pub(crate) store: Store,
    pub(crate) ready: watch::Sender<bool>,
    pub(crate) stop: CancellationToken,
    pub(crate) socket: PathBuf,
    commits: Commits,
    tasks: JoinSet<Result<(), OpsError>>,
    committing: JoinSet<()>,
    _dir: TempDir,
}

fn key() -> DeploymentKey {
    DeploymentKey::new([7; 32])
}

impl Site {
    pub(crate) async fn start(pool: PgPool) -> Self {
        let site = SiteName::parse("london").unwrap();
        let clock = Arc::new(Seconds(BEGINNING.into()));
        let store = Store::open(pool, Options { site, key: key(), clock }).await.unwrap();
        let (commits, committer) = Committer::new(store.clone());
        let mut committing = JoinSet::new();
        committing.spawn(committer.run());

        let dir = tempfile::tempdir().unwrap();
        let socket = Socket::bind(&dir.path().join("ops.sock")).await.unwrap();
        let path = socket.path().to_owned();
        let about = About {
            deployment: "acme".to_owned(),
            release: "0.1.0".to_owned(),
            started_micros: BEGINNING,
            peers: Box::new(|| vec![Peer { site: "tokyo".to_owned(), ..Peer::default() }]),
            inviter: None,
            prover: Box::new(Alone),
        };
        let ops = Ops { store: store.clone(), commits: commits.clone(), about: Arc::new(about) };
        let (ready, told) = watch::channel(true);
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve_socket(socket, ops, told, stop.clone()));
        Self { store, ready, stop, socket: path, commits, tasks, committing, _dir: dir }
    }

    pub(crate) async fn channel(&self) -> Channel {
        let address = format!("unix:{}", self.socket.display());
        Endpoint::from_shared(address).unwrap().connect().await.unwrap()
    }

    pub(crate) async fn history(&self) -> HistoryServiceClient<Channel> {
        HistoryServiceClient::new(self.channel().await)
    }

    pub(crate) async fn site(&self) -> SiteServiceClient<Channel> {
        SiteServiceClient::new(self.channel().await)
    }

    /// A phone backs a file up, or deletes it; returns the dot of what is served then.
    pub(crate) async fn phone(&self, name: &str, content: Option<&'static [u8]>) -> String {
        let phone = Phone::new([192, 0, 2, 1].into(), b"AVAYA/J179-4.0.7.0 (MAC:64c3549e5334)");
        let author = Author::Phone(phone);
        let backup = Backup {
            file: file_id(name),
            content: content.map(Bytes::from_static),
            author,
            suspect: false,
        };
        self.commits.commit(&self.store, backup).await.unwrap().dot.unwrap().to_string()
    }

    /// The first record of a log of tokyo arrives: a phone there backed a file up.
    pub(crate) async fn arrives_from_tokyo(&self, epoch: u64, name: &str, content: &'static [u8]) {
        let log = LogId { site: SiteName::parse("tokyo").unwrap(), epoch: Epoch(epoch) };
        let version = version(&log, name, content);
        let raw = encode_version(&version, 0, &key());
        let envelope = decode_envelope(&raw.envelope).unwrap();
        let log = Log { id: log, kind: LogKind::Files, predecessor: None };
        let from = Cursor::at_beginning(log);
        let chain = from.chain.next(&raw.envelope);
        let to = Cursor { sequence: 1, chain, ..from.clone() };
        let bodies = [(Body::of(content).sha256, Bytes::from_static(content))].into();
        let records = vec![Incoming { raw, envelope, version: Some(version), control: None }];
        let batch = IncomingBatch { from, to, records, bodies, absent: [].into() };
        self.store.apply(&batch).await.unwrap();
    }

    /// Drops every body that need not stay.
    pub(crate) async fn prune(&self) {
        let none = Some(Duration::ZERO);
        let retention = Retention { all: none, days: none, weeks: none, months: none, thins: true };
        let pruning = Pruning { retention, only_call_log: |_, _| true, rest: Duration::ZERO };
        self.store.prune(&pruning).await.unwrap();
    }

    /// Waits until the services have ended.
    pub(crate) async fn ended(mut self) -> Result<(), OpsError> {
        let ended = self.tasks.join_next().await.unwrap().unwrap();
        self.committing.abort_all();
        ended
    }
}

/// Written without knowledge of any other version.
fn version(log: &LogId, name: &str, content: &'static [u8]) -> Version {
    let mut random = [0; 16];
    random[..8].copy_from_slice(&log.epoch.0.to_be_bytes());
    Version {
        random,
        stamp: Stamp { trusted: true, micros: BEGINNING - 1 },
        file: file_id(name),
        context: Context::default(),
        body: Some(Body::of(content)),
        suspect: false,
        author: Author::Phone(Phone::new([198, 51, 100, 1].into(), b"AVAYA")),
    }
}

pub(crate) fn dot_in_tokyo(epoch: u64) -> Dot {
    let log = LogId { site: SiteName::parse("tokyo").unwrap(), epoch: Epoch(epoch) };
    Dot { log, sequence: 1 }
}

pub(crate) fn file_id(name: &str) -> FileId {
    FileId { realm: RealmId::built_in(), name: FileName::parse(name).unwrap() }
}

/// As a client names it.
pub(crate) fn named(name: &str) -> history::FileId {
    history::FileId { realm: String::new(), name: name.to_owned() }
}

/// A site that has no peers, and whose stored bytes are whole.
struct Alone;

#[tonic::async_trait]
impl bruri_ops::Prover for Alone {
    fn others(&self) -> Vec<String> {
        Vec::new()
    }

    async fn prove_ours(&self) -> Result<ProveConvergenceResponse, tonic::Status> {
        Ok(ProveConvergenceResponse::default())
    }

    async fn prove_other(&self, _: &str) -> ProveConvergenceResponse {
        ProveConvergenceResponse::default()
    }
}
