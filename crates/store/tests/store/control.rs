//! Records that concern no file: numbered, applied and supplied like any other.

use bruri_domain::{Dot, LogKind, Sha256, fork::Parting};
use sqlx::{
    AssertSqlSafe, Executor as _,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::kit::{Site, Twin, number, pull, pull_own, verify_logs};

fn subject(number: u8) -> Sha256 {
    Sha256([number; 32])
}

async fn erase(site: &Site, number: u8) -> Dot {
    site.store.erase(subject(number), [number; 16], "uid 0").await.unwrap().dot
}

const ERASED: &str = "select count(*) from erased where generation = 1 and barred";

/// Law 3.
#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_record_of_the_control_log_is_numbered_and_applied_here_and_at_every_peer(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let twin = Twin::create(&database, 1).await;
    let (london, tokyo) =
        (Site::open("london", &database).await, Site::open("tokyo", &twin.options).await);
    let dots = [erase(&london, 1).await, erase(&london, 2).await];
    assert_eq!(dots.map(|dot| dot.sequence), [1, 2]);
    pull(&london.store, &tokyo.store).await;
    for site in [&london, &tokyo] {
        assert_eq!(verify_logs(&site.store, &site.pool).await, 2);
        assert_eq!(number(&site.pool, ERASED).await, 2);
    }
    london.close().await;
    tokyo.close().await;
    twin.drop_it().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_record_with_the_same_random_bits_is_appended_once(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open("london", &database).await;
    let first = erase(&site, 1).await;
    assert_eq!(erase(&site, 1).await, first);
    assert_eq!(erase(&site, 2).await.sequence, 2);
    assert_eq!(number(&site.pool, ERASED).await, 2);
    site.close().await;
}

/// Law 7: what the origin erased after an older dump was put back is not undone where it gives way.
#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn records_of_a_control_log_that_forked_are_appended_again_with_the_same_random_bits(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let twin = Twin::create(&database, 1).await;
    let tokyo = Site::open("tokyo", &twin.options).await;
    let london = Site::open("london", &database).await;
    let old = erase(&london, 1).await.log;
    let common = london.store.vector().await.unwrap();
    let common = common.into_iter().find(|at| at.log.id == old).unwrap();
    erase(&london, 2).await;
    pull(&london.store, &tokyo.store).await;
    put_back(&london, &format!("{}", common.chain)).await;
    london.close().await;
    let london = Site::open("london", &database).await;
    erase(&london, 3).await;

    let theirs = tokyo.store.vector().await.unwrap();
    let theirs = theirs.into_iter().find(|at| at.log.id == old).unwrap();
    let parting = Parting { common, stays: theirs.chain };
    assert_eq!(london.store.peer_has(&[theirs]).await.unwrap(), std::slice::from_ref(&old));
    london.store.set_back(&parting).await.unwrap();
    let again = erase(&london, 3).await;

    assert!(again.log != old && london.store.appends_to(&again.log), "{again}");
    pull_own(&tokyo.store, &london.store).await;
    pull(&london.store, &tokyo.store).await;
    for site in [&london, &tokyo] {
        // Three erasures, and which branch stays.
        assert_eq!(verify_logs(&site.store, &site.pool).await, 4);
        assert_eq!(number(&site.pool, ERASED).await, 3);
        let vector = site.store.vector().await.unwrap();
        assert!(vector.iter().all(|at| at.log.kind == LogKind::Control || at.sequence == 0));
    }
    london.close().await;
    tokyo.close().await;
    twin.drop_it().await;
}

/// As a dump of after the first record would have it.
async fn put_back(site: &Site, chain: &str) {
    for statement in [
        "delete from record where sequence > 1",
        &format!("update log set sequence = 1, chain = '\\x{chain}' where kind = 1"),
        "delete from control_place where sequence > 1",
        "delete from erasure where sequence > 1",
        "delete from erased where subject not in (select subject from erasure)",
    ] {
        site.pool.execute(AssertSqlSafe(statement.to_owned())).await.unwrap();
    }
}
