//! Connections that keep us waiting.

use std::time::Duration;

use bruri_edge::Limits;
use sqlx::PgPool;
use tokio::time::Instant;

use crate::kit::{BODY, Site, put};

fn impatient() -> Limits {
    Limits {
        head: Duration::from_millis(200),
        idle: Duration::from_millis(1500),
        ..Limits::default()
    }
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_connection_that_says_nothing_is_closed(pool: PgPool) {
    let site = Site::start_with(pool, impatient()).await;
    let started = Instant::now();
    assert!(site.connect().await.is_closed().await);
    assert!(started.elapsed() >= impatient().idle);
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_connection_is_kept_between_requests_but_not_for_ever(pool: PgPool) {
    let site = Site::start_with(pool, impatient()).await;
    let mut client = site.connect().await;
    for _ in 0..3 {
        // Longer than headers may take: only a request that has begun is urged.
        tokio::time::sleep(impatient().head + Duration::from_millis(150)).await;
        client.send(put("/1_16xxdata.txt", BODY)).await;
        assert!(matches!(client.reply().await.status, 201 | 204));
    }
    assert!(client.is_closed().await);
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn headers_that_trickle_are_cut_off(pool: PgPool) {
    let site = Site::start_with(pool, impatient()).await;
    let mut client = site.connect().await;
    let started = Instant::now();
    client.send("GET /1_16xxdata.txt HTTP/1.1\r\n").await;
    while client.hears_nothing_for(Duration::from_millis(40)).await {
        client.send("X: y\r\n").await;
        assert!(started.elapsed() < Duration::from_secs(5), "they are waited for for ever");
    }
    assert!(client.is_closed().await);
    assert!(started.elapsed() < impatient().idle, "headers have less time than idleness");
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_phone_that_does_not_read_its_answers_is_dropped(pool: PgPool) {
    let site = Site::start_with(pool, impatient()).await;
    site.put("/1_16xxdata.txt", &vec![b'x'; 1024 * 1024]).await;
    let mut client = site.connect().await;
    let requests = "GET /1_16xxdata.txt HTTP/1.1\r\n\r\n".repeat(100);
    client.send(requests).await;
    tokio::time::sleep(impatient().idle * 2).await;
    let mut answers = 0;
    let all = async {
        let mut sink = Vec::new();
        while tokio::io::AsyncReadExt::read_buf(&mut client.stream, &mut sink).await.unwrap_or(0)
            > 0
        {
            answers = sink.len() / (1024 * 1024);
        }
    };
    tokio::time::timeout(crate::kit::PATIENCE, all).await.unwrap();
    assert!(answers < 100, "all {answers} answers were waited for");
    site.assert_serves().await;
}
