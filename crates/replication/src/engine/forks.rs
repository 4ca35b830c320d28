//! Our own logs at peers, and logs that forked: whose branch stays, and going back to where branches part.

use bruri_domain::{Chain, Cursor, LogId};

use super::{
    Engine,
    consume::BARRED,
    io::{Effect, Failure, Job, LinkId},
};

impl Engine {
    /// A log's origin may have been set back: then it must say whose branch stays.
    pub(super) fn note_set_back(&mut self, id: LinkId, theirs: &Cursor) {
        let is_origin = self.session(id).is_some_and(|s| s.site == theirs.log.id.site);
        if is_origin && self.logs.went_back(id, theirs) {
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
        let Ok(Some(ours)) = *result else { return };
        let log = theirs.log.id.clone();
        let Some(state) = self.logs.get_mut(&log).filter(|_| ours != theirs.chain) else { return };
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
        if self.bar(id, &log, text, BARRED) {
            self.effects.push(Effect::Settle { link: id, log });
        }
    }

    pub(super) fn own_heard(&mut self, id: LinkId, result: Result<Vec<LogId>, Failure>) {
        // What the peer has is told again by the next connection, if the store does not answer.
        for log in result.unwrap_or_default() {
            self.settle_fork(id, log, "the log forked".to_owned());
        }
    }

    /// Our branch of a log was set back to where it parts from the peer's.
    pub(super) fn settled(&mut self, id: LinkId, log: &LogId, error: Option<String>) {
        if let Some(error) = error {
            tracing::warn!(%log, error, "a log that forked could not be set back; trying again");
            return;
        }
        if let Some(offer) = self.logs.get_mut(log).and_then(|state| state.offers.get_mut(&id)) {
            offer.barred = None;
        }
        self.logs.dirty.insert(log.clone());
        self.readings.want(self.time.now);
    }
}
