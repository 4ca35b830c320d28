//! A supplier sends what it was granted, and no more.

use std::time::Duration;

use bruri_domain::limits::{CREDIT_BYTES_MAX, PAGE_BYTES_MAX};
use bruri_wire::proto::replication::v1 as proto;

use crate::kit::{Deployment, Raw, Site, raw, site::file};

const QUIET: Duration = Duration::from_millis(1500);

/// A supplier of 14 MiB, and a consumer that wants them all and has granted nothing.
async fn subscribed() -> (Site, Raw) {
    let deployment = Deployment::new();
    let site = deployment.place("london").await.start(&[]).await;
    for number in 0..14_u32 {
        let content = vec![u8::try_from(number).unwrap(); 1024 * 1024 - 4096];
        site.put(&file(number), content).await;
    }
    let tls = deployment.tls("tokyo");
    let raw = Raw::greet(&tls, site.place.address, raw::hello("tokyo", &deployment.key)).await;
    let all = site.vector().await;
    raw.want(&[&bruri_domain::Cursor::at_beginning(all[0].log.clone())]).await;
    (site, raw)
}

fn size(batch: &proto::Batch) -> u64 {
    batch.bodies.iter().map(|body| body.len() as u64).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_credit_nothing_is_sent_and_a_byte_of_it_is_good_for_one_batch() {
    let (_site, mut raw) = subscribed().await;
    assert!(raw.news(QUIET).await.is_none());
    raw.grant(1).await;
    assert_eq!(raw.batch().await.first_sequence, 1);
    assert!(raw.news(QUIET).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn credit_is_bounded_whatever_is_granted() {
    let (_site, mut raw) = subscribed().await;
    raw.grant(u64::MAX).await;
    let mut bytes = 0;
    while let Some(event) = raw.news(QUIET).await {
        match event {
            proto::subscribe_response::Event::Batch(batch) => bytes += size(&batch),
            other => panic!("{other:?}"),
        }
    }
    let page = PAGE_BYTES_MAX as u64;
    assert!((CREDIT_BYTES_MAX - page..=CREDIT_BYTES_MAX + page).contains(&bytes), "{bytes}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_reads_nothing_keeps_nobody_from_stopping() {
    let (site, raw) = subscribed().await;
    raw.grant(CREDIT_BYTES_MAX).await;
    let (_, took) = site.stop().await;
    assert!(took < Duration::from_secs(3), "{took:?}");
    drop(raw);
}
