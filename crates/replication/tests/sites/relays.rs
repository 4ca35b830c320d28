//! Any peer serves any log.

use std::time::{Duration, Instant};

use crate::kit::{Deployment, Mode, Proxy, equal::assert_equal, site::file};

#[tokio::test(flavor = "multi_thread")]
async fn what_a_site_writes_reaches_another_through_a_third_while_their_line_is_cut() {
    let deployment = Deployment::new();
    let (a, b, c) = (
        deployment.place("london").await,
        deployment.place("tokyo").await,
        deployment.place("paris").await,
    );
    let (to_a, to_b) = (Proxy::to(a.address).await, Proxy::to(b.address).await);
    let (at_a, at_b, at_c) = (a.address, b.address, c.address);
    let a = a.start(&[to_b.address, at_c]).await;
    let b = b.start(&[to_a.address, at_c]).await;
    let c = c.start(&[at_a, at_b]).await;
    a.live().await;
    b.live().await;
    c.live().await;
    a.put(&file(1), "Name=before\r\n").await;
    b.until_served(&file(1), Some(b"Name=before\r\n")).await;

    to_a.set(Mode::Cut);
    to_b.set(Mode::Cut);
    let began = Instant::now();
    a.put(&file(1), "Name=after\r\n").await;
    b.until_served(&file(1), Some(b"Name=after\r\n")).await;
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    b.put(&file(2), "Name=back\r\n").await;
    a.until_served(&file(2), Some(b"Name=back\r\n")).await;
    assert_equal(&[&a, &b, &c]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn branches_that_know_the_hub_only_have_each_others_records() {
    let deployment = Deployment::new();
    let (hub, a, b) = (
        deployment.place("hub").await,
        deployment.place("london").await,
        deployment.place("tokyo").await,
    );
    let (at_hub, at_a, at_b) = (hub.address, a.address, b.address);
    let hub = hub.start(&[at_a, at_b]).await;
    let (a, b) = (a.start(&[at_hub]).await, b.start(&[at_hub]).await);
    a.put_many(0..1200).await;
    b.put(&file(5000), "Name=tokyo\r\n").await;
    a.until_served(&file(5000), Some(b"Name=tokyo\r\n")).await;
    b.until_served(&file(1199), Some(b"Name=1199\r\n")).await;
    assert_equal(&[&hub, &a, &b]).await;
}
