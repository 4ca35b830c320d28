//! What a heartbeat claims about how fresh its sender is.

use std::time::Duration;

use bruri_domain::{
    limits::HOPS_MAX,
    mutant::{self, Mutant},
};
use bruri_wire::proto::replication::v1 as proto;

use super::io::Moment;

/// What the last heartbeat claims: what it told was so then.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    pub(crate) at: Moment,
    pub(crate) own_age: Duration,
    /// Of the sites at each distance from the peer, from one hop on.
    ages: Vec<Duration>,
}

impl Claim {
    /// None before the round trip is known: the heartbeat may be as old as it.
    pub(crate) fn of(
        beat: &proto::Heartbeat,
        round_trip: Option<Duration>,
        now: Moment,
    ) -> Option<Self> {
        let unless = |mutant| u64::from(!mutant::is(mutant));
        let relayed = beat.level_age_micros.iter().take(usize::from(HOPS_MAX));
        let ages = relayed.map(|age| age.saturating_mul(unless(Mutant::RelayIsFresh)));
        let ages = ages.map(Duration::from_micros).collect();
        let unread = beat.own_age_micros.saturating_mul(unless(Mutant::UnreadIsKnown));
        let own_age = Duration::from_micros(unread);
        let is_instant = mutant::is(Mutant::FreshOnArrival);
        let trip = if is_instant { Some(Duration::ZERO) } else { round_trip };
        Some(Self { at: now.saturating_sub(trip?), own_age, ages })
    }

    /// When the peer was level with a site that is so many hops from it, by each of its logs.
    pub(crate) fn level_at(&self, hops: impl Iterator<Item = u8>) -> Option<Moment> {
        let age = |hops: u8| match hops {
            0 => Some(self.own_age),
            _ => self.ages.get(usize::from(hops).saturating_sub(1)).copied(),
        };
        let ages: Option<Vec<Duration>> = hops.map(age).collect();
        self.at.checked_sub(ages?.into_iter().max()?)
    }
}
