//! The way to one peer, and what goes on there while there is a connection.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bruri_domain::{
    Cursor, LogId, SiteName,
    limits::{HOPS_MAX, SESSION_SETTLED_MILLIS},
    mutant::{self, Mutant},
};
use bruri_wire::proto::replication::v1 as proto;
use rand::Rng;

use super::{
    backoff::Backoff,
    choice::{SILENT, Way},
    claim::Claim,
    io::{LinkError, LinkId, Moment, SubscriptionId, Time},
    level::Level,
    logs::{LogState, Logs},
    own::OwnThere,
};

const SETTLED: Duration = Duration::from_millis(SESSION_SETTLED_MILLIS);

/// The way to one peer.
pub(crate) struct Link {
    pub(crate) id: LinkId,
    pub(crate) state: State,
    /// Whom the certificate named when it was last reached.
    pub(crate) site: Option<SiteName>,
    pub(crate) release: String,
    /// It is gone no more.
    pub(crate) is_dropped: bool,
    /// Why there is no connection.
    pub(crate) error: Option<LinkError>,
    /// When it was last heard, by our wall clock.
    pub(crate) heard_wall_micros: Option<u64>,
    backoff: Backoff,
    down_since: Moment,
    /// The last wait was cut short.
    woken: bool,
    /// Why there was no connection, as it was last logged.
    logged: String,
    /// The last connection broke as soon as it had begun.
    flaps: bool,
    /// Silent, and good, as it was when sources were last thought over.
    standing: Option<(bool, bool)>,
}

pub(crate) enum State {
    /// Until then nothing is tried.
    Waiting(Moment),
    Dialling,
    Up(Box<Session>),
}

/// A connection to a peer.
pub(crate) struct Session {
    pub(crate) site: SiteName,
    began: Moment,
    pub(crate) live: Stream,
    pub(crate) live_logs: BTreeSet<LogId>,
    /// Far behind, and waiting for the catch-up stream.
    pub(crate) behind: BTreeSet<LogId>,
    /// A log rides one of the streams, never both.
    pub(crate) catch_up: Option<CatchUp>,
    /// Logs of which the peer has more than we.
    pub(crate) lagging: BTreeSet<LogId>,
    /// What the peer has of logs of which it has less than we, or something else: it may be another branch.
    pub(crate) unlike: BTreeMap<LogId, Cursor>,
    heard: Moment,
    good_since: Moment,
    /// The clocks' difference as last measured, theirs less ours, in microseconds.
    pub(crate) offset_micros: Option<i64>,
    round_trip: Option<Duration>,
    claim: Option<Claim>,
    /// We have had all that it tells, and the sites behind the peer are not noted yet.
    is_level: bool,
    /// A heartbeat came.
    has_told: bool,
    /// Sites of which the peer has told a log: it knows of no others.
    pub(crate) told_sites: BTreeSet<SiteName>,
    /// Those that it reaches itself.
    near: BTreeSet<SiteName>,
    /// Sites that the peer says are away.
    away: BTreeSet<SiteName>,
    /// What the peer has of our own logs.
    pub(crate) own: OwnThere,
    /// Where it was when it last told that it has more of a log of its own than we.
    pub(crate) ahead: BTreeMap<LogId, Cursor>,
}

/// A stream on which we consume.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) id: SubscriptionId,
    /// The peer has said Hello.
    pub(crate) greeted: bool,
    /// Its logs are others than the peer was told.
    pub(crate) wants_changed: bool,
}

/// The catch-up stream; its logs stay the same until all are level.
#[derive(Debug)]
pub(crate) struct CatchUp {
    pub(crate) stream: Stream,
    pub(crate) logs: BTreeSet<LogId>,
}

impl Stream {
    pub(crate) fn new(id: SubscriptionId) -> Self {
        Self { id, greeted: false, wants_changed: true }
    }
}

impl Link {
    pub(crate) fn new(id: LinkId, now: Moment) -> Self {
        Self {
            id,
            state: State::Waiting(now),
            site: None,
            release: String::new(),
            is_dropped: false,
            error: None,
            heard_wall_micros: None,
            backoff: Backoff::default(),
            down_since: now,
            woken: false,
            logged: String::new(),
            flaps: false,
            standing: None,
        }
    }

    pub(crate) fn session(&self) -> Option<&Session> {
        match &self.state {
            State::Up(session) => Some(session),
            State::Waiting(_) | State::Dialling => None,
        }
    }

    pub(crate) fn session_mut(&mut self) -> Option<&mut Session> {
        match &mut self.state {
            State::Up(session) => Some(session),
            State::Waiting(_) | State::Dialling => None,
        }
    }

    /// What choosing a source needs; none while nobody knows who is there.
    pub(crate) fn way(&self) -> Option<Way> {
        let session = self.session().filter(|session| session.live.greeted);
        Some(Way {
            link: self.id,
            site: self.site.clone()?,
            heard: session.map(|session| session.heard),
            good_since: session.map_or(Moment::MAX, |session| session.good_since),
            down_since: self.down_since,
        })
    }

    /// Silent or out of reach for so long that nobody waits for it.
    pub(crate) fn is_gone(&self, now: Moment) -> bool {
        let since = self.session().map_or(self.down_since, |session| session.heard);
        now.saturating_sub(since) >= SILENT
    }

    /// Whether it has just fallen silent, is heard again, or has been good for long: then sources are thought over.
    pub(crate) fn turns(&mut self, now: Moment) -> bool {
        let standing = self.way().map(|way| (way.is_silent(now), way.is_good(now)));
        std::mem::replace(&mut self.standing, standing) != standing
    }

    /// Whether a question may be sent there.
    pub(crate) fn can_be_asked(&self, now: Moment) -> bool {
        let is_heard = |session: &Session| now.saturating_sub(session.heard) < SILENT;
        self.session().is_some_and(|session| session.live.greeted && is_heard(session))
    }

    pub(crate) fn reached(&mut self, site: SiteName, live: SubscriptionId, now: Moment) {
        self.site = Some(site.clone());
        self.state = State::Up(Box::new(Session::new(site, live, now)));
    }

    /// Both have said Hello.
    pub(crate) fn greeted(&mut self, release: String) {
        if !self.flaps {
            let site = self.site.as_ref().map(tracing::field::display);
            tracing::info!(peer = site, release, "connected to a peer");
        }
        self.release = release;
        self.error = None;
    }

    /// There is no connection, or no more; the next attempt follows after a wait. Only a connection that
    /// lasted is a success: a peer may take us in and break off at once, for ever.
    pub(crate) fn lost(&mut self, error: LinkError, now: Moment, rng: &mut impl Rng) {
        if let State::Up(session) = &self.state {
            self.down_since = now;
            self.flaps = now.saturating_sub(session.began) < SETTLED;
            if !self.flaps {
                self.backoff.succeeded();
                self.logged.clear();
            }
        }
        if self.is_dropped {
            self.site = None;
            self.state = State::Waiting(Moment::MAX);
            return;
        }
        self.log(&error);
        let wait = self.backoff.failed(error.needs_a_person, rng);
        self.error = Some(error);
        self.state = State::Waiting(now.saturating_add(wait));
    }

    /// Logged once until there is another reason.
    fn log(&mut self, error: &LinkError) {
        if self.logged == error.text {
            return;
        }
        let (site, text) = (self.site.as_ref().map(tracing::field::display), &error.text);
        if error.needs_a_person {
            tracing::error!(site, error = text, "a peer is refused or refuses us");
        } else {
            tracing::warn!(site, error = text, "no connection to a peer; trying on");
        }
        self.logged.clone_from(text);
    }

    /// The peer has connected to us, so it can be reached: there is no need to wait. Not twice in a row, or two
    /// sites whose connections break at once would wake each other without end.
    pub(crate) fn seen(&mut self, site: &SiteName, now: Moment) {
        let may_be_it = self.site.as_ref().is_none_or(|known| known == site);
        if let State::Waiting(until) = &mut self.state
            && may_be_it
            && !self.is_dropped
            && !std::mem::replace(&mut self.woken, true)
        {
            *until = now;
        }
    }

    /// Whether it is time to dial; then it counts as dialling.
    pub(crate) fn dials(&mut self, now: Moment) -> bool {
        match self.state {
            State::Waiting(until) if until <= now => {
                self.woken = self.woken && until == now;
                self.state = State::Dialling;
                true
            }
            _ => false,
        }
    }
}

impl Session {
    fn new(site: SiteName, live: SubscriptionId, now: Moment) -> Self {
        Self {
            site,
            began: now,
            live: Stream::new(live),
            live_logs: BTreeSet::new(),
            behind: BTreeSet::new(),
            catch_up: None,
            lagging: BTreeSet::new(),
            unlike: BTreeMap::new(),
            heard: now,
            good_since: now,
            offset_micros: None,
            round_trip: None,
            claim: None,
            is_level: false,
            has_told: false,
            told_sites: BTreeSet::new(),
            near: BTreeSet::new(),
            away: BTreeSet::new(),
            own: OwnThere::default(),
            ahead: BTreeMap::new(),
        }
    }

    pub(crate) fn stream_mut(&mut self, id: SubscriptionId) -> Option<&mut Stream> {
        let catch_up = self.catch_up.as_mut().map(|catch_up| &mut catch_up.stream);
        [Some(&mut self.live), catch_up].into_iter().flatten().find(|stream| stream.id == id)
    }

    /// Something came.
    pub(crate) fn heard(&mut self, now: Moment) {
        if now.saturating_sub(self.heard) >= SILENT {
            self.good_since = now;
        }
        self.heard = now;
    }

    /// What a heartbeat tells but cursors: round trip, clocks, and how fresh its sender is.
    pub(crate) fn measure(&mut self, beat: &proto::Heartbeat, time: Time) {
        self.has_told = true;
        if beat.echo > 0 {
            let held = Duration::from_micros(beat.held_micros);
            let sent = Duration::from_micros(beat.echo);
            let trip = time.now.saturating_sub(sent).saturating_sub(held);
            self.round_trip = Some(trip);
            let there = beat.sent_micros.saturating_add(half_micros(trip));
            self.offset_micros = Some(difference(there, time.wall_micros));
        }
        for (names, is_gone) in [(&beat.gone, true), (&beat.back, false)] {
            for site in names.iter().filter_map(|name| SiteName::parse(name).ok()) {
                if is_gone {
                    self.away.insert(site)
                } else {
                    self.away.remove(&site)
                };
            }
        }
        self.claim = Claim::of(beat, self.round_trip, time.now);
    }

    /// We have come to have more of what the last heartbeat told. Of the peer itself that is noted at once, of the sites
    /// behind it later: there may be a thousand of them, and more comes with every batch.
    pub(crate) fn level(&mut self, link: LinkId, level: &mut Level) {
        let Some(claim) = &self.claim else { return };
        let blind = mutant::is(Mutant::LaggingIsLevel);
        let is_own = |log: &LogId| log.site == self.site;
        if !self.lagging.iter().chain(self.unlike.keys()).any(is_own) || blind {
            level.reach(link, 0, &self.site, claim.at.checked_sub(claim.own_age));
        }
        self.is_level |= self.lagging.is_empty() || blind;
    }

    /// Notes of which sites behind the peer we have had all since then, before the next heartbeat tells of more: of those
    /// that are next to it, and of those of which we take a log there. What it tells of others it may have from us.
    pub(crate) fn note_level(&mut self, link: LinkId, logs: &Logs, level: &mut Level) {
        let Some(claim) = self.claim.as_ref().filter(|_| self.is_level) else { return };
        self.is_level = false;
        let unlike: BTreeSet<_> = self.unlike.keys().map(|log| &log.site).collect();
        let taken: BTreeSet<_> = self.live_logs.iter().map(|log| &log.site).collect();
        let told = |site: &&SiteName| **site != self.site && self.told_sites.contains(*site);
        for site in taken.union(&self.near.iter().collect()).copied().filter(told) {
            if self.away.contains(site) {
                level.gone(link, site);
            } else if !unlike.contains(site) {
                let hops = logs.hops_there(link, site).max().unwrap_or(HOPS_MAX);
                level.reach(link, hops, site, claim.level_at(logs.hops_there(link, site)));
            }
        }
    }

    /// The peer has told of a site's logs, each so many hops from there.
    pub(crate) fn told(&mut self, site: &SiteName, hops: impl Iterator<Item = u8>) {
        if !self.told_sites.contains(site) {
            self.told_sites.insert(site.clone());
        }
        if hops.max().is_some_and(|hops| hops <= 1) {
            self.near.insert(site.clone());
        } else {
            self.near.remove(site);
        }
    }

    /// Whether it has told what it has.
    pub(crate) fn has_told(&self) -> bool {
        self.has_told
    }

    /// Whether the peer has told of that site's logs; none where it takes it for away.
    pub(crate) fn knows(&self, site: &SiteName) -> Option<bool> {
        (!self.away.contains(site)).then(|| self.told_sites.contains(site))
    }

    /// We have come to as much of the peer's own log as it told, by way of another: whether it is the same is to be read.
    pub(crate) fn doubts(&mut self, state: &LogState, link: LinkId) -> Option<Cursor> {
        if state.lag(link) > 0 || state.source == Some(link) {
            return None;
        }
        let theirs = self.ahead.remove(&state.log.id)?;
        let is_doubtful = self.lagging.contains(&state.log.id) && theirs.chain != state.ours.chain;
        is_doubtful.then(|| {
            self.unlike.insert(state.log.id.clone(), theirs.clone());
            theirs
        })
    }

    /// A log has gone back here: what the last heartbeat told is not all here any more.
    pub(crate) fn lose_level(&mut self) {
        self.is_level = false;
    }

    /// Our cursor of a log has moved; `lags` where the peer still has more. Returns whether it is level now.
    pub(crate) fn moved(&mut self, state: &LogState, lags: bool) -> bool {
        let log = &state.log.id;
        let is_like = self.unlike.get(log).is_some_and(|theirs| !state.is_unlike(theirs));
        if is_like {
            // It tells again only what changes there.
            self.unlike.remove(log);
        }
        if lags {
            // It may have been level with the peer, and gone back.
            self.lagging.insert(log.clone());
        }
        !lags && (self.lagging.remove(log) || is_like)
    }

    /// Some log is on the catch-up stream, or waits for it.
    pub(crate) fn is_behind(&self) -> bool {
        self.catch_up.is_some() || !self.behind.is_empty()
    }

    /// Takes a log off whatever stream it is on.
    pub(crate) fn drop_log(&mut self, log: &LogId) {
        if self.live_logs.remove(log) {
            self.live.wants_changed = true;
        }
        self.behind.remove(log);
        if let Some(catch_up) = &mut self.catch_up
            && catch_up.logs.remove(log)
        {
            catch_up.stream.wants_changed = true;
        }
    }

    pub(crate) fn has_log(&self, log: &LogId) -> bool {
        let catching_up = self.catch_up.as_ref().is_some_and(|c| c.logs.contains(log));
        catching_up || self.live_logs.contains(log) || self.behind.contains(log)
    }
}

fn half_micros(duration: Duration) -> u64 {
    super::supply::micros(duration.div_f64(2.0))
}

fn difference(theirs: u64, ours: u64) -> i64 {
    let apart = i64::try_from(theirs.abs_diff(ours)).unwrap_or(i64::MAX);
    if theirs < ours { apart.saturating_neg() } else { apart }
}
