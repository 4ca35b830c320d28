//! Whose a database is.

use std::sync::Arc;

use bruri_domain::{DeploymentKey, LogKind, SiteName};
use bruri_store::{Options, Store, StoreError};
use futures_util::future::join;
use sqlx::{
    Executor as _,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::kit::{FIRST_MICROS, Hand, Site, file_of, key, number, until};

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_database_of_another_site_is_refused_by_name(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    Site::open("london", &database).await.close().await;
    let refused = Site::try_open("tokyo", key(), FIRST_MICROS, &database).await.err().unwrap();
    assert!(matches!(&refused, StoreError::AnotherSite { owner, asked }
        if owner == "london" && asked.as_str() == "tokyo"));
    assert!(refused.to_string().contains("set site.name = \"london\""), "{refused}");
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_database_that_was_filled_under_another_key_is_refused(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    Site::open("london", &database).await.close().await;
    let other = DeploymentKey::new([8; 32]);
    let refused = Site::try_open("london", other, FIRST_MICROS, &database).await.err();
    assert!(matches!(refused, Some(StoreError::AnotherKey)));
    Site::open("london", &database).await.close().await;
}

#[sqlx::test]
async fn an_empty_database_is_given_its_tables_by_two_that_open_it_at_once(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let open = || Site::open("london", &database);
    let (one, other) = join(open(), open()).await;
    let vector = one.store.vector().await.unwrap();
    let mut kinds: Vec<_> = vector.iter().map(|cursor| cursor.log.kind).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, [LogKind::Control, LogKind::Files]);
    assert_eq!(other.store.vector().await.unwrap(), vector);
    let dots = join(one.put(&file_of(1), "a"), other.put(&file_of(2), "b")).await;
    assert_eq!(dots.0.dot.unwrap().log, dots.1.dot.unwrap().log);
    one.close().await;
    other.close().await;
}

/// The stamp of the newest version of a file.
async fn newest_micros(site: &Site, extension: usize) -> u64 {
    let versions = site.store.versions(&file_of(extension), None, 1).await.unwrap();
    versions[0].version.stamp.micros
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn issued_times_never_go_back_even_if_the_clock_does_over_a_restart(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open("london", &database).await;
    site.put(&file_of(1), "a").await;
    assert_eq!(newest_micros(&site, 1).await, FIRST_MICROS);
    site.close().await;
    let site = Site::try_open("london", key(), 1, &database).await.unwrap();
    site.start();
    site.put(&file_of(1), "b").await;
    assert_eq!(newest_micros(&site, 1).await, FIRST_MICROS + 1);
    site.clock.set(FIRST_MICROS + 9);
    site.put(&file_of(1), "c").await;
    assert_eq!(newest_micros(&site, 1).await, FIRST_MICROS + 9);
    site.close().await;
}

/// The opener has waited for longer than any of its statements may take.
const WAITED: &str = "select count(*) from pg_stat_activity
    where datname = current_database() and wait_event_type = 'Lock'
      and clock_timestamp() - query_start > '300 ms'";

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_brurid_waits_while_another_one_migrates(_: PgPoolOptions, database: PgConnectOptions) {
    let other = PgPoolOptions::new().connect_with(database.clone()).await.unwrap();
    let mut migrating = other.begin().await.unwrap();
    migrating.execute("lock table _sqlx_migrations").await.unwrap();

    let limited = database.options([("statement_timeout", "100ms"), ("lock_timeout", "100ms")]);
    let pool = PgPoolOptions::new().connect_with(limited).await.unwrap();
    let clock = Arc::new(Hand::at(FIRST_MICROS));
    let options = Options { site: SiteName::parse("london").unwrap(), key: key(), clock };
    let done = async {
        until("it has waited", async || number(&other, WAITED).await == 1).await;
        migrating.commit().await.unwrap();
    };
    let (opened, ()) = join(Store::open(pool.clone(), options), done).await;
    assert_eq!(opened.unwrap().site().as_str(), "london");
    pool.close().await;
    other.close().await;
}
