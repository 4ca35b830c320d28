//! How far this site and its peers have each log.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use bruri_domain::{
    Cursor, Epoch, Log, LogId, LogKind, Sha256, SiteName,
    limits::{HOPS_MAX, LIVE_LAG_RECORDS_MAX, LOGS_MAX},
    mutant::{self, Mutant},
};
use bruri_wire::proto::replication::v1 as proto;

use super::{
    arrived::Arrived,
    io::{LinkId, Moment},
};
use crate::batch::last_sequence;

/// Every log that is known here or offered by a peer.
pub(crate) struct Logs {
    ours: SiteName,
    states: BTreeMap<LogId, LogState>,
    /// Those whose source is to be thought over.
    pub(crate) dirty: BTreeSet<LogId>,
    /// Those of which time alone may change the source.
    pub(crate) uneasy: BTreeSet<LogId>,
    /// Counts how often it changed which logs there are, or how far from their origins.
    pub(crate) version: u64,
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
    /// Peers may have been told of it: it is our own, or something of it was here since we began. A database that
    /// lost it all does not change that, or peers would take what we tell of other sites for what we have of this one.
    is_told: bool,
    /// The reading of the vector that was the last to begin before `ours` moved.
    moved_in_reading: u64,
    /// When `ours` last moved.
    pub(crate) moved: Moment,
    /// Who has it, as far as they said.
    pub(crate) offers: BTreeMap<LinkId, Offer>,
    /// Whom it is taken from.
    pub(crate) source: Option<LinkId>,
    /// Through so many sites it comes here; 0 where it is our own, and the most where it comes from nobody.
    pub(crate) hops: u8,
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
    /// Through so many sites the log came there.
    pub(crate) hops: u8,
    /// Since when it has had more than we, and how much at the beginning.
    pub(crate) ahead: Option<(Moment, u64)>,
    /// Why we take no more of it from this peer, and until when.
    pub(crate) barred: Option<(String, Moment)>,
}

impl Offer {
    /// Notes since when it has been ahead of us.
    fn compare(&mut self, ours: u64, now: Moment) {
        let reached = self.ahead.is_none_or(|(_, sequence)| ours >= sequence);
        if reached {
            self.ahead = (self.sequence > ours).then_some((now, self.sequence));
        }
    }

    /// Whether time alone may have it taken, or taken again.
    fn waits(&self) -> bool {
        self.ahead.is_some() || self.barred.is_some()
    }
}

impl LogState {
    fn new(ours: Cursor, is_own: bool) -> Self {
        Self {
            log: ours.log.clone(),
            is_told: is_own || ours.sequence > 0,
            ours,
            moved_in_reading: 0,
            moved: Moment::ZERO,
            offers: BTreeMap::new(),
            source: None,
            hops: if is_own { 0 } else { HOPS_MAX },
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
        self.offers.values_mut().for_each(|offer| offer.compare(ours, now));
    }

    /// The origin has refused a place meanwhile and said that it has less, which took its offer back; but what it has is
    /// known, and is another branch.
    pub(crate) fn offered_still(&mut self, origin: LinkId, sequence: u64) {
        let offer = || Offer { sequence, hops: 0, ahead: None, barred: None };
        self.offers.entry(origin).or_insert_with(offer);
    }

    /// Whether a peer has it from nearer to its origin than the source.
    fn has_nearer(&self) -> bool {
        let source = self.source.and_then(|link| self.offers.get(&link));
        source.is_some_and(|source| self.offers.values().any(|offer| offer.hops < source.hops))
    }

    /// Whether time alone may change whom it is taken from.
    pub(crate) fn is_uneasy(&self) -> bool {
        let is_lonely = self.source.is_none() && !self.offers.is_empty();
        is_lonely || self.has_nearer() || self.offers.values().any(Offer::waits)
    }

    /// Counts again through how many sites it comes here; `true` where it is another number.
    pub(crate) fn count_hops(&mut self, is_own: bool) -> bool {
        let source = self.source.and_then(|link| self.offers.get(&link));
        let hops = match source {
            _ if is_own => 0,
            Some(source) => source.hops.saturating_add(1).min(HOPS_MAX),
            None => HOPS_MAX,
        };
        std::mem::replace(&mut self.hops, hops) != hops
    }

    /// What is done with a batch: it is worth applying only where it goes beyond our cursor.
    pub(crate) fn is_news(&self, batch: &proto::Batch) -> bool {
        last_sequence(batch) > self.ours.sequence
    }
}

impl Logs {
    pub(crate) fn new(ours: SiteName, vector: Vec<Cursor>, open: BTreeSet<LogId>) -> Self {
        let begin = |cursor: Cursor| {
            let is_own = cursor.log.id.site == ours;
            (cursor.log.id.clone(), LogState::new(cursor, is_own))
        };
        let states: BTreeMap<_, _> = vector.into_iter().map(begin).collect();
        Self {
            ours,
            states,
            dirty: BTreeSet::new(),
            uneasy: BTreeSet::new(),
            version: 0,
            hash: None,
            open,
        }
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

    /// The logs of one site.
    pub(crate) fn of(&self, site: &SiteName) -> impl Iterator<Item = &LogState> {
        let [first, last] = [0, u64::MAX].map(|n| LogId { site: site.clone(), epoch: Epoch(n) });
        self.states.range(first..=last).map(|(_, state)| state)
    }

    /// Through how many sites each log of one came here, of those that peers are told.
    pub(crate) fn told_hops(&self, site: &SiteName) -> impl Iterator<Item = u8> {
        self.of(site).filter(|state| state.is_told).map(|state| state.hops)
    }

    /// The same as a peer told it.
    pub(crate) fn hops_there(&self, link: LinkId, site: &SiteName) -> impl Iterator<Item = u8> {
        self.of(site).filter_map(move |state| Some(state.offers.get(&link)?.hops))
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

    /// What a peer may be told: the logs of which something is here, or was.
    pub(crate) fn is_known(&self, log: &LogId) -> bool {
        self.states.get(log).is_some_and(|state| state.is_told)
    }

    /// Our cursors, as peers are told them.
    pub(crate) fn told(&self) -> impl Iterator<Item = &Cursor> {
        let told = self.states.values().filter(|state| state.is_told);
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

    /// Notes what a peer has, and through how many sites where it says so. `false` where it would be one log too many.
    pub(crate) fn offer(
        &mut self,
        link: LinkId,
        theirs: &Cursor,
        hops: Option<u8>,
        now: Moment,
    ) -> bool {
        let id = theirs.log.id.clone();
        if !self.states.contains_key(&id) && self.states.len() >= LOGS_MAX {
            return false;
        }
        let is_own = id.site == self.ours;
        let state = self.states.entry(id.clone()).or_insert_with(|| {
            self.version = self.version.saturating_add(1);
            LogState::new(Cursor::at_beginning(theirs.log.clone()), is_own)
        });
        let (ours, source) = (state.ours.sequence, state.source);
        let source_hops = source.and_then(|link| state.offers.get(&link)).map(|offer| offer.hops);
        let begin = || Offer { sequence: 0, hops: HOPS_MAX, ahead: None, barred: None };
        let offer = state.offers.entry(link).or_insert_with(begin);
        // Heartbeats of two streams overtake each other.
        offer.sequence = offer.sequence.max(theirs.sequence);
        let before = offer.hops;
        offer.hops = hops.unwrap_or(before);
        offer.compare(ours, now);
        let is_nearer = source_hops.is_some_and(|source| offer.hops < source);
        let comes_otherwise = source == Some(link) && offer.hops != before;
        if source.is_none() || comes_otherwise {
            self.dirty.insert(id);
        } else if is_nearer || offer.waits() {
            self.uneasy.insert(id);
        }
        true
    }

    /// The sources of what a link offers are thought over.
    pub(crate) fn think_over(&mut self, link: LinkId) {
        let offered = self.states.iter().filter(|(_, state)| state.offers.contains_key(&link));
        self.dirty.extend(offered.map(|(log, _)| log.clone()));
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
            if state.ours.sequence == 0 {
                self.version = self.version.saturating_add(1);
            }
            state.stand_at(to.clone());
            state.moved = now;
            state.turns = 0;
            self.hash = None;
        }
        state.moved_in_reading = reading;
        state.compare(now);
        if state.is_uneasy() {
            self.uneasy.insert(to.log.id);
        }
    }

    /// The store's cursors as reading `number` found them. Returns the logs that have moved, and whether back.
    pub(crate) fn read(
        &mut self,
        vector: Vec<Cursor>,
        number: u64,
        now: Moment,
    ) -> Vec<(LogId, bool)> {
        // The database may even have lost the beginning of a log.
        let read: BTreeSet<&LogId> = vector.iter().map(|cursor| &cursor.log.id).collect();
        let is_gone =
            |(id, state): &(&LogId, &LogState)| state.ours.sequence > 0 && !read.contains(*id);
        let gone = self.states.iter().filter(is_gone);
        let gone: Vec<Cursor> =
            gone.map(|(_, state)| Cursor::at_beginning(state.log.clone())).collect();
        let mut moved = Vec::new();
        for cursor in vector.into_iter().chain(gone) {
            let id = cursor.log.id.clone();
            let known = self.states.contains_key(&id);
            let is_own = id.site == self.ours;
            let state = self.states.entry(id.clone()).or_insert_with(|| {
                self.version = self.version.saturating_add(1);
                LogState::new(cursor.clone(), is_own)
            });
            let before = state.ours.sequence;
            self.version = self.version.saturating_add(u64::from(before == 0));
            let waited = std::mem::take(&mut state.arrived.waits_for_reading);
            if take_reading(state, cursor, number, now) || !known || waited {
                let back = state.ours.sequence < before;
                self.uneasy.insert(id.clone());
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
    fn stand_at(&mut self, cursor: Cursor) {
        self.is_told |= cursor.sequence > 0;
        self.ours = cursor;
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
    state.stand_at(cursor);
    state.moved = now;
    state.turns = 0;
    state.compare(now);
    true
}

#[cfg(test)]
mod tests {
    use bruri_domain::{Epoch, Log};

    use super::*;

    #[test]
    fn a_log_that_the_database_lost_is_told_as_empty_and_its_site_stays_as_far() {
        let site = |name| SiteName::parse(name).unwrap();
        let id = LogId { site: site("tokyo"), epoch: Epoch(7) };
        let at_beginning =
            Cursor::at_beginning(Log { id, kind: LogKind::Files, predecessor: None });
        let theirs = Cursor { sequence: 3, ..at_beginning.clone() };
        let mut logs = Logs::new(site("london"), vec![theirs.clone()], BTreeSet::new());
        assert_eq!(logs.told().collect::<Vec<_>>(), [&theirs]);
        let hops: Vec<u8> = logs.told_hops(&site("tokyo")).collect();

        logs.read(Vec::new(), 1, Moment::ZERO);

        assert_eq!(logs.told().collect::<Vec<_>>(), [&at_beginning]);
        assert_eq!(logs.told_hops(&site("tokyo")).collect::<Vec<_>>(), hops);
    }
}
