//! Snapshots: some states of a peer, then what they passed over.

use bruri_domain::Cursor;
use bruri_replication::{
    engine::io::{Done, Job, Portion},
    snapshot::states,
    store::{Store, perform},
};
use bruri_store::Snapshot;
use rand::Rng as _;

use crate::{
    commands::Sites,
    kit::{Site, key},
};

impl Sites {
    /// The next portion of a snapshot, from any peer that has it.
    pub(crate) async fn take(&mut self, to: usize) -> &'static str {
        let from = (to + self.rng.random_range(1..self.all.len())) % self.all.len();
        let most = self.rng.random_range(1..6);
        let (from, to) = (&self.all[from], &self.all[to]);
        let held = to.memory.snapshot().await.unwrap();
        match held.gaps.first().filter(|_| held.copying.is_none()) {
            Some(gap) => from.fill(to, gap.filled.clone(), most).await,
            None => from.copy(to, &held, most).await,
        }
    }
}

impl Site {
    /// At most so many states.
    async fn copy(&self, to: &Self, held: &Snapshot, most: usize) -> &'static str {
        let after = held.copying.as_ref().map(|(file, _)| file.clone());
        let Ok(mut chunk) = states(&self.real, after.as_ref()).await else {
            return "no states";
        };
        if chunk.files.len() > most {
            chunk.files.truncate(most);
            chunk.is_last = false;
        }
        to.take_both(Portion::States { after, chunk }).await;
        "states"
    }

    /// At most so many records.
    async fn fill(&self, to: &Self, filled: Cursor, most: usize) -> &'static str {
        let theirs = self.real.chain_at(&filled).await.ok().flatten();
        if theirs != Some(filled.chain) || self.end(&filled.log.id) <= filled.sequence {
            return "no records";
        }
        let Some((from, batch)) = self.batch(filled, most).await else { return "no records" };
        to.take_both(Portion::Records { from, batch }).await;
        "fill"
    }

    pub(crate) async fn compare_snapshot(&self, context: &str) {
        let (real, memory) = (self.real.snapshot().await, self.memory.snapshot().await);
        assert_eq!(real.unwrap(), memory.unwrap(), "{context}");
    }

    async fn take_both(&self, portion: Portion) {
        let real = taken(&self.real, portion.clone()).await;
        assert_eq!(real, taken(&self.memory, portion).await);
    }
}

/// What there is of the snapshot after a portion, or that the store refuses it.
async fn taken<S: Store>(store: &S, portion: Portion) -> Option<Snapshot> {
    match perform(Job::Take { portion }, store, &key()).await {
        Done::Taken { result } => result.ok(),
        other => panic!("{other:?}"),
    }
}
