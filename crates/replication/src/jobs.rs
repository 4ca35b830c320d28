//! Jobs of the store that cost less together: a page that several consumers want is read once, and batches of several
//! logs that wait are applied in one transaction.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use bruri_domain::{
    Cursor, LogId, LogKind,
    limits::{APPLY_BYTES_MAX, APPLY_GROUPS_MAX},
};
use bruri_store::{IncomingBatch, Page, Store};
use bruri_wire::proto::replication::v1 as proto;
use bytes::Bytes;
use tokio::sync::{OnceCell, Semaphore, oneshot};

use crate::{
    engine::io::{Done, Failure, Job, Unapplied},
    store::{checked, perform, read_page, unapplied},
};

/// What is under way.
pub(crate) struct Jobs {
    /// By their logs, and the sequences after which they begin.
    pages: Mutex<HashMap<(LogId, u64), Arc<Reading>>>,
    /// Checked, in the order of their arrival.
    batches: Mutex<Vec<Waiting>>,
    groups: Semaphore,
}

type Reading = OnceCell<Result<Page, Failure>>;

struct Waiting {
    batch: IncomingBatch,
    done: oneshot::Sender<Result<Cursor, Unapplied>>,
}

impl Default for Jobs {
    fn default() -> Self {
        let groups = Semaphore::new(APPLY_GROUPS_MAX);
        Self { pages: Mutex::default(), batches: Mutex::default(), groups }
    }
}

impl Jobs {
    /// Does a job, with others where that is cheaper, and tells the engine what came of it.
    pub(crate) async fn perform(&self, job: Job, store: &Store) -> Done {
        match job {
            Job::ReadPage { supply, log, after } => {
                let result = self.page(store, &log, after).await;
                Done::Page { supply, log, after, result }
            }
            Job::Apply { from, batch, .. } => {
                let result = self.apply(store, &from, batch).await;
                Done::Applied { from, result }
            }
            job => perform(job, store, store.key()).await,
        }
    }

    /// A page that is being read already is waited for. It may lack what was appended since, but is not empty.
    async fn page(&self, store: &Store, log: &LogId, after: u64) -> Result<Page, Failure> {
        let place = (log.clone(), after);
        let pages = || self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        let reading = Arc::clone(pages().entry(place.clone()).or_default());
        let page = reading.get_or_init(|| read_page(store, log, after)).await.clone();
        // Whoever comes from now on reads anew.
        let mut pages = pages();
        if pages.get(&place).is_some_and(|known| Arc::ptr_eq(known, &reading)) {
            pages.remove(&place);
        }
        page
    }

    async fn apply(
        &self,
        store: &Store,
        from: &Cursor,
        batch: proto::Batch,
    ) -> Result<Cursor, Unapplied> {
        let batch = checked(store, from, batch, store.key()).await?;
        let (done, result) = oneshot::channel();
        self.batches().push(Waiting { batch, done });
        // Whoever has a turn applies what waits, it may be without this one: then somebody else has it in hand.
        if let Ok(_turn) = self.groups.acquire().await {
            let group = next_group(&mut self.batches());
            apply_group(store, group).await;
        }
        let broke_off = || Failure { text: "broken off".to_owned(), ..Failure::default() };
        result.await.unwrap_or_else(|_| Err(Unapplied::Store(broke_off())))
    }

    fn batches(&self) -> std::sync::MutexGuard<'_, Vec<Waiting>> {
        // Every change is one call, so the list is whole even after a panic.
        self.batches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The first that waits, and those that can be applied with it: none of a control log, of which a record may concern
/// all files, and no more bytes than a transaction should hold.
fn next_group(waiting: &mut Vec<Waiting>) -> Vec<Waiting> {
    let goes_with_others = |waiting: &Waiting| waiting.batch.from.log.kind == LogKind::Files;
    let is_group = waiting.first().is_some_and(goes_with_others);
    let mut bytes = 0_usize;
    let fits = |waiting: &Waiting| {
        bytes = bytes.saturating_add(waiting.batch.bodies.values().map(Bytes::len).sum());
        goes_with_others(waiting) && bytes <= APPLY_BYTES_MAX
    };
    let count =
        if is_group { waiting.iter().map(fits).take_while(|fits| *fits).count() } else { 0 };
    waiting.drain(..count.max(1).min(waiting.len())).collect()
}

async fn apply_group(store: &Store, group: Vec<Waiting>) {
    let (batches, answers): (Vec<_>, Vec<_>) =
        group.into_iter().map(|waiting| (waiting.batch, waiting.done)).unzip();
    let results = store.apply_all(&batches).await;
    for ((batch, answer), result) in batches.into_iter().zip(answers).zip(results) {
        // Nobody waits for it where the site is stopping.
        let _ = answer.send(result.map(|()| batch.to).map_err(unapplied));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use bruri_domain::{Epoch, Log, Sha256, SiteName};

    use super::*;

    /// A batch of the log of that number, with a body of so many bytes.
    fn waiting(number: u64, kind: LogKind, bytes: usize) -> Waiting {
        let id = LogId { site: SiteName::parse("tokyo").unwrap(), epoch: Epoch(number) };
        let from = Cursor::at_beginning(Log { id, kind, predecessor: None });
        let body = Bytes::from(vec![0; bytes]);
        let bodies = BTreeMap::from([(Sha256::of(&body), body)]);
        let (to, absent) = (from.clone(), BTreeSet::new());
        let batch = IncomingBatch { from, to, records: Vec::new(), bodies, absent };
        Waiting { batch, done: oneshot::channel().0 }
    }

    /// The numbers of the logs of each group, until nothing waits.
    fn groups(mut waiting: Vec<Waiting>) -> Vec<Vec<u64>> {
        let mut groups = Vec::new();
        while !waiting.is_empty() {
            let group = next_group(&mut waiting);
            groups.push(group.iter().map(|w| w.batch.from.log.id.epoch.0).collect());
        }
        groups
    }

    #[test]
    fn a_batch_of_a_control_log_is_applied_by_itself_and_in_its_turn() {
        let kinds = [LogKind::Files, LogKind::Files, LogKind::Control, LogKind::Files];
        let all = (1..).zip(kinds).map(|(number, kind)| waiting(number, kind, 10)).collect();
        assert_eq!(groups(all), [vec![1, 2], vec![3], vec![4]]);
    }

    #[test]
    fn a_group_has_no_more_bytes_than_a_transaction_should_hold_unless_one_batch_has_more() {
        let sizes = [APPLY_BYTES_MAX / 2, APPLY_BYTES_MAX / 2, 1, APPLY_BYTES_MAX + 1, 1];
        let all = (1..).zip(sizes).map(|(number, size)| waiting(number, LogKind::Files, size));
        assert_eq!(groups(all.collect()), [vec![1, 2], vec![3], vec![4], vec![5]]);
    }
}
