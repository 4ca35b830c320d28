//! Applying what other releases kept unread: after an upgrade when `brurid` starts, and while several releases work on
//! one database whenever the older one has stored some. The files that such records touch are made anew from all
//! their records.

use std::{collections::BTreeSet, error::Error, time::Duration};

use bruri_domain::{
    Chain, Control, Dot, Envelope, FileId, LogId, RecordKind, Sha256, SiteName, Version,
    limits::{COMMIT_TRIES_MAX, PAGE_RECORDS_MAX, UNREAD_SECONDS},
};
use bruri_wire::{
    control::decode_control,
    record::{RawRecord, decode_envelope, decode_version, kind_number},
};
use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;

use crate::{
    Store, StoreError,
    columns::{Row, epoch, signed},
    control::{Applying, Effects, Place},
    erasures,
    files::{self, Locking},
    rebuild,
    records::{NumberedRecord, VersionColumns},
    wanted,
};

/// A record that can be read now.
struct Read {
    log: i32,
    dot: Dot,
    chain: Chain,
    raw: RawRecord,
    envelope: Envelope,
    says: Says,
}

enum Says {
    Version(Version),
    Control(Control),
}

impl Store {
    /// Tells all sites what this release reads, and applies what others have kept unread, until `stop`.
    pub async fn keep_reading(&self, release: &str, stop: CancellationToken) {
        let pause = Duration::from_secs(UNREAD_SECONDS);
        let mut is_told = false;
        while !stop.is_cancelled() {
            let done = async {
                if !is_told {
                    self.announce(release).await?;
                }
                self.apply_unread().await
            };
            match done.await {
                Ok(_) => is_told = true,
                Err(error) => {
                    let error = &error as &dyn Error;
                    tracing::warn!(error, "what this release reads cannot be told and applied yet");
                }
            }
            // Whether it is over is asked above.
            let _ = stop.run_until_cancelled(tokio::time::sleep(pause)).await;
        }
    }

    /// Applies the records that were kept unread and that this release can read, as if they had just come; returns
    /// how many. Those of control logs go first. One that turns out to be damaged stays as it is.
    pub async fn apply_unread(&self) -> Result<u64, StoreError> {
        let (mut applied, mut after) = (0_u64, (0, 0, 0));
        loop {
            let mut tries = 1_u32;
            let page = loop {
                match self.apply_page(after).await {
                    Err(error) if error.is_transient() && tries < COMMIT_TRIES_MAX => {
                        tries = tries.saturating_add(1);
                    }
                    done => break done?,
                }
            };
            applied = applied.saturating_add(page.applied);
            match page.last {
                Some(last) => after = last,
                None => break,
            }
        }
        if applied > 0 {
            tracing::info!(
                records = applied,
                "applied records that an earlier release kept unread"
            );
            self.inner.wakeups.wake();
        }
        Ok(applied)
    }

    async fn apply_page(&self, after: (i16, i32, i64)) -> Result<Page, StoreError> {
        let mut transaction = self.pool().begin().await?;
        // It may hold erasures; and nobody makes a row of a file meanwhile.
        erasures::begin(&mut transaction).await?;
        let (mut last, mut read) = (None, Vec::new());
        for found in due(&mut transaction, after).await? {
            last = Some((found.kind, found.log, found.sequence));
            match self.read(found) {
                Ok(record) => read.push(record),
                Err(error) => tracing::error!(%error, "a record that was kept unread is damaged"),
            }
        }
        if last.is_none() {
            return Ok(Page { last, applied: 0 });
        }
        let effects = self.apply_read(&mut transaction, &read).await?;
        forget(&mut transaction, &read).await?;
        transaction.commit().await?;
        self.take_effect(effects);
        Ok(Page { last, applied: read.len() as u64 })
    }

    fn read(&self, found: Found) -> Result<Read, StoreError> {
        let dot = found.dot()?;
        let row = Row { table: "record", key: &dot };
        let payload = found.payload.as_ref().ok_or_else(|| row.corrupt("payload"))?;
        let envelope = decode_envelope(&found.envelope).map_err(|_| row.corrupt("envelope"))?;
        if Sha256::of(payload) != envelope.payload {
            return Err(row.corrupt("payload"));
        }
        let says = if envelope.kind.is_version() {
            let version = decode_version(payload).map_err(|_| row.corrupt("payload"))?;
            if envelope.subject != Some(self.key().subject_hash(version.file.subject())) {
                return Err(row.corrupt("envelope"));
            }
            Says::Version(version)
        } else {
            let control = decode_control(&envelope, payload).map_err(|_| row.corrupt("payload"))?;
            Says::Control(control.ok_or_else(|| row.corrupt("envelope"))?)
        };
        let (log, chain) = (found.log, row.chain("chain", &found.chain)?);
        let payload = found.payload.map(Into::into);
        let raw = RawRecord { envelope: found.envelope.into(), payload };
        Ok(Read { log, dot, chain, raw, envelope, says })
    }

    async fn apply_read(
        &self,
        transaction: &mut PgConnection,
        read: &[Read],
    ) -> Result<Effects, StoreError> {
        let mut effects = Effects::default();
        let mut files = BTreeSet::new();
        for record in read {
            match &record.says {
                Says::Version(version) => {
                    files.insert(version.file.clone());
                }
                Says::Control(control) => {
                    let place = Place { log: record.log, dot: &record.dot };
                    let at = Applying { store: self, place };
                    if record.dot.log.site == *self.site() {
                        at.apply_raw(&mut *transaction, &record.raw, &mut effects).await?;
                    } else {
                        let said = (&record.envelope, control);
                        at.apply(&mut *transaction, said, &mut effects).await?;
                    }
                }
            }
        }
        let files: Vec<FileId> = files.into_iter().collect();
        self.refold(transaction, &files, read).await?;
        effects.forgotten.extend(files);
        Ok(effects)
    }

    /// Makes the states of files anew with versions that are read only now.
    async fn refold(
        &self,
        transaction: &mut PgConnection,
        files: &[FileId],
        read: &[Read],
    ) -> Result<(), StoreError> {
        if files.is_empty() {
            return Ok(());
        }
        let locking = Locking::of(self.key(), files, files);
        let locked = files::lock(&mut *transaction, &locking).await?;
        let mut named = Vec::new();
        for record in read {
            let Says::Version(version) = &record.says else { continue };
            let floor = locked.erased.get(&version.file).map_or(0, |floor| floor.generation);
            let is_erased = record.envelope.generation < floor;
            give_names(&mut *transaction, record, version, is_erased).await?;
            if !is_erased {
                named.push((record, version));
            }
        }
        rebuild::rebuild_locked(&mut *transaction, files, &locked).await?;
        self.want_bodies(transaction, files, &named).await
    }

    /// The bodies of such versions were not kept when they came. One that is here for another record is given to it
    /// when the wanted bodies are next looked through.
    async fn want_bodies(
        &self,
        transaction: &mut PgConnection,
        files: &[FileId],
        named: &[(&Read, &Version)],
    ) -> Result<(), StoreError> {
        let locked = files::lock(&mut *transaction, &Locking::of(self.key(), files, &[])).await?;
        let states = locked.states.into_iter();
        let states: Vec<_> = states.filter_map(|(file, state)| Some((file, state.ok()?))).collect();
        for (record, version) in named {
            let columns = VersionColumns {
                file: version.file.clone(),
                stamp_micros: version.stamp.micros,
                body: version.body,
                pruned: version.body.is_some(),
            };
            let numbered = NumberedRecord {
                sequence: record.dot.sequence,
                chain: record.chain,
                raw: record.raw.clone(),
                version: Some(columns),
            };
            wanted::want(&mut *transaction, record.log, &[numbered], &states).await?;
        }
        Ok(())
    }
}

/// What one transaction came to.
struct Page {
    applied: u64,
    /// Where it ended; none where there was nothing left.
    last: Option<(i16, i32, i64)>,
}

/// A record that is due, as it is stored.
struct Found {
    kind: i16,
    site: String,
    epoch: i64,
    log: i32,
    sequence: i64,
    chain: Vec<u8>,
    envelope: Vec<u8>,
    payload: Option<Vec<u8>>,
}

impl Found {
    fn dot(&self) -> Result<Dot, StoreError> {
        let row = Row { table: "log", key: &self.site };
        let site = SiteName::parse(&self.site).map_err(|_| row.corrupt("site"))?;
        let log = LogId { site, epoch: epoch(self.epoch) };
        Ok(Dot { log, sequence: row.number("sequence", self.sequence)? })
    }
}

/// Those that this release can read, after a place: control logs first, each log in its order.
async fn due(
    transaction: &mut PgConnection,
    after: (i16, i32, i64),
) -> Result<Vec<Found>, StoreError> {
    let known = RecordKind::KNOWN.map(kind_number);
    let found = sqlx::query_as!(
        Found,
        "select log.kind, log.site, log.epoch, unread.log, unread.sequence, record.chain,
                envelope, payload
           from unread_record unread
           join log on log.id = unread.log
           join record on record.log = unread.log and record.sequence = unread.sequence
          where unread.kind = any($1) and (log.kind, unread.log, unread.sequence) > ($2, $3, $4)
          order by log.kind, unread.log, unread.sequence
          limit $5",
        &known,
        after.0,
        after.1,
        after.2,
        signed(PAGE_RECORDS_MAX),
    )
    .fetch_all(transaction)
    .await?;
    Ok(found)
}

/// Gives a record the columns by which it is found as a version of its file, or takes its payload.
async fn give_names(
    transaction: &mut PgConnection,
    record: &Read,
    version: &Version,
    is_erased: bool,
) -> Result<(), StoreError> {
    let (realm, name) = (version.file.realm.as_str(), version.file.name.as_str());
    sqlx::query!(
        "update record
            set payload = case when $3 then null else payload end,
                realm = case when $3 then null else $4 end,
                name = case when $3 then null else $5 end,
                stamp_micros = case when $3 then null else $6::bigint end,
                pruned = $7 and not $3
          where log = $1 and sequence = $2",
        record.log,
        signed(record.dot.sequence),
        is_erased,
        realm,
        name,
        signed(version.stamp.micros),
        version.body.is_some(),
    )
    .execute(transaction)
    .await?;
    Ok(())
}

/// They were read.
async fn forget(transaction: &mut PgConnection, read: &[Read]) -> Result<(), StoreError> {
    let logs: Vec<i32> = read.iter().map(|record| record.log).collect();
    let sequences: Vec<i64> = read.iter().map(|record| signed(record.dot.sequence)).collect();
    sqlx::query!(
        "delete from unread_record
          using unnest($1::integer[], $2::bigint[]) as done (log, sequence)
          where unread_record.log = done.log and unread_record.sequence = done.sequence",
        &logs,
        &sequences,
    )
    .execute(transaction)
    .await?;
    Ok(())
}
