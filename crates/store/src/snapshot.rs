//! Taking a snapshot: states of files that a peer copies, joined with what is here, chunk by chunk.
//!
//! When all have come, each log of files goes on from where the peer had it before the first of them was read; what
//! lies between is filled in later (`filling`).

use std::collections::{BTreeMap, BTreeSet};

use bruri_domain::{
    Cursor, FileId, FileState, LogId, LogKind, Sha256, limits::COMMIT_TRIES_MAX, snapshot::least,
};
use sqlx::PgConnection;

use crate::{
    Store, StoreError,
    bodies::{Packed, pack},
    columns::{self, Row, kind_column, signed},
    copied::{Copied, CopiedHead},
    files::{self, Locked, Locking, file_id},
    logs::LogRow,
    metrics,
    noticed::Noticed,
    partings, progress,
    records::{self, NumberedRecord, Run, VersionColumns, Writing},
    wanted,
};

/// What this site has of a snapshot.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Snapshot {
    /// The last file that came, and how many have come; none where no states are being copied.
    pub copying: Option<(FileId, u64)>,
    /// What is to be filled in, in the order of logs.
    pub gaps: Vec<Gap>,
    /// It ends: what came with it goes.
    pub given_up: bool,
}

/// Records of a log that a snapshot passed over.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Gap {
    /// They begin after it.
    pub filled: Cursor,
    /// The last of them.
    pub floor: Cursor,
}

/// A chunk of a snapshot that was checked.
#[derive(Clone, Debug)]
pub struct IncomingStates {
    /// The file after which it begins.
    pub after: Option<FileId>,
    /// How far the peer had each log of files before it read the first of these states.
    pub vector: Vec<Cursor>,
    /// The states.
    pub copied: Copied,
}

/// A file's head that came, with what is kept of it.
struct Incoming<'a> {
    head: &'a CopiedHead,
    columns: VersionColumns,
}

impl Store {
    /// What this site has of a snapshot.
    ///
    /// # Errors
    /// Where the database does not answer.
    pub async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        let row = sqlx::query!("select after_realm, after_name, files, given_up from snapshot")
            .fetch_optional(self.pool())
            .await?;
        let mut snapshot = Snapshot::default();
        if let Some(row) = row {
            snapshot.given_up = row.given_up;
            if !row.given_up {
                let file = file_id(&row.after_realm, &row.after_name)?;
                snapshot.copying = Some((file, row.files.unsigned_abs()));
            }
        }
        let rows = sqlx::query!(
            r#"select site, epoch, kind, predecessor_epoch, predecessor_sequence,
                      predecessor_chain, filled_sequence as "filled!", filled_chain as "filled_chain!",
                      floor_sequence as "floor!", floor_chain as "floor_chain!"
                 from log where floor_sequence is not null"#,
        )
        .fetch_all(self.pool())
        .await?;
        for row in rows {
            let filled = Cursor::try_from(LogRow {
                site: row.site,
                epoch: row.epoch,
                kind: row.kind,
                predecessor_epoch: row.predecessor_epoch,
                predecessor_sequence: row.predecessor_sequence,
                predecessor_chain: row.predecessor_chain,
                sequence: row.filled,
                chain: row.filled_chain,
            })?;
            let named = Row { table: "log", key: &filled.log.id };
            let sequence = named.number("floor_sequence", row.floor)?;
            let chain = named.chain("floor_chain", &row.floor_chain)?;
            let floor = Cursor { log: filled.log.clone(), sequence, chain };
            snapshot.gaps.push(Gap { filled, floor });
        }
        // The database has epochs with a sign.
        snapshot.gaps.sort_by(|a, b| a.filled.log.id.cmp(&b.filled.log.id));
        Ok(snapshot)
    }

    /// Joins a chunk with what is here, whole or not at all; with the last one the logs go on from where the peer had
    /// them.
    ///
    /// # Errors
    /// [`StoreError::SnapshotMoved`] where the chunk does not begin where the last one ended. Where the states may know
    /// of a branch that gave way [`StoreError::PartingUnheard`], or [`StoreError::StatesIncomplete`] where that is being
    /// dropped here.
    pub async fn take_states(&self, states: &IncomingStates) -> Result<(), StoreError> {
        let bodies = states.copied.bodies.iter();
        let packed = bodies.map(|(hash, content)| Ok((*hash, pack(content)?)));
        let packed: BTreeMap<Sha256, Packed> = packed.collect::<Result<_, StoreError>>()?;
        let mut tries = 1_u32;
        loop {
            match self.try_take_states(states, &packed).await {
                Err(error) if error.is_transient() && tries < COMMIT_TRIES_MAX => {
                    tries = tries.saturating_add(1);
                }
                done => return done,
            }
        }
    }

    async fn try_take_states(
        &self,
        states: &IncomingStates,
        packed: &BTreeMap<Sha256, Packed>,
    ) -> Result<(), StoreError> {
        let mut transaction = self.pool().begin().await?;
        let names: BTreeSet<FileId> =
            states.copied.files.iter().map(|copied| copied.file.clone()).collect();
        let names: Vec<FileId> = names.into_iter().collect();
        let locking = Locking::of(self.key(), &names, &names);
        let mut locked = files::lock(&mut transaction, &locking).await?;
        partings::hold(&mut transaction, &states.copied.partings).await?;
        self.go_on(&mut transaction, states).await?;
        let here = wanted::keep_present(&mut transaction, &states.copied.absent).await?;
        let absent = states.copied.absent.difference(&here).copied().collect();
        let mut noticed = Noticed::default();
        let heads = join(&states.copied, &absent, &mut locked, &mut noticed);
        files::remove(&mut transaction, &locked.blank()).await?;
        let joined: Vec<(FileId, FileState)> =
            locked.states.into_iter().filter_map(|(file, s)| Some((file, s.ok()?))).collect();
        let bodies = named_by(packed, &joined);
        let writing = Writing { runs: &[], bodies: &bodies, states: &joined };
        records::write(&mut transaction, &writing).await?;
        self.write_heads(&mut transaction, heads, &joined).await?;
        noticed.write(&mut transaction, self.inner.clock.now_micros()).await?;
        if states.copied.is_last {
            progress::jump(&mut transaction).await?;
        }
        transaction.commit().await?;
        metrics::conflicts_opened(noticed.opened());
        self.inner.wakeups.wake();
        Ok(())
    }

    /// Moves the snapshot on to the last file of a chunk, and notes the smaller vector.
    async fn go_on(
        &self,
        transaction: &mut PgConnection,
        states: &IncomingStates,
    ) -> Result<(), StoreError> {
        let last = states.copied.files.last().map(|copied| &copied.file);
        // A peer that has no file at all has no state that could lack a record.
        if let Some(last) = last.or(states.after.as_ref()) {
            progress::step(transaction, states, last).await?;
        }
        partings::note_stated(transaction, &states.vector).await?;
        self.note(transaction, states).await
    }

    /// What a snapshot may bring forward: logs of other sites.
    fn others<'a>(&self, vector: &'a [Cursor]) -> impl Iterator<Item = &'a Cursor> {
        let site = self.site().clone();
        vector.iter().filter(move |cursor| cursor.log.id.site != site)
    }

    async fn note(
        &self,
        transaction: &mut PgConnection,
        states: &IncomingStates,
    ) -> Result<(), StoreError> {
        let theirs: Vec<Cursor> = self.others(&states.vector).cloned().collect();
        let noted = if states.after.is_none() {
            theirs
        } else {
            let before = progress::noted(&mut *transaction).await?;
            let least = least(&before, &theirs);
            if least == before {
                return Ok(());
            }
            least
        };
        let sites: Vec<&str> = noted.iter().map(|cursor| cursor.log.id.site.as_str()).collect();
        let epochs: Vec<i64> =
            noted.iter().map(|cursor| columns::epoch_column(cursor.log.id.epoch)).collect();
        let sequences: Vec<i64> = noted.iter().map(|cursor| signed(cursor.sequence)).collect();
        let chains: Vec<&[u8]> = noted.iter().map(|cursor| cursor.chain.0.as_bytes()).collect();
        sqlx::query!(
            "update log set noted_sequence = wanted.sequence, noted_chain = wanted.chain
               from (select known.id, new.sequence, new.chain
                       from log known
                       left join unnest($1::text[], $2::bigint[], $3::bigint[], $4::bytea[])
                                 as new (site, epoch, sequence, chain)
                         on known.site = new.site and known.epoch = new.epoch
                      where known.kind = $5 and not known.is_open
                        and known.floor_sequence is null
                        and known.noted_sequence is distinct from new.sequence) wanted
              where log.id = wanted.id",
            &sites as _,
            &epochs,
            &sequences,
            &chains as _,
            kind_column(LogKind::Files),
        )
        .execute(transaction)
        .await?;
        Ok(())
    }

    /// Writes the records of heads that are not here, but for those of this site's own logs: those come from the
    /// logs themselves.
    async fn write_heads(
        &self,
        transaction: &mut PgConnection,
        heads: Vec<Incoming<'_>>,
        states: &[(FileId, FileState)],
    ) -> Result<(), StoreError> {
        let mut by_log: BTreeMap<LogId, Vec<Incoming<'_>>> = BTreeMap::new();
        for incoming in heads {
            if incoming.head.log.id.site != *self.site() {
                by_log.entry(incoming.head.log.id.clone()).or_default().push(incoming);
            }
        }
        for heads in by_log.into_values() {
            let Some(first) = heads.first() else { continue };
            let log =
                progress::row_of(&mut *transaction, &Cursor::at_beginning(first.head.log.clone()))
                    .await?;
            let mut records: Vec<NumberedRecord> = heads.into_iter().map(numbered).collect();
            records.sort_by_key(|record| record.sequence);
            let records = records::without_present(&mut *transaction, log, records).await?;
            let bodies = BTreeMap::new();
            let runs = [Run::before_end(log, &records)];
            let writing = Writing { runs: &runs, bodies: &bodies, states: &[] };
            records::write(&mut *transaction, &writing).await?;
            wanted::want(&mut *transaction, log, &records, states).await?;
            let Some(last) = records.last() else { continue };
            sqlx::query!(
                "update log set heads_sequence = greatest(heads_sequence, $2) where id = $1",
                log,
                signed(last.sequence),
            )
            .execute(&mut *transaction)
            .await?;
        }
        Ok(())
    }
}

fn numbered(incoming: Incoming<'_>) -> NumberedRecord {
    let CopiedHead { sequence, chain, raw, .. } = incoming.head;
    let version = Some(incoming.columns);
    NumberedRecord { sequence: *sequence, chain: *chain, raw: raw.clone(), version }
}

/// Joins what came with what is here, and tells which of the heads that came stay. A damaged state stays as it is, to
/// be rebuilt from the records when all are here.
fn join<'a>(
    copied: &'a Copied,
    absent: &BTreeSet<Sha256>,
    locked: &mut Locked,
    noticed: &mut Noticed,
) -> Vec<Incoming<'a>> {
    let mut heads = Vec::new();
    for copied in &copied.files {
        let Some(Ok(state)) = locked.states.get_mut(&copied.file) else {
            tracing::error!(file = %copied.file, "a damaged state is not joined with a peer's");
            continue;
        };
        let joined = state.joined(&copied.state);
        noticed.joined(&copied.file, state, &joined);
        *state = joined;
        for (known, head) in copied.state.heads().iter().zip(&copied.heads) {
            if state.heads().contains(known) {
                let pruned = known.body.is_some_and(|body| absent.contains(&body.sha256));
                let (file, stamp_micros) = (copied.file.clone(), known.stamp.micros);
                let columns = VersionColumns { file, stamp_micros, body: known.body, pruned };
                heads.push(Incoming { head, columns });
            }
        }
    }
    heads
}

/// The bodies that a head names.
fn named_by(
    packed: &BTreeMap<Sha256, Packed>,
    states: &[(FileId, FileState)],
) -> BTreeMap<Sha256, Packed> {
    let heads = states.iter().flat_map(|(_, state)| state.heads());
    let named = heads.filter_map(|head| packed.get_key_value(&head.body?.sha256));
    named.map(|(hash, body)| (*hash, body.clone())).collect()
}
