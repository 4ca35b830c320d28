//! Replication without I/O: what happens and the time go in, what is to be done comes out.
//!
//! The daemon's driver and a simulation run the same engine. Read in this order: [`io`], `hello`, `logs`
//! (who has what), `choice` and `place` (from whom a log is taken, on which stream), `link`, `consume`, `arrived` and `apply`
//! (our side of a connection), `snapshot` (how one that is far behind catches up), `supplies`, `supply` and `beats` (the peer's side), `forks`, `claim` and `level` (how fresh we are), `standing` (what a read is told of that), `clocks` and `report`.

mod apply;
mod arrived;
mod backoff;
mod beats;
mod choice;
mod claim;
mod clocks;
mod consume;
mod forks;
pub(crate) mod hello;
pub mod io;
mod level;
mod link;
mod logs;
mod members;
mod own;
mod place;
mod readings;
mod report;
mod snapshot;
mod standing;
mod supplies;
pub(crate) mod supply;
pub mod work;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bruri_domain::{
    Cursor, LogId, Membership, SiteName,
    limits::{PEERS_MAX, READING_SECONDS, VECTOR_RETRY_MILLIS, WATCH_MILLIS},
};
use bruri_wire::proto::replication::v1 as proto;
use rand::{SeedableRng as _, rngs::StdRng};

pub use self::standing::{AskWay, Standing};
use self::{
    clocks::Clocks,
    forks::Fork,
    io::{
        Ask, Dismissal, Done, Effect, Failure, Input, Job, LinkId, Moment, SubscriptionId,
        SupplyId, Time,
    },
    level::Level,
    link::{Link, Session, State},
    logs::Logs,
    readings::Readings,
    snapshot::Snapshots,
    supplies::Supplies,
    supply::{Env, Supply},
};

const WATCH: Duration = Duration::from_millis(WATCH_MILLIS);
const RETRY: Duration = Duration::from_millis(VECTOR_RETRY_MILLIS);
const READING: Duration = Duration::from_secs(READING_SECONDS);

/// Who we are.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The site.
    pub site: SiteName,
    /// Tells deployment keys apart.
    pub key_check: [u8; 16],
    /// For people.
    pub release: String,
}

/// Replication of one site.
pub struct Engine {
    site: SiteName,
    hello: proto::Hello,
    time: Time,
    logs: Logs,
    links: Vec<Link>,
    supplies: Supplies,
    level: Level,
    members: Membership,
    clocks: Clocks,
    readings: Readings,
    snapshots: Snapshots,
    /// Which link a stream of ours belongs to.
    subscriptions: BTreeMap<SubscriptionId, LinkId>,
    subscriptions_opened: u64,
    /// Batches that are with the store.
    applying: usize,
    /// Logs that forked, until ours are set back to the branch that stays.
    forks: BTreeMap<LogId, Fork>,
    /// Places at which peers have other records than we, or may have, and the store could not be asked.
    unread: BTreeMap<(LinkId, LogId), Cursor>,
    /// How often the store is hearing now what the peer at a link has of our own logs.
    hearing: BTreeMap<LinkId, usize>,
    /// Logs with a batch that waits for its turn.
    waiting: BTreeSet<LogId>,
    watched: Moment,
    reading_until: Moment,
    /// Why peers were last refused, so that each reason is logged once however often they try.
    refused: BTreeMap<SiteName, String>,
    rng: StdRng,
    effects: Vec<Effect>,
}

impl Engine {
    /// The engine of a site that has this vector, appends to these of its logs, and has so many ways to peers. Equal seeds, inputs and times give
    /// equal effects.
    pub fn new(
        identity: &Identity,
        (vector, open): (Vec<Cursor>, BTreeSet<LogId>),
        links: u32,
        seed: u64,
    ) -> Self {
        let sites: BTreeSet<SiteName> = vector.iter().map(|c| c.log.id.site.clone()).collect();
        let mut level = Level::default();
        for site in sites.iter().filter(|site| **site != identity.site) {
            level.know(site, Moment::ZERO);
        }
        Self {
            site: identity.site.clone(),
            hello: hello::ours(&identity.site, identity.key_check, &identity.release),
            time: Time::default(),
            logs: Logs::new(identity.site.clone(), vector, open),
            links: (0..links).map(|id| Link::new(LinkId(id), Moment::ZERO)).collect(),
            supplies: Supplies::default(),
            level,
            members: Membership::default(),
            clocks: Clocks::default(),
            readings: Readings::default(),
            snapshots: Snapshots::default(),
            subscriptions: BTreeMap::new(),
            subscriptions_opened: 0,
            applying: 0,
            forks: BTreeMap::new(),
            unread: BTreeMap::new(),
            hearing: BTreeMap::new(),
            waiting: BTreeSet::new(),
            watched: Moment::ZERO,
            reading_until: Moment::ZERO,
            refused: BTreeMap::new(),
            rng: StdRng::seed_from_u64(seed),
            effects: Vec::new(),
        }
    }

    /// Takes in what happened and returns what is to be done, in this order. Time never goes back.
    pub fn handle(&mut self, time: Time, input: Input) -> Vec<Effect> {
        self.time = time;
        self.take(input);
        self.watch();
        self.dial();
        self.read_vector();
        self.settle();
        self.apply_waiting();
        self.go_on_with_snapshot();
        self.supply();
        std::mem::take(&mut self.effects)
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Tick => {}
            Input::Changed => self.readings.want(self.time.now),
            Input::Read => self.note_reader(),
            Input::Members(members) => self.take_members(members),
            Input::Opened { supply, peer } => self.opened(supply, peer),
            Input::Asked { supply, ask } => self.asked(supply, ask),
            Input::Garbled { supply, text } => self.dismiss(supply, Dismissal::Invalid(text)),
            Input::Flushed(supply) => {
                self.supplies.stir(supply).into_iter().for_each(Supply::flushed);
            }
            Input::Left(supply) => drop(self.supplies.remove(supply)),
            Input::Reached { link, site } => self.reached(link, &site),
            Input::Unreachable { link, error } => self.lose(link, error),
            Input::Heard { subscription, event } => self.heard(subscription, event),
            Input::Ended { subscription, error } => self.ended(subscription, error),
            Input::Done(done) => self.done(done),
            Input::Settled { link, log, error } => self.settled(link, &log, error),
            Input::Fetched { link, number, result } => self.fetched(link, number, result),
        }
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Vector { number, result } => self.vector_read(number, result),
            Done::Applied { from, result } => self.applied(&from, result),
            Done::Snapshot { result } => self.snapshot_read(result),
            Done::Taken { result } => self.taken(result),
            Done::Page { supply, log, after, result } => {
                self.with_supply(supply, |s, env| s.page(&log, after, result, env));
            }
            Done::OwnHeard { link, theirs, result } => self.own_heard(link, theirs, result),
            Done::Told { supply, told } => self.with_supply(supply, |s, env| s.told(told, env)),
            Done::Parted { link, theirs, result } => self.parted(link, theirs, &result),
            Done::OwnJudged { supply, wanted, chain, result } => {
                self.with_supply(supply, |s, env| s.judged(&wanted, chain, result, env));
            }
            Done::Chain { supply, wanted, result } => {
                self.with_supply(supply, |s, env| s.chain(wanted, result, env));
            }
        }
    }

    /// When [`Input::Tick`] is due though nothing else happens.
    pub fn due(&self) -> Moment {
        let waits = self.links.iter().filter_map(|link| match link.state {
            State::Waiting(until) => Some(until),
            State::Dialling | State::Up(_) => None,
        });
        let watch = self.watched.saturating_add(WATCH);
        waits.fold(watch.min(self.supplies.due()), Moment::min)
    }

    /// What only time changes: who is silent, who has been ahead of us for too long, what our clock does.
    fn watch(&mut self) {
        let now = self.time.now;
        if now < self.watched.saturating_add(WATCH) && self.watched > Moment::ZERO {
            return;
        }
        self.watched = now;
        self.think_over();
        self.settle_again();
        self.think_of_snapshot();
        self.read_parted_again();
        self.note_levels();
        self.level.watch(now);
        if self.clocks.tick(self.time) {
            for session in self.links.iter_mut().filter_map(Link::session_mut) {
                session.offset_micros = None;
            }
        }
        let sessions = self.links.iter().filter_map(Link::session);
        let offsets: Vec<i64> = sessions.filter_map(|session| session.offset_micros).collect();
        if let Some(trusted) = self.clocks.judge(now, &offsets) {
            if !trusted {
                tracing::error!(
                    "this machine's clock is not to be trusted: peers agree against it, or it jumped"
                );
            }
            self.effects.push(Effect::TrustClock(trusted));
        }
    }

    fn read_vector(&mut self) {
        let now = self.time.now;
        let readings = &mut self.readings;
        if readings.retry_at.is_some_and(|at| at <= now) {
            readings.retry_at = None;
            readings.wanted = true;
        }
        if readings.wanted && !readings.under_way {
            readings.wanted = false;
            readings.under_way = true;
            readings.began = now;
            readings.number = readings.number.saturating_add(1);
            self.effects.push(Effect::Do(Job::ReadVector { number: readings.number }));
        }
    }

    fn vector_read(
        &mut self,
        number: u64,
        result: Result<(Vec<Cursor>, BTreeSet<LogId>), Failure>,
    ) {
        self.readings.under_way = false;
        match result {
            Ok((vector, open)) => {
                self.logs.set_open(open);
                self.readings.failed = false;
                let began = self.readings.began;
                self.readings.unread_since = self.readings.wanted.then_some(began);
                for (log, back) in self.logs.read(vector, number, self.time.now) {
                    if back {
                        self.start_over(&log);
                        self.own_went_back(&log);
                        self.lose_level(&log);
                        self.snapshots.read_again();
                    }
                    self.moved(&log);
                    self.waiting.insert(log);
                }
            }
            Err(failure) => {
                // The change that could not be read may have been the last for a long time.
                self.readings.retry_at = Some(self.time.now.saturating_add(RETRY));
                if !std::mem::replace(&mut self.readings.failed, true) {
                    tracing::warn!(
                        error = failure.text,
                        "cannot read how far the logs are; trying on"
                    );
                }
            }
        }
    }

    /// A log has gone back: of its site we do not have what we had.
    fn lose_level(&mut self, log: &LogId) {
        self.level.lose(&log.site, self.time.now);
        let sessions = self.links.iter_mut().filter_map(Link::session_mut);
        sessions.for_each(Session::lose_level);
    }

    /// Our cursor of a log has moved.
    fn moved(&mut self, log: &LogId) {
        self.know(&log.site);
        self.supplies.moved(log, &self.logs);
        let Some(state) = self.logs.get(log) else { return };
        for link in &mut self.links {
            let (id, lags) = (link.id, state.lag(link.id) > 0);
            let Some(session) = link.session_mut() else { continue };
            if let Some(theirs) = session.doubts(state, id) {
                self.effects.push(Effect::Do(Job::ReadParted { link: id, theirs }));
            }
            if session.moved(state, lags) {
                session.level(id, &mut self.level);
            }
        }
    }

    fn opened(&mut self, supply: SupplyId, peer: SiteName) {
        for link in &mut self.links {
            link.seen(&peer, self.time.now);
        }
        self.supplies.add(Supply::new(supply, peer, self.time.now));
    }

    fn asked(&mut self, id: SupplyId, ask: Ask) {
        let Some(supply) = self.supplies.get(id) else { return };
        if supply.greeted {
            self.with_supply(id, |supply, env| supply.asked(ask, env));
            return;
        }
        match self.greet(&ask, &supply.peer.clone()) {
            Ok(()) => {
                let hello = self.hello.clone();
                self.with_supply(id, |supply, env| {
                    supply.greet(hello, env);
                    Ok(())
                });
            }
            Err(why) => self.dismiss(id, why),
        }
    }

    /// Holds a peer's first word against its certificate and us.
    fn greet(&mut self, ask: &Ask, peer: &SiteName) -> Result<(), Dismissal> {
        if let Some(error) = self.refusal(peer) {
            return Err(self.refuse(peer, error.text));
        }
        let checked = match ask {
            Ask::Hello(theirs) => hello::check(theirs, peer, &self.hello),
            _ => Err(hello::HelloError::Missing),
        };
        let Err(error) = checked else {
            self.refused.remove(peer);
            return Ok(());
        };
        Err(self.refuse(peer, error.to_string()))
    }

    /// Whether a peer was not refused for that the last time.
    fn is_news(&mut self, peer: &SiteName, refusal: &str) -> bool {
        if self.refused.len() >= PEERS_MAX {
            self.refused.clear();
        }
        self.refused.insert(peer.clone(), refusal.to_owned()).as_deref() != Some(refusal)
    }

    fn with_supply(
        &mut self,
        id: SupplyId,
        act: impl FnOnce(&mut Supply, &mut Env<'_>) -> Result<(), Dismissal>,
    ) {
        let Some(supply) = self.supplies.stir(id) else { return };
        let mut env = Env {
            time: self.time,
            site: &self.site,
            logs: &mut self.logs,
            level: &mut self.level,
            own_age: self.readings.own_age(self.time.now),
            effects: &mut self.effects,
        };
        if let Err(why) = act(supply, &mut env) {
            self.dismiss(id, why);
        }
    }

    fn dismiss(&mut self, id: SupplyId, why: Dismissal) {
        if let Some(supply) = self.supplies.remove(id) {
            if let Dismissal::Invalid(text) = &why
                && self.is_news(&supply.peer, text)
            {
                tracing::warn!(peer = %supply.peer, error = text, "a peer sent what is not understood");
            }
            self.effects.push(Effect::Dismiss { supply: id, why });
        }
    }

    fn note_reader(&mut self) {
        let now = self.time.now;
        let began = self.reading_until <= now;
        self.reading_until = now.saturating_add(READING);
        if began {
            self.ack_all();
        }
    }
}
