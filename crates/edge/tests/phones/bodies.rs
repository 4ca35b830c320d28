//! Bodies that must not be kept: refused early, and so that the phone hears it.

use std::time::Duration;

use bruri_edge::Limits;
use sqlx::PgPool;
use tokio::{io::AsyncWriteExt as _, time::Instant};

use crate::kit::{Client, Site, put};

const CHUNKED: &str = "PUT /1_16xxdata.txt HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
const MIB: usize = 1024 * 1024;

fn impatient() -> Limits {
    Limits {
        body: Duration::from_secs(2),
        body_stall: Duration::from_millis(300),
        ..Limits::default()
    }
}

async fn upload(site: &Site, head: &str) -> Client {
    let mut client = site.connect().await;
    client.send(head).await;
    client
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_put_without_a_length_is_refused(pool: PgPool) {
    let site = Site::start(pool).await;
    for version in ["1.0", "1.1"] {
        let reply = site.ask(format!("PUT /1_16xxdata.txt HTTP/{version}\r\n\r\n")).await;
        assert_eq!(reply.status, 411);
    }
    let mut client = upload(&site, "PUT /1_16xxdata.txt HTTP/1.0\r\n\r\na=b").await;
    client.stream.shutdown().await.unwrap();
    assert_eq!(client.reply().await.status, 411);
    assert_eq!(site.records().await, 0);
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn an_empty_file_that_says_so_is_kept(pool: PgPool) {
    let site = Site::start(pool).await;
    assert_eq!(site.put("/1_16xxdata.txt", b"").await, 201);
    assert_eq!(site.ask(format!("{CHUNKED}0\r\n\r\n")).await.status, 204);
    let reply = site.get("/1_16xxdata.txt").await;
    assert_eq!((reply.status, reply.header("content-length")), (200, Some("0")));
    assert_eq!(site.records().await, 1);
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_body_that_is_no_phones_file_is_served_only_where_there_is_nothing_else(pool: PgPool) {
    let site = Site::start(pool).await;
    assert_eq!(site.put("/1_16xxdata.txt", b"").await, 201);
    assert_eq!(site.get("/1_16xxdata.txt").await.body, b"");
    assert_eq!(site.put("/1_16xxdata.txt", b"a=1").await, 204);
    assert_eq!(site.put("/1_16xxdata.txt", b"").await, 204);
    assert_eq!(site.get("/1_16xxdata.txt").await.body, b"a=1");
    assert_eq!(site.records().await, 3);
    // Its phone has seen all the same what it had seen.
    assert_eq!(site.put("/1_16xxdata.txt", b"a=2").await, 204);
    assert_eq!(site.get("/1_16xxdata.txt").await.body, b"a=2");
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_mebibyte_is_the_largest_file(pool: PgPool) {
    let site = Site::start(pool).await;
    let body: Vec<u8> = (0..=255).cycle().take(MIB).collect();
    assert_eq!(site.put("/1_16xxdata.txt", &body).await, 201);
    assert!(site.get("/1_16xxdata.txt").await.body == body);
    assert_eq!(site.put("/2_16xxdata.txt", &vec![b'x'; MIB + 1]).await, 413);
    assert_eq!(site.records().await, 1);
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_phone_that_sends_ten_mebibytes_before_it_listens_still_hears_the_refusal(pool: PgPool) {
    let site = Site::start(pool).await;
    let body = vec![b'x'; 10 * MIB];
    let mut client = site.connect().await;
    assert!(client.send_if_wanted(&put("/1_16xxdata.txt", &body)).await);
    let reply = client.reply().await;
    assert_eq!((reply.status, reply.header("connection")), (413, Some("close")));

    let mut client = upload(&site, CHUNKED).await;
    let chunk = [format!("{:x}\r\n", body.len()).as_bytes(), &body, b"\r\n0\r\n\r\n"].concat();
    assert!(client.send_if_wanted(&chunk).await);
    assert_eq!(client.reply().await.status, 413);
    assert_eq!(site.records().await, 0);
    site.assert_serves().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn an_endless_body_is_cut_off(pool: PgPool) {
    let limits = Limits { linger: Duration::from_millis(300), ..Limits::default() };
    let site = Site::start_with(pool, limits).await;
    let mut client = upload(&site, CHUNKED).await;
    let chunk = [&b"10000\r\n"[..], &vec![b'x'; 0x10000], b"\r\n"].concat();
    let started = Instant::now();
    while client.send_if_wanted(&chunk).await {
        assert!(started.elapsed() < Duration::from_secs(5), "it goes on for ever");
    }
    assert_eq!(site.records().await, 0);
    site.assert_serves().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_body_that_trickles_is_given_up(pool: PgPool) {
    let site = Site::start_with(pool, impatient()).await;
    let mut client = upload(&site, &put_head(10_000)).await;
    let started = Instant::now();
    while client.hears_nothing_for(Duration::from_millis(50)).await {
        client.send("x").await;
        assert!(started.elapsed() < Duration::from_secs(5), "it is waited for for ever");
    }
    assert_eq!(client.reply().await.status, 408);
    assert!(started.elapsed() >= impatient().body);
    assert_eq!(site.records().await, 0);
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_body_that_stops_is_given_up_sooner(pool: PgPool) {
    let site = Site::start_with(pool, impatient()).await;
    let started = Instant::now();
    for head in [put_head(4), CHUNKED.to_owned()] {
        let mut client = upload(&site, &head).await;
        let reply = client.reply().await;
        assert_eq!((reply.status, reply.header("connection")), (408, Some("close")));
    }
    assert!(started.elapsed() < impatient().body);
    assert_eq!(site.records().await, 0);
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_body_that_is_cut_short_is_not_kept(pool: PgPool) {
    let site = Site::start(pool).await;
    for part in [format!("{}a=b", put_head(10)), format!("{CHUNKED}3\r\na=b\r\n")] {
        // The phone shuts its side and listens.
        let mut client = upload(&site, &part).await;
        client.stream.shutdown().await.unwrap();
        let reply = client.reply().await;
        assert_eq!(reply.status, 400);
        assert_eq!(reply.text(), "the file did not arrive whole; nothing was kept\n");
        // The phone is gone.
        let client = upload(&site, &part).await;
        client.stream.set_zero_linger().unwrap();
        drop(client);
    }
    site.assert_serves().await;
    assert_eq!(site.records().await, 1);
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn chunks_that_make_no_sense_are_not_kept(pool: PgPool) {
    let site = Site::start(pool).await;
    for chunks in ["zz\r\na=b\r\n0\r\n\r\n", "3\r\na=bXX0\r\n\r\n", "fffffffffffffffffff\r\n"] {
        assert_eq!(site.ask(format!("{CHUNKED}{chunks}")).await.status, 400, "{chunks:?}");
    }
    assert_eq!(site.records().await, 0);
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn what_is_not_the_whole_file_as_it_is_is_refused(pool: PgPool) {
    let site = Site::start(pool).await;
    for (headers, status) in [
        ("Content-Length: 3\r\nContent-Encoding: gzip", 415),
        ("Content-Length: 3\r\nContent-Encoding: identity, deflate", 415),
        ("Transfer-Encoding: gzip, chunked", 415),
        ("Transfer-Encoding: gzip", 400),
        ("Content-Length: 3\r\nContent-Range: bytes 0-2/9", 400),
        ("Content-Length: 3\r\nContent-Length: 4", 400),
        ("Content-Length: -3", 400),
        ("Content-Length: 99999999999999999999", 400),
    ] {
        let request = format!("PUT /1_16xxdata.txt HTTP/1.1\r\n{headers}\r\n\r\na=b");
        assert_eq!(site.ask(request).await.status, status, "{headers}");
    }
    assert_eq!(site.records().await, 0);
    let plain = "PUT /1_16xxdata.txt HTTP/1.1\r\nContent-Encoding: Identity\r\nContent-Length: 3";
    assert_eq!(site.ask(format!("{plain}\r\n\r\na=b")).await.status, 201);
}

fn put_head(length: usize) -> String {
    format!("PUT /1_16xxdata.txt HTTP/1.1\r\nContent-Length: {length}\r\n\r\n")
}
