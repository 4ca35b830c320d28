//! How long a backup takes from the 2xx at one site to the first GET at another that has it.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use hdrhistogram::Histogram;
use tokio::time::Instant;

use crate::body::Bodies;
use crate::phone::Phone;

/// A backup that takes longer is lost.
const LIMIT: Duration = Duration::from_secs(10);
/// The file that goes back and forth.
const FILE: &str = "7001_96xxdata.txt";

/// Measures so many backups one after the other, in microseconds.
pub async fn measure(
    from: SocketAddr,
    to: SocketAddr,
    tries: usize,
    bytes: usize,
) -> anyhow::Result<Histogram<u64>> {
    let (mut sender, mut reader) = (Phone::new(from), Phone::new(to));
    let mut bodies = Bodies::new(rand::random());
    let mut lags = Histogram::new_with_bounds(1, 60_000_000, 3).context("make a histogram")?;
    for _ in 0..tries {
        let body = bodies.next(bytes);
        let got = sender.send("PUT", FILE, Some(&body)).await?;
        ensure!((200..300).contains(&got.status), "PUT {FILE}: {}", got.status);
        let acknowledged = Instant::now();
        while reader.restore(FILE).await?.as_deref() != Some(&body) {
            ensure!(acknowledged.elapsed() < LIMIT, "a backup was not at {to} within {LIMIT:?}");
        }
        let lag = u64::try_from(acknowledged.elapsed().as_micros()).unwrap_or(u64::MAX);
        lags.record(lag).context("note a time")?;
    }
    Ok(lags)
}

/// Median, 99th percentile and maximum in milliseconds, for people.
pub fn summary(micros: &Histogram<u64>) -> String {
    let millis = |micros: u64| Duration::from_micros(micros).as_secs_f64() * 1000.0;
    format!(
        "p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms",
        millis(micros.value_at_quantile(0.5)),
        millis(micros.value_at_quantile(0.99)),
        millis(micros.max()),
    )
}
