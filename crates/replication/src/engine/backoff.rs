//! When to try a peer again: at once, then less and less often, never in step with others.

use std::time::Duration;

use bruri_domain::limits::{RECONNECT_MILLIS_MAX, REFUSED_RECONNECT_MILLIS_MAX};
use rand::Rng;

const FIRST: Duration = Duration::from_millis(50);

/// Waits that double up to a bound; each is drawn between half of it and the whole.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The peer answered: the next failure is a first one.
    pub(crate) fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// How long to wait after one more failure; `needs_a_person` where trying again cannot mend it.
    pub(crate) fn failed(&mut self, needs_a_person: bool, rng: &mut impl Rng) -> Duration {
        let longest =
            if needs_a_person { REFUSED_RECONNECT_MILLIS_MAX } else { RECONNECT_MILLIS_MAX };
        let doubled = FIRST.saturating_mul(2_u32.saturating_pow(self.failures.min(16)));
        let whole = doubled.min(Duration::from_millis(longest));
        self.failures = self.failures.saturating_add(1);
        whole.mul_f64(rng.random_range(0.5..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_begin_short_double_and_stay_bounded() {
        let (mut backoff, mut rng) = (Backoff::default(), rand::rng());
        let waits: Vec<Duration> = (0..20).map(|_| backoff.failed(false, &mut rng)).collect();
        assert!(waits[0] <= FIRST && waits[0] >= FIRST / 2);
        assert!(waits[5] > waits[0] * 8);
        assert!(waits.iter().all(|wait| *wait <= Duration::from_millis(RECONNECT_MILLIS_MAX)));
        assert!(backoff.failed(true, &mut rng) > Duration::from_millis(RECONNECT_MILLIS_MAX));
        backoff.succeeded();
        assert!(backoff.failed(false, &mut rng) <= FIRST);
    }
}
