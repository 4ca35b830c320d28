//! The membership as it reaches the connections: who is let in, and whom we dial besides those that the
//! configuration names.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bruri_domain::{
    Member, MemberState, Membership, SiteName,
    limits::{MEMBER_DIAL_SECONDS, MEMBER_LEFT_SECONDS},
};
use tokio::time::Instant;
use tonic::{Request, Status};

use crate::{
    PeerStatus, Replication,
    engine::io::{Input, LinkId},
    tls::PeerConnection,
};

/// For so long configured addresses may turn out to be those of members.
const GRACE: Duration = Duration::from_secs(MEMBER_DIAL_SECONDS);

/// For so long a hub dials a site that does not dial it any more.
const LEFT: Duration = Duration::from_secs(MEMBER_LEFT_SECONDS);

/// The ways to peers, by their links.
pub(crate) struct Ways(Mutex<Vec<Way>>);

/// Which members a site dials. Addresses that the configuration names are tried in any case; the connection is kept to
/// those that are to be dialled.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Dials {
    /// Every one: up to about 50 sites.
    #[default]
    All,
    /// These, which are hubs: the data of all others comes through them.
    Only(BTreeSet<SiteName>),
    /// These, other hubs, and whoever dials this site.
    Hub(BTreeSet<SiteName>),
}

impl Dials {
    /// Whether it is named that a site is dialled.
    pub fn names(&self, site: &SiteName) -> bool {
        match self {
            Self::All => true,
            Self::Only(named) | Self::Hub(named) => named.contains(site),
        }
    }
}

/// The way to a peer.
#[derive(Clone)]
struct Way {
    /// host:port each, tried in this order.
    addresses: Vec<String>,
    /// The member that it leads to; none where the configuration names the address.
    member: Option<SiteName>,
    is_dropped: bool,
    /// When it was last to be gone.
    wanted: Instant,
}

impl Ways {
    pub(crate) fn of_configuration(addresses: &[String]) -> Self {
        let way = |address: &String| Way {
            addresses: vec![address.clone()],
            member: None,
            is_dropped: false,
            wanted: Instant::now(),
        };
        Self(Mutex::new(addresses.iter().map(way).collect()))
    }

    /// Where a link leads.
    pub(crate) fn addresses(&self, link: LinkId) -> Vec<String> {
        let place = usize::try_from(link.0).ok();
        let ways = self.lock();
        place.and_then(|place| ways.get(place)).map(|way| way.addresses.clone()).unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Way>> {
        // Every change leaves a whole list, also one that panics halfway.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Way {
    /// Takes over where a member is now; `false` where it is none any more, or nowhere.
    fn follow(&mut self, member: Option<&Member>) -> bool {
        let joined = member.filter(|known| known.state == MemberState::Joined);
        let Some(known) = joined.filter(|known| !known.addresses.is_empty()) else { return false };
        self.addresses.clone_from(&known.addresses);
        true
    }

    /// Whether a member is reached this way, or may be.
    fn leads_to(&self, member: &Member, status: &PeerStatus) -> bool {
        let same = |address| member.addresses.contains(address);
        !self.is_dropped
            && (status.site.as_ref() == Some(&member.site)
                || self.member.as_ref() == Some(&member.site)
                || self.addresses.iter().any(same))
    }
}

impl Replication {
    /// From now on these are the members: whoever is let in no more is cut off, new ones are dialled.
    pub fn set_members(&self, members: &Membership) {
        if **self.inner.members.load() != *members {
            self.inner.members.store(members.clone().into());
            self.inner.inputs.notify(Input::Members(members.clone()));
            tell_ourselves(members, self.inner.store.site());
        }
        self.dial_members();
    }

    /// Opens the ways to members that no configured address leads to, and closes those that are needed no
    /// more. To be called again now and then, since it shows only later where an address leads.
    pub fn dial_members(&self) {
        let members = self.inner.members.load();
        let statuses = self.engine().peers();
        let dialled = self.dialled();
        let mut ways = self.inner.ways.lock();
        let before = ways.clone();
        self.close_ways(&mut ways, &members, &statuses, &dialled);
        self.open_ways(&mut ways, &members, &statuses, &dialled);
        let is_changed = before.len() != ways.len()
            || before.iter().zip(ways.iter()).any(|(a, b)| a.is_dropped != b.is_dropped);
        drop(ways);
        if is_changed {
            self.inner.inputs.notify(Input::Tick);
        }
    }

    /// Tells whether a site is to be dialled now.
    fn dialled(&self) -> impl Fn(&SiteName) -> bool + use<> {
        let dials = self.inner.dials.clone();
        let consumers = match dials {
            Dials::Hub(_) => self.engine().consumers(),
            Dials::All | Dials::Only(_) => BTreeSet::new(),
        };
        move |site| dials.names(site) || consumers.contains(site)
    }

    fn close_ways(
        &self,
        ways: &mut [Way],
        members: &Membership,
        statuses: &[PeerStatus],
        dialled: &impl Fn(&SiteName) -> bool,
    ) {
        let configured: Vec<SiteName> = ways
            .iter()
            .zip(statuses)
            .filter(|(way, _)| way.member.is_none() && !way.is_dropped)
            .filter_map(|(_, status)| status.site.clone())
            .filter(dialled)
            .collect();
        let now = Instant::now();
        for (place, (way, status)) in ways.iter_mut().zip(statuses).enumerate() {
            if way.is_dropped {
                continue;
            }
            let is_dialled = way.member.as_ref().or(status.site.as_ref()).is_none_or(dialled);
            if is_dialled {
                way.wanted = now;
            }
            let is_left = now.saturating_duration_since(way.wanted) >= LEFT;
            let is_needed = match &way.member {
                None => is_dialled,
                Some(site) if is_left || configured.contains(site) => false,
                Some(site) => way.follow(members.get(site)),
            };
            if !is_needed {
                way.is_dropped = true;
                self.engine().drop_link(LinkId(u32::try_from(place).unwrap_or(u32::MAX)));
            }
        }
    }

    fn open_ways(
        &self,
        ways: &mut Vec<Way>,
        members: &Membership,
        statuses: &[PeerStatus],
        dialled: &impl Fn(&SiteName) -> bool,
    ) {
        let unknown = ways
            .iter()
            .zip(statuses)
            .any(|(way, status)| way.member.is_none() && status.site.is_none());
        if unknown && self.inner.began.elapsed() < GRACE {
            return;
        }
        let ours = self.inner.store.site();
        let others = members.joined().filter(|m| m.site != *ours && !m.addresses.is_empty());
        for member in others.filter(|member| dialled(&member.site)) {
            let leads = |(way, status): (&Way, &PeerStatus)| way.leads_to(member, status);
            if ways.iter().zip(statuses).any(leads) {
                continue;
            }
            tracing::info!(peer = %member.site, addresses = member.addresses.join(", "), "dialling a member");
            let _link = self.engine().add_link();
            ways.push(Way {
                addresses: member.addresses.clone(),
                member: Some(member.site.clone()),
                is_dropped: false,
                wanted: Instant::now(),
            });
        }
    }

    /// Whether there are members besides this site.
    pub fn has_others(&self) -> bool {
        let ours = self.inner.store.site();
        self.inner.members.load().joined().any(|member| member.site != *ours)
    }

    /// How each peer is: those of the configuration in its order, then other members.
    pub fn peers(&self) -> Vec<PeerStatus> {
        let statuses = self.engine().peers();
        let ways = self.inner.ways.lock();
        let shown = statuses.into_iter().zip(ways.iter()).filter(|(_, way)| !way.is_dropped);
        let addressed = |(status, way): (PeerStatus, &Way)| PeerStatus {
            address: way.addresses.first().cloned().unwrap_or_default(),
            // A member is known by name before it was reached.
            site: status.site.or_else(|| way.member.clone()),
            ..status
        };
        shown.map(addressed).collect()
    }

    /// Lets in what comes on a connection whose certificate was proved, of a site that was not retired since.
    pub(crate) fn admit(&self, request: Request<()>) -> Result<Request<()>, Status> {
        let connection = request.extensions().get::<PeerConnection>();
        let peer = connection.ok_or_else(|| Status::unauthenticated("no certificate"))?;
        let admitted = self.inner.members.load().admits(&peer.peer.site);
        // The code by which a peer knows that only a person can mend it.
        admitted.map_err(|error| Status::failed_precondition(error.to_string()))?;
        Ok(request)
    }
}

fn tell_ourselves(members: &Membership, ours: &SiteName) {
    if let Err(error) = members.admits(ours) {
        tracing::error!(%error, "the other sites refuse this one");
    }
}
