//! Whether two sites are equal, and what is damaged: found, never handed out, and put right.

use bruri_domain::{Digest, FileId, Sha256};
use bruri_store::StoreError;
use bytes::Bytes;
use sqlx::{
    AssertSqlSafe, Connection as _, Executor as _, PgConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::kit::{Site, Twin, file_of, number, pull};

const DAMAGED: &str = "select count(*) from damaged_body";

/// Does to the database what nobody should, by hand.
async fn by_hand(site: &Site, statement: &str) {
    let mut connection: PgConnection = site.pool.acquire().await.unwrap().detach();
    connection.execute("set session_replication_role = replica").await.unwrap();
    let done = connection.execute(AssertSqlSafe(statement.to_owned())).await.unwrap();
    assert_eq!(done.rows_affected(), 1, "{statement}");
    connection.close().await.unwrap();
}

async fn site_with_files(database: &PgConnectOptions) -> Site {
    let site = Site::open("london", database).await;
    for n in 1..=3 {
        site.put(&file_of(n), format!("ABKNAME001={n}")).await;
        site.put(&file_of(n), format!("ABKNAME001=new {n}")).await;
    }
    site
}

async fn root(site: &Site) -> Sha256 {
    site.store.proof().await.unwrap().digest.root()
}

fn new(n: usize) -> Bytes {
    Bytes::from(format!("ABKNAME001=new {n}"))
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn two_sites_with_the_same_records_have_the_same_digest(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let (site, twin) = (site_with_files(&database).await, Twin::create(&database, 1).await);
    let other = Site::open("tokyo", &twin.options).await;
    other.put(&file_of(2), "ABKNAME001=tokyo's").await;
    assert_ne!(root(&site).await, root(&other).await);
    // In another order at each.
    pull(&site.store, &other.store).await;
    pull(&other.store, &site.store).await;
    let (ours, theirs) = (site.store.proof().await.unwrap(), other.store.proof().await.unwrap());
    assert_eq!((&ours.digest, &ours.vector), (&theirs.digest, &theirs.vector));
    assert_eq!((ours.digest.files(), ours.damaged), (3, vec![]));
    // A row that holds nothing makes no difference.
    site.store.mend_state(&file_of(9)).await.unwrap();
    assert_eq!(root(&site).await, root(&other).await);
    site.close().await;
    other.close().await;
    twin.drop_it().await;
}

/// Rows as a hand may leave them: each is found by looking through all, and made anew as it was.
#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_file_whose_row_is_damaged_or_gone_is_found_and_made_anew_from_its_records(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = site_with_files(&database).await;
    let before = root(&site).await;
    for damage in [
        "update file set state = state || '\\x00' where name = '2_16xxdata.txt'",
        "update file set checksum = sha256(checksum) where name = '2_16xxdata.txt'",
        "update file set served_body = null where name = '2_16xxdata.txt'",
        "delete from file where name = '2_16xxdata.txt'",
    ] {
        by_hand(&site, damage).await;
        let proof = site.store.proof().await.unwrap();
        assert_eq!(proof.damaged, [file_of(2)], "{damage}");
        assert_ne!(proof.digest.root(), before);
        let served = site.lookup.served(&file_of(2)).await;
        assert!(matches!(served, Err(StoreError::Corrupt { table: "file", .. })), "{served:?}");
        let mended = site.store.mend_all(&proof.damaged).await.unwrap();
        assert_eq!((mended.files, mended.unmended), (vec![file_of(2)], vec![]));
        assert_eq!((root(&site).await, site.get(&file_of(2)).await), (before, Some(new(2))));
    }
    site.close().await;
}

/// A row that is whole and wrong: only a peer shows it.
#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_row_that_is_wrong_in_itself_shows_in_its_bucket_and_is_made_anew(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open("london", &database).await;
    site.put(&file_of(1), "old").await;
    by_hand(&site, "create table older as select * from file").await;
    site.put(&file_of(1), "new").await;
    let before = site.store.proof().await.unwrap();
    by_hand(
        &site,
        "update file f set state = o.state, checksum = o.checksum, served_body = o.served_body
           from older o where o.name = f.name",
    )
    .await;
    let after = site.store.proof().await.unwrap();
    let bucket = Digest::bucket_of(&file_of(1));
    assert_eq!((after.digest.differing(&before.digest), after.damaged), (vec![bucket], vec![]));
    let remade = site.store.remade(&[bucket]).await.unwrap().unwrap();
    assert_eq!((remade.repaired, remade.files.len()), (1, 1));
    assert_eq!(site.store.proof().await.unwrap().digest, before.digest);
    assert_eq!(site.get(&file_of(1)).await, Some(Bytes::from("new")));
    site.close().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_file_of_which_a_record_is_damaged_is_named_and_not_made_up(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = site_with_files(&database).await;
    by_hand(&site, "update record set payload = payload || '\\x00' where sequence = 1").await;
    by_hand(&site, "delete from file where name = '1_16xxdata.txt'").await;
    let damaged: Vec<FileId> = site.store.proof().await.unwrap().damaged;
    let mended = site.store.mend_all(&damaged).await.unwrap();
    assert_eq!((mended.files, mended.unmended), (vec![], vec![file_of(1)]));
    assert!(site.store.mend(&file_of(1)).await.unwrap().is_none());
    assert!(site.lookup.served(&file_of(1)).await.is_err(), "never \"not found\"");
    site.close().await;
}

/// A frame of zstd that is whole and holds other bytes, one that is none, and a body that is gone.
#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_body_that_is_damaged_or_gone_is_found_not_handed_out_and_replaced_by_the_right_one_only(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = site_with_files(&database).await;
    let (right, wrong) = (new(2), Bytes::from("ABKNAME001=new 7"));
    let sha256 = Sha256::of(&right);
    for damage in [
        "update body b set content = o.content from body o where b.sha256 = $ and o.bytes = b.bytes and o.sha256 <> b.sha256",
        "update body b set content = set_byte(content, 10, get_byte(content, 10) # 1) where b.sha256 = $",
        "delete from body b where b.sha256 = $",
    ] {
        by_hand(&site, &damage.replace('$', &format!("'\\x{sha256}'"))).await;
        assert!(site.lookup.served(&file_of(2)).await.unwrap_err().is_damage(), "{damage}");
        assert!(site.store.whole_bodies(&[sha256], 9000).await.unwrap().is_empty());
        let scrubbed = site.store.scrub_all().await.unwrap();
        assert_eq!((scrubbed.damaged, number(&site.pool, DAMAGED).await), (1, 1), "{damage}");
        assert_eq!(
            site.store.lacking_bodies().await.unwrap().into_iter().collect::<Vec<_>>(),
            [sha256]
        );
        assert!(!site.store.take_body(&wrong).await.unwrap());
        assert!(site.store.take_body(&right).await.unwrap());
        assert!(!site.store.take_body(&right).await.unwrap(), "it is lacking no more");
        assert_eq!(site.get(&file_of(2)).await, Some(new(2)));
        assert_eq!(site.store.scrub_all().await.unwrap().damaged, 0);
    }
    site.close().await;
}

/// Law 7: an erased body does not come back as a repair.
#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_body_that_no_record_references_is_not_taken(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = site_with_files(&database).await;
    let gone = Bytes::from("ABKNAME001=erased");
    let note = format!("insert into damaged_body (sha256) values ('\\x{}')", Sha256::of(&gone));
    by_hand(&site, &note).await;
    assert!(!site.store.take_body(&gone).await.unwrap());
    assert_eq!(number(&site.pool, "select count(*) from body").await, 6);
    by_hand(&site, &note).await;
    assert!(site.store.lacking_bodies().await.unwrap().is_empty());
    assert_eq!(number(&site.pool, DAMAGED).await, 0);
    site.close().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn the_scrubber_takes_slice_after_slice_and_finds_what_is_damaged(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = site_with_files(&database).await;
    let sha256 = Sha256::of(&new(3));
    let flip =
        format!("update body set content = set_byte(content, 10, 1) where sha256 = '\\x{sha256}'");
    by_hand(&site, &flip).await;
    let slice = u16::from_be_bytes([sha256.0[0], sha256.0[1]]);
    site.store.scrub().await.unwrap();
    assert_eq!(number(&site.pool, "select slice::bigint from job where job = 'scrub'").await, 1);
    let due = format!("update job set due_at = now(), slice = {slice} where job = 'scrub'");
    by_hand(&site, &due).await;
    site.store.scrub().await.unwrap();
    assert_eq!(number(&site.pool, DAMAGED).await, 1);
    // It rests now.
    site.store.scrub().await.unwrap();
    let next = i64::from(slice.wrapping_add(1));
    assert_eq!(number(&site.pool, "select slice::bigint from job where job = 'scrub'").await, next);
    site.close().await;
}
