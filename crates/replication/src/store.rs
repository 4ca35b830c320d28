//! What replication needs of a store, and how the engine's jobs are done by one.

use std::collections::{BTreeMap, BTreeSet};

use bruri_domain::{Chain, Cursor, DeploymentKey, Dot, FileId, LogId, Sha256, SiteName};
use bruri_store::{ApplyError, Copied, IncomingBatch, IncomingStates, Page, Snapshot, StoreError};
use bruri_wire::proto::replication::v1 as proto;

use crate::{
    batch,
    engine::io::{Done, Failure, Job, Portion, Theirs, Unapplied},
    snapshot,
};

/// A site's logs. Implemented by Postgres here and by a simulation's memory elsewhere; the two are held equal by a
/// property test.
pub trait Store: Send + Sync {
    /// How far this site has applied each log it knows, its own included.
    fn vector(&self) -> impl Future<Output = Result<Vec<Cursor>, StoreError>> + Send;

    /// The records of a log after a sequence, within the bounds of a page.
    fn records_after(
        &self,
        log: &LogId,
        sequence: u64,
    ) -> impl Future<Output = Result<Page, StoreError>> + Send;

    /// The chain of a log at a sequence; `None` where it is not so long here.
    fn chain_at(
        &self,
        cursor: &Cursor,
    ) -> impl Future<Output = Result<Option<Chain>, StoreError>> + Send;

    /// Hears what a peer has of this site's own logs. Where that is more than the store holds of an open one, or
    /// other records, a new epoch is opened. Returns the closed ones of which the peer's branch stays.
    fn peer_has(
        &self,
        theirs: &[Cursor],
    ) -> impl Future<Output = Result<Vec<LogId>, StoreError>> + Send;

    /// Hears with which numbers of this site's logs a peer answered phones, though it has no records of them. Where one
    /// has not been given, a new epoch is opened.
    fn peer_was_told(&self, told: &[Dot]) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// A peer has told all that it has of them.
    fn peer_answered(&self);

    /// The same of that site's logs and the phones here.
    fn told(&self, site: &SiteName) -> impl Future<Output = Result<Vec<Dot>, StoreError>> + Send;

    /// Whether this site appends to a log.
    fn appends_to(&self, log: &LogId) -> bool;

    /// The generations of those among these subjects that were erased, as far as is known here.
    fn generations(
        &self,
        subjects: &BTreeSet<Sha256>,
    ) -> impl Future<Output = Result<BTreeMap<Sha256, u64>, StoreError>> + Send;

    /// Applies a batch whole or not at all.
    fn apply(&self, batch: &IncomingBatch) -> impl Future<Output = Result<(), ApplyError>> + Send;

    /// The next files after one, with all that serving them takes.
    fn states_after(
        &self,
        after: Option<&FileId>,
    ) -> impl Future<Output = Result<Copied, StoreError>> + Send;

    /// What this site has of a snapshot.
    fn snapshot(&self) -> impl Future<Output = Result<Snapshot, StoreError>> + Send;

    /// Joins a chunk of a snapshot with what is here, whole or not at all.
    fn take_states(
        &self,
        states: &IncomingStates,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Ends a snapshot that is not filled in: all is as the records say that are here.
    fn give_snapshot_up(&self) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Fills in history that a snapshot passed over, whole or not at all.
    fn fill(&self, batch: &IncomingBatch) -> impl Future<Output = Result<(), ApplyError>> + Send;
}

impl Store for bruri_store::Store {
    async fn vector(&self) -> Result<Vec<Cursor>, StoreError> {
        bruri_store::Store::vector(self).await
    }

    async fn records_after(&self, log: &LogId, sequence: u64) -> Result<Page, StoreError> {
        bruri_store::Store::records_after(self, log, sequence).await
    }

    async fn chain_at(&self, cursor: &Cursor) -> Result<Option<Chain>, StoreError> {
        bruri_store::Store::chain_at(self, cursor).await
    }

    async fn peer_has(&self, theirs: &[Cursor]) -> Result<Vec<LogId>, StoreError> {
        bruri_store::Store::peer_has(self, theirs).await
    }

    async fn peer_was_told(&self, told: &[Dot]) -> Result<(), StoreError> {
        bruri_store::Store::peer_was_told(self, told).await
    }

    async fn told(&self, site: &SiteName) -> Result<Vec<Dot>, StoreError> {
        bruri_store::Store::told(self, site).await
    }

    fn peer_answered(&self) {
        bruri_store::Store::peer_answered(self);
    }

    fn appends_to(&self, log: &LogId) -> bool {
        bruri_store::Store::appends_to(self, log)
    }

    async fn generations(
        &self,
        subjects: &BTreeSet<Sha256>,
    ) -> Result<BTreeMap<Sha256, u64>, StoreError> {
        bruri_store::Store::generations(self, subjects).await
    }

    async fn apply(&self, batch: &IncomingBatch) -> Result<(), ApplyError> {
        bruri_store::Store::apply(self, batch).await
    }

    async fn states_after(&self, after: Option<&FileId>) -> Result<Copied, StoreError> {
        bruri_store::Store::states_after(self, after).await
    }

    async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        bruri_store::Store::snapshot(self).await
    }

    async fn take_states(&self, states: &IncomingStates) -> Result<(), StoreError> {
        bruri_store::Store::take_states(self, states).await
    }

    async fn give_snapshot_up(&self) -> Result<(), StoreError> {
        bruri_store::Store::give_snapshot_up(self).await
    }

    async fn fill(&self, batch: &IncomingBatch) -> Result<(), ApplyError> {
        bruri_store::Store::fill(self, batch).await
    }
}

/// Does one job and tells the engine what came of it.
pub async fn perform<S: Store>(job: Job, store: &S, key: &DeploymentKey) -> Done {
    match job {
        Job::ReadVector { number } => {
            let result = store.vector().await.map_err(|error| failure(&error));
            Done::Vector { number, result: result.map(|vector| with_open(store, vector)) }
        }
        Job::ReadPage { supply, log, after } => {
            let result = read_page(store, &log, after).await;
            Done::Page { supply, log, after, result }
        }
        Job::ReadChain { supply, wanted } => {
            let result = store.chain_at(&wanted).await.map_err(|error| failure(&error));
            Done::Chain { supply, wanted, result }
        }
        Job::HearOwn { link, theirs } => {
            let result = hear(store, &theirs).await.map_err(|error| failure(&error));
            Done::OwnHeard { link, theirs, result }
        }
        Job::ReadTold { supply, site } => {
            let told = store.told(&site).await.map_err(|error| failure(&error));
            Done::Told { supply, told }
        }
        Job::JudgeOwn { supply, wanted, chain } => {
            let forked = store
                .peer_has(std::slice::from_ref(&wanted))
                .await
                .map_err(|error| failure(&error));
            let result = forked.map(|logs| logs.contains(&wanted.log.id));
            Done::OwnJudged { supply, wanted, chain, result }
        }
        Job::ReadParted { link, theirs } => {
            let result = store.chain_at(&theirs).await.map_err(|error| failure(&error));
            Done::Parted { link, theirs, result }
        }
        Job::Apply { from, batch, .. } => {
            let result = apply(store, &from, batch, key).await;
            Done::Applied { from, result }
        }
        Job::GiveSnapshotUp => {
            let given_up = store.give_snapshot_up().await;
            let result = match given_up {
                Ok(()) => store.snapshot().await,
                Err(error) => Err(error),
            };
            Done::Snapshot { result: result.map_err(|error| failure(&error)) }
        }
        Job::ReadSnapshot => {
            Done::Snapshot { result: store.snapshot().await.map_err(|error| failure(&error)) }
        }
        Job::Take { portion } => Done::Taken { result: take(store, portion, key).await },
    }
}

/// The records after a sequence, of which there is at least one.
pub(crate) async fn read_page<S: Store>(
    store: &S,
    log: &LogId,
    after: u64,
) -> Result<Page, Failure> {
    let page = store.records_after(log, after).await.map_err(|error| failure(&error))?;
    if page.chains.is_empty() {
        // The counter is ahead of the records.
        let text = format!("log {log} has no record after {after}");
        return Err(Failure { text, damaged: true, below_floor: false });
    }
    Ok(page)
}

/// A vector, and which of its logs the site appends to.
pub fn with_open<S: Store>(store: &S, vector: Vec<Cursor>) -> (Vec<Cursor>, BTreeSet<LogId>) {
    let ids = vector.iter().map(|cursor| &cursor.log.id);
    let open = ids.filter(|log| store.appends_to(log)).cloned().collect();
    (vector, open)
}

async fn hear<S: Store>(store: &S, theirs: &Theirs) -> Result<Vec<LogId>, StoreError> {
    store.peer_was_told(&theirs.told).await?;
    let forked = store.peer_has(&theirs.cursors).await?;
    if theirs.is_all {
        store.peer_answered();
    }
    Ok(forked)
}

async fn apply<S: Store>(
    store: &S,
    from: &Cursor,
    batch: proto::Batch,
    key: &DeploymentKey,
) -> Result<Cursor, Unapplied> {
    let batch = checked(store, from, batch, key).await?;
    store.apply(&batch).await.map_err(unapplied)?;
    Ok(batch.to)
}

/// A batch of which everything is believed.
pub(crate) async fn checked<S: Store>(
    store: &S,
    from: &Cursor,
    batch: proto::Batch,
    key: &DeploymentKey,
) -> Result<IncomingBatch, Unapplied> {
    let batch =
        batch::check(batch, from, key).map_err(|error| Unapplied::Invalid(error.to_string()))?;
    let subjects = batch::subjects_without_payload(&batch);
    if !subjects.is_empty() {
        let known = store.generations(&subjects).await;
        let known = known.map_err(|error| Unapplied::Store(failure(&error)))?;
        if let Some(error) = batch::unerased(&batch, &known) {
            return Err(Unapplied::Unerased(error.to_string()));
        }
    }
    Ok(batch)
}

pub(crate) fn unapplied(error: ApplyError) -> Unapplied {
    match error {
        ApplyError::CursorMoved(_) => Unapplied::CursorMoved,
        ApplyError::VoidBranch(_) => Unapplied::Invalid(error.to_string()),
        ApplyError::Store(error) => Unapplied::Store(failure(&error)),
    }
}

/// Takes a portion of a snapshot in, and tells what there is of it now.
async fn take<S: Store>(
    store: &S,
    portion: Portion,
    key: &DeploymentKey,
) -> Result<Snapshot, Unapplied> {
    match portion {
        Portion::States { after, chunk } => {
            let states = snapshot::check(chunk, after, key)
                .map_err(|error| Unapplied::Invalid(error.to_string()))?;
            match store.take_states(&states).await {
                Ok(()) => {}
                Err(StoreError::SnapshotMoved) => return Err(Unapplied::CursorMoved),
                Err(error @ StoreError::PartingUnheard(_)) => {
                    return Err(Unapplied::Invalid(error.to_string()));
                }
                Err(error) => return Err(Unapplied::Store(failure(&error))),
            }
        }
        Portion::Records { from, batch } => {
            let batch = checked(store, &from, batch, key).await?;
            store.fill(&batch).await.map_err(unapplied)?;
        }
    }
    store.snapshot().await.map_err(|error| Unapplied::Store(failure(&error)))
}

fn failure(error: &StoreError) -> Failure {
    let damaged = matches!(error, StoreError::Corrupt { .. });
    let below_floor = matches!(error, StoreError::BelowFloor(_));
    let mut text = error.to_string();
    if let Some(source) = std::error::Error::source(error) {
        text = format!("{text}: {source}");
    }
    Failure { text, damaged, below_floor }
}
