//! Conflicts that open, are joined or end with the versions of one transaction.

use std::collections::BTreeSet;

use bruri_domain::{
    Applied, ConflictChange, Dot, FileId, FileState, Version,
    limits::{CONFLICT_HEADS_MAX, CONFLICTS_OF_FILE_MAX},
};
use sqlx::PgConnection;

use crate::{StoreError, columns::signed};

/// What a transaction's versions change about conflicts, in the order in which they were applied.
#[derive(Default)]
pub(crate) struct Noticed(Vec<Notice>);

struct Notice {
    file: FileId,
    change: ConflictChange,
    dot: Dot,
    /// The heads after it.
    heads: Vec<Dot>,
}

impl Noticed {
    /// Applies a version to its file's state, and notices what that does to conflicts.
    pub(crate) fn apply(
        &mut self,
        state: &mut FileState,
        dot: &Dot,
        (generation, version): (u64, &Version),
    ) -> Applied {
        let was_conflict = state.is_conflict();
        let applied = state.apply(dot, generation, version);
        if let Some(change) = ConflictChange::by(dot, was_conflict, state) {
            let heads = state.heads().iter().map(|head| head.dot.clone());
            let heads = heads.take(CONFLICT_HEADS_MAX).collect();
            let file = version.file.clone();
            self.0.push(Notice { file, change, dot: dot.clone(), heads });
        }
        applied
    }

    /// Notices what joining a file's state with a peer's did to conflicts.
    pub(crate) fn joined(&mut self, file: &FileId, before: &FileState, after: &FileState) {
        let was_conflict = before.is_conflict();
        let ended = was_conflict && !after.is_conflict();
        let new = after.heads().iter().filter(|head| ended || !before.heads().contains(head));
        let heads: Vec<Dot> = after.heads().iter().map(|head| head.dot.clone()).collect();
        for head in new {
            let Some(change) = ConflictChange::by(&head.dot, was_conflict, after) else { return };
            let heads = heads.iter().take(CONFLICT_HEADS_MAX).cloned().collect();
            self.0.push(Notice { file: file.clone(), change, dot: head.dot.clone(), heads });
            if change != ConflictChange::Joined {
                return;
            }
        }
    }

    /// How many conflicts it opens.
    pub(crate) fn opened(&self) -> usize {
        self.0.iter().filter(|notice| notice.change == ConflictChange::Opened).count()
    }

    /// Writes it under the files' locks: in rounds, each with the first change of every file that has
    /// one left, so that thousands of files cost a few statements.
    pub(crate) async fn write(
        &self,
        transaction: &mut PgConnection,
        now_micros: u64,
    ) -> Result<(), StoreError> {
        let mut left: Vec<&Notice> = self.0.iter().collect();
        while !left.is_empty() {
            let mut files = BTreeSet::new();
            let (round, later): (Vec<_>, Vec<_>) =
                left.into_iter().partition(|notice| files.insert(&notice.file));
            for change in [ConflictChange::Opened, ConflictChange::Joined, ConflictChange::Ended] {
                let columns = Columns::of(round.iter().filter(|notice| notice.change == change));
                if columns.dots.is_empty() {
                    continue;
                }
                match change {
                    ConflictChange::Opened => open(transaction, &columns, now_micros).await?,
                    ConflictChange::Joined => join(transaction, &columns).await?,
                    ConflictChange::Ended => end(transaction, &columns, now_micros).await?,
                }
            }
            left = later;
        }
        Ok(())
    }
}

#[derive(Default)]
struct Columns<'a> {
    realms: Vec<&'a str>,
    names: Vec<&'a str>,
    dots: Vec<String>,
    /// With commas between: there are no arrays of arrays.
    heads: Vec<String>,
}

impl<'a> Columns<'a> {
    fn of<'b>(notices: impl Iterator<Item = &'b &'a Notice>) -> Self
    where
        'a: 'b,
    {
        let mut columns = Self::default();
        for notice in notices {
            let heads: Vec<String> = notice.heads.iter().map(Dot::to_string).collect();
            columns.realms.push(notice.file.realm.as_str());
            columns.names.push(notice.file.name.as_str());
            columns.dots.push(notice.dot.to_string());
            columns.heads.push(heads.join(","));
        }
        columns
    }
}

/// Only the newest conflicts of a file are kept.
async fn open(
    transaction: &mut PgConnection,
    columns: &Columns<'_>,
    now_micros: u64,
) -> Result<(), StoreError> {
    sqlx::query!(
        "with opened as (
             insert into conflict (realm, name, number, opened_micros, heads)
             select wanted.realm, wanted.name,
                    1 + coalesce((select max(c.number) from conflict c
                                   where c.realm = wanted.realm and c.name = wanted.name), 0),
                    $4, string_to_array(wanted.heads, ',')
               from unnest($1::text[], $2::text[], $3::text[]) as wanted (realm, name, heads)
             on conflict do nothing
             returning realm, name, number)
         delete from conflict
          using opened
          where conflict.realm = opened.realm and conflict.name = opened.name
            and conflict.number <= opened.number - $5",
        &columns.realms as _,
        &columns.names as _,
        &columns.heads as _,
        signed(now_micros),
        i32::try_from(CONFLICTS_OF_FILE_MAX).unwrap_or(i32::MAX),
    )
    .execute(transaction)
    .await?;
    Ok(())
}

async fn join(transaction: &mut PgConnection, columns: &Columns<'_>) -> Result<(), StoreError> {
    sqlx::query!(
        "update conflict set heads = heads || wanted.dot
           from unnest($1::text[], $2::text[], $3::text[]) as wanted (realm, name, dot)
           -- The limit keeps a plan that was made for an empty table from reading all of it.
           join lateral (select realm, name, number from conflict c
                          where c.realm = wanted.realm and c.name = wanted.name
                            and c.ended_micros is null
                          limit 1) open on true
          where conflict.realm = open.realm and conflict.name = open.name
            and conflict.number = open.number and cardinality(heads) < $4",
        &columns.realms as _,
        &columns.names as _,
        &columns.dots as _,
        i32::try_from(CONFLICT_HEADS_MAX).unwrap_or(i32::MAX),
    )
    .execute(transaction)
    .await?;
    Ok(())
}

async fn end(
    transaction: &mut PgConnection,
    columns: &Columns<'_>,
    now_micros: u64,
) -> Result<(), StoreError> {
    sqlx::query!(
        "update conflict set ended_micros = $4, ended_by = wanted.dot
           from unnest($1::text[], $2::text[], $3::text[]) as wanted (realm, name, dot)
           -- The limit keeps a plan that was made for an empty table from reading all of it.
           join lateral (select realm, name, number from conflict c
                          where c.realm = wanted.realm and c.name = wanted.name
                            and c.ended_micros is null
                          limit 1) open on true
          where conflict.realm = open.realm and conflict.name = open.name
            and conflict.number = open.number",
        &columns.realms as _,
        &columns.names as _,
        &columns.dots as _,
        signed(now_micros),
    )
    .execute(transaction)
    .await?;
    Ok(())
}
