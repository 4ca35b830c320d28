//! Records of other sites: all of a batch or nothing, once, whatever it holds.

use bruri_domain::{Context, Dot, Sha256};
use bruri_store::{ApplyError, Outcome, Standing, StoreError};
use bruri_wire::record::RawRecord;
use bytes::Bytes;
use futures_util::future::join;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use crate::kit::{Origin, Site, dump, file_of, number, verify_logs, version_of};

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_batch_moves_rows_states_and_cursor_together(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open("london", &database).await;
    let mut tokyo = Origin::new("tokyo", 7);
    for n in [1, 2, 1] {
        tokyo.backup(&file_of(n), format!("{n}").as_bytes(), 5);
    }
    let batch = tokyo.batch();
    site.store.apply(&batch).await.unwrap();
    assert!(site.store.vector().await.unwrap().contains(&batch.to));
    assert_eq!(site.get(&file_of(1)).await, Some(Bytes::from("1")));
    assert_eq!(site.get(&file_of(2)).await, Some(Bytes::from("2")));
    assert_eq!(verify_logs(&site.store, &site.pool).await, 3);
    site.close().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn of_a_batch_that_cannot_be_stored_whole_nothing_is_stored(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open("london", &database).await;
    let mut tokyo = Origin::new("tokyo", 7);
    tokyo.backup(&file_of(1), b"a", 5);
    site.store.apply(&tokyo.batch()).await.unwrap();
    let before = dump(&site.pool).await;
    tokyo.backup(&file_of(1), b"b", 6);
    tokyo.backup(&file_of(2), b"b", 7);
    tokyo.lose_bodies();
    let refused = site.store.apply(&tokyo.batch()).await;
    assert!(matches!(refused, Err(ApplyError::Store(StoreError::Database(_)))));
    assert_eq!(dump(&site.pool).await, before);
    site.close().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_batch_that_is_applied_again_changes_nothing(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open("london", &database).await;
    let mut tokyo = Origin::new("tokyo", 7);
    for _ in 0..2 {
        tokyo.backup(&file_of(1), b"a", 5);
        let batch = tokyo.batch();
        site.store.apply(&batch).await.unwrap();
        let before = dump(&site.pool).await;
        let again = site.store.apply(&batch).await;
        assert!(matches!(again, Err(ApplyError::CursorMoved(log)) if log == *tokyo.log()));
        assert_eq!(dump(&site.pool).await, before);
    }
    site.close().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn of_two_that_apply_a_batch_at_once_exactly_one_wins(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let (one, other) =
        (Site::open("london", &database).await, Site::open("london", &database).await);
    let mut tokyo = Origin::new("tokyo", 7);
    for n in 0..40_usize {
        tokyo.backup(&file_of(n % 5), format!("{n}").as_bytes(), n as u64);
        let batch = tokyo.batch();
        let results = join(one.store.apply(&batch), other.store.apply(&batch)).await;
        match results {
            (Ok(()), Err(ApplyError::CursorMoved(_)))
            | (Err(ApplyError::CursorMoved(_)), Ok(())) => {}
            unexpected => panic!("{n}: {unexpected:?}"),
        }
    }
    assert_eq!(verify_logs(&one.store, &one.pool).await, 40);
    one.close().await;
    other.close().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_batch_that_claims_this_sites_own_log_is_refused(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open("london", &database).await;
    let own = site.store.vector().await.unwrap();
    let before = dump(&site.pool).await;
    for cursor in own {
        let mut forged = Origin::new("london", cursor.log.id.epoch.0);
        forged.backup(&file_of(1), b"a", 5);
        let refused = site.store.apply(&forged.batch()).await;
        assert!(matches!(refused, Err(ApplyError::CursorMoved(_))));
    }
    assert_eq!(dump(&site.pool).await, before);
    site.close().await;
}

fn of_kind_77() -> RawRecord {
    let payload = b"what a later release writes".to_vec();
    let (kind, generation, hash_of_32_bytes) = ([0x08, 77], [0x18, 3], [0x22, 32]);
    // A field that this release would drop if it wrote the envelope anew.
    let unknown_field = [0xa0, 0x38, 5];
    let hash = Sha256::of(&payload);
    let envelope =
        [&kind[..], &generation, &hash_of_32_bytes, hash.as_bytes(), &unknown_field].concat();
    RawRecord { envelope: envelope.into(), payload: Some(payload.into()) }
}

/// Law 8.
#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_record_of_an_unknown_kind_is_kept_and_supplied_byte_for_byte(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open("london", &database).await;
    let mut tokyo = Origin::new("tokyo", 7);
    tokyo.write(of_kind_77());
    tokyo.backup(&file_of(1), b"a", 5);
    let batch = tokyo.batch();
    site.store.apply(&batch).await.unwrap();
    let page = site.store.records_after(tokyo.log(), 0).await.unwrap();
    let sent: Vec<RawRecord> = batch.records.into_iter().map(|record| record.raw).collect();
    assert_eq!(page.records, sent);
    assert_eq!(page.records[0], of_kind_77());
    assert_eq!(site.get(&file_of(1)).await, Some(Bytes::from("a")));
    assert_eq!(verify_logs(&site.store, &site.pool).await, 2);
    site.close().await;
}

/// Law 7.
#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn of_a_version_of_an_older_generation_only_its_place_is_kept(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open("london", &database).await;
    let (mut tokyo, mut paris) = (Origin::new("tokyo", 7), Origin::new("paris", 8));
    let file = file_of(1);
    let mut deleted = version_of(&file, b"", 5);
    deleted.body = None;
    tokyo.version(&deleted, 1);
    site.store.apply(&tokyo.batch()).await.unwrap();
    paris.backup(&file, b"erased before it came", 9);
    let batch = paris.batch();
    site.store.apply(&batch).await.unwrap();
    assert_eq!(site.get(&file).await, None);
    let page = site.store.records_after(paris.log(), 0).await.unwrap();
    assert_eq!(page.records[0].envelope, batch.records[0].raw.envelope);
    assert_eq!((&page.records[0].payload, page.bodies.len()), (&None, 0));
    assert_eq!(number(&site.pool, "select count(*) from body").await, 0);
    assert_eq!(site.store.versions(&file, None, 9).await.unwrap().len(), 1);
    assert_eq!(verify_logs(&site.store, &site.pool).await, 2);
    site.close().await;
}

async fn standings(site: &Site) -> Vec<(Dot, Standing)> {
    let versions = site.store.versions(&file_of(1), None, 9).await.unwrap();
    versions.into_iter().map(|entry| (entry.dot, entry.standing)).collect()
}

/// Law 6.
#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn versions_written_without_knowledge_of_each_other_are_heads_until_one_covers_both(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open("london", &database).await;
    let (mut tokyo, file) = (Origin::new("tokyo", 7), file_of(1));
    let mine = site.put(&file, "mine").await.dot.unwrap();
    let theirs = tokyo.backup(&file, b"theirs", u64::MAX / 4);
    site.store.apply(&tokyo.batch()).await.unwrap();
    let conflict = [(theirs.clone(), Standing::Served), (mine.clone(), Standing::Concurrent)];
    assert_eq!(standings(&site).await, conflict);
    // Equal to one head only, so it tells something new.
    site.get_by(9, &file).await;
    let put = site.put_by(9, &file, "theirs").await;
    assert_eq!(put.outcome, Outcome::Replaced);
    let versions = site.store.versions(&file, None, 9).await.unwrap();
    let context: &Context =
        &versions.iter().find(|v| Some(&v.dot) == put.dot.as_ref()).unwrap().version.context;
    assert!(context.covers(&mine) && context.covers(&theirs));
    let ended = [Standing::Superseded, Standing::Served, Standing::Superseded];
    let now: Vec<_> = standings(&site).await.into_iter().map(|(_, standing)| standing).collect();
    assert_eq!(now, ended);
    site.close().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_version_that_changes_nothing_that_is_served_leaves_the_confirmation(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open("london", &database).await;
    let (mut tokyo, file) = (Origin::new("tokyo", 7), file_of(1));
    for _ in 0..2 {
        site.put(&file, "mine").await;
    }
    let confirmed = "select count(*) from file where confirmed_micros is not null";
    tokyo.backup(&file, b"older", 5);
    site.store.apply(&tokyo.batch()).await.unwrap();
    assert_eq!(number(&site.pool, confirmed).await, 1);
    tokyo.backup(&file, b"newer", u64::MAX / 4);
    site.store.apply(&tokyo.batch()).await.unwrap();
    assert_eq!(number(&site.pool, confirmed).await, 0);
    site.close().await;
}

/// Origins that all know the same files.
fn three_origins() -> [Origin; 3] {
    let mut origins = [("tokyo", 7), ("paris", 8), ("lima", 9)].map(|(s, e)| Origin::new(s, e));
    for (n, origin) in origins.iter_mut().enumerate() {
        for file in 0..4 {
            origin.backup(&file_of(file), format!("{n} {}", file % 2).as_bytes(), n as u64);
        }
        origin.backup(&file_of(n), b"the same everywhere", 9);
    }
    origins
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn batches_of_several_logs_are_one_transaction_and_each_is_whole(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open("london", &database).await;
    let before = verify_logs(&site.store, &site.pool).await;
    let mut origins = three_origins();
    for round in 1..=2 {
        let batches = origins.each_mut().map(Origin::batch);
        let results = site.store.apply_all(&batches).await;
        assert!(results.iter().all(Result::is_ok), "{results:?}");
        let vector = site.store.vector().await.unwrap();
        assert!(batches.iter().all(|batch| vector.contains(&batch.to)), "{vector:?}");
        let transactions = "select count(distinct xmin::text) from record where realm is not null";
        assert_eq!(number(&site.pool, transactions).await, round);
        for origin in &mut origins {
            origin.backup(&file_of(1), b"later", 20);
        }
    }
    assert_eq!(verify_logs(&site.store, &site.pool).await, before + 18);
    for file in 0..4 {
        let was_wrong = site.store.rebuild(&file_of(file)).await.unwrap();
        assert!(!was_wrong, "the state of {file} is not that of its records");
    }
    // Each of three wrote file 3 without knowledge of the others.
    let versions = site.store.versions(&file_of(3), None, 9).await.unwrap();
    let heads = versions.iter().filter(|entry| entry.standing != Standing::Superseded);
    assert_eq!(heads.count(), 3);
    site.close().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn of_several_logs_one_whose_cursor_was_moved_costs_no_other(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open("london", &database).await;
    let batches = three_origins().each_mut().map(Origin::batch);
    site.store.apply(&batches[1]).await.unwrap();
    let results = site.store.apply_all(&batches).await;
    assert!(matches!(results.as_slice(), [Ok(()), Err(ApplyError::CursorMoved(_)), Ok(())]));
    let vector = site.store.vector().await.unwrap();
    assert!(batches.iter().all(|batch| vector.contains(&batch.to)), "{vector:?}");
    verify_logs(&site.store, &site.pool).await;
    site.close().await;
}
