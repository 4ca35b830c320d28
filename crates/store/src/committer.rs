//! Group commit: all the backups that arrived while the last commit ran go in one transaction.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use bruri_domain::{
    Author, Body, Dot, FileId, Stamp,
    limits::{COMMIT_BYTES_MAX, COMMIT_QUEUE_BYTES_MAX, COMMIT_QUEUE_MAX, COMMIT_RECORDS_MAX},
};
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    Store, StoreError,
    bodies::{Packed, pack},
    metrics,
    remembered::Writer,
};

/// A version that a phone or an operator wants to be stored.
#[derive(Clone, Debug)]
pub struct Backup {
    /// The file.
    pub file: FileId,
    /// None for a deletion.
    pub content: Option<Bytes>,
    /// The content is no phone's file, as far as can be told: it is kept and supersedes nothing.
    pub suspect: bool,
    /// Who writes.
    pub author: Author,
}

/// What became of it, once it is durable.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Committed {
    /// What a phone is told.
    pub outcome: Outcome,
    /// The version that now holds the body; none where there was nothing to delete.
    pub dot: Option<Dot>,
}

/// What a phone is told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// The file had no body before.
    Created,
    /// It had another one.
    Replaced,
    /// Every head has this body already: no version was made, the backup is confirmed.
    Confirmed,
    /// It was deleted.
    Removed,
    /// There was nothing to delete.
    NotThere,
}

/// Hands backups to the committer.
#[derive(Clone, Debug)]
pub struct Commits {
    queue: mpsc::Sender<Waiting>,
    /// Bytes that may still join those that wait.
    room: Arc<Semaphore>,
}

/// Works the queue off; run it as a task.
pub struct Committer {
    store: Store,
    queue: mpsc::Receiver<Waiting>,
    /// Taken from the queue, but too large for the last group.
    carried: VecDeque<Waiting>,
    /// Tells the writer of what phones had seen that no more comes.
    closed: DropGuard,
}

/// A backup that waits for its group.
pub(crate) struct Waiting {
    pub(crate) backup: Backup,
    pub(crate) random: [u8; 16],
    pub(crate) stamp: Stamp,
    pub(crate) body: Option<Body>,
    pub(crate) packed: Option<Packed>,
    answer: oneshot::Sender<Result<Committed, StoreError>>,
    /// Given back when it is answered.
    _room: OwnedSemaphorePermit,
}

impl Commits {
    /// Stores a backup, and returns when it is durable. It is stored even if the caller goes away.
    ///
    /// # Errors
    /// [`StoreError::Busy`] where too many wait; [`StoreError::Database`] where it may or may not be
    /// stored, and must not be taken for stored.
    pub async fn commit(&self, store: &Store, mut backup: Backup) -> Result<Committed, StoreError> {
        let (answer, answered) = oneshot::channel();
        let room = self.room_for(&backup)?;
        let content = backup.content.take();
        let body = content.as_deref().map(Body::of);
        let packed = content.as_deref().map(pack).transpose()?;
        let stamp = store.stamp();
        let random = rand::random();
        let waiting = Waiting { backup, random, stamp, body, packed, answer, _room: room };
        self.queue.try_send(waiting).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => StoreError::Busy,
            mpsc::error::TrySendError::Closed(_) => StoreError::Stopping,
        })?;
        answered.await.map_err(|_| StoreError::Stopping)?
    }

    fn room_for(&self, backup: &Backup) -> Result<OwnedSemaphorePermit, StoreError> {
        let bytes = backup.content.as_ref().map_or(0, Bytes::len);
        let bytes = u32::try_from(bytes).map_err(|_| StoreError::Busy)?;
        Arc::clone(&self.room).try_acquire_many_owned(bytes).map_err(|_| StoreError::Busy)
    }
}

impl Committer {
    /// A committer and the way to it.
    pub fn new(store: Store) -> (Commits, Self) {
        let (sender, queue) = mpsc::channel(COMMIT_QUEUE_MAX);
        let room = Arc::new(Semaphore::new(COMMIT_QUEUE_BYTES_MAX));
        let closed = CancellationToken::new().drop_guard();
        let committer = Self { store, queue, carried: VecDeque::new(), closed };
        (Commits { queue: sender, room }, committer)
    }

    /// Who writes what phones had seen; there is one for a store. Whoever notes something else than
    /// commits must have done so when the last [`Commits`] is dropped.
    pub fn writer(&self) -> Writer {
        Writer { store: self.store.clone(), closed: self.closed.token().clone() }
    }

    /// Commits group after group until every [`Commits`] is dropped and the queue is empty.
    pub async fn run(mut self) {
        while let Some(group) = self.next_group().await {
            let started = std::time::Instant::now();
            let count = group.len();
            match self.store.commit_group(&group).await {
                Ok(answers) => {
                    self.store.inner.wakeups.wake();
                    metrics::committed(count, started.elapsed());
                    answer_each(group, answers);
                }
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        backups = count,
                        "a commit failed"
                    );
                    metrics::commit_failed(count);
                    refuse_all(group, error);
                }
            }
        }
    }

    /// The next group: in order of arrival, within the bounds, and each file once, because the second
    /// version of a file must name the number of the first in its context.
    async fn next_group(&mut self) -> Option<Vec<Waiting>> {
        if self.carried.is_empty() {
            self.carried.push_back(self.queue.recv().await?);
        }
        while self.carried.len() < COMMIT_RECORDS_MAX {
            let Ok(waiting) = self.queue.try_recv() else { break };
            self.carried.push_back(waiting);
        }
        let (mut bytes, mut files) = (0_u64, BTreeSet::new());
        let (mut group, mut later) = (Vec::new(), VecDeque::new());
        for waiting in self.carried.drain(..) {
            let size = waiting.body.map_or(0, |body| body.bytes);
            let fits = group.is_empty() || bytes.saturating_add(size) <= COMMIT_BYTES_MAX as u64;
            if files.insert(waiting.backup.file.clone()) && fits {
                bytes = bytes.saturating_add(size);
                group.push(waiting);
            } else {
                later.push_back(waiting);
            }
        }
        self.carried = later;
        Some(group)
    }
}

fn answer_each(group: Vec<Waiting>, answers: Vec<Result<Committed, StoreError>>) {
    for (waiting, answer) in group.into_iter().zip(answers) {
        // A phone that hung up does not hear it.
        let _ = waiting.answer.send(answer);
    }
}

/// The first hears why; the others that the commit failed, since the cause cannot be copied.
fn refuse_all(group: Vec<Waiting>, error: StoreError) {
    let mut cause = Some(error);
    for waiting in group {
        let _ = waiting.answer.send(Err(cause.take().unwrap_or(StoreError::CommitFailed)));
    }
}
