//! Snapshots: states first, then history, and never less than either site knew.

use bruri_domain::{Cursor, FileId, LogId, Sha256};
use bruri_store::{ApplyError, IncomingStates, Store, StoreError};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use crate::kit::{
    Origin, Site, Twin, file_of, found_in, key, next_batch, next_fill, number, pull, pull_log,
    verify_logs,
};

/// Two sites on databases of their own.
async fn two(database: &PgConnectOptions) -> (Site, Site, Twin) {
    let twin = Twin::create(database, 1).await;
    (Site::open("london", database).await, Site::open("paris", &twin.options).await, twin)
}

/// Bodies so large that each file is a chunk.
fn large(letter: char) -> String {
    letter.to_string().repeat(700_000)
}

/// The next chunk of what `from` has.
pub(crate) async fn chunk(from: &Store, after: Option<&FileId>) -> IncomingStates {
    let vector = files_of(from).await;
    let copied = from.states_after(after).await.unwrap();
    IncomingStates { after: after.cloned(), vector, copied }
}

async fn files_of(store: &Store) -> Vec<Cursor> {
    let mut vector = store.vector().await.unwrap();
    vector.retain(|at| at.log.kind == bruri_domain::LogKind::Files && at.sequence > 0);
    vector
}

/// Takes one chunk and tells whether more follow.
pub(crate) async fn take(from: &Store, to: &Store) -> bool {
    let after = to.snapshot().await.unwrap().copying.map(|(file, _)| file);
    let states = chunk(from, after.as_ref()).await;
    to.take_states(&states).await.unwrap();
    !states.copied.is_last
}

pub(crate) async fn take_all(from: &Store, to: &Store) {
    while take(from, to).await {}
}

pub(crate) async fn fill_all(from: &Store, to: &Store) {
    while let Some(batch) = next_fill(from, to).await {
        to.fill(&batch).await.unwrap();
    }
}

/// What both sites have of the other sites' logs of files, and of the states, is the same.
async fn assert_equal(one: &Site, other: &Site, files: &[FileId]) {
    for file in files {
        let (a, b) = (one.store.known_of(file).await.unwrap(), other.store.known_of(file).await);
        assert_eq!(a, b.unwrap(), "{file}");
        assert_eq!(one.get(file).await, other.get(file).await, "{file}");
    }
    for log in [log_of(one).await, log_of(other).await] {
        let (mut a, mut b) = (pages(&one.store, &log).await, pages(&other.store, &log).await);
        a.1.sort();
        b.1.sort();
        assert_eq!(a, b, "{log}");
    }
}

async fn log_of(site: &Site) -> LogId {
    let own = |at: &Cursor| site.store.appends_to(&at.log.id);
    files_of(&site.store).await.into_iter().find(own).unwrap().log.id
}

async fn pages(store: &Store, log: &LogId) -> (Vec<bruri_wire::record::RawRecord>, Vec<Sha256>) {
    let (mut records, mut bodies) = (Vec::new(), Vec::new());
    loop {
        let page = store.records_after(log, records.len() as u64).await.unwrap();
        if page.records.is_empty() {
            return (records, bodies);
        }
        records.extend(page.records);
        bodies.extend(page.bodies.iter().map(|body| Sha256::of(body)));
    }
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn after_the_states_a_site_serves_all_and_then_its_history_is_filled_in_byte_for_byte(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let (london, paris, twin) = two(&database).await;
    let files: Vec<FileId> = (1..=4).map(file_of).collect();
    for round in ["a", "b", "c"] {
        for file in &files {
            london.put(file, round).await;
        }
    }
    london.remove(&files[3]).await;
    // A conflict at the supplier, and a file that only the other knows.
    let mut tokyo = Origin::new("tokyo", 7);
    tokyo.backup(&files[1], b"theirs", 9);
    london.store.apply(&tokyo.batch()).await.unwrap();
    paris.put(&files[2], "of paris").await;
    pull(&paris.store, &london.store).await;
    paris.put(&file_of(9), "not sent yet").await;

    take_all(&london.store, &paris.store).await;
    for file in &files {
        assert_eq!(paris.get(file).await, london.get(file).await, "{file}");
    }
    assert_eq!(number(&paris.pool, "select count(*) from conflict").await, 2);
    // It goes on from the tail, and cannot supply what it has not.
    let log = log_of(&london).await;
    let at = files_of(&paris.store).await;
    assert!(files_of(&london.store).await.iter().all(|ours| {
        at.iter().any(|at| at.log.id == ours.log.id && at.sequence >= ours.sequence)
    }));
    let refused = paris.store.records_after(&log, 0).await;
    assert!(matches!(refused, Err(StoreError::BelowFloor(_))), "{refused:?}");
    let nowhere = Cursor { sequence: 2, ..Cursor::at_beginning(at[0].log.clone()) };
    let nowhere = Cursor { log: bruri_domain::Log { id: log.clone(), ..nowhere.log }, ..nowhere };
    let chain = paris.store.chain_at(&nowhere).await;
    assert!(matches!(chain, Err(StoreError::BelowFloor(_))), "{chain:?}");
    assert!(matches!(paris.store.rebuild(&files[0]).await, Err(StoreError::HistoryIncomplete)));
    // What is written meanwhile is appended and applied as ever.
    london.put(&files[0], "d").await;
    paris.put(&files[2], "meanwhile").await;
    pull(&london.store, &paris.store).await;
    pull_log(&paris.store, &london.store, &log_of(&paris).await).await;

    fill_all(&london.store, &paris.store).await;
    assert_eq!(paris.store.snapshot().await.unwrap(), bruri_store::Snapshot::default());
    verify_logs(&paris.store, &paris.pool).await;
    assert_equal(&london, &paris, &files).await;
    for file in &files {
        assert!(!paris.store.rebuild(file).await.unwrap(), "the state is that of the records");
    }
    london.close().await;
    paris.close().await;
    twin.drop_it().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_snapshot_that_is_left_goes_on_there_and_the_logs_only_as_far_as_every_supplier_had_them(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let (london, paris, twin) = two(&database).await;
    let other = Twin::create(&database, 2).await;
    let rome = Site::open("rome", &other.options).await;
    for n in 1..=3 {
        london.put(&file_of(n), large('a')).await;
    }
    let log = log_of(&london).await;
    pull_log(&london.store, &rome.store, &log).await;
    assert!(take(&london.store, &paris.store).await, "more follow");
    // Written after the first state was read, and known at the one supplier only.
    london.put(&file_of(1), large('b')).await;
    london.put(&file_of(2), large('b')).await;
    let (file, count) = paris.store.snapshot().await.unwrap().copying.unwrap();
    assert_eq!((&file, count), (&file_of(1), 1));
    let stale = chunk(&rome.store, None).await;
    let moved = paris.store.take_states(&stale).await;
    assert!(matches!(moved, Err(StoreError::SnapshotMoved)), "{moved:?}");
    assert!(take(&london.store, &paris.store).await);
    assert!(!take(&rome.store, &paris.store).await);
    let at = files_of(&paris.store).await.into_iter().find(|at| at.log.id == log).unwrap();
    assert_eq!(at.sequence, 3, "as far as the first chunk's supplier had it");
    pull_log(&london.store, &paris.store, &log).await;
    fill_all(&rome.store, &paris.store).await;
    verify_logs(&paris.store, &paris.pool).await;
    for n in 1..=3 {
        let (a, b) =
            (london.store.known_of(&file_of(n)).await, paris.store.known_of(&file_of(n)).await);
        assert_eq!(a.unwrap(), b.unwrap());
        assert!(!paris.store.rebuild(&file_of(n)).await.unwrap());
    }
    for site in [london, paris, rome] {
        site.close().await;
    }
    twin.drop_it().await;
    other.drop_it().await;
}

/// Law 7.
#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn what_is_erased_while_a_snapshot_is_taken_comes_back_neither_with_states_nor_with_history(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let (london, paris, twin) = two(&database).await;
    let files: Vec<FileId> = (201..=203).map(file_of).collect();
    for file in &files {
        london.put(file, format!("first {file}")).await;
        london.put(file, large('x')).await;
    }
    let states = chunk(&london.store, None).await;
    assert_eq!(states.copied.files.len(), 1, "each file is a chunk");
    let subject = |file: &FileId| key().subject_hash(file.subject());
    // Known here before the state comes that was read before.
    paris.store.erase(subject(&files[0]), [1; 16], "uid 0").await.unwrap();
    paris.store.take_states(&states).await.unwrap();
    assert_eq!(paris.get(&files[0]).await, None);
    // Of the file that came last.
    assert!(take(&london.store, &paris.store).await);
    paris.store.erase(subject(&files[1]), [2; 16], "uid 0").await.unwrap();
    let traces = ["201_".to_owned(), "202_".to_owned()];
    let snapshot = paris.store.snapshot().await.unwrap();
    assert!(snapshot.copying.is_none_or(|(file, _)| file < files[1]));
    take_all(&london.store, &paris.store).await;
    assert_eq!(found_in(&paris.pool, &traces).await, Vec::<String>::new());
    fill_all(&london.store, &paris.store).await;
    assert_eq!(found_in(&paris.pool, &traces).await, Vec::<String>::new());
    assert_eq!(paris.get(&files[2]).await, london.get(&files[2]).await);
    verify_logs(&paris.store, &paris.pool).await;
    london.close().await;
    paris.close().await;
    twin.drop_it().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn history_that_leads_elsewhere_than_the_snapshot_says_is_refused(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let (london, paris, twin) = two(&database).await;
    let (mut one, mut other) = (Origin::new("tokyo", 7), Origin::new("tokyo", 7));
    for content in ["a", "b"] {
        one.backup(&file_of(1), content.as_bytes(), 1);
        other.backup(&file_of(1), format!("void {content}").as_bytes(), 1);
    }
    london.store.apply(&one.batch()).await.unwrap();
    take_all(&london.store, &paris.store).await;
    let refused = paris.store.fill(&other.batch()).await;
    assert!(matches!(refused, Err(ApplyError::VoidBranch(_))), "{refused:?}");
    fill_all(&london.store, &paris.store).await;
    let again = next_fill(&london.store, &paris.store).await;
    assert!(again.is_none());
    assert!(next_batch(&london.store, &paris.store, one.log()).await.is_none());
    verify_logs(&paris.store, &paris.pool).await;
    london.close().await;
    paris.close().await;
    twin.drop_it().await;
}
