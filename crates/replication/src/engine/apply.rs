//! Batches on their way into the store: one of a log at a time, in order.

use std::time::Duration;

use bruri_domain::{
    Cursor, LogId,
    limits::{APPLIES_MAX, ERASURE_WAIT_MILLIS},
};

use super::{
    Engine, RETRY,
    arrived::Queued,
    consume::BARRED,
    io::{Effect, Job, Unapplied},
};
use crate::metrics;

/// How long the control log of an erasure may be behind the file log that shows it.
const ERASURE_WAIT: Duration = Duration::from_millis(ERASURE_WAIT_MILLIS);

impl Engine {
    /// Hands batches to the store, one of a log at a time.
    pub(super) fn apply_waiting(&mut self) {
        for log in std::mem::take(&mut self.waiting) {
            if !self.apply_next(&log) {
                self.waiting.insert(log);
            }
        }
    }

    /// `false` where there is something to apply, but not now.
    fn apply_next(&mut self, log: &LogId) -> bool {
        let Some(state) = self.logs.get_mut(log) else { return true };
        if state.arrived.applying || state.arrived.waits_for_reading {
            // Its end comes back here.
            return true;
        }
        let mut passed_over = Vec::new();
        while let Some(queued) = state.arrived.first().filter(|q| !state.is_news(&q.batch)) {
            passed_over.push((queued.subscription, queued.bytes));
            state.arrived.pop();
        }
        let retry = state.arrived.retry_at.is_none_or(|at| at <= self.time.now);
        let next = state.arrived.first().cloned();
        let can = retry && self.applying < APPLIES_MAX;
        let done = match next {
            None => true,
            Some(_) if !can => false,
            Some(Queued { peer, batch, .. }) => {
                state.arrived.applying = true;
                state.arrived.retry_at = None;
                self.applying = self.applying.saturating_add(1);
                let from = state.ours.clone();
                self.effects.push(Effect::Do(Job::Apply { from, batch, peer }));
                true
            }
        };
        for (subscription, bytes) in passed_over {
            self.grant(subscription, bytes);
        }
        done
    }

    /// The store is done with the first batch of a log.
    pub(super) fn applied(&mut self, from: &Cursor, result: Result<Cursor, Unapplied>) {
        self.applying = self.applying.saturating_sub(1);
        let log = &from.log.id;
        self.waiting.insert(log.clone());
        let (now, reading) = (self.time.now, self.readings.number);
        let Some(state) = self.logs.get_mut(log) else { return };
        state.arrived.applying = false;
        match result {
            Ok(to) => {
                let queued = state.arrived.pop();
                let records = to.sequence.saturating_sub(from.sequence);
                self.logs.advance(to, reading, now);
                self.moved(log);
                if let Some(queued) = queued {
                    metrics::applied(&queued.peer, records);
                    self.grant(queued.subscription, queued.bytes);
                }
            }
            Err(Unapplied::CursorMoved) => {
                // Another brurid of this site was faster: go on from there.
                state.arrived.waits_for_reading = true;
                self.readings.wanted = true;
            }
            Err(Unapplied::Store(failure)) => {
                if state.arrived.retry_at.replace(now.saturating_add(RETRY)).is_none() {
                    tracing::warn!(%log, error = failure.text, "records of a peer wait for the database");
                }
            }
            Err(Unapplied::Invalid(text)) => self.refuse_batch(log, text),
            Err(Unapplied::Unerased(text)) => self.await_erasure(log, text),
        }
    }

    /// A batch that is wrong costs its log, not the others.
    fn refuse_batch(&mut self, log: &LogId, text: String) {
        let queued = self.logs.get_mut(log).and_then(|state| state.arrived.pop());
        let Some(queued) = queued else { return };
        tracing::error!(peer = %queued.peer, %log, error = text,
            "a peer's batch is refused; its log waits for a while");
        self.grant(queued.subscription, queued.bytes);
        self.bar(queued.link, log, text, BARRED);
    }

    /// A supplier has heard of an erasure that has not come here yet. The log is asked for elsewhere, where it may
    /// be whole; soon after, when the erasure may have come, from there again.
    fn await_erasure(&mut self, log: &LogId, text: String) {
        let queued = self.logs.get_mut(log).and_then(|state| state.arrived.pop());
        let Some(queued) = queued else { return };
        tracing::info!(peer = %queued.peer, %log, text, "a log waits for an erasure");
        self.grant(queued.subscription, queued.bytes);
        self.bar(queued.link, log, text, ERASURE_WAIT);
    }
}
