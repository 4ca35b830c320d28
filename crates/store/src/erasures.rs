//! Tables `erased`, `erasure` and `erasure_receipt`: what was erased, by whom, and which sites have done it.

use bruri_domain::{
    Control, Dot, Envelope, Erased, Erasure, Lift, Random, Receipt, Sha256, limits::BARS_MAX,
};
use sqlx::PgConnection;

use crate::{
    Store, StoreError,
    columns::{Row, signed},
    control::{Draft, Place},
};

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
        operator: String,
    ) -> Result<Dot, StoreError> {
        let mut transaction = self.begin_append().await?;
        let erased = lock(&mut transaction, &subject).await?;
        if erased.bars().count() >= BARS_MAX {
            return Err(StoreError::TooManyErasures);
        }
        let control = Control::Erasure(Erasure { random, stamp: self.stamp(), operator });
        let draft = Draft { control, subject: Some(subject), generation: erased.generation() };
        let appended = self.append_control(&mut transaction, &[draft]).await?;
        transaction.commit().await?;
        let dot = self.appended(appended).into_iter().next();
        dot.ok_or(StoreError::CommitFailed)
    }
}

/// Takes in an erasure.
pub(crate) async fn erase(
    transaction: &mut PgConnection,
    place: Place<'_>,
    envelope: &Envelope,
    erasure: &Erasure,
) -> Result<(), StoreError> {
    let subject = subject(place, envelope)?;
    let mut erased = lock(&mut *transaction, &subject).await?;
    erased.erase(erasure.random, envelope.generation);
    sqlx::query!(
        "insert into erasure (subject, random, log, sequence, generation, stamp_micros, operator)
         values ($1, $2, $3, $4, $5, $6, $7)
         on conflict (subject, random) do update
            set log = excluded.log, sequence = excluded.sequence,
                generation = excluded.generation, stamp_micros = excluded.stamp_micros,
                operator = excluded.operator",
        subject.as_bytes(),
        erasure.random.as_slice(),
        place.log,
        signed(place.dot.sequence),
        signed(envelope.generation.saturating_add(1)),
        signed(erasure.stamp.micros),
        erasure.operator,
    )
    .execute(&mut *transaction)
    .await?;
    write(transaction, &subject, &erased).await
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
    place: Place<'_>,
    envelope: &Envelope,
    receipt: &Receipt,
) -> Result<(), StoreError> {
    let subject = subject(place, envelope)?;
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
    .execute(transaction)
    .await?;
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
