//! Law 8: what a release cannot read is kept byte for byte, and applied by the first one that can.

use bruri_domain::{Cursor, FileId, LogKind, RecordKind, Sha256};
use bruri_store::{IncomingBatch, StoreError};
use bruri_wire::record::{decode_envelope, decode_version};
use bytes::Bytes;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use crate::kit::{Origin, Site, file_of, number, verify_logs, version_of};

/// What an earlier release makes of a batch: it neither reads the records nor keeps their bodies.
fn unread(mut batch: IncomingBatch) -> IncomingBatch {
    for record in &mut batch.records {
        (record.version, record.control) = (None, None);
    }
    batch.bodies.clear();
    batch
}

async fn served(site: &Site, file: &FileId) -> Option<Bytes> {
    site.lookup.served(file).await.unwrap().version.map(|found| found.content)
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_version_that_was_kept_unread_takes_its_place_when_a_later_release_starts(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let london = Site::open("london", &database).await;
    let (one, two) = (file_of(1), file_of(2));
    let mut tokyo = Origin::new("tokyo", 1);
    let first = tokyo.backup(&one, b"first", 5);
    tokyo.backup(&two, b"alone", 5);
    let sent = tokyo.batch();
    london.store.apply(&unread(sent.clone())).await.unwrap();
    // Written with knowledge of the first, by somebody who could read it.
    let mut paris = Origin::new("paris", 1);
    let mut second = version_of(&one, b"second", 1);
    second.context.raise_to(&first);
    paris.add_body(b"second");
    paris.version(&second, 0);
    london.store.apply(&paris.batch()).await.unwrap();
    assert_eq!(served(&london, &one).await.unwrap(), "second");
    assert_eq!(served(&london, &two).await, None);
    let page = london.store.records_after(tokyo.log(), 0).await.unwrap();
    let raw: Vec<_> = sent.records.iter().map(|record| record.raw.clone()).collect();
    assert_eq!(page.records, raw);
    london.close().await;

    let london = Site::open("london", &database).await;

    assert_eq!(served(&london, &one).await.unwrap(), "second");
    assert_eq!(london.store.versions(&one, None, 9).await.unwrap().len(), 2);
    let lacking = london.lookup.served(&two).await;
    assert!(matches!(lacking, Err(StoreError::BodyAbsent(_))), "{lacking:?}");
    let wanted = london.store.wanted_bodies(9).await.unwrap();
    assert_eq!(wanted.iter().map(|b| b.sha256).collect::<Vec<_>>(), [Sha256::of(b"alone")]);
    assert!(london.store.store_wanted(&Bytes::from_static(b"alone")).await.unwrap());
    assert_eq!(served(&london, &two).await.unwrap(), "alone");
    assert_eq!(number(&london.pool, "select count(*) from unread_record").await, 0);
    assert_eq!(london.store.apply_unread().await.unwrap(), 0);
    verify_logs(&london.store, &london.pool).await;
    london.close().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn an_erasure_that_was_kept_unread_is_carried_out_when_it_can_be_read(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let (london, file) = (Site::open("london", &database).await, file_of(1));
    let subject = london.store.key().subject_hash(file.subject());
    london.store.erase(subject, [9; 16], "uid 0").await.unwrap();
    let log = london.store.vector().await.unwrap().into_iter();
    let log = log.filter(|at| at.log.kind == LogKind::Control).max_by_key(|at| at.sequence);
    let log = log.unwrap().log;
    let page = london.store.records_after(&log.id, 0).await.unwrap();
    let erasure = page
        .records
        .into_iter()
        .find(|raw| decode_envelope(&raw.envelope).unwrap().kind == RecordKind::Erasure);
    let twin = crate::kit::Twin::create(&database, 1).await;
    let tokyo = Site::open("tokyo", &twin.options).await;
    tokyo.put(&file, "to be erased").await;
    let from = Cursor::at_beginning(log);
    let batch = crate::kit::batch_of(from, vec![erasure.unwrap()], [].into());
    tokyo.store.apply(&unread(batch)).await.unwrap();
    assert_eq!(served(&tokyo, &file).await.unwrap(), "to be erased");

    assert_eq!(tokyo.store.apply_unread().await.unwrap(), 1);

    assert_eq!(served(&tokyo, &file).await, None);
    assert!(matches!(tokyo.commit(&file, Some(b"again")).await, Err(StoreError::Barred)));
    assert_eq!(number(&tokyo.pool, "select count(*) from record where name is not null").await, 0);
    london.close().await;
    tokyo.close().await;
    twin.drop_it().await;
}

/// Law 7.
#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn what_nobody_here_can_read_of_an_erased_subject_is_erased_too_before_and_after(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let (london, file, other) = (Site::open("london", &database).await, file_of(1), file_of(2));
    let mut tokyo = Origin::new("tokyo", 1);
    tokyo.backup(&file, b"came before", 5);
    tokyo.backup(&other, b"of another", 5);
    london.store.apply(&unread(tokyo.batch())).await.unwrap();
    let subject = london.store.key().subject_hash(file.subject());

    london.store.erase(subject, [9; 16], "uid 0").await.unwrap();
    tokyo.backup(&file, b"came after", 5);
    tokyo.version(&version_of(&file, b"written after", 6), 1);
    london.store.apply(&unread(tokyo.batch())).await.unwrap();

    let page = london.store.records_after(tokyo.log(), 0).await.unwrap();
    let kept: Vec<_> = page.records.iter().map(|raw| raw.payload.is_some()).collect();
    assert_eq!(kept, [false, true, false, true]);
    let payload = page.records[3].payload.as_ref().unwrap();
    assert_eq!(decode_version(payload).unwrap().file, file);
    assert_eq!(number(&london.pool, "select count(*) from unread_record").await, 2);
    london.close().await;
}
