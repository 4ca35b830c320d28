//! Records whose bodies a peer has no more: what is served, what is wanted, and how it comes.

use bruri_domain::{Body, DotRef};
use bruri_store::{Outcome, StoreError};
use bytes::Bytes;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use crate::kit::{FIRST_MICROS, NOTHING, Origin, Site, Twin, file_of, number, pull, verify_logs};

const WANTED: &str = "select count(*) from wanted_body";

/// A site to which tokyo sent a head of file 1 without its body.
async fn site_that_lacks(content: &[u8], database: &PgConnectOptions) -> Site {
    let (site, mut tokyo) = (Site::open("london", database).await, Origin::new("tokyo", 7));
    site.put(&file_of(1), "mine").await;
    tokyo.backup(&file_of(1), content, FIRST_MICROS + 9);
    site.store.apply(&tokyo.pruned_batch()).await.unwrap();
    site
}

async fn is_absent(site: &Site) -> bool {
    let dot = site.store.files("1_", None, 1).await.unwrap().remove(0).state;
    let dot = dot.served().unwrap().dot.clone();
    match (site.lookup.served(&file_of(1)).await, site.store.version(&file_of(1), None).await) {
        (Err(StoreError::BodyAbsent(one)), Err(StoreError::BodyAbsent(other))) => {
            one == dot && other == dot
        }
        (Ok(_), Ok(_)) => false,
        unexpected => panic!("{unexpected:?}"),
    }
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_head_without_its_body_is_not_served_as_something_else_and_is_once_it_has_come(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = site_that_lacks(b"theirs", &database).await;
    assert!(is_absent(&site).await);
    assert_eq!(site.store.wanted_bodies(9).await.unwrap(), [Body::of(b"theirs")]);
    assert!(!site.store.store_wanted(&Bytes::from("another")).await.unwrap());
    assert!(is_absent(&site).await);
    assert!(site.store.store_wanted(&Bytes::from("theirs")).await.unwrap());
    assert_eq!(site.get(&file_of(1)).await, Some(Bytes::from("theirs")));
    let versions = site.store.versions(&file_of(1), None, 9).await.unwrap();
    assert!(versions.iter().all(|entry| !entry.pruned));
    assert_eq!(site.store.wanted_bodies(9).await.unwrap(), []);
    assert_eq!(number(&site.pool, "select count(*) from body").await, 2, "the other was not kept");
    assert!(!site.store.store_wanted(&Bytes::from("theirs")).await.unwrap());
    verify_logs(&site.store, &site.pool).await;
    site.close().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_body_that_is_here_already_is_not_wanted(_: PgPoolOptions, database: PgConnectOptions) {
    let site = site_that_lacks(b"mine", &database).await;
    assert_eq!(site.get(&file_of(1)).await, Some(Bytes::from("mine")));
    assert_eq!(number(&site.pool, WANTED).await, 0);
    assert_eq!(number(&site.pool, "select count(*) from record where pruned").await, 0);
    site.close().await;
}

/// Law 1: the phone is told 2xx, so its bytes are here.
#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_phone_that_confirms_a_version_brings_the_body_that_was_wanted(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let (site, mut tokyo) = (Site::open("london", &database).await, Origin::new("tokyo", 7));
    tokyo.backup(&file_of(1), b"theirs", FIRST_MICROS + 9);
    site.store.apply(&tokyo.pruned_batch()).await.unwrap();
    assert!(is_absent(&site).await);
    assert_eq!(site.put(&file_of(1), "theirs").await.outcome, Outcome::Confirmed);
    assert_eq!(site.get(&file_of(1)).await, Some(Bytes::from("theirs")));
    assert_eq!(number(&site.pool, WANTED).await, 0);
    assert_eq!(number(&site.pool, "select count(*) from record where pruned").await, 0);
    site.close().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_body_that_came_by_another_way_is_given_to_the_head_that_wants_it(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = site_that_lacks(b"theirs", &database).await;
    site.put(&file_of(2), "theirs").await;
    assert_eq!(site.store.wanted_bodies(9).await.unwrap(), []);
    assert_eq!(number(&site.pool, WANTED).await, 0);
    // It stays when the other file needs it no more.
    site.put(&file_of(2), "next").await;
    site.prune(&NOTHING).await;
    assert_eq!(site.get(&file_of(1)).await, Some(Bytes::from("theirs")));
    site.close().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn what_is_superseded_is_wanted_no_more(_: PgPoolOptions, database: PgConnectOptions) {
    let site = site_that_lacks(b"theirs", &database).await;
    let mut paris = Origin::new("paris", 8);
    let old = paris.backup(&file_of(2), b"old", 5);
    let mut new = crate::kit::version_of(&file_of(2), b"new", 6);
    new.context.add(&old);
    paris.version(&new, 0);
    paris.add_body(b"new");
    site.store.apply(&paris.pruned_batch()).await.unwrap();
    assert_eq!(number(&site.pool, WANTED).await, 2, "old was superseded by the same batch");
    // By a phone of which nothing is remembered.
    site.put_by(9, &file_of(1), "next").await;
    assert_eq!(site.store.wanted_bodies(9).await.unwrap(), [Body::of(b"new")]);
    assert_eq!(number(&site.pool, WANTED).await, 1);
    site.close().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn bodies_that_nobody_has_do_not_keep_others_from_being_asked_for(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let (site, mut tokyo) = (Site::open("london", &database).await, Origin::new("tokyo", 7));
    for n in 0..5 {
        tokyo.backup(&file_of(n), format!("{n}").as_bytes(), 5);
    }
    site.store.apply(&tokyo.pruned_batch()).await.unwrap();
    let mut asked = Vec::new();
    for _ in 0..3 {
        asked.extend(site.store.wanted_bodies(2).await.unwrap());
    }
    asked.sort();
    asked.dedup();
    assert_eq!(asked.len(), 5);
    site.close().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn what_one_site_pruned_the_next_one_keeps_as_pruned_and_supplies_so(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let twin = Twin::create(&database, 2).await;
    let third = Twin::create(&database, 3).await;
    let london = Site::open("london", &database).await;
    let tokyo = Site::open("tokyo", &twin.options).await;
    let paris = Site::open("paris", &third.options).await;
    let old = london.put(&file_of(1), "old").await.dot.unwrap();
    london.put(&file_of(1), "new").await;
    london.prune(&NOTHING).await;
    for (from, to) in [(&london, &tokyo), (&tokyo, &paris)] {
        pull(&from.store, &to.store).await;
        assert_eq!(to.get(&file_of(1)).await, Some(Bytes::from("new")));
        let named: DotRef = old.to_string().parse().unwrap();
        let gone = to.store.version(&file_of(1), Some(&named)).await;
        assert!(matches!(gone, Err(StoreError::BodyGone(dot)) if dot == old));
        assert_eq!(number(&to.pool, WANTED).await, 0);
        assert_eq!(verify_logs(&to.store, &to.pool).await, 2);
    }
    for site in [london, tokyo, paris] {
        site.close().await;
    }
    twin.drop_it().await;
    third.drop_it().await;
}
