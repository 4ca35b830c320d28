//! What is no HTTP, or too much of it.

use std::time::Duration;

use bruri_edge::Limits;
use sqlx::PgPool;

use crate::kit::{Client, Site};

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn what_is_no_request_is_refused_and_the_connection_ends(pool: PgPool) {
    let site = Site::start(pool).await;
    let tls = b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03abcdefghijklmnopqrstuvwxyz\r\n\r\n";
    for garbage in [
        &tls[..],
        b"\0\0\0\0\r\n\r\n",
        b"\xff\xfe\xfd\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /1_16xxdata.txt\r\n\r\n",
        b"GET /1_16xxdata.txt HTTP/3.0\r\n\r\n",
        b"GET /1_16xxdata.txt HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /1_16xxdata.txt\0 HTTP/1.1\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
    ] {
        let mut client = site.connect().await;
        client.send(garbage).await;
        assert_eq!(client.reply().await.status, 400, "{}", garbage.escape_ascii());
        assert!(client.is_closed().await);
    }
    site.assert_serves().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn http_2_is_not_spoken(pool: PgPool) {
    let site = Site::start(pool).await;
    let mut client = site.connect().await;
    client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert!(client.is_closed().await);
    site.assert_serves().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_flood_of_headers_is_cut_off(pool: PgPool) {
    let limits = Limits { linger: Duration::from_millis(300), ..Limits::default() };
    let site = Site::start_with(pool, limits).await;
    let mut client = site.connect().await;
    client.send("GET /1_16xxdata.txt HTTP/1.1\r\n").await;
    let line = format!("X-Y: {}\r\n", "z".repeat(1000)).repeat(60);
    let mut sent = 0;
    while client.send_if_wanted(line.as_bytes()).await {
        sent += 1;
        assert!(sent < 1000, "it goes on for ever");
    }
    site.assert_serves().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn too_many_or_too_long_headers_are_told_so(pool: PgPool) {
    let site = Site::start(pool).await;
    let many = "X: y\r\n".repeat(101);
    let long = format!("X: {}\r\n", "y".repeat(20_000));
    for headers in [many, long] {
        let reply = site.ask(format!("GET /1_16xxdata.txt HTTP/1.1\r\n{headers}\r\n")).await;
        assert_eq!(reply.status, 431);
    }
    let path = "1".repeat(20_000);
    assert_eq!(site.ask(format!("GET /{path} HTTP/1.1\r\n\r\n")).await.status, 431);
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn nothing_may_be_smuggled_behind_a_refused_body(pool: PgPool) {
    let site = Site::start(pool).await;
    let mut client: Client = site.connect().await;
    let inner = "PUT /1_16xxdata.txt HTTP/1.1\r\nContent-Length: 3\r\n\r\na=b";
    let outer = format!("PUT /x.php HTTP/1.1\r\nContent-Length: {}\r\n\r\n", inner.len() + 9_000);
    client.send(outer + inner).await;
    assert_eq!(client.reply().await.status, 400);
    assert!(client.is_closed().await);
    assert_eq!(site.records().await, 0);
}
