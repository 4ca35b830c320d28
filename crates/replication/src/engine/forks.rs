//! Our own logs at peers, and logs that forked: whose branch stays, and going back to where branches part.

use std::{collections::btree_map::Entry, time::Duration};

use bruri_domain::{Chain, Cursor, LogId};

use super::{
    Engine,
    consume::BARRED,
    io::{Effect, Failure, Job, LinkId, Moment, Theirs},
    link::Link,
};

/// How long to wait before a log that could not be set back is tried again.
const SETTLE_AGAIN: Duration = Duration::from_secs(1);

/// A log of which our branch is void.
pub(super) struct Fork {
    /// By way of which link the branch that stays is reached.
    link: LinkId,
    /// Set while it waits to be tried again.
    retry_at: Option<Moment>,
    /// Why it was not set back, as it was last logged.
    error: String,
}

impl Engine {
    /// A log's origin may have been set back: then it must say whose branch stays.
    pub(super) fn note_set_back(&mut self, id: LinkId, theirs: &Cursor) {
        let is_origin = self.session(id).is_some_and(|s| s.site == theirs.log.id.site);
        if is_origin && self.logs.went_back(id, theirs) {
            // It may have what is not here, whatever the numbers say, until its chain is known to be ours.
            if let Some(session) = self.session(id) {
                session.lagging.insert(theirs.log.id.clone());
            }
            self.effects.push(Effect::Do(Job::ReadParted { link: id, theirs: theirs.clone() }));
        }
    }

    /// The store has told our chain where the origin of a log is now. Where it is another, the log is wanted from
    /// there: the origin refuses, and says by that whose branch stays.
    pub(super) fn parted(
        &mut self,
        id: LinkId,
        theirs: Cursor,
        result: &Result<Option<Chain>, Failure>,
    ) {
        if result.is_err() && self.session(id).is_some() {
            self.unread.insert((id, theirs.log.id.clone()), theirs);
            return;
        }
        let Ok(Some(ours)) = *result else { return };
        let log = theirs.log.id.clone();
        let lags = self.logs.get(&log).is_some_and(|state| state.lag(id) > 0);
        let is_same = ours == theirs.chain;
        if let Some(session) = self.session(id) {
            if is_same && !lags {
                session.lagging.remove(&log);
                session.unlike.remove(&log);
            } else if !is_same {
                session.unlike.insert(log.clone(), theirs.clone());
            }
        }
        let Some(state) = self.logs.get_mut(&log).filter(|_| ours != theirs.chain) else { return };
        state.offered_still(id, theirs.sequence);
        state.parted = Some(Cursor { chain: ours, ..theirs });
        if state.source.is_none() {
            state.source = Some(id);
        }
        self.start_over(&log);
    }

    /// A peer has other records than we in a log of its own, or of ours: that branch stays.
    pub(super) fn settle_fork(&mut self, id: LinkId, log: LogId, text: String) {
        if let Some(state) = self.logs.get_mut(&log) {
            state.parted = None;
        }
        self.bar(id, &log, text, BARRED);
        if let Entry::Vacant(fork) = self.forks.entry(log.clone()) {
            fork.insert(Fork { link: id, retry_at: None, error: String::new() });
            self.effects.push(Effect::Settle { link: id, log });
        }
    }

    /// Has the store hear what a peer has of our own logs, also where that is nothing new: it has answered then. While
    /// its first words are being heard, later ones are no answer yet.
    pub(super) fn hear_own(&mut self, id: LinkId) {
        let theirs = self.session(id).map(|session| session.own.take_unheard());
        let mut theirs = theirs.unwrap_or_default();
        let hearing = self.hearing.entry(id).or_default();
        theirs.is_all = *hearing == 0;
        *hearing = hearing.saturating_add(1);
        self.effects.push(Effect::Do(Job::HearOwn { link: id, theirs }));
    }

    /// The store has heard what a peer has of our own logs, or could not: then it hears it with the next heartbeat.
    pub(super) fn own_heard(
        &mut self,
        id: LinkId,
        theirs: Theirs,
        result: Result<Vec<LogId>, Failure>,
    ) {
        if let Some(hearing) = self.hearing.get_mut(&id) {
            *hearing = hearing.saturating_sub(1);
        }
        match result {
            Ok(forked) => {
                for log in forked {
                    self.settle_fork(id, log, "the log forked".to_owned());
                }
            }
            Err(_) => {
                if let Some(session) = self.session(id) {
                    session.own.not_heard(theirs);
                }
            }
        }
    }

    /// The database lost the end of one of our own logs, and with it what the store had concluded from what peers have.
    pub(super) fn own_went_back(&mut self, log: &LogId) {
        if log.site == self.site {
            let sessions = self.links.iter_mut().filter_map(Link::session_mut);
            sessions.for_each(|session| session.own.went_back(log));
        }
    }

    /// Our branch of a log was set back to where it parts from the peer's, or could not be.
    pub(super) fn settled(&mut self, id: LinkId, log: &LogId, error: Option<String>) {
        let now = self.time.now;
        let Some(error) = error else {
            self.forks.remove(log);
            if let Some(offer) = self.logs.get_mut(log).and_then(|state| state.offers.get_mut(&id))
            {
                offer.barred = None;
            }
            self.logs.dirty.insert(log.clone());
            self.readings.want(now);
            return;
        };
        if let Some(fork) = self.forks.get_mut(log) {
            fork.retry_at = Some(now.saturating_add(SETTLE_AGAIN));
            if std::mem::replace(&mut fork.error, error.clone()) != error {
                tracing::warn!(%log, error, "a log that forked could not be set back; trying again");
            }
        }
    }

    /// The store did not answer: the place is looked up again, or the peer counts as ahead of us for good.
    pub(super) fn read_parted_again(&mut self) {
        for ((link, _), theirs) in std::mem::take(&mut self.unread) {
            if self.session(link).is_some() {
                self.effects.push(Effect::Do(Job::ReadParted { link, theirs }));
            }
        }
    }

    /// Where there is no connection any more, the next one tells of the fork again.
    pub(super) fn settle_again(&mut self) {
        let now = self.time.now;
        let is_due = |fork: &Fork| fork.retry_at.is_some_and(|at| at <= now);
        let due = self.forks.iter().filter(|(_, fork)| is_due(fork));
        let due: Vec<(LogId, LinkId)> = due.map(|(log, fork)| (log.clone(), fork.link)).collect();
        for (log, link) in due {
            if self.session(link).is_none() {
                self.forks.remove(&log);
                continue;
            }
            if let Some(fork) = self.forks.get_mut(&log) {
                fork.retry_at = None;
            }
            self.effects.push(Effect::Settle { link, log });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use bruri_domain::SiteName;

    use super::*;
    use crate::engine::Identity;

    /// Whether the store is to take each of what it heard last for all that the peer said.
    fn answers(engine: &mut Engine) -> Vec<bool> {
        let effects = std::mem::take(&mut engine.effects);
        let heard = effects.into_iter().filter_map(|effect| match effect {
            Effect::Do(Job::HearOwn { theirs, .. }) => Some(theirs.is_all),
            _ => None,
        });
        heard.collect()
    }

    /// An answer to later words would open the gate before the numbers are known that were told first.
    #[test]
    fn what_a_peer_says_is_an_answer_only_once_the_store_has_heard_what_it_said_before() {
        let site = SiteName::parse("london").unwrap();
        let identity = Identity { site, key_check: [0; 16], release: "0".to_owned() };
        let mut engine = Engine::new(&identity, (Vec::new(), BTreeSet::new()), 2, 7);
        let (link, other) = (LinkId(0), LinkId(1));
        for link in [link, link, other] {
            engine.hear_own(link);
        }
        assert_eq!(answers(&mut engine), [true, false, true]);
        engine.own_heard(link, Theirs::default(), Ok(Vec::new()));
        engine.hear_own(link);
        assert_eq!(answers(&mut engine), [false], "the second is being heard");
        for result in [Ok(Vec::new()), Err(Failure::default())] {
            engine.own_heard(link, Theirs::default(), result);
        }
        engine.hear_own(link);
        assert_eq!(answers(&mut engine), [true]);
    }
}
