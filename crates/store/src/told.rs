//! Table `told`: with which numbers of other sites' logs phones here were answered, because those sites told of
//! them for a read.
//!
//! What such a phone writes next names them, and it may be all that is known of them: the record comes later, or
//! never, if its site is rolled back first. Then the site hears of them from here before it numbers again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use bruri_domain::{Context, Dot, LogId, LogKind, SiteName, limits::LOGS_MAX};
use sqlx::PgConnection;

use crate::{
    Store, StoreError,
    columns::{self, Row, epoch_column, signed},
};

/// The highest number of each log, in memory.
#[derive(Default)]
pub(crate) struct Told(Mutex<Noted>);

#[derive(Default)]
struct Noted {
    highest: BTreeMap<LogId, u64>,
    /// Of which the table does not know yet.
    unwritten: BTreeSet<LogId>,
}

impl Told {
    /// Whether any of it is news.
    fn note(&self, context: &Context, ours: &SiteName) -> bool {
        let (mut noted, mut is_news) = (self.lock(), false);
        for (log, _) in context.logs().filter(|(log, _)| log.site != *ours) {
            let last = context.last_of(log);
            let known = noted.highest.get(log).copied();
            let has_room = known.is_some() || noted.highest.len() < LOGS_MAX;
            if has_room && known.unwrap_or(0) < last {
                noted.highest.insert(log.clone(), last);
                noted.unwritten.insert(log.clone());
                is_news = true;
            }
        }
        is_news
    }

    fn unwritten(&self) -> Vec<Dot> {
        let noted = self.lock();
        let dot = |log: &LogId| Some(Dot { log: log.clone(), sequence: *noted.highest.get(log)? });
        noted.unwritten.iter().filter_map(dot).collect()
    }

    /// What was noted of the logs of a site, written or not.
    fn of(&self, site: &SiteName) -> Vec<Dot> {
        let noted = self.lock();
        let of_site = noted.highest.iter().filter(|(log, _)| log.site == *site);
        of_site.map(|(log, last)| Dot { log: log.clone(), sequence: *last }).collect()
    }

    /// These are in the table for good now.
    pub(crate) fn written(&self, dots: &[Dot]) {
        let mut noted = self.lock();
        for dot in dots {
            if noted.highest.get(&dot.log) == Some(&dot.sequence) {
                noted.unwritten.remove(&dot.log);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Noted> {
        // Each entry is whole by itself.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// A phone is answered with all that this names, which other sites told of.
    pub fn note_told(&self, context: &Context) {
        if self.inner.told.note(context, self.site()) {
            // Nothing else may be written that names it: another site's phone was answered by way of this one.
            self.inner.unwritten.wake();
        }
    }

    /// Writes what was noted with nothing else.
    pub(crate) async fn keep_told(&self) -> Result<(), StoreError> {
        if self.inner.told.unwritten().is_empty() {
            return Ok(());
        }
        let mut transaction = self.pool().begin().await?;
        let written = self.write_told(&mut transaction).await?;
        transaction.commit().await?;
        self.inner.told.written(&written);
        Ok(())
    }

    /// Writes what was noted since; what this returns is to be confirmed with [`Told::written`] after the commit.
    pub(crate) async fn write_told(
        &self,
        transaction: &mut PgConnection,
    ) -> Result<Vec<Dot>, StoreError> {
        let unwritten = self.inner.told.unwritten();
        if unwritten.is_empty() {
            return Ok(unwritten);
        }
        let sites: Vec<&str> = unwritten.iter().map(|dot| dot.log.site.as_str()).collect();
        let epochs: Vec<i64> = unwritten.iter().map(|dot| epoch_column(dot.log.epoch)).collect();
        let sequences: Vec<i64> = unwritten.iter().map(|dot| signed(dot.sequence)).collect();
        // What has come here meanwhile needs no row.
        sqlx::query!(
            r#"insert into told (site, epoch, sequence)
             select wanted.site, wanted.epoch, wanted.sequence
               from unnest($1::text[], $2::bigint[], $3::bigint[]) as wanted (site, epoch, sequence)
               left join log on log.site = wanted.site and log.epoch = wanted.epoch
              where wanted.sequence > coalesce(log.sequence, 0)
              order by wanted.site collate "C", wanted.epoch
             on conflict (site, epoch) do update
                set sequence = greatest(told.sequence, excluded.sequence)"#,
            &sites as _,
            &epochs,
            &sequences,
        )
        .execute(transaction)
        .await?;
        Ok(unwritten)
    }

    /// With which numbers of a site's logs phones here were answered, where there is no record of them.
    ///
    /// # Errors
    /// Where the database does not answer.
    pub async fn told(&self, site: &SiteName) -> Result<Vec<Dot>, StoreError> {
        // Also where the database takes no writes: what it has must get out.
        let noted = self.inner.told.of(site);
        let epochs: Vec<i64> = noted.iter().map(|dot| epoch_column(dot.log.epoch)).collect();
        let sequences: Vec<i64> = noted.iter().map(|dot| signed(dot.sequence)).collect();
        let rows = sqlx::query!(
            r#"select known.epoch as "epoch!", max(known.sequence) as "sequence!"
               from (select epoch, sequence from told where site = $1
                      union all
                     select epoch, sequence
                       from unnest($2::bigint[], $3::bigint[]) as noted (epoch, sequence)) known
               left join log on log.site = $1 and log.epoch = known.epoch
              group by known.epoch, log.sequence
             having max(known.sequence) > coalesce(log.sequence, 0)"#,
            site.as_str(),
            &epochs,
            &sequences,
        )
        .fetch_all(self.pool())
        .await?;
        let row = Row { table: "told", key: site };
        let dot = |epoch, sequence| {
            let log = LogId { site: site.clone(), epoch: columns::epoch(epoch) };
            Ok(Dot { log, sequence: row.number("sequence", sequence)? })
        };
        rows.into_iter().map(|told| dot(told.epoch, told.sequence)).collect()
    }

    /// Hears with which numbers of this site's logs a peer answered phones, though it has no records of them. Where
    /// one has not been given, a new epoch is opened.
    ///
    /// # Errors
    /// Where the database does not answer.
    pub async fn peer_was_told(&self, told: &[Dot]) -> Result<(), StoreError> {
        let open = self.inner.own.logs().files.id;
        let Some(dot) = told.iter().filter(|dot| dot.log == open).max_by_key(|dot| dot.sequence)
        else {
            return Ok(());
        };
        let given = sqlx::query_scalar!(
            "select sequence from log where site = $1 and epoch = $2",
            open.site.as_str(),
            epoch_column(open.epoch),
        )
        .fetch_optional(self.pool())
        .await?;
        if given.is_some_and(|given| given < signed(dot.sequence)) {
            self.number_was_seen(LogKind::Files, dot.sequence).await?;
        }
        Ok(())
    }
}
