//! From whom a log is taken: its origin where the way there is good, else the nearest to it of the peers that have it.

use std::time::Duration;

use bruri_domain::{
    SiteName,
    limits::{DIRECT_GOOD_SECONDS, HOPS_MAX, PEER_AHEAD_MILLIS, PEER_SILENT_MILLIS},
    mutant::{self, Mutant},
};

use super::{
    io::{LinkId, Moment},
    logs::LogState,
};

/// Silent for so long, a peer is away.
pub(crate) const SILENT: Duration = Duration::from_millis(PEER_SILENT_MILLIS);
/// Ahead of us on a log for so long, a peer is taken instead of the log's source.
const AHEAD: Duration = Duration::from_millis(PEER_AHEAD_MILLIS);
/// The wait doubles so often, to 19 s.
const TURNS_MAX: u32 = 6;
/// Good for so long, the direct link is taken again.
const GOOD: Duration = Duration::from_secs(DIRECT_GOOD_SECONDS);

/// What is known of a link when sources are chosen.
#[derive(Clone, Debug)]
pub(crate) struct Way {
    pub(crate) link: LinkId,
    /// Who is at its end.
    pub(crate) site: SiteName,
    /// When it was last heard; none while there is no connection.
    pub(crate) heard: Option<Moment>,
    /// Since when it has been heard without a break.
    pub(crate) good_since: Moment,
    /// Since when there has been no connection, or since the beginning.
    pub(crate) down_since: Moment,
}

impl Way {
    fn is_up(&self) -> bool {
        self.heard.is_some()
    }

    pub(crate) fn is_silent(&self, now: Moment) -> bool {
        self.heard.is_none_or(|heard| now.saturating_sub(heard) >= SILENT)
    }

    /// Heard without a break for long.
    pub(crate) fn is_good(&self, now: Moment) -> bool {
        !self.is_silent(now) && now.saturating_sub(self.good_since) >= GOOD
    }

    /// There was no word of it for so long that it will not do to wait.
    fn is_away(&self, now: Moment) -> bool {
        match self.heard {
            Some(_) => self.is_silent(now),
            None => now.saturating_sub(self.down_since) >= SILENT,
        }
    }
}

/// Chooses the source of a log among the ways; `None` where nobody has it who may be asked.
pub(crate) fn choose(log: &LogState, ways: &[Way], now: Moment) -> Option<LinkId> {
    let offers = |way: &&Way| {
        let origin_only = mutant::is(Mutant::OriginOnly) && way.site != log.log.id.site;
        way.is_up()
            && !origin_only
            && log.offers.get(&way.link).is_some_and(|offer| offer.barred.is_none())
    };
    let direct = ways.iter().find(|way| way.site == log.log.id.site);
    let current = ways.iter().find(|way| Some(way.link) == log.source).filter(offers);
    let usable_direct = direct.filter(offers);
    let ahead = || best(log, ways.iter().filter(offers), |way| is_ahead(log, way, now));
    match (current, usable_direct) {
        // At its origin: as long as that goes well.
        (Some(current), Some(origin)) if current.link == origin.link => {
            let stays = !origin.is_silent(now) && ahead().is_none();
            Some(if stays { origin.link } else { elsewhere(log, ways, origin, now, offers) })
        }
        (Some(_), Some(origin)) if is_good_again(log, origin, now) => Some(origin.link),
        (Some(current), _) if !current.is_silent(now) => {
            let others = ways.iter().filter(offers);
            let better = ahead().or_else(|| nearer(log, others, current, now));
            Some(better.unwrap_or(current).link)
        }
        (None, Some(origin)) if !origin.is_silent(now) => Some(origin.link),
        // Its origin is only just out of reach: wait whether it comes back.
        (None, None) if direct.is_some_and(|origin| !origin.is_away(now)) => {
            ahead().map(|way| way.link)
        }
        _ => {
            let others = ways.iter().filter(offers);
            best(log, others, |way| !way.is_silent(now)).map(|way| way.link)
        }
    }
}

/// Somebody else than the origin, if there is anybody; else the origin after all.
fn elsewhere<'a>(
    log: &LogState,
    ways: &'a [Way],
    origin: &'a Way,
    now: Moment,
    offers: impl Fn(&&'a Way) -> bool,
) -> LinkId {
    let others = ways.iter().filter(|way| way.link != origin.link).filter(offers);
    let better =
        |way: &Way| is_ahead(log, way, now) || (origin.is_silent(now) && !way.is_silent(now));
    best(log, others, better).map_or(origin.link, |way| way.link)
}

/// The peer has had more than we for a while, and from our source nothing came meanwhile.
fn is_ahead(log: &LogState, way: &Way, now: Moment) -> bool {
    if Some(way.link) == log.source || way.is_silent(now) {
        return false;
    }
    let ahead = log.offers.get(&way.link).and_then(|offer| offer.ahead);
    let waited = |since: Moment| now.saturating_sub(since) >= AHEAD;
    ahead.is_some_and(|(since, _)| waited(since)) && waited(log.moved) && is_given_up(log, now)
}

/// The source has had its time, twice as much with every turn that brought nothing: the way to each may take longer
/// than we would wait, and sources that change too soon bring nothing for ever.
fn is_given_up(log: &LogState, now: Moment) -> bool {
    let patience = AHEAD.saturating_mul(1 << log.turns.min(TURNS_MAX));
    mutant::is(Mutant::ImpatientSources) || now.saturating_sub(log.turned) >= patience
}

/// The one that has it from nearest to its origin, where that is nearer than the source and the link has been good for
/// long: else a log may go around through sites that have it of each other, each of them later.
fn nearer<'a>(
    log: &LogState,
    ways: impl Iterator<Item = &'a Way>,
    source: &Way,
    now: Moment,
) -> Option<&'a Way> {
    let hops = |way: &Way| log.offers.get(&way.link).map_or(HOPS_MAX, |offer| offer.hops);
    let has_ours = |way: &Way| {
        log.offers.get(&way.link).is_some_and(|offer| offer.sequence >= log.ours.sequence)
    };
    if now.saturating_sub(log.turned) < GOOD {
        return None;
    }
    let fits = |way: &&Way| hops(way) < hops(source) && has_ours(way) && way.is_good(now);
    ways.filter(fits).min_by_key(|way| hops(way))
}

fn is_good_again(log: &LogState, origin: &Way, now: Moment) -> bool {
    let good = |since: Moment| now.saturating_sub(since) >= GOOD;
    origin.is_good(now) && log.left_origin.is_none_or(good)
}

/// Of those that fit the one that has most, among equals the nearest to the origin, and of them the first, so that the
/// choice is steady.
fn best<'a>(
    log: &LogState,
    ways: impl Iterator<Item = &'a Way>,
    fits: impl Fn(&Way) -> bool,
) -> Option<&'a Way> {
    let worth = |way: &Way| {
        let offer = log.offers.get(&way.link);
        offer.map(|offer| (offer.sequence, std::cmp::Reverse(offer.hops)))
    };
    ways.filter(|way| fits(way)).fold(None, |best: Option<&Way>, way| match best {
        Some(best) if worth(best) >= worth(way) => Some(best),
        _ => Some(way),
    })
}
