//! Records that concern no file: appended to this site's own control log, and applied in the same transaction;
//! those of other sites are applied with the batch that brings them.

use std::collections::{BTreeMap, BTreeSet};

use bruri_domain::{Control, Dot, Envelope, FileId, LogId, LogKind, Random, Sha256};
use bruri_wire::{
    control::{decode_control, encode_control},
    record::{RawRecord, decode_envelope},
};
use sqlx::PgConnection;

use crate::{
    Store, StoreError,
    columns::{Row, epoch, signed},
    erasures, members,
    numbers::Given,
    partings, realms,
    records::{self, NumberedRecord, Run, Writing},
    releases,
};

/// A record that only lacks its number.
pub(crate) struct Draft {
    pub(crate) control: Control,
    /// Whom it concerns; none for a record that concerns nobody.
    pub(crate) subject: Option<Sha256>,
    /// The erasure generation of the subject that its writer knows.
    pub(crate) generation: u64,
}

/// Records that were appended; to be told to [`Store::appended`] after the commit.
#[must_use]
pub(crate) struct Appended {
    dots: Vec<Dot>,
    given: Option<Given>,
    effects: Effects,
}

/// What the rest of the process is told once it is committed; see [`Store::take_effect`].
#[derive(Default)]
pub(crate) struct Effects {
    /// What is held of these in memory counts no more.
    pub(crate) forgotten: BTreeSet<FileId>,
    /// An erasure was carried out here.
    pub(crate) erased: bool,
    /// A site told that a log of its own forked.
    pub(crate) parted: bool,
}

/// A record that is to be applied.
#[derive(Clone, Copy)]
pub(crate) struct Applying<'a> {
    pub(crate) store: &'a Store,
    pub(crate) place: Place<'a>,
}

/// Where a record is.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    /// The row of its log.
    pub(crate) log: i32,
    pub(crate) dot: &'a Dot,
}

impl Store {
    /// Appends records to the control log and applies them. One whose random bits are in the log already is not
    /// appended again. The numbers are taken first here, so rows that are to be decided upon are to be
    /// locked before.
    ///
    /// # Errors
    /// [`StoreError::NotReadByAll`] where a site could not read it.
    pub(crate) async fn append_control(
        &self,
        transaction: &mut PgConnection,
        drafts: &[Draft],
    ) -> Result<Appended, StoreError> {
        self.all_read(transaction, drafts).await?;
        let known = self.places(transaction, drafts).await?;
        let is_new = |draft: &&Draft| !known.contains_key(draft.control.random());
        let new: Vec<&Draft> = drafts.iter().filter(is_new).collect();
        let (mut given, mut made, mut effects) = (None, Vec::new(), Effects::default());
        if !new.is_empty() {
            let (appended, dots) = self.append_new(transaction, &new, &mut effects).await?;
            (given, made) = (Some(appended), dots);
        }
        let mut made = made.into_iter();
        let dots = drafts.iter().map(|draft| known.get(draft.control.random()).cloned());
        let dots = dots.filter_map(|known| known.or_else(|| made.next())).collect();
        Ok(Appended { dots, given, effects })
    }

    /// Tells the rest of the process what was committed, and returns where the records are.
    pub(crate) fn appended(&self, appended: Appended) -> Vec<Dot> {
        if let Some(given) = appended.given {
            self.numbered(given);
        }
        self.take_effect(appended.effects);
        self.inner.wakeups.wake();
        appended.dots
    }

    /// Tells the rest of the process what records changed that were applied, after the commit.
    pub(crate) fn take_effect(&self, effects: Effects) {
        let forgotten: Vec<FileId> = effects.forgotten.into_iter().collect();
        self.inner.unwritten.forget(&forgotten);
        if effects.erased {
            self.inner.erased.notify_one();
        }
        if effects.parted {
            self.inner.parted.notify_one();
        }
    }

    async fn append_new(
        &self,
        transaction: &mut PgConnection,
        drafts: &[&Draft],
        effects: &mut Effects,
    ) -> Result<(Given, Vec<Dot>), StoreError> {
        let newest_micros = drafts.iter().map(|draft| draft.control.stamp().micros).max();
        let (count, newest_micros) = (drafts.len(), newest_micros.unwrap_or(0));
        let numbers =
            self.take_numbers(transaction, LogKind::Control, count, newest_micros).await?;
        let (log, mut sequence, mut chain) = (numbers.log.row, numbers.before, numbers.chain);
        let (mut records, mut dots) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for draft in drafts {
            let raw = encode_control(&draft.control, draft.subject, draft.generation);
            sequence = sequence.saturating_add(1);
            chain = chain.next(&raw.envelope);
            dots.push(Dot { log: numbers.log.id.clone(), sequence });
            records.push(NumberedRecord { sequence, chain, raw, version: None });
        }
        let bodies = BTreeMap::new();
        let runs = [Run::at_end(log, &records)];
        let writing = Writing { runs: &runs, bodies: &bodies, states: &[] };
        records::write(&mut *transaction, &writing).await?;
        for (record, dot) in records.iter().zip(&dots) {
            let at = Applying { store: self, place: Place { log, dot } };
            at.apply_raw(&mut *transaction, &record.raw, effects).await?;
        }
        Ok((numbers.given(LogKind::Control, sequence, chain), dots))
    }

    /// Where those are that were appended before.
    async fn places(
        &self,
        transaction: &mut PgConnection,
        drafts: &[Draft],
    ) -> Result<BTreeMap<Random, Dot>, StoreError> {
        let randoms: Vec<&[u8]> = drafts.iter().map(|d| d.control.random().as_slice()).collect();
        let rows = sqlx::query!(
            "select random, epoch, place.sequence
               from control_place place
               join log on log.id = place.log
              where random = any($1::bytea[])",
            &randoms as _,
        )
        .fetch_all(transaction)
        .await?;
        let row = Row { table: "control_place", key: self.site() };
        let mut places = BTreeMap::new();
        for found in rows {
            let random = found.random.try_into().map_err(|_| row.corrupt("random"))?;
            let log = LogId { site: self.site().clone(), epoch: epoch(found.epoch) };
            let sequence = row.number("sequence", found.sequence)?;
            places.insert(random, Dot { log, sequence });
        }
        Ok(places)
    }
}

/// Notes where a record of this site's own is now.
async fn note_place(
    transaction: &mut PgConnection,
    random: &Random,
    place: Place<'_>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "insert into control_place (random, log, sequence) values ($1, $2, $3)
         on conflict (random) do update set log = excluded.log, sequence = excluded.sequence",
        random.as_slice(),
        place.log,
        signed(place.dot.sequence),
    )
    .execute(transaction)
    .await?;
    Ok(())
}

impl Applying<'_> {
    /// Applies a record that this site wrote itself, and notes where it is; one of no kind that concerns no file
    /// changes nothing.
    pub(crate) async fn apply_raw(
        self,
        transaction: &mut PgConnection,
        raw: &RawRecord,
        effects: &mut Effects,
    ) -> Result<(), StoreError> {
        let (envelope, control) = read(self.place.dot, raw)?;
        let Some(control) = control else { return Ok(()) };
        note_place(&mut *transaction, control.random(), self.place).await?;
        self.apply(transaction, (&envelope, &control), effects).await
    }

    /// What a record changes here, whoever wrote it, and however often it is applied: one function for each
    /// kind.
    pub(crate) async fn apply(
        self,
        transaction: &mut PgConnection,
        (envelope, control): (&Envelope, &Control),
        effects: &mut Effects,
    ) -> Result<(), StoreError> {
        match control {
            Control::Erasure(erasure) => {
                erasures::erase(transaction, self, (envelope, erasure), effects).await
            }
            Control::Lift(lift) => erasures::lift(transaction, self.place, envelope, lift).await,
            Control::Receipt(receipt) => {
                erasures::receipt(transaction, self, envelope, receipt).await
            }
            Control::Member(member) => members::apply(transaction, member).await,
            Control::Realm(change) => realms::change(transaction, self.place, change).await,
            Control::Release(release) => {
                releases::apply(transaction, &self.place.dot.log.site, release).await
            }
            Control::Branch(branch) => {
                partings::told(transaction, self.place, branch, effects).await
            }
        }
    }
}

fn read(dot: &Dot, raw: &RawRecord) -> Result<(Envelope, Option<Control>), StoreError> {
    let row = Row { table: "record", key: dot };
    let envelope = decode_envelope(&raw.envelope).map_err(|_| row.corrupt("envelope"))?;
    let control = raw.payload.as_ref().map(|payload| decode_control(&envelope, payload));
    let control = control.transpose().map_err(|_| row.corrupt("payload"))?.flatten();
    Ok((envelope, control))
}
