//! What a read is told: how fresh this site is, and whom to ask where that is not enough.

use std::collections::{BTreeMap, BTreeSet};

use bruri_domain::{
    SiteName,
    limits::{ASK_FORWARDS_MAX, ASK_HUBS_MAX},
};

use super::{
    Engine,
    consume::session_of,
    io::{LinkId, Moment},
    link::Link,
};

/// How this site stands to the others.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Standing {
    /// Until when it has all that every site had which is not away; none where it does not know.
    pub until: Option<Moment>,
    /// Sites that are away: nobody asks them or waits for them.
    pub away: usize,
    /// Sites that must be asked to know all that they have now.
    pub needed: BTreeSet<SiteName>,
    /// Peers that may be there and were never reached: nobody knows what they have.
    pub strangers: usize,
    /// By way of whom the needed sites are asked.
    pub ways: Vec<AskWay>,
    /// Not all states are here: what is not known here may be anywhere.
    pub is_copying: bool,
}

/// A peer that is asked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AskWay {
    /// The connection.
    pub link: LinkId,
    /// Who is there.
    pub site: SiteName,
    /// Sites that this one does not reach and the peer is to ask.
    pub forward: Vec<SiteName>,
}

impl Engine {
    /// Until when this site has all that every site had which is not away; none where it has not found out
    /// since it began.
    pub fn fresh_until(&mut self) -> Option<Moment> {
        self.note_levels();
        self.level.at(self.time.now)
    }

    /// Notes of which sites behind peers we have all.
    pub(super) fn note_levels(&mut self) {
        let Self { links, logs, level, .. } = self;
        for link in links {
            let id = link.id;
            if let Some(session) = link.session_mut() {
                session.note_level(id, logs, level);
            }
        }
    }

    /// The same of those behind one peer.
    pub(super) fn note_level(&mut self, id: LinkId) {
        let Self { links, logs, level, .. } = self;
        if let Some(session) = session_of(links, id) {
            session.note_level(id, logs, level);
        }
    }

    /// The sites that are away: not known for 2 s to have nothing that is not here.
    pub fn away(&self) -> &BTreeSet<SiteName> {
        self.level.away()
    }

    /// How fresh this site is now, without whom to ask: every read wants to know.
    pub fn freshness(&mut self, now: Moment) -> Standing {
        self.note_levels();
        let (until, away) = (self.level.at(now), self.level.away().len());
        let mut standing = Standing { until, away, ..Standing::default() };
        if self.snapshots.is_copying() {
            (standing.until, standing.is_copying) = (None, true);
        }
        for link in &self.links {
            self.count_unheard(link, now, &mut standing);
        }
        standing
    }

    /// How this site stands now, given which connections may be used to ask.
    pub fn standing(&mut self, now: Moment, usable: impl Fn(LinkId) -> bool) -> Standing {
        let mut standing = self.freshness(now);
        standing.needed.extend(self.level.present().cloned());
        if standing.is_copying {
            // None of those that can be asked is level with: that does not make them away.
            let there = self.links.iter().filter(|link| link.can_be_asked(now));
            standing.needed.extend(there.filter_map(|link| link.site.clone()));
        }
        standing.ways = self.ways_to(&standing.needed, now, usable);
        standing
    }

    /// A peer that was not heard since we began is in no heartbeat's claim.
    fn count_unheard(&self, link: &Link, now: Moment, standing: &mut Standing) {
        let known =
            |site: &SiteName| *site == self.site || self.level.knows(site) || self.is_retired(site);
        match &link.site {
            Some(site) if known(site) => {}
            _ if link.is_gone(now) => standing.away = standing.away.saturating_add(1),
            Some(site) => {
                standing.needed.insert(site.clone());
                standing.until = None;
            }
            None => {
                standing.strangers = standing.strangers.saturating_add(1);
                standing.until = None;
            }
        }
    }

    /// Each needed site directly, or, where they are not too many, through up to two peers that do not take it for away.
    fn ways_to(
        &self,
        needed: &BTreeSet<SiteName>,
        now: Moment,
        usable: impl Fn(LinkId) -> bool,
    ) -> Vec<AskWay> {
        let usable = |link: &&Link| link.can_be_asked(now) && usable(link.id);
        let mut direct: BTreeMap<&SiteName, &Link> = BTreeMap::new();
        for link in self.links.iter().filter(usable) {
            if let Some(site) = link.site.as_ref().filter(|site| needed.contains(*site)) {
                direct.entry(site).or_insert(link);
            }
        }
        let mut ways: Vec<AskWay> = direct
            .iter()
            .map(|(site, link)| AskWay {
                link: link.id,
                site: (*site).clone(),
                forward: Vec::new(),
            })
            .collect();
        let behind: Vec<&SiteName> = needed.iter().filter(|s| !direct.contains_key(s)).collect();
        if behind.len() > ASK_FORWARDS_MAX {
            return ways;
        }
        for site in behind {
            let knows = |way: &AskWay| direct.get(&way.site)?.session()?.knows(site);
            let mut hubs: Vec<(bool, &mut AskWay)> =
                ways.iter_mut().filter_map(|way| Some((knows(way)?, way))).collect();
            // Those that have its logs first.
            hubs.sort_by_key(|(knows, _)| !knows);
            for (_, way) in hubs.into_iter().take(ASK_HUBS_MAX) {
                way.forward.push(site.clone());
            }
        }
        ways
    }

    /// The connections to these sites over which they may be asked.
    pub fn links_to(&self, sites: &[SiteName], now: Moment) -> Vec<AskWay> {
        let needed = sites.iter().filter(|site| **site != self.site).cloned().collect();
        let ways = self.ways_to(&needed, now, |_| true).into_iter();
        ways.map(|way| AskWay { forward: Vec::new(), ..way }).collect()
    }
}
