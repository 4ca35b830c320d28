//! Heartbeats of one stream: what is new, how fresh we are, and who is away.

use std::{collections::BTreeSet, time::Duration};

use bruri_domain::{
    Dot, LogId, SiteName,
    limits::{HEARTBEAT_BUSY_MILLIS, HEARTBEAT_IDLE_MILLIS, READING_SECONDS},
};
use bruri_wire::proto::replication::v1 as proto;

use super::{
    io::Moment,
    supply::{Env, micros},
};

const BUSY: Duration = Duration::from_millis(HEARTBEAT_BUSY_MILLIS);
const IDLE: Duration = Duration::from_millis(HEARTBEAT_IDLE_MILLIS);
const READING: Duration = Duration::from_secs(READING_SECONDS);

/// What heartbeats have said and must say.
#[derive(Default)]
pub(crate) struct Beats {
    /// Numbers of the consumer's logs that the first one tells of; none before they are known.
    told: Option<Vec<Dot>>,
    number: u64,
    at: Moment,
    untold: BTreeSet<LogId>,
    away: BTreeSet<SiteName>,
    ack: Option<(u64, Moment)>,
    /// Phones read at the other end until then.
    reading_until: Moment,
}

impl Beats {
    /// From now on they go out.
    pub(crate) fn begin(&mut self, told: Vec<Dot>) {
        self.told = Some(told);
    }

    /// The next one tells of a log.
    pub(crate) fn tell(&mut self, log: &LogId) {
        self.untold.insert(log.clone());
    }

    pub(crate) fn answered(&mut self, ack: proto::Ack, now: Moment) {
        self.ack = Some((ack.echo, now));
        if ack.reading {
            self.reading_until = now.saturating_add(READING);
        }
    }

    /// When the next one is due.
    pub(crate) fn due(&self) -> Moment {
        if self.told.is_none() {
            return Moment::MAX;
        }
        let is_busy = !self.untold.is_empty() || self.reading_until > self.at;
        self.at.saturating_add(if is_busy { BUSY } else { IDLE })
    }

    /// The next one, for now.
    pub(crate) fn next(&mut self, peer: &SiteName, env: &mut Env<'_>) -> proto::Heartbeat {
        let now = env.time.now;
        let untold = std::mem::take(&mut self.untold);
        let known = untold.iter().filter(|log| env.logs.is_known(log));
        let known = known.filter_map(|log| env.logs.get(log));
        let (changed, hops) =
            known.map(|state| ((&state.ours).into(), u32::from(state.hops))).unzip();
        self.at = now;
        self.number = self.number.saturating_add(1);
        let (gone, back) = self.note_away(env.level.away());
        let ages = env.level.ages(now, env.logs, peer);
        let told = self.told.as_mut().map(std::mem::take).unwrap_or_default();
        proto::Heartbeat {
            changed,
            vector_hash: env.logs.hash().to_vec(),
            sent_micros: env.time.wall_micros,
            number: self.number,
            echo: self.ack.map_or(0, |(echo, _)| echo),
            held_micros: self.ack.map_or(0, |(_, at)| micros(now.saturating_sub(at))),
            level_age_micros: ages.into_iter().map(micros).collect(),
            gone,
            back,
            own_age_micros: micros(env.own_age),
            hops,
            told: told.iter().map(proto::heartbeat::Told::from).collect(),
        }
    }

    fn note_away(&mut self, away: &BTreeSet<SiteName>) -> (Vec<String>, Vec<String>) {
        let gone = away.difference(&self.away).map(ToString::to_string).collect();
        let back = self.away.difference(away).map(ToString::to_string).collect();
        self.away.clone_from(away);
        (gone, back)
    }
}
