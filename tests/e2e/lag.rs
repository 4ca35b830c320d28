//! How soon a backup is at the other end when nothing else goes on.

use std::time::Duration;

use bruri_tests::{Deployment, lag, number, tell};

use crate::turn;

const BYTES: usize = 4096;
/// The goal on loopback; programs without optimisation are given more.
const MEDIAN_MAX: Duration = Duration::from_millis(if cfg!(debug_assertions) { 50 } else { 10 });

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_readable_at_an_idle_peer_within_milliseconds() {
    let _turn = turn::alone().await;
    let deployment = Deployment::start(&["london", "tokyo"]).await.unwrap();
    let (from, to) = (deployment.sites[0].phones(), deployment.sites[1].phones());

    let lags = lag::measure(from, to, number("TRIES", 100).unwrap(), BYTES).await.unwrap();

    tell(&format!("from the 2xx to the other end: {}", lag::summary(&lags)));
    let median = Duration::from_micros(lags.value_at_quantile(0.5));
    assert!(median < MEDIAN_MAX, "{median:?}");
}
