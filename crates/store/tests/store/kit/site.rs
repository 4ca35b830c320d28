//! A site on a database, with its committer and reader running.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering},
};

use bruri_domain::{Author, Clock, DeploymentKey, FileId, Phone, SiteName};
use bruri_store::{
    Backup, Committed, Lookup, Mark, Options, Pruned, Pruning, Store, StoreError,
    committer::{Commits, Committer},
    lookup::Reader,
};
use bytes::Bytes;
use futures_util::future::{join, join_all};
use sqlx::{PgPool, postgres::PgConnectOptions};
use tokio::task::JoinSet;

/// What the clock of a site says until it is set.
pub(crate) const FIRST_MICROS: u64 = 1_800_000_000_000_000;

const CONNECTIONS: u32 = 6;

/// A clock that is set by hand.
pub(crate) struct Hand(AtomicU64);

impl Hand {
    pub(crate) fn at(micros: u64) -> Self {
        Self(AtomicU64::new(micros))
    }

    pub(crate) fn set(&self, micros: u64) {
        self.0.store(micros, Ordering::SeqCst);
    }

    pub(crate) fn advance(&self, micros: u64) {
        self.0.fetch_add(micros, Ordering::SeqCst);
    }
}

impl Clock for Hand {
    fn now_micros(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

pub(crate) struct Site {
    pub(crate) store: Store,
    pub(crate) commits: Commits,
    pub(crate) lookup: Lookup,
    pub(crate) clock: Arc<Hand>,
    /// The store's own pool, for questions to the tables.
    pub(crate) pool: PgPool,
    idle: Mutex<Option<Committer>>,
    tasks: Mutex<JoinSet<()>>,
}

pub(crate) fn key() -> DeploymentKey {
    DeploymentKey::new([7; 32])
}

pub(crate) fn phone() -> Author {
    Author::Phone(Phone::new([192, 0, 2, 1].into(), b"AVAYA/J179-4.0.7.0 (MAC:64C3549e5334)"))
}

/// A phone of which the last part of its address is known.
pub(crate) fn phone_at(last: u8) -> Phone {
    Phone::new([192, 0, 2, last].into(), b"AVAYA/9608")
}

pub(crate) fn mark_of(last: u8, file: &FileId) -> Mark {
    Mark { file: file.clone(), phone: (&phone_at(last)).into() }
}

impl Site {
    pub(crate) async fn open(name: &str, database: &PgConnectOptions) -> Self {
        let site = Self::open_idle(name, database).await;
        site.start();
        site
    }

    /// Its committer waits for [`Site::start`], so that what comes meanwhile goes in one group.
    pub(crate) async fn open_idle(name: &str, database: &PgConnectOptions) -> Self {
        Self::try_open(name, key(), FIRST_MICROS, database).await.unwrap()
    }

    pub(crate) async fn try_open(
        name: &str,
        key: DeploymentKey,
        now_micros: u64,
        database: &PgConnectOptions,
    ) -> Result<Self, StoreError> {
        let pool = bruri_store::connect(database.clone(), CONNECTIONS).await?;
        Self::over(pool, name, key, now_micros).await
    }

    pub(crate) async fn over(
        pool: PgPool,
        name: &str,
        key: DeploymentKey,
        now_micros: u64,
    ) -> Result<Self, StoreError> {
        let clock = Arc::new(Hand::at(now_micros));
        let options = Options { site: SiteName::parse(name).unwrap(), key, clock: clock.clone() };
        let opened = Store::open(pool.clone(), options).await;
        if opened.is_err() {
            pool.close().await;
        }
        let store = opened?;
        let (commits, committer) = Committer::new(store.clone());
        let (lookup, reader) = Reader::new(store.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(reader.run());
        tasks.spawn(committer.writer().run());
        let (idle, tasks) = (Mutex::new(Some(committer)), Mutex::new(tasks));
        Ok(Self { store, commits, lookup, clock, pool, idle, tasks })
    }

    /// Lets the committer work.
    pub(crate) fn start(&self) {
        let committer = self.idle.lock().unwrap().take().unwrap();
        self.tasks.lock().unwrap().spawn(committer.run());
    }

    /// Lets all that waits be stored, and closes every connection.
    pub(crate) async fn close(self) {
        let Self { commits, lookup, tasks, pool, idle, .. } = self;
        drop((commits, lookup, idle));
        let mut tasks = tasks.into_inner().unwrap();
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
        pool.close().await;
    }

    pub(crate) async fn commit(
        &self,
        file: &FileId,
        content: Option<&[u8]>,
    ) -> Result<Committed, StoreError> {
        let content = content.map(Bytes::copy_from_slice);
        let backup = Backup { file: file.clone(), content, author: phone(), suspect: false };
        self.commits.commit(&self.store, backup).await
    }

    /// Lets all of them wait before the committer starts.
    pub(crate) async fn commit_together(
        &self,
        backups: &[(FileId, Vec<u8>)],
    ) -> Vec<Result<Committed, StoreError>> {
        let answers = backups.iter().map(|(file, content)| self.commit(file, Some(content)));
        let (answers, ()) = join(join_all(answers), async { self.start() }).await;
        answers
    }

    pub(crate) async fn put(&self, file: &FileId, content: impl AsRef<[u8]>) -> Committed {
        self.commit(file, Some(content.as_ref())).await.unwrap()
    }

    /// That phone backs up.
    pub(crate) async fn put_by(&self, last: u8, file: &FileId, content: &'static str) -> Committed {
        let (content, author) = (Some(content.into()), Author::Phone(phone_at(last)));
        let backup = Backup { file: file.clone(), content, author, suspect: false };
        self.commits.commit(&self.store, backup).await.unwrap()
    }

    /// That phone restores, and is known to have got it.
    pub(crate) async fn get_by(&self, last: u8, file: &FileId) -> Option<Bytes> {
        let served = self.lookup.served(file).await.unwrap();
        self.store.remember(mark_of(last, file), served.remembered);
        served.version.map(|found| found.content)
    }

    pub(crate) async fn remove(&self, file: &FileId) -> Committed {
        self.commit(file, None).await.unwrap()
    }

    /// One turn of retention, a second later: what was just written is not from the future then.
    pub(crate) async fn prune(&self, pruning: &Pruning) -> Pruned {
        self.clock.advance(1_000_000);
        self.store.prune(pruning).await.unwrap()
    }

    /// What a phone gets.
    pub(crate) async fn get(&self, file: &FileId) -> Option<Bytes> {
        self.lookup.served(file).await.unwrap().version.map(|found| found.content)
    }
}
