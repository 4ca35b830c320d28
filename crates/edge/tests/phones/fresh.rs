//! How fresh an answer is, and what peers add to it.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bruri_domain::{
    Author, Body, Dot, Epoch, FileId, FileState, LogId, Sha256, SiteName, Stamp, Version,
};
use bruri_edge::{Limits, Peers, Standing, Told};
use bytes::Bytes;
use sqlx::PgPool;
use tokio::time::Instant;

use crate::kit::{Site, put};

const FILE: &str = "/299_16xxdata.txt";

/// Peers that say what they are told to.
#[derive(Default)]
struct Scripted {
    standing: Mutex<Standing>,
    told: Mutex<Told>,
    asked: AtomicUsize,
    within: Mutex<Option<Duration>>,
    /// What they turn out to have when they are asked next.
    newer: Mutex<Option<&'static [u8]>>,
}

impl Peers for Scripted {
    fn read(&self) -> Standing {
        *self.standing.lock().unwrap()
    }

    fn ask<'a>(
        &'a self,
        file: &'a FileId,
        known: &'a FileState,
        within: Duration,
    ) -> Pin<Box<dyn Future<Output = Told> + Send + 'a>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        *self.within.lock().unwrap() = Some(within);
        let mut told = self.told.lock().unwrap().clone();
        if let Some(content) = self.newer.lock().unwrap().take() {
            told.state = superseding(file, known, content);
            let content = Bytes::from_static(content);
            told.bodies.insert(Sha256::of(&content), content);
            *self.told.lock().unwrap() = told.clone();
        }
        Box::pin(async move { told })
    }
}

/// The state of a peer whose phone had seen all that is known here, and wrote.
fn superseding(file: &FileId, known: &FileState, content: &[u8]) -> FileState {
    let site = SiteName::parse("tokyo").unwrap();
    let dot = Dot { log: LogId { site, epoch: Epoch(1) }, sequence: 7 };
    let version = Version {
        random: [0; 16],
        // Its clock is ahead: it is served wherever it is a head.
        stamp: Stamp { trusted: true, micros: u64::MAX / 2 },
        file: file.clone(),
        context: known.whole_context(),
        body: Some(Body::of(content)),
        suspect: false,
        author: Author::Unknown,
    };
    let mut state = known.clone();
    state.apply(&dot, known.generation(), &version);
    state
}

async fn among(pool: PgPool) -> (Site, Arc<Scripted>) {
    let peers = Arc::new(Scripted::default());
    let site = Site::start_among(pool, Limits::default(), Arc::clone(&peers) as _).await;
    (site, peers)
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_site_alone_answers_by_itself(pool: PgPool) {
    let site = Site::start(pool).await;
    let missing = site.get(FILE).await;
    assert_eq!(missing.status, 404);
    assert!(missing.header("bruri-freshness").unwrap().starts_with("bounded="));
    site.put(FILE, b"Name=a").await;
    assert!(site.get(FILE).await.header("bruri-freshness").unwrap().starts_with("bounded="));
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn peers_are_asked_only_where_what_is_known_of_them_is_too_old(pool: PgPool) {
    let (site, peers) = among(pool).await;
    peers.told.lock().unwrap().is_complete = true;
    let ago = |millis| Instant::now().checked_sub(Duration::from_millis(millis));
    *peers.standing.lock().unwrap() = Standing { until: ago(100), away: 1 };
    let fresh = site.get(FILE).await;
    let header = fresh.header("bruri-freshness").unwrap();
    let millis = header.strip_prefix("bounded=").unwrap().strip_suffix("; away=1").unwrap();
    assert!(millis.parse::<u64>().unwrap() >= 100, "{header}");
    assert_eq!(peers.asked.load(Ordering::Relaxed), 0);
    for until in [ago(400), None] {
        *peers.standing.lock().unwrap() = Standing { until, away: 0 };
        assert_eq!(site.get(FILE).await.header("bruri-freshness"), Some("asked"));
    }
    assert_eq!(peers.asked.load(Ordering::Relaxed), 2);
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn what_a_peer_tells_is_served_and_seen_and_never_stored(pool: PgPool) {
    let (site, peers) = among(pool).await;
    site.put(FILE, b"Name=here").await;
    peers.told.lock().unwrap().is_complete = true;
    *peers.newer.lock().unwrap() = Some(b"Name=there");
    let records = site.records().await;

    let reply = site.get(FILE).await;
    assert_eq!(
        (reply.text().as_str(), reply.header("bruri-freshness")),
        ("Name=there", Some("asked"))
    );
    let mut client = site.connect().await;
    client.send(format!("HEAD {FILE} HTTP/1.1\r\nHost: bruri\r\n\r\n")).await;
    assert_eq!(client.head_reply().await.header("content-length"), Some("10"));
    assert_eq!(site.records().await, records);

    // What the phone writes now was written with knowledge of the peer's version.
    assert_eq!(site.ask(put(FILE, b"Name=after")).await.status, 204);
    assert_eq!(site.get(FILE).await.text(), "Name=after");
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_phone_that_puts_back_what_is_here_after_it_was_told_of_a_newer_one_is_heard(
    pool: PgPool,
) {
    let (site, peers) = among(pool).await;
    site.put(FILE, b"Name=here").await;
    *peers.newer.lock().unwrap() = Some(b"Name=there");
    assert_eq!(site.get(FILE).await.text(), "Name=there");
    let records = site.records().await;
    assert_eq!(site.put(FILE, b"Name=here").await, 204);
    assert_eq!(site.records().await, records + 1);
    assert_eq!(site.get(FILE).await.text(), "Name=here");
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn where_a_site_has_nothing_it_waits_longer_and_says_what_it_does_not_know(pool: PgPool) {
    let (site, peers) = among(pool).await;
    peers.told.lock().unwrap().away = 2;
    assert_eq!(site.get(FILE).await.header("bruri-freshness"), Some("local; away=2"));
    assert_eq!(peers.within.lock().unwrap().take(), Some(Duration::from_secs(1)));
    site.put(FILE, b"Name=here").await;
    assert_eq!(site.get(FILE).await.header("bruri-freshness"), Some("local; away=2"));
    assert_eq!(peers.within.lock().unwrap().take(), Some(Duration::from_millis(150)));
}
