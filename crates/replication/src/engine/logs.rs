//! How far this site and its peers have each log.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt::Write as _,
};

use bruri_domain::{
    Cursor, Log, LogId, LogKind, Sha256, SiteName,
    limits::{LIVE_LAG_RECORDS_MAX, LOGS_MAX},
    mutant::{self, Mutant},
};
use bruri_wire::proto::replication::v1 as proto;

use super::io::{LinkId, Moment, SubscriptionId};
use crate::batch::last_sequence;

/// Every log that is known here or offered by a peer.
pub(crate) struct Logs {
    ours: SiteName,
    states: BTreeMap<LogId, LogState>,
    /// Those whose source is to be thought over.
    pub(crate) dirty: BTreeSet<LogId>,
    /// Of all cursors here; none once one has moved.
    hash: Option<[u8; 8]>,
    /// The logs that this site appends to: they are taken from nobody.
    open: BTreeSet<LogId>,
}

/// One log as this site and its peers have it.
pub(crate) struct LogState {
    pub(crate) log: Log,
    /// What we have applied, or written.
    pub(crate) ours: Cursor,
    /// The reading of the vector that was the last to begin before `ours` moved.
    moved_in_reading: u64,
    /// When `ours` last moved.
    pub(crate) moved: Moment,
    /// Who has it, as far as they said.
    pub(crate) offers: BTreeMap<LinkId, Offer>,
    /// Whom it is taken from.
    pub(crate) source: Option<LinkId>,
    /// When that was last another one.
    pub(crate) turned: Moment,
    /// How often that changed since `ours` last moved.
    pub(crate) turns: u32,
    /// When it was last taken from its origin although the direct link was not good.
    pub(crate) left_origin: Option<Moment>,
    pub(crate) arrived: Arrived,
    /// The place from which it is wanted of its origin, to be told whose branch stays.
    pub(crate) parted: Option<Cursor>,
}

/// What a peer has of a log.
#[derive(Debug)]
pub(crate) struct Offer {
    /// Its last sequence, as it last said.
    pub(crate) sequence: u64,
    /// Since when it has had more than we, and how much at the beginning.
    pub(crate) ahead: Option<(Moment, u64)>,
    /// Why we take no more of it from this peer, and until when.
    pub(crate) barred: Option<(String, Moment)>,
}

/// Batches of a log that wait to be applied.
#[derive(Default)]
pub(crate) struct Arrived {
    queue: VecDeque<Queued>,
    /// The first of them is with the store.
    pub(crate) applying: bool,
    /// Nothing is tried before: the store did not answer.
    pub(crate) retry_at: Option<Moment>,
    /// The cursor was moved by somebody else: it must be read first.
    pub(crate) waits_for_reading: bool,
}

/// A batch with the stream that is to be granted its bytes.
#[derive(Clone)]
pub(crate) struct Queued {
    pub(crate) link: LinkId,
    pub(crate) peer: SiteName,
    pub(crate) subscription: SubscriptionId,
    pub(crate) bytes: u64,
    pub(crate) batch: proto::Batch,
}

impl Arrived {
    pub(crate) fn push(&mut self, queued: Queued) {
        self.queue.push_back(queued);
    }

    pub(crate) fn first(&self) -> Option<&Queued> {
        self.queue.front()
    }

    pub(crate) fn pop(&mut self) -> Option<Queued> {
        self.applying = false;
        self.queue.pop_front()
    }

    /// Takes out what came from one peer, but not what is with the store.
    pub(crate) fn drop_from(&mut self, link: LinkId) -> Vec<Queued> {
        let kept = usize::from(self.applying);
        let rest = self.queue.split_off(kept.min(self.queue.len()));
        let (dropped, kept): (Vec<_>, Vec<_>) = rest.into_iter().partition(|q| q.link == link);
        self.queue.extend(kept);
        dropped
    }
}

impl LogState {
    fn new(ours: Cursor) -> Self {
        Self {
            log: ours.log.clone(),
            ours,
            moved_in_reading: 0,
            moved: Moment::ZERO,
            offers: BTreeMap::new(),
            source: None,
            turned: Moment::ZERO,
            turns: 0,
            left_origin: None,
            arrived: Arrived::default(),
            parted: None,
        }
    }

    /// Records that a peer has and we have not, as it last said.
    pub(crate) fn lag(&self, link: LinkId) -> u64 {
        let offer = self.offers.get(&link);
        offer.map_or(0, |offer| offer.sequence.saturating_sub(self.ours.sequence))
    }

    /// Where a peer has less than we, or something else, nobody knows that it is the same.
    pub(crate) fn is_unlike(&self, theirs: &Cursor) -> bool {
        let Cursor { sequence, chain, .. } = &self.ours;
        let differs = theirs.sequence == *sequence && theirs.chain != *chain;
        (theirs.sequence < *sequence || differs) && !mutant::is(Mutant::UnlikeIsLevel)
    }

    /// So far behind that it is caught up on a stream of its own.
    pub(crate) fn is_far_behind(&self, link: LinkId) -> bool {
        self.lag(link) > LIVE_LAG_RECORDS_MAX
    }

    /// Notes since when peers have had more than we, now that we have moved or they have.
    fn compare(&mut self, now: Moment) {
        let ours = self.ours.sequence;
        for offer in self.offers.values_mut() {
            let reached = offer.ahead.is_none_or(|(_, sequence)| ours >= sequence);
            if reached {
                offer.ahead = (offer.sequence > ours).then_some((now, offer.sequence));
            }
        }
    }

    /// What is done with a batch: it is worth applying only where it goes beyond our cursor.
    pub(crate) fn is_news(&self, batch: &proto::Batch) -> bool {
        last_sequence(batch) > self.ours.sequence
    }
}

impl Logs {
    pub(crate) fn new(ours: SiteName, vector: Vec<Cursor>, open: BTreeSet<LogId>) -> Self {
        let states = vector.into_iter().map(|c| (c.log.id.clone(), LogState::new(c)));
        Self { ours, states: states.collect(), dirty: BTreeSet::new(), hash: None, open }
    }

    pub(crate) fn get(&self, log: &LogId) -> Option<&LogState> {
        self.states.get(log)
    }

    pub(crate) fn get_mut(&mut self, log: &LogId) -> Option<&mut LogState> {
        self.states.get_mut(log)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &LogState> {
        self.states.values()
    }

    /// Whether a log is taken from peers: another site's, or one of ours that is closed.
    pub(crate) fn is_taken(&self, log: &LogId) -> bool {
        log.site != self.ours || !self.open.contains(log)
    }

    /// Notes which of our logs we append to.
    pub(crate) fn set_open(&mut self, open: BTreeSet<LogId>) {
        self.dirty.extend(self.open.difference(&open).cloned());
        self.open = open;
    }

    /// What a peer may be told: the logs of which there is a row here.
    pub(crate) fn is_known(&self, log: &LogId) -> bool {
        self.states.get(log).is_some_and(|state| state.is_told(&self.ours))
    }

    /// Our cursors, as peers are told them.
    pub(crate) fn told(&self) -> impl Iterator<Item = &Cursor> {
        let told = self.states.values().filter(|state| state.is_told(&self.ours));
        told.map(|state| &state.ours)
    }

    /// The first 8 bytes of a hash over the whole vector: equal where two sites have the same.
    pub(crate) fn hash(&mut self) -> [u8; 8] {
        if let Some(hash) = self.hash {
            return hash;
        }
        let mut text = String::new();
        for cursor in self.states.values().map(|state| &state.ours).filter(|c| c.sequence > 0) {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{} {} {}", cursor.log.id, cursor.sequence, cursor.chain);
        }
        let mut hash = [0; 8];
        hash.copy_from_slice(&Sha256::of(text.as_bytes()).0[..8]);
        self.hash = Some(hash);
        hash
    }

    /// Notes what a peer has. `false` where it would be one log too many.
    pub(crate) fn offer(&mut self, link: LinkId, theirs: &Cursor, now: Moment) -> bool {
        let id = theirs.log.id.clone();
        if !self.states.contains_key(&id) && self.states.len() >= LOGS_MAX {
            return false;
        }
        let begin = || LogState::new(Cursor::at_beginning(theirs.log.clone()));
        let state = self.states.entry(id.clone()).or_insert_with(begin);
        let offer = state.offers.entry(link).or_insert_with(|| {
            self.dirty.insert(id.clone());
            Offer { sequence: 0, ahead: None, barred: None }
        });
        // Heartbeats of two streams overtake each other.
        offer.sequence = offer.sequence.max(theirs.sequence);
        state.compare(now);
        if state.source.is_none_or(|source| source != link) {
            self.dirty.insert(id);
        }
        true
    }

    /// A peer cannot send a log until it tells of it again.
    pub(crate) fn take_back(&mut self, link: LinkId, log: &LogId) {
        let Some(state) = self.states.get_mut(log) else { return };
        state.offers.remove(&link);
        state.parted = None;
        self.dirty.insert(log.clone());
    }

    /// The origin of a log has less of it than it told before, or something else at the same place. `true` where that
    /// concerns us.
    pub(crate) fn went_back(&mut self, link: LinkId, theirs: &Cursor) -> bool {
        let Some(state) = self.states.get_mut(&theirs.log.id) else { return false };
        if theirs.sequence <= state.ours.sequence
            && let Some(offer) = state.offers.get_mut(&link)
        {
            offer.sequence = offer.sequence.min(theirs.sequence);
        }
        state.is_unlike(theirs)
    }

    /// A link is gone, with all that was offered and queued on it. Returns the logs that it offered.
    pub(crate) fn withdraw(&mut self, link: LinkId) -> Vec<LogId> {
        let mut offered = Vec::new();
        for (id, state) in &mut self.states {
            state.arrived.drop_from(link);
            if state.source == Some(link) {
                state.parted = None;
            }
            if state.offers.remove(&link).is_some() {
                offered.push(id.clone());
            }
        }
        self.dirty.extend(offered.iter().cloned());
        offered
    }

    /// Our cursor has moved there: we applied it.
    pub(crate) fn advance(&mut self, to: Cursor, reading: u64, now: Moment) {
        let Some(state) = self.states.get_mut(&to.log.id) else { return };
        if to.sequence > state.ours.sequence {
            state.ours = to;
            state.moved = now;
            state.turns = 0;
            self.hash = None;
        }
        state.moved_in_reading = reading;
        state.compare(now);
    }

    /// The store's cursors as reading `number` found them. Returns the logs that have moved, and whether back.
    pub(crate) fn read(
        &mut self,
        vector: Vec<Cursor>,
        number: u64,
        now: Moment,
    ) -> Vec<(LogId, bool)> {
        let mut moved = Vec::new();
        for cursor in vector {
            let id = cursor.log.id.clone();
            let known = self.states.contains_key(&id);
            let begin = || LogState::new(cursor.clone());
            let state = self.states.entry(id.clone()).or_insert_with(begin);
            let before = state.ours.sequence;
            let waited = std::mem::take(&mut state.arrived.waits_for_reading);
            if take_reading(state, cursor, number, now) || !known || waited {
                let back = state.ours.sequence < before;
                moved.push((id, back));
            }
        }
        if !moved.is_empty() {
            self.hash = None;
        }
        moved
    }
}

impl LogState {
    /// A log of which nothing is here is told only where it is our own.
    fn is_told(&self, ours: &SiteName) -> bool {
        self.ours.sequence > 0 || self.log.id.site == *ours
    }

    /// Control logs before others.
    pub(crate) fn rank(&self) -> (bool, &LogId) {
        (self.log.kind != LogKind::Control, &self.log.id)
    }
}

/// A reading that began before we moved the cursor ourselves tells only how far it was at least; a later
/// one tells where it is, also where that is further back: the database may have lost its tail.
fn take_reading(state: &mut LogState, cursor: Cursor, number: u64, now: Moment) -> bool {
    let is_later = number > state.moved_in_reading && !state.arrived.applying;
    let is_news = cursor.sequence != state.ours.sequence || cursor.chain != state.ours.chain;
    if !is_news || (!is_later && cursor.sequence <= state.ours.sequence) {
        return false;
    }
    state.ours = cursor;
    state.moved = now;
    state.turns = 0;
    state.compare(now);
    true
}
