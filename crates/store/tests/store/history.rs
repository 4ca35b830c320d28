//! What operators ask: listings page by page, and any version ever stored.

use bruri_domain::{DotRef, FileId};
use bruri_store::{Standing, StoreError, VersionEntry};
use bytes::Bytes;
use sqlx::{
    Executor as _,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::kit::{FIRST_MICROS, Origin, Site, file, file_of, number};

fn dot_ref(text: &str) -> DotRef {
    text.parse().unwrap()
}

/// All versions of a file, read by pages of so many.
async fn by_pages(site: &Site, file: &FileId, length: u32) -> Vec<VersionEntry> {
    let mut all: Vec<VersionEntry> = Vec::new();
    loop {
        let after = all.last().map(|last| dot_ref(&last.dot.to_string()));
        let page = site.store.versions(file, after.as_ref(), length).await.unwrap();
        if page.is_empty() {
            return all;
        }
        assert!(page.len() <= length as usize && all.len() < 100, "it comes to an end");
        all.extend(page);
    }
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn versions_are_listed_newest_first_across_pages_even_with_equal_stamps(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open("london", &database).await;
    let (mut tokyo, mut paris) = (Origin::new("tokyo", 7), Origin::new("paris", 8));
    for micros in [5, 5, 5, 9, u64::MAX] {
        for origin in [&mut tokyo, &mut paris] {
            origin.backup(&file_of(1), format!("{micros}").as_bytes(), micros);
            origin.backup(&file_of(2), b"another file", micros);
            site.store.apply(&origin.batch()).await.unwrap();
        }
    }
    site.put(&file_of(1), "mine").await;
    let whole = by_pages(&site, &file_of(1), 1000).await;
    let stamps: Vec<u64> = whole.iter().map(|entry| entry.version.stamp.micros).collect();
    assert_eq!(
        stamps,
        [u64::MAX, u64::MAX, FIRST_MICROS, 9, 9, 5, 5, 5, 5, 5, 5],
        "all of the file, none of the other"
    );
    let dots = |list: &[VersionEntry]| list.iter().map(|e| e.dot.clone()).collect::<Vec<_>>();
    for size in 1..5 {
        assert_eq!(dots(&by_pages(&site, &file_of(1), size).await), dots(&whole), "{size}");
    }
    site.close().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn any_version_can_be_read_byte_for_byte_and_its_standing_told(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open("london", &database).await;
    let (file, all_bytes) = (file_of(1), (0..=255).collect::<Vec<u8>>());
    let first = site.put(&file, &all_bytes).await.dot.unwrap();
    let deletion = site.remove(&file).await.dot.unwrap();
    let last = site.put(&file, "").await.dot.unwrap();
    for (dot, content, expected) in [
        (&first, Some(Bytes::from(all_bytes)), Standing::Superseded),
        (&deletion, None, Standing::Superseded),
        (&last, Some(Bytes::new()), Standing::Served),
    ] {
        let named = dot_ref(&dot.to_string());
        let (entry, body) = site.store.version(&file, Some(&named)).await.unwrap();
        assert_eq!((&entry.dot, entry.standing, body), (dot, expected, content));
    }
    let (served, body) = site.store.version(&file, None).await.unwrap();
    assert_eq!((served.dot, body), (last, Some(Bytes::new())));
    site.close().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn what_is_not_there_is_named(_: PgPoolOptions, database: PgConnectOptions) {
    let site = Site::open("london", &database).await;
    let dot = site.put(&file_of(1), "a").await.dot.unwrap();
    let other = site.put(&file_of(2), "b").await.dot.unwrap();
    let unknown = site.store.version(&file_of(3), None).await.unwrap_err();
    assert!(matches!(&unknown, StoreError::UnknownFile(file) if *file == file_of(3)));
    let unknown = site.store.versions(&file_of(3), None, 10).await.unwrap_err();
    assert!(matches!(unknown, StoreError::UnknownFile(_)));
    // A version of another file is none of this one.
    for text in [other.to_string(), format!("{}/9", dot.log), "tokyo/1/1".to_owned()] {
        let unknown = site.store.version(&file_of(1), Some(&dot_ref(&text))).await.unwrap_err();
        assert!(matches!(&unknown, StoreError::UnknownVersion { dot, .. } if *dot == text));
        let unknown = site.store.versions(&file_of(1), Some(&dot_ref(&text)), 9).await.unwrap_err();
        assert!(matches!(unknown, StoreError::UnknownVersion { .. }));
    }
    site.close().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_body_that_is_no_longer_kept_is_said_to_be_gone(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open("london", &database).await;
    let dot = site.put(&file_of(1), "a").await.dot.unwrap();
    site.put(&file_of(1), "b").await;
    // As retention will.
    site.pool.execute("update record set body = null where sequence = 1").await.unwrap();
    site.pool.execute("delete from body where content = 'a'").await.unwrap();
    let gone = site.store.version(&file_of(1), Some(&dot_ref(&dot.to_string()))).await;
    assert!(matches!(gone, Err(StoreError::BodyGone(named)) if named == dot));
    assert_eq!(site.store.versions(&file_of(1), None, 10).await.unwrap().len(), 2);
    site.close().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_prefix_of_an_epoch_must_fit_one_version_of_the_file(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open("london", &database).await;
    let epochs = [0x9f3a_0000_0000_0000, 0x9f3b_0000_0000_0000];
    for epoch in epochs {
        let mut tokyo = Origin::new("tokyo", epoch);
        tokyo.backup(&file_of(1), format!("{epoch:x}").as_bytes(), 5);
        if epoch == epochs[0] {
            tokyo.backup(&file_of(1), b"second", 6);
        }
        site.store.apply(&tokyo.batch()).await.unwrap();
    }
    for (text, epoch) in [
        ("tokyo/9f3a/1", Some(epochs[0])),
        ("tokyo/9f3b/1", Some(epochs[1])),
        ("tokyo/9f3b000000000000/1", Some(epochs[1])),
        ("tokyo/9/2", Some(epochs[0])),
        ("tokyo/9f3/1", None),
        ("tokyo/9/1", None),
    ] {
        let found = site.store.version(&file_of(1), Some(&dot_ref(text))).await;
        match (found, epoch) {
            (Ok((entry, _)), Some(epoch)) => assert_eq!(entry.dot.log.epoch.0, epoch, "{text}"),
            (Err(StoreError::AmbiguousDot { dot }), None) => assert_eq!(dot, text),
            unexpected => panic!("{text}: {unexpected:?}"),
        }
    }
    site.close().await;
}

async fn names(site: &Site, prefix: &str, after: Option<&FileId>, limit: u32) -> Vec<String> {
    let entries = site.store.files(prefix, after, limit).await.unwrap();
    entries.into_iter().map(|entry| entry.file.name.to_string()).collect()
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn files_are_listed_by_prefix_in_the_order_of_their_names(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open("london", &database).await;
    for name in ["30_16xxdata.txt", "9610data.txt", "299_96xxdata.txt", "299_16xxdata.txt"] {
        site.put(&file(name), name).await;
    }
    site.remove(&file("30_16xxdata.txt")).await;
    let all = ["299_16xxdata.txt", "299_96xxdata.txt", "30_16xxdata.txt", "9610data.txt"];
    assert_eq!(names(&site, "", None, 10).await, all);
    assert_eq!(names(&site, "299_", None, 10).await, all[..2]);
    assert_eq!(names(&site, "2%", None, 10).await, [""; 0]);
    assert_eq!(names(&site, "", None, 3).await, all[..3]);
    assert_eq!(names(&site, "", Some(&file(all[2])), 3).await, all[3..]);
    let entries = site.store.files("", None, 10).await.unwrap();
    let bytes = |n: usize| entries[n].served.as_ref().unwrap().version.body.map(|body| body.bytes);
    assert_eq!((bytes(0), bytes(2)), (Some(16), None));
    let counts = site.store.counts().await.unwrap();
    assert_eq!(counts.files, 4);
    assert_eq!(number(&site.pool, "select count(*) from file").await, 4);
    site.close().await;
}
