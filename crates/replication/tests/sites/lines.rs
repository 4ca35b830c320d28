//! Lines that are cut, go silent or are slow, and sites that stop and start.

use std::time::{Duration, Instant};

use bruri_domain::limits::{PEER_PING_SECONDS, PEER_PING_SECONDS_MAX, RECONNECT_MILLIS_MAX};
use bruri_replication::PeerState;
use tokio::time::sleep;

use crate::kit::{
    Deployment, Mode, Proxy, Raw,
    equal::{assert_equal, level},
    eventually, logged,
    raw::hello,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_is_cut_again_and_again_loses_and_doubles_nothing() {
    let deployment = Deployment::new();
    let supplier = deployment.place("cut-supplier").await.start(&[]).await;
    let line = Proxy::to(supplier.place.address).await;
    let consumer = deployment.place("cut-consumer").await.start(&[line.address]).await;
    let write = async {
        for round in 0..40 {
            supplier.put_many(round * 100..round * 100 + 100).await;
        }
    };
    let cut = async {
        for round in 1..=6 {
            eventually("a connection", async || line.accepted() >= round).await;
            sleep(Duration::from_millis(10) * u32::try_from(round).unwrap()).await;
            line.set(Mode::Cut);
            sleep(Duration::from_millis(30)).await;
            line.set(Mode::Forward);
        }
    };
    tokio::join!(write, cut);
    assert_equal(&[&supplier, &consumer]).await;
    // A line that breaks is no peer that talks nonsense.
    assert_eq!(logged::lines(&["cut-consumer", "not understood"]), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_worked_is_resumed_at_once() {
    let deployment = Deployment::new();
    let supplier = deployment.place("london").await.start(&[]).await;
    let line = Proxy::to(supplier.place.address).await;
    let consumer = deployment.place("tokyo").await.start(&[line.address]).await;
    for _ in 0..2 {
        consumer.until(line.address, PeerState::Live).await;
        // Longer than a session takes to count as one that works.
        sleep(Duration::from_millis(2200)).await;
        line.set(Mode::Cut);
        consumer.until(line.address, PeerState::Connecting).await;
        line.set(Mode::Forward);
        let took = consumer.until(line.address, PeerState::Live).await;
        assert!(took < Duration::from_millis(700), "{took:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_supplier_that_stops_and_starts_is_found_again() {
    let deployment = Deployment::new();
    let (london, tokyo) = deployment.two(["london", "tokyo"]).await;
    let at = (london.place.address, tokyo.place.address);
    london.put_many(0..50).await;
    level(&[&london, &tokyo]).await;
    let (london, _) = london.stop().await;
    tokyo.until(at.0, PeerState::Connecting).await;
    eventually("a reason", async || tokyo.peer(at.0).last_error.contains("cannot reach")).await;
    tokyo.put_many(50..100).await;
    let london = london.start(&[at.1]).await;
    london.put_many(100..150).await;
    assert_equal(&[&london, &tokyo]).await;
    let live = tokyo.until(at.0, PeerState::Live).await;
    assert!(live < Duration::from_millis(RECONNECT_MILLIS_MAX + 1000), "{live:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_connects_to_us_is_dialled_at_once() {
    let deployment = Deployment::new();
    let place = deployment.place("tokyo").await;
    let line = Proxy::to(place.address).await;
    let london = deployment.place("london").await.start(&[line.address]).await;
    let tokyo = place.start(&[]).await;
    london.until(line.address, PeerState::Live).await;
    line.set(Mode::Cut);
    // By now the waits are 1 to 2 s; the next one has just begun.
    let before = line.accepted();
    eventually("many tries", async || line.accepted() >= before + 8).await;
    line.set(Mode::Forward);
    sleep(Duration::from_millis(50)).await;
    let (tls, hello) = (deployment.tls("tokyo"), hello("tokyo", &deployment.key));
    let _seen = Raw::greet(&tls, london.place.address, hello).await;
    let took = london.until(line.address, PeerState::Live).await;
    assert!(took < Duration::from_millis(500), "{took:?}");
    drop(tokyo);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_peer_is_noticed_and_costs_the_others_nothing() {
    let deployment = Deployment::new();
    let (silent, lively) = (deployment.place("tokyo").await, deployment.place("paris").await);
    let line = Proxy::to(silent.address).await;
    let lively_at = lively.address;
    let (_silent, lively) = (silent.start(&[]).await, lively.start(&[]).await);
    let london = deployment.place("london").await.start(&[line.address, lively_at]).await;
    london.live().await;
    line.set(Mode::Silent);
    let began = Instant::now();
    let mut rounds = 0;
    while london.peer(line.address).state == PeerState::Live {
        let content = format!("Name={rounds}\r\n");
        lively.put("299_16xxdata.txt", content.clone()).await;
        let sent = Instant::now();
        london.until_served("299_16xxdata.txt", Some(content.as_bytes())).await;
        assert!(sent.elapsed() < Duration::from_millis(500), "{:?}", sent.elapsed());
        rounds += 1;
        sleep(Duration::from_millis(20)).await;
    }
    let allowed = Duration::from_secs(PEER_PING_SECONDS + PEER_PING_SECONDS_MAX + 2);
    assert!(began.elapsed() < allowed, "{:?}", began.elapsed());
    assert!(rounds > 20, "{rounds}");
    let error = london.peer(line.address).last_error;
    assert!(error.starts_with("the connection broke: "), "{error}");

    line.set(Mode::Forward);
    london.live().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_line_is_not_taken_for_a_dead_one() {
    let deployment = Deployment::new();
    let supplier = deployment.place("london").await.start(&[]).await;
    let line = Proxy::to(supplier.place.address).await;
    // 1 Mbit/s: each of these is longer on its way than two pings and their timeouts.
    line.set(Mode::Slow(125_000));
    let body: Vec<u8> = (0..=255).cycle().take(1024 * 1024).collect();
    for (number, byte) in [(1, b'a'), (2, b'b')] {
        let mut body = body.clone();
        body[0] = byte;
        supplier.put(&crate::kit::site::file(number), body).await;
    }
    let consumer = deployment.place("tokyo").await.start(&[line.address]).await;
    assert_equal(&[&supplier, &consumer]).await;
    assert_eq!(line.accepted(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_stops_within_its_grace_with_peers_connected() {
    let (london, tokyo) = Deployment::new().two(["london", "tokyo"]).await;
    london.put_many(0..20).await;
    for (site, name) in [(london, "london"), (tokyo, "tokyo")] {
        let (_, took) = site.stop().await;
        assert!(took < Duration::from_secs(3), "{name}: {took:?}");
    }
}
