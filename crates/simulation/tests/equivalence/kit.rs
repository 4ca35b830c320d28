//! A site twice: on a database of its own, and in memory.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bruri_domain::{Author, Clock, DeploymentKey, FileId, LogId, LogKind, Phone, Sha256, SiteName};
use bruri_replication::store::Store as _;
use bruri_simulation::memory::Memory;
use bruri_store::{
    Backup, Lookup, Mark, Options, Store,
    committer::{Commits, Committer},
    lookup::Reader,
};
use bytes::Bytes;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool, postgres::PgConnectOptions};
use tokio::task::JoinSet;

const CONNECTIONS: u32 = 6;

/// A clock that a test sets.
pub(crate) struct Hand(pub(crate) AtomicU64);

impl Clock for Hand {
    fn now_micros(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

pub(crate) struct Site {
    pub(crate) real: Store,
    pub(crate) memory: Memory,
    commits: Commits,
    lookup: Lookup,
    pub(crate) clock: Arc<Hand>,
    pool: PgPool,
    database: String,
    tasks: JoinSet<()>,
}

/// As the sites of these tests judge.
pub(crate) fn is_suspect(content: Option<&Bytes>) -> bool {
    content.is_some_and(|content| !content.contains(&b'='))
}

pub(crate) fn key() -> DeploymentKey {
    DeploymentKey::new([7; 32])
}

pub(crate) fn phone(number: u8) -> Phone {
    Phone::new([192, 0, 2, number].into(), b"AVAYA/9608")
}

pub(crate) fn subject(file: &FileId) -> Sha256 {
    key().subject_hash(file.subject())
}

fn server() -> PgConnectOptions {
    let url = std::env::var("DATABASE_URL").expect("DATABASE_URL names a Postgres for tests");
    url.parse().expect("DATABASE_URL is postgres://…")
}

async fn execute(statement: String) {
    let mut connection = PgConnection::connect_with(&server()).await.unwrap();
    sqlx::query(AssertSqlSafe(statement)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

impl Site {
    pub(crate) async fn open(number: usize, run: u64) -> Self {
        let database = format!("bruri_equivalence_{}_{run}_{number}", std::process::id());
        execute(format!("create database {database}")).await;
        let pool = bruri_store::connect(server().database(&database), CONNECTIONS).await.unwrap();
        let clock = Arc::new(Hand(AtomicU64::new(1_800_000_000_000_000)));
        let site = SiteName::parse(&format!("s{number}")).unwrap();
        let options = Options { site, key: key(), clock: clock.clone() };
        let real = Store::open(pool.clone(), options).await.unwrap();
        let (commits, committer) = Committer::new(real.clone());
        let (lookup, reader) = Reader::new(real.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(reader.run());
        tasks.spawn(committer.run());
        let own = real.vector().await.unwrap().into_iter().map(|cursor| cursor.log).collect();
        let memory = Memory::new(key(), own);
        Self { real, memory, commits, lookup, clock, pool, database, tasks }
    }

    pub(crate) async fn close(self) {
        let Self { pool, database, tasks, .. } = self;
        drop(tasks);
        pool.close().await;
        execute(format!("drop database {database} with (force)")).await;
    }

    /// What a phone sends; whether it is taken.
    pub(crate) async fn send(&self, file: &FileId, content: Option<Bytes>, by: u8) -> bool {
        let suspect = is_suspect(content.as_ref());
        let author = Author::Phone(phone(by));
        let backup = Backup { file: file.clone(), content, suspect, author };
        match self.commits.commit(&self.real, backup).await {
            Ok(_) => true,
            Err(bruri_store::StoreError::Barred) => false,
            Err(error) => panic!("{error}"),
        }
    }

    /// What a phone gets; none where the body is wanted.
    pub(crate) async fn served(&self, file: &FileId) -> Option<bruri_store::Served> {
        self.lookup.served(file).await.ok()
    }

    pub(crate) fn mark(file: &FileId, by: u8) -> Mark {
        Mark { file: file.clone(), phone: (&phone(by)).into() }
    }

    /// The open log of a kind.
    pub(crate) fn open_log(&self, kind: LogKind) -> LogId {
        let cursors = self.memory.cursors().into_iter();
        let mut open =
            cursors.filter(|at| at.log.kind == kind && self.memory.appends_to(&at.log.id));
        open.next().unwrap().log.id
    }
}
