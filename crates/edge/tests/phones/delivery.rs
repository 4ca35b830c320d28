//! What a phone is taken to have seen, by what became of the answer to its GET.

use std::time::Duration;

use bruri_edge::Limits;
use sqlx::PgPool;
use tokio::time::timeout;

use crate::kit::{Client, PATIENCE, Reply, Site};

const PATH: &str = "/299_16xxdata.txt";
const LARGE: usize = 1024 * 1024;

/// A phone that tells its MAC, since all tests come from one address.
struct Phone<'a> {
    site: &'a Site,
    mac: &'static str,
}

impl Phone<'_> {
    fn request(&self, method: &str, more: &str, body: &[u8]) -> Vec<u8> {
        let (mac, bytes) = (self.mac, body.len());
        let head = format!(
            "{method} {PATH} HTTP/1.1\r\nUser-Agent: AVAYA/J179-4.0.7.0 (MAC:{mac})\r\n{more}\
             Content-Length: {bytes}\r\n\r\n"
        );
        [head.as_bytes(), body].concat()
    }

    async fn put(&self, body: &[u8]) {
        let reply = self.site.ask(self.request("PUT", "", body)).await;
        assert!(matches!(reply.status, 201 | 204), "{reply:?}");
    }

    async fn get(&self) -> Reply {
        self.site.ask(self.request("GET", "", b"")).await
    }
}

fn phones(site: &Site) -> (Phone<'_>, Phone<'_>) {
    (Phone { site, mac: "64c3549e5334" }, Phone { site, mac: "00040d5ab3c1" })
}

async fn count(site: &Site, query: &'static str) -> i64 {
    sqlx::query_scalar(query).fetch_one(&site.pool).await.unwrap()
}

async fn conflicts(site: &Site) -> i64 {
    count(site, "select count(*) from conflict where ended_micros is null").await
}

async fn until_blind(site: &Site) {
    let blind = "select count(*) from remembered where context is null";
    let noted = async {
        while count(site, blind).await == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, noted).await.expect("the phone never became blind");
}

/// Breaks the connection, as a phone does that is switched off and on again.
fn reset(client: Client) {
    let stream = client.stream.into_std().unwrap();
    let socket = tokio::net::TcpStream::from_std(stream).unwrap();
    socket.set_zero_linger().unwrap();
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_phone_that_got_its_answer_supersedes_what_was_there_and_nothing_later(pool: PgPool) {
    let site = Site::start(pool).await;
    let (one, other) = phones(&site);
    one.put(b"a=1").await;
    assert_eq!(other.get().await.body, b"a=1");
    other.put(b"b=1").await;
    assert_eq!(conflicts(&site).await, 0);
    assert_eq!(other.get().await.body, b"b=1");
    one.get().await;
    one.put(b"a=2").await;
    other.put(b"b=2").await;
    assert_eq!(conflicts(&site).await, 1);
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn being_told_that_there_is_nothing_or_nothing_new_counts_as_served(pool: PgPool) {
    let site = Site::start(pool).await;
    let (one, other) = phones(&site);
    assert_eq!(other.get().await.status, 404);
    one.put(b"a=1").await;
    other.put(b"b=1").await;
    assert_eq!(conflicts(&site).await, 1);
    let known = other.request("GET", "If-None-Match: *\r\n", b"");
    assert_eq!(site.ask(known).await.status, 304);
    other.put(b"b=2").await;
    assert_eq!(conflicts(&site).await, 0);
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn looking_leaves_no_mark(pool: PgPool) {
    let site = Site::start(pool).await;
    let (one, other) = phones(&site);
    one.put(b"a=1").await;
    let mut client = site.connect().await;
    client.send(other.request("HEAD", "", b"")).await;
    assert_eq!(client.head_reply().await.status, 200);
    one.put(b"a=2").await;
    other.put(b"b=1").await;
    assert_eq!(conflicts(&site).await, 0);
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_phone_whose_connection_breaks_in_the_middle_of_its_answer_supersedes_nothing(
    pool: PgPool,
) {
    let site = Site::start(pool).await;
    let (one, other) = phones(&site);
    one.put(&vec![b'x'; LARGE]).await;
    let mut client = site.connect().await;
    client.send(other.request("GET", "", b"")).await;
    assert_eq!(client.head_reply().await.status, 200);
    reset(client);
    until_blind(&site).await;
    other.put(b"b=1").await;
    assert_eq!(conflicts(&site).await, 1);
    assert_eq!(site.records().await, 2);
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_phone_that_stops_reading_its_answer_supersedes_nothing(pool: PgPool) {
    let limits = Limits { idle: Duration::from_millis(300), ..Limits::default() };
    let site = Site::start_with(pool, limits).await;
    let (one, other) = phones(&site);
    one.put(&vec![b'x'; LARGE]).await;
    let mut client = site.connect().await;
    // The kernel would take one answer whole for a phone that does not read.
    client.send(other.request("GET", "", b"").repeat(20)).await;
    until_blind(&site).await;
    other.put(b"b=1").await;
    assert_eq!(conflicts(&site).await, 1);
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_connection_that_breaks_after_the_answer_makes_the_phone_blind(pool: PgPool) {
    let site = Site::start(pool).await;
    let (one, other) = phones(&site);
    one.put(b"a=1").await;
    let mut client = site.connect().await;
    client.send(other.request("GET", "", b"")).await;
    assert_eq!(client.reply().await.body, b"a=1");
    reset(client);
    until_blind(&site).await;
    other.put(b"b=1").await;
    assert_eq!(conflicts(&site).await, 1);
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_backup_on_another_connection_counts_what_an_open_one_was_served(pool: PgPool) {
    let site = Site::start(pool).await;
    let (one, other) = phones(&site);
    one.put(b"a=1").await;
    let mut open = site.connect().await;
    open.send(other.request("GET", "", b"")).await;
    assert_eq!(open.reply().await.status, 200);
    one.put(b"a=2").await;
    other.put(b"b=1").await;
    assert_eq!(conflicts(&site).await, 1);
    // What became of the old answer says nothing about the backup.
    reset(open);
    other.put(b"b=2").await;
    let heads = "select cardinality(heads)::bigint from conflict";
    assert_eq!(count(&site, heads).await, 3, "its own version was superseded by it");
    assert_eq!(conflicts(&site).await, 1);
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_phone_that_could_not_be_answered_supersedes_nothing(pool: PgPool) {
    let limits = Limits { store: Duration::from_millis(200), ..Limits::default() };
    let site = Site::start_with(pool, limits).await;
    let (one, other) = phones(&site);
    one.put(b"a=1").await;
    let mut hold = site.pool.begin().await.unwrap();
    sqlx::query("lock table file in access exclusive mode").execute(&mut *hold).await.unwrap();
    assert_eq!(other.get().await.status, 503);
    hold.rollback().await.unwrap();
    until_blind(&site).await;
    other.put(b"b=1").await;
    assert_eq!(conflicts(&site).await, 1);
}
