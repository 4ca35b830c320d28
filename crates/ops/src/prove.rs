//! Proof that all sites serve the same, site after site.

use std::{pin::Pin, sync::Arc};

use bruri_wire::proto::site::v1::ProveConvergenceResponse;
use futures_util::{Stream, StreamExt as _, stream};
use tonic::Status;

use crate::Ops;

/// What only the daemon can do for the proof, since it reaches the peers.
#[tonic::async_trait]
pub trait Prover: Send + Sync {
    /// The other sites that are to be compared with, by address where nothing else is known of one.
    fn others(&self) -> Vec<String>;

    /// Looks through all that is stored here, and repairs it.
    async fn prove_ours(&self) -> Result<ProveConvergenceResponse, Status>;

    /// Compares this site with another one, and repairs both.
    async fn prove_other(&self, site: &str) -> ProveConvergenceResponse;
}

pub(crate) type Proofs =
    Pin<Box<dyn Stream<Item = Result<ProveConvergenceResponse, Status>> + Send>>;

/// This site first, then each other one; each is told as soon as it is known.
pub(crate) fn prove(ops: &Ops) -> Proofs {
    let others = ops.about.prover.others().into_iter().map(Some);
    let steps = stream::iter([None].into_iter().chain(others));
    let about = Arc::clone(&ops.about);
    Box::pin(steps.then(move |site| {
        let about = Arc::clone(&about);
        async move {
            match site {
                None => about.prover.prove_ours().await,
                Some(site) => Ok(about.prover.prove_other(&site).await),
            }
        }
    }))
}
