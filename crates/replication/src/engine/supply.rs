//! One stream to one peer: pages within the credit it grants, then whatever is new, and heartbeats.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::Bound,
    time::Duration,
};

use bruri_domain::{
    Chain, Cursor, Dot, Log, LogId, LogKind, SiteName,
    limits::{CREDIT_BYTES_MAX, PEER_HANDSHAKE_SECONDS_MAX, STREAM_QUEUE_MAX},
};
use bruri_store::Page;
use bruri_wire::{
    proto::replication::v1::{self as proto, refusal::Reason},
    replication::cursors,
};

use super::{
    beats::Beats,
    io::{Ask, Dismissal, Effect, Event, Failure, Job, Moment, SupplyId, Time},
    level::Level,
    logs::Logs,
};
use crate::batch::credit_bytes;

const FIRST_WORD: Duration = Duration::from_secs(PEER_HANDSHAKE_SECONDS_MAX);

/// A stream that a peer opened.
pub(crate) struct Supply {
    pub(crate) id: SupplyId,
    pub(crate) peer: SiteName,
    opened: Moment,
    pub(crate) greeted: bool,
    wanted: BTreeMap<LogId, Position>,
    /// Those of them of which there is more to send: control logs, and others.
    unsent: [BTreeSet<LogId>; 2],
    /// Cursors of which our chain must be read before their logs are sent.
    unproved: VecDeque<Cursor>,
    /// Those that the store is asked about, as long as they are wanted.
    proving: Vec<Cursor>,
    credit: u64,
    /// Messages that have not left the queue yet.
    unflushed: usize,
    /// The store reads for this stream.
    busy: bool,
    /// The log that had the last turn.
    turn: Option<LogId>,
    beats: Beats,
}

/// Where the next page of a log begins.
struct Position {
    log: Log,
    sequence: u64,
    chain: Chain,
}

/// What a supply sees of its site.
pub(crate) struct Env<'a> {
    pub(crate) time: Time,
    pub(crate) site: &'a SiteName,
    pub(crate) logs: &'a mut Logs,
    pub(crate) level: &'a mut Level,
    pub(crate) own_age: Duration,
    pub(crate) effects: &'a mut Vec<Effect>,
}

impl Supply {
    pub(crate) fn new(id: SupplyId, peer: SiteName, now: Moment) -> Self {
        Self {
            id,
            peer,
            opened: now,
            greeted: false,
            wanted: BTreeMap::new(),
            unsent: Default::default(),
            unproved: VecDeque::new(),
            proving: Vec::new(),
            credit: 0,
            unflushed: 0,
            busy: false,
            turn: None,
            beats: Beats::default(),
        }
    }

    /// Both have said Hello: from now on heartbeats go out, the first one as soon as it is known what it must tell.
    pub(crate) fn greet(&mut self, hello: proto::Hello, env: &mut Env<'_>) {
        self.greeted = true;
        self.tell(Event::Hello(hello), env);
        let site = self.peer.clone();
        env.effects.push(Effect::Do(Job::ReadTold { supply: self.id, site }));
    }

    /// The store knows with which numbers of the consumer phones here were answered.
    pub(crate) fn told(
        &mut self,
        told: Result<Vec<Dot>, Failure>,
        env: &mut Env<'_>,
    ) -> Result<(), Dismissal> {
        self.beats.begin(told.map_err(|_| Dismissal::Away)?);
        env.logs.told().for_each(|cursor| self.beats.tell(&cursor.log.id));
        self.beat(env);
        Ok(())
    }

    /// Takes in what the consumer says after its Hello.
    pub(crate) fn asked(&mut self, ask: Ask, env: &mut Env<'_>) -> Result<(), Dismissal> {
        match ask {
            Ask::Wants(wants) => self.want(wants, env)?,
            Ask::Credit(credit) => {
                self.credit = self.credit.saturating_add(credit.bytes).min(CREDIT_BYTES_MAX);
            }
            Ask::Ack(ack) => self.beats.answered(ack, env.time.now),
            // A second Hello says nothing new.
            Ask::Hello(_) => {}
        }
        Ok(())
    }

    fn want(&mut self, wants: proto::Wants, env: &mut Env<'_>) -> Result<(), Dismissal> {
        let wanted = cursors(wants.cursors).map_err(|e| Dismissal::Invalid(e.to_string()))?;
        let mut kept = std::mem::take(&mut self.wanted);
        self.unsent = Default::default();
        self.unproved.clear();
        self.proving.clear();
        for cursor in wanted {
            let id = &cursor.log.id;
            let sent = kept.remove(id).filter(|position| position.sequence >= cursor.sequence);
            match sent {
                Some(position) => self.keep(position, env.logs),
                None if env.logs.is_known(id) => self.prove(cursor, env),
                // In its turn, so that refusals come in the order of what was wanted.
                None => self.unproved.push_back(cursor),
            }
        }
        Ok(())
    }

    fn keep(&mut self, position: Position, logs: &Logs) {
        let log = position.log.id.clone();
        self.wanted.insert(log.clone(), position);
        self.sort(&log, logs);
    }

    /// Notes whether there is more to send of a log.
    fn sort(&mut self, log: &LogId, logs: &Logs) {
        let position = self.wanted.get(log);
        let is_behind = position
            .zip(logs.get(log))
            .is_some_and(|(position, state)| position.sequence < state.ours.sequence);
        let is_control = position.is_some_and(|p| p.log.kind == LogKind::Control);
        let [control, others] = &mut self.unsent;
        let (its, other) = if is_control { (control, others) } else { (others, control) };
        other.remove(log);
        if is_behind {
            its.insert(log.clone());
        } else {
            its.remove(log);
        }
    }

    /// Sends a log only where we have the place at which it was left, with the same chain.
    fn prove(&mut self, wanted: Cursor, env: &mut Env<'_>) {
        let ours = env.logs.get(&wanted.log.id).map(|state| &state.ours);
        let ours_at = match ours {
            Some(ours) if ours.sequence == wanted.sequence => Some(ours.chain),
            _ if wanted.sequence == 0 => ours.map(|ours| Chain::begin(&ours.log)),
            _ => None,
        };
        match (ours_at, ours) {
            (Some(chain), _) => self.compare(wanted, Some(chain), env),
            (None, Some(ours)) if ours.sequence < wanted.sequence => self.outrun(wanted, env),
            _ => self.unproved.push_back(wanted),
        }
    }

    /// The consumer has more than we. Of another's log that comes and goes; of our own we lost records.
    fn outrun(&mut self, wanted: Cursor, env: &mut Env<'_>) {
        if wanted.log.id.site == *env.site {
            self.judge(wanted, None, env);
        } else {
            self.unproved.push_back(wanted);
        }
    }

    /// The consumer has of our own log what we have not.
    fn judge(&mut self, wanted: Cursor, chain: Option<Chain>, env: &mut Env<'_>) {
        self.busy = true;
        self.proving.push(wanted.clone());
        env.effects.push(Effect::Do(Job::JudgeOwn { supply: self.id, wanted, chain }));
    }

    /// The store has judged whose branch of our own log stays.
    pub(crate) fn judged(
        &mut self,
        wanted: &Cursor,
        chain: Option<Chain>,
        result: Result<bool, Failure>,
        env: &mut Env<'_>,
    ) -> Result<(), Dismissal> {
        self.busy = false;
        if !self.is_proving(wanted) {
            return Ok(());
        }
        let reason = match (result, chain) {
            (Ok(true), _) => Reason::GivesWay,
            (Ok(false), Some(_)) => Reason::Fork,
            (Ok(false), None) => Reason::Ahead,
            (Err(_), _) => return Err(Dismissal::Away),
        };
        self.refuse(wanted, reason, env);
        Ok(())
    }

    fn compare(&mut self, wanted: Cursor, ours: Option<Chain>, env: &mut Env<'_>) {
        match ours {
            Some(chain) if chain == wanted.chain => {
                let Cursor { log, sequence, chain } = wanted;
                self.keep(Position { log, sequence, chain }, env.logs);
            }
            Some(_) if wanted.log.id.site == *env.site => self.judge(wanted, ours, env),
            Some(_) => self.refuse(&wanted, Reason::Fork, env),
            None => self.outrun(wanted, env),
        }
    }

    fn refuse(&mut self, wanted: &Cursor, reason: Reason, env: &mut Env<'_>) {
        let text = match reason {
            Reason::UnknownLog => "the log is not known here",
            Reason::Ahead => "the log is not so long here: records were lost",
            Reason::Fork => "the log has another chain there: it forked",
            Reason::GivesWay => "the log forked, and its origin gives way",
            Reason::BelowFloor => "its history is still being filled in here",
            Reason::Damaged | Reason::Unspecified => "its records are damaged here; see the log",
        };
        let text = format!("{} at {}: {text}", wanted.log.id, wanted.sequence);
        let wanted = Some(wanted.into());
        self.tell(Event::Refusal(proto::Refusal { wanted, reason: reason.into(), text }), env);
    }

    /// Whether the store's answer about a place is still wanted. What is wanted no more must not be sent: it would
    /// count as sent when it is wanted again.
    fn is_proving(&mut self, wanted: &Cursor) -> bool {
        let place = self.proving.iter().position(|proving| proving == wanted);
        place.map(|place| self.proving.swap_remove(place)).is_some()
    }

    /// The store has read our chain at a wanted place.
    pub(crate) fn chain(
        &mut self,
        wanted: Cursor,
        result: Result<Option<Chain>, Failure>,
        env: &mut Env<'_>,
    ) -> Result<(), Dismissal> {
        self.busy = false;
        if !self.is_proving(&wanted) {
            return Ok(());
        }
        match result {
            Ok(chain) => self.compare(wanted, chain, env),
            Err(failure) if failure.damaged => self.refuse(&wanted, Reason::Damaged, env),
            Err(failure) if failure.below_floor => self.refuse(&wanted, Reason::BelowFloor, env),
            Err(_) => return Err(Dismissal::Away),
        }
        Ok(())
    }

    /// The store has read a page. One that was not asked for any more is dropped.
    pub(crate) fn page(
        &mut self,
        log: &LogId,
        after: u64,
        result: Result<Page, Failure>,
        env: &mut Env<'_>,
    ) -> Result<(), Dismissal> {
        self.busy = false;
        let Some(position) = self.wanted.get_mut(log).filter(|p| p.sequence == after) else {
            return Ok(());
        };
        let page = match result {
            Ok(page) => page,
            Err(failure) if failure.damaged || failure.below_floor => {
                let ours = env.logs.get(log).map(|state| state.ours.clone());
                self.wanted.remove(log);
                self.sort(log, env.logs);
                let Some(ours) = ours else { return Ok(()) };
                let reason = if failure.below_floor {
                    Reason::BelowFloor
                } else {
                    tracing::error!(%log, error = failure.text, "a log cannot be supplied");
                    Reason::Damaged
                };
                self.refuse(&Cursor { sequence: after, ..ours }, reason, env);
                return Ok(());
            }
            Err(_) => return Err(Dismissal::Away),
        };
        let next = page.records.first().map(|record| position.chain.next(&record.envelope));
        if next.as_ref() != page.chains.first() {
            // The log was set back, and has grown again, while it was read.
            let Some(Position { log, sequence, chain }) = self.wanted.remove(log) else {
                return Ok(());
            };
            self.sort(&log.id, env.logs);
            self.unproved.push_back(Cursor { log, sequence, chain });
            return Ok(());
        }
        let Some(last) = page.chains.last().copied() else { return Ok(()) };
        let chain = last.0.as_bytes().to_vec();
        position.chain = last;
        position.sequence = after.saturating_add(page.records.len() as u64);
        let batch = batch(&position.log, after.saturating_add(1), page, chain);
        self.credit = self.credit.saturating_sub(credit_bytes(&batch));
        self.sort(log, env.logs);
        self.tell(Event::Batch(batch), env);
        Ok(())
    }

    pub(crate) fn flushed(&mut self) {
        self.unflushed = self.unflushed.saturating_sub(1);
    }

    /// Some log has grown, is new, or comes another way.
    pub(crate) fn moved(&mut self, log: &LogId, logs: &Logs) {
        self.beats.tell(log);
        self.sort(log, logs);
    }

    /// Does what there is to do now: ask the store for one thing, and beat where it is time.
    pub(crate) fn go_on(&mut self, env: &mut Env<'_>) -> Result<(), Dismissal> {
        if !self.greeted {
            let waited = env.time.now.saturating_sub(self.opened);
            return if waited < FIRST_WORD { Ok(()) } else { Err(Dismissal::Silent) };
        }
        let has_room = self.unflushed < STREAM_QUEUE_MAX;
        if has_room && self.due() <= env.time.now {
            self.beat(env);
        }
        while !self.busy && self.unflushed < STREAM_QUEUE_MAX {
            if let Some(wanted) = self.next_unproved(env.logs) {
                self.look_up(wanted, env);
            } else if let Some(job) = self.next_page() {
                self.busy = true;
                env.effects.push(Effect::Do(job));
            } else {
                break;
            }
        }
        Ok(())
    }

    fn look_up(&mut self, wanted: Cursor, env: &mut Env<'_>) {
        if env.logs.is_known(&wanted.log.id) {
            self.busy = true;
            self.proving.push(wanted.clone());
            env.effects.push(Effect::Do(Job::ReadChain { supply: self.id, wanted }));
        } else {
            self.refuse(&wanted, Reason::UnknownLog, env);
        }
    }

    /// The next place of which our chain must be read: one that we have reached, or of a log that is not
    /// known here at all.
    fn next_unproved(&mut self, logs: &Logs) -> Option<Cursor> {
        let is_due = |cursor: &Cursor| {
            let known = logs.get(&cursor.log.id).filter(|_| logs.is_known(&cursor.log.id));
            known.is_none_or(|state| state.ours.sequence >= cursor.sequence)
        };
        let place = self.unproved.iter().position(is_due)?;
        self.unproved.remove(place)
    }

    fn next_page(&mut self) -> Option<Job> {
        if self.credit == 0 {
            return None;
        }
        let log = self.next_turn()?.clone();
        let after = self.wanted.get(&log)?.sequence;
        self.turn = Some(log.clone());
        Some(Job::ReadPage { supply: self.id, log, after })
    }

    /// A page of each wanted log in turn, control logs before the others.
    fn next_turn(&self) -> Option<&LogId> {
        let unsent = self.unsent.iter().find(|logs| !logs.is_empty())?;
        let after = self.turn.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        unsent.range((after, Bound::Unbounded)).next().or_else(|| unsent.first())
    }

    /// When there is something to do though nothing happens.
    pub(crate) fn due(&self) -> Moment {
        if !self.greeted {
            return self.opened.saturating_add(FIRST_WORD);
        }
        if self.unflushed >= STREAM_QUEUE_MAX {
            // Nothing goes out before something has left; that is told.
            return Moment::MAX;
        }
        self.beats.due()
    }

    fn beat(&mut self, env: &mut Env<'_>) {
        let heartbeat = self.beats.next(&self.peer, env);
        self.tell(Event::Heartbeat(heartbeat), env);
    }

    fn tell(&mut self, event: Event, env: &mut Env<'_>) {
        self.unflushed = self.unflushed.saturating_add(1);
        env.effects.push(Effect::Tell { supply: self.id, event });
    }
}

pub(crate) fn batch(log: &Log, first_sequence: u64, page: Page, chain: Vec<u8>) -> proto::Batch {
    let entry = |raw: bruri_wire::record::RawRecord| proto::Entry {
        envelope: raw.envelope,
        payload: raw.payload,
    };
    proto::Batch {
        log: Some(log.into()),
        first_sequence,
        entries: page.records.into_iter().map(entry).collect(),
        absent_bodies: page.absent.iter().map(|hash| hash.as_bytes().to_vec()).collect(),
        bodies: page.bodies,
        chain,
    }
}

pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
