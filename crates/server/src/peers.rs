//! What the reads of phones see of replication.

use std::{pin::Pin, time::Duration};

use bruri_domain::{FileId, FileState};
use bruri_edge::{Peers, Standing, Told};
use bruri_replication::Replication;

/// The peers of a site that replicates.
pub(crate) struct Replicating(pub(crate) Replication);

impl Peers for Replicating {
    fn read(&self) -> Standing {
        let (until, away) = self.0.read();
        Standing { until, away }
    }

    fn ask<'a>(
        &'a self,
        file: &'a FileId,
        known: &'a FileState,
        within: Duration,
    ) -> Pin<Box<dyn Future<Output = Told> + Send + 'a>> {
        Box::pin(async move {
            let told = self.0.ask(file, known, within).await;
            Told {
                state: told.state.clone(),
                bodies: told.bodies.clone(),
                is_complete: told.is_complete,
                via_hub: told.via_hub,
                away: told.away,
                is_in_the_dark: told.is_in_the_dark,
            }
        })
    }
}
