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
        self.members = members;
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
