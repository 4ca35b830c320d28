//! What a phone is told of a backup, and what is kept of it.

use bruri_domain::FileId;
use bruri_store::{Backup, Committed, Outcome, Standing};
use bytes::Bytes;
use futures_util::{FutureExt as _, future::join_all};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use crate::kit::{FIRST_MICROS, Site, file, file_of, number, phone, until, verify_logs};

/// Law 1.
#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_backup_that_was_answered_is_there_after_a_restart(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let content: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let site = Site::open("london", &database).await;
    let committed = site.put(&file_of(299), &content).await;
    site.close().await;
    let site = Site::open("london", &database).await;
    assert_eq!(site.get(&file_of(299)).await, Some(Bytes::from(content)));
    let again = site.put(&file_of(300), "b").await.dot.unwrap();
    assert_eq!((again.log, again.sequence), (committed.dot.unwrap().log, 2));
    site.close().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_phone_hears_whether_its_file_was_created_replaced_confirmed_or_removed(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open("london", &database).await;
    let file = file_of(299);
    let mut heard = vec![site.remove(&file).await];
    for content in ["a", "b", "b", ""] {
        heard.push(site.put(&file, content).await);
    }
    heard.push(site.remove(&file).await);
    heard.push(site.remove(&file).await);
    heard.push(site.put(&file, "b").await);
    let told =
        |committed: &Committed| (committed.outcome, committed.dot.as_ref().map(|dot| dot.sequence));
    let expected = [
        (Outcome::NotThere, None),
        (Outcome::Created, Some(1)),
        (Outcome::Replaced, Some(2)),
        (Outcome::Confirmed, Some(2)),
        (Outcome::Replaced, Some(3)),
        (Outcome::Removed, Some(4)),
        (Outcome::NotThere, None),
        (Outcome::Created, Some(5)),
    ];
    assert_eq!(heard.iter().map(told).collect::<Vec<_>>(), expected);
    assert_eq!(verify_logs(&site.store, &site.pool).await, 5);
    site.close().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn removing_an_unknown_file_leaves_no_row(_: PgPoolOptions, database: PgConnectOptions) {
    let site = Site::open("london", &database).await;
    site.remove(&file_of(299)).await;
    assert_eq!(number(&site.pool, "select count(*) from file").await, 0);
    assert_eq!(number(&site.pool, "select count(*) from record").await, 0);
    site.close().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_file_that_was_removed_is_not_found_and_its_versions_are_kept(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open("london", &database).await;
    let file = file_of(299);
    site.put(&file, "a").await;
    site.remove(&file).await;
    assert_eq!(site.get(&file).await, None);
    assert_eq!(site.get(&file_of(300)).await, None);
    let versions = site.store.versions(&file, None, 10).await.unwrap();
    let bodies: Vec<_> = versions.iter().map(|entry| entry.version.body.map(|b| b.bytes)).collect();
    assert_eq!(bodies, [None, Some(1)]);
    site.close().await;
}

async fn confirmed(site: &Site, file: &FileId) -> Option<u64> {
    let entries = site.store.files(file.name.as_str(), None, 1).await.unwrap();
    entries[0].confirmed_micros
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn an_equal_body_makes_no_version_and_is_noted_as_confirmed(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open("london", &database).await;
    let file = file_of(299);
    site.put(&file, "a").await;
    assert_eq!(confirmed(&site, &file).await, None);
    site.clock.set(FIRST_MICROS + 1000);
    site.put(&file, "a").await;
    assert_eq!(confirmed(&site, &file).await, Some(FIRST_MICROS + 1000));
    assert_eq!(number(&site.pool, "select count(*) from record").await, 1);
    site.put(&file, "b").await;
    assert_eq!(confirmed(&site, &file).await, None);
    site.close().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_body_is_kept_once_per_content(_: PgPoolOptions, database: PgConnectOptions) {
    let site = Site::open_idle("london", &database).await;
    // Two in one group, the others in groups of their own.
    let same = b"same".to_vec();
    site.commit_together(&[(file_of(1), same.clone()), (file_of(2), same)]).await;
    site.put(&file_of(1), "other").await;
    site.put(&file_of(1), "same").await;
    assert_eq!(number(&site.pool, "select count(*) from record").await, 4);
    assert_eq!(number(&site.pool, "select count(*) from body").await, 2);
    assert_eq!(number(&site.pool, "select sum(bytes) from body").await, 9);
    site.close().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_backup_is_stored_even_if_its_phone_hangs_up(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open_idle("london", &database).await;
    let file = file("299_96xxdata.txt");
    let mut hung_up = Box::pin(site.put(&file, "a"));
    assert!((&mut hung_up).now_or_never().is_none());
    drop(hung_up);
    site.start();
    until("the backup is served", async || site.get(&file).await.is_some()).await;
    site.close().await;
}

/// In the order of their sequences.
async fn contents_in_order(site: &Site, file: &FileId) -> Vec<Vec<u8>> {
    let frames: Vec<Vec<u8>> = sqlx::query_scalar(
        "select content from record join body on sha256 = body where name = $1 order by sequence",
    )
    .bind(file.name.as_str())
    .fetch_all(&site.pool)
    .await
    .unwrap();
    frames.iter().map(|frame| zstd::decode_all(frame.as_slice()).unwrap()).collect()
}

async fn assert_no_conflict(site: &Site, file: &FileId) {
    let versions = site.store.versions(file, None, 1000).await.unwrap();
    let (newest, older) = versions.split_first().unwrap();
    assert_eq!(newest.standing, Standing::Served);
    assert!(older.iter().all(|entry| entry.standing == Standing::Superseded));
    for pair in versions.windows(2) {
        assert!(pair[0].version.context.covers(&pair[1].dot), "{} {}", pair[0].dot, pair[1].dot);
    }
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn of_two_backups_of_a_file_that_wait_together_the_second_supersedes_the_first(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open_idle("london", &database).await;
    let file = file_of(299);
    let both = [(file.clone(), b"a".to_vec()), (file.clone(), b"b".to_vec())];
    let both = site.commit_together(&both).await;
    let outcomes: Vec<_> = both.into_iter().map(|committed| committed.unwrap().outcome).collect();
    assert_eq!(outcomes, [Outcome::Created, Outcome::Replaced]);
    assert_no_conflict(&site, &file).await;
    assert_eq!(site.get(&file).await, Some(Bytes::from("b")));
    site.close().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn two_hundred_concurrent_backups_of_the_same_files_keep_their_order_without_a_conflict(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open("london", &database).await;
    let content = |n: usize| format!("content {n:03}").into_bytes();
    let backups = (0..200).map(|n| {
        let (file, content) = (file_of(n % 3), Some(content(n).into()));
        site.commits.commit(&site.store, Backup { file, content, author: phone(), suspect: false })
    });
    assert!(join_all(backups).await.iter().all(Result::is_ok));
    for extension in 0..3 {
        let file = file_of(extension);
        let sent: Vec<_> = (0..200).filter(|n| n % 3 == extension).map(content).collect();
        assert_eq!(contents_in_order(&site, &file).await, sent);
        assert_eq!(site.get(&file).await.as_deref(), sent.last().map(Vec::as_slice));
        assert_no_conflict(&site, &file).await;
    }
    assert_eq!(verify_logs(&site.store, &site.pool).await, 200);
    site.close().await;
}
