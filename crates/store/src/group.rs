//! One transaction for a group of backups: lock their files, decide what each comes to, number and write.

use std::collections::{BTreeMap, BTreeSet};

use bruri_domain::{
    Author, Chain, Dot, FileId, FileState, LogId, Sha256, Version, limits::COMMIT_TRIES_MAX,
};
use bruri_wire::record::{RawRecord, encode_version};
use sqlx::PgConnection;

use crate::{
    Store, StoreError,
    bodies::Packed,
    columns::signed,
    committer::{Committed, Outcome, Waiting},
    files::{self, States},
    logs::{self, Numbers},
    records::{self, NumberedRecord, VersionColumns, Writing},
};

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
