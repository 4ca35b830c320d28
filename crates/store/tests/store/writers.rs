//! Many writers, several `brurid` and one database: law 3 as a reader of the log sees it, and what a
//! reader of a `bigserial` sees instead.

use std::collections::BTreeSet;

use bruri_domain::{Chain, Cursor, LogId};
use bruri_store::Store;
use sqlx::{
    Executor as _, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::task::JoinSet;

use crate::kit::{Site, file_of, verify_logs};

const WRITERS: usize = 64;
const BACKUPS_EACH: usize = 20;

async fn files_log(store: &Store) -> Cursor {
    let vector = store.vector().await.unwrap();
    vector.into_iter().find(|cursor| cursor.log.kind == bruri_domain::LogKind::Files).unwrap()
}

/// Reads from its cursor, again and again, until it has so many records; returns the chain of what it has
/// read and how often it asked.
async fn poll(store: Store, log: LogId, mut chain: Chain, count: u64) -> (Chain, u32) {
    let (mut sequence, mut turns) = (0, 0);
    while sequence < count {
        // A gap would be an error.
        let page = store.records_after(&log, sequence).await.unwrap();
        for record in page.records {
            sequence += 1;
            chain = chain.next(&record.envelope);
        }
        turns += 1;
        tokio::task::yield_now().await;
    }
    (chain, turns)
}

async fn write(site: &Site, writer: usize) {
    for n in 0..BACKUPS_EACH {
        // Every other one goes to a file that several write.
        let file = if n % 2 == 0 { file_of(writer) } else { file_of(1000 + writer % 5) };
        site.put(&file, format!("{writer} {n}")).await;
    }
}

/// Law 3.
#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_reader_misses_nothing_that_64_writers_commit_through_two_processes(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let sites = [Site::open("london", &database).await, Site::open("london", &database).await];
    let log = files_log(&sites[0].store).await;
    let count = (WRITERS * BACKUPS_EACH) as u64;
    let mut readers = JoinSet::new();
    for site in &sites {
        let (store, id) = (site.store.clone(), log.log.id.clone());
        readers.spawn(poll(store, id, log.chain, count));
    }
    let writers = (0..WRITERS).map(|writer| write(&sites[writer % 2], writer));
    futures_util::future::join_all(writers).await;

    let end = files_log(&sites[0].store).await;
    assert_eq!(end.sequence, count);
    while let Some(read) = readers.join_next().await {
        let (chain, turns) = read.unwrap();
        assert_eq!(chain, end.chain);
        assert!(turns > 20, "it read while they wrote: {turns}");
    }
    assert_eq!(verify_logs(&sites[0].store, &sites[0].pool).await, count);
    for site in sites {
        site.close().await;
    }
}

/// Reads a table with a `bigserial` as [`poll`] reads a log.
#[derive(Default)]
struct TwinReader {
    last: i64,
    seen: BTreeSet<i64>,
}

impl TwinReader {
    async fn turn(&mut self, pool: &PgPool) {
        let new = sqlx::query_scalar::<_, i64>("select id from twin where id > $1 order by id")
            .bind(self.last)
            .fetch_all(pool)
            .await
            .unwrap();
        self.last = new.last().copied().unwrap_or(self.last);
        self.seen.extend(new);
    }
}

const INSERT: &str = "insert into twin (content) values ('a')";

async fn twin(database: &PgConnectOptions) -> PgPool {
    let options = PgPoolOptions::new().max_connections(17);
    let pool = options.connect_with(database.clone()).await.unwrap();
    pool.execute("create table twin (id bigserial primary key, content text)").await.unwrap();
    pool
}

/// Why the counter row: the same reader over a `bigserial`. Eight at a time, the writers commit in another
/// order than they took their numbers.
#[sqlx::test]
async fn a_reader_of_a_bigserial_misses_rows_of_64_writers(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let pool = twin(&database).await;
    let mut reader = TwinReader::default();
    for _ in 0..WRITERS / 8 {
        let mut open = Vec::new();
        for _ in 0..8 {
            let mut transaction = pool.begin().await.unwrap();
            transaction.execute(INSERT).await.unwrap();
            open.push(transaction);
        }
        while let Some(transaction) = open.pop() {
            transaction.commit().await.unwrap();
            reader.turn(&pool).await;
        }
    }
    assert_eq!(reader.seen.len(), WRITERS / 8, "of every eight it saw the one that came first");
    pool.close().await;
}

/// The same under plain concurrency, where it is a matter of chance: it only tells.
#[sqlx::test]
async fn the_share_of_rows_that_a_reader_of_a_bigserial_misses_is_told(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let pool = twin(&database).await;
    let mut writers = JoinSet::new();
    for _ in 0..WRITERS {
        let pool = pool.clone();
        writers.spawn(async move {
            for _ in 0..BACKUPS_EACH {
                let mut transaction = pool.begin().await.unwrap();
                transaction.execute(INSERT).await.unwrap();
                transaction.commit().await.unwrap();
            }
        });
    }
    let mut reader = TwinReader::default();
    while !writers.is_empty() {
        reader.turn(&pool).await;
        while let Some(ended) = writers.try_join_next() {
            ended.unwrap();
        }
    }
    reader.turn(&pool).await;
    let count = WRITERS * BACKUPS_EACH;
    let missed = count - reader.seen.len();
    println!("a reader of a bigserial missed {missed} of {count} rows");
    pool.close().await;
}
