//! Freshness: until when this site is known to have all that every other site had.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bruri_domain::SiteName;

use super::{
    choice::SILENT,
    io::{LinkId, Moment},
    logs::Logs,
};

/// Further sites on the way are not waited for: two that take the logs of one that is off from each other count more and
/// more hops to it.
const RELAYS_MAX: u8 = 2;

/// How fresh this site is, site by site.
///
/// A heartbeat tells what its sender had when it sent it. Once we have all of that, we are level with the sender as of then:
/// at the latest a round trip before the heartbeat came. With the sites behind the sender we are level as of as much earlier
/// as the sender's own level was old. Of those it tells one age for each distance: what it knows of sites that are
/// as far from it as we are may come through us, and ages that feed on each other would grow without end.
#[derive(Debug, Default)]
pub(crate) struct Level {
    /// Every other site of which a log is known, and until when we have all it had.
    sites: BTreeMap<SiteName, Known>,
    away: BTreeSet<SiteName>,
    /// What peers are told, for as long as which sites there are stays as it was in this version of the logs.
    told: Option<(u64, Vec<Option<Oldest>>)>,
}

#[derive(Debug, Default)]
struct Known {
    by: BTreeMap<LinkId, Reached>,
    since: Moment,
}

/// By way of a link we had then all that a site had, which is so many hops behind it.
#[derive(Debug, Default)]
struct Reached {
    at: Moment,
    hops: u8,
}

/// Of the sites at one distance the one that was reached longest ago, or never, and when the next one was.
#[derive(Debug)]
struct Oldest {
    site: SiteName,
    at: Option<Moment>,
    is_alone: bool,
    next: Option<Moment>,
}

impl Known {
    fn at(&self) -> Option<Moment> {
        self.by.values().map(|reached| reached.at).max()
    }

    /// Each site on the way tells of it after a heartbeat's time only.
    fn is_away(&self, now: Moment) -> bool {
        let is_old = |at: Moment, hops: u8| {
            now.saturating_sub(at) >= SILENT.saturating_mul(u32::from(hops).saturating_add(1))
        };
        let all_old = self.by.values().all(|reached| is_old(reached.at, reached.hops));
        all_old && (!self.by.is_empty() || is_old(self.since, 0))
    }
}

impl Level {
    /// There is such a site.
    pub(crate) fn know(&mut self, site: &SiteName, now: Moment) {
        if !self.sites.contains_key(site) {
            self.sites.insert(site.clone(), Known { by: BTreeMap::new(), since: now });
            self.told = None;
        }
    }

    /// Nothing is expected of such a site any more.
    pub(crate) fn forget(&mut self, site: &SiteName) {
        self.sites.remove(site);
        self.away.remove(site);
        self.told = None;
    }

    /// By way of a link, so many hops behind it, we have all that a site had then; none, before we began, says nothing.
    pub(crate) fn reach(&mut self, link: LinkId, hops: u8, site: &SiteName, at: Option<Moment>) {
        if let Some((known, at)) = self.sites.get_mut(site).zip(at) {
            let reached = known.by.entry(link).or_default();
            reached.at = at.max(reached.at);
            reached.hops = hops.min(RELAYS_MAX);
        }
    }

    /// Less of its logs is here than there was: nobody knows any more until when we have all it had.
    pub(crate) fn lose(&mut self, site: &SiteName, now: Moment) {
        if let Some(known) = self.sites.get_mut(site) {
            *known = Known { by: BTreeMap::new(), since: now };
            self.told = None;
        }
    }

    /// The peer there does not expect to hear of a site any more.
    pub(crate) fn gone(&mut self, link: LinkId, site: &SiteName) {
        let known = self.sites.get_mut(site);
        if let Some(reached) = known.and_then(|known| known.by.get_mut(&link)) {
            reached.hops = 0;
        }
    }

    /// Notes which sites are away now: not known to be level with for 2 s, and as much more for each site on the way. One that is
    /// back is seen here, too.
    pub(crate) fn watch(&mut self, now: Moment) {
        let away = self.sites.iter().filter(|(_, known)| known.is_away(now));
        self.away = away.map(|(site, _)| site.clone()).collect();
        self.told = None;
    }

    /// Whether there is such a site.
    pub(crate) fn knows(&self, site: &SiteName) -> bool {
        self.sites.contains_key(site)
    }

    /// The sites that are not away.
    pub(crate) fn present(&self) -> impl Iterator<Item = &SiteName> {
        self.sites.keys().filter(|site| !self.away.contains(*site))
    }

    /// The sites that are away.
    pub(crate) fn away(&self) -> &BTreeSet<SiteName> {
        &self.away
    }

    /// Until when we have all that every site had which is not away; now where there is none, and nothing
    /// where one was not reached yet since we began.
    pub(crate) fn at(&self, now: Moment) -> Option<Moment> {
        let present = self.sites.iter().filter(|(site, _)| !self.away.contains(*site));
        present.map(|(_, known)| known.at()).try_fold(now, |oldest, at| Some(oldest.min(at?)))
    }

    /// How old our knowledge is of the sites at each distance, from one hop on, but of those that are away and of
    /// `peer`, which knows itself. It is what it was at the last watch, or since a site came or went.
    pub(crate) fn ages(&mut self, now: Moment, logs: &Logs, peer: &SiteName) -> Vec<Duration> {
        let current = self.told.take().filter(|(version, _)| *version == logs.version);
        let read = || (logs.version, oldest(&self.sites, &self.away, logs));
        let (_, oldest) = self.told.insert(current.unwrap_or_else(read));
        let at = |oldest: &Oldest| match oldest {
            Oldest { site, is_alone: true, .. } if site == peer => Some(now),
            Oldest { site, next, .. } if site == peer => *next,
            Oldest { at, .. } => *at,
        };
        let age = |oldest: &Option<Oldest>| {
            let at = oldest.as_ref().and_then(at);
            at.map_or(Duration::MAX, |at| now.saturating_sub(at))
        };
        oldest.iter().map(age).collect()
    }
}

/// The oldest at each distance, from one hop on. A site of which one log came further than another is at both.
fn oldest(
    sites: &BTreeMap<SiteName, Known>,
    away: &BTreeSet<SiteName>,
    logs: &Logs,
) -> Vec<Option<Oldest>> {
    let mut all: Vec<Option<Oldest>> = Vec::new();
    for (site, known) in sites.iter().filter(|(site, _)| !away.contains(*site)) {
        let distances: BTreeSet<u8> = logs.told_hops(site).collect();
        for hops in distances {
            let place = usize::from(hops.saturating_sub(1));
            if all.len() <= place {
                all.resize_with(place.saturating_add(1), || None);
            }
            if let Some(oldest) = all.get_mut(place) {
                note(oldest, site, known.at());
            }
        }
    }
    all
}

fn note(oldest: &mut Option<Oldest>, site: &SiteName, at: Option<Moment>) {
    match oldest {
        Some(oldest) if oldest.at <= at => {
            oldest.next = if oldest.is_alone { at } else { oldest.next.min(at) };
            oldest.is_alone = false;
        }
        _ => {
            let older = oldest.take();
            let (is_alone, next) = (older.is_none(), older.and_then(|older| older.at));
            *oldest = Some(Oldest { site: site.clone(), at, is_alone, next });
        }
    }
}
