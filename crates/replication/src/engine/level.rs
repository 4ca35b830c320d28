//! Freshness: until when this site is known to have all that every other site had.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bruri_domain::SiteName;

use super::{
    choice::SILENT,
    io::{LinkId, Moment},
};

/// How fresh this site is, site by site.
///
/// A heartbeat tells what its sender had when it sent it. Once we have all of that, we are level with the sender as of then:
/// at the latest a round trip before the heartbeat came. With the sites behind the sender we are level as of as much earlier
/// as the sender's own level was old.
#[derive(Debug, Default)]
pub(crate) struct Level {
    /// Every other site of which a log is known, and until when we have all it had.
    sites: BTreeMap<SiteName, Known>,
    away: BTreeSet<SiteName>,
}

#[derive(Debug, Default)]
struct Known {
    /// By way of each link.
    at: BTreeMap<LinkId, Moment>,
    since: Moment,
}

impl Known {
    fn at(&self) -> Option<Moment> {
        self.at.values().max().copied()
    }
}

impl Level {
    /// There is such a site.
    pub(crate) fn know(&mut self, site: &SiteName, now: Moment) {
        if !self.sites.contains_key(site) {
            self.sites.insert(site.clone(), Known { at: BTreeMap::new(), since: now });
        }
    }

    /// Nothing is expected of such a site any more.
    pub(crate) fn forget(&mut self, site: &SiteName) {
        self.sites.remove(site);
        self.away.remove(site);
    }

    /// By way of a link we have all that a site had then; none, before we began, says nothing.
    pub(crate) fn reach(&mut self, link: LinkId, site: &SiteName, at: Option<Moment>) {
        if let Some((known, at)) = self.sites.get_mut(site).zip(at) {
            let reached = known.at.entry(link).or_default();
            *reached = at.max(*reached);
            if self.away.contains(site) {
                self.away.remove(site);
            }
        }
    }

    /// Notes which sites are away now: not known to be level with for 2 s.
    pub(crate) fn watch(&mut self, now: Moment) {
        let is_away =
            |known: &Known| now.saturating_sub(known.at().unwrap_or(known.since)) >= SILENT;
        let away = self.sites.iter().filter(|(_, known)| is_away(known));
        self.away = away.map(|(site, _)| site.clone()).collect();
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
        self.oldest(now, None)
    }

    /// How old our knowledge of the sites is, but of those that are away and of `peer`, which knows itself.
    pub(crate) fn age(&self, now: Moment, peer: &SiteName) -> Duration {
        self.oldest(now, Some(peer)).map_or(Duration::MAX, |at| now.saturating_sub(at))
    }

    fn oldest(&self, now: Moment, but: Option<&SiteName>) -> Option<Moment> {
        let counts = |site: &SiteName| Some(site) != but && !self.away.contains(site);
        let mut present = self.sites.iter().filter(|(site, _)| counts(site));
        present.try_fold(now, |oldest, (_, known)| Some(oldest.min(known.at()?)))
    }
}
