//! Time is a parameter: who needs it takes a [`Clock`].

use std::sync::atomic::{AtomicU64, Ordering};

/// Tells the time; the daemon's reads the wall clock, a test's is set by hand.
pub trait Clock: Send + Sync {
    /// Microseconds since 1970-01-01 UTC.
    fn now_micros(&self) -> u64;
}

/// The origin's own time of a record; it only orders versions that were written without knowledge of
/// each other.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Stamp {
    /// False while the origin doubted its clock. Compared first.
    pub trusted: bool,
    /// Microseconds since 1970-01-01 UTC.
    pub micros: u64,
}

/// Issues times that never repeat or go back in this process: max(clock, last issued + 1).
#[derive(Debug)]
pub struct Issuer {
    last_micros: AtomicU64,
}

impl Issuer {
    /// Goes on after `last_micros`, the newest time in the site's own logs; 0 where there is none.
    pub fn after(last_micros: u64) -> Self {
        Self { last_micros: AtomicU64::new(last_micros) }
    }

    /// The next time, given what the clock says.
    pub fn issue(&self, now_micros: u64) -> u64 {
        let next = |last: u64| now_micros.max(last.saturating_add(1));
        let last = self
            .last_micros
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |last| Some(next(last)));
        // The closure above never declines, so both arms hold the value before.
        next(last.unwrap_or_else(|last| last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn issued_times_follow_the_clock_and_never_repeat_or_go_back() {
        let times = Issuer::after(100);
        let issued: Vec<u64> = [50, 200, 200, 10, 300].map(|now| times.issue(now)).into();
        assert_eq!(issued, [101, 200, 201, 202, 300]);
    }
}
