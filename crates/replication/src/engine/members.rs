//! The membership: who is not let in, and which ways to peers come and go with it.

use std::collections::BTreeSet;

use bruri_domain::{MemberState, Membership, SiteName};

use super::{
    Engine,
    io::{Dismissal, Effect, LinkError, LinkId},
    link::Link,
};

impl Engine {
    /// From now on these are the members; whoever is let in no more is cut off at once, on both sides.
    pub(super) fn take_members(&mut self, members: Membership) {
        for member in members.all().filter(|member| member.state == MemberState::Retired) {
            self.level.forget(&member.site);
        }
        let before = std::mem::replace(&mut self.members, members);
        // A database that went back may have forgotten that a site was retired.
        let retired = before.all().filter(|member| member.state == MemberState::Retired);
        for member in retired {
            if self.logs.of(&member.site).next().is_none() {
                continue;
            }
            self.know(&member.site);
        }
        let refused: Vec<(LinkId, LinkError)> = self
            .links
            .iter()
            .filter_map(|link| Some((link.id, self.refusal(&link.session()?.site)?)))
            .collect();
        for (link, error) in refused {
            self.lose(link, error);
        }
        let refused: Vec<_> = self
            .supplies
            .all()
            .filter_map(|supply| Some((supply.id, self.refusal(&supply.peer)?)))
            .collect();
        for (supply, error) in refused {
            self.dismiss(supply, Dismissal::Refused(error.text));
        }
    }

    /// Why a site is not let in, if it is not.
    pub(super) fn refusal(&self, site: &SiteName) -> Option<LinkError> {
        let error = self.members.admits(site).err()?;
        Some(LinkError { text: error.to_string(), needs_a_person: true })
    }

    /// Refuses a peer, and says so once.
    pub(super) fn refuse(&mut self, peer: &SiteName, refusal: String) -> Dismissal {
        if self.is_news(peer, &refusal) {
            tracing::warn!(%peer, error = refusal, "refused a peer");
        }
        Dismissal::Refused(refusal)
    }

    /// There is such a site, and something is expected of it.
    pub(super) fn know(&mut self, site: &SiteName) {
        if *site != self.site && !self.is_retired(site) {
            self.level.know(site, self.time.now);
        }
    }

    /// Whether a site is one of which nothing is expected any more.
    pub(super) fn is_retired(&self, site: &SiteName) -> bool {
        self.members.get(site).is_some_and(|member| member.state == MemberState::Retired)
    }

    /// The sites that take logs from here.
    pub fn consumers(&self) -> BTreeSet<SiteName> {
        let greeted = self.supplies.all().filter(|supply| supply.greeted);
        greeted.map(|supply| supply.peer.clone()).collect()
    }

    /// Adds the way to one more peer; returns its number. It is dialled at the next turn.
    pub fn add_link(&mut self) -> LinkId {
        let id = LinkId(u32::try_from(self.links.len()).unwrap_or(u32::MAX));
        self.links.push(Link::new(id, self.time.now));
        id
    }

    /// Goes a way no more. Its number is not given again.
    pub fn drop_link(&mut self, id: LinkId) {
        let error = LinkError { text: "not gone any more".to_owned(), needs_a_person: false };
        let place = usize::try_from(id.0).ok();
        if let Some(link) = place.and_then(|place| self.links.get_mut(place)) {
            link.is_dropped = true;
            self.lose(id, error);
            // Also a connection that is just being made.
            self.effects.push(Effect::Hang(id));
        }
    }
}

#[cfg(test)]
mod tests {
    use bruri_domain::{Cursor, Epoch, Log, LogId, LogKind, Member, Stamp};

    use super::*;
    use crate::engine::{
        Identity,
        io::{Input, Moment, Time},
    };

    #[test]
    fn a_site_whose_retirement_the_database_forgot_is_waited_for_again() {
        let site = |name| SiteName::parse(name).unwrap();
        let id = LogId { site: site("tokyo"), epoch: Epoch(7) };
        let log = Log { id, kind: LogKind::Files, predecessor: None };
        let cursor = Cursor { sequence: 3, ..Cursor::at_beginning(log) };
        let identity =
            Identity { site: site("london"), key_check: [1; 16], release: "0.1.0".to_owned() };
        let mut engine = Engine::new(&identity, (vec![cursor], BTreeSet::new()), 1, 7);
        let mut retired = Membership::default();
        retired.apply(Member {
            random: [1; 16],
            stamp: Stamp { micros: 1, trusted: true },
            site: site("tokyo"),
            state: MemberState::Retired,
            addresses: Vec::new(),
            issues: false,
            operator: "operator".to_owned(),
        });
        let mut needed = |members| {
            engine.handle(Time::default(), Input::Members(members));
            engine.standing(Moment::ZERO, |_| true).needed
        };
        let all = BTreeSet::from([site("tokyo")]);
        assert_eq!(needed(Membership::default()), all);
        assert_eq!(needed(retired), BTreeSet::new());
        assert_eq!(needed(Membership::default()), all);
    }
}
