//! Group commit: all the backups that arrived while the last commit ran go in one transaction.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use bruri_domain::{
    Author, Body, Chain, Dot, FileId, FileState, LogId, Sha256, Stamp, Version,
    limits::{
        COMMIT_BYTES_MAX, COMMIT_QUEUE_BYTES_MAX, COMMIT_QUEUE_MAX, COMMIT_RECORDS_MAX,
        COMMIT_TRIES_MAX,
    },
};
use bruri_wire::record::{RawRecord, encode_version};
use bytes::Bytes;
use sqlx::PgConnection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::{
    Store, StoreError,
    bodies::{Packed, pack},
    columns::signed,
    files::{self, States},
    logs::{self, Numbers},
    metrics,
    records::{self, NumberedRecord, VersionColumns, Writing},
};

/// A version that a phone or an operator wants to be stored.
#[derive(Clone, Debug)]
pub struct Backup {
    /// The file.
    pub file: FileId,
    /// None for a deletion.
    pub content: Option<Bytes>,
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
}

struct Waiting {
    backup: Backup,
    random: [u8; 16],
    stamp: Stamp,
    body: Option<Body>,
    packed: Option<Packed>,
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
        let micros = store.inner.issuer.issue(store.inner.clock.now_micros());
        let stamp = Stamp { micros, trusted: true };
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
        (Commits { queue: sender, room }, Self { store, queue, carried: VecDeque::new() })
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

/// What is to be done about one backup.
enum Step {
    Answer(Result<Committed, StoreError>),
    Write(Box<Draft>),
}

/// A version that only lacks its number.
struct Draft {
    outcome: Outcome,
    state: FileState,
    version: Version,
    generation: u64,
    raw: RawRecord,
}

impl Store {
    async fn commit_group(
        &self,
        group: &[Waiting],
    ) -> Result<Vec<Result<Committed, StoreError>>, StoreError> {
        let mut tries = 1_u32;
        loop {
            match self.try_commit_group(group).await {
                Err(error) if error.is_transient() && tries < COMMIT_TRIES_MAX => {
                    tries = tries.saturating_add(1);
                }
                done => return done,
            }
        }
    }

    async fn try_commit_group(
        &self,
        group: &[Waiting],
    ) -> Result<Vec<Result<Committed, StoreError>>, StoreError> {
        let mut transaction = self.pool().begin().await?;
        let mut states = lock_files(&mut transaction, group).await?;
        let mut steps: Vec<Step> =
            group.iter().map(|w| self.decide(w, states.remove(&w.backup.file))).collect();
        self.write_drafts(&mut transaction, group, &mut steps).await?;
        confirm(&mut transaction, group, &steps).await?;
        transaction.commit().await?;
        let answers = steps.into_iter().map(|step| match step {
            Step::Answer(answer) => answer,
            // Every draft was turned into an answer when it was written.
            Step::Write(_) => Err(StoreError::CommitFailed),
        });
        Ok(answers.collect())
    }

    /// Decides under the file's lock what a backup comes to.
    fn decide(&self, waiting: &Waiting, state: Option<Result<FileState, StoreError>>) -> Step {
        let state = match state.transpose() {
            Ok(state) => state.unwrap_or_default(),
            Err(damaged) => return Step::Answer(Err(damaged)),
        };
        let served = state.served();
        let had_body = served.is_some_and(|head| head.body.is_some());
        let answer = |outcome| {
            Step::Answer(Ok(Committed { outcome, dot: served.map(|head| head.dot.clone()) }))
        };
        match waiting.body {
            None if !had_body => {
                Step::Answer(Ok(Committed { outcome: Outcome::NotThere, dot: None }))
            }
            Some(body) if state.all_heads_are(Some(body.sha256)) => answer(Outcome::Confirmed),
            None => self.draft(waiting, state, Outcome::Removed),
            Some(_) if had_body => self.draft(waiting, state, Outcome::Replaced),
            Some(_) => self.draft(waiting, state, Outcome::Created),
        }
    }

    fn draft(&self, waiting: &Waiting, state: FileState, outcome: Outcome) -> Step {
        let version = Version {
            random: waiting.random,
            stamp: waiting.stamp,
            file: waiting.backup.file.clone(),
            context: state.whole_context(),
            body: waiting.body,
            suspect: false,
            author: waiting.backup.author.clone(),
        };
        let generation = state.generation();
        let raw = encode_version(&version, generation, self.key());
        Step::Write(Box::new(Draft { outcome, state, version, generation, raw }))
    }

    /// Takes the numbers last, so that the counter is locked only while the rows are written.
    async fn write_drafts(
        &self,
        transaction: &mut PgConnection,
        group: &[Waiting],
        steps: &mut [Step],
    ) -> Result<(), StoreError> {
        let drafts = steps.iter().filter_map(|step| match step {
            Step::Write(draft) => Some(draft.version.stamp.micros),
            Step::Answer(_) => None,
        });
        let (count, newest) = (drafts.clone().count(), drafts.max());
        let Some(newest_micros) = newest else { return Ok(()) };
        let log = &self.inner.own.files;
        let numbers = logs::take_numbers(transaction, log, count, newest_micros).await?;
        let numbered = Numbered::give(numbers, &log.id, steps);
        let bodies = bodies_of(group, &numbered.records);
        let writing = Writing {
            log: log.row,
            records: &numbered.records,
            bodies: &bodies,
            states: &numbered.states,
        };
        records::write(transaction, &writing).await
    }
}

async fn lock_files(
    transaction: &mut PgConnection,
    group: &[Waiting],
) -> Result<States, StoreError> {
    let sorted = |only_bodies: bool| -> Vec<FileId> {
        let chosen = group.iter().filter(|w| !only_bodies || w.body.is_some());
        chosen.map(|w| w.backup.file.clone()).collect::<BTreeSet<_>>().into_iter().collect()
    };
    files::lock(transaction, &sorted(false), &sorted(true)).await
}

/// What a group writes, in the order of its numbers.
struct Numbered {
    records: Vec<NumberedRecord>,
    states: Vec<(FileId, FileState)>,
    chain: Chain,
}

impl Numbered {
    /// Gives the drafts their numbers and turns each into its answer.
    fn give(numbers: Numbers, log: &LogId, steps: &mut [Step]) -> Self {
        let (records, states) = (Vec::new(), Vec::new());
        let mut numbered = Self { records, states, chain: numbers.chain };
        let mut sequence = numbers.before;
        for step in steps {
            let answered = Step::Answer(Err(StoreError::CommitFailed));
            match std::mem::replace(step, answered) {
                Step::Write(draft) => {
                    sequence = sequence.saturating_add(1);
                    let dot = Dot { log: log.clone(), sequence };
                    let committed = Committed { outcome: draft.outcome, dot: Some(dot.clone()) };
                    numbered.add(&dot, *draft);
                    *step = Step::Answer(Ok(committed));
                }
                answer @ Step::Answer(_) => *step = answer,
            }
        }
        numbered
    }

    fn add(&mut self, dot: &Dot, draft: Draft) {
        let Draft { mut state, version, generation, raw, .. } = draft;
        state.apply(dot, generation, &version);
        self.chain = self.chain.next(&raw.envelope);
        let columns = VersionColumns {
            file: version.file.clone(),
            stamp_micros: version.stamp.micros,
            body: version.body,
        };
        self.states.push((version.file, state));
        let version = Some(columns);
        self.records.push(NumberedRecord {
            sequence: dot.sequence,
            chain: self.chain,
            raw,
            version,
        });
    }
}

fn bodies_of(group: &[Waiting], records: &[NumberedRecord]) -> BTreeMap<Sha256, Packed> {
    let written: BTreeSet<Sha256> =
        records.iter().filter_map(|r| r.version.as_ref()?.body).map(|body| body.sha256).collect();
    let bodies = group.iter().filter_map(|w| Some((w.body?.sha256, w.packed.clone()?)));
    bodies.filter(|(hash, _)| written.contains(hash)).collect()
}

/// Notes when a phone last sent what is served already; an operator who puts it back says nothing of
/// the phone.
async fn confirm(
    transaction: &mut PgConnection,
    group: &[Waiting],
    steps: &[Step],
) -> Result<(), StoreError> {
    let confirmed: Vec<&Waiting> = group
        .iter()
        .zip(steps)
        .filter(|(_, step)| {
            matches!(step, Step::Answer(Ok(Committed { outcome: Outcome::Confirmed, .. })))
        })
        .map(|(waiting, _)| waiting)
        .filter(|waiting| matches!(waiting.backup.author, Author::Phone(_)))
        .collect();
    if confirmed.is_empty() {
        return Ok(());
    }
    let realms: Vec<&str> = confirmed.iter().map(|w| w.backup.file.realm.as_str()).collect();
    let names: Vec<&str> = confirmed.iter().map(|w| w.backup.file.name.as_str()).collect();
    let times: Vec<i64> = confirmed.iter().map(|w| signed(w.stamp.micros)).collect();
    sqlx::query!(
        "update file set confirmed_micros = new.micros
           from unnest($1::text[], $2::text[], $3::bigint[]) as new (realm, name, micros)
          where file.realm = new.realm and file.name = new.name",
        &realms as _,
        &names as _,
        &times,
    )
    .execute(transaction)
    .await?;
    Ok(())
}
