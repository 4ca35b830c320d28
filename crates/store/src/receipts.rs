//! Receipts: this site says in its log that it has carried an erasure out, once for each, and which sites have
//! not said so yet.

use std::time::Duration;

use bruri_domain::{Control, Random, Receipt, Sha256, SiteName, limits::RECEIPTS_MAX};
use sqlx::PgConnection;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::{
    Store, StoreError,
    columns::{Row, signed},
    control::Draft,
};

/// An erasure that another `brurid` of the site has carried out, and then ended, is found after so long.
const LOOK: Duration = Duration::from_secs(1);

/// An erasure and what became of it, as far as this site knows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ErasureEntry {
    /// Names it.
    pub random: Random,
    /// Hides whom it concerns.
    pub subject: Sha256,
    /// To which generation it raised its subject.
    pub generation: u64,
    /// When it was ordered, microseconds since 1970, by its origin's clock.
    pub stamp_micros: u64,
    /// Who erased.
    pub operator: String,
    /// When and by whom it was lifted; none while it bars.
    pub lifted: Option<(u64, String)>,
    /// In the order of sites.
    pub receipts: Vec<ReceiptEntry>,
    /// Sites that this site knows of and that have not given their receipt, in order.
    pub missing: Vec<SiteName>,
}

/// What a site says that it has done.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReceiptEntry {
    /// The site.
    pub site: SiteName,
    /// When, microseconds since 1970, by its clock.
    pub stamp_micros: u64,
    /// Versions that lost their content there.
    pub versions: u64,
    /// Different bodies that they named.
    pub bodies: u64,
}

impl Store {
    /// Gives receipts until `stop`; every `brurid` of a site may.
    pub async fn run_receipts(&self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            if let Err(error) = self.give_receipts().await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the receipt for an erasure cannot be given yet"
                );
            }
            tokio::select! {
                () = stop.cancelled() => {}
                // It only ends early.
                _ = timeout(LOOK, self.inner.erased.notified()) => {}
            }
        }
    }

    /// Deletes the bodies that were erased, and gives the receipts that are due; returns how many.
    pub async fn give_receipts(&self) -> Result<u64, StoreError> {
        // Also after an erasure that is carried out once more, for which the receipt was given: a dump was put back.
        if self.has_dropped().await? {
            self.delete_dropped().await?;
        }
        let due = sqlx::query!(
            "select subject, random from erasure
              where not receipted and log is not null
              order by subject, random limit $1",
            signed(RECEIPTS_MAX),
        )
        .fetch_all(self.pool())
        .await?;
        if due.is_empty() || self.has_dropped().await? {
            // Of a body that is left somebody is just writing another record: later.
            return Ok(0);
        }
        let mut given = 0_u64;
        for erasure in due {
            given = given.saturating_add(self.give(&erasure.subject, &erasure.random).await?);
        }
        Ok(given)
    }

    async fn has_dropped(&self) -> Result<bool, StoreError> {
        let left = sqlx::query_scalar!("select sha256 from dropped_body limit 1");
        Ok(left.fetch_optional(self.pool()).await?.is_some())
    }

    /// Gives one, unless another `brurid` of the site was faster.
    async fn give(&self, subject: &[u8], erasure: &[u8]) -> Result<u64, StoreError> {
        let mut transaction = self.begin_append().await?;
        let due = sqlx::query!(
            r#"select versions, bodies, generation as "generation!" from erasure
                where subject = $1 and random = $2 and not receipted and generation is not null
                  for update"#,
            subject,
            erasure,
        )
        .fetch_optional(&mut *transaction)
        .await?;
        let Some(due) = due else { return Ok(0) };
        let draft = {
            let row = Row { table: "erasure", key: self.site() };
            let receipt = Receipt {
                random: rand::random(),
                stamp: self.stamp(),
                erasure: erasure.try_into().map_err(|_| row.corrupt("random"))?,
                versions: row.number("versions", due.versions)?,
                bodies: row.number("bodies", due.bodies)?,
            };
            let generation = row.number("generation", due.generation)?;
            let subject = Some(row.sha256("subject", subject)?);
            Draft { control: Control::Receipt(receipt), subject, generation }
        };
        let appended = self.append_control(&mut transaction, &[draft]).await?;
        transaction.commit().await?;
        self.appended(appended);
        Ok(1)
    }

    /// The erasures that are known here, of one subject or of all, latest first.
    pub async fn erasures(
        &self,
        subject: Option<Sha256>,
        limit: u32,
    ) -> Result<Vec<ErasureEntry>, StoreError> {
        let rows = sqlx::query!(
            r#"select subject, random, generation as "generation!", stamp_micros as "stamp!",
                      operator as "operator!", lifted_micros, lifted_by
                 from erasure
                where generation is not null and coalesce(subject = $1, true)
                order by stamp_micros desc, random limit $2"#,
            subject.as_ref().map(Sha256::as_bytes),
            i64::from(limit),
        )
        .fetch_all(self.pool())
        .await?;
        let sites = self.sites(&mut *self.pool().acquire().await?).await?;
        let mut entries = Vec::with_capacity(rows.len());
        for found in rows {
            let receipts = self.receipts(&found.subject, &found.random).await?;
            let row = Row { table: "erasure", key: self.site() };
            let lifted_micros = found.lifted_micros.map(|at| row.number("lifted_micros", at));
            let has_given = |site: &&SiteName| receipts.iter().any(|r| r.site == **site);
            entries.push(ErasureEntry {
                missing: sites.iter().filter(|site| !has_given(site)).cloned().collect(),
                random: found.random.try_into().map_err(|_| row.corrupt("random"))?,
                subject: row.sha256("subject", &found.subject)?,
                generation: row.number("generation", found.generation)?,
                stamp_micros: row.number("stamp_micros", found.stamp)?,
                operator: found.operator,
                lifted: lifted_micros.transpose()?.zip(found.lifted_by),
                receipts,
            });
        }
        Ok(entries)
    }

    async fn receipts(
        &self,
        subject: &[u8],
        erasure: &[u8],
    ) -> Result<Vec<ReceiptEntry>, StoreError> {
        let rows = sqlx::query!(
            "select site, stamp_micros, versions, bodies from erasure_receipt
              where subject = $1 and erasure = $2 order by site",
            subject,
            erasure,
        )
        .fetch_all(self.pool())
        .await?;
        let row = Row { table: "erasure_receipt", key: self.site() };
        let read = rows.iter().map(|found| {
            Ok(ReceiptEntry {
                site: SiteName::parse(&found.site).map_err(|_| row.corrupt("site"))?,
                stamp_micros: row.number("stamp_micros", found.stamp_micros)?,
                versions: row.number("versions", found.versions)?,
                bodies: row.number("bodies", found.bodies)?,
            })
        });
        read.collect()
    }

    /// Every site of which a log is known here, and every member, in order; but those that were retired.
    pub(crate) async fn sites(
        &self,
        connection: &mut PgConnection,
    ) -> Result<Vec<SiteName>, StoreError> {
        let names = sqlx::query_scalar!(
            r#"select known.site as "site!"
                 from (select site from log union select site from member) as known
                where not exists (
                      select from member where member.site = known.site and is_retired)
                order by known.site"#
        );
        let names = names.fetch_all(connection).await?;
        let row = Row { table: "log", key: self.site() };
        names.iter().map(|name| SiteName::parse(name).map_err(|_| row.corrupt("site"))).collect()
    }
}
