//! Table `release`: which release each site runs, and what it can read.

use std::collections::BTreeSet;

use bruri_domain::{Control, RecordKind, Release, Releases, SiteName, Stamp};
use bruri_wire::record::kind_number;
use sqlx::PgConnection;

use crate::{
    Store, StoreError,
    columns::{Row, signed},
    control::Draft,
};

impl Store {
    /// What each site has last said of its release.
    pub async fn releases(&self) -> Result<Releases, StoreError> {
        let mut connection = self.pool().acquire().await?;
        known(&mut connection).await
    }

    /// Tells all sites which release this one runs and what it reads, unless that was the last that it told.
    pub async fn announce(&self, release: &str) -> Result<(), StoreError> {
        let kinds: BTreeSet<i32> = RecordKind::KNOWN.map(kind_number).into();
        let mut transaction = self.begin_append().await?;
        let known = known(&mut transaction).await?;
        let is_told = |last: &Release| last.release == release && last.kinds == kinds;
        if known.get(self.site()).is_some_and(is_told) {
            return Ok(());
        }
        let (random, stamp, release) = (rand::random(), self.stamp(), release.to_owned());
        let control = Control::Release(Release { random, stamp, release, kinds });
        let draft = Draft { control, subject: None, generation: 0 };
        let appended = self.append_control(&mut transaction, &[draft]).await?;
        transaction.commit().await?;
        self.appended(appended);
        Ok(())
    }

    /// Refuses to write what another site would have to keep unread.
    pub(crate) async fn all_read(
        &self,
        transaction: &mut PgConnection,
        drafts: &[Draft],
    ) -> Result<(), StoreError> {
        let kinds = drafts.iter().map(|draft| draft.control.kind());
        for kind in kinds.filter(|kind| !RecordKind::FIRST.contains(kind)) {
            self.is_read(transaction, kind).await?;
        }
        Ok(())
    }

    async fn is_read(
        &self,
        transaction: &mut PgConnection,
        kind: RecordKind,
    ) -> Result<(), StoreError> {
        let known = known(&mut *transaction).await?;
        let mut sites = self.sites(transaction).await?;
        sites.retain(|site| site != self.site());
        match known.cannot_read((kind, kind_number(kind)), &sites).first() {
            Some(site) => Err(StoreError::NotReadByAll(site.clone())),
            None => Ok(()),
        }
    }
}

async fn known(transaction: &mut PgConnection) -> Result<Releases, StoreError> {
    let rows =
        sqlx::query!("select site, release, kinds, is_trusted, stamp_micros, random from release")
            .fetch_all(transaction)
            .await?;
    let mut releases = Releases::default();
    for found in rows {
        let row = Row { table: "release", key: &found.site };
        let micros = row.number("stamp_micros", found.stamp_micros)?;
        let release = Release {
            random: found.random.try_into().map_err(|_| row.corrupt("random"))?,
            stamp: Stamp { micros, trusted: found.is_trusted },
            release: found.release,
            kinds: found.kinds.into_iter().collect(),
        };
        let site = SiteName::parse(&found.site).map_err(|_| row.corrupt("site"))?;
        releases.apply(site, release);
    }
    Ok(releases)
}

/// Takes in what a site tells of itself, if it outranks what is known: see [`Release::outranks`].
pub(crate) async fn apply(
    transaction: &mut PgConnection,
    site: &SiteName,
    release: &Release,
) -> Result<(), StoreError> {
    let kinds: Vec<i32> = release.kinds.iter().copied().collect();
    sqlx::query!(
        "insert into release as known (site, release, kinds, is_trusted, stamp_micros, random)
         values ($1, $2, $3, $4, $5, $6)
         on conflict (site) do update
            set release = excluded.release, kinds = excluded.kinds,
                is_trusted = excluded.is_trusted, stamp_micros = excluded.stamp_micros,
                random = excluded.random
          where (excluded.stamp_micros, excluded.random) > (known.stamp_micros, known.random)",
        site.as_str(),
        release.release,
        &kinds,
        release.stamp.trusted,
        signed(release.stamp.micros),
        release.random.as_slice(),
    )
    .execute(transaction)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bruri_domain::{Clock, DeploymentKey};
    use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

    use super::*;
    use crate::{Options, connect};

    struct Noon;

    impl Clock for Noon {
        fn now_micros(&self) -> u64 {
            1_800_000_000_000_000
        }
    }

    fn said(micros: u64, kinds: &[i32]) -> Release {
        let stamp = Stamp { micros, trusted: true };
        let kinds = kinds.iter().copied().collect();
        Release { random: [1; 16], stamp, release: "0.2.0".to_owned(), kinds }
    }

    #[sqlx::test(migrator = "crate::MIGRATOR")]
    async fn a_record_of_a_new_kind_waits_until_every_site_has_said_that_it_reads_it(
        _: PgPoolOptions,
        database: PgConnectOptions,
    ) {
        let pool = connect(database, 2).await.unwrap();
        let site = SiteName::parse("london").unwrap();
        let options = Options { site, key: DeploymentKey::new([7; 32]), clock: Arc::new(Noon) };
        let store = Store::open(pool.clone(), options).await.unwrap();
        let (tokyo, new) = (SiteName::parse("tokyo").unwrap(), RecordKind::Unknown(99));
        let mut connection = pool.acquire().await.unwrap();
        // Alone, it waits for nobody.
        store.is_read(&mut connection, new).await.unwrap();
        sqlx::query(
            "insert into member values ('tokyo', false, '{}', false, '', true, 1, '\\x01')",
        )
        .execute(&mut *connection)
        .await
        .unwrap();
        for (micros, kinds, reads) in [(1, [1, 2], false), (2, [1, 99], true), (3, [1, 2], false)] {
            apply(&mut connection, &tokyo, &said(micros, &kinds)).await.unwrap();
            let read = store.is_read(&mut connection, new).await;
            assert_eq!(read.is_ok(), reads, "{kinds:?}");
            if let Err(error) = read {
                assert!(matches!(&error, StoreError::NotReadByAll(site) if *site == tokyo));
            }
        }
        // What the first release reads, and a site that was retired.
        store.is_read(&mut connection, RecordKind::Erasure).await.unwrap();
        let retire = sqlx::query("update member set is_retired = true");
        retire.execute(&mut *connection).await.unwrap();
        store.is_read(&mut connection, new).await.unwrap();
        drop((store, connection));
        pool.close().await;
    }
}
