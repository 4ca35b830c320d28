//! Law 3, and how a site tells that its logs have grown.

use std::time::Duration;

use bruri_domain::{Chain, Cursor};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::kit::{Origin, Site, file_of, verify_logs};

/// Law 3.
#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn sequences_have_no_gap_and_the_chain_follows_from_the_beginning(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open("london", &database).await;
    for n in 0..20 {
        site.put(&file_of(n % 4), format!("{n}")).await;
        site.remove(&file_of(9)).await;
    }
    site.remove(&file_of(1)).await;
    let mut tokyo = Origin::new("tokyo", 7);
    for n in 0..5 {
        tokyo.backup(&file_of(n), b"from tokyo", 5);
        site.store.apply(&tokyo.batch()).await.unwrap();
    }
    assert_eq!(verify_logs(&site.store, &site.pool).await, 26);
    site.close().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn the_chain_of_a_log_is_known_at_each_of_its_sequences(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open("london", &database).await;
    site.put(&file_of(1), "a").await;
    site.put(&file_of(1), "b").await;
    let last = own_files(&site).await;
    let envelopes = site.store.records_after(&last.log.id, 0).await.unwrap().records;
    let mut chain = Chain::begin(&last.log);
    for sequence in 0..=2 {
        let at = Cursor { sequence, ..last.clone() };
        assert_eq!(site.store.chain_at(&at).await.unwrap(), Some(chain));
        if let Some(record) = envelopes.get(usize::try_from(sequence).unwrap()) {
            chain = chain.next(&record.envelope);
        }
    }
    let beyond = Cursor { sequence: 3, ..last };
    assert_eq!(site.store.chain_at(&beyond).await.unwrap(), None);
    site.close().await;
}

async fn own_files(site: &Site) -> Cursor {
    let vector = site.store.vector().await.unwrap();
    vector.into_iter().find(|cursor| cursor.sequence > 0).unwrap()
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_reader_is_woken_by_commits_by_peers_and_by_other_processes(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let (one, other) =
        (Site::open("london", &database).await, Site::open("london", &database).await);
    let mut changes = one.store.changes();
    one.put(&file_of(1), "a").await;
    changes.changed().await.unwrap();
    let mut tokyo = Origin::new("tokyo", 7);
    tokyo.backup(&file_of(1), b"b", 5);
    one.store.apply(&tokyo.batch()).await.unwrap();
    changes.changed().await.unwrap();

    let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
    let (store, stopped) = (one.store.clone(), stop.clone());
    tasks.spawn(async move { store.poll_changes(Duration::from_millis(1), stopped).await });
    changes.changed().await.unwrap(); // the first poll
    assert!(!changes.has_changed().unwrap());
    other.put(&file_of(1), "c").await;
    tokio::time::timeout(Duration::from_secs(10), changes.changed()).await.unwrap().unwrap();
    stop.cancel();
    tasks.join_next().await.unwrap().unwrap();
    one.close().await;
    other.close().await;
}
