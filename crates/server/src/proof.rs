//! Proof and repair: what operators ask for, and what is done about damage all the time.

use std::{error::Error, time::Duration};

use bruri_ops::{Prover, status};
use bruri_replication::{Compared, Replication};
use bruri_store::{Mended, Scrubbed, Store, StoreError};
use bruri_wire::proto::site::v1::{
    self as proto, ProveConvergenceResponse, prove_convergence_response::Outcome,
};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::lifecycle::Tasks;

/// Until the scrubber tries again after the database did not answer.
const SCRUB_AGAIN: Duration = Duration::from_mins(1);

/// Looks for damage for ever, and has what is lacking fetched from peers.
pub(crate) fn start(store: &Store, replication: Option<&Replication>, tasks: &Tasks) {
    let (scrubbed, stop) = (store.clone(), tasks.stop());
    tasks.spawn("scrubber", async move {
        scrub(scrubbed, stop).await;
        Ok(())
    });
    if let Some(replication) = replication.cloned() {
        let stop = tasks.stop();
        tasks.spawn("repairs", async move {
            replication.run_repairs(stop).await;
            Ok(())
        });
    }
}

async fn scrub(store: Store, stop: CancellationToken) {
    loop {
        let wait = store.scrub().await.unwrap_or_else(|error| {
            tracing::warn!(error = &error as &dyn Error, "the scrubber goes on later");
            SCRUB_AGAIN
        });
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Proves a site and its peers equal.
pub(crate) struct Proving {
    pub(crate) store: Store,
    pub(crate) replication: Option<Replication>,
}

#[tonic::async_trait]
impl Prover for Proving {
    fn others(&self) -> Vec<String> {
        let Some(replication) = &self.replication else { return Vec::new() };
        replication.others().into_iter().collect()
    }

    async fn prove_ours(&self) -> Result<ProveConvergenceResponse, Status> {
        self.ours().await.map_err(|error| status(&error))
    }

    async fn prove_other(&self, site: &str) -> ProveConvergenceResponse {
        let compared = match &self.replication {
            Some(replication) => replication.prove(site).await,
            None => Err("this site does not replicate".to_owned()),
        };
        let told = match compared {
            Ok(compared) => told(&compared),
            Err(text) => ProveConvergenceResponse { text, ..only(Outcome::Unreached) },
        };
        ProveConvergenceResponse { site: site.to_owned(), ..told }
    }
}

impl Proving {
    async fn ours(&self) -> Result<ProveConvergenceResponse, StoreError> {
        let store = &self.store;
        let Scrubbed { checked, damaged } = store.scrub_all().await?;
        let left = self.fetch().await?;
        let Mended { files, unmended } = store.mend_all(&store.proof().await?.damaged).await?;
        let proof = store.proof().await?;
        let is_whole = left == 0 && unmended.is_empty() && proof.damaged.is_empty();
        let text = if is_whole { "" } else { "not everything could be repaired" };
        Ok(ProveConvergenceResponse {
            site: store.site().to_string(),
            files: proof.digest.files(),
            bodies: checked,
            repaired_files: files.len() as u64,
            repaired_bodies: damaged.saturating_sub(left),
            damaged_bodies: left,
            damaged_files: unmended.iter().map(ToString::to_string).collect(),
            text: text.to_owned(),
            ..only(if is_whole { Outcome::Proved } else { Outcome::Damaged })
        })
    }

    /// Gets damaged bodies from peers as long as that helps; returns how many are left.
    async fn fetch(&self) -> Result<u64, StoreError> {
        let mut left = self.store.damaged_bodies().await?;
        while let Some(replication) = self.replication.as_ref().filter(|_| left > 0) {
            replication.fetch_lacking().await?;
            let now = self.store.damaged_bodies().await?;
            if now >= left {
                break;
            }
            left = now;
        }
        self.store.damaged_bodies().await
    }
}

fn only(outcome: Outcome) -> ProveConvergenceResponse {
    proto::ProveConvergenceResponse { outcome: outcome.into(), ..Default::default() }
}

fn told(compared: &Compared) -> ProveConvergenceResponse {
    let (outcome, text) = match compared.equal {
        Some(true) if compared.damaged_bodies == 0 => (Outcome::Proved, ""),
        Some(true) => (Outcome::Damaged, "it lacks bodies: run `bruri site prove` there"),
        Some(false) => (Outcome::Damaged, "files differ though both have the same records"),
        None => (Outcome::Moving, "the two did not become level in time; try again"),
    };
    ProveConvergenceResponse {
        repaired_files: compared.repaired,
        damaged_bodies: compared.damaged_bodies,
        damaged_files: compared.differing.iter().map(ToString::to_string).collect(),
        text: text.to_owned(),
        ..only(outcome)
    }
}
