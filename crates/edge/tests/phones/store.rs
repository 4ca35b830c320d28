//! What becomes of backups, and what phones hear when the database has trouble.

use std::time::Duration;

use bruri_domain::{RealmId, Subject};
use sqlx::PgPool;

use crate::kit::{BODY, PATIENCE, Site, put};

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn the_same_file_again_makes_no_version(pool: PgPool) {
    let site = Site::start(pool).await;
    assert_eq!(site.put("/1_16xxdata.txt", BODY).await, 201);
    for _ in 0..3 {
        assert_eq!(site.put("/1_16xxdata.txt", BODY).await, 204);
    }
    assert_eq!(site.records().await, 1);
    assert_eq!(site.put("/1_16xxdata.txt", b"a=c").await, 204);
    assert_eq!(site.records().await, 2);
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_removed_file_is_not_found_until_it_is_backed_up_again(pool: PgPool) {
    let site = Site::start(pool).await;
    let remove = "DELETE /1_16xxdata.txt HTTP/1.1\r\n\r\n";
    assert_eq!(site.ask(remove).await.status, 404);
    site.put("/1_16xxdata.txt", BODY).await;
    assert_eq!(site.ask(remove).await.status, 204);
    assert_eq!(site.get("/1_16xxdata.txt").await.status, 404);
    assert_eq!(site.ask(remove).await.status, 404);
    assert_eq!(site.put("/1_16xxdata.txt", BODY).await, 201);
    assert_eq!(site.records().await, 3);
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn of_what_was_erased_a_phone_gets_nothing_and_may_not_back_it_up_until_it_is_lifted(
    pool: PgPool,
) {
    let site = Site::start(pool).await;
    site.put("/1_16xxdata.txt", BODY).await;
    let realm = RealmId::built_in();
    let subject = Subject::of_extension(&realm, "1").unwrap();
    let subject = site.store.key().subject_hash(subject);
    site.store.erase(subject, [1; 16], "uid 0").await.unwrap();
    assert_eq!(site.get("/1_16xxdata.txt").await.status, 404);
    assert_eq!(site.put("/1_16xxdata.txt", BODY).await, 403);
    assert_eq!(site.put("/1_96xxdata.txt", BODY).await, 403);
    assert_eq!(site.put("/2_16xxdata.txt", BODY).await, 201);
    site.store.lift(subject, [2; 16], "uid 0").await.unwrap();
    assert_eq!(site.put("/1_16xxdata.txt", BODY).await, 201);
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_phone_that_hangs_up_once_it_has_sent_loses_nothing(pool: PgPool) {
    let site = Site::start(pool).await;
    for extension in 1..=20 {
        let mut client = site.connect().await;
        client.send(put(&format!("/{extension}_16xxdata.txt"), BODY)).await;
        drop(client);
    }
    let stored = async {
        while site.records().await < 20 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, stored).await.unwrap();
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn while_the_database_is_away_phones_are_told_to_come_again(pool: PgPool) {
    let site = Site::start(pool).await;
    site.put("/1_16xxdata.txt", BODY).await;
    site.pool.close().await;
    for method in ["PUT", "GET", "HEAD", "DELETE"] {
        let mut client = site.connect().await;
        client
            .send(format!("{method} /1_16xxdata.txt HTTP/1.1\r\nContent-Length: 0\r\n\r\n"))
            .await;
        let reply = client.head_reply().await;
        assert_eq!((reply.status, reply.header("retry-after")), (503, Some("2")), "{method}");
    }
    let reply = site.get("/1_16xxdata.txt").await;
    assert_eq!(reply.text(), "the database cannot be used at the moment; try again\n");
    assert_eq!(site.put("/x.php", BODY).await, 400, "what needs no database is answered");
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_database_that_hangs_is_not_waited_for_for_ever(pool: PgPool) {
    let store = Duration::from_millis(300);
    let limits = bruri_edge::Limits { store, ..bruri_edge::Limits::default() };
    let site = Site::start_with(pool, limits).await;
    site.put("/1_16xxdata.txt", BODY).await;
    let mut hold = site.pool.begin().await.unwrap();
    sqlx::query("lock table file in access exclusive mode").execute(&mut *hold).await.unwrap();
    for request in
        [put("/1_16xxdata.txt", b"a=c"), b"GET /1_16xxdata.txt HTTP/1.1\r\n\r\n".to_vec()]
    {
        let reply = site.ask(request).await;
        assert_eq!((reply.status, reply.header("retry-after")), (503, Some("2")));
    }
    hold.rollback().await.unwrap();
    // It may be stored all the same, so that is how long to wait before records are counted.
    let stored = async { while site.get("/1_16xxdata.txt").await.body != b"a=c" {} };
    tokio::time::timeout(PATIENCE, stored).await.unwrap();
    site.assert_serves().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_damaged_row_is_never_served(pool: PgPool) {
    let site = Site::start(pool).await;
    site.put("/1_16xxdata.txt", b"a=b").await;
    site.put("/1_16xxdata.txt", b"a=c").await;
    let change = "update file set checksum = sha256('x') where name = '1_16xxdata.txt'";
    sqlx::query(change).execute(&site.pool).await.unwrap();
    // It is made anew from the records, for who reads and for who writes.
    assert_eq!(site.get("/1_16xxdata.txt").await.body, b"a=c");
    sqlx::query(change).execute(&site.pool).await.unwrap();
    site.put("/1_16xxdata.txt", b"a=d").await;
    sqlx::query("delete from file").execute(&site.pool).await.unwrap();
    let records = "update record set payload = sha256(payload) where sequence = 1";
    sqlx::query(records).execute(&site.pool).await.unwrap();
    let reply = site.get("/1_16xxdata.txt").await;
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("2")));
    assert!(!reply.text().contains("a="), "{}", reply.text());
    assert!(!reply.text().contains("checksum"), "{}", reply.text());
    site.assert_serves().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_backup_whose_bytes_have_yet_to_arrive_is_neither_missing_nor_another(pool: PgPool) {
    let site = Site::start(pool).await;
    site.put("/1_16xxdata.txt", b"a=b").await;
    site.put("/1_16xxdata.txt", b"a=c").await;
    // As where a peer sent the second version without its body.
    let pruned = "update record set body = null, pruned = true where sequence = 2";
    sqlx::query(pruned).execute(&site.pool).await.unwrap();
    let gone = "delete from body where not exists (select from record where body = sha256)";
    sqlx::query(gone).execute(&site.pool).await.unwrap();
    let reply = site.get("/1_16xxdata.txt").await;
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("2")));
    let text = "the backup is known here, but its bytes have yet to arrive; try again\n";
    assert_eq!(reply.text(), text);
    assert_eq!(site.put("/1_16xxdata.txt", b"a=d").await, 204);
    assert_eq!(site.get("/1_16xxdata.txt").await.body, b"a=d");
}
