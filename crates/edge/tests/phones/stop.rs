//! A site that stops.

use std::time::Duration;

use bruri_edge::Limits;
use sqlx::PgPool;
use tokio::net::TcpStream;

use crate::kit::{Client, PATIENCE, Site};

async fn half_sent(site: &Site) -> Client {
    let mut client = site.connect().await;
    client.send("PUT /1_16xxdata.txt HTTP/1.1\r\nContent-Length: 3\r\n\r\na").await;
    // Answered on another connection, so the half has arrived as well.
    assert_eq!(site.get("/2_16xxdata.txt").await.status, 404);
    client
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn what_is_in_flight_is_answered_and_the_rest_closed(pool: PgPool) {
    let site = Site::start(pool).await;
    let (mut silent, mut kept) = (site.connect().await, site.connect().await);
    kept.send("GET /1_16xxdata.txt HTTP/1.1\r\n\r\n").await;
    assert_eq!(kept.reply().await.status, 404);
    let mut busy = half_sent(&site).await;

    site.ask_to_stop();
    assert!(silent.is_closed().await);
    assert!(kept.is_closed().await);
    assert!(TcpStream::connect(site.address).await.is_err());
    assert!(!site.ends_within(Duration::from_millis(100)).await);

    busy.send("=b").await;
    let reply = busy.reply().await;
    assert_eq!((reply.status, reply.header("connection")), (201, Some("close")));
    assert!(busy.is_closed().await);
    assert!(site.ends_within(PATIENCE).await);
    assert_eq!(site.records().await, 1);
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_phone_that_never_finishes_does_not_hold_up_the_stop(pool: PgPool) {
    let limits = Limits { drain: Duration::from_millis(300), ..Limits::default() };
    let site = Site::start_with(pool, limits).await;
    let mut body = half_sent(&site).await;
    let mut head = site.connect().await;
    head.send("GET /1_16xx").await;
    site.ask_to_stop();
    assert!(site.ends_within(Duration::from_secs(2)).await);
    assert!(body.is_closed().await);
    assert!(head.is_closed().await);
    assert_eq!(site.records().await, 0);
}
