//! Gets lacking bodies from peers, and compares this site with each of them now and then.

use std::{collections::BTreeSet, time::Duration};

use bruri_domain::{
    Sha256, SiteName,
    limits::{
        ANSWER_BODIES_BYTES_MAX, COMPARE_ANSWER_SECONDS_MAX, FETCH_AGAIN_SECONDS_MAX,
        FETCH_AGAIN_SECONDS_MIN, FETCHED_BODIES_MAX, PEER_MESSAGE_BYTES_MAX,
    },
};
use bruri_store::{Store, StoreError};
use bruri_wire::proto::replication::v1::{
    self as proto, replication_service_client::ReplicationServiceClient,
};
use bytes::Bytes;
use rand::Rng as _;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::{Status, transport::Channel};

use crate::{
    PeerStatus, Replication,
    compare::{self, Compared, unavailable},
    metrics,
};

const ANSWER: Duration = Duration::from_secs(COMPARE_ANSWER_SECONDS_MAX);
const AGAIN_MIN: Duration = Duration::from_secs(FETCH_AGAIN_SECONDS_MIN);
const AGAIN_MAX: Duration = Duration::from_secs(FETCH_AGAIN_SECONDS_MAX);
/// Each site compares itself with its peers so often, give or take a quarter, so that they do not all at once.
const COMPARE_EVERY: Duration = Duration::from_hours(1);

impl Replication {
    /// Gets bodies that are lacking as soon as that is found out, and again until they are there, and compares this
    /// site with its peers once an hour; until `stop`.
    pub async fn run_repairs(&self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.fetch_on() => {}
            () = self.compare_on() => {}
        }
    }

    async fn fetch_on(&self) {
        let mut again = AGAIN_MIN;
        loop {
            match self.fetch_lacking().await {
                Ok(left) if left > 0 => again = again.saturating_mul(2).min(AGAIN_MAX),
                Ok(_) => again = AGAIN_MAX,
                Err(error) => {
                    tracing::warn!(%error, "cannot look which bodies are lacking");
                    again = AGAIN_MAX;
                }
            }
            if timeout(again, self.inner.store.bodies_lacking()).await.is_ok() {
                again = AGAIN_MIN;
            }
        }
    }

    async fn compare_on(&self) {
        loop {
            let share = rand::rng().random_range(0.75..1.25);
            tokio::time::sleep(COMPARE_EVERY.mul_f64(share)).await;
            for (site, channel) in self.reached() {
                // What came of it was told and counted.
                let _ = self.compare_with(&site, channel).await;
            }
        }
    }

    /// Compares this site with one peer, for as long as it takes to become level, within bounds.
    ///
    /// # Errors
    /// A text for people, where it is not reached or cannot tell.
    pub async fn prove(&self, site: &str) -> Result<Compared, String> {
        let reached = self.reached().into_iter().find(|(reached, _)| reached.as_str() == site);
        let Some((site, channel)) = reached else { return Err("it is not reached".to_owned()) };
        self.compare_with(&site, channel).await
    }

    async fn compare_with(&self, site: &SiteName, channel: Channel) -> Result<Compared, String> {
        let compared = compare::compare(&self.inner.store, channel).await;
        if let Ok(Compared { equal: Some(false), differing, .. }) = &compared {
            for file in differing {
                tracing::error!(peer = %site, file.name = %file, "a file differs from the peer's though both have the same records");
            }
            tracing::error!(peer = %site, files = differing.len(), "this site and the peer do not serve the same");
        }
        let outcome = match &compared {
            Ok(Compared { equal: Some(true), .. }) => "equal",
            Ok(Compared { equal: Some(false), .. }) => "different",
            Ok(Compared { equal: None, .. }) => "moving",
            Err(_) => "failed",
        };
        metrics::compared(outcome);
        compared.map_err(|error| {
            tracing::warn!(peer = %site, %error, "cannot compare this site with a peer");
            error.to_string()
        })
    }

    /// Asks one peer after the other for the bodies that are lacking; returns how many still are.
    ///
    /// # Errors
    /// Where the database does not answer.
    pub async fn fetch_lacking(&self) -> Result<usize, StoreError> {
        let store = &self.inner.store;
        let mut lacking = store.lacking_bodies().await?;
        for (site, channel) in self.reached() {
            if lacking.is_empty() {
                break;
            }
            match fetch(channel, &lacking).await {
                Ok(bodies) => take(store, bodies, &mut lacking).await?,
                Err(status) => tracing::debug!(peer = %site, %status, "no bodies from a peer"),
            }
        }
        Ok(lacking.len())
    }

    /// All other sites that are known: peers, and members that are not reached from here; by its address a peer that was
    /// not reached yet.
    pub fn others(&self) -> BTreeSet<String> {
        let members = self.inner.members.load();
        let members = members.joined().map(|member| member.site.to_string());
        let name = |peer: PeerStatus| peer.site.map_or(peer.address, |site| site.to_string());
        let mut others: BTreeSet<String> =
            members.chain(self.peers().into_iter().map(name)).collect();
        others.remove(self.inner.store.site().as_str());
        others
    }

    /// The peers that are connected, each once.
    fn reached(&self) -> Vec<(SiteName, Channel)> {
        let now = self.inner.began.elapsed();
        let peers = self.peers().into_iter().filter_map(|peer| peer.site);
        let sites: Vec<SiteName> = peers.collect::<BTreeSet<_>>().into_iter().collect();
        let ways = self.engine().links_to(&sites, now);
        let channel =
            |way: crate::engine::AskWay| Some((way.site, self.inner.askers.channel(way.link)?));
        ways.into_iter().filter_map(channel).collect()
    }
}

async fn fetch(channel: Channel, lacking: &BTreeSet<Sha256>) -> Result<Vec<Bytes>, Status> {
    let sha256 = lacking.iter().map(|sha256| sha256.as_bytes().to_vec()).collect();
    let mut client =
        ReplicationServiceClient::new(channel).max_decoding_message_size(PEER_MESSAGE_BYTES_MAX);
    let answer = timeout(ANSWER, client.get_bodies(proto::GetBodiesRequest { sha256 })).await;
    let answer = answer.map_err(|_| Status::deadline_exceeded("no answer"))??;
    Ok(answer.into_inner().bodies.into_iter().map(Bytes::from).collect())
}

/// Takes those that were asked for, by their hashes.
async fn take(
    store: &Store,
    bodies: Vec<Bytes>,
    lacking: &mut BTreeSet<Sha256>,
) -> Result<(), StoreError> {
    for body in bodies {
        if lacking.remove(&Sha256::of(&body)) {
            store.take_body(&body).await?;
        }
    }
    Ok(())
}

/// Answers a peer that lacks bodies.
pub(crate) async fn tell_bodies(
    store: &Store,
    request: proto::GetBodiesRequest,
) -> Result<proto::GetBodiesResponse, Status> {
    let hashes: Option<Vec<Sha256>> =
        request.sha256.iter().map(|hash| Sha256::from_slice(hash)).collect();
    let hashes = hashes.filter(|hashes| hashes.len() <= FETCHED_BODIES_MAX);
    let hashes = hashes.ok_or_else(|| {
        Status::invalid_argument(format!("at most {FETCHED_BODIES_MAX} hashes of 32 bytes"))
    })?;
    let bodies = store.whole_bodies(&hashes, ANSWER_BODIES_BYTES_MAX).await.map_err(unavailable)?;
    Ok(proto::GetBodiesResponse { bodies: bodies.iter().map(|body| body.to_vec()).collect() })
}
