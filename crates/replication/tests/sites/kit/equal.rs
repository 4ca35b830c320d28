//! Whether sites hold the same.

use bruri_domain::{Chain, Cursor, Sha256};
use sqlx::Row as _;

use super::{Site, eventually};

/// Waits until all these sites have applied the same.
pub(crate) async fn level(sites: &[&Site]) {
    eventually("equal vectors", async || {
        let first = sites[0].vector().await;
        for site in &sites[1..] {
            if site.vector().await != first {
                return false;
            }
        }
        true
    })
    .await;
}

/// Waits until they are level, then compares vectors, chains, records, bodies and file states.
pub(crate) async fn assert_equal(sites: &[&Site]) {
    level(sites).await;
    let (records, states) = (records(sites[0]).await, states(sites[0]).await);
    for site in sites {
        assert_logs_whole(site).await;
        assert_eq!(self::records(site).await, records);
        assert_eq!(self::states(site).await, states);
        assert_bodies(site).await;
    }
}

/// Every log runs from 1 to its cursor without a gap, and its chain is that of its envelopes.
async fn assert_logs_whole(site: &Site) {
    for cursor in site.vector().await {
        let Cursor { log, sequence, chain } = cursor;
        let rows = sqlx::query(
            "select record.sequence, envelope, record.chain from record join log on record.log = log.id
              where site = $1 and epoch = $2 order by record.sequence",
        )
        .bind(log.id.site.as_str())
        .bind(log.id.epoch.0.cast_signed())
        .fetch_all(&site.pool)
        .await
        .unwrap();
        assert_eq!(rows.len() as u64, sequence, "{}: {}", site.place.name, log.id);
        let mut expected = Chain::begin(&log);
        for (row, number) in rows.iter().zip(1_i64..) {
            assert_eq!(row.get::<i64, _>(0), number);
            expected = expected.next(row.get(1));
            assert_eq!(row.get::<&[u8], _>(2), expected.0.as_bytes());
        }
        assert_eq!(expected, chain);
    }
}

type Record = (String, i64, i64, Vec<u8>, Vec<u8>, Option<Vec<u8>>);

async fn records(site: &Site) -> Vec<Record> {
    sqlx::query_as(
        "select site, epoch, record.sequence, envelope, payload, body
           from record join log on record.log = log.id
          order by site, epoch, record.sequence",
    )
    .fetch_all(&site.pool)
    .await
    .unwrap()
}

type State = (String, Vec<u8>, Vec<u8>, Option<Vec<u8>>);

/// States of files; when a backup was last confirmed is the site's own affair.
async fn states(site: &Site) -> Vec<State> {
    sqlx::query_as("select name, state, checksum, served_body from file order by realm, name")
        .fetch_all(&site.pool)
        .await
        .unwrap()
}

async fn assert_bodies(site: &Site) {
    let bodies: Vec<(Vec<u8>, Vec<u8>)> =
        sqlx::query_as("select sha256, content from body").fetch_all(&site.pool).await.unwrap();
    for (hash, frame) in bodies {
        let content = zstd::decode_all(frame.as_slice()).unwrap();
        assert_eq!(Sha256::of(&content).as_bytes(), hash);
    }
}

/// How many rows there are: of records, bodies, files and logs.
pub(crate) async fn rows(site: &Site) -> [i64; 4] {
    let row = sqlx::query(
        "select (select count(*) from record), (select count(*) from body),
                (select count(*) from file), (select count(*) from log)",
    )
    .fetch_one(&site.pool)
    .await
    .unwrap();
    [row.get(0), row.get(1), row.get(2), row.get(3)]
}
