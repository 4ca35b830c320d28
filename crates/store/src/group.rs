//! One transaction for a group of backups: lock their files, decide what each comes to, number and write.

use std::collections::{BTreeMap, BTreeSet};

use bruri_domain::{
    Author, Chain, Context, Decision, Dot, FileId, FileState, LogId, LogKind, PhoneKey, Remembered,
    Sha256, Version, Writer, limits::COMMIT_TRIES_MAX,
};
use bruri_wire::record::{RawRecord, encode_version};
use sqlx::PgConnection;

use crate::{
    Store, StoreError,
    bodies::Packed,
    columns::signed,
    committer::{Committed, Outcome, Waiting},
    files::{self, Locked, Locking},
    metrics,
    noticed::Noticed,
    numbers::{Given, Numbers},
    records::{self, NumberedRecord, Run, VersionColumns, Writing},
    remembered::Known,
    unwritten::Mark,
    wanted,
};

/// What is to be done about one backup.
enum Step {
    Answer(Result<Done, StoreError>),
    Write(Box<Draft>),
}

/// What became of a backup, and what its writer has seen by that.
struct Done {
    committed: Committed,
    remembered: Remembered,
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
    /// Commits the group, and tells what became of each backup, in their order.
    pub(crate) async fn commit_group(
        &self,
        group: &[Waiting],
    ) -> Result<Vec<Result<Committed, StoreError>>, StoreError> {
        let mut tries = 1_u32;
        loop {
            match self.try_commit_group(group).await {
                Err(error) if error.is_transient() && tries < COMMIT_TRIES_MAX => {
                    tries = tries.saturating_add(1);
                }
                Err(StoreError::NumberSeen(sequence)) if tries < COMMIT_TRIES_MAX => {
                    tries = tries.saturating_add(1);
                    self.number_was_seen(LogKind::Files, sequence).await?;
                }
                Err(error) => {
                    self.inner.gate.note(&error);
                    return Err(error);
                }
                done => return done,
            }
        }
    }

    async fn try_commit_group(
        &self,
        group: &[Waiting],
    ) -> Result<Vec<Result<Committed, StoreError>>, StoreError> {
        // Before the rows are read: what is not found here by now is found there.
        let unwritten = self.unwritten(group);
        let missing = self.missing(group).await?;
        let mut transaction = self.begin_append().await?;
        let mut locked = self.lock_files(&mut transaction, group).await?;
        locked.known.extend(unwritten);
        for (file, state) in missing {
            locked.states.entry(file).or_insert(state);
        }
        let blank = locked.blank();
        let mut steps: Vec<Step> = group.iter().map(|w| self.decide(w, &mut locked)).collect();
        let written = self.write_drafts(&mut transaction, group, &mut steps).await?;
        confirm(&mut transaction, group, &steps).await?;
        files::remove(&mut transaction, &refused(blank, group, &steps)).await?;
        // What is written here may name numbers of which nothing else tells.
        let told = self.write_told(&mut transaction).await?;
        transaction.commit().await?;
        self.inner.told.written(&told);
        if let Some((given, noticed)) = written {
            self.numbered(given);
            metrics::conflicts_opened(noticed.opened());
        }
        let answers = group.iter().zip(steps).map(|(waiting, step)| match step {
            Step::Answer(answer) => answer.map(|done| self.remember_writer(waiting, done)),
            // Every draft was turned into an answer when it was written.
            Step::Write(_) => Err(StoreError::CommitFailed),
        });
        Ok(answers.collect())
    }

    /// What is remembered of the group's phones and not in the table yet.
    fn unwritten(&self, group: &[Waiting]) -> Known {
        let marks = group.iter().filter_map(mark);
        marks.filter_map(|m| Some((m.file.clone(), self.inner.unwritten.get(&m)?))).collect()
    }

    /// What is known of files that are deleted, for those of which there is no row: the generation of their subject, so
    /// that who hears that there is nothing has seen that much.
    async fn missing(
        &self,
        group: &[Waiting],
    ) -> Result<Vec<(FileId, Result<FileState, StoreError>)>, StoreError> {
        let deleted = group.iter().filter(|waiting| waiting.body.is_none());
        let files: Vec<&FileId> = deleted.map(|waiting| &waiting.backup.file).collect();
        if files.is_empty() {
            return Ok(Vec::new());
        }
        let states = self.blank(&files).await?;
        Ok(files.into_iter().cloned().zip(states).collect())
    }

    async fn lock_files(
        &self,
        transaction: &mut PgConnection,
        group: &[Waiting],
    ) -> Result<Locked, StoreError> {
        // A file is only once in a group.
        let sorted: BTreeMap<&FileId, &Waiting> =
            group.iter().map(|waiting| (&waiting.backup.file, waiting)).collect();
        let files: Vec<FileId> = sorted.keys().copied().cloned().collect();
        let phones: Vec<_> = sorted.values().map(|waiting| phone(waiting)).collect();
        let with_body = sorted.iter().filter(|(_, waiting)| waiting.body.is_some());
        let made: Vec<FileId> = with_body.map(|(file, _)| (*file).clone()).collect();
        let (key, expired_micros) = (self.key(), self.expired_micros());
        let locking = Locking { key, files: &files, phones: &phones, made: &made, expired_micros };
        files::lock(transaction, &locking).await
    }

    /// Decides under the file's lock what a backup comes to.
    fn decide(&self, waiting: &Waiting, locked: &mut Locked) -> Step {
        let file = &waiting.backup.file;
        if waiting.body.is_some() && locked.erased.get(file).is_some_and(|floor| floor.barred) {
            return Step::Answer(Err(StoreError::Barred));
        }
        let state = match locked.states.remove(file).transpose() {
            Ok(state) => state.unwrap_or_default(),
            Err(damaged) => return Step::Answer(Err(damaged)),
        };
        let writer = match waiting.backup.author {
            Author::Phone(_) => Writer::Phone(locked.known.get(file)),
            _ => Writer::Operator,
        };
        let served = state.served();
        let had_body = served.is_some_and(|head| head.body.is_some());
        let answer = |outcome, dot| {
            let remembered = Remembered::served(&state);
            Step::Answer(Ok(Done { committed: Committed { outcome, dot }, remembered }))
        };
        match state.decide(waiting.body.map(|body| body.sha256), writer) {
            Decision::NotThere => answer(Outcome::NotThere, None),
            Decision::Confirmed => answer(Outcome::Confirmed, served.map(|head| head.dot.clone())),
            Decision::Version(context) => {
                let outcome = match waiting.body {
                    None => Outcome::Removed,
                    Some(_) if had_body => Outcome::Replaced,
                    Some(_) => Outcome::Created,
                };
                self.draft(waiting, (state, context), outcome)
            }
        }
    }

    /// Notes what the phone has seen by now, before it hears its answer.
    fn remember_writer(&self, waiting: &Waiting, done: Done) -> Committed {
        if let Some(mark) = mark(waiting) {
            self.remember(mark, done.remembered);
        }
        done.committed
    }

    fn draft(
        &self,
        waiting: &Waiting,
        (state, context): (FileState, Context),
        outcome: Outcome,
    ) -> Step {
        let version = Version {
            random: waiting.random,
            stamp: waiting.stamp,
            file: waiting.backup.file.clone(),
            context,
            body: waiting.body,
            suspect: waiting.backup.suspect,
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
    ) -> Result<Option<(Given, Noticed)>, StoreError> {
        let drafts = steps.iter().filter_map(|step| match step {
            Step::Write(draft) => Some(draft.version.stamp.micros),
            Step::Answer(_) => None,
        });
        let (count, newest) = (drafts.clone().count(), drafts.max());
        let Some(newest_micros) = newest else { return Ok(None) };
        let numbers = self.take_numbers(transaction, LogKind::Files, count, newest_micros).await?;
        let seen = last_seen(steps, &numbers.log.id);
        if seen > numbers.before {
            // A version under it would count as superseded already, and nobody would get it.
            return Err(StoreError::NumberSeen(seen));
        }
        let numbered = Numbered::give(&numbers, steps);
        let bodies = bodies_of(group, &numbered.records);
        let runs = [Run::at_end(numbers.log.row, &numbered.records)];
        let writing = Writing { runs: &runs, bodies: &bodies, states: &numbered.states };
        records::write(transaction, &writing).await?;
        numbered.noticed.write(transaction, self.inner.clock.now_micros()).await?;
        let given = numbers.given(LogKind::Files, numbered.sequence, numbered.chain);
        Ok(Some((given, numbered.noticed)))
    }
}

/// The last sequence of a log that is seen in what is known of the drafts' files, or by their writers.
fn last_seen(steps: &[Step], log: &LogId) -> u64 {
    let of = |step: &Step| match step {
        Step::Write(draft) => {
            draft.state.context().last_of(log).max(draft.version.context.last_of(log))
        }
        Step::Answer(_) => 0,
    };
    steps.iter().map(of).max().unwrap_or(0)
}

/// The blank rows among these of which no version was written.
fn refused(blank: Vec<FileId>, group: &[Waiting], steps: &[Step]) -> Vec<FileId> {
    let is_written = |file: &FileId| {
        let mut written = group.iter().zip(steps).filter(
            |(_, step)| matches!(step, Step::Answer(Ok(done)) if done.committed.dot.is_some()),
        );
        written.any(|(waiting, _)| waiting.backup.file == *file)
    };
    blank.into_iter().filter(|file| !is_written(file)).collect()
}

/// Who writes, where it is a phone.
fn phone(waiting: &Waiting) -> Option<PhoneKey> {
    match &waiting.backup.author {
        Author::Phone(phone) => Some(phone.into()),
        _ => None,
    }
}

fn mark(waiting: &Waiting) -> Option<Mark> {
    phone(waiting).map(|phone| Mark { file: waiting.backup.file.clone(), phone })
}

/// What a group writes, in the order of its numbers.
struct Numbered {
    records: Vec<NumberedRecord>,
    states: Vec<(FileId, FileState)>,
    noticed: Noticed,
    /// The last number, and the chain there.
    sequence: u64,
    chain: Chain,
}

impl Numbered {
    /// Gives the drafts their numbers and turns each into its answer.
    fn give(numbers: &Numbers, steps: &mut [Step]) -> Self {
        let (records, states, noticed) = (Vec::new(), Vec::new(), Noticed::default());
        let (sequence, chain) = (numbers.before, numbers.chain);
        let mut numbered = Self { records, states, noticed, sequence, chain };
        for step in steps {
            let answered = Step::Answer(Err(StoreError::CommitFailed));
            match std::mem::replace(step, answered) {
                Step::Write(draft) => {
                    numbered.sequence = numbered.sequence.saturating_add(1);
                    let dot = Dot { log: numbers.log.id.clone(), sequence: numbered.sequence };
                    let committed = Committed { outcome: draft.outcome, dot: Some(dot.clone()) };
                    let remembered = Remembered::accepted(&draft.state, &dot, &draft.version);
                    numbered.add(&dot, *draft);
                    *step = Step::Answer(Ok(Done { committed, remembered }));
                }
                answer @ Step::Answer(_) => *step = answer,
            }
        }
        numbered
    }

    fn add(&mut self, dot: &Dot, draft: Draft) {
        let Draft { mut state, version, generation, raw, .. } = draft;
        self.noticed.apply(&mut state, dot, (generation, &version));
        self.chain = self.chain.next(&raw.envelope);
        let columns = VersionColumns {
            file: version.file.clone(),
            stamp_micros: version.stamp.micros,
            body: version.body,
            pruned: false,
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
            matches!(step, Step::Answer(Ok(done)) if done.committed.outcome == Outcome::Confirmed)
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
    let wanted = sqlx::query_scalar!(
        r#"update file set confirmed_micros = new.micros
           from unnest($1::text[], $2::text[], $3::bigint[]) as new (realm, name, micros)
          where file.realm = new.realm and file.name = new.name
      returning (select w.sha256 from wanted_body w where w.sha256 = file.served_body limit 1)"#,
        &realms as _,
        &names as _,
        &times,
    )
    .fetch_all(&mut *transaction)
    .await?;
    let wanted: Vec<Vec<u8>> = wanted.into_iter().flatten().collect();
    fill_wanted(transaction, &confirmed, &wanted).await
}

/// A phone is told 2xx only for bytes that are durable: where the confirmed body was wanted here, it comes
/// from this phone.
async fn fill_wanted(
    transaction: &mut PgConnection,
    confirmed: &[&Waiting],
    wanted: &[Vec<u8>],
) -> Result<(), StoreError> {
    if wanted.is_empty() {
        return Ok(());
    }
    let wanted: Vec<&[u8]> = wanted.iter().map(Vec::as_slice).collect();
    let packed = confirmed.iter().filter_map(|w| Some((w.body?.sha256, w.packed.clone()?)));
    let packed = packed.filter(|(hash, _)| wanted.contains(&hash.as_bytes())).collect();
    wanted::fill(transaction, &wanted, &packed).await
}
