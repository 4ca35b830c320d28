//! What phones had seen: which versions a backup supersedes, and how long that is known.

use bruri_domain::{FileId, Remembered};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use crate::kit::{FIRST_MICROS, Site, Twin, file_of, mark_of, number, pull, until};

const DAY_MICROS: u64 = 24 * 60 * 60 * 1_000_000;
const ENTRIES: &str = "select count(*) from remembered";

/// The bodies of the heads, in order.
async fn heads(site: &Site, file: &FileId) -> Vec<String> {
    let entries = site.store.files(file.name.as_str(), None, 1).await.unwrap();
    let mut bodies = Vec::new();
    for head in entries[0].state.heads() {
        let (_, content) = site.store.version(file, Some(&(&head.dot).into())).await.unwrap();
        bodies.push(String::from_utf8(content.unwrap().to_vec()).unwrap());
    }
    bodies.sort_unstable();
    bodies
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_version_that_was_on_its_way_is_not_superseded_by_a_phone_that_was_served_the_one_before(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let twin = Twin::create(&database, 1).await;
    let london = Site::open("london", &database).await;
    let tokyo = Site::open("tokyo", &twin.options).await;
    let file = file_of(299);
    london.put_by(1, &file, "v1").await;
    pull(&london.store, &tokyo.store).await;
    assert_eq!(tokyo.get_by(2, &file).await.unwrap(), "v1");
    london.put_by(1, &file, "v2").await;
    pull(&london.store, &tokyo.store).await;

    tokyo.put_by(2, &file, "v3").await;

    pull(&tokyo.store, &london.store).await;
    for site in [&london, &tokyo] {
        assert_eq!(heads(site, &file).await, ["v2", "v3"]);
        assert_eq!(site.store.versions(&file, None, 10).await.unwrap().len(), 3);
    }
    london.close().await;
    tokyo.close().await;
    twin.drop_it().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn another_phones_version_between_two_backups_of_a_phone_stays(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open("london", &database).await;
    let file = file_of(299);
    site.get_by(1, &file).await;
    site.get_by(2, &file).await;
    site.put_by(1, &file, "a1").await;
    site.put_by(2, &file, "b1").await;
    site.put_by(1, &file, "a2").await;
    assert_eq!(heads(&site, &file).await, ["a2", "b1"]);
    site.put_by(1, &file, "a3").await;
    assert_eq!(heads(&site, &file).await, ["a3", "b1"], "it supersedes its own only");
    site.get_by(2, &file).await;
    site.put_by(2, &file, "b2").await;
    assert_eq!(heads(&site, &file).await, ["b2"]);
    site.close().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_blind_phone_supersedes_nothing_until_it_is_served_or_sends_what_is_there(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open("london", &database).await;
    let file = file_of(299);
    site.put_by(1, &file, "a").await;
    site.store.remember(mark_of(2, &file), Remembered::Blind);
    site.put_by(2, &file, "b").await;
    assert_eq!(heads(&site, &file).await, ["a", "b"]);
    site.get_by(1, &file).await;
    site.put_by(1, &file, "c").await;
    site.store.remember(mark_of(2, &file), Remembered::Blind);
    site.put_by(2, &file, "c").await;
    site.put_by(2, &file, "d").await;
    assert_eq!(heads(&site, &file).await, ["d"]);
    site.close().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn what_a_phone_had_seen_outlives_the_process_and_is_written_only_where_it_changed(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open("london", &database).await;
    let file = file_of(299);
    site.put_by(1, &file, "a").await;
    site.get_by(2, &file).await;
    until("both are written", async || number(&site.pool, ENTRIES).await == 2).await;
    site.clock.set(FIRST_MICROS + 1000);
    site.get_by(2, &file).await;
    site.store.write_remembered().await.unwrap();
    let changed = "select count(*) from remembered where noted_micros > 1800000000000000";
    assert_eq!(number(&site.pool, changed).await, 0);
    site.put_by(1, &file, "b").await;
    // What was noted last is written as the site closes.
    site.close().await;
    let site = Site::open("london", &database).await;
    site.put_by(2, &file, "c").await;
    site.put_by(1, &file, "d").await;
    assert_eq!(heads(&site, &file).await, ["c", "d"]);
    site.close().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn what_a_phone_had_seen_30_days_ago_counts_no_more_and_is_removed(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open("london", &database).await;
    let file = file_of(299);
    site.get_by(1, &file).await;
    site.put_by(2, &file, "a").await;
    site.store.write_remembered().await.unwrap();
    site.clock.set(FIRST_MICROS + 30 * DAY_MICROS);
    site.put_by(1, &file, "b").await;
    assert_eq!(heads(&site, &file).await, ["b"], "it carries all that is known");
    site.store.write_remembered().await.unwrap();
    site.store.sweep_remembered(10).await.unwrap();
    assert_eq!(number(&site.pool, ENTRIES).await, 1);
    site.close().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn no_more_is_remembered_than_there_is_room_for_and_the_oldest_goes_first(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open("london", &database).await;
    for extension in 1..=9 {
        site.clock.set(FIRST_MICROS + extension as u64);
        site.get_by(1, &file_of(extension)).await;
    }
    site.store.write_remembered().await.unwrap();
    site.store.sweep_remembered(4).await.unwrap();
    assert_eq!(number(&site.pool, ENTRIES).await, 4);
    let oldest = "select min(noted_micros) from remembered";
    assert_eq!(number(&site.pool, oldest).await.cast_unsigned(), FIRST_MICROS + 6);
    site.close().await;
}
