//! The one place that reads the wall clock.

use std::time::{SystemTime, UNIX_EPOCH};

use bruri_domain::Clock;

/// The host's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    fn now_micros(&self) -> u64 {
        // A clock before 1970 is as good as none: rank treats 0 as the oldest time there is.
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_tells_microseconds_since_1970() {
        let in_2020 = 1_577_836_800_000_000;
        let in_2200 = 7_258_118_400_000_000;
        assert!((in_2020..in_2200).contains(&SystemClock.now_micros()));
    }
}
