//! Our side of the connections to peers: dialling, choosing sources, taking batches in.

use std::time::Duration;

use bruri_domain::{
    Cursor, Log, LogId, SiteName,
    limits::{CREDIT_BYTES_GRANTED, HOPS_MAX, REFUSED_RECONNECT_MILLIS_MAX, SNAPSHOT_AVOID_MILLIS},
};
use bruri_wire::{
    proto::replication::v1::{self as proto, refusal::Reason},
    replication::{InvalidMessage, cursors, invalid, told},
};

use super::{
    Engine,
    arrived::Queued,
    hello::{self, HelloError, bounded_text},
    io::{Ask, Effect, Event, LinkError, LinkId, SubscriptionId},
    link::{Link, Session, State},
    supply::micros,
};
use crate::batch::credit_bytes;

/// How long no more of a log is taken from a peer that sent what is wrong, or refused it.
pub(super) const BARRED: Duration = Duration::from_millis(REFUSED_RECONNECT_MILLIS_MAX);

/// The same of one that fills in its own history.
const FILLING: Duration = Duration::from_millis(SNAPSHOT_AVOID_MILLIS);

impl Engine {
    pub(super) fn dial(&mut self) {
        for link in &mut self.links {
            if link.dials(self.time.now) {
                self.effects.push(Effect::Dial(link.id));
            }
        }
    }

    pub(super) fn reached(&mut self, id: LinkId, site: &SiteName) {
        let subscription = self.new_subscription(id);
        let now = self.time.now;
        let Some(link) = self.link(id) else { return };
        if link.is_dropped {
            return self.effects.push(Effect::Hang(id));
        }
        if !matches!(link.state, State::Dialling) {
            return;
        }
        link.reached(site.clone(), subscription, now);
        if let Some(error) = self.refusal(site) {
            return self.lose(id, error);
        }
        self.subscribe(id, subscription);
    }

    fn link(&mut self, id: LinkId) -> Option<&mut Link> {
        usize::try_from(id.0).ok().and_then(|place| self.links.get_mut(place))
    }

    pub(super) fn session(&mut self, id: LinkId) -> Option<&mut Session> {
        session_of(&mut self.links, id)
    }

    pub(super) fn new_subscription(&mut self, link: LinkId) -> SubscriptionId {
        self.subscriptions_opened = self.subscriptions_opened.saturating_add(1);
        let id = SubscriptionId(self.subscriptions_opened);
        self.subscriptions.insert(id, link);
        id
    }

    /// Opens a stream; Hello and the first credit go at once.
    pub(super) fn subscribe(&mut self, link: LinkId, subscription: SubscriptionId) {
        self.effects.push(Effect::Subscribe { link, subscription });
        self.ask(subscription, Ask::Hello(self.hello.clone()));
        self.grant(subscription, CREDIT_BYTES_GRANTED);
    }

    pub(super) fn ask(&mut self, subscription: SubscriptionId, ask: Ask) {
        self.effects.push(Effect::Ask { subscription, ask });
    }

    pub(super) fn grant(&mut self, subscription: SubscriptionId, bytes: u64) {
        if self.subscriptions.contains_key(&subscription) {
            self.ask(subscription, Ask::Credit(proto::Credit { bytes }));
        }
    }

    /// There is no connection to a peer, or no more.
    pub(super) fn lose(&mut self, id: LinkId, error: LinkError) {
        let now = self.time.now;
        let mut rng = self.rng.clone();
        let Some(link) = self.link(id) else { return };
        let was_up = link.session().is_some();
        link.lost(error, now, &mut rng);
        self.rng = rng;
        if was_up {
            self.effects.push(Effect::Hang(id));
        }
        self.subscriptions.retain(|_, link| *link != id);
        self.logs.withdraw(id);
        self.forget_asked(id);
    }

    /// A stream of ours is over, and with it the connection.
    pub(super) fn ended(&mut self, subscription: SubscriptionId, error: LinkError) {
        if let Some(link) = self.subscriptions.get(&subscription) {
            self.lose(*link, error);
        }
    }

    pub(super) fn heard(&mut self, subscription: SubscriptionId, event: Event) {
        let Some(id) = self.subscriptions.get(&subscription).copied() else { return };
        let time = self.time;
        if let Some(link) = self.link(id) {
            link.heard_wall_micros = Some(time.wall_micros);
        }
        if let Some(session) = self.session(id) {
            session.heard(time.now);
        }
        if let Err(error) = self.take_event(id, subscription, event) {
            self.lose(id, error);
        }
    }

    fn take_event(
        &mut self,
        id: LinkId,
        subscription: SubscriptionId,
        event: Event,
    ) -> Result<(), LinkError> {
        let session = self.session(id).ok_or(HelloError::Missing)?;
        let greeted = session.stream_mut(subscription).is_some_and(|stream| stream.greeted);
        match event {
            Event::Hello(theirs) => self.take_hello(id, subscription, &theirs)?,
            _ if !greeted => return Err(HelloError::Missing.into()),
            Event::Heartbeat(beat) => self.take_beat(id, subscription, beat)?,
            Event::Batch(batch) => self.take_batch(id, subscription, batch)?,
            Event::Refusal(refusal) => self.take_refusal(id, refusal)?,
        }
        Ok(())
    }

    fn take_hello(
        &mut self,
        id: LinkId,
        subscription: SubscriptionId,
        theirs: &proto::Hello,
    ) -> Result<(), HelloError> {
        let ours = self.hello.clone();
        let session = self.session(id).ok_or(HelloError::Missing)?;
        hello::check(theirs, &session.site, &ours)?;
        let is_live = session.live.id == subscription;
        if let Some(stream) = session.stream_mut(subscription) {
            stream.greeted = true;
        }
        if let Some(link) = self.link(id).filter(|_| is_live) {
            link.greeted(bounded_text(&theirs.release));
        }
        Ok(())
    }

    fn take_beat(
        &mut self,
        id: LinkId,
        subscription: SubscriptionId,
        mut beat: proto::Heartbeat,
    ) -> Result<(), InvalidMessage> {
        let (now, site) = (self.time.now, self.site.clone());
        let theirs = cursors(std::mem::take(&mut beat.changed))?;
        let read = told(&site, &std::mem::take(&mut beat.told))?;
        let hops = std::mem::take(&mut beat.hops);
        let is_live = self.session(id).is_some_and(|s| s.live.id == subscription);
        self.note_level(id);
        if is_live {
            let own = theirs.iter().filter(|cursor| cursor.log.id.site == site);
            if let Some(session) = self.session(id) {
                own.for_each(|cursor| session.own.tell(cursor));
                session.own.was_read(read);
            }
            self.hear_own(id);
        }
        for (place, theirs) in theirs.iter().enumerate() {
            if is_live {
                self.note_set_back(id, theirs);
            }
            // Ages are told of distances as the live stream tells them.
            let hops = is_live.then(|| hops.get(place).copied().unwrap_or(u32::MAX));
            self.offered(id, theirs, hops)?;
        }
        let time = self.time;
        let Engine { links, level, .. } = self;
        if let Some(session) =
            session_of(links, id).filter(|session| session.live.id == subscription)
        {
            level.know(&session.site, now);
            session.measure(&beat, time);
            session.level(id, level);
        }
        self.ack(subscription, beat.number);
        Ok(())
    }

    fn ack(&mut self, subscription: SubscriptionId, heartbeat: u64) {
        let reading = self.reading_until > self.time.now;
        let ack = proto::Ack { heartbeat, echo: micros(self.time.now).max(1), reading };
        self.ask(subscription, Ask::Ack(ack));
    }

    /// Tells every peer that phones read here.
    pub(super) fn ack_all(&mut self) {
        let sessions = self.links.iter().filter_map(Link::session);
        let live: Vec<_> = sessions.filter(|s| s.live.greeted).map(|s| s.live.id).collect();
        for subscription in live {
            self.ack(subscription, 0);
        }
    }

    fn offered(
        &mut self,
        id: LinkId,
        theirs: &Cursor,
        hops: Option<u32>,
    ) -> Result<(), InvalidMessage> {
        let log = theirs.log.id.clone();
        self.know(&log.site);
        let is_its_own = self.session(id).is_some_and(|session| session.site == log.site);
        let in_bounds = |hops| u8::try_from(hops).unwrap_or(HOPS_MAX).clamp(1, HOPS_MAX);
        let hops = if is_its_own { Some(0) } else { hops.map(in_bounds) };
        if !self.logs.offer(id, theirs, hops, self.time.now) {
            return Err(invalid("heartbeat.changed"));
        }
        let is_taken = self.logs.is_taken(&log);
        let state = self.logs.get(&log);
        let lags = is_taken && state.is_some_and(|state| state.lag(id) > 0);
        let is_unlike = state.is_some_and(|state| state.is_unlike(theirs));
        let Engine { links, logs, .. } = self;
        let Some(session) = session_of(links, id) else { return Ok(()) };
        if hops.is_some() {
            session.told(&log.site, logs.hops_there(id, &log.site));
        }
        if is_unlike {
            session.unlike.insert(log.clone(), theirs.clone());
        } else {
            session.unlike.remove(&log);
        }
        if lags {
            if is_its_own {
                session.ahead.insert(log.clone(), theirs.clone());
            }
            session.lagging.insert(log);
        } else if !is_unlike {
            // It has the same: also where another branch of it was feared.
            session.lagging.remove(&log);
        }
        Ok(())
    }

    /// Queues a batch of a log that was wanted. What we have already, and what was on its way when its log was
    /// barred, is passed over.
    fn take_batch(
        &mut self,
        id: LinkId,
        subscription: SubscriptionId,
        batch: proto::Batch,
    ) -> Result<(), InvalidMessage> {
        let log: Log = batch.log.clone().ok_or(invalid("batch.log"))?.try_into()?;
        let bytes = credit_bytes(&batch);
        let peer = self.session(id).map(|session| session.site.clone());
        let state = self.logs.get_mut(&log.id).ok_or(invalid("batch.log"))?;
        let offer = state.offers.get(&id).ok_or(invalid("batch.log"))?;
        match peer.filter(|_| offer.barred.is_none() && state.is_news(&batch)) {
            Some(peer) => {
                state.arrived.push(Queued { link: id, peer, subscription, bytes, batch });
                self.waiting.insert(log.id);
            }
            None => self.grant(subscription, bytes),
        }
        Ok(())
    }

    fn take_refusal(&mut self, id: LinkId, refusal: proto::Refusal) -> Result<(), InvalidMessage> {
        let reason = refusal.reason();
        let wanted = refusal.wanted.ok_or(invalid("refusal.wanted"))?;
        let Cursor { log: Log { id: log, .. }, sequence, .. } = Cursor::try_from(wanted)?;
        let parted = self.logs.get(&log).and_then(|state| state.parted.as_ref());
        if parted.is_some_and(|parted| parted.sequence != sequence) {
            // It was wanted from there before it was known where its origin parts from us.
            return Ok(());
        }
        let text = bounded_text(&refusal.text);
        let origin = self.session(id).map(|session| session.site.clone());
        match reason {
            Reason::Ahead | Reason::GivesWay => {
                tracing::info!(%log, text, "a peer has less of a log than this site");
                self.logs.take_back(id, &log);
                // The origin of a void branch has records there that will come in another log.
                if let Some(session) = self.session(id).filter(|_| reason == Reason::Ahead) {
                    session.lagging.remove(&log);
                }
            }
            Reason::Fork if Some(&log.site) == origin.as_ref() || log.site == self.site => {
                self.settle_fork(id, log, text);
            }
            Reason::BelowFloor => {
                self.note_below_floor(&log);
                self.bar(id, &log, text, FILLING);
            }
            _ => {
                if self.bar(id, &log, text.clone(), BARRED) {
                    tracing::error!(%log, text, "a peer cannot supply a log");
                }
            }
        }
        Ok(())
    }

    /// Takes no more of a log from a peer for a while; `false` where that is so already.
    pub(super) fn bar(&mut self, id: LinkId, log: &LogId, reason: String, wait: Duration) -> bool {
        let until = self.time.now.saturating_add(wait);
        let Some(state) = self.logs.get_mut(log) else { return false };
        let Some(offer) = state.offers.get_mut(&id).filter(|o| o.barred.is_none()) else {
            return false;
        };
        offer.barred = Some((reason, until));
        let dropped = state.arrived.drop_from(id);
        for queued in dropped {
            self.grant(queued.subscription, queued.bytes);
        }
        self.logs.dirty.insert(log.clone());
        true
    }
}

pub(super) fn session_of(links: &mut [Link], id: LinkId) -> Option<&mut Session> {
    links.get_mut(usize::try_from(id.0).ok()?)?.session_mut()
}

impl From<InvalidMessage> for LinkError {
    fn from(error: InvalidMessage) -> Self {
        let text = format!("the peer sent what is not understood: {error}");
        Self { text, needs_a_person: true }
    }
}

impl From<HelloError> for LinkError {
    fn from(error: HelloError) -> Self {
        Self { text: error.to_string(), needs_a_person: true }
    }
}
