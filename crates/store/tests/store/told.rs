//! Numbers of other sites' logs that phones were answered with, and of which no record is here.

use bruri_domain::{Context, Dot, LogKind};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use crate::kit::{Origin, Site, file_of, mark_of, number};

/// What a phone was answered with that saw that number.
fn context(dot: &Dot) -> Context {
    let mut context = Context::default();
    context.raise_to(dot);
    context
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_number_that_was_read_is_told_until_its_record_is_here(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let (site, mut tokyo) = (Site::open("london", &database).await, Origin::new("tokyo", 7));
    let from = tokyo.log().site.clone();
    let first = tokyo.backup(&file_of(1), b"a", 1);
    let second = tokyo.backup(&file_of(1), b"b", 2);
    assert_eq!(site.store.told(&from).await.unwrap(), []);
    for dot in [&second, &first] {
        site.store.note_told(&context(dot));
        let told = site.store.told(&from).await.unwrap();
        assert_eq!(told, std::slice::from_ref(&second), "the highest counts");
    }
    assert_eq!(
        site.store.told(site.store.site()).await.unwrap(),
        [],
        "another site's are not told"
    );
    site.store.write_remembered().await.unwrap();
    site.close().await;

    let site = Site::open("london", &database).await;
    assert_eq!(site.store.told(&from).await.unwrap(), [second], "it is kept");
    site.store.apply(&tokyo.batch()).await.unwrap();
    assert_eq!(site.store.told(&from).await.unwrap(), []);
    site.close().await;
}

/// The record and the entry name the number, so nothing may be left of either that does not tell it.
#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_number_that_was_read_is_kept_with_what_the_phone_remembers_and_writes(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open("london", &database).await;
    let kept = "select coalesce(max(sequence), 0)::bigint from told";
    let mut tokyo = Origin::new("tokyo", 7);
    let dots = [1, 2].map(|micros| tokyo.backup(&file_of(1), b"a", micros));
    site.store.note_told(&context(&dots[0]));
    assert_eq!(number(&site.pool, kept).await, 0);
    site.put(&file_of(2), "b").await;
    assert_eq!(number(&site.pool, kept).await, 1);
    site.store.note_told(&context(&dots[1]));
    let remembered = bruri_domain::Remembered::Seen { generation: 0, context: context(&dots[1]) };
    site.store.remember(mark_of(1, &file_of(1)), remembered);
    site.store.write_remembered().await.unwrap();
    assert_eq!(number(&site.pool, kept).await, 2);
    site.close().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_number_that_a_peer_read_and_this_site_never_gave_ends_the_epoch(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open("london", &database).await;
    let given = site.put(&file_of(1), "a").await.dot.unwrap();
    let mut of_another = given.clone();
    of_another.log.epoch.0 ^= 1;
    of_another.sequence = 9;
    site.store.peer_was_told(&[given.clone(), of_another]).await.unwrap();
    assert_eq!(site.put(&file_of(1), "b").await.dot.unwrap().log, given.log);

    let lost = Dot { sequence: 3, ..given.clone() };
    site.store.peer_was_told(std::slice::from_ref(&lost)).await.unwrap();

    let next = site.put(&file_of(1), "c").await.dot.unwrap();
    assert_ne!(next.log, given.log);
    let open = site.store.vector().await.unwrap();
    let open = open.iter().find(|cursor| cursor.log.id == next.log).unwrap();
    assert_eq!(open.log.kind, LogKind::Files);
    assert_eq!(open.log.predecessor.unwrap().sequence, 2);
    site.store.peer_was_told(&[lost]).await.unwrap();
    assert_eq!(site.put(&file_of(1), "d").await.dot.unwrap().log, next.log, "once");
    site.close().await;
}
