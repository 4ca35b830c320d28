//! Refused connections in the log: each address once a minute, however often it tries.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bruri_domain::limits::REFUSAL_ADDRESSES_MAX;
use tokio::time::Instant;

use super::Refusal;

const SILENCE: Duration = Duration::from_mins(1);

/// What was logged of late.
#[derive(Debug, Default)]
pub(super) struct RefusalLog(Mutex<HashMap<IpAddr, Logged>>);

#[derive(Debug)]
struct Logged {
    at: Instant,
    unlogged_since: u64,
}

impl RefusalLog {
    /// Logs a refusal, unless one of its address was logged in the last minute.
    pub(super) fn log(&self, address: SocketAddr, refusal: &Refusal) {
        if let Some(unlogged) = self.note(address.ip(), Instant::now()) {
            tracing::info!(
                peer.address = %address,
                refusals.unlogged = unlogged,
                "refused a connection from {address}: {refusal}"
            );
        }
    }

    /// How many of this address went unlogged since the last line, where it is time for the next.
    /// With too many addresses in one minute, the later ones get no line.
    fn note(&self, address: IpAddr, now: Instant) -> Option<u64> {
        let mut logged = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = logged.get_mut(&address) {
            if now.duration_since(known.at) < SILENCE {
                known.unlogged_since = known.unlogged_since.saturating_add(1);
                return None;
            }
            let unlogged = known.unlogged_since;
            *known = Logged { at: now, unlogged_since: 0 };
            return Some(unlogged);
        }
        if logged.len() >= REFUSAL_ADDRESSES_MAX {
            logged.retain(|_, known| now.duration_since(known.at) < SILENCE);
        }
        if logged.len() >= REFUSAL_ADDRESSES_MAX {
            return None;
        }
        logged.insert(address, Logged { at: now, unlogged_since: 0 });
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: usize) -> IpAddr {
        IpAddr::from(u32::try_from(number).unwrap().to_be_bytes())
    }

    #[test]
    fn an_address_is_logged_once_a_minute_with_the_number_left_out() {
        let (log, start) = (RefusalLog::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(log.note(address(1), start), Some(0));
        assert_eq!(log.note(address(1), after(1)), None);
        assert_eq!(log.note(address(1), after(59)), None);
        assert_eq!(log.note(address(2), after(59)), Some(0));
        assert_eq!(log.note(address(1), after(60)), Some(2));
        assert_eq!(log.note(address(1), after(61)), None);
    }

    #[test]
    fn addresses_are_bounded_and_make_room_after_a_minute() {
        let (log, start) = (RefusalLog::default(), Instant::now());
        for number in 0..REFUSAL_ADDRESSES_MAX {
            assert_eq!(log.note(address(number), start), Some(0));
        }
        assert_eq!(log.note(address(REFUSAL_ADDRESSES_MAX), start), None);
        assert_eq!(log.note(address(REFUSAL_ADDRESSES_MAX), start + SILENCE), Some(0));
        assert_eq!(log.0.lock().unwrap().len(), 1);
    }
}
