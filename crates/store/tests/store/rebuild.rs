//! A file's state made anew from its records is the one that was reached record by record.

use sqlx::{
    AssertSqlSafe, Executor as _,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::kit::{Origin, Site, dump, file_of, number, version_of};

/// A site with files of several logs, conflicts, deletions and an older generation.
async fn site_with_everything(database: &PgConnectOptions) -> Site {
    let site = Site::open("london", database).await;
    let (mut tokyo, mut paris) = (Origin::new("tokyo", 7), Origin::new("paris", 8));
    for n in 0..30_usize {
        site.put(&file_of(n % 5), format!("{n}")).await;
        tokyo.backup(&file_of(n % 4), format!("tokyo {n}").as_bytes(), n as u64);
        site.store.apply(&tokyo.batch()).await.unwrap();
    }
    site.remove(&file_of(1)).await;
    let mut deleted = version_of(&file_of(2), b"", 5);
    deleted.body = None;
    paris.version(&deleted, 1);
    site.store.apply(&paris.batch()).await.unwrap();
    tokyo.backup(&file_of(2), b"erased before it came", 9);
    site.store.apply(&tokyo.batch()).await.unwrap();
    site
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_state_that_is_sound_is_rebuilt_as_it_is(_: PgPoolOptions, database: PgConnectOptions) {
    let site = site_with_everything(&database).await;
    let before = dump(&site.pool).await;
    for n in 0..6 {
        assert!(!site.store.rebuild(&file_of(n)).await.unwrap(), "{n}");
    }
    assert_eq!(dump(&site.pool).await, before);
    site.close().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_state_that_is_damaged_or_missing_is_rebuilt_as_it_was(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = site_with_everything(&database).await;
    let before = dump(&site.pool).await;
    for damage in [
        "update file set state = state || '\\x00'",
        "update file set checksum = sha256(checksum)",
        "delete from file",
    ] {
        site.pool.execute(AssertSqlSafe(damage)).await.unwrap();
        for n in 0..5 {
            assert!(site.store.rebuild(&file_of(n)).await.unwrap(), "{damage} {n}");
        }
        assert!(!site.store.rebuild(&file_of(9)).await.unwrap());
        assert_eq!(dump(&site.pool).await, before, "{damage}");
    }
    site.close().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_file_with_more_records_than_a_page_is_rebuilt_whole(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open("london", &database).await;
    let mut tokyo = Origin::new("tokyo", 7);
    for n in 0..1100_u64 {
        tokyo.backup(&file_of(1), b"same", n);
    }
    site.store.apply(&tokyo.batch()).await.unwrap();
    let before = dump(&site.pool).await;
    site.pool.execute("update file set state = ''").await.unwrap();
    assert!(site.store.rebuild(&file_of(1)).await.unwrap());
    assert_eq!(dump(&site.pool).await, before);
    assert_eq!(number(&site.pool, "select count(*) from record").await, 1100);
    site.close().await;
}
