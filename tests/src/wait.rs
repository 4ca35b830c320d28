//! Waiting for what happens in other processes.

use std::time::Duration;

use anyhow::Context as _;
use tokio::time::{Instant, sleep};

/// Other processes tell of nothing, so they are asked.
const ASK_AGAIN: Duration = Duration::from_millis(10);

/// Tries until it succeeds; after `limit` fails with `what` was waited for and the last error.
pub async fn eventually<T, F>(
    limit: Duration,
    what: &str,
    mut attempt: impl FnMut() -> F,
) -> anyhow::Result<T>
where
    F: Future<Output = anyhow::Result<T>>,
{
    let began = Instant::now();
    loop {
        match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) if began.elapsed() >= limit => {
                return Err(error).with_context(|| format!("not within {limit:?}: {what}"));
            }
            Err(_) => sleep(ASK_AGAIN).await,
        }
    }
}
