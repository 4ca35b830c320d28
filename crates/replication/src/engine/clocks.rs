//! Whether our wall clock is to be trusted. Nothing is refused and nothing adopted for it: the origin only
//! notes in its records what it thought of its clock.

use std::time::Duration;

use bruri_domain::limits::{CLOCK_DOUBT_SECONDS, CLOCK_OFFSET_MILLIS_MAX};

use super::io::{Moment, Time};

const OFFSET_MICROS_MAX: i64 = (CLOCK_OFFSET_MILLIS_MAX * 1000).cast_signed();
const DOUBT: Duration = Duration::from_secs(CLOCK_DOUBT_SECONDS);

/// Watches our clock.
#[derive(Debug)]
pub(crate) struct Clocks {
    last: Option<Time>,
    jumped: Option<Moment>,
    trusted: bool,
}

impl Default for Clocks {
    fn default() -> Self {
        Self { last: None, jumped: None, trusted: true }
    }
}

impl Clocks {
    /// Notes what the clocks say; `true` where the wall clock has jumped since the last time.
    pub(crate) fn tick(&mut self, time: Time) -> bool {
        let Some(last) = self.last.replace(time) else { return false };
        let passed = super::supply::micros(time.now.saturating_sub(last.now));
        let expected = last.wall_micros.saturating_add(passed);
        let jumped = expected.abs_diff(time.wall_micros) > OFFSET_MICROS_MAX.unsigned_abs();
        if jumped {
            self.jumped = Some(time.now);
        }
        jumped
    }

    /// Decides anew, given how far the peers' clocks are from ours; the decision where it has changed. Doubted is a
    /// clock from which at least two peers that agree with each other differ by more than 2 s, and one that jumped a short
    /// time ago while no peer agrees with it.
    pub(crate) fn judge(&mut self, now: Moment, offsets_micros: &[i64]) -> Option<bool> {
        let far = |offset: &&i64| offset.unsigned_abs() > OFFSET_MICROS_MAX.unsigned_abs();
        let agrees = offsets_micros.iter().any(|offset| !far(&offset));
        let mut others: Vec<i64> = offsets_micros.iter().filter(far).copied().collect();
        others.sort_unstable();
        let close = |pair: &[i64]| pair[1].saturating_sub(pair[0]) <= OFFSET_MICROS_MAX;
        let outvoted = others.windows(2).any(close);
        let recent = self.jumped.is_some_and(|at| now.saturating_sub(at) < DOUBT);
        let trusted = !outvoted && (agrees || !recent);
        (std::mem::replace(&mut self.trusted, trusted) != trusted).then_some(trusted)
    }
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "a test that overflows panics, as it should")]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000_000;

    fn at(seconds: u64, wall_seconds: u64) -> Time {
        Time { now: Duration::from_secs(seconds), wall_micros: wall_seconds * 1_000_000 }
    }

    #[test]
    fn a_clock_is_doubted_where_two_peers_agree_against_it_and_not_before() {
        let mut clocks = Clocks::default();
        let now = Duration::from_secs(9);
        assert_eq!(clocks.judge(now, &[HOUR]), None);
        assert_eq!(clocks.judge(now, &[HOUR, -HOUR]), None);
        assert_eq!(clocks.judge(now, &[HOUR, HOUR + 1_000_000]), Some(false));
        assert_eq!(clocks.judge(now, &[HOUR, HOUR + 1_000_000]), None);
        assert_eq!(clocks.judge(now, &[1_000_000, -900_000]), Some(true));
    }

    #[test]
    fn a_clock_that_jumped_is_doubted_until_a_peer_agrees_or_time_has_passed() {
        let mut clocks = Clocks::default();
        assert!(!clocks.tick(at(0, 1000)));
        assert!(!clocks.tick(at(100, 1101)));
        assert!(clocks.tick(at(101, 5000)));
        let now = Duration::from_secs(101);
        assert_eq!(clocks.judge(now, &[]), Some(false));
        assert_eq!(clocks.judge(now, &[500_000]), Some(true));
        assert_eq!(clocks.judge(now, &[]), Some(false));
        assert_eq!(clocks.judge(now + DOUBT, &[]), Some(true));
    }
}
