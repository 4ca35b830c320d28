//! Conflicts: when they open, what joins them, how they end, and how many are kept.

use bruri_domain::{FileId, limits::CONFLICTS_OF_FILE_MAX};
use bruri_store::{ConflictKey, StoreError};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use crate::kit::{FIRST_MICROS, Origin, Site, file_of, number};

/// A version from another site that knew nothing.
async fn arrives(site: &Site, epoch: u64, file: &FileId, content: &[u8]) {
    let mut tokyo = Origin::new("tokyo", epoch);
    tokyo.backup(file, content, FIRST_MICROS + epoch);
    site.store.apply(&tokyo.batch()).await.unwrap();
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_conflict_is_recorded_from_its_first_version_to_the_one_that_ends_it(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open("london", &database).await;
    let file = file_of(299);
    let first = site.put_by(1, &file, "a").await.dot.unwrap();
    assert!(site.store.conflicts(None, 10).await.unwrap().is_empty());
    site.clock.set(FIRST_MICROS + 5);
    arrives(&site, 1, &file, b"b").await;
    arrives(&site, 2, &file, b"c").await;

    let open = site.store.conflicts(None, 10).await.unwrap();
    assert_eq!((open.len(), open[0].number, open[0].heads.len()), (1, 1, 3));
    assert_eq!((open[0].opened_micros, &open[0].end), (FIRST_MICROS + 5, &None));
    assert!(open[0].heads.contains(&first));
    assert_eq!(site.store.open_conflicts().await.unwrap(), 1);

    site.clock.set(FIRST_MICROS + 9);
    site.get_by(2, &file).await;
    let last = site.put_by(2, &file, "d").await.dot.unwrap();

    assert!(site.store.conflicts(None, 10).await.unwrap().is_empty());
    let ended = site.store.conflict(&file, None).await.unwrap().end.unwrap();
    assert_eq!((ended.micros, ended.by), (FIRST_MICROS + 9, last));
    assert_eq!(site.store.conflicts_ever(None, 10).await.unwrap().len(), 1);
    site.close().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn heads_with_equal_bodies_are_no_conflict(_: PgPoolOptions, database: PgConnectOptions) {
    let site = Site::open("london", &database).await;
    let file = file_of(299);
    site.put_by(1, &file, "a").await;
    arrives(&site, 1, &file, b"a").await;
    assert_eq!(site.store.open_conflicts().await.unwrap(), 0);
    let unknown = site.store.conflict(&file, None).await;
    assert!(matches!(unknown, Err(StoreError::UnknownConflict(_))));
    site.close().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn conflicts_of_one_batch_are_all_recorded_in_its_order(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open("london", &database).await;
    let files: Vec<FileId> = (1..=3).map(file_of).collect();
    for file in &files {
        site.put_by(1, file, "a").await;
    }
    let mut tokyo = Origin::new("tokyo", 7);
    for content in [b"b", b"c"] {
        for file in &files {
            tokyo.backup(file, content, 1);
        }
    }
    site.store.apply(&tokyo.batch()).await.unwrap();

    let open = site.store.conflicts(None, 10).await.unwrap();
    assert!(open.iter().map(|conflict| &conflict.file).eq(&files));
    for conflict in &open {
        let sequences: Vec<u64> = conflict.heads[1..].iter().map(|dot| dot.sequence).collect();
        assert_eq!((conflict.heads.len(), sequences[1] - sequences[0]), (3, 3));
    }
    let after = ConflictKey { file: files[1].clone(), number: 1 };
    let page = site.store.conflicts(Some(&after), 10).await.unwrap();
    assert_eq!((page.len(), &page[0].file), (1, &files[2]));
    site.close().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn of_the_heads_bodies_as_many_are_told_as_there_is_room_for(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open("london", &database).await;
    let file = file_of(299);
    site.put_by(1, &file, "served").await;
    arrives(&site, 1, &file, b"other").await;
    let conflict = site.store.conflict(&file, None).await.unwrap();
    for (bytes_max, contents) in [(11, 2), (10, 1), (4, 0)] {
        let heads = site.store.conflict_heads(&conflict, bytes_max).await.unwrap();
        assert_eq!(heads.len(), 2);
        assert_eq!(heads.iter().filter(|head| head.content.is_some()).count(), contents);
    }
    site.close().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn only_the_newest_conflicts_of_a_file_are_kept(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open("london", &database).await;
    let file = file_of(299);
    site.put_by(1, &file, "a").await;
    for round in 1..=u64::from(CONFLICTS_OF_FILE_MAX) + 2 {
        arrives(&site, round, &file, &round.to_be_bytes()).await;
        site.get_by(1, &file).await;
        site.put_by(1, &file, if round % 2 == 0 { "a" } else { "b" }).await;
    }
    let kept = "select count(*) from conflict";
    assert_eq!(number(&site.pool, kept).await, i64::from(CONFLICTS_OF_FILE_MAX));
    assert_eq!(number(&site.pool, "select min(number)::bigint from conflict").await, 3);
    site.close().await;
}
