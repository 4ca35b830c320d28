//! How each peer is, for operators and metrics.

use super::{Engine, link::Link};
use crate::status::{PeerState, PeerStatus};

impl Engine {
    /// How each peer is, in the order of the links; the addresses are the caller's.
    pub fn peers(&self) -> Vec<PeerStatus> {
        self.links.iter().map(|link| self.peer(link)).collect()
    }

    fn peer(&self, link: &Link) -> PeerStatus {
        let own = || link.site.iter().flat_map(|site| self.logs.of(site));
        let mut status = PeerStatus {
            site: link.site.clone(),
            release: link.release.clone(),
            last_heard_micros: link.heard_wall_micros,
            clock_offset_micros: link.session().and_then(|session| session.offset_micros),
            ..PeerStatus::default()
        };
        let barred = own().find_map(|state| {
            state.offers.get(&link.id)?.barred.as_ref().map(|(reason, _)| reason.clone())
        });
        status.lag_records = own().fold(0, |sum, state| {
            let offer = state.offers.get(&link.id).map_or(0, |offer| offer.sequence);
            sum.saturating_add(offer.saturating_sub(state.ours.sequence))
        });
        let session = link.session().filter(|session| session.live.greeted);
        status.state = match (session, &link.error, &barred) {
            (Some(_), _, Some(_)) => PeerState::Refused,
            (Some(session), ..) if session.is_behind() || !session.has_told() => {
                PeerState::CatchingUp
            }
            (Some(_), ..) => PeerState::Live,
            (None, Some(error), _) if error.needs_a_person => PeerState::Refused,
            (None, ..) => PeerState::Connecting,
        };
        let error = link.error.as_ref().filter(|_| session.is_none()).map(|e| e.text.clone());
        status.last_error = error.or(barred).unwrap_or_default();
        status
    }
}
