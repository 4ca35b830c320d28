//! What peers tell of a file while a phone waits.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::kit::{Deployment, Mode, Proxy, Site, eventually, site::file};

const WITHIN: Duration = Duration::from_secs(1);

async fn three(deployment: &Deployment) -> (Site, Site, Site, [Proxy; 2]) {
    let (a, b, c) = (
        deployment.place("london").await,
        deployment.place("tokyo").await,
        deployment.place("paris").await,
    );
    let proxies = [Proxy::to(a.address).await, Proxy::to(b.address).await];
    let (at_a, at_b, at_c) = (a.address, b.address, c.address);
    let a = a.start(&[proxies[1].address, at_c]).await;
    let b = b.start(&[proxies[0].address, at_c]).await;
    let c = c.start(&[at_a, at_b]).await;
    for site in [&a, &b, &c] {
        site.live().await;
        site.until_fresh().await;
    }
    (a, b, c, proxies)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_asks_knows_what_was_acknowledged_before() {
    let (london, tokyo) = Deployment::new().two(["london", "tokyo"]).await;
    tokyo.until_fresh().await;
    for number in 0..50 {
        let content = Bytes::from(format!("Name={number}\r\n"));
        london.put(&file(1), content.clone()).await;
        let asked = tokyo.ask(&file(1), WITHIN).await;
        assert!(asked.told.is_complete && !asked.told.via_hub, "{asked:?}");
        assert_eq!(asked.content, Some(content));
    }
    london.restore(&file(1)).await;
    london.remove(&file(1)).await;
    assert_eq!(tokyo.ask(&file(1), WITHIN).await.content, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_is_cut_off_is_asked_through_another() {
    let (a, b, _c, proxies) = three(&Deployment::new()).await;
    for proxy in &proxies {
        proxy.set(Mode::Cut);
    }
    for number in 0..50 {
        let content = Bytes::from(format!("Name={number}\r\n"));
        a.put(&file(1), content.clone()).await;
        let began = Instant::now();
        let asked = b.ask(&file(1), WITHIN).await;
        assert_eq!(asked.content, Some(content), "{asked:?} after {:?}", began.elapsed());
    }
    let asked = b.ask(&file(1), WITHIN).await;
    assert!(asked.told.is_complete && asked.told.via_hub, "{asked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_is_away_is_counted_and_neither_asked_nor_waited_for() {
    let (a, b, c, _proxies) = three(&Deployment::new()).await;
    a.put(&file(1), "Name=a\r\n").await;
    let _paris = c.stop().await;
    eventually("paris is away", async || b.ask(&file(1), WITHIN).await.told.away == 1).await;
    let began = Instant::now();
    let asked = b.ask(&file(1), Duration::from_mins(1)).await;
    assert!(asked.told.is_complete && began.elapsed() < WITHIN, "{asked:?} {:?}", began.elapsed());
    b.until_fresh().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_answer_in_time_is_not_taken_to_have_told() {
    let (a, b, _c, proxies) = three(&Deployment::new()).await;
    a.put(&file(1), "Name=a\r\n").await;
    b.until_served(&file(1), Some(b"Name=a\r\n")).await;
    proxies[0].set(Mode::Silent);
    let began = Instant::now();
    let asked = b.ask(&file(1), Duration::from_millis(150)).await;
    assert!(!asked.told.is_complete, "{asked:?}");
    assert!(began.elapsed() < WITHIN, "{:?}", began.elapsed());
    // Before it counts as away it is given up and asked through the third.
    eventually("asked through paris", async || {
        let told = b.ask(&file(1), Duration::from_millis(150)).await.told;
        told.is_complete && told.via_hub
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_was_never_reached_is_not_taken_to_have_nothing() {
    let deployment = Deployment::new();
    let (tokyo, nobody) = (deployment.place("tokyo").await, deployment.place("paris").await);
    // It accepts and says nothing.
    let line = Proxy::to(nobody.address).await;
    line.set(Mode::Silent);
    let tokyo = tokyo.start(&[line.address]).await;
    assert_eq!(tokyo.read(), (None, 0));
    assert!(!tokyo.ask(&file(1), WITHIN).await.told.is_complete);
    eventually("it counts as away", async || tokyo.read().1 == 1).await;
    assert!(tokyo.read().0.is_some());
}
