//! Pages for peers: whole, bounded, and always a step further.

use std::collections::BTreeSet;

use bruri_domain::{
    Epoch, LogId, Sha256, SiteName,
    limits::{FILE_BYTES_MAX, PAGE_BYTES_MAX, PAGE_RECORDS_MAX},
};
use bruri_store::Page;
use futures_util::future::join_all;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use crate::kit::{Site, file_of};

/// Reads a log from its beginning to its tail, page by page.
async fn pages(site: &Site, log: &LogId) -> Vec<Page> {
    let (mut pages, mut sequence) = (Vec::new(), 0);
    loop {
        let page = site.store.records_after(log, sequence).await.unwrap();
        if page.records.is_empty() {
            return pages;
        }
        sequence += page.records.len() as u64;
        pages.push(page);
    }
}

fn lengths(pages: &[Page]) -> Vec<usize> {
    pages.iter().map(|page| page.records.len()).collect()
}

fn bytes(page: &Page) -> usize {
    let records = page.records.iter();
    let raw = records.map(|r| r.envelope.len() + r.payload.as_ref().map_or(0, bytes::Bytes::len));
    raw.chain(page.bodies.iter().map(bytes::Bytes::len)).sum()
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_page_holds_512_records_at_most_and_the_next_goes_on_after_it(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open("london", &database).await;
    let rest = 5;
    let count = 2 * usize::try_from(PAGE_RECORDS_MAX).unwrap() + rest;
    let mut log = None;
    for part in (0..count).collect::<Vec<_>>().chunks(500) {
        let files = part.iter().map(|n| file_of(*n)).collect::<Vec<_>>();
        let puts = join_all(files.iter().map(|file| site.put(file, "a"))).await;
        log = puts[0].dot.clone().map(|dot| dot.log);
    }
    let pages = pages(&site, &log.unwrap()).await;
    assert_eq!(lengths(&pages), [512, 512, rest]);
    let envelopes: BTreeSet<_> =
        pages.iter().flat_map(|p| &p.records).map(|r| &r.payload).collect();
    assert_eq!(envelopes.len(), count, "no record twice");
    assert!(pages.iter().all(|page| page.bodies == [&b"a"[..]]));
    site.close().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_page_holds_1_mib_at_most_unless_one_record_is_larger(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open("london", &database).await;
    let sizes = [400, 400, 400, 1024, 1, 1023, 400, 1].map(|kib| kib * 1024);
    let mut log = None;
    for (n, size) in sizes.into_iter().enumerate() {
        let mut body = vec![b'x'; size];
        body[0] = u8::try_from(n).unwrap();
        log = site.put(&file_of(n), &body).await.dot.map(|dot| dot.log);
    }
    assert_eq!(sizes[3], FILE_BYTES_MAX);
    let pages = pages(&site, &log.unwrap()).await;
    assert_eq!(lengths(&pages), [2, 1, 1, 1, 1, 2]);
    for page in &pages {
        assert!(page.records.len() == 1 || bytes(page) <= PAGE_BYTES_MAX);
        assert_eq!(page.bodies.len(), page.records.len());
        assert_eq!(page.chains.len(), page.records.len());
    }
    site.close().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn a_body_that_several_records_name_is_in_the_page_once(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open("london", &database).await;
    for (n, content) in ["a", "b", "a"].into_iter().enumerate() {
        site.put(&file_of(n), content).await;
    }
    let log = site.remove(&file_of(1)).await.dot.unwrap().log;
    let page = site.store.records_after(&log, 0).await.unwrap();
    assert_eq!(page.records.len(), 4);
    let bodies: BTreeSet<_> = page.bodies.iter().map(|body| Sha256::of(body)).collect();
    assert_eq!((page.bodies.len(), bodies), (2, [b"a", b"b"].map(|b| Sha256::of(b)).into()));
    let rest = site.store.records_after(&log, 3).await.unwrap();
    assert_eq!((rest.records.len(), rest.bodies.len()), (1, 0));
    site.close().await;
}

#[sqlx::test(migrator = "bruri_store::MIGRATOR")]
async fn there_is_nothing_after_the_tail_nor_in_an_unknown_log(
    _: PgPoolOptions,
    database: PgConnectOptions,
) {
    let site = Site::open("london", &database).await;
    let log = site.put(&file_of(1), "a").await.dot.unwrap().log;
    let unknown = LogId { site: SiteName::parse("tokyo").unwrap(), epoch: Epoch(1) };
    for (log, sequence) in [(&log, 1), (&log, 2), (&log, u64::MAX), (&unknown, 0)] {
        let page = site.store.records_after(log, sequence).await.unwrap();
        assert!(page.records.is_empty() && page.bodies.is_empty(), "{log} {sequence}");
    }
    site.close().await;
}
