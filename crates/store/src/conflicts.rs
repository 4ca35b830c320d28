//! Table `conflict`: which files came to have heads with different bodies, and how that ended. Rows are
//! written by `noticed`.

use std::{cmp::Reverse, time::Duration};

use bruri_domain::{Dot, DotRef, FileId, Head};
use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use crate::{Store, StoreError, VersionEntry, columns::Row, files, metrics};

/// How often open conflicts are counted, at most.
const COUNT_INTERVAL: Duration = Duration::from_secs(1);

/// A conflict as this site came to know it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConflictEntry {
    /// The file.
    pub file: FileId,
    /// Counts the conflicts of the file, from 1.
    pub number: u32,
    /// When this site came to know of it, microseconds since 1970.
    pub opened_micros: u64,
    /// The heads that it opened with and those that joined; at most 256.
    pub heads: Vec<Dot>,
    /// None while it is open.
    pub end: Option<ConflictEnd>,
}

/// Names a conflict.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConflictKey {
    /// The file.
    pub file: FileId,
    /// Which of its conflicts, from 1.
    pub number: u32,
}

/// A head of a conflict.
#[derive(Clone, Debug)]
pub struct ConflictHead {
    /// The version, and what became of it since.
    pub version: VersionEntry,
    /// Its body; none for a deletion, and where there was no room for it or it is no longer kept.
    pub content: Option<Bytes>,
}

/// How a conflict ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConflictEnd {
    /// When this site came to know of it, microseconds since 1970.
    pub micros: u64,
    /// The version that left no two heads with different bodies.
    pub by: Dot,
}

struct ConflictRow {
    realm: String,
    name: String,
    number: i32,
    opened_micros: i64,
    heads: Vec<String>,
    ended_micros: Option<i64>,
    ended_by: Option<String>,
}

impl TryFrom<ConflictRow> for ConflictEntry {
    type Error = StoreError;

    fn try_from(conflict: ConflictRow) -> Result<Self, StoreError> {
        let file = files::file_id(&conflict.realm, &conflict.name)?;
        let row = Row { table: "conflict", key: &file };
        let dot = |column, text: &str| text.parse::<Dot>().map_err(|_| row.corrupt(column));
        let end = match (conflict.ended_micros, &conflict.ended_by) {
            (Some(micros), Some(by)) => Some(ConflictEnd {
                micros: row.number("ended_micros", micros)?,
                by: dot("ended_by", by)?,
            }),
            _ => None,
        };
        let heads = conflict.heads.iter().map(|text| dot("heads", text)).collect::<Result<_, _>>();
        Ok(Self {
            number: u32::try_from(conflict.number).map_err(|_| row.corrupt("number"))?,
            opened_micros: row.number("opened_micros", conflict.opened_micros)?,
            heads: heads?,
            end,
            file: file.clone(),
        })
    }
}

impl Store {
    /// Counts open conflicts for the metrics whenever a log has grown, until `stop`.
    pub async fn count_conflicts(&self, stop: CancellationToken) {
        let mut changes = self.changes();
        let counting = async {
            loop {
                match self.open_conflicts().await {
                    Ok(count) => metrics::open_conflicts(count),
                    Err(error) => tracing::debug!(%error, "open conflicts cannot be counted"),
                }
                tokio::time::sleep(COUNT_INTERVAL).await;
                if changes.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = counting => {}
        }
    }

    /// How many conflicts are open.
    pub async fn open_conflicts(&self) -> Result<u64, StoreError> {
        let count = sqlx::query_scalar!(
            r#"select count(*) as "count!" from conflict where ended_micros is null"#
        )
        .fetch_one(self.pool())
        .await?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// Open conflicts in the order of realms, names and numbers, after one.
    pub async fn conflicts(
        &self,
        after: Option<&ConflictKey>,
        limit: u32,
    ) -> Result<Vec<ConflictEntry>, StoreError> {
        let (realm, name, number) = key_columns(after);
        let rows = sqlx::query_as!(
            ConflictRow,
            "select realm, name, number, opened_micros, heads, ended_micros, ended_by
               from conflict
              where ended_micros is null
                and (realm, name) >= ($1, $2) and (realm, name, number) > ($1, $2, $3)
              order by realm, name
              limit $4",
            realm,
            name,
            number,
            i64::from(limit),
        )
        .fetch_all(self.pool())
        .await?;
        rows.into_iter().map(ConflictEntry::try_from).collect()
    }

    /// The same with those that have ended.
    pub async fn conflicts_ever(
        &self,
        after: Option<&ConflictKey>,
        limit: u32,
    ) -> Result<Vec<ConflictEntry>, StoreError> {
        let (realm, name, number) = key_columns(after);
        let rows = sqlx::query_as!(
            ConflictRow,
            "select realm, name, number, opened_micros, heads, ended_micros, ended_by
               from conflict
              where (realm, name, number) > ($1, $2, $3)
              order by realm, name, number
              limit $4",
            realm,
            name,
            number,
            i64::from(limit),
        )
        .fetch_all(self.pool())
        .await?;
        rows.into_iter().map(ConflictEntry::try_from).collect()
    }

    /// One conflict of a file: the newest where no number is named. That is the open one, if any is.
    ///
    /// # Errors
    /// [`StoreError::UnknownConflict`].
    pub async fn conflict(
        &self,
        file: &FileId,
        number: Option<u32>,
    ) -> Result<ConflictEntry, StoreError> {
        let row = sqlx::query_as!(
            ConflictRow,
            "select realm, name, number, opened_micros, heads, ended_micros, ended_by
               from conflict
              where realm = $1 and name = $2 and number between $3 and $4
              order by number desc
              limit 1",
            file.realm.as_str(),
            file.name.as_str(),
            number.map_or(0, number_column),
            number.map_or(i32::MAX, number_column),
        )
        .fetch_optional(self.pool())
        .await?;
        row.ok_or_else(|| StoreError::UnknownConflict(file.clone()))?.try_into()
    }

    /// The heads that a conflict had, with their bodies as far as those are kept and together have no
    /// more than `bytes_max`; the highest-ranked of now come first.
    pub async fn conflict_heads(
        &self,
        conflict: &ConflictEntry,
        bytes_max: usize,
    ) -> Result<Vec<ConflictHead>, StoreError> {
        let mut versions = self.entries_at(&conflict.file, &conflict.heads).await?;
        versions.sort_by_key(|entry| (entry.standing, Reverse(entry.version.stamp)));
        let mut room = bytes_max as u64;
        let mut heads = Vec::with_capacity(versions.len());
        for version in versions {
            let bytes = version.version.body.map_or(0, |body| body.bytes);
            let content = match room.checked_sub(bytes) {
                Some(left) => {
                    room = left;
                    self.content_if_kept(&conflict.file, &version.dot).await?
                }
                None => None,
            };
            heads.push(ConflictHead { version, content });
        }
        Ok(heads)
    }

    async fn content_if_kept(&self, file: &FileId, dot: &Dot) -> Result<Option<Bytes>, StoreError> {
        match self.version(file, Some(&dot.into())).await {
            Ok((_, content)) => Ok(content),
            Err(StoreError::BodyGone(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The head that a person means by a dot, of a file that is in conflict.
    ///
    /// # Errors
    /// [`StoreError::UnknownFile`], [`StoreError::NoConflict`], [`StoreError::NoHead`],
    /// [`StoreError::AmbiguousDot`].
    pub async fn head_in_conflict(&self, file: &FileId, dot: &DotRef) -> Result<Dot, StoreError> {
        let state = self.state(file).await?;
        if !state.is_conflict() {
            return Err(StoreError::NoConflict(file.clone()));
        }
        let is_meant =
            |head: &&Head| head.dot.sequence == dot.sequence && dot.matches(&head.dot.log);
        let mut meant = state.heads().iter().filter(is_meant);
        match (meant.next(), meant.next()) {
            (Some(head), None) => Ok(head.dot.clone()),
            (None, _) => Err(StoreError::NoHead { file: file.clone(), dot: dot.to_string() }),
            (Some(_), Some(_)) => Err(StoreError::AmbiguousDot { dot: dot.to_string() }),
        }
    }
}

fn key_columns(key: Option<&ConflictKey>) -> (&str, &str, i32) {
    key.map_or(("", "", 0), |key| {
        (key.file.realm.as_str(), key.file.name.as_str(), number_column(key.number))
    })
}

fn number_column(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
