//! Tables `erased`, `erasure` and `erasure_receipt`: what was erased, by whom, and which sites have done it.

use std::collections::{BTreeMap, BTreeSet};

use bruri_domain::{
    Control, Dot, Envelope, Erased, Erasure, Lift, Random, Receipt, Sha256,
    limits::{BARS_MAX, COMMIT_TRIES_MAX},
};
use sqlx::PgConnection;

use crate::{
    Store, StoreError,
    columns::{Row, signed},
    control::{Applying, Draft, Effects, Place},
    erasing,
};

/// What was done about an erasure or a lift.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ordered {
    /// Where its record is.
    pub dot: Dot,
    /// Hides whom it concerns.
    pub subject: Sha256,
}

impl Store {
    /// Erases all that is known of a subject, here and at every site that hears of it, and bars it. The random
    /// bits name the erasure: asking once more with the same ones changes nothing.
    ///
    /// # Errors
    /// [`StoreError::TooManyErasures`] where 1024 of this subject were not lifted.
    pub async fn erase(
        &self,
        subject: Sha256,
        random: Random,
        operator: &str,
    ) -> Result<Ordered, StoreError> {
        let stamp = self.stamp();
        let erasure = Erasure { random, stamp, operator: operator.to_owned() };
        let mut tries = 1_u32;
        loop {
            match self.try_erase(subject, &erasure).await {
                Err(error) if error.is_transient() && tries < COMMIT_TRIES_MAX => {
                    tries = tries.saturating_add(1);
                }
                done => return done,
            }
        }
    }

    async fn try_erase(&self, subject: Sha256, erasure: &Erasure) -> Result<Ordered, StoreError> {
        let mut transaction = self.begin_append().await?;
        begin(&mut transaction).await?;
        let erased = lock(&mut transaction, &subject).await?;
        if erased.bars().count() >= BARS_MAX {
            return Err(StoreError::TooManyErasures);
        }
        // A version may have come before the erasure that its generation tells of.
        let held = erasing::newest_generation(&mut transaction, self.key(), &subject).await?;
        let generation = erased.generation().max(held);
        let control = Control::Erasure(erasure.clone());
        let draft = Draft { control, subject: Some(subject), generation };
        let appended = self.append_control(&mut transaction, &[draft]).await?;
        transaction.commit().await?;
        let dot = self.appended(appended).into_iter().next().ok_or(StoreError::CommitFailed)?;
        Ok(Ordered { dot, subject })
    }

    /// Lets a subject in again, as far as erasures of it are known here.
    ///
    /// # Errors
    /// [`StoreError::NotBarred`] where there is none that was not lifted.
    pub async fn lift(
        &self,
        subject: Sha256,
        random: Random,
        operator: &str,
    ) -> Result<Ordered, StoreError> {
        let (stamp, operator) = (self.stamp(), operator.to_owned());
        let mut transaction = self.begin_append().await?;
        begin(&mut transaction).await?;
        let erased = lock(&mut transaction, &subject).await?;
        let erasures: Vec<Random> = erased.bars().take(BARS_MAX).copied().collect();
        if erasures.is_empty() {
            return Err(StoreError::NotBarred);
        }
        let control = Control::Lift(Lift { random, stamp, operator, erasures });
        let draft = Draft { control, subject: Some(subject), generation: erased.generation() };
        let appended = self.append_control(&mut transaction, &[draft]).await?;
        transaction.commit().await?;
        let dot = self.appended(appended).into_iter().next().ok_or(StoreError::CommitFailed)?;
        Ok(Ordered { dot, subject })
    }

    /// The generations of those among these subjects that were erased, as far as this site knows: what is older
    /// may lack its payload.
    pub async fn generations(
        &self,
        subjects: &BTreeSet<Sha256>,
    ) -> Result<BTreeMap<Sha256, u64>, StoreError> {
        let asked: Vec<&[u8]> = subjects.iter().map(Sha256::as_bytes).collect();
        let rows = sqlx::query!(
            "select subject, generation from erased where subject = any($1::bytea[])",
            &asked as _,
        )
        .fetch_all(self.pool())
        .await?;
        let row = Row { table: "erased", key: self.site() };
        let read = |subject: &[u8], generation| {
            Ok((row.sha256("subject", subject)?, row.number("generation", generation)?))
        };
        rows.iter().map(|found| read(&found.subject, found.generation)).collect()
    }
}

/// Begins a transaction that erases: from here on nobody makes the row of another file until it ends, and what
/// was made before is seen. Before any other lock.
pub(crate) async fn begin(transaction: &mut PgConnection) -> Result<(), StoreError> {
    sqlx::query_scalar!("select only_row from site where only_row for update")
        .fetch_one(transaction)
        .await?;
    Ok(())
}

/// Waits for whoever erases, and holds off the next one until this transaction ends: for one that writes names
/// where no row is locked that the erasure would lock.
pub(crate) async fn hold_off(transaction: &mut PgConnection) -> Result<(), StoreError> {
    sqlx::query_scalar!("select only_row from site where only_row for share")
        .fetch_one(transaction)
        .await?;
    Ok(())
}

/// Takes in an erasure, and carries it out.
pub(crate) async fn erase(
    transaction: &mut PgConnection,
    at: Applying<'_>,
    (envelope, erasure): (&Envelope, &Erasure),
    effects: &mut Effects,
) -> Result<(), StoreError> {
    let (place, subject) = (at.place, subject(at.place, envelope)?);
    begin(&mut *transaction).await?;
    let mut erased = lock(&mut *transaction, &subject).await?;
    erased.erase(erasure.random, envelope.generation);
    write(&mut *transaction, &subject, &erased).await?;
    let removed =
        erasing::carry_out(&mut *transaction, at.store.key(), (&subject, &erased)).await?;
    sqlx::query!(
        "insert into erasure (subject, random, log, sequence, generation, stamp_micros, operator,
                              versions, bodies, receipted)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9,
                 exists (select from erasure_receipt r
                          where r.subject = $1 and r.erasure = $2 and r.site = $10))
         on conflict (subject, random) do update
            set log = excluded.log, sequence = excluded.sequence,
                generation = excluded.generation, stamp_micros = excluded.stamp_micros,
                operator = excluded.operator,
                versions = erasure.versions + excluded.versions,
                bodies = erasure.bodies + excluded.bodies,
                receipted = erasure.receipted or excluded.receipted",
        subject.as_bytes(),
        erasure.random.as_slice(),
        place.log,
        signed(place.dot.sequence),
        signed(envelope.generation.saturating_add(1)),
        signed(erasure.stamp.micros),
        erasure.operator,
        signed(removed.versions),
        signed(removed.bodies),
        at.store.site().as_str(),
    )
    .execute(transaction)
    .await?;
    effects.erased = true;
    effects.forgotten.extend(removed.files);
    Ok(())
}

/// Takes in a lift, of erasures too whose own records come later.
pub(crate) async fn lift(
    transaction: &mut PgConnection,
    place: Place<'_>,
    envelope: &Envelope,
    lift: &Lift,
) -> Result<(), StoreError> {
    let subject = subject(place, envelope)?;
    let mut erased = lock(&mut *transaction, &subject).await?;
    erased.lift(&lift.erasures);
    let randoms: Vec<&[u8]> = lift.erasures.iter().map(Random::as_slice).collect();
    sqlx::query!(
        "insert into erasure (subject, random, lifted_micros, lifted_by)
         select $1, random, $3, $4 from unnest($2::bytea[]) as lifted (random)
          order by random
         on conflict (subject, random) do update
            set lifted_micros = excluded.lifted_micros, lifted_by = excluded.lifted_by
          where erasure.lifted_micros is null
             or (erasure.lifted_micros, erasure.lifted_by)
                > (excluded.lifted_micros, excluded.lifted_by)",
        subject.as_bytes(),
        &randoms as _,
        signed(lift.stamp.micros),
        lift.operator,
    )
    .execute(&mut *transaction)
    .await?;
    write(transaction, &subject, &erased).await
}

/// Takes in a site's receipt; where it has given several, as after a dump was put back, the latest counts.
pub(crate) async fn receipt(
    transaction: &mut PgConnection,
    at: Applying<'_>,
    envelope: &Envelope,
    receipt: &Receipt,
) -> Result<(), StoreError> {
    let (place, subject) = (at.place, subject(at.place, envelope)?);
    sqlx::query!(
        "insert into erasure_receipt (subject, erasure, site, stamp_micros, versions, bodies)
         values ($1, $2, $3, $4, $5, $6)
         on conflict (subject, erasure, site) do update
            set stamp_micros = excluded.stamp_micros, versions = excluded.versions,
                bodies = excluded.bodies
          where erasure_receipt.stamp_micros < excluded.stamp_micros",
        subject.as_bytes(),
        receipt.erasure.as_slice(),
        place.dot.log.site.as_str(),
        signed(receipt.stamp.micros),
        signed(receipt.versions),
        signed(receipt.bodies),
    )
    .execute(&mut *transaction)
    .await?;
    if place.dot.log.site == *at.store.site() {
        sqlx::query!(
            "update erasure set receipted = true where subject = $1 and random = $2",
            subject.as_bytes(),
            receipt.erasure.as_slice(),
        )
        .execute(transaction)
        .await?;
    }
    Ok(())
}

fn subject(place: Place<'_>, envelope: &Envelope) -> Result<Sha256, StoreError> {
    let row = Row { table: "record", key: place.dot };
    envelope.subject.ok_or_else(|| row.corrupt("envelope"))
}

/// What is known of a subject's erasures. Its row is made where it is missing, and locked.
async fn lock(transaction: &mut PgConnection, subject: &Sha256) -> Result<Erased, StoreError> {
    sqlx::query!(
        "insert into erased (subject, generation, barred) values ($1, 0, false)
         on conflict (subject) do nothing",
        subject.as_bytes(),
    )
    .execute(&mut *transaction)
    .await?;
    let generation = sqlx::query_scalar!(
        "select generation from erased where subject = $1 for update",
        subject.as_bytes(),
    )
    .fetch_one(&mut *transaction)
    .await?;
    let rows = sqlx::query!(
        r#"select random, log is not null as "is_erased!", lifted_micros is not null as "is_lifted!"
             from erasure where subject = $1"#,
        subject.as_bytes(),
    )
    .fetch_all(transaction)
    .await?;
    let row = Row { table: "erased", key: subject };
    let mut erasures = Vec::with_capacity(rows.len());
    for known in rows {
        let random = known.random.try_into().map_err(|_| row.corrupt("random"))?;
        erasures.push((random, known.is_erased, known.is_lifted));
    }
    Ok(Erased::from_parts(row.number("generation", generation)?, erasures))
}

async fn write(
    transaction: &mut PgConnection,
    subject: &Sha256,
    erased: &Erased,
) -> Result<(), StoreError> {
    sqlx::query!(
        "update erased set generation = $2, barred = $3 where subject = $1",
        subject.as_bytes(),
        signed(erased.generation()),
        erased.is_barred(),
    )
    .execute(transaction)
    .await?;
    Ok(())
}
