//! The bounds of a group and of the queue, and what happens to a group that the database turns down.

use bruri_domain::{
    FileId,
    limits::{
        COMMIT_BYTES_MAX, COMMIT_QUEUE_BYTES_MAX, COMMIT_QUEUE_MAX, COMMIT_RECORDS_MAX,
        FILE_BYTES_MAX,
    },
};
use bruri_store::{Committed, Outcome, StoreError};
use bytes::Bytes;
use futures_util::future::{join, join_all};
use sqlx::{
    ConnectOptions as _, Connection as _, Executor as _,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::kit::{Site, Waiting, file_of, number, until, verify_logs};

type Answers = Vec<Result<Committed, StoreError>>;

fn sequences(answers: Answers) -> Vec<u64> {
    answers.into_iter().map(|answer| answer.unwrap().dot.unwrap().sequence).collect()
}

/// `count` files of their own with different bodies of so many bytes.
fn files(count: usize, bytes: usize) -> Vec<(FileId, Vec<u8>)> {
    let content = |n: usize| {
        let mut content = vec![b'x'; bytes];
        content[..8].copy_from_slice(&n.to_be_bytes());
        content
    };
    (0..count).map(|n| (file_of(n), content(n))).collect()
}

/// The records of one transaction have the same `xmin`.
const LARGEST_GROUP: &str =
    "select max(n) from (select count(*) as n from record group by xmin::text) as g";
const LARGEST_GROUP_BYTES: &str =
    "select max(n)::bigint from (select sum(bytes) as n from record join body on sha256 = body
                                  group by record.xmin::text) as g";

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn more_backups_than_a_group_holds_are_all_answered_in_order(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open_idle("london", &database).await;
    let answers = site.commit_together(&files(300, 10)).await;
    assert_eq!(sequences(answers), (1..=300).collect::<Vec<_>>());
    assert_eq!(number(&site.pool, LARGEST_GROUP).await.cast_unsigned(), COMMIT_RECORDS_MAX as u64);
    verify_logs(&site.store, &site.pool).await;
    site.close().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_group_holds_1_mib_at_most(_: PgPoolOptions, database: PgConnectOptions) {
    let site = Site::open_idle("london", &database).await;
    let mut backups = files(9, 300 * 1024);
    backups.insert(4, (file_of(99), vec![b'y'; FILE_BYTES_MAX]));
    let answers = site.commit_together(&backups).await;
    let mut numbers = sequences(answers);
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=10).collect::<Vec<_>>());
    assert_eq!(number(&site.pool, LARGEST_GROUP).await, 3);
    let largest = number(&site.pool, LARGEST_GROUP_BYTES).await;
    assert_eq!(largest.cast_unsigned(), COMMIT_BYTES_MAX as u64);
    site.close().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_file_whose_large_version_had_to_wait_is_not_overtaken_by_its_next_one(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open_idle("london", &database).await;
    let large = |byte: u8| vec![byte; 600 * 1024];
    let (a, b) = (file_of(1), file_of(2));
    let backups = [(a, large(b'a')), (b.clone(), large(b'b')), (b.clone(), b"next".to_vec())];
    let answers = site.commit_together(&backups).await;
    assert_eq!(answers[2].as_ref().unwrap().outcome, Outcome::Replaced);
    assert_eq!(sequences(answers), [1, 2, 3]);
    assert_eq!(site.get(&b).await, Some(Bytes::from("next")));
    site.close().await;
}

fn count(answers: &Answers, is_it: fn(&Result<Committed, StoreError>) -> bool) -> usize {
    answers.iter().filter(|answer| is_it(answer)).count()
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_full_queue_turns_away_the_next_and_stores_the_others(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open_idle("london", &database).await;
    let answers = site.commit_together(&files(COMMIT_QUEUE_MAX + 7, 10)).await;
    assert_eq!(count(&answers, Result::is_ok), COMMIT_QUEUE_MAX);
    assert_eq!(count(&answers, |answer| matches!(answer, Err(StoreError::Busy))), 7);
    assert_eq!(verify_logs(&site.store, &site.pool).await, COMMIT_QUEUE_MAX as u64);
    assert_eq!(site.put(&file_of(5000), "a").await.outcome, Outcome::Created);
    site.close().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_queue_full_of_bytes_turns_away_the_next_until_some_are_stored(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open_idle("london", &database).await;
    let fitting = COMMIT_QUEUE_BYTES_MAX / FILE_BYTES_MAX;
    let answers = site.commit_together(&files(fitting + 2, FILE_BYTES_MAX)).await;
    assert_eq!(count(&answers, Result::is_ok), fitting);
    assert_eq!(count(&answers, |answer| matches!(answer, Err(StoreError::Busy))), 2);
    assert_eq!(site.put(&file_of(5000), vec![1; FILE_BYTES_MAX]).await.outcome, Outcome::Created);
    site.close().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_group_that_the_database_ends_as_a_deadlock_is_tried_again(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open("london", &database).await;
    site.put(&file_of(1), "a").await;
    site.put(&file_of(2), "a").await;
    // Somebody else who locks files in the opposite order, and never gives in.
    let mut other = database.connect().await.unwrap();
    other.execute("set deadlock_timeout = '1h'; begin").await.unwrap();
    let lock_2 = "select from file where name = '2_16xxdata.txt' for update";
    let lock_1 = "select from file where name = '1_16xxdata.txt' for update";
    other.execute(lock_2).await.unwrap();
    let opposite = async {
        until("the group waits", async || Waiting(&site.pool).count().await == 1).await;
        // Only granted when the database has ended the group's transaction.
        other.execute(lock_1).await.unwrap();
        other.execute("commit").await.unwrap();
        other.close().await.unwrap();
    };
    let files = [file_of(1), file_of(2)];
    let group = join_all(files.iter().map(|file| site.put(file, "b")));
    let (put, ()) = join(group, opposite).await;
    assert!(put.iter().all(|committed| committed.outcome == Outcome::Replaced));
    assert_eq!(verify_logs(&site.store, &site.pool).await, 4);
    site.close().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_commit_that_failed_is_not_taken_for_stored_and_the_next_one_is_made(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open_idle("london", &database).await;
    // As when the disk is full.
    let refuse = "alter table body add constraint full_disk check (bytes < 1)";
    site.pool.execute(refuse).await.unwrap();
    let answers = site.commit_together(&files(2, 10)).await;
    assert!(matches!(answers[0], Err(StoreError::Database(_))));
    assert!(matches!(answers[1], Err(StoreError::CommitFailed)));
    assert_eq!(number(&site.pool, "select count(*) from file").await, 0);
    site.pool.execute("alter table body drop constraint full_disk").await.unwrap();
    assert_eq!(site.put(&file_of(1), "a").await.dot.unwrap().sequence, 1);
    assert_eq!(verify_logs(&site.store, &site.pool).await, 1);
    site.close().await;
}
