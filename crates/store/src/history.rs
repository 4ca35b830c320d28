//! What operators ask: which files there are, and who wrote which version of one.

use std::collections::HashMap;

use bruri_domain::{
    Dot, DotRef, FileId, FileState, LogId, Sha256, SiteName, Version, limits::PAGE_ROWS_MAX,
};
use bruri_wire::record::decode_version;
use bytes::Bytes;
use sqlx::PgExecutor;

use crate::{
    Store, StoreError,
    bodies::unpack,
    columns::{self, Row, signed},
    files,
};

/// A file with what a phone gets of it.
#[derive(Clone, Debug)]
pub struct FileEntry {
    /// The file.
    pub file: FileId,
    /// Its heads.
    pub state: FileState,
    /// The served version, where its record is still readable.
    pub served: Option<VersionEntry>,
    /// When a phone last sent what is served, microseconds since 1970.
    pub confirmed_micros: Option<u64>,
}

/// A version with its place and standing.
#[derive(Clone, Debug)]
pub struct VersionEntry {
    /// Its address.
    pub dot: Dot,
    /// Its payload.
    pub version: Version,
    /// What became of it here.
    pub standing: Standing,
    /// It has a body, which is not kept here.
    pub pruned: bool,
}

/// What became of a version here.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Standing {
    /// What a phone gets.
    Served,
    /// Not superseded, but another one is served.
    Concurrent,
    /// A later one was written with knowledge of it.
    Superseded,
}

fn standing(state: &FileState, dot: &Dot) -> Standing {
    if state.served().is_some_and(|head| head.dot == *dot) {
        Standing::Served
    } else if state.heads().iter().any(|head| head.dot == *dot) {
        Standing::Concurrent
    } else {
        Standing::Superseded
    }
}

struct VersionRow {
    site: String,
    epoch: i64,
    sequence: i64,
    payload: Vec<u8>,
    pruned: bool,
}

/// A version at its place.
pub(crate) struct Placed {
    pub(crate) dot: Dot,
    pub(crate) version: Version,
    pruned: bool,
}

impl Placed {
    fn entry(self, standing: Standing) -> VersionEntry {
        let Self { dot, version, pruned } = self;
        VersionEntry { dot, version, standing, pruned }
    }
}

impl VersionRow {
    fn read(self) -> Result<Placed, StoreError> {
        let key = format!("{}/{}/{}", self.site, columns::epoch(self.epoch), self.sequence);
        let row = Row { table: "record", key: &key };
        let site = SiteName::parse(&self.site)
            .map_err(|_| Row { table: "log", key: &key }.corrupt("site"))?;
        let log = LogId { site, epoch: columns::epoch(self.epoch) };
        let dot = Dot { log, sequence: row.number("sequence", self.sequence)? };
        let version = decode_version(&self.payload).map_err(|_| row.corrupt("payload"))?;
        Ok(Placed { dot, version, pruned: self.pruned })
    }
}

impl Store {
    /// Files whose names begin with a prefix, in the order of realms and names, after one.
    pub async fn files(
        &self,
        name_prefix: &str,
        after: Option<&FileId>,
        limit: u32,
    ) -> Result<Vec<FileEntry>, StoreError> {
        let rows = sqlx::query!(
            r#"select realm, name, state, checksum, confirmed_micros
                 from file
                where (realm, name) > ($2, $3) and starts_with(name, $1)
                  -- No name has a character after ~: the index alone tells which rows to look at.
                  and name >= $1 and name < $1 || '~'
                order by realm, name
                limit $4"#,
            name_prefix,
            after.map_or("", |file| file.realm.as_str()),
            after.map_or("", |file| file.name.as_str()),
            page_rows(limit),
        )
        .fetch_all(self.pool())
        .await?;
        let mut entries = Vec::with_capacity(rows.len());
        for row in rows {
            let file = files::file_id(&row.realm, &row.name)?;
            let state = files::state_of(&file, &row.state, &row.checksum)?;
            let confirmed_micros = row.confirmed_micros.and_then(|n| u64::try_from(n).ok());
            entries.push(FileEntry { file, state, served: None, confirmed_micros });
        }
        self.add_served(&mut entries).await?;
        Ok(entries)
    }

    async fn add_served(&self, entries: &mut [FileEntry]) -> Result<(), StoreError> {
        let dots: Vec<Dot> =
            entries.iter().filter_map(|e| Some(e.state.served()?.dot.clone())).collect();
        let versions = versions_at(self.pool(), &dots).await?.into_iter();
        let mut versions: HashMap<Dot, Placed> = versions.map(|v| (v.dot.clone(), v)).collect();
        for entry in entries {
            let dot = entry.state.served().map(|head| head.dot.clone());
            entry.served = dot.and_then(|dot| Some(versions.remove(&dot)?.entry(Standing::Served)));
        }
        Ok(())
    }

    /// These versions of a file as far as they are known, in no order.
    pub(crate) async fn entries_at(
        &self,
        file: &FileId,
        dots: &[Dot],
    ) -> Result<Vec<VersionEntry>, StoreError> {
        let state = self.state(file).await?;
        let placed = versions_at(self.pool(), dots).await?;
        let entries = placed.into_iter().map(|placed| {
            let standing = standing(&state, &placed.dot);
            placed.entry(standing)
        });
        Ok(entries.collect())
    }

    /// The versions of a file, newest first by the time of their origin, after one. One that its origin wrote again, since
    /// its log forked, is listed once, at the place that counts for more.
    ///
    /// # Errors
    /// [`StoreError::UnknownFile`], [`StoreError::UnknownVersion`] where `after` is none of it.
    pub async fn versions(
        &self,
        file: &FileId,
        after: Option<&DotRef>,
        limit: u32,
    ) -> Result<Vec<VersionEntry>, StoreError> {
        let state = self.state(file).await?;
        let (mut place, after) = match after {
            Some(after) => {
                let place = self.place(file, after).await?;
                let at = versions_at(self.pool(), std::slice::from_ref(&place.dot)).await?;
                (place.place, at.into_iter().next().map(|placed| placed.version))
            }
            None => (Place::FIRST, None),
        };
        let mut entries: Vec<VersionEntry> = Vec::new();
        loop {
            let wanted = page_rows(limit).saturating_sub_unsigned(entries.len() as u64);
            let rows = self.versions_below(file, place, wanted).await?;
            let is_last = (rows.len() as u64) < wanted.unsigned_abs();
            for row in rows {
                place = row.place();
                let placed = row.version.read()?;
                let standing = standing(&state, &placed.dot);
                if after.as_ref().is_some_and(|after| is_same(after, &placed.version)) {
                    continue;
                }
                let entry = placed.entry(standing);
                match entries.iter_mut().rev().find(|e| is_same(&e.version, &entry.version)) {
                    Some(listed) if entry.standing < listed.standing => *listed = entry,
                    Some(_) => {}
                    None => entries.push(entry),
                }
            }
            if is_last || entries.len() as u64 >= page_rows(limit).unsigned_abs() {
                return Ok(entries);
            }
        }
    }

    async fn versions_below(
        &self,
        file: &FileId,
        place: Place,
        limit: i64,
    ) -> Result<Vec<ListedRow>, StoreError> {
        let rows = sqlx::query!(
            r#"select record.log, record.stamp_micros as "stamp_micros!", log.site, log.epoch,
                      record.sequence, record.payload as "payload!", pruned
                 from record join log on log.id = record.log
                where realm = $1 and name = $2 and payload is not null
                  and (record.stamp_micros, record.log, record.sequence) < ($3, $4, $5)
                order by record.stamp_micros desc, record.log desc, record.sequence desc
                limit $6"#,
            file.realm.as_str(),
            file.name.as_str(),
            place.stamp_micros,
            place.log,
            place.sequence,
            limit,
        )
        .fetch_all(self.pool())
        .await?;
        let listed = rows.into_iter().map(|row| ListedRow {
            log: row.log,
            stamp_micros: row.stamp_micros,
            version: VersionRow {
                site: row.site,
                epoch: row.epoch,
                sequence: row.sequence,
                payload: row.payload,
                pruned: row.pruned,
            },
        });
        Ok(listed.collect())
    }

    /// One version of a file with its body; the served one where no dot is named.
    ///
    /// # Errors
    /// [`StoreError::UnknownFile`], [`StoreError::UnknownVersion`], [`StoreError::AmbiguousDot`],
    /// [`StoreError::BodyGone`].
    pub async fn version(
        &self,
        file: &FileId,
        dot: Option<&DotRef>,
    ) -> Result<(VersionEntry, Option<Bytes>), StoreError> {
        let state = self.state(file).await?;
        let place = match (dot, state.served()) {
            (Some(dot), _) => self.place(file, dot).await?.place,
            (None, Some(head)) => self.place(file, &DotRef::from(&head.dot)).await?.place,
            (None, None) => return Err(StoreError::UnknownFile(file.clone())),
        };
        let row = sqlx::query!(
            r#"select log.site, log.epoch, record.sequence, payload as "payload!", pruned,
                      body.content as "content?"
                 from record
                 join log on log.id = record.log
                 left join body on body.sha256 = record.body
                where record.log = $1 and record.sequence = $2 and payload is not null"#,
            place.log,
            place.sequence,
        )
        .fetch_one(self.pool())
        .await?;
        let stored = VersionRow {
            site: row.site,
            epoch: row.epoch,
            sequence: row.sequence,
            payload: row.payload,
            pruned: row.pruned,
        };
        let placed = stored.read()?;
        let entry = {
            let standing = standing(&state, &placed.dot);
            placed.entry(standing)
        };
        let content = content_of(&entry, row.content)?;
        Ok((entry, content))
    }

    pub(crate) async fn state(&self, file: &FileId) -> Result<FileState, StoreError> {
        let row = sqlx::query!(
            "select state, checksum from file where realm = $1 and name = $2",
            file.realm.as_str(),
            file.name.as_str(),
        )
        .fetch_optional(self.pool())
        .await?
        .ok_or_else(|| StoreError::UnknownFile(file.clone()))?;
        files::state_of(file, &row.state, &row.checksum)
    }

    /// Finds the version that a person means by a dot.
    async fn place(&self, file: &FileId, dot: &DotRef) -> Result<Found, StoreError> {
        let rows = sqlx::query!(
            r#"select log.site, log.epoch, record.log, record.stamp_micros as "stamp_micros!"
                 from log join record on record.log = log.id
                where log.site = $1 and record.sequence = $2
                  and record.realm = $3 and record.name = $4 and record.stamp_micros is not null"#,
            dot.site.as_str(),
            signed(dot.sequence),
            file.realm.as_str(),
            file.name.as_str(),
        )
        .fetch_all(self.pool())
        .await?;
        let mut fitting = rows.into_iter().filter(|row| {
            let epoch = columns::epoch(row.epoch);
            dot.matches(&LogId { site: dot.site.clone(), epoch })
        });
        match (fitting.next(), fitting.next()) {
            (Some(row), None) => Ok(Found {
                place: Place {
                    stamp_micros: row.stamp_micros,
                    log: row.log,
                    sequence: signed(dot.sequence),
                },
                dot: Dot {
                    log: LogId { site: dot.site.clone(), epoch: columns::epoch(row.epoch) },
                    sequence: dot.sequence,
                },
            }),
            (None, _) => {
                Err(StoreError::UnknownVersion { file: file.clone(), dot: dot.to_string() })
            }
            (Some(_), Some(_)) => Err(StoreError::AmbiguousDot { dot: dot.to_string() }),
        }
    }
}

/// Those of the versions at these places that are readable.
pub(crate) async fn versions_at(
    database: impl PgExecutor<'_>,
    dots: &[Dot],
) -> Result<Vec<Placed>, StoreError> {
    let sites: Vec<&str> = dots.iter().map(|d| d.log.site.as_str()).collect();
    let epochs: Vec<i64> = dots.iter().map(|d| columns::epoch_column(d.log.epoch)).collect();
    let sequences: Vec<i64> = dots.iter().map(|d| signed(d.sequence)).collect();
    let rows = sqlx::query_as!(
        VersionRow,
        r#"select log.site, log.epoch, record.sequence, record.payload as "payload!",
                  record.pruned
             from unnest($1::text[], $2::bigint[], $3::bigint[])
                  as wanted (site, epoch, sequence)
             join log on log.site = wanted.site and log.epoch = wanted.epoch
             -- The limit keeps a plan that was made for empty tables from reading whole logs.
             join lateral (select sequence, payload, pruned from record r
                            where r.log = log.id and r.sequence = wanted.sequence
                              and r.payload is not null and r.name is not null
                            limit 1) record on true"#,
        &sites as _,
        &epochs,
        &sequences,
    )
    .fetch_all(database)
    .await?;
    rows.into_iter().map(VersionRow::read).collect()
}

/// One row more than a page may have, so that the caller can see whether there are more.
fn page_rows(limit: u32) -> i64 {
    i64::from(limit.min(PAGE_ROWS_MAX.saturating_add(1)))
}

/// A version's place in the list of its file, and its row.
#[derive(Clone, Copy)]
struct Place {
    stamp_micros: i64,
    log: i32,
    sequence: i64,
}

impl Place {
    /// Before all others.
    const FIRST: Self = Self { stamp_micros: i64::MAX, log: i32::MAX, sequence: i64::MAX };
}

/// A version that a person meant.
struct Found {
    place: Place,
    dot: Dot,
}

/// A row of the list of a file's versions.
struct ListedRow {
    log: i32,
    stamp_micros: i64,
    version: VersionRow,
}

impl ListedRow {
    fn place(&self) -> Place {
        let Self { log, stamp_micros, version } = self;
        Place { stamp_micros: *stamp_micros, log: *log, sequence: version.sequence }
    }
}

/// Whether two records are of one version, which was written again.
fn is_same(one: &Version, other: &Version) -> bool {
    one.random == other.random && one.stamp == other.stamp
}

/// Hands a body out only where it is what its version names.
fn content_of(entry: &VersionEntry, content: Option<Vec<u8>>) -> Result<Option<Bytes>, StoreError> {
    let Some(body) = entry.version.body else { return Ok(None) };
    let packed = content.ok_or_else(|| match entry.standing {
        Standing::Superseded => StoreError::BodyGone(entry.dot.clone()),
        Standing::Served | Standing::Concurrent => StoreError::BodyAbsent(entry.dot.clone()),
    })?;
    let content = unpack(body.sha256, body.bytes, &packed)?;
    if Sha256::of(&content) != body.sha256 {
        return Err(Row { table: "body", key: &body.sha256 }.corrupt("content"));
    }
    Ok(Some(content))
}
