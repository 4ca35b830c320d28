//! What realms want: local at once, and the same at every site in the end.

use bruri_domain::{Freshness, RealmId, RealmSettings, Retention};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use crate::kit::{Site, Twin, number, pull};

async fn set(site: &Site, freshness: &str) -> RealmSettings {
    let freshness = Freshness::parse(freshness).unwrap();
    let change = |settings: &mut RealmSettings| settings.freshness = freshness;
    site.store.change_realm(&RealmId::built_in(), change, "uid 0".to_owned()).await.unwrap()
}

fn known(site: &Site) -> String {
    site.store.realm(&RealmId::built_in()).freshness.to_string()
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn what_a_realm_wants_counts_at_once_survives_a_start_and_is_written_once(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open("london", &database).await;
    assert_eq!(known(&site), "300ms");
    set(&site, "strict").await;
    set(&site, "strict").await;
    assert_eq!(known(&site), "strict");
    assert_eq!(number(&site.pool, "select count(*) from record").await, 1);
    let retention = Retention::parse("all=30d").unwrap();
    let change = |settings: &mut RealmSettings| settings.retention = retention;
    let both = site.store.change_realm(&RealmId::built_in(), change, String::new()).await.unwrap();
    assert_eq!(both, RealmSettings { freshness: Freshness::Strict, retention });
    site.close().await;
    let site = Site::open("london", &database).await;
    assert_eq!(site.store.realm(&RealmId::built_in()), both);
    site.close().await;
}

/// Law 4.
#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn sites_that_change_a_realm_at_once_agree_when_they_meet_and_a_later_change_supersedes_both(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let twin = Twin::create(&database, 1).await;
    let (london, tokyo) =
        (Site::open("london", &database).await, Site::open("tokyo", &twin.options).await);
    set(&london, "100ms").await;
    set(&tokyo, "200ms").await;
    pull(&london.store, &tokyo.store).await;
    pull(&tokyo.store, &london.store).await;
    for site in [&london, &tokyo] {
        site.store.read_realms().await.unwrap();
    }
    assert_eq!(known(&london), known(&tokyo));
    set(&london, "strict").await;
    pull(&london.store, &tokyo.store).await;
    tokyo.store.read_realms().await.unwrap();
    assert_eq!((known(&london), known(&tokyo)), ("strict".to_owned(), "strict".to_owned()));
    london.close().await;
    tokyo.close().await;
    twin.drop_it().await;
}
