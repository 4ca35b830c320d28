//! Which log is taken from whom, on which stream.

use std::collections::BTreeSet;

use bruri_domain::{
    LogId,
    mutant::{self, Mutant},
};
use bruri_wire::proto::replication::v1 as proto;

use super::{
    Engine,
    choice::{self, Way},
    consume::session_of,
    io::{Ask, Effect, LinkId, Moment},
    link::{CatchUp, Link, Stream},
    logs::{LogState, Logs},
};

impl Engine {
    /// Our cursor went back: what was sent meanwhile must be sent again, so the log is wanted anew.
    pub(super) fn start_over(&mut self, log: &LogId) {
        let Some(state) = self.logs.get_mut(log) else { return };
        let Some(source) = state.source.take() else { return };
        let dropped = state.arrived.drop_from(source);
        for queued in dropped {
            self.grant(queued.subscription, queued.bytes);
        }
        if let Some(session) = self.session(source) {
            session.drop_log(log);
        }
        self.send_wants(source);
        self.logs.dirty.insert(log.clone());
    }

    /// Looks again at the logs of which time may change the source: those that wait for it, and all of a peer that has
    /// fallen silent or proved good.
    pub(super) fn think_over(&mut self) {
        let now = self.time.now;
        let uneasy = std::mem::take(&mut self.logs.uneasy);
        for log in &uneasy {
            lift_bars(&mut self.logs, log, now);
        }
        self.logs.dirty.extend(uneasy);
        for link in &mut self.links {
            if link.turns(now) {
                self.logs.think_over(link.id);
            }
        }
    }

    /// Chooses sources where something has changed, and tells the peers what is wanted.
    pub(super) fn settle(&mut self) {
        let dirty = std::mem::take(&mut self.logs.dirty);
        if !dirty.is_empty() {
            let ways: Vec<Way> = self.links.iter().filter_map(Link::way).collect();
            for log in dirty {
                self.place(&log, &ways);
            }
        }
        let ids: Vec<LinkId> = self.links.iter().map(|link| link.id).collect();
        for id in ids {
            self.tell_wants(id);
        }
    }

    fn place(&mut self, log: &LogId, ways: &[Way]) {
        let now = self.time.now;
        let is_taken = self.logs.is_taken(log);
        let holds_off = log.site != self.site
            && self.logs.get(log).is_some_and(|state| self.snapshots.holds_off(&state.log));
        let Some(state) = self.logs.get_mut(log) else { return };
        let chosen = if is_taken && !holds_off { choice::choose(state, ways, now) } else { None };
        let old = std::mem::replace(&mut state.source, chosen);
        let comes_otherwise = state.count_hops(log.site == self.site);
        if is_taken && state.is_uneasy() {
            self.logs.uneasy.insert(log.clone());
        }
        if comes_otherwise {
            self.logs.version = self.logs.version.saturating_add(1);
            self.supplies.moved(log, &self.logs);
        }
        let Some(state) = self.logs.get_mut(log) else { return };
        if chosen != old {
            state.turned = now;
            state.turns = state.turns.saturating_add(u32::from(old.is_some()));
        }
        let direct = ways.iter().find(|way| way.site == log.site).map(|way| way.link);
        if chosen != old && chosen != direct && direct.is_some() {
            state.left_origin = Some(now);
        }
        let is_far_behind = chosen.is_some_and(|link| state.is_far_behind(link));
        if let Some(session) = old.filter(|_| chosen != old).and_then(|old| self.session(old)) {
            session.drop_log(log);
        }
        let Some(session) = chosen.and_then(|link| self.session(link)) else { return };
        if session.has_log(log) {
            return;
        }
        if is_far_behind {
            session.behind.insert(log.clone());
        }
        if !is_far_behind || mutant::is(Mutant::BothStreams) {
            session.live_logs.insert(log.clone());
            session.live.wants_changed = true;
        }
    }

    fn tell_wants(&mut self, id: LinkId) {
        let Engine { links, logs, .. } = self;
        let Some(session) = session_of(links, id).filter(|session| session.live.greeted) else {
            return;
        };
        let mut ended = None;
        if let Some(catch_up) = &session.catch_up {
            let level = |log: &LogId| logs.get(log).is_none_or(|state| state.lag(id) == 0);
            if catch_up.stream.greeted && catch_up.logs.iter().all(level) {
                ended = session.catch_up.take();
            }
        }
        if let Some(catch_up) = ended {
            session.live_logs.extend(catch_up.logs);
            session.live.wants_changed = true;
            self.subscriptions.remove(&catch_up.stream.id);
            self.effects.push(Effect::Unsubscribe(catch_up.stream.id));
        }
        self.send_wants(id);
        self.catch_up(id);
    }

    fn send_wants(&mut self, id: LinkId) {
        let Engine { links, logs: all, .. } = self;
        let Some(session) = session_of(links, id) else { return };
        let mut wants = Vec::new();
        if session.live.greeted && std::mem::take(&mut session.live.wants_changed) {
            wants.push((session.live.id, wants_of(all, &session.live_logs)));
        }
        if let Some(CatchUp { stream, logs }) = &mut session.catch_up
            && stream.greeted
            && std::mem::take(&mut stream.wants_changed)
        {
            wants.push((stream.id, wants_of(all, logs)));
        }
        for (subscription, wants) in wants {
            self.ask(subscription, Ask::Wants(wants));
        }
    }

    /// Catches up with the logs that wait for it, on a stream of their own, unless one is there already.
    fn catch_up(&mut self, id: LinkId) {
        let Some(session) = self.session(id) else { return };
        if session.behind.is_empty() || session.catch_up.is_some() {
            return;
        }
        let logs = std::mem::take(&mut session.behind);
        let subscription = self.new_subscription(id);
        if let Some(session) = self.session(id) {
            session.catch_up = Some(CatchUp { stream: Stream::new(subscription), logs });
        }
        self.subscribe(id, subscription);
    }
}

fn wants_of(logs: &Logs, wanted: &BTreeSet<LogId>) -> proto::Wants {
    let mut states: Vec<_> = wanted.iter().filter_map(|log| logs.get(log)).collect();
    states.sort_by(|a, b| a.rank().cmp(&b.rank()));
    let place = |state: &LogState| state.parted.as_ref().unwrap_or(&state.ours).into();
    proto::Wants { cursors: states.into_iter().map(place).collect() }
}

fn lift_bars(logs: &mut Logs, log: &LogId, now: Moment) {
    let Some(state) = logs.get_mut(log) else { return };
    for offer in state.offers.values_mut() {
        if offer.barred.as_ref().is_some_and(|(_, until)| *until <= now) {
            offer.barred = None;
        }
    }
}
