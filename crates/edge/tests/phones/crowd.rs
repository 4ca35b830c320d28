//! More connections than there is room for.

use std::time::{Duration, Instant};

use bruri_edge::Limits;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use sqlx::PgPool;

use crate::kit::{BODY, Client, PATIENCE, Site, put};

async fn idle(site: &Site, count: usize) -> Vec<Client> {
    let mut clients = Vec::with_capacity(count);
    for _ in 0..count {
        clients.push(site.connect().await);
    }
    clients
}

/// A phone that has begun to send a body, and pauses.
async fn at_work(site: &Site) -> Client {
    let mut client = site.connect().await;
    client
        .send("PUT /1_16xxdata.txt HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
        .await;
    assert_eq!(client.head_reply().await.status, 100);
    client
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn two_thousand_idle_connections_keep_nobody_waiting(pool: PgPool) {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, soft.max(hard.min(20_000)), hard).unwrap();
    let site = Site::start(pool).await;
    let mut crowd = idle(&site, 2000).await;
    for client in crowd.iter_mut().step_by(2) {
        client.send("GET /1_16xx").await;
    }
    let started = Instant::now();
    for _ in 0..10 {
        site.assert_serves().await;
    }
    assert!(started.elapsed() < Duration::from_secs(5), "took {:?}", started.elapsed());
    crowd[1].send("GET /77_16xxdata.txt HTTP/1.1\r\n\r\n").await;
    assert_eq!(crowd[1].reply().await.status, 200, "nobody had to go");
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn beyond_the_bound_the_longest_idle_connection_goes(pool: PgPool) {
    let site = Site::start_with(pool, Limits { connections: 20, ..Limits::default() }).await;
    let mut crowd = idle(&site, 50).await;
    site.assert_serves().await;
    assert!(crowd[0].is_closed().await);
    let youngest = crowd.last_mut().unwrap();
    youngest.send("GET /77_16xxdata.txt HTTP/1.1\r\n\r\n").await;
    assert_eq!(youngest.reply().await.status, 200);
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn where_all_are_at_work_a_newcomer_is_refused_and_the_others_finish(pool: PgPool) {
    let site = Site::start_with(pool, Limits { connections: 2, ..Limits::default() }).await;
    let mut working = [at_work(&site).await, at_work(&site).await];
    let mut newcomer = site.connect().await;
    newcomer.send("GET /1_16xxdata.txt HTTP/1.1\r\n\r\n").await;
    let reply = newcomer.reply().await;
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("2")));
    assert!(newcomer.is_closed().await);
    for client in &mut working {
        client.send("a=b").await;
        assert!(matches!(client.reply().await.status, 201 | 204));
    }
    assert_eq!(site.get("/1_16xxdata.txt").await.body, b"a=b", "there is room again");
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn large_files_have_a_bound_in_memory(pool: PgPool) {
    let site = Site::start_with(pool, Limits { large_bodies: 1, ..Limits::default() }).await;
    let large = vec![b'x'; 100_000];
    for _ in 0..3 {
        assert!(matches!(site.put("/1_16xxdata.txt", &large).await, 201 | 204));
        assert_eq!(site.get("/1_16xxdata.txt").await.status, 200, "the place is given back");
    }
    let mut client = site.connect().await;
    client.send(&put("/1_16xxdata.txt", &large)[..90_000]).await;
    let crowded = async { while site.get("/1_16xxdata.txt").await.status != 503 {} };
    tokio::time::timeout(PATIENCE, crowded).await.expect("the half body takes the place");
    let reply = site.ask(put("/2_16xxdata.txt", &large)).await;
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("2")));
    assert_eq!(site.put("/3_16xxdata.txt", BODY).await, 201, "small files go by");
}
