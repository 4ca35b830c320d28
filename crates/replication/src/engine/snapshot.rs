//! Snapshots: when a site that is far behind takes one, from whom, and what comes next.
//!
//! Control logs come first, as always. Then states are copied, while no log of files of another site is taken; then
//! the logs go on where the store says, and what lies between is filled in, log by log. Where that stands is in the
//! store, so that a process that dies loses the chunk that was under way.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bruri_domain::{
    Cursor, Log, LogId, LogKind, SiteName,
    limits::{
        ERASURE_WAIT_MILLIS, SNAPSHOT_AVOID_MILLIS, SNAPSHOT_LAG_RECORDS_DEFAULT,
        SNAPSHOT_LAG_SHARE,
    },
};
use bruri_store::Snapshot;
use bruri_wire::replication::chain;

use super::{
    Engine, RETRY,
    consume::BARRED,
    io::{Effect, Failure, Fetch, FetchError, Job, LinkId, Moment, Portion, Unapplied},
    link::{Link, Session},
    logs::LogState,
};
use crate::{batch::last_sequence, snapshot::last_file};

const AVOID: Duration = Duration::from_millis(SNAPSHOT_AVOID_MILLIS);
const ERASURE_WAIT: Duration = Duration::from_millis(ERASURE_WAIT_MILLIS);

/// What is known of this site's snapshot, and what is under way for it.
pub(super) struct Snapshots {
    /// So many records behind, a site takes one.
    beyond: u64,
    /// As the store last told; none until it has.
    kept: Option<Snapshot>,
    reading: bool,
    retry_at: Moment,
    /// It was decided to take one, and no chunk is here yet.
    begun: bool,
    /// Of the last portion that was asked for; an answer to another one is dropped.
    number: u64,
    asked: Option<(LinkId, Fetch)>,
    /// It waits until the store has taken the one before.
    arrived: Option<(LinkId, Portion)>,
    /// From whom that is which the store takes now.
    taking: Option<LinkId>,
    /// What follows on that which arrived last; none where the store must say.
    next: Option<Fetch>,
    /// Peers that are not asked until then.
    avoided: BTreeMap<LinkId, Moment>,
    /// Logs that a peer could not supply from where we are.
    below_floor: BTreeSet<LogId>,
    /// What was last logged.
    logged: String,
}

impl Default for Snapshots {
    fn default() -> Self {
        Self {
            beyond: SNAPSHOT_LAG_RECORDS_DEFAULT,
            kept: None,
            reading: false,
            retry_at: Moment::ZERO,
            begun: false,
            number: 0,
            asked: None,
            arrived: None,
            taking: None,
            next: None,
            avoided: BTreeMap::new(),
            below_floor: BTreeSet::new(),
            logged: String::new(),
        }
    }
}

impl Snapshots {
    /// States are being copied: not all are here.
    pub(super) fn is_copying(&self) -> bool {
        let is_kept = |kept: &Snapshot| kept.copying.is_some() || kept.given_up;
        self.begun || self.kept.as_ref().is_some_and(is_kept)
    }

    /// Whether a log is not taken now: its records wait for the states.
    pub(super) fn holds_off(&self, log: &Log) -> bool {
        log.kind == LogKind::Files && self.is_copying()
    }

    /// What is to be asked for next.
    fn wanted(&self) -> Option<Fetch> {
        let kept = self.kept.as_ref().filter(|kept| !kept.given_up)?;
        if self.taking.is_some() || self.next.is_some() {
            return self.next.clone();
        }
        if self.is_copying() {
            let after = kept.copying.as_ref().map(|(file, _)| file.clone());
            return Some(Fetch::States { after });
        }
        kept.gaps.first().map(|gap| Fetch::Records { from: gap.filled.clone() })
    }

    /// What follows on a portion; none where the store must say.
    fn after(&self, portion: &Portion) -> Option<Fetch> {
        match portion {
            Portion::States { chunk, .. } if chunk.is_last => None,
            Portion::States { chunk, .. } => {
                last_file(chunk).map(|file| Fetch::States { after: Some(file) })
            }
            Portion::Records { from, batch } => {
                let gaps = &self.kept.as_ref()?.gaps;
                let gap = gaps.iter().find(|gap| gap.floor.log.id == from.log.id)?;
                let sequence = last_sequence(batch);
                let chain = chain(&batch.chain, "batch.chain").ok()?;
                let from = Cursor { sequence, chain, ..from.clone() };
                (sequence < gap.floor.sequence).then_some(Fetch::Records { from })
            }
        }
    }

    /// What was under way is of no use any more.
    fn start_over(&mut self) {
        self.number = self.number.saturating_add(1);
        (self.asked, self.arrived, self.next) = (None, None, None);
    }

    /// What the store has of a snapshot may be other than it told.
    pub(super) fn read_again(&mut self) {
        self.kept = None;
        self.start_over();
    }

    fn log(&mut self, text: String) {
        if self.logged != text {
            tracing::warn!(error = text, "a snapshot waits; trying on");
            self.logged = text;
        }
    }
}

impl Engine {
    /// So many records behind, this site takes a snapshot.
    pub fn snapshot_beyond(&mut self, records: u64) {
        self.snapshots.beyond = records;
    }

    /// What this site has of a snapshot, as far as is known.
    pub fn snapshot(&self) -> Option<&Snapshot> {
        self.snapshots.kept.as_ref()
    }

    /// A peer cannot supply a log from where we are.
    pub(super) fn note_below_floor(&mut self, log: &LogId) {
        self.snapshots.below_floor.insert(log.clone());
    }

    /// Does what there is to do for a snapshot now.
    pub(super) fn go_on_with_snapshot(&mut self) {
        let snapshots = &mut self.snapshots;
        // Another task goes on with one that is given up.
        let is_known = snapshots.kept.as_ref().is_some_and(|kept| !kept.given_up);
        if !is_known && !snapshots.reading && snapshots.retry_at <= self.time.now {
            snapshots.reading = true;
            self.effects.push(Effect::Do(Job::ReadSnapshot));
        }
        if snapshots.taking.is_none()
            && snapshots.retry_at <= self.time.now
            && let Some((link, portion)) = snapshots.arrived.take()
        {
            snapshots.taking = Some(link);
            self.effects.push(Effect::Do(Job::Take { portion }));
        }
        self.fetch();
    }

    /// Asks for the next portion while the store takes the last.
    fn fetch(&mut self) {
        let snapshots = &self.snapshots;
        if snapshots.asked.is_some() || snapshots.arrived.is_some() {
            return;
        }
        let Some(fetch) = snapshots.wanted() else { return };
        let Some(link) = self.source_of(&fetch) else { return };
        let snapshots = &mut self.snapshots;
        snapshots.number = snapshots.number.saturating_add(1);
        snapshots.asked = Some((link, fetch.clone()));
        self.effects.push(Effect::Fetch { link, number: snapshots.number, fetch });
    }

    /// Who is asked: the same as before where that is possible, else who has most.
    fn source_of(&self, fetch: &Fetch) -> Option<LinkId> {
        let now = self.time.now;
        let usable = |link: &&Link| {
            !self.is_avoided(link.id) && link.can_be_asked(now) && self.has(link.id, fetch)
        };
        let before = self.snapshots.taking;
        let has = |link: &&Link| (Some(link.id) == before, self.records_at(link.id));
        self.links.iter().filter(usable).max_by_key(has).map(|link| link.id)
    }

    fn has(&self, link: LinkId, fetch: &Fetch) -> bool {
        match fetch {
            Fetch::States { .. } => self.has_control_logs_of(link),
            Fetch::Records { from } => {
                let offer = self.logs.get(&from.log.id).and_then(|state| state.offers.get(&link));
                // What its origin offered is forgotten where it refused what we wanted of it.
                let is_origin = || self.leads_to(link, &from.log.id.site);
                offer.map_or_else(is_origin, |offer| offer.sequence > from.sequence)
            }
        }
    }

    fn leads_to(&self, link: LinkId, site: &SiteName) -> bool {
        let place = usize::try_from(link.0).ok();
        let session = place.and_then(|place| self.links.get(place)?.session());
        session.is_some_and(|session| session.site == *site)
    }

    fn is_avoided(&self, link: LinkId) -> bool {
        self.snapshots.avoided.get(&link).is_some_and(|until| *until > self.time.now)
    }

    fn records_at(&self, link: LinkId) -> u64 {
        let offers = self.logs.all().filter_map(|state| state.offers.get(&link));
        offers.fold(0, |sum, offer| sum.saturating_add(offer.sequence))
    }

    /// Erasures must be known before the states that they concern.
    fn has_control_logs_of(&self, link: LinkId) -> bool {
        let mut control = self.logs.all().filter(|state| state.log.kind == LogKind::Control);
        let place = usize::try_from(link.0).ok();
        let session = place.and_then(|place| self.links.get(place)?.session());
        session.is_some_and(Session::has_told)
            && control.all(|state| !self.logs.is_taken(&state.log.id) || state.lag(link) == 0)
    }

    /// Looks whether this site is so far behind a peer that it takes a snapshot.
    pub(super) fn think_of_snapshot(&mut self) {
        let is_idle =
            |kept: &Snapshot| kept.copying.is_none() && kept.gaps.is_empty() && !kept.given_up;
        if self.snapshots.begun || !self.snapshots.kept.as_ref().is_some_and(is_idle) {
            return;
        }
        let links = self.links.iter().map(|link| link.id);
        let is_needed = |link: &LinkId| {
            self.is_far_behind(*link) && !self.is_avoided(*link) && self.has_control_logs_of(*link)
        };
        let Some(link) = links.into_iter().find(is_needed) else { return };
        tracing::info!(lag = self.lag(link), "far behind a peer: a snapshot is taken first");
        self.snapshots.begun = true;
        self.snapshots.below_floor.clear();
        self.logs_of_files_are_dirty();
    }

    fn is_far_behind(&self, link: LinkId) -> bool {
        let is_stuck = |log: &LogId| {
            let state = self.logs.get(log);
            state.is_some_and(|state| state.source.is_none() && state.lag(link) > 0)
        };
        let lag = self.lag(link);
        (lag > self.snapshots.beyond && lag > self.share())
            || self.snapshots.below_floor.iter().any(is_stuck)
    }

    /// Records so far behind that they are a good part of what is here.
    fn share(&self) -> u64 {
        let here = self.taken_files().fold(0, |sum: u64, s| sum.saturating_add(s.ours.sequence));
        here.checked_div(SNAPSHOT_LAG_SHARE).unwrap_or(here)
    }

    /// Records of files that a peer has and we have not.
    fn lag(&self, link: LinkId) -> u64 {
        let place = usize::try_from(link.0).ok();
        let session = place.and_then(|place| self.links.get(place)?.session());
        let lagging = session.into_iter().flat_map(|session| &session.lagging);
        let taken = lagging.filter_map(|log| self.logs.get(log)).filter(|s| self.is_taken_file(s));
        taken.fold(0, |sum: u64, state| sum.saturating_add(state.lag(link)))
    }

    fn is_taken_file(&self, state: &LogState) -> bool {
        state.log.kind == LogKind::Files && state.log.id.site != self.site
    }

    /// The logs that a snapshot may bring forward.
    fn taken_files(&self) -> impl Iterator<Item = &LogState> {
        self.logs.all().filter(|state| self.is_taken_file(state))
    }

    fn logs_of_files_are_dirty(&mut self) {
        let logs: Vec<LogId> = self.taken_files().map(|state| state.log.id.clone()).collect();
        self.logs.dirty.extend(logs);
    }

    /// The store has told what it has of a snapshot.
    pub(super) fn snapshot_read(&mut self, result: Result<Snapshot, Failure>) {
        self.snapshots.reading = false;
        match result {
            Ok(kept) => {
                self.keep(kept);
                // Where it was given up, logs have gone back.
                self.readings.want(self.time.now);
            }
            Err(_) => self.snapshots.retry_at = self.time.now.saturating_add(RETRY),
        }
    }

    fn keep(&mut self, kept: Snapshot) {
        let was_copying = self.snapshots.is_copying();
        let before = self.snapshots.kept.as_ref();
        if before.is_some_and(|before| !before.gaps.is_empty()) && kept.gaps.is_empty() {
            tracing::info!("the history that the snapshot passed over is filled in");
        }
        self.snapshots.begun = false;
        self.snapshots.kept = Some(kept);
        if self.snapshots.kept.as_ref().is_some_and(|kept| kept.given_up) {
            self.snapshots.retry_at = self.time.now.saturating_add(RETRY);
        }
        if was_copying && !self.snapshots.is_copying() {
            tracing::info!("all states of files are here; history follows");
        }
        if was_copying != self.snapshots.is_copying() {
            self.logs_of_files_are_dirty();
            // The logs go on elsewhere.
            self.readings.want(self.time.now);
        }
    }

    /// A peer has answered, or could not.
    pub(super) fn fetched(
        &mut self,
        link: LinkId,
        number: u64,
        result: Result<Portion, FetchError>,
    ) {
        let now = self.time.now;
        let snapshots = &mut self.snapshots;
        if number != snapshots.number || snapshots.asked.take().is_none() {
            return;
        }
        match result {
            Ok(portion) => {
                snapshots.next = snapshots.after(&portion);
                snapshots.arrived = Some((link, portion));
            }
            Err(error) if error.parted => self.give_snapshot_up(error.text),
            Err(error) => {
                // Where it was only just begun, the logs are taken as ever.
                let is_given_up = std::mem::take(&mut snapshots.begun);
                let wait = if is_given_up { BARRED } else { AVOID };
                snapshots.avoided.insert(link, now.saturating_add(wait));
                snapshots.log(error.text);
                if is_given_up {
                    self.logs_of_files_are_dirty();
                }
            }
        }
    }

    /// A log forked that jumped: nobody can say what lies between the branch that was here and the place to which it
    /// jumped. It goes back, and the fork is seen and healed as ever.
    fn give_snapshot_up(&mut self, text: String) {
        self.snapshots.read_again();
        self.snapshots.reading = true;
        self.snapshots.log(text);
        self.effects.push(Effect::Do(Job::GiveSnapshotUp));
    }

    /// The store has taken a portion, or not.
    pub(super) fn taken(&mut self, result: Result<Snapshot, Unapplied>) {
        let now = self.time.now;
        let Some(link) = self.snapshots.taking.take() else { return };
        let (wait, text) = match result {
            Ok(kept) => return self.keep(kept),
            Err(Unapplied::CursorMoved) => {
                // Another brurid of this site was faster: go on from there.
                return self.snapshots.read_again();
            }
            Err(Unapplied::Store(failure)) => {
                self.snapshots.retry_at = now.saturating_add(RETRY);
                (Duration::ZERO, failure.text)
            }
            Err(Unapplied::Unerased(text)) => (ERASURE_WAIT, text),
            Err(Unapplied::Invalid(text)) => (AVOID, text),
        };
        self.snapshots.start_over();
        self.snapshots.avoided.insert(link, now.saturating_add(wait));
        self.snapshots.log(text);
    }

    /// A link is gone: what was asked there will not come.
    pub(super) fn forget_asked(&mut self, link: LinkId) {
        if self.snapshots.asked.as_ref().is_some_and(|(asked, _)| *asked == link) {
            self.snapshots.number = self.snapshots.number.saturating_add(1);
            self.snapshots.asked = None;
        }
    }
}
