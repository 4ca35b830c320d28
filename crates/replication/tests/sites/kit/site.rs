//! Whole sites: a database, a store with its tasks, a supplier and its consumers.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use bruri_domain::{
    Author, Clock, Cursor, DeploymentKey, FileId, FileName, Phone, RealmId, SiteName,
    limits::SNAPSHOT_LAG_RECORDS_DEFAULT,
};
use bruri_replication::Dials;
use bruri_replication::{Doors, PeerState, PeerStatus, Replication, Told, tls::Tls};
use bruri_store::{
    Backup, Committed, Mark, Options, Store,
    committer::{Commits, Committer},
    lookup::{Lookup, Reader},
};
use bytes::Bytes;
use sqlx::PgPool;
use tokio::net::TcpListener;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use super::{
    certificates::{Authority, Certificate},
    database::Database,
    eventually, logged,
};

const POLL: Duration = Duration::from_millis(25);
const CONNECTIONS_MAX: u32 = 6;

pub(crate) struct Deployment {
    authority: Authority,
    pub(crate) key: DeploymentKey,
}

/// What stays of a site while none of its processes runs.
pub(crate) struct Place {
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    listener: Option<TcpListener>,
    certificate: Arc<Certificate>,
    database: Arc<Database>,
    key: DeploymentKey,
    /// So many records behind, it takes a snapshot.
    pub(crate) snapshot_beyond: u64,
}

/// One `brurid`.
pub(crate) struct Site {
    pub(crate) place: Place,
    pub(crate) store: Store,
    pub(crate) pool: PgPool,
    commits: Commits,
    lookup: Lookup,
    pub(crate) replication: Replication,
    stop: CancellationToken,
    tasks: TaskTracker,
    /// Stops it when a test ends early.
    _stop: DropGuard,
}

impl Deployment {
    pub(crate) fn new() -> Self {
        logged::start();
        Self { authority: Authority::new(), key: DeploymentKey::new([7; 32]) }
    }

    pub(crate) fn tls(&self, site: &str) -> Tls {
        self.authority.issue(site).tls()
    }

    pub(crate) async fn place(&self, name: &str) -> Place {
        self.place_with_key(name, self.key.clone()).await
    }

    pub(crate) async fn place_with_key(&self, name: &str, key: DeploymentKey) -> Place {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        Place {
            name: name.to_owned(),
            address: listener.local_addr().unwrap(),
            listener: Some(listener),
            certificate: Arc::new(self.authority.issue(name)),
            database: Arc::new(Database::create().await),
            key,
            snapshot_beyond: SNAPSHOT_LAG_RECORDS_DEFAULT,
        }
    }

    /// Two sites that are each other's peers, and live.
    pub(crate) async fn two(&self, names: [&str; 2]) -> (Site, Site) {
        let (a, b) = (self.place(names[0]).await, self.place(names[1]).await);
        let (at_a, at_b) = (a.address, b.address);
        let (a, b) = (a.start(&[at_b]).await, b.start(&[at_a]).await);
        a.live().await;
        b.live().await;
        (a, b)
    }
}

/// What came of a question.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) told: Arc<Told>,
    pub(crate) content: Option<Bytes>,
}

impl Place {
    pub(crate) async fn start(mut self, peers: &[SocketAddr]) -> Site {
        let pool = bruri_store::connect(self.database.options(), CONNECTIONS_MAX).await.unwrap();
        let site = SiteName::parse(&self.name).unwrap();
        let options = Options { site, key: self.key.clone(), clock: Arc::new(TestClock) };
        let store = Store::open(pool.clone(), options).await.unwrap();
        let (commits, committer) = Committer::new(store.clone());
        let (lookup, reader) = Reader::new(store.clone());
        let peers: Vec<String> = peers.iter().map(ToString::to_string).collect();
        let tls = self.certificate.tls();
        let replication =
            Replication::new(store.clone(), tls, &peers, Dials::All, "0.1.0").await.unwrap();
        replication.snapshot_beyond(self.snapshot_beyond);
        let listener = match self.listener.take() {
            Some(listener) => listener,
            None => TcpListener::bind(self.address).await.unwrap(),
        };

        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(committer.run());
        tasks.spawn(reader.run());
        let (polling, polled) = (store.clone(), stop.clone());
        tasks.spawn(async move { polling.poll_changes(POLL, polled).await });
        let (running, stopped) = (replication.clone(), stop.clone());
        tasks.spawn(async move { running.run(stopped).await.unwrap() });
        let (serving, stopped) = (replication.clone(), stop.clone());
        tasks.spawn(
            async move { serving.serve(listener, Doors::default(), stopped).await.unwrap() },
        );
        let guard = stop.clone().drop_guard();
        let place = self;
        Site { place, store, pool, commits, lookup, replication, stop, tasks, _stop: guard }
    }
}

impl Site {
    /// Another process of the same site, on the same database.
    pub(crate) async fn twin(&self, peers: &[SocketAddr]) -> Site {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let place = Place {
            name: self.place.name.clone(),
            address: listener.local_addr().unwrap(),
            listener: Some(listener),
            certificate: Arc::clone(&self.place.certificate),
            database: Arc::clone(&self.place.database),
            key: self.place.key.clone(),
            snapshot_beyond: self.place.snapshot_beyond,
        };
        place.start(peers).await
    }

    /// Ends the process and tells how long that took.
    pub(crate) async fn stop(self) -> (Place, Duration) {
        let began = Instant::now();
        self.stop.cancel();
        drop((self.commits, self.lookup));
        self.tasks.close();
        self.tasks.wait().await;
        let took = began.elapsed();
        self.pool.close().await;
        (self.place, took)
    }

    pub(crate) async fn put(&self, file: &str, content: impl Into<Bytes>) -> Committed {
        self.commit(file, Some(content.into())).await
    }

    pub(crate) async fn remove(&self, file: &str) -> Committed {
        self.commit(file, None).await
    }

    /// The phone that backs up gets what is served, and has seen it from now on.
    pub(crate) async fn restore(&self, file: &str) {
        let file = file_id(file);
        let seen = self.lookup.served(&file).await.unwrap().remembered;
        self.store.remember(Mark { file, phone: (&phone()).into() }, seen);
    }

    async fn commit(&self, file: &str, content: Option<Bytes>) -> Committed {
        let backup =
            Backup { file: file_id(file), content, author: Author::Phone(phone()), suspect: false };
        self.commits.commit(&self.store, backup).await.unwrap()
    }

    /// Many small files at once, named from `extensions`.
    pub(crate) async fn put_many(&self, extensions: std::ops::Range<u32>) {
        let put = |extension: u32| async move {
            self.put(&file(extension), format!("Name={extension}\r\n")).await;
        };
        for some in extensions.collect::<Vec<_>>().chunks(512) {
            futures_util::future::join_all(some.iter().copied().map(put)).await;
        }
    }

    pub(crate) async fn get(&self, file: &str) -> Option<Bytes> {
        let served = self.lookup.served(&file_id(file)).await.unwrap();
        served.version.map(|found| found.content)
    }

    /// Waits until a phone gets this, woken by what arrives.
    pub(crate) async fn until_served(&self, file: &str, content: Option<&[u8]>) {
        let mut changes = self.store.changes();
        let wait = async {
            while self.get(file).await.as_deref() != content {
                changes.changed().await.unwrap();
            }
        };
        let served = tokio::time::timeout(super::PATIENCE, wait).await;
        served.unwrap_or_else(|_| panic!("{} does not serve that of {file}", self.place.name));
    }

    /// What peers tell of a file, and what a phone would get of it.
    pub(crate) async fn ask(&self, file: &str, within: Duration) -> Asked {
        let file = file_id(file);
        let here = self.store.known_of(&file).await.unwrap();
        let told = self.replication.ask(&file, &here, within).await;
        let joined = here.joined(&told.state);
        let body = joined.served().and_then(|head| head.body);
        let content = match body.map(|body| told.bodies.get(&body.sha256).cloned().ok_or(body)) {
            None => None,
            Some(Ok(content)) => Some(content),
            Some(Err(body)) => self.store.contents(&[body]).await.unwrap().remove(&body.sha256),
        };
        Asked { told, content }
    }

    /// Until when it is level with all that are not away, and how many are.
    pub(crate) fn read(&self) -> (Option<tokio::time::Instant>, usize) {
        self.replication.read()
    }

    /// Waits until it knows itself to be level with all that are not away, as of a short time ago.
    pub(crate) async fn until_fresh(&self) {
        let soon = Duration::from_millis(300);
        eventually("fresh", async || self.read().0.is_some_and(|until| until.elapsed() < soon))
            .await;
    }

    /// The logs of which at least one record is known.
    pub(crate) async fn vector(&self) -> Vec<Cursor> {
        let mut vector = self.store.vector().await.unwrap();
        vector.retain(|cursor| cursor.sequence > 0);
        vector
    }

    /// The peer at an address.
    pub(crate) fn peer(&self, address: SocketAddr) -> PeerStatus {
        let address = address.to_string();
        self.replication.peers().into_iter().find(|peer| peer.address == address).unwrap()
    }

    /// Waits until all its peers are live.
    pub(crate) async fn live(&self) {
        let live = |peer: &PeerStatus| peer.state == PeerState::Live;
        eventually("all peers live", async || self.replication.peers().iter().all(live)).await;
    }

    /// Waits until a peer is so, and tells how long that took.
    pub(crate) async fn until(&self, address: SocketAddr, state: PeerState) -> Duration {
        eventually(&format!("{state:?}"), async || self.peer(address).state == state).await
    }
}

fn phone() -> Phone {
    Phone::new([192, 0, 2, 1].into(), b"AVAYA/J179-4.0.7.0")
}

pub(crate) fn file(extension: u32) -> String {
    format!("{extension}_16xxdata.txt")
}

pub(crate) fn file_id(name: &str) -> FileId {
    FileId { realm: RealmId::parse("default").unwrap(), name: FileName::parse(name).unwrap() }
}

/// Real time, counted from a fixed day: the same at all sites, and after a restart.
struct TestClock;

impl Clock for TestClock {
    fn now_micros(&self) -> u64 {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        1_760_000_000_000_000 + u64::try_from(START.elapsed().as_micros()).unwrap()
    }
}
