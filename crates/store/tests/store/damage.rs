//! Rows that somebody changed by hand: named, never believed, and at the cost of their own file only.

use bruri_domain::{FileId, limits::FILE_BYTES_MAX};
use bruri_store::{StoreError, history::FileEntry};
use bytes::Bytes;
use sqlx::{
    AssertSqlSafe, Executor as _,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::kit::{Origin, Site, file_of, number, verify_logs};

const STATE: &str = "state = state || '\\x00'";
const CHECKSUM: &str = "checksum = sha256(checksum)";
const SERVED_BODY: &str = "served_body = sha256(served_body)";
const NO_SERVED_BODY: &str = "served_body = null";
/// One that is there and as long.
const OTHER_BODY: &str = "served_body = (select sha256 from body where content = '3')";

/// Changes the row of extension 2.
async fn change(site: &Site, what: &'static str) {
    let change = format!("update file set {what} where name = '2_16xxdata.txt'");
    let done = site.pool.execute(AssertSqlSafe(change)).await.unwrap();
    assert_eq!(done.rows_affected(), 1);
}

async fn site_with_files(database: &PgConnectOptions, count: usize) -> Site {
    let site = Site::open("london", database).await;
    for n in 1..=count {
        site.put(&file_of(n), format!("{n}")).await;
    }
    site
}

fn names_column<T>(result: Result<T, StoreError>, expected: &str) -> bool {
    let Err(error @ StoreError::Corrupt { table: "file", column, .. }) = result else {
        return false;
    };
    let text = error.to_string();
    column == expected && text.contains("row default/2_16xxdata.txt") && text.contains(expected)
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_damaged_file_is_not_served_and_the_others_are(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    for (what, column) in [
        (STATE, "checksum"),
        (CHECKSUM, "checksum"),
        (SERVED_BODY, "served_body"),
        (NO_SERVED_BODY, "served_body"),
        (OTHER_BODY, "served_body"),
    ] {
        let site = site_with_files(&database, 3).await;
        change(&site, what).await;
        let (one, two, three) = (file_of(1), file_of(2), file_of(3));
        let served = tokio::join!(
            site.lookup.served(&one),
            site.lookup.served(&two),
            site.lookup.served(&three)
        );
        assert_eq!(served.0.unwrap().version.unwrap().content, "1");
        assert!(names_column(served.1, column), "{what}");
        assert_eq!(served.2.unwrap().version.unwrap().content, "3");
        site.pool.execute("truncate file, record, body, log").await.unwrap();
        site.close().await;
    }
}

fn together() -> Vec<(FileId, Vec<u8>)> {
    (1..=3).map(|n| (file_of(n), b"next".to_vec())).collect()
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_damaged_file_takes_no_backup_and_the_others_of_its_group_do(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    for what in [STATE, CHECKSUM] {
        let site = site_with_files(&database, 3).await;
        change(&site, what).await;
        site.close().await;
        let site = Site::open_idle("london", &database).await;
        let mut answers = site.commit_together(&together()).await;
        assert!(names_column(answers.remove(1), "checksum"), "{what}");
        assert!(answers.iter().all(Result::is_ok));
        assert_eq!(site.get(&file_of(3)).await, Some(Bytes::from("next")));
        assert_eq!(verify_logs(&site.store, &site.pool).await, 5);
        site.pool.execute("truncate file, record, body, log").await.unwrap();
        site.close().await;
    }
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_backup_puts_right_what_is_said_to_be_served(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = site_with_files(&database, 2).await;
    change(&site, SERVED_BODY).await;
    site.put(&file_of(2), "next").await;
    assert_eq!(site.get(&file_of(2)).await, Some(Bytes::from("next")));
    site.close().await;
}

/// The log of a peer must not stand still for it: its record is stored, and the row stays to be rebuilt.
#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_damaged_file_does_not_hold_up_the_log_of_a_peer(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = site_with_files(&database, 3).await;
    change(&site, STATE).await;
    let mut tokyo = Origin::new("tokyo", 7);
    for n in 1..=3 {
        tokyo.backup(&file_of(n), b"from tokyo", u64::MAX / 4);
    }
    site.store.apply(&tokyo.batch()).await.unwrap();
    assert_eq!(site.get(&file_of(1)).await, Some(Bytes::from("from tokyo")));
    assert_eq!(site.get(&file_of(3)).await, Some(Bytes::from("from tokyo")));
    assert!(names_column(site.lookup.served(&file_of(2)).await, "checksum"));
    let of_2 = "select count(*) from record where name = '2_16xxdata.txt'";
    assert_eq!(number(&site.pool, of_2).await, 2);
    assert_eq!(verify_logs(&site.store, &site.pool).await, 6);
    site.close().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn an_operator_is_told_which_row_is_damaged(_: PgPoolOptions, database: PgConnectOptions) {
    let site = site_with_files(&database, 3).await;
    change(&site, CHECKSUM).await;
    let listed: Result<Vec<FileEntry>, _> = site.store.files("", None, 10).await;
    assert!(names_column(listed, "checksum"));
    assert!(names_column(site.store.versions(&file_of(2), None, 10).await, "checksum"));
    assert_eq!(site.store.versions(&file_of(3), None, 10).await.unwrap().len(), 1);
    site.close().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_log_that_lacks_a_record_is_not_supplied_beyond_the_gap(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = site_with_files(&database, 5).await;
    let log = site.put(&file_of(1), "again").await.dot.unwrap().log;
    for (sequence, removed) in [
        (6, "delete from record where sequence = 6"),
        (1, "delete from record where sequence = 1"),
        (3, "delete from record where sequence = 3"),
    ] {
        site.pool.execute(removed).await.unwrap();
        let error = site.store.records_after(&log, sequence - 1).await.unwrap_err();
        let named = format!("table record, row {log}/{sequence}: column sequence is damaged");
        assert_eq!(error.to_string(), named);
        assert!(site.store.records_after(&log, 0).await.is_err());
    }
    assert!(site.store.records_after(&log, 6).await.unwrap().records.is_empty());
    site.close().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_body_that_was_changed_is_not_handed_out(_: PgPoolOptions, database: PgConnectOptions) {
    let site = site_with_files(&database, 2).await;
    let large = vec![7; FILE_BYTES_MAX];
    site.put(&file_of(2), &large).await;
    let flip = "update body set content = set_byte(content, 9, 8) where bytes > 1000";
    site.pool.execute(flip).await.unwrap();
    let error = site.store.version(&file_of(2), None).await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { table: "body", column: "content", .. }));
    let cut = "update body set content = substr(content, 9) where bytes > 1000";
    site.pool.execute(cut).await.unwrap();
    let error = site.lookup.served(&file_of(2)).await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { table: "body", column: "content", .. }));
    assert!(!error.to_string().contains('\u{7}'), "law 10: {error}");
    assert_eq!(site.get(&file_of(1)).await, Some(Bytes::from("1")));
    site.close().await;
}
