//! When the epoch of a site's logs ends, and that it ends once.

use std::{path::PathBuf, time::Duration};

use bruri_domain::{Chain, Cursor, Dot, Epoch, LogKind, Sha256, SiteName};
use futures_util::future::join_all;
use sqlx::{
    AssertSqlSafe, Executor as _, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::kit::{Origin, Site, Twin, dump, file_of, number, pull, pull_own, verify_logs};

/// A file that vanishes with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let name = format!("bruri-store-witness-{}-{name}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The site's open log of files, or of another kind.
async fn open_log(site: &Site, kind: LogKind) -> Cursor {
    let vector = site.store.vector().await.unwrap();
    let mut open = vector.into_iter().filter(|at| site.store.appends_to(&at.log.id));
    open.find(|at| at.log.kind == kind).unwrap()
}

async fn files(site: &Site) -> Cursor {
    open_log(site, LogKind::Files).await
}

async fn change(pool: &PgPool, statement: String) {
    pool.execute(AssertSqlSafe(statement)).await.unwrap();
}

/// What a standby has that was promoted: the log of files as it was then. In the test's own words:
/// the last records are gone, of files of their own.
async fn lose_tail(site: &Site, to: &Cursor) {
    let row = format!("(select id from log where epoch = {})", to.log.id.epoch.0.cast_signed());
    let sequence = to.sequence;
    change(&site.pool, format!("delete from record where log = {row} and sequence > {sequence}"))
        .await;
    let chain = to.chain;
    let set = format!("sequence = {sequence}, chain = '\\x{chain}'");
    change(&site.pool, format!("update log set {set} where id = {row}")).await;
}

/// The new log names where the old one was left, and both logs of the site begin anew.
async fn assert_succeeds(site: &Site, old: &Cursor) {
    let new = files(site).await;
    let predecessor = new.log.predecessor.unwrap();
    assert_ne!(new.log.id, old.log.id);
    assert_eq!(
        (predecessor.epoch, predecessor.sequence, predecessor.chain),
        (old.log.id.epoch, old.sequence, old.chain)
    );
    let control = open_log(site, LogKind::Control).await;
    assert!(control.log.predecessor.is_some());
    assert_eq!(number(&site.pool, "select count(*) from log where is_open").await, 2);
    verify_logs(&site.store, &site.pool).await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn on_another_database_the_next_number_is_of_a_new_epoch(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open("london", &database).await;
    site.put(&file_of(1), "a").await;
    let old = files(&site).await;
    let known = "select count(*) from log where identity ~ '^[0-9]+/[0-9A-F]{8}$'";
    assert_eq!(number(&site.pool, known).await, 2, "the test's Postgres tells who it is");
    change(&site.pool, "update log set identity = '1/00000001'".to_owned()).await;

    let dot = site.put(&file_of(1), "b").await.dot.unwrap();

    assert_eq!(dot.sequence, 1);
    assert_succeeds(&site, &old).await;
    assert_eq!(site.put(&file_of(1), "c").await.dot.unwrap().sequence, 2);
    assert_eq!(site.get(&file_of(1)).await.unwrap(), "c");
    site.close().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_database_that_does_not_tell_who_it_is_goes_on(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open("london", &database).await;
    change(&site.pool, "update log set identity = null".to_owned()).await;
    site.put(&file_of(1), "a").await;
    assert_eq!(files(&site).await.sequence, 1);
    let adopted = "select count(*) from log where kind = 2 and identity is not null";
    assert_eq!(number(&site.pool, adopted).await, 1);
    site.close().await;
}

/// Law 3.
#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn however_many_processes_number_one_new_epoch_is_opened_and_no_number_given_in_the_old(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let mut sites = Vec::new();
    for _ in 0..4 {
        sites.push(Site::open("london", &database).await);
    }
    for n in 0..8 {
        sites[n % 4].put(&file_of(n), "before").await;
    }
    let old = files(&sites[0]).await;
    change(&sites[0].pool, "update log set identity = '1/00000001'".to_owned()).await;

    let writers = (0..64).map(|n| {
        let site = &sites[n % 4];
        async move { site.put(&file_of(n), format!("after {n}")).await.dot.unwrap() }
    });
    let dots = join_all(writers).await;

    assert_succeeds(&sites[0], &old).await;
    let new = files(&sites[0]).await;
    assert!(dots.iter().all(|dot| dot.log == new.log.id), "{dots:?}");
    assert_eq!(new.sequence, 64);
    assert_eq!(number(&sites[0].pool, "select count(*) from log").await, 4);
    for site in sites {
        site.close().await;
    }
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn what_this_process_saw_committed_and_the_database_lost_ends_the_epoch(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open("london", &database).await;
    site.put(&file_of(1), "a").await;
    let kept = files(&site).await;
    site.put(&file_of(2), "b").await;
    site.put(&file_of(3), "c").await;
    lose_tail(&site, &kept).await;

    let dot = site.put(&file_of(1), "d").await.dot.unwrap();

    assert_eq!(dot.sequence, 1);
    assert_succeeds(&site, &kept).await;
    site.close().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn another_record_where_this_process_committed_one_ends_the_epoch(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let (one, other) =
        (Site::open("london", &database).await, Site::open("london", &database).await);
    one.put(&file_of(1), "a").await;
    let kept = files(&one).await;
    one.put(&file_of(2), "b").await;
    lose_tail(&one, &kept).await;
    // It has seen nothing of it, and no peer tells it: this is the fork.
    other.put(&file_of(3), "c").await;
    other.put(&file_of(3), "d").await;
    let forked = files(&other).await;
    assert_eq!(forked.sequence, 3);

    assert_eq!(one.put(&file_of(1), "e").await.dot.unwrap().sequence, 1);

    assert_succeeds(&one, &forked).await;
    assert_eq!(other.put(&file_of(3), "f").await.dot.unwrap().log, files(&one).await.log.id);
    one.close().await;
    other.close().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_witness_that_has_seen_less_says_nothing_and_one_that_was_kept_ends_the_epoch_at_the_start(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let scratch = Scratch::new("start");
    let site = Site::open("london", &database).await;
    site.store.keep_witness(&scratch.0).await.unwrap();
    site.put(&file_of(1), "a").await;
    let kept = files(&site).await;
    let other = Site::open("london", &database).await;
    other.put(&file_of(2), "b").await;
    site.close().await;

    let site = Site::open("london", &database).await;
    site.store.keep_witness(&scratch.0).await.unwrap();
    assert_eq!(files(&site).await.log.id, kept.log.id, "others append, too");
    site.put(&file_of(3), "c").await;
    site.close().await;

    lose_tail(&other, &kept).await;
    let site = Site::open("london", &database).await;
    site.store.keep_witness(&scratch.0).await.unwrap();

    assert_succeeds(&site, &kept).await;
    other.close().await;
    site.close().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_witness_of_an_epoch_that_the_database_does_not_know_ends_the_open_one(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let scratch = Scratch::new("epoch");
    let site = Site::open("london", &database).await;
    site.store.keep_witness(&scratch.0).await.unwrap();
    site.put(&file_of(1), "a").await;
    change(&site.pool, "update log set epoch = 77 where kind = 2".to_owned()).await;
    site.close().await;

    let site = Site::open("london", &database).await;
    let open = files(&site).await;
    assert_eq!(open.log.id.epoch, Epoch(77));
    site.store.keep_witness(&scratch.0).await.unwrap();
    assert_eq!(files(&site).await.log.predecessor.unwrap().epoch, Epoch(77));
    site.close().await;
}

/// A machine that was rolled back with its witness may have told peers of numbers that none holds a record of.
#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn alone_and_without_a_witness_of_this_boot_nothing_is_numbered_in_the_open_epoch(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let (first, lost) = (Scratch::new("first"), Scratch::new("lost"));
    let site = Site::open("london", &database).await;
    site.store.keep_witness(&first.0).await.unwrap();
    site.store.wait_for_peers();
    site.put(&file_of(1), "a").await;
    let kept = files(&site).await;
    assert_eq!(kept.sequence, 1, "the first epoch of all is in no doubt");
    site.close().await;

    let site = Site::open("london", &database).await;
    site.store.keep_witness(&first.0).await.unwrap();
    site.store.wait_for_peers();
    site.put(&file_of(1), "b").await;
    assert_eq!(files(&site).await.log.id, kept.log.id, "the witness is of this boot");
    site.close().await;

    let answered = Site::open("london", &database).await;
    answered.store.keep_witness(&lost.0).await.unwrap();
    answered.store.wait_for_peers();
    answered.store.peer_answered();
    answered.put(&file_of(1), "c").await;
    assert_eq!(files(&answered).await.log.id, kept.log.id, "a peer has told what it has");
    let old = files(&answered).await;
    answered.close().await;

    let (one, other) =
        (Site::open("london", &database).await, Site::open("london", &database).await);
    for site in [&one, &other] {
        std::fs::remove_file(&lost.0).unwrap();
        site.store.keep_witness(&lost.0).await.unwrap();
        site.store.wait_for_peers();
    }
    let (d, e) = (file_of(1), file_of(2));
    let (d, e) = tokio::join!(one.put(&d, "d"), other.put(&e, "e"));
    let (d, e) = (d.dot.unwrap(), e.dot.unwrap());
    assert_eq!(d.log, e.log, "two processes open one epoch");
    assert_eq!(d.sequence + e.sequence, 3);
    assert_succeeds(&one, &old).await;
    one.put(&file_of(1), "f").await;
    assert_eq!(files(&one).await.log.id, d.log, "one epoch is enough");
    one.close().await;
    other.close().await;
}

/// The first to answer may be the one that knows least.
#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn in_doubt_every_peer_has_a_second_to_tell_what_it_read_before_anything_is_numbered(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let lost = Scratch::new("second");
    let site = Site::open("london", &database).await;
    site.put(&file_of(1), "a").await;
    let kept = files(&site).await;
    site.close().await;

    let site = Site::open("london", &database).await;
    site.store.keep_witness(&lost.0).await.unwrap();
    site.store.wait_for_peers();
    site.store.peer_answered();
    let file = file_of(1);
    let mut put = Box::pin(site.put(&file, "b"));
    let at_once = tokio::time::timeout(Duration::from_millis(500), &mut put).await;
    assert!(at_once.is_err(), "the second has not passed");
    let read = Dot { log: kept.log.id.clone(), sequence: 9 };
    site.store.peer_was_told(&[read]).await.unwrap();
    site.store.peer_answered();
    let put = put.await;
    assert_ne!(put.dot.unwrap().log, kept.log.id, "a number that was read is not given again");
    assert_succeeds(&site, &kept).await;
    site.close().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_peer_that_has_more_or_another_record_ends_the_epoch_and_one_that_has_less_does_not(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open("london", &database).await;
    site.put(&file_of(1), "a").await;
    let less = files(&site).await;
    site.put(&file_of(1), "b").await;
    let all = files(&site).await;
    let before = dump(&site.pool).await;
    let mut elsewhere = all.clone();
    elsewhere.log.id.site = SiteName::parse("tokyo").unwrap();
    elsewhere.sequence = 99;
    for harmless in [&less, &all, &elsewhere] {
        assert!(site.store.peer_has(std::slice::from_ref(harmless)).await.unwrap().is_empty());
    }
    assert_eq!(dump(&site.pool).await, before);

    let ahead = Cursor { sequence: 3, chain: Chain(Sha256::of(b"c")), ..all.clone() };
    assert!(site.store.peer_has(std::slice::from_ref(&ahead)).await.unwrap().is_empty());
    assert_succeeds(&site, &all).await;
    let next = files(&site).await;
    site.put(&file_of(1), "c").await;
    assert!(site.store.peer_has(&[ahead]).await.unwrap().is_empty());
    assert_eq!(files(&site).await.log.id, next.log.id, "of a closed log the peer may have more");

    let first = files(&site).await;
    let forked = Cursor { chain: Chain(Sha256::of(b"x")), ..first.clone() };
    let told = site.store.peer_has(&[forked]).await.unwrap();
    assert_eq!(told.first(), Some(&first.log.id), "it forked, and is to be set back");
    assert_succeeds(&site, &first).await;
    site.close().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_log_that_only_a_peer_knows_ends_the_epoch_once_and_is_taken_back(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open("london", &database).await;
    let mut lost = Origin::new("london", 7);
    lost.backup(&file_of(1), b"lost", 5);
    let batch = lost.batch();
    for _ in 0..2 {
        site.store.peer_has(std::slice::from_ref(&batch.to)).await.unwrap();
        assert_eq!(number(&site.pool, "select count(*) from log").await, 5);
    }
    assert!(!site.store.appends_to(lost.log()));

    site.store.apply(&batch).await.unwrap();

    assert_eq!(site.get(&file_of(1)).await.unwrap(), "lost");
    assert_eq!(verify_logs(&site.store, &site.pool).await, 1);
    site.close().await;
}

/// Law 1.
#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn the_lost_tail_of_an_old_epoch_comes_back_from_a_peer_beside_what_was_written_since(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let twin = Twin::create(&database, 1).await;
    let (london, tokyo) =
        (Site::open("london", &database).await, Site::open("tokyo", &twin.options).await);
    london.put(&file_of(1), "a").await;
    let kept = files(&london).await;
    for n in 2..9 {
        london.put(&file_of(n), format!("{n}")).await;
    }
    pull(&london.store, &tokyo.store).await;
    let theirs = files_at(&tokyo, &kept).await;
    lose_tail(&london, &kept).await;
    change(&london.pool, "delete from file where name <> '1_16xxdata.txt'".to_owned()).await;
    london.put(&file_of(1), "since").await;

    pull_own(&tokyo.store, &london.store).await;
    pull(&london.store, &tokyo.store).await;

    assert_eq!(files_at(&london, &kept).await, theirs);
    for site in [&london, &tokyo] {
        assert_eq!(site.get(&file_of(1)).await.unwrap(), "since");
        assert_eq!(site.get(&file_of(8)).await.unwrap(), "8");
        assert_eq!(verify_logs(&site.store, &site.pool).await, 9);
    }
    london.close().await;
    tokyo.close().await;
    twin.drop_it().await;
}

/// How far a site has that log.
async fn files_at(site: &Site, log: &Cursor) -> Cursor {
    let vector = site.store.vector().await.unwrap();
    vector.into_iter().find(|at| at.log.id == log.log.id).unwrap()
}
